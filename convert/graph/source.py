"""The model that is differentiated: its nodes, constants and shapes, and what of it depends on the picture."""
import math

import onnx
from onnx import numpy_helper, version_converter

from .constants import computed
from ..errors import ConvertError, about, shown
from ..facts import Facts
from . import OPSET, Room, reads, described
from .sizes import without_weights


class Source:
    """nodes, initializers and producer ({tensor: its node}) of a model of opset 15 or more; an older one is raised.

    input: the ValueInfoProto of the picture. moving: the tensors that depend on what it holds. others: the names of
    further inputs. nominal: the shape of the picture that the net declares, if the metadata does not tell it.
    """

    def __init__(self, model, nominal=None):
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OPSET)
        if opset < 15:
            try:
                model = version_converter.convert_version(model, OPSET)
            except Exception as error:   # the converter raises its own kinds
                raise ConvertError(f"opset {opset} is too old and cannot be raised to {OPSET}: "
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
        self.others = [n for n in names if n != self.input.name]
        self._shapes, self._usual, self._values, self._rectified = None, None, {}, None
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.moving = {self.input.name}
        for node in self.nodes:
            # a Shape does not depend on what the data holds
            if node.op_type not in ("Shape", "Size") and any(i in self.moving for i in reads(node)):
                self.moving.update(o for o in node.output if o)
        self.weights = sum(math.prod(t.dims) for t in self.graph.initializer)
        self._room = Room(self.weights)
        self.nominal = nominal or facts and list(facts.data_shape) or \
            [d.dim_value or None for d in self.input.type.tensor_type.shape.dim]

    def shape(self, name):
        """The static shape of a tensor: ints, None for a dynamic axis; None if even the rank is unknown."""
        if name in self.initializers:
            return list(self.initializers[name].dims)
        if self._shapes is None:
            self._shapes = self._inferred(self.input)
        if name not in self._shapes and self.value(name) is not None:
            return list(self.value(name).shape)
        return self._shapes.get(name)

    def usual_shape(self, name):
        """As `shape`, but where that leaves an axis open, what it is for a picture of the declared shape."""
        shape = self.shape(name)
        if shape is None or None not in shape or not self.nominal or None in self.nominal:
            return shape
        if self._usual is None:
            kind = self.input.type.tensor_type.elem_type
            self._usual = self._inferred(onnx.helper.make_tensor_value_info(self.input.name, kind, self.nominal))
        usual = self._usual.get(name, [])
        return [d or u for d, u in zip(shape, usual)] if len(usual) == len(shape) else shape

    def _inferred(self, data):
        """{tensor: shape} by shape inference. data: the ValueInfoProto of the picture."""
        light = without_weights(self.model)
        if data is self.input:      # what was found for open sizes holds for these
            light.graph.value_info.extend(self.graph.value_info)
            light.graph.output.extend(self.graph.output)
        next(i for i in light.graph.input if i.name == data.name).CopyFrom(data)
        graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
        return {info.name: [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
                for info in [*graph.input, *graph.value_info, *graph.output]
                if info.type.tensor_type.HasField("shape")}

    def value(self, name):
        """The array behind a name that does not depend on any input, else None."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _evaluate(self, name):
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer.get(name)
        if node is None or name in self.moving:
            return None
        feeds = {i: self.value(i) for i in node.input if i}
        if any(v is None for v in feeds.values()):
            return None
        try:
            with about(described(node)):
                return computed(node, feeds, self.model.opset_import, self._room)[name]
        except ConvertError:      # what cannot be computed is no constant here
            return None

    def rectified(self, name):
        """Is this what a ReLU let through, but for pooling, normalizing and joining? Then it is never negative, and
        the gradient where it is 0 reaches nothing."""
        if self._rectified is None:
            self._rectified = set()
            for node in self.nodes:
                through = {"Relu": [], "MaxPool": node.input[:1], "LRN": node.input, "Concat": node.input,
                           "Identity": node.input, "Dropout": node.input[:1]}.get(node.op_type)
                if through is not None and self._rectified.issuperset(through):
                    self._rectified.update(node.output[:1])
        return name in self._rectified

    def leading_to(self, *ends):
        """The nodes that the ends are computed from, in order."""
        need, nodes = set(ends), []
        for node in reversed(self.nodes):
            if need & set(node.output):
                nodes.append(node)
                need.update(i for i in reads(node) if i)
        other = [o for o in self.others if o in need]
        if other:
            raise ConvertError(f"'{ends[-1]}' also depends on the input '{other[0]}'; only one input is supported")
        return nodes[::-1]
