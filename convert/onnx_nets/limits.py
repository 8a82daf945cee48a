"""What an ONNX model may ask for: looked at by arithmetic, before ONNX's own code works on it.

A file of a few bytes can ask for more than any machine has, and some of ONNX's code does not survive numbers that make
no sense. What is refused here no net has. All of it raises ConvertError.
"""
import math

from ..errors import ConvertError, shown
from ..graph import described

NODES = 10_000          # of a net, its functions written out
PARTS = 200_000         # names, attributes and all else that is counted
ARMS = 1000             # inputs of a node, and its outputs
AXES = 64               # of a tensor
NUMBERS = 1 << 31       # of the input, 8 GB
GROWTH = 1 << 24, 1024  # numbers of any other result: so many, and so many for each of the input's
WINDOW = 65_535         # the largest kernel, stride, pad, dilation
ROUNDS = 10_000         # of a loop that does not depend on the picture
_LISTS = ("node", "input", "output", "value_info", "initializer", "sparse_initializer")      # of a graph
# operators that move a window; of their attributes the least that is allowed, and how many there are for each axis
_MOVE_WINDOWS = {"AveragePool", "Col2Im", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "LpPool", "MaxPool",
                 "MaxUnpool", "QLinearConv"}
_WINDOWS = {"kernel_shape": (1, 1), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 2), "output_padding": (0, 1)}
# attributes that others are divided by, or that tell how many there are of something
_COUNTS = {"Conv": "group", "ConvTranspose": "group", "DepthToSpace": "blocksize", "SpaceToDepth": "blocksize",
           "GroupNormalization": "num_groups", "LRN": "size", "Split": "num_outputs"}


def check_model(model):
    """Are there no more nodes than a net has, no windows that none has, no circles?"""
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
    if _written_out(model) > NODES:
        raise ConvertError(f"more than {NODES:,} nodes; no net has that many")
    _check_order(model.graph)


def check_shape(shape, what, data=None):
    """Is it no larger than any net's? shape: ints. what: has it. data: the shape of the input, if it is not that."""
    most = NUMBERS if data is None else min(NUMBERS, GROWTH[0] + GROWTH[1] * math.prod(data))
    if len(shape) > AXES or math.prod(shape) > most or min(shape, default=1) < 0:
        listed = ", ".join(map(str, shape[:8])) + ", ..." * (len(shape) > 8)
        raise ConvertError(f"{what} has the shape ({listed}): {AXES} axes and {most:,} numbers are allowed")


def graphs(graph):
    """A graph and all its subgraphs (If, Loop)."""
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
        (least, each), values = _WINDOWS[attribute.name], attribute.ints
        if not all(least <= v <= WINDOW for v in values):
            raise _wrong(node, attribute.name, list(values[:8]), f"{least} to {WINDOW:,}")
        axes = len(values) // each if axes is None else axes
        if len(values) != each * axes or not axes:
            raise _wrong(node, attribute.name, list(values[:8]), "as many numbers for each axis as of the others")


def _wrong(node, name, value, allowed):
    return ConvertError(f"{described(node)}: {name} is {value}; allowed: {allowed}")


def _written_out(model):
    """How many nodes there are with each function written out wherever it is called. Functions may call others; one
    that calls itself has no end."""
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
    """What a function is called by: of itself, or of a node that calls it."""
    return thing.domain, getattr(thing, "op_type", "") or thing.name, getattr(thing, "overload", "")


def _check_order(graph):
    """Is no name made twice, or read before it is made? Walks over the nodes would not end."""
    known = {i.name for i in (*graph.input, *graph.initializer)}
    makers = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        early = next((name for name in node.input if name in makers and name not in known), None)
        again = next((name for name in node.output if name and name in known), None)
        if early or again:
            raise ConvertError(f"damaged: {described(node)} " + (f"reads '{shown(early)}' before it is made" if early
                                                            else f"makes '{shown(again)}' a second time"))
        known.update(node.output)
