"""Find out how large a picture must be for an `end` to have a pixel, by ONNX's shape inference."""
from __future__ import annotations

import math
from collections.abc import Sequence
from typing import NamedTuple

import onnx

from ..errors import ConvertError
from . import attributes
from .shapes import shapes_at
from .windows import Window

LARGE = 1 << 11   # a size at which every net has pixels everywhere
TRIED = (1, 2, 3, 5, 16)     # a net that fits together at sizes so much smaller does at all sizes
FAR_AWAY = 97     # steps to a size at which no window of a net of fixed size rounds down to it
FIXING = {"Add", "Einsum", "Gemm", "MatMul", "Reshape"}      # operators that may make a net one of fixed size


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
    # an empty vector of numbers is a part of the computation of sizes and masks
    if any(d < 1 for dims in shapes.values() if len(dims) > 1 for d in dims) \
            or not all(_window_fits(n, shapes) for n in model.graph.node):
        return None
    return tuple(shapes[end]) if end in shapes else None


def _window_fits(node, shapes):
    """Does at least one window fit into the padded input? (Shape inference rounds a negative number of them up.)"""
    if node.op_type not in ("Conv", "MaxPool", "AveragePool") or node.input[0] not in shapes:
        return True
    attr = {k: v for k, v in attributes(node).items() if k not in ("auto_pad", "ceil_mode")}
    return Window.of(attr, shapes[node.input[1]][2:] if len(node.input) > 1 else None).fits(shapes[node.input[0]][2:])


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


class Sizes(NamedTuple):
    """The sizes of a picture at which an end has a pixel.

    height, width: the smallest ones.
    exact: whether no other size is possible.
    step: (h, w), the distance from one possible height or width to the next.
    """
    height: int
    width: int
    exact: bool
    step: tuple[int, int] = (1, 1)


def possible_sizes(model: onnx.ModelProto, name: str, end: str, nominal: Sequence[int]) -> Sizes:
    """Find the pictures for which an end has a pixel, each axis by itself.

    model: a forward graph.
    name: the input.
    end: the tensor.
    nominal: the declared shape of the input, (N, C, H, W).

    Only this size is possible, for example, after an InnerProduct; only multiples of a number are where a net cuts its
    feature maps into windows, or adds enlarged ones. Returns (1, 1, False) for a net that fits together at no size that
    is tried here: running it will tell.
    """
    light = without_weights(model)
    n, c, *size = nominal

    def fits(h, w):
        return end_shape(light, name, end, (n, c, h, w)) is not None

    def along(axis, base):
        return lambda n: fits(*(n if i == axis else base[i] for i in range(2)))

    large = [LARGE, LARGE]
    if fits(*large) and all(fits(LARGE - d, LARGE - d) for d in TRIED):
        return Sizes(*(_first(along(axis, large), LARGE, 1) for axis in range(2)), False)
    for base, sign in ((size, 1), (large, -1)):
        if not fits(*base):
            continue
        steps = [_step(along(axis, base), base[axis], sign) for axis in range(2)]
        if None not in steps:
            low = (_first(along(axis, base), base[axis], steps[axis]) for axis in range(2))
            return Sizes(*low, False, tuple(steps))
        if base is size and any(n.op_type in FIXING for n in light.graph.node):
            return Sizes(*size, True)
    return Sizes(1, 1, False)


def _step(fits, base, sign):
    """Return the distance between two sizes that fit, or None. fits: tells whether a size does; base: one that does."""
    if sign > 0 and not fits(base + math.lcm(base, 256)):      # a multiple of all steps
        return None
    steps = sorted({d for d in range(1, base + 1) if base % d == 0} | {2 ** i for i in range(9)})
    far = [FAR_AWAY] if sign > 0 else []
    return next((d for d in steps if (sign > 0 or base > 5 * d)
                 and all(fits(base + sign * d * k) for k in (1, 2, 3, *far))), None)


def _first(fits, base, step):
    """Return the smallest size that fits. base: one that does; step: the distance to the next one."""
    small, large = -1, (base - 1) // step       # too small, large enough: numbers of steps after the smallest one
    start = base - large * step
    while large - small > 1:
        middle = (small + large) // 2
        small, large = (small, middle) if fits(start + middle * step) else (middle, large)
    return start + large * step
