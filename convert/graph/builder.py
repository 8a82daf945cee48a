"""A small builder for ONNX graphs, in which derivatives can be written as formulas.

`Graph.op` appends a node and returns a `Tensor`, a name with arithmetic: `dy * y * (1 - y)` appends three nodes.
"""
from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..errors import ConvertError, shown
from .portable import write_default_attributes

OPSET = 17       # many releases of onnxruntime have no CUDA kernel for the Pad, MaxPool, ConvTranspose of later opsets
REAL = (TensorProto.FLOAT, TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
IR_VERSION = 9   # that of onnx 1.14, so that older runtimes read the files too
# the maximum size of a graph: a small file could otherwise ask for more than any machine has
NODES = 12_000          # ResNet-1001 with its gradient has 11,000
BUDGET = 1 << 25, 8     # numbers in new constants: a fixed part, and a part for each weight of the net


class Tensor:
    """A value in a graph under construction. Operators append nodes; Python numbers become float32 constants."""

    def __init__(self, graph: Graph, name: str):
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


class Budget:
    """The number of values that new constants may still hold.

    weights: the number of weights of the net; None for no limit.
    """

    def __init__(self, weights: int | None = None):
        self.left = math.inf if weights is None else BUDGET[0] + BUDGET[1] * weights

    def check(self, numbers: int) -> None:
        """Raise ConvertError if a constant of this size is too large. Call this before creating it."""
        if numbers > self.left:
            raise ConvertError(f"constants of {numbers:,} or more numbers would be needed; "
                               "that is too many for a net of this size")

    def take(self, numbers: int) -> None:
        """Deduct the size of a constant. Raises ConvertError if it is too large."""
        self.check(numbers)
        self.left -= numbers


class Graph:
    """The nodes and constants of one ONNX graph under construction.

    reserved: names that `op` and `constant` must not use, only `rename` and `tensor`.
    opset: the version of the standard operators.
    weights: the number of weights of the net, which limits new constants (see `Budget`); None for no limit.
    one_sum: whether `sum` adds up more than two tensors by one Sum, which reads each of them once, not by several Adds.
    """

    def __init__(self, reserved: Iterable[str] = (), opset: int = OPSET, weights: int | None = None,
                 one_sum: bool = False):
        self.nodes, self.constants, self.opset, self._one_sum = [], {}, opset, one_sum
        self._reserved, self._taken, self._shared, self._numbers = set(reserved), set(), {}, {}
        self.budget = Budget(weights)

    def unique(self, hint: str) -> str:
        """Return an unused name: `hint`, or `hint` with a number appended."""
        name, i = hint, self._numbers.get(hint, 0)
        while name in self._taken or name in self._reserved:
            i += 1
            name = f"{hint}_{i}"
        if i:
            self._numbers[hint] = i       # all smaller numbers are in use
        self._taken.add(name)
        return name

    def tensor(self, name: str) -> Tensor:
        """Return a Tensor for a name that is defined elsewhere (an input, the output of another graph's node)."""
        self._taken.add(name)
        return Tensor(self, name)

    def constant(self, value: Any, name: str | None = None) -> Tensor:
        """Add an initializer. Small ones without a name are shared if they are equal.

        value: a number (becomes float32), a list of ints (becomes int64) or an array.
        name: a hint for its name.

        Raises ConvertError if it exceeds the budget.
        """
        if isinstance(value, (float, int)) and not isinstance(value, bool):
            value = np.array(value, np.float32)
        elif isinstance(value, (list, tuple)):
            value = np.array(value, np.int64)
        value = np.asarray(value)
        key = (value.dtype.str, value.shape, value.tobytes()) if name is None and value.size <= 64 else None
        if key in self._shared:
            return self._shared[key]
        self.budget.take(value.size)
        name = self.unique(name or "const")
        self.constants[name] = value
        tensor = Tensor(self, name)
        if key:
            self._shared[key] = tensor
        return tensor

    def op(self, op_type: str, *inputs: Any, name: str | None = None, outputs: int = 1, **attributes: Any) -> Any:
        """Append a node.

        op_type: a standard ONNX operator.
        inputs: Tensors, numbers, arrays, lists of ints, or None for an omitted input.
        name: a hint for the name of the first output.
        outputs: the number of outputs.
        attributes: the node's attributes; those that are None are left out.

        Returns a Tensor, or a list of Tensors if outputs > 1. Raises ConvertError if the graph becomes too large.
        """
        if len(self.nodes) >= NODES:
            raise ConvertError(f"more than {NODES:,} nodes would be needed; no net needs that many")
        names = ["" if x is None else (x if isinstance(x, Tensor) else self.constant(x)).name for x in inputs]
        while names and not names[-1]:
            names.pop()
        first = self.unique(name or f"{op_type.lower()}")
        outs = [first] + [self.unique(f"{first}:{i}") for i in range(1, outputs)]
        attributes = {k: v for k, v in attributes.items() if v is not None}
        self.nodes.append(helper.make_node(op_type, names, outs, name=first, **attributes))
        tensors = [Tensor(self, o) for o in outs]
        return tensors[0] if outputs == 1 else tensors

    def rename(self, tensor: Tensor, name: str) -> Tensor:
        """Rename the output of a node that no other node reads yet. Returns the new Tensor."""
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

    def where(self, condition: Tensor, a: Any, b: Any = 0.0) -> Tensor:
        """Choose a where the condition is true, else b."""
        return self.op("Where", condition, a, b)

    def shape(self, x: Tensor, start: int | None = None, end: int | None = None) -> Tensor:
        """Return the sizes of the axes start to end (exclusive) of x as an int64 vector."""
        return self.op("Shape", x, start=start, end=end)

    def slice(self, x: Tensor, axes: Iterable[int], starts: Any, ends: Any,
              steps: Iterable[int] | None = None) -> Tensor:
        """Return x[start:end:step] on each of the axes. starts, ends: lists of ints, or int64 Tensors."""
        return self.op("Slice", x, starts, ends, list(axes), None if steps is None else list(steps))

    def sum(self, tensors: Sequence[Tensor]) -> Tensor:
        """Add up one or more Tensors."""
        if self._one_sum and len(tensors) > 2:
            return self.op("Sum", *tensors)
        total = tensors[0]
        for t in tensors[1:]:
            total = total + t
        return total

    def needed_for(self, outputs: Iterable[str]) -> list[onnx.NodeProto]:
        """Return the nodes that at least one of the outputs (names) depends on, in order."""
        used, nodes = set(outputs), []
        for node in reversed(self.nodes):
            if used & set(node.output):
                nodes.append(node)
                used.update(reads(node))
        return nodes[::-1]

    def drop_unused(self, outputs: Iterable[str]) -> None:
        """Remove the nodes that none of the outputs (names) depends on."""
        self.nodes = self.needed_for(outputs)

    def finish_early(self, output: str, others: Iterable[str]) -> None:
        """Have an output computed before the others, so that what it needs is not kept in memory for long.

        onnxruntime starts with what the last node needs, and goes on backwards.

        output: the name of the output. others: the names of the other outputs.
        """
        needed = self.needed_for(others)
        kept = set(map(id, needed))
        self.nodes = needed + [node for node in self.needed_for([output]) if id(node) not in kept]

    def model(self, name: str, inputs: Iterable[onnx.ValueInfoProto], outputs: Iterable[onnx.ValueInfoProto],
              value_info: Iterable[onnx.ValueInfoProto] = (), metadata: Mapping[str, Any] | None = None,
              constants: Mapping[str, Any] | None = None) -> onnx.ModelProto:
        """Return the finished model: the nodes in the order in which they were built, without unused constants.

        name: the name of the graph.
        inputs, outputs: its inputs and outputs.
        value_info: the shapes of further tensors.
        metadata: entries of the model's metadata; the values are written as text.
        constants: {name: TensorProto or array}, further initializers, of which the used ones are added.
        """
        available = {**(constants or {}), **self.constants}
        used = {i for n in self.nodes for i in n.input}
        shapes = {k: v.dims if isinstance(v, TensorProto) else np.shape(v) for k, v in available.items()} \
            | {n.output[0]: a.t.dims for n in self.nodes if n.op_type == "Constant" for a in n.attribute
               if a.name == "value"}
        for node in self.nodes:
            write_default_attributes(node, shapes.get(node.input[1]) if len(node.input) > 1 else None)
        initializers = [v if isinstance(v, TensorProto) else numpy_helper.from_array(np.asarray(v, order="C"), k)
                        for k, v in available.items() if k in used]
        graph = helper.make_graph(self.nodes, name, list(inputs), list(outputs), initializers,
                                  value_info=list(value_info))
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", self.opset)], ir_version=IR_VERSION,
                                  producer_name="deepdream-convert")
        helper.set_model_props(model, {k: str(v) for k, v in (metadata or {}).items()})
        return model


