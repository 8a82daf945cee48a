"""Compute the shapes of all tensors for a picture of one size, node by node.

onnx's own inference of a whole model does not follow every computation of sizes, such as that of the padding which
TensorFlow calls "SAME". Here such numbers are computed as soon as what they depend on is known.
"""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import onnx
from onnx import helper, numpy_helper

from ..errors import ConvertError, shown
from . import Budget, attributes, described, kind, reads
from .constants import computed
from .inference import infer_shapes

SMALL = 1024         # numbers of a tensor whose value is computed: a larger one does not describe a shape
BUDGET = 1 << 20     # numbers in all of these tensors
# the inputs that determine the shape of the result
DETERMINING = {"ConstantOfShape": [0], "Expand": [1], "OneHot": [1], "Pad": [1, 3], "Range": [0, 1, 2], "Reshape": [1],
               "Resize": [2, 3], "Slice": [1, 2, 3, 4], "Split": [1], "Squeeze": [1], "Tile": [1], "TopK": [1],
               "Unsqueeze": [1], "Upsample": [1],
               **{f"Reduce{what}": [1] for what in ("L1", "L2", "LogSum", "LogSumExp", "Max", "Mean", "Min", "Prod",
                                                    "Sum", "SumSquare")}}

# operators whose result has the type of their operands, if these have the same
ELEMENTWISE = {"Add", "Div", "Mul", "Sub"}
SAME_SIZE = {"BatchNormalization", "Clip", "Elu", "Erf", "Exp", "HardSigmoid", "HardSwish", "Identity", "LeakyRelu",
             "LRN", "Neg", "Relu", "Sigmoid", "Softmax", "Sqrt", "Tanh"}


class Shape(NamedTuple):
    """The sizes of a tensor, None where unknown, or None if their number is, and its element type, or None."""
    dims: list[int | None] | None
    element: int | None


def shapes_at(model: onnx.ModelProto, name: str, shape: Sequence[int], strict: bool = False) -> dict[str, Shape]:
    """Compute the shapes of all tensors of a model.

    model: the model; `without_weights` makes this faster.
    name: the input that takes the picture.
    shape: the shape of the picture.
    strict: whether shapes that do not fit each other are an error; else what depends on them is unknown.

    Returns {tensor: Shape}. Raises ConvertError for a size below zero in front of a Slice (onnx would end the process).
    """
    weights = {tensor.name for tensor in model.graph.initializer} | {""}
    if strict and all(i in weights for n in model.graph.node if n.op_type in DETERMINING for i in n.input[1:]) \
            and not any(n.op_type in ("Reshape", "Slice", "ConstantOfShape", "Range") for n in model.graph.node):
        return _shapes_at_once(model, name, shape)      # onnx's own inference is enough, and faster
    walk = _Walk(model, strict)
    element = walk.types[name].tensor_type.elem_type
    walk.types[name] = helper.make_tensor_type_proto(element, list(shape))
    for node in model.graph.node:
        walk.add(node)
    return {name: shape_of(found.tensor_type) for name, found in walk.types.items() if found.HasField("tensor_type")}


