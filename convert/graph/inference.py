"""Run ONNX's shape inference, safely.

onnx ends the whole process at a Slice of a tensor whose size has become negative: where a window is larger than what it
moves over, as in a picture that is too small for the net. So the shapes in front of each Slice are looked at first.
"""
from __future__ import annotations

import onnx

from ..errors import ConvertError, shown
from . import attributes, reads
from .windows import Window

_WINDOWED = ("AveragePool", "Conv", "LpPool", "MaxPool")
_SHRINKING = ("Col2Im", "ConvTranspose", "DeformConv", "MaxUnpool", "Pad")      # may make a size negative, too

UNKNOWN = "pads that are computed"


def infer_shapes(model: onnx.ModelProto, **options) -> onnx.ModelProto:
    """Return the model with the shapes that can be inferred.

    model: the model.
    options: strict_mode and data_prop, as of onnx.shape_inference.infer_shapes.

    Raises ConvertError for a size below zero in front of a Slice and, in strict mode, for other shapes that do not fit.
    """
    model, pads = _with_unknown_pads(model)
    check_sizes(model)
    inferred = _inferred(model, **options)
    if not pads:
        return inferred
    for node in inferred.graph.node:
        if node.op_type == "Pad" and node.output[0] in pads:
            node.input[1] = pads[node.output[0]]
    kept = [info for info in inferred.graph.input if info.name != UNKNOWN]
    del inferred.graph.input[:]
    inferred.graph.input.extend(kept)
    return inferred


def _with_unknown_pads(model):
    """Replace pads that are computed by unknown ones, of which no size below zero can result.

    Returns (model, {output of a Pad: name of its pads}).
    """
    if not any(node.op_type == "Pad" for node in model.graph.node):
        return model, {}
    known = _growing_pads(model.graph) | {tensor.name for tensor in model.graph.initializer}
    pads = {node.output[0]: node.input[1] for node in model.graph.node
            if node.op_type == "Pad" and node.output and len(node.input) > 1 and node.input[1] not in known}
    if not pads:
        return model, {}
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.input.append(onnx.helper.make_tensor_value_info(UNKNOWN, onnx.TensorProto.INT64, [None]))
    for node in copy.graph.node:
        if node.op_type == "Pad" and node.output and node.output[0] in pads:
            node.input[1] = UNKNOWN
    return copy, pads


def _inferred(model, **options):
    try:
        return onnx.shape_inference.infer_shapes(model, **options)
    except onnx.shape_inference.InferenceError as error:
        raise ConvertError(shown(" ".join(str(error).split()), 200)) from None


def check_sizes(model: onnx.ModelProto) -> None:
    """Raise ConvertError if a tensor that a Slice reads has a size below zero.

    Slices are left out at first, and put back as soon as the shape of what they read is known to be sound.
    """
    waiting = _at_risk(model.graph)
    if not waiting:
        return
    initializers = {tensor.name for tensor in model.graph.initializer}
    while waiting:
        known = _shapes_without(model, waiting)
        for name, dims in known.items():
            if any(d is not None and d < 0 for d in dims):
                raise ConvertError(f"'{shown(name)}' has a size below zero: the picture is too small for the net")
        sound = [name for name, node in waiting.items() if node.input[0] in known or node.input[0] in initializers]
        if not sound:      # where no shape is known, none can be negative
            return
        for name in sound:
            del waiting[name]


def _at_risk(graph):
    """Return {output: node}, the Slices after a node that can make a size negative."""
    if not any(node.op_type == "Slice" for node in graph.node):
        return {}
    growing, risky, slices = _growing_pads(graph) | {UNKNOWN}, set(), {}
    for node in graph.node:
        if not risky.isdisjoint(reads(node)) or node.op_type != "Slice" and _may_become_negative(node) \
                and not (node.op_type == "Pad" and len(node.input) > 1 and node.input[1] in growing):
            risky.update(node.output)
            if node.op_type == "Slice" and node.output:
                slices[node.output[0]] = node
    return slices


def _growing_pads(graph):
    """Return the names of the small constants without a number below zero."""
    tensors = {t.name: t for t in graph.initializer} | {
        n.output[0]: a.t for n in graph.node if n.op_type == "Constant" for a in n.attribute if a.name == "value"}
    return {name for name, t in tensors.items() if t.data_type == onnx.TensorProto.INT64 and sum(t.dims) <= 64
            and t.data_location != onnx.TensorProto.EXTERNAL and (onnx.numpy_helper.to_array(t) >= 0).all()}


def _may_become_negative(node):
    """Can a node make a size negative of one that is not?"""
    if node.op_type not in _WINDOWED:
        return node.op_type in _SHRINKING
    try:
        window = Window.of(attributes(node), attributes(node).get("kernel_shape", ()))
    except ValueError:      # the padding depends on the size, and is large enough for every size
        return False
    return not window.kernel or any(slack <= -2 * stride for slack, stride in zip(window.slack, window.stride))


def _shapes_without(model, slices):
    """Return {tensor: sizes, None where unknown}, by inference without these Slices. slices: {output: node}."""
    part = onnx.ModelProto()
    part.CopyFrom(model)
    del part.graph.node[:], part.graph.value_info[:]
    part.graph.node.extend(node for node in model.graph.node if not node.output or node.output[0] not in slices)
    part.graph.input.extend(onnx.helper.make_empty_tensor_value_info(name) for name in slices)
    produced = {name for node in part.graph.node for name in node.output}
    outputs = [info for info in part.graph.output if info.name in produced]
    del part.graph.output[:]
    part.graph.output.extend(outputs)
    graph = _inferred(part, data_prop=True).graph
    return {info.name: [d.dim_value if d.HasField("dim_value") else None for d in info.type.tensor_type.shape.dim]
            for info in [*graph.input, *graph.value_info, *graph.output] if info.type.tensor_type.HasField("shape")}
