"""Run ONNX's shape inference, safely.

onnx ends the whole process at a Slice of a tensor whose size has become negative: where a window is larger than what it
moves over, as in a picture that is too small for the net. So the shapes in front of each Slice are looked at first.
"""
from __future__ import annotations

import onnx

from ..errors import ConvertError, shown
from . import attributes
from .windows import Window

_WINDOWED = ("AveragePool", "Conv", "LpPool", "MaxPool")
_SHRINKING = ("Col2Im", "ConvTranspose", "DeformConv", "MaxUnpool", "Pad")      # may make a size negative, too


def infer_shapes(model: onnx.ModelProto, **options) -> onnx.ModelProto:
    """Return the model with the shapes that can be inferred.

    model: the model.
    options: strict_mode and data_prop, as of onnx.shape_inference.infer_shapes.

    Raises ConvertError for a size below zero in front of a Slice and, in strict mode, for other shapes that do not fit.
    """
    check_sizes(model)
    return _inferred(model, **options)


def _inferred(model, **options):
    try:
        return onnx.shape_inference.infer_shapes(model, **options)
    except onnx.shape_inference.InferenceError as error:
        raise ConvertError(shown(" ".join(str(error).split()), 200)) from None


def check_sizes(model: onnx.ModelProto) -> None:
    """Raise ConvertError if a tensor that a Slice reads has a size below zero.

    Slices are left out at first, and put back as soon as the shape of what they read is known to be sound.
    """
    waiting = {node.output[0]: node for node in model.graph.node if node.op_type == "Slice" and node.output}
    if not waiting or not any(map(_may_become_negative, model.graph.node)):
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
