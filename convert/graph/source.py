"""Analyze the model that is differentiated: its nodes, constants and shapes, and what depends on the picture."""
from __future__ import annotations

import math

import numpy as np
import onnx
from onnx import numpy_helper, version_converter

from ..errors import ConvertError, about, shown
from ..facts import Facts
from . import OPSET, REAL, Budget, attributes, described, kind, reads
from .constants import computed
from .inference import check_sizes, infer_shapes
from .shapes import shape_of, shapes_at
from .sizes import without_weights


# operators whose result does not change with the values of the picture, or only in steps, so that its derivative is 0
STEPS = {"And", "ArgMax", "ArgMin", "Ceil", "Equal", "EyeLike", "Floor", "Greater", "GreaterOrEqual", "IsInf", "IsNaN",
         "Less", "LessOrEqual", "NonZero", "Not", "Or", "Round", "Shape", "Sign", "Size", "Xor"}


def without_gradient(node: onnx.NodeProto) -> bool:
    """Tell whether the result of a node does not change with the values of its inputs, or only in steps."""
    return kind(node) in STEPS or kind(node) == "Cast" and attributes(node).get("to") not in REAL


class Source:
    """A model that is differentiated.

    model: the model, converted to opset 17 if its opset is older than 15.
    opset: the version of its standard operators.
    nodes, initializers: its nodes, in order, and {name: TensorProto}.
    producer: {tensor: the node that computes it}.
    input: the ValueInfoProto of the picture.
    other_inputs: the names of further inputs.
    depends_on_input: the names of the tensors that depend on the values of the picture. What only depends on them in
        steps, such as a comparison, does not count: its derivative is 0.
    depends_in_steps: the names of those tensors.
    nominal: the declared shape of the picture; read from the metadata or the input unless it is passed.

    Raises ConvertError for a model without inputs, or of an opset that cannot be converted.
    """

    def __init__(self, model: onnx.ModelProto, nominal: list[int] | None = None):
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OPSET)
        if opset < 15:
            try:
                check_sizes(model)
                model = version_converter.convert_version(model, OPSET)
            except Exception as error:   # the converter has its own exceptions
                raise ConvertError(f"opset {opset} is too old and cannot be converted to {OPSET}: "
                                   + shown(" ".join(str(error).split()), 200)) from None
            opset = OPSET
        self.model, self.opset, self.graph = model, opset, model.graph
        self.nodes = list(self.graph.node)
        self.initializers = {t.name: t for t in self.graph.initializer}
        inputs = [i for i in self.graph.input if i.name not in self.initializers]
        if not inputs:
            raise ConvertError("the model has no input")
        facts = Facts.read(model, whole=False)
        names = [i.name for i in inputs]
        self.input = inputs[names.index(facts.data) if facts and facts.data in names else 0]
        self.other_inputs = [n for n in names if n != self.input.name]
        self._shapes, self._declared, self._values, self._non_negative = None, None, {}, None
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.depends_on_input, self.depends_in_steps = {self.input.name}, set()
        for node in self.nodes:
            through = not without_gradient(node) and any(i in self.depends_on_input for i in reads(node))
            steps = node.op_type not in ("Shape", "Size") and not through and any(
                i in self.depends_on_input or i in self.depends_in_steps for i in reads(node))
            (self.depends_on_input if through else self.depends_in_steps).update(
                o for o in node.output if o and (through or steps))
        self.weights = sum(math.prod(t.dims) for t in self.graph.initializer)
        self._budget = Budget(self.weights)
        self.nominal = nominal or facts and list(facts.data_shape) or \
            [d.dim_value or None for d in self.input.type.tensor_type.shape.dim]

    def shape(self, name: str) -> list[int | None] | None:
        """Return the static shape of a tensor: None for a dynamic axis; None if the number of axes is unknown."""
        if name in self.initializers:
            return list(self.initializers[name].dims)
        if self._shapes is None:
            self._shapes = self._inferred()
        if name not in self._shapes and self.value(name) is not None:
            return list(self.value(name).shape)
        return self._shapes.get(name)

    def declared_shape(self, name: str) -> list[int | None] | None:
        """Return the shape of a tensor for a picture of the declared shape; None as in `shape`, where unknown."""
        shape = self.shape(name)
        if shape is None or None not in shape or not self.nominal or None in self.nominal:
            return shape
        if self._declared is None:
            found = shapes_at(without_weights(self.model), self.input.name, self.nominal)
            self._declared = {name: dims for name, (dims, _) in found.items() if dims is not None}
        declared = self._declared.get(name, [])
        return [a or b for a, b in zip(shape, declared)] if len(declared) == len(shape) else shape

    def _inferred(self):
        """Return {tensor: shape}, by shape inference, which starts from the shapes that are in the model."""
        light = without_weights(self.model)
        light.graph.value_info.extend(self.graph.value_info)
        light.graph.output.extend(self.graph.output)
        graph = infer_shapes(light, data_prop=True).graph
        return {info.name: shape_of(info.type.tensor_type).dims for info in
                [*graph.input, *graph.value_info, *graph.output] if info.type.tensor_type.HasField("shape")}

    def value(self, name: str) -> np.ndarray | None:
        """Return the value of a tensor that does not depend on any input; None for any other tensor."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _evaluate(self, name):
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer.get(name)
        if node is None or name in self.depends_on_input:
            return None
        feeds = {i: self.value(i) for i in node.input if i}
        if any(v is None for v in feeds.values()):
            return None
        try:
            with about(described(node)):
                return computed(node, feeds, self.model.opset_import, self._budget)[name]
        except ConvertError:      # a constant that cannot be computed is treated as unknown
            return None

    def is_non_negative(self, name: str) -> bool:
        """Tell whether a tensor is the output of ReLUs, perhaps pooled, normalized or concatenated since.

        Such a tensor is never negative, and where it is 0 its gradient does not reach the input.
        """
        if self._non_negative is None:
            self._non_negative = set()
            for node in self.nodes:
                through = {"Relu": [], "MaxPool": node.input[:1], "LRN": node.input, "Concat": node.input,
                           "Identity": node.input, "Dropout": node.input[:1]}.get(node.op_type)
                if through is not None and self._non_negative.issuperset(through):
                    self._non_negative.update(node.output[:1])
        return name in self._non_negative

    def leading_to(self, *ends: str) -> list[onnx.NodeProto]:
        """List the nodes from which the ends are computed, in order.

        Raises ConvertError if an end depends on several inputs of the model.
        """
        need, nodes = set(ends), []
        for node in reversed(self.nodes):
            if need & set(node.output):
                nodes.append(node)
                need.update(i for i in reads(node) if i)
        other = [o for o in self.other_inputs if o in need]
        if other:
            raise ConvertError(f"'{ends[-1]}' also depends on the input '{other[0]}'; only one input is supported")
        return nodes[::-1]
