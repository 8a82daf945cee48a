"""Limits for ONNX models, checked before the onnx package works on a model.

A file of a few bytes can ask for more memory than any machine has, and some functions of the onnx package crash on
nonsensical numbers. No real net exceeds these limits.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import onnx

from ..errors import ConvertError, shown
from ..graph import described

# maximum values
NODES = 10_000          # nodes of a net, with its functions expanded
PARTS = 200_000         # nodes, names, attributes and other parts
ARMS = 1000             # inputs of a node, and outputs
AXES = 64               # axes of a tensor
NUMBERS = 1 << 31       # elements of the input, 8 GB
GROWTH = 1 << 24, 1024  # elements of any other result: a fixed part, and a part for each element of the input
WINDOW = 65_535         # kernel, stride, padding, dilation
ROUNDS = 10_000         # rounds of a loop that does not depend on the picture
_LISTS = ("node", "input", "output", "value_info", "initializer", "sparse_initializer")      # of a graph
# operators that move a window; for each of their attributes, the minimum and the number of values for each axis
_MOVE_WINDOWS = {"AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "LpPool", "MaxPool",
                 "MaxUnpool", "QLinearConv"}
_WINDOWS = {"kernel_shape": (1, 1), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 2), "output_padding": (0, 1)}
# attributes that are divisors or counts
_COUNTS = {"Conv": "group", "ConvTranspose": "group", "DepthToSpace": "blocksize", "SpaceToDepth": "blocksize",
           "GroupNormalization": "num_groups", "LRN": "size", "Split": "num_outputs"}


def check_model(model: onnx.ModelProto) -> None:
    """Check that a model has a plausible number of nodes, plausible windows, and no cycles.

    Raises ConvertError.
    """
    parts = len(model.functions) + len(model.metadata_props) + len(model.opset_import)
    _check_parts(parts)
    for outer in (model.graph, *model.functions):
        for graph in graphs(outer):
            parts += sum(len(getattr(graph, kind, ())) for kind in _LISTS)
            _check_parts(parts)
            for node in graph.node:
                parts += len(node.input) + len(node.output) + len(node.attribute)
                _check_parts(parts)
                parts += sum(len(a.tensors) + len(a.graphs) + len(a.sparse_tensors) for a in node.attribute)
                _check_parts(parts)
                _check_node(node)
    if _expanded_nodes(model) > NODES:
        raise ConvertError(f"more than {NODES:,} nodes; no net has that many")
    _check_order(model.graph)


def check_shape(shape: Sequence[int], what: str, data: Sequence[int] | None = None) -> None:
    """Check that a tensor is not larger than in any real net.

    shape: its shape.
    what: how the message describes it.
    data: the shape of the input; None if it is the input itself.

    Raises ConvertError.
    """
    limit = NUMBERS if data is None else min(NUMBERS, GROWTH[0] + GROWTH[1] * math.prod(data))
    if len(shape) > AXES or math.prod(shape) > limit or min(shape, default=1) < 0:
        listed = ", ".join(map(str, shape[:8])) + ", ..." * (len(shape) > 8)
        raise ConvertError(f"{what} has the shape ({listed}): {AXES} axes and {limit:,} numbers are allowed")


def graphs(graph: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.GraphProto | onnx.FunctionProto]:
    """Yield a graph and all its subgraphs (of If and Loop)."""
    waiting = [graph]
    while waiting:
        graph = waiting.pop()
        yield graph
        for attribute in (a for node in graph.node for a in node.attribute):
            waiting += [attribute.g] if attribute.HasField("g") else attribute.graphs


def _check_parts(parts):
    if parts > PARTS:
        raise ConvertError(f"more than {PARTS:,} nodes, names and attributes; no net has that many")


def _check_node(node):
    for arms in ("input", "output"):
        if len(getattr(node, arms)) > ARMS:
            raise ConvertError(f"{described(node)} has {len(getattr(node, arms)):,} {arms}s; {ARMS:,} are allowed")
    for attribute in node.attribute:
        if attribute.name == _COUNTS.get(node.op_type) and not 1 <= attribute.i <= WINDOW:
            raise _wrong(node, attribute.name, attribute.i, f"1 to {WINDOW:,}")
    if node.op_type in _MOVE_WINDOWS:
        _check_windows(node)


def _check_windows(node):
    axes = None
    for attribute in node.attribute:
        if attribute.name not in _WINDOWS or not attribute.ints:
            continue
        (minimum, each), values = _WINDOWS[attribute.name], attribute.ints
        if not all(minimum <= v <= WINDOW for v in values):
            raise _wrong(node, attribute.name, list(values[:8]), f"{minimum} to {WINDOW:,}")
        axes = len(values) // each if axes is None else axes
        if len(values) != each * axes or not axes:
            raise _wrong(node, attribute.name, list(values[:8]), "values for as many axes as the other attributes have")


def _wrong(node, name, value, allowed):
    return ConvertError(f"{described(node)}: {name} is {value}; allowed: {allowed}")


def _expanded_nodes(model):
    """Count the nodes with each function expanded wherever it is called. Raises ConvertError for a recursive one."""
    functions, counts = {_key(function): function for function in model.functions}, {}

    def count(outer):
        keys = [_key(node) for graph in graphs(outer) for node in graph.node]
        return sum(count_of(key) if key in functions else 1 for key in keys)

    def count_of(key):
        if counts.get(key) == math.inf:
            raise ConvertError(f"damaged: its function '{shown(key[1])}' calls itself")
        if key not in counts:
            counts[key] = math.inf
            counts[key] = count(functions[key])
        return counts[key]

    return count(model.graph)


def _key(thing):
    """Return the identity of a function, from itself or from a node that calls it."""
    return thing.domain, getattr(thing, "op_type", "") or thing.name, getattr(thing, "overload", "")


def _check_order(graph):
    """Raise ConvertError for a name that is defined twice, or read before it is defined, as in a cycle."""
    known = {i.name for i in (*graph.input, *graph.initializer)}
    makers = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        early = next((name for name in node.input if name in makers and name not in known), None)
        again = next((name for name in node.output if name and name in known), None)
        if early or again:
            problem = f"reads '{shown(early)}' before it is computed" if early \
                else f"computes '{shown(again)}' a second time"
            raise ConvertError(f"damaged: {described(node)} {problem}")
        known.update(node.output)
