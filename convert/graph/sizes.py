"""Find out how large a picture must be for an `end` to have a pixel, by ONNX's shape inference."""
from __future__ import annotations

import math
from collections.abc import Sequence

import onnx

from ..errors import ConvertError
from . import attributes
from .shapes import shapes_at
from .windows import Window

LARGE = 1 << 11   # a size at which every net has pixels everywhere


def end_shape(model: onnx.ModelProto, name: str, end: str, shape: Sequence[int]) -> tuple[int, ...] | None:
    """Return the shape of an end for a picture of a certain shape.

    model: a forward graph; `without_weights` makes this faster.
    name: the input.
    end: the tensor.
    shape: the shape of the input.

    Returns None if the picture is too small or, after an InnerProduct, not of the net's size.
    """
    try:
        found = shapes_at(model, name, shape, strict=True)
    except ConvertError:
        return None
    known = {name: dims for name, (dims, _) in found.items() if dims is not None}
    shapes = {name: [1 if d is None else d for d in dims] for name, dims in known.items()}
    if any(d < 1 for dims in shapes.values() for d in dims) or not all(_window_fits(n, shapes) for n in model.graph.node) \
            or not all(_numbers_fit(n, known) for n in model.graph.node):
        return None
    return tuple(shapes[end]) if end in shapes else None


def _window_fits(node, shapes):
    """Does at least one window fit into the padded input? (Shape inference rounds a negative number of them up.)"""
    if node.op_type not in ("Conv", "MaxPool", "AveragePool") or node.input[0] not in shapes:
        return True
    attr = {k: v for k, v in attributes(node).items() if k not in ("auto_pad", "ceil_mode")}
    return Window.of(attr, shapes[node.input[1]][2:] if len(node.input) > 1 else None).fits(shapes[node.input[0]][2:])


def _numbers_fit(node, known):
    """Does a Reshape have as many numbers before as after it? (Shape inference does not look.)"""
    if node.op_type != "Reshape":
        return True
    before, after = known.get(node.input[0]), known.get(node.output[0])
    # a result without axes may also be one of unknown shape
    return not before or not after or None in before or None in after or math.prod(before) == math.prod(after)


def without_weights(model: onnx.ModelProto, limit: int = 1024) -> onnx.ModelProto:
    """Copy a model with its weights replaced by inputs, since shape inference needs only their shapes.

    limit: vectors of up to this size are kept as initializers.
    """
    light = onnx.ModelProto()
    light.CopyFrom(onnx.helper.make_model(onnx.helper.make_graph(model.graph.node, "shapes", model.graph.input, []),
                                          opset_imports=model.opset_import, ir_version=model.ir_version))
    for tensor in model.graph.initializer:
        dims = list(tensor.dims)
        if tensor.data_type == onnx.TensorProto.FLOAT and (len(dims) > 1 or sum(dims) > limit):
            light.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, dims))
        else:
            light.graph.initializer.add().CopyFrom(tensor)
    return light


def smallest_size(model: onnx.ModelProto, name: str, end: str, nominal: Sequence[int]) -> tuple[int, int, bool]:
    """Find the smallest picture for which an end has a pixel, each axis by itself.

    model: a forward graph.
    name: the input.
    end: the tensor.
    nominal: the declared shape of the input, (N, C, H, W).

    Returns (height, width, exact); exact is True if only this size is possible, as after an InnerProduct. Returns
    (1, 1, False) for a net whose branches fit together at some sizes only: running it will tell.
    """
    light = without_weights(model)
    n, c, *_ = nominal

    def fits(h, w):
        return end_shape(light, name, end, (n, c, h, w)) is not None

    if not fits(LARGE, LARGE):
        fixed = any(n.op_type in ("Gemm", "MatMul", "Reshape") for n in light.graph.node) and fits(*nominal[2:])
        return (*nominal[2:], True) if fixed else (1, 1, False)
    low = []
    for axis in range(2):
        small, large = 0, LARGE       # too small, large enough
        while large - small > 1:
            middle = (small + large) // 2
            small, large = (small, middle) if fits(*((middle, LARGE) if axis == 0 else (LARGE, middle))) \
                else (middle, large)
        low.append(large)
    return (*low, False)