def float_info(name: str, shape: Sequence[int | str | None] | None) -> onnx.ValueInfoProto:
    """Describe a float32 tensor. shape: sizes, names of dynamic axes or None for each axis; None if unknown."""
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def kind(node: onnx.NodeProto) -> str:
    """Return the operator of a node, with its domain in front unless it is a standard operator."""
    return node.op_type if node.domain in ("", "ai.onnx") else f"{node.domain}.{node.op_type}"


def attributes(node: onnx.NodeProto) -> dict[str, Any]:
    """Return a node's attributes as Python values."""
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}


def described(node: onnx.NodeProto) -> str:
    """Describe a node for an error message."""
    return f"node '{shown(node.name or next(iter(node.output), ''))}' ({shown(kind(node))})"


def inner_nodes(node: onnx.NodeProto) -> Iterator[onnx.NodeProto]:
    """Yield the nodes of a node's subgraphs (of If or Loop)."""
    for attribute in node.attribute:
        for graph in [attribute.g] if attribute.HasField("g") else attribute.graphs:
            yield from graph.node


def reads(node: onnx.NodeProto) -> Iterator[str]:
    """Yield the names that a node reads, also inside its subgraphs."""
    yield from node.input
    for inner in inner_nodes(node):
        yield from reads(inner)


def metadata(model: onnx.ModelProto) -> dict[str, str]:
    """Return a model's metadata."""
    return {p.key: p.value for p in model.metadata_props}
