"""Find the blocks of a net: what a layer belongs to by its name, and which layers are the ends of blocks."""
from __future__ import annotations

import ast
import re
from collections.abc import Callable, Collection, Sequence

import onnx

from ..graph import attributes, kind

SCOPES = "pkg.torch.onnx.name_scopes"      # PyTorch's newer exporter writes the path of a node's module here
# operators that attention scores pass through on their way to the softmax
TO_SOFTMAX = {"Add", "Cast", "Div", "Mul", "Reshape", "Transpose", "Where"}
FAR = 4          # such operators in a row
ACTIVATIONS = {"Clip", "Elu", "HardSwish", "LeakyRelu", "MaxPool", "PRelu", "Relu", "Selu", "Sigmoid", "Softplus",
               "Tanh"}


def block_of(node: onnx.NodeProto) -> str | None:
    """Name the block that a node belongs to, as far as the names in the file tell; None if they do not.

    PyTorch's '/layer1/layer1.0/conv1/Conv' is in layer1.0, Keras's 'model/block1_conv1/Relu' in block1_conv1.
    """
    parts = _scopes(node) or [p for p in (node.output[0] if node.output else "").split("/") if p][:-1]
    if not parts:
        return None
    deepest = parts[0]
    for part in parts[1:]:
        if not re.fullmatch(re.escape(deepest) + r"\.\d+", part):
            break
        deepest = part
    numbered = [p for p in parts if p[-1].isdigit()]
    return deepest if deepest[-1].isdigit() or not numbered else numbered[0]


def _scopes(node):
    text = {p.key: p.value for p in node.metadata_props}.get(SCOPES) if hasattr(node, "metadata_props") else None
    try:
        scopes = ast.literal_eval(text) if text else []
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        return []
    return [s for s in scopes if s and isinstance(s, str)][:-1] if isinstance(scopes, list) else []


def block_ends(nodes: Sequence[onnx.NodeProto], shape: Callable[[str], Sequence[int] | None],
               depending: Collection[str], last: Collection[str]) -> set[str]:
    """Find the layers that are good to dream at: the ends of blocks.

    These are the sums of two branches, as in a ResNet or a transformer, after the ReLU that may follow; the branches
    that are joined, as in a GoogLeNet; and in a net without branches, its activations.

    nodes: the nodes of a prepared net, in order.
    shape: returns the shape of a tensor at the declared size, or None.
    depending: the names of the tensors that depend on the picture.
    last: those whose last axis is that of the channels.
    """
    readers = {}
    for node in nodes:
        for name in node.input:
            readers.setdefault(name, []).append(node)

    def is_map(name):
        dims = shape(name) or ()
        return len(dims) in (3, 4) and (dims[1] if len(dims) == 3 or name in last else dims[2] * dims[3]) > 1

    found, plain, scores = set(), set(), _scores(nodes)
    for node in nodes:
        name = node.output[0] if node.output else ""
        if name not in depending or name in scores or not is_map(name):
            continue
        if kind(node) in ACTIVATIONS:
            plain.add(name)
        if _joins(node, depending, shape, name in last):
            after = readers.get(name, [])
            found.add(after[0].output[0] if len(after) == 1 and kind(after[0]) == "Relu" else name)
    return found or plain


def _joins(node, depending, shape, channels_last):
    """Does a node join branches: add two, or put their channels side by side?"""
    branches = {name for name in node.input if name in depending}
    if kind(node) == "Concat":
        rank = len(shape(node.output[0]))
        return len(branches) > 1 and attributes(node)["axis"] % rank == (rank - 1 if channels_last else 1)
    return kind(node) in ("Add", "Sum") and len(branches) > 1 and all(
        shape(name) == shape(node.output[0]) for name in branches)


def _scores(nodes):
    """Return the names of the tensors that soon pass a softmax, or are the second factor of a product of matrices."""
    producer = {name: node for node in nodes for name in node.output}
    names = {node.input[1] for node in nodes if kind(node) == "MatMul" and len(node.input) > 1}
    level = {name for node in nodes if kind(node) == "Softmax" for name in node.input}
    for _ in range(FAR):
        names |= level
        level = {i for name in level if name in producer and kind(producer[name]) in TO_SOFTMAX
                 for i in producer[name].input}
    return names
