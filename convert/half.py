"""Gradient graphs in half precision, for GPUs: faster, but no longer what Caffe computes.

Convolutions, products and masks run in half precision. What could leave its range stays in float32: normalizations,
poolings and the additions of their gradients. Gradients are divided by the largest number among those of the ends, and
multiplied by it again in the end, so that neither large nor small objectives leave the range.
"""
from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, numpy_helper

from .gradient import DATA_DIFF, END_DIFF
from .graph import Graph, Tensor, attributes, metadata

# Operators that run in half precision. MaxPool is not among them: in half precision, onnxruntime's CUDA provider finds
# no position of a maximum above 2048.
HALF = {"Add", "Concat", "Conv", "ConvTranspose", "DepthToSpace", "Dropout", "Gemm", "Greater", "Identity", "MatMul",
        "Mul", "Pad", "Relu", "Slice", "SpaceToDepth", "Split", "Sub", "Sum", "Transpose", "Where"}
EXACT = "exact"            # how the names of other nodes begin that stay in float32
LARGEST = 64.0             # the largest gradient at the ends, after the division
FLOAT, FLOAT16 = TensorProto.FLOAT, TensorProto.FLOAT16


def half_precision(graph: onnx.ModelProto) -> onnx.ModelProto:
    """Return a gradient graph that computes in half precision, with inputs and outputs in float32.

    graph: from `gradient_graph`, best with device "cuda-fast".
    """
    body = graph.graph
    outputs = {value.name: f"half {value.name}" for value in body.output}
    taken = {name for node in body.node for name in (*node.input, *node.output)} | set(outputs.values())
    g = Graph(reserved=taken, opset=next(o.version for o in graph.opset_import if o.domain in ("", "ai.onnx")))
    types, factor, scaled = _Types(g, graph), None, {}
    diffs = [value.name for value in body.input if value.name.split(":")[0] == END_DIFF]
    for node in body.node:
        if factor is None and not set(diffs).isdisjoint(node.input):      # the forward pass ends here
            factor = _factor(g, diffs)
            scaled = {diff: (Tensor(g, diff) / factor).name for diff in diffs}
        copy = types.converted(node, scaled)
        copy.name, copy.output[:] = outputs.get(node.name, node.name), [outputs.get(o, o) for o in node.output]
        copy.input[:] = [outputs.get(i, i) for i in copy.input]
        g.nodes.append(copy)
        for name in outputs.keys() & node.output:
            x = g.op("Cast", Tensor(g, outputs[name]), to=FLOAT)
            g.rename(x * factor if name == DATA_DIFF else x, name)
    return g.model(body.name, body.input, body.output, metadata=metadata(graph), constants=types.constants)


def _factor(g, diffs):
    """Return the number by which the gradients of all ends are divided."""
    largest = [g.op("ReduceMax", g.op("Abs", Tensor(g, diff)), keepdims=0) for diff in diffs]
    return g.op("Max", *largest, np.float32(1e-30)) * (1 / LARGEST)


class _Types:
    """The types of the tensors of a graph that is converted.

    now: {tensor: FLOAT or FLOAT16}, without those of other types.
    constants: {name: TensorProto}, the initializers, each in the types that are needed.
    """

    def __init__(self, g, model):
        self.g, self.now, self._casts = g, {}, {}
        self.constants = {t.name: t for t in model.graph.initializer}
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self._floats = {i.name for i in (*inferred.input, *inferred.value_info, *inferred.output)
                        if i.type.tensor_type.elem_type == FLOAT}
        for value in (*model.graph.input, *model.graph.initializer):
            if value.name in self._floats or getattr(value, "data_type", None) == FLOAT:
                self.now[value.name] = FLOAT

    def converted(self, node, renamed):
        """Return a copy of a node with its inputs in the type that it runs in. renamed: {input: other name}."""
        kind = FLOAT16 if node.op_type in HALF and not node.name.startswith(EXACT) else FLOAT
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        copy.input[:] = [self._as(renamed.get(i, i), kind) if i in self.now else i for i in node.input]
        produces = FLOAT if node.op_type == "Cast" and attributes(node)["to"] == FLOAT else kind
        self.now.update({o: produces for o in node.output if o in self._floats})
        return copy

    def _as(self, name, kind):
        """Return the name of a tensor in a type; a Cast is added where it exists only in the other type."""
        if self.now.get(name, FLOAT) == kind:
            return name
        if (name, kind) not in self._casts:
            if name in self.constants:
                limits = np.finfo(np.float16)
                value = numpy_helper.to_array(self.constants[name]).clip(limits.min, limits.max).astype(np.float16)
                self._casts[name, kind] = half = self.g.unique(f"half {name}")
                self.constants[half] = numpy_helper.from_array(value, half)
            else:
                self._casts[name, kind] = self.g.op("Cast", Tensor(self.g, name), to=kind).name
        return self._casts[name, kind]
