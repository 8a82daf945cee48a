"""A small builder for ONNX graphs, in which derivatives can be written as formulas.

`Graph.op` appends a node and hands back a `Tensor`, a name with arithmetic: `dy * y * (1 - y)` is three nodes.
"""
import math

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ConvertError, shown
from .portable import spell_out

OPSET = 17       # newer Pad, MaxPool and ConvTranspose have no CUDA kernel in many releases of onnxruntime
REAL = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
IR_VERSION = 9   # of onnx 1.14, so that older runtimes read the files too
# how large a graph may become: a small file can ask for more than any machine has
NODES = 12_000         # ResNet-1001 with its gradient has 11,000
ROOM = 1 << 25, 8     # numbers in constants that are made: so many, and so many for each of the net's own


class Tensor:
    """A value in a graph under construction. Operators append nodes; numbers become float32 constants."""

    def __init__(self, graph, name):
        self.graph, self.name = graph, name

    def __add__(self, other): return self.graph.op("Add", self, other)
    def __radd__(self, other): return self.graph.op("Add", other, self)
    def __sub__(self, other): return self.graph.op("Sub", self, other)
    def __rsub__(self, other): return self.graph.op("Sub", other, self)
    def __mul__(self, other): return self.graph.op("Mul", self, other)
    def __rmul__(self, other): return self.graph.op("Mul", other, self)
    def __truediv__(self, other): return self.graph.op("Div", self, other)
    def __rtruediv__(self, other): return self.graph.op("Div", other, self)
    def __pow__(self, other): return self.graph.op("Pow", self, other)
    def __neg__(self): return self.graph.op("Neg", self)
    def __gt__(self, other): return self.graph.op("Greater", self, other)
    def __ge__(self, other): return self.graph.op("GreaterOrEqual", self, other)
    def __lt__(self, other): return self.graph.op("Less", self, other)
    def __le__(self, other): return self.graph.op("LessOrEqual", self, other)
    def __and__(self, other): return self.graph.op("And", self, other)
    def __repr__(self): return f"Tensor({self.name!r})"


class Room:
    """How many numbers there is room for, in the constants that are made of a net. weights: how many it has itself;
    None: room for any."""

    def __init__(self, weights=None):
        self.left = math.inf if weights is None else ROOM[0] + ROOM[1] * weights

    def check(self, numbers):
        """Raise ConvertError if there is no room for so many: asked before they are made."""
        if numbers > self.left:
            raise ConvertError(f"constants of {numbers:,} numbers and more would have to be made; "
                               "a net of this size has no need of them")

    def take(self, numbers):
        self.check(numbers)
        self.left -= numbers


