"""What an ONNX model may ask for: looked at by arithmetic, before ONNX's own code works on it.

A file of a few bytes can ask for more than any machine has, and some of ONNX's code does not survive numbers that make
no sense. What is refused here no net has.
"""
import math

from .errors import ConvertError, shown
from .graph import told

NODES = 20_000          # of a net, its functions written out
PARTS = 200_000         # names and attributes of all nodes
NUMBERS = 1 << 31       # of one tensor at the declared size of the input: 8 GB
WINDOW = 65_535         # the largest kernel, stride, pad, dilation
ROUNDS = 10_000         # of a loop that does not depend on the picture
# attributes of operators that move a window: the least that is allowed, and how many for each axis
_WINDOWS = {"kernel_shape": (1, 1), "strides": (1, 1), "dilations": (1, 1), "pads": (0, 2), "output_padding": (0, 1)}
_MOVE_WINDOWS = {"AveragePool", "Conv", "ConvInteger", "ConvTranspose", "DeformConv", "LpPool", "MaxPool", "MaxUnpool",
                 "QLinearConv", "Col2Im"}
# numbers that others are divided by, or that tell how many there are of something
_COUNTS = {"Conv": "group", "ConvTranspose": "group", "DepthToSpace": "blocksize", "SpaceToDepth": "blocksize",
           "GroupNormalization": "num_groups", "LRN": "size", "Split": "num_outputs"}


def check_model(model, source):
    """Raise ConvertError for a model with more nodes than a net has, or with windows that none has."""
    parts = len(model.functions) + len(model.metadata_props) + len(model.opset_import)
    if parts > PARTS:
        raise _too_many(source)
    functions = {_key(function): function for function in model.functions}
    for graph in (model.graph, *model.functions):
        parts += len(graph.value_info) + len(getattr(graph, "initializer", ())) + len(graph.input) + len(graph.output)
        for node in nodes(graph):
            parts += 1 + len(node.input) + len(node.output) + len(node.attribute)
            if parts > PARTS:
                raise _too_many(source)
            if node.op_type in _MOVE_WINDOWS:
                _check_windows(node, source)
            for attribute in node.attribute if node.op_type in _COUNTS else ():
                if attribute.name == _COUNTS[node.op_type] and not 1 <= attribute.i <= WINDOW:
                    raise _wrong(node, attribute.name, attribute.i, f"1 to {WINDOW:,}", source)
    if parts > PARTS or _written_out(model, functions, source) > NODES:
        raise _too_many(source)
    _check_order(model.graph, source)


def _check_order(graph, source):
    """Raise ConvertError for names that are made twice, or read before they are made: no walk over the nodes would
    end."""
    known = {i.name for i in (*graph.input, *graph.initializer)}
    makers = {name for node in graph.node for name in node.output if name}
    for node in graph.node:
        early = next((name for name in node.input if name in makers and name not in known), None)
        again = next((name for name in node.output if name and name in known), None)
        if early or again:
            raise ConvertError(f"{source}: damaged: {told(node)} " + (f"reads '{shown(early)}' before it is made" if early
                                                                      else f"makes '{shown(again)}' a second time"))
        known.update(node.output)


def nodes(graph):
    """The nodes of a graph, those of its subgraphs (If, Loop) too."""
    graphs = [graph]
    while graphs:
        for node in graphs.pop().node:
            yield node
            for attribute in node.attribute:
                graphs += [attribute.g] if attribute.HasField("g") else attribute.graphs


def check_shape(shape, what, source):
    """Raise ConvertError for a tensor that no net has. shape: ints."""
    if math.prod(shape) > NUMBERS or min(shape, default=1) < 0:
        raise ConvertError(f"{source}: {what} has the shape ({', '.join(map(str, shape[:8]))}): more than "
                           f"{NUMBERS:,} numbers, which no net has")


def _key(thing):
    """By what a node names a function, and a function itself."""
    return thing.domain, getattr(thing, "op_type", "") or thing.name, getattr(thing, "overload", "")


def _written_out(model, functions, source):
    """How many nodes there are with each function written out wherever it is called. Functions may call others; one
    that calls itself has no end."""
    counts = {}

    def count(graph):
        return sum(count_of(_key(node)) if _key(node) in functions else 1 for node in nodes(graph))

    def count_of(key):
        if counts.get(key) == math.inf:
            raise ConvertError(f"{source}: damaged: its function '{shown(key[1])}' calls itself")
        if key not in counts:
            counts[key] = math.inf
            counts[key] = count(functions[key])
        return counts[key]

    return count(model.graph)


def _check_windows(node, source):
    axes = None
    for attribute in node.attribute:
        if attribute.name not in _WINDOWS or not attribute.ints:
            continue
        (least, each), values = _WINDOWS[attribute.name], attribute.ints
        if not all(least <= v <= WINDOW for v in values):
            raise _wrong(node, attribute.name, list(values[:8]), f"{least} to {WINDOW:,}", source)
        axes = len(values) // each if axes is None else axes
        if len(values) != each * axes or not axes:
            raise _wrong(node, attribute.name, list(values[:8]), "as many for each axis as of the others", source)


def _wrong(node, name, value, allowed, source):
    return ConvertError(f"{source}: {told(node)}: {name} is {value}; allowed: {allowed}")


def _too_many(source):
    return ConvertError(f"{source}: more than {NODES:,} nodes, or {PARTS:,} names and attributes; no net has that many")
