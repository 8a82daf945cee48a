"""The derivatives of operators that change the size of a picture: Resize and Upsample."""
from __future__ import annotations

import math

import numpy as np

from ..graph.windows import MAX_WINDOW
from .common import back_through_axes, text

MAX_MATRIX = 1 << 26      # numbers in the matrix of a GridSample


def resize(node, dy, y, x, *_):
    """Sum over blocks for nearest-neighbour enlargement by whole factors; in general, the transposed matrices."""
    scales = _whole_factors(node)
    if scales is not None:
        kernel = [int(s) for s in scales[2:]]
        return node.g.op("AveragePool", dy, kernel_shape=kernel, strides=kernel) * float(math.prod(kernel))
    return _resize_by_matrices(node, dy, x)


def _whole_factors(node):
    """Return the factors of an enlargement that makes each pixel a block of equal pixels; None for any other one."""
    upsample = node.op_type == "Upsample"
    if text(node.attr.get("mode", "nearest")) != "nearest" or node.has(3) or node.attr.get("axes"):
        return None
    transform = "asymmetric" if upsample else text(node.attr.get("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if upsample else text(node.attr.get("nearest_mode", "round_prefer_floor"))
    scales = [float(s) for s in node.value(1 if upsample else 2)]
    if len(scales) != len(node.shape(0)) or scales[:2] != [1, 1] or any(s != int(s) or s > MAX_WINDOW for s in scales):
        return None
    return scales if all(_makes_blocks(int(s), transform, rounding) for s in scales[2:]) else None


def _resize_by_matrices(node, dy, x):
    g, upsample, whole = node.g, node.op_type == "Upsample", dy
    if text(node.attr.get("coordinate_transformation_mode", "half_pixel")) == "tf_crop_and_resize":
        raise node.error("coordinates tf_crop_and_resize are not supported")
    if len(node.shape(0)) != 4 or node.attr.get("axes"):
        raise node.error("only pictures of four axes are supported, and factors for all of them")
    attr, at = dict(node.attr), 3 if not upsample and node.has(3) else 1 if upsample else 2
    sizes = at == 3
    if not sizes:
        scales = [float(s) for s in node.value(at)]
        if len(scales) != 4 or scales[:2] != [1, 1]:
            raise node.error(f"only the two spatial axes may change their sizes, not by {scales}")
    elif node.is_constant(3):
        wanted, found = [int(d) for d in node.value(3)[:2]], node.declared_shape(0)[:2]
        if any(a != b for a, b in zip(wanted, found) if b is not None):
            raise node.error(f"only the two spatial axes may change their sizes, not {found} to {wanted}")

    def applied(square, axis):
        if sizes:
            length = g.shape(whole, start=2 + axis, end=3 + axis)
            along = g.op("Concat", [1, 1], length, g.shape(square, start=3), axis=0)
            return g.op("Resize", square, None, None, along, **attr)
        factors = np.float32([1, 1, scales[2 + axis], 1])
        if upsample:
            return g.op("Upsample", square, factors, **attr)
        return g.op("Resize", square, None, factors, **attr)

    return back_through_axes(node, dy, x, applied)


def grid_sample(node, dy, y, x, grid):
    """With a constant grid, a linear map of the positions. Its matrix is what comes of pictures with a single 1."""
    g = node.g
    if not node.is_constant(1) or len(node.shape(0)) != 4 or node.shape(1)[0] != 1:
        raise node.error("only a constant grid for one picture is supported")
    before, after = (math.prod(d or 1 for d in dims) for dims in (node.declared_shape(0)[2:], node.shape(1)[1:3]))
    if before * after > MAX_MATRIX:
        raise node.error(f"a matrix of {before:,} by {after:,} numbers would be needed; that is too many")
    positions = g.op("ReduceProd", g.shape(x, start=2), keepdims=1)
    single = g.op("EyeLike", g.op("ConstantOfShape", g.op("Concat", positions, positions, axis=0)))
    pictures = g.op("Reshape", single, g.op("Concat", [1, -1], g.shape(x, start=2), axis=0))
    matrix = g.op("Reshape", g.op("GridSample", pictures, grid, **node.attr), g.op("Concat", positions, [-1], axis=0))
    back = g.op("MatMul", g.op("Reshape", dy, [0, 0, -1]), g.op("Transpose", matrix, perm=[1, 0]))
    return g.op("Reshape", back, g.shape(x))


def _makes_blocks(factor, transform, rounding):
    """Does each pixel become a block of `factor` equal pixels at its own place?"""
    if transform == "align_corners":
        return factor <= 2 and rounding.startswith("round")
    if transform not in PIXEL_AT or rounding not in ROUNDINGS:
        return False
    at = PIXEL_AT[transform]
    return all(ROUNDINGS[rounding]((pixel + at) / factor - at) == 1 for pixel in range(factor, 2 * factor))


# the position of a sample inside its pixel, 0 to 1, for each way to count coordinates
PIXEL_AT = {"asymmetric": 0, "half_pixel": 0.5, "half_pixel_symmetric": 0.5, "pytorch_half_pixel": 0.5}
ROUNDINGS = {"floor": math.floor, "ceil": math.ceil, "round_prefer_floor": lambda x: math.ceil(x - 0.5),
             "round_prefer_ceil": lambda x: math.floor(x + 0.5)}