def _shapes_at_once(model, name, shape):
    """Do what `shapes_at` does, strictly, for a model that computes no sizes."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    info = next(i for i in copy.graph.input if i.name == name)
    info.CopyFrom(helper.make_tensor_value_info(name, info.type.tensor_type.elem_type, list(shape)))
    graph = infer_shapes(copy, strict_mode=True, data_prop=True).graph
    return {tensor.name: Shape(list(tensor.dims), tensor.data_type) for tensor in model.graph.initializer} | {
        i.name: shape_of(i.type.tensor_type) for i in (*graph.input, *graph.value_info, *graph.output)}


class _Walk:
    """The types of the tensors that are known so far, and the values of those that shapes depend on."""

    def __init__(self, model, strict):
        self.strict, self.opsets, self.ir_version = strict, list(model.opset_import), model.ir_version
        self.versions = {o.domain or "": o.version for o in self.opsets}
        self.wanted, self.budget = _wanted(model.graph.node), Budget()
        self.budget.left = BUDGET
        self.types = {i.name: i.type for i in model.graph.input}
        self.values, self.tensors, self.schemas = {}, {}, {}
        for tensor in model.graph.initializer:
            self.types[tensor.name] = helper.make_tensor_type_proto(tensor.data_type, list(tensor.dims))
            self.tensors[tensor.name] = tensor
            if tensor.name in self.wanted:
                self.values[tensor.name] = numpy_helper.to_array(tensor)

    def add(self, node):
        """Find the types of a node's results and, where shapes depend on them, their values."""
        if node.op_type == "Slice" and node.input:
            self.check(node.input[0])
        found = self.value(node) if not self.wanted.isdisjoint(node.output) else None
        if found is not None:
            for name, value in found.items():
                self.values[name], self.tensors[name] = value, numpy_helper.from_array(value, name)
                self.types[name] = helper.make_tensor_type_proto(self.tensors[name].data_type, value.shape)
            return
        if self.is_like_inputs(node):
            self.types[node.output[0]] = self.types[node.input[0]]
            return
        schema = self.schema(node)
        if schema is not None:
            self.types.update(self.inferred(node, schema))
        if self.strict and node.op_type == "Reshape":
            self.check_numbers(node)

    def is_like_inputs(self, node):
        """Tell whether the result certainly has the type of the inputs, so that nothing needs to be inferred."""
        kinds = [self.types.get(name) for name in node.input[:2 if node.op_type in ELEMENTWISE else 1]]
        return kind(node) in ELEMENTWISE | SAME_SIZE and len(node.output) == 1 and None not in kinds \
            and kinds[0] == kinds[-1]

    def check(self, name):
        """Raise ConvertError if a tensor has a size below zero."""
        dims = shape_of(self.types[name].tensor_type).dims if name in self.types else None
        if any(d is not None and d < 0 for d in dims or ()):
            raise ConvertError(f"'{shown(name)}' has a size below zero: the picture is too small for the net")

    def check_numbers(self, node):
        """Raise ConvertError if a Reshape has not as many numbers before as after it (onnx does not look)."""
        before, after = (shape_of(self.types[name].tensor_type).dims if name in self.types else None
                         for name in (node.input[0], node.output[0]))
        # a result without axes may also be one of unknown shape
        if before and after and None not in before and None not in after and math.prod(before) != math.prod(after):
            raise ConvertError(f"{described(node)}: {before} cannot be reshaped to {after}")

    def value(self, node):
        """Compute the results of a node, {name: array}; None if they depend on the values of the picture."""
        if node.op_type == "Shape":
            dims = shape_of(self.types[node.input[0]].tensor_type).dims if node.input[0] in self.types else None
            dims = dims and dims[attributes(node).get("start", 0):attributes(node).get("end")]
            return None if dims is None or None in dims else {node.output[0]: np.array(dims, np.int64)}
        if any(i and i not in self.values for i in reads(node)):
            return None
        try:
            return computed(node, {i: self.values[i] for i in node.input if i}, self.opsets, self.budget)
        except Exception:   # ONNX's reference implementation raises whatever it likes: the value stays unknown
            return None

    def schema(self, node):
        """Return the schema of a node's operator; None if it is unknown."""
        key = node.domain if node.domain != "ai.onnx" else "", node.op_type
        if key not in self.schemas:
            try:
                self.schemas[key] = onnx.defs.get_schema(node.op_type, self.versions.get(key[0], 1), key[0])
            except onnx.defs.SchemaError:
                self.schemas[key] = None
        return self.schemas[key]

    def inferred(self, node, schema):
        """Return the types of a node's results as far as they can be inferred from those of its inputs."""
        names = [i for i in reads(node) if i]
        if any(i not in self.types for i in node.input if i):
            return {}
        try:
            return onnx.shape_inference.infer_node_outputs(
                schema, node, {i: self.types[i] for i in names if i in self.types},
                {i: self.tensors[i] for i in names if i in self.tensors}, None, self.opsets, self.ir_version)
        except (onnx.shape_inference.InferenceError, onnx.checker.ValidationError, onnx.defs.SchemaError,
                RuntimeError) as error:
            if self.strict:
                raise ConvertError(f"{described(node)}: " + shown(" ".join(str(error).split()), 200)) from None
            return {}


def _wanted(nodes):
    """Return the names of the tensors on whose values shapes depend."""
    wanted = set()
    for node in reversed(nodes):
        wanted.update(node.input[i] for i in DETERMINING.get(node.op_type, ()) if i < len(node.input))
        if node.op_type not in ("Shape", "Size") and not wanted.isdisjoint(node.output):
            wanted.update(node.input)
    return wanted - {""}


def shape_of(tensor: onnx.TypeProto.Tensor) -> Shape:
    """Return the shape of a tensor from its type."""
    dims = [d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim]
    return Shape(dims if tensor.HasField("shape") else None, tensor.elem_type or None)
