"""Make a finished graph smaller: large initializers that can be computed from others are written as nodes.

The gradient of a convolution of stride 1 is a convolution whose weights are those of the layer, flipped and with the
channels swapped. Such weights become a Transpose and a Slice of the layer's weights, which runtimes compute once, when
they load the graph. With `half`, weights are stored in half precision and cast back, which rounds them.
"""
from __future__ import annotations

import hashlib

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from .builder import attributes

LARGE = 256            # numbers of an initializer that is worth a node
HALF_ERROR = 3e-4      # the maximum relative error of weights in half precision; normal ones have 2e-4
LAST = -(1 << 62)      # the end of a slice that goes backwards to the first position


def small(model: onnx.ModelProto, half: bool = False) -> onnx.ModelProto:
    """Return a smaller graph that computes the same.

    model: a graph with its weights as initializers. It is not changed.
    half: store the large weights of convolutions and products in half precision, except those that lose more than
        HALF_ERROR by it, such as very small numbers.

    Returns a new ModelProto with the same inputs, outputs and metadata. Without `half` its results are the same, bit
    for bit: only initializers that are equal to others, or to others flipped and transposed, are replaced.
    """
    result = onnx.ModelProto()
    result.CopyFrom(model)
    graph = result.graph
    taken = {name for node in graph.node for name in (*node.input, *node.output)} | {i.name for i in graph.initializer}
    new = _replaced(graph, taken)
    if half:
        new = _halved(graph, taken) + new
    nodes = [*new, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    return result


def flipped_back(weights: np.ndarray, group: int) -> np.ndarray:
    """Return the weights of the convolution that is the gradient of a convolution of stride 1.

    weights: (out, in / group, *kernel).
    group: the number of groups.

    Returns an array (in, out / group, *kernel).
    """
    out, inner, *kernel = weights.shape
    swapped = weights.reshape(group, out // group, inner, *kernel).swapaxes(1, 2)
    return np.flip(swapped.reshape(-1, out // group, *kernel), tuple(range(2, 2 + len(kernel))))


def _replaced(graph, taken):
    """Remove initializers that are equal to others, or to others flipped. Returns the nodes that compute the latter."""
    groups = {node.input[1]: attributes(node).get("group", 1) for node in graph.node if node.op_type == "Conv"}
    arrays = {t.name: numpy_helper.to_array(t) for t in graph.initializer
              if t.data_type == TensorProto.FLOAT and np.prod(t.dims) >= LARGE}
    order = list(dict.fromkeys(name for node in graph.node for name in node.input if name in arrays))
    same, back, renamed, nodes = {}, {}, {}, []      # same, back: {digest of an array, and of it flipped: its name}
    for name in order:
        array = arrays[name]
        digest = _digest(array)
        if digest in same:
            renamed[name] = same[digest]
            continue
        source = back.get((digest, groups.get(name)))
        if source:
            nodes += _back_nodes(source, name, arrays[source].shape, groups[name], taken)
            continue
        same[digest] = name
        if name in groups and array.ndim > 2:
            back.setdefault((_digest(flipped_back(array, groups[name])), groups[name]), name)
    for node in graph.node:
        node.input[:] = [renamed.get(name, name) for name in node.input]
    gone = {*renamed, *(node.output[0] for node in nodes)}
    kept = [t for t in graph.initializer if t.name not in gone]
    del graph.initializer[:]
    graph.initializer.extend(kept)
    return nodes


def _digest(array):
    return array.shape, hashlib.sha256(np.ascontiguousarray(array).tobytes()).digest()


def _back_nodes(source, name, shape, group, taken):
    """Return the nodes that compute `flipped_back` of an initializer."""
    out, inner, *kernel = shape
    axes = list(range(2, 2 + len(kernel)))
    plan = []
    if group == 1:
        plan.append(("Transpose", (), {"perm": [1, 0, *axes]}))
    else:
        plan += [("Reshape", ([group, out // group, inner, *kernel],), {}),
                 ("Transpose", (), {"perm": [0, 2, 1, *(a + 1 for a in axes)]}),
                 ("Reshape", ([group * inner, out // group, *kernel],), {})]
    if max(kernel) > 1:
        n = len(kernel)
        plan.append(("Slice", ([-1] * n, [LAST] * n, axes, [-1] * n), {}))
    nodes = []
    for i, (kind, constants, keywords) in enumerate(plan):
        output = name if i == len(plan) - 1 else _unused(f"{name}:{i}", taken)
        inputs = [source]
        for j, values in enumerate(constants):
            inputs.append(_unused(f"{name}:{i}:{j}", taken))
            nodes.append(helper.make_node("Constant", [], [inputs[-1]],
                                          value=numpy_helper.from_array(np.array(values, np.int64))))
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **keywords))
        source = output
    return nodes


def _halved(graph, taken):
    """Store large weights in half precision. Returns the nodes that cast them back."""
    weights = {node.input[i] for node in graph.node if node.op_type in ("Conv", "Gemm", "MatMul")
               for i in range(min(2, len(node.input)))}
    weights |= {node.input[0] for node in graph.node if node.op_type in ("Reshape", "Transpose")}
    nodes = []
    for tensor in graph.initializer:
        if tensor.data_type != TensorProto.FLOAT or tensor.name not in weights or np.prod(tensor.dims) < LARGE:
            continue
        array = numpy_helper.to_array(tensor)
        with np.errstate(over="ignore"):
            half = array.astype(np.float16)
        error = np.linalg.norm(array - half.astype(np.float32))
        if not error <= HALF_ERROR * np.linalg.norm(array):
            continue
        name = tensor.name
        tensor.CopyFrom(numpy_helper.from_array(half, _unused(f"{name}:half", taken)))
        nodes.append(helper.make_node("Cast", [tensor.name], [name], name=name, to=TensorProto.FLOAT))
    return nodes


def _unused(name, taken):
    """Return a name that the graph does not use yet, and mark it as used."""
    while name in taken:
        name += "_"
    taken.add(name)
    return name
