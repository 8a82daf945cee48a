"""Compute a node whose inputs are all constant, with ONNX's reference implementation, within a size limit."""
from __future__ import annotations

import math
from collections.abc import Iterable

import numpy as np
import onnx
from onnx import helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from ..errors import ConvertError
from . import Budget, attributes, kind
from .inference import infer_shapes

SMALL = 1024      # numbers of a constant that is passed to shape inference: a larger one does not describe a shape
# how many times longer the reference implementation takes for one number, or one tap of a window, than for a copy
SLOW = {"AveragePool": 20, "Conv": 20, "ConvTranspose": 20, "LRN": 20, "MaxPool": 20, "Resize": 20, "Upsample": 20}

FEW = 64          # numbers of a list of sizes
# operators that compute sizes: (attributes, inputs) -> result, as ONNX's reference implementation, but much faster
_SIZES = {
    "Add": lambda attr, a, b: a + b,
    "Cast": lambda attr, x: x.astype(helper.tensor_dtype_to_np_dtype(attr["to"])),
    "Concat": lambda attr, *parts: np.concatenate(parts, attr["axis"]),
    "Equal": lambda attr, a, b: a == b,
    "Gather": lambda attr, x, indices: np.take(x, indices, attr.get("axis", 0)),
    "Mul": lambda attr, a, b: a * b,
    "Sub": lambda attr, a, b: a - b,
    "Unsqueeze": lambda attr, x, axes: np.expand_dims(x, tuple(axes.tolist())),
    "Where": lambda attr, condition, a, b: np.where(condition, a, b)}


def computed(node: onnx.NodeProto, feeds: dict[str, np.ndarray], opset_imports: Iterable[onnx.OperatorSetIdProto],
             budget: Budget) -> dict[str, np.ndarray]:
    """Compute the outputs of a node whose inputs are all constant.

    feeds: {input: array}.
    budget: what may still be computed; checked before the computation.

    Returns {output: array}. Raises ConvertError if the result is too large, and whatever onnx raises.
    """
    outputs = [name for name in node.output if name]
    if kind(node) in _SIZES and len(feeds) == len(set(node.input)) > (node.op_type == "Unsqueeze") \
            and all(v.dtype in (np.int64, np.bool_) and v.size <= FEW for v in feeds.values()):
        return {outputs[0]: np.asarray(_SIZES[node.op_type](attributes(node), *(feeds[i] for i in node.input)))}
    infos = [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(v.dtype), v.shape)
             for n, v in feeds.items()]
    graph = helper.make_graph([node], "constant", infos, [helper.make_empty_tensor_value_info(n) for n in outputs])
    model = helper.make_model(graph, opset_imports=opset_imports)
    sizes = _sizes(model, feeds)
    budget.take(sum(sizes[name] for name in outputs) * _effort(node, feeds))
    with np.errstate(all="ignore"):
        return dict(zip(outputs, map(np.asarray, ReferenceEvaluator(model).run(None, feeds))))


def _sizes(model, feeds):
    """Return {output: its number of elements}, by shape inference."""
    light = onnx.ModelProto()
    light.CopyFrom(model)
    small = {name: value for name, value in feeds.items() if value.size <= SMALL}
    kept = [info for info in light.graph.input if info.name not in small]
    del light.graph.input[:]
    light.graph.input.extend(kept)
    light.graph.initializer.extend(numpy_helper.from_array(value, name) for name, value in small.items())
    found = {}
    for info in infer_shapes(light, strict_mode=True, data_prop=True).graph.output:
        kind = info.type.tensor_type
        if not kind.HasField("shape") or not all(d.HasField("dim_value") for d in kind.shape.dim):
            raise ConvertError("the size of its result cannot be determined")
        found[info.name] = math.prod(d.dim_value for d in kind.shape.dim)
    return found


def _effort(node, feeds):
    """Estimate the work for one number of the result, in units of the work of copying a number."""
    values = [feeds.get(name) for name in node.input]
    if node.op_type in ("Gemm", "MatMul"):
        return 1 + max(max(v.shape, default=1) for v in values[:2]) // 256
    kernel = attributes(node).get("kernel_shape", [])
    if node.op_type in ("Conv", "ConvTranspose"):
        kernel = values[1].shape[1:]
    return SLOW.get(node.op_type, 1) * math.prod(kernel)