class Graph:
    """Nodes and constants of one ONNX graph.

    reserved: names that only `rename` and `tensor` may give. weights: as of `Room`.
    """

    def __init__(self, reserved=(), opset=OPSET, weights=None):
        self.nodes, self.constants, self.opset = [], {}, opset
        self._reserved, self._taken, self._shared, self._numbers = set(reserved), set(), {}, {}
        self.room = Room(weights)

    def unique(self, hint):
        """`hint` itself if it is free, else with a number behind it."""
        name, i = hint, self._numbers.get(hint, 0)
        while name in self._taken or name in self._reserved:
            i += 1
            name = f"{hint}_{i}"
        if i:
            self._numbers[hint] = i       # the numbers before it are taken for good
        self._taken.add(name)
        return name

    def tensor(self, name):
        """A Tensor for a name that exists already (an input, another graph's node)."""
        self._taken.add(name)
        return Tensor(self, name)

    def constant(self, value, name=None):
        """An initializer; equal small ones are shared. Python floats become float32, ints int64."""
        if isinstance(value, (float, int)) and not isinstance(value, bool):
            value = np.array(value, np.float32)
        elif isinstance(value, (list, tuple)):
            value = np.array(value, np.int64)
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes()) if name is None and value.size <= 64 else None
        if key in self._shared:
            return self._shared[key]
        self.room.take(value.size)
        name = self.unique(name or "const")
        self.constants[name] = value
        tensor = Tensor(self, name)
        if key:
            self._shared[key] = tensor
        return tensor

    def op(self, op_type, *inputs, name=None, outputs=1, **attributes):
        """Append a node. inputs: Tensors, numbers, arrays, lists of ints, or None for one left out.
        name: of the (first) output. Returns a Tensor, or a list of them if outputs > 1."""
        if len(self.nodes) >= NODES:
            raise ConvertError(f"more than {NODES:,} nodes would have to be made; no net has need of them")
        names = ["" if x is None else (x if isinstance(x, Tensor) else self.constant(x)).name for x in inputs]
        while names and not names[-1]:
            names.pop()
        first = self.unique(name or f"{op_type.lower()}")
        outs = [first] + [self.unique(f"{first}:{i}") for i in range(1, outputs)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op_type, names, outs, name=first, **attributes))
        tensors = [Tensor(self, o) for o in outs]
        return tensors[0] if outputs == 1 else tensors

    def rename(self, tensor, name):
        """Give the output of a node that nothing reads yet another name. Returns the new Tensor."""
        if name in self._taken:
            name = self.unique(name)
        self._taken.add(name)
        for node in reversed(self.nodes):
            for i, output in enumerate(node.output):
                if output == tensor.name:
                    node.output[i] = name
                    if i == 0:
                        node.name = name
                    return Tensor(self, name)
        raise KeyError(tensor.name)

    def where(self, condition, a, b=0.0):
        return self.op("Where", condition, a, b)

    def shape(self, x, start=None, end=None):
        """The sizes of x's axes start..end as an int64 vector."""
        return self.op("Shape", x, start=start, end=end)

    def slice(self, x, axes, starts, ends, steps=None):
        """x[start:end:step] on each axis; starts and ends: lists of ints or int64 Tensors."""
        return self.op("Slice", x, starts, ends, list(axes), None if steps is None else list(steps))

    def sum(self, tensors):
        """The sum of one or more Tensors."""
        total = tensors[0]
        for t in tensors[1:]:
            total = total + t
        return total

    def drop_unused(self, outputs):
        """Forget the nodes that none of the outputs, a list of names, is computed from."""
        used, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if used & set(node.output):
                nodes.append(node)
                used.update(node.input)
        self.nodes = nodes[::-1]

    def model(self, name, inputs, outputs, value_info=(), metadata=None, constants=None):
        """The finished ModelProto, in topological order as built, without unused constants.

        inputs, outputs: ValueInfoProtos. constants: further initializers by name, kept where they are used.
        """
        available = {**(constants or {}), **self.constants}
        used = {i for n in self.nodes for i in n.input}
        shapes = {k: v.dims if isinstance(v, TensorProto) else np.shape(v) for k, v in available.items()} \
            | {n.output[0]: a.t.dims for n in self.nodes if n.op_type == "Constant" for a in n.attribute
               if a.name == "value"}
        for node in self.nodes:
            spell_out(node, shapes.get(node.input[1]) if len(node.input) > 1 else None)
        initializers = [v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v, order="C"), k)
                        for k, v in available.items() if k in used]
        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), initializers,
                                  value_info=list(value_info))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION,
                                  producer_name="deepdream-convert")
        helper.set_model_props(model, {k: str(v) for k, v in (metadata or {}).items()})
        return model


def float_info(name, shape):
    """ValueInfoProto of a float32 tensor; shape holds ints, names of dynamic axes, or is None if unknown."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def kind(node):
    """What operator a node is; one that is not ONNX's own stands behind its domain."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def attributes(node):
    """A node's attributes as a dict of Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def described(node):
    """What messages call a node."""
    return f"node '{shown(node.name or next(iter(node.output), ''))}' ({shown(kind(node))})"


def inner_nodes(node):
    """The nodes of a node's subgraphs (If, Loop)."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from graph.node


def reads(node):
    """The names that a node reads, inside its subgraphs too."""
    yield from node.input
    for inner in inner_nodes(node):
        yield from reads(inner)


def metadata(model):
    """A model's metadata as a dict of strings."""
    return {p.key: p.value for p in model.metadata_props}


def load(path):
    return onnx.load(str(path))
