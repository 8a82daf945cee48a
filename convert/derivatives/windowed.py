"""The derivatives of operators that move a window over a picture: convolution and pooling.

They are entries of the table in table.py. Sizes are computed from the picture inside the graph, so that it is as
dynamic as the model. `before` and `after` always mean padding.
"""
from __future__ import annotations

import math

import numpy as np

from ..graph import Tensor
from ..graph.windows import Window
from .node import Node


# ---- convolution

def conv(node, dy, y, x, *_):
    """Each output contributes to the pixels of its window: a transposed convolution."""
    weights = node.value(1)
    return transposed(node, dy, x, weights, node.window(weights.shape[2:]), node.attr.get("group", 1))


def transposed(node: Node, dy: Tensor, x: Tensor, weights: np.ndarray, window: Window, group: int) -> Tensor:
    """Build the gradient of a convolution as a transposed convolution of dy, cut to the size of the picture.

    node: the convolution, or a pooling that is one.
    dy: the gradient with respect to its output.
    x: its input.
    weights: (out, in / group, *kernel).
    window, group: those of the convolution.
    """
    n = len(window.kernel)
    full = node.g.op("ConvTranspose", dy, node.constant(weights, "weights back"), strides=window.stride,
                     dilations=window.dilation, group=group, kernel_shape=window.kernel)
    # rounding down may leave pixels after the last window: add one stride
    full = node.g.op("Pad", full, [0] * (n + 2) + [0, 0] + [s - 1 for s in window.stride])
    size = node.g.shape(x, start=2)
    return node.g.slice(full, range(2, 2 + n), window.before, node.g.op("Add", size, list(window.before)))


def conv_transpose(node, dy, y, x, *_):
    """A convolution with the same weights: (in, out / group, *kernel) is (out, in / group, *kernel) for it."""
    weights = node.value(1)
    window = node.window(weights.shape[2:])
    if node.attr.get("output_shape"):
        raise node.error("output_shape is not supported; use pads and output_padding")
    return node.g.op("Conv", dy, node.constant(weights, "weights back"), group=node.attr.get("group", 1),
                     strides=window.stride, dilations=window.dilation, pads=window.pads)


# ---- average pooling

def average_pool(node, dy, y, x, *_):
    """dy is divided by the number of pixels that were counted, and goes to every pixel of the window."""
    dy, weights, window = averaged(node, dy, x)
    return transposed(node, dy, x, weights, window, len(weights))


def averaged(node: Node, dy: Tensor, x: Tensor) -> tuple[Tensor, np.ndarray, Window]:
    """Write an average pooling as a convolution.

    node: the pooling.
    dy: the gradient with respect to its output.
    x: its input.

    Returns (dy with the divisors of partial windows applied, the weights of the convolution, its window).
    """
    window, channels, g = node.window(), node.channels(0), node.g
    ones = g.op("Expand", 1.0, g.op("Concat", [1, 1], g.shape(x, start=2), axis=0))
    # the divisor of each window, in units of a whole window: pixels of the picture / pixels of the window
    counted = g.op("AveragePool", ones, pads=window.pads, count_include_pad=1, kernel_shape=list(window.kernel),
                   strides=list(window.stride))
    if node.attr.get("count_include_pad", 0):
        # the node itself maps ones to pixels of the picture / pixels counted
        attr = {k: v for k, v in node.attr.items() if k != "auto_pad"}
        if "auto_pad" in node.attr:
            attr["pads"] = window.pads
        counted = g.op("Div", counted, g.op("AveragePool", ones, **attr))
    if channels * math.prod(window.kernel) > LARGEST:
        raise node.error(f"its windows make weights of {channels * math.prod(window.kernel):,} numbers")
    weights = np.full((channels, 1, *window.kernel), 1 / math.prod(window.kernel), np.float32)
    return dy / counted, weights, window


LARGEST = 1 << 25   # the maximum number of new weights


def global_average_pool(node, dy, y, x):
    n = len(node.shape(0)) - 2
    pixels = node.g.op("Cast", node.g.op("ReduceProd", node.g.shape(x, start=2), keepdims=0), to=1)
    return node.g.op("Expand", dy / pixels, node.g.shape(x)) if n else dy


# ---- max pooling

def max_pool(node, dy, y, x, *_):
    """dy goes to the first maximum of each window in row-major order (Caffe: pooling_layer.cpp, strictly greater).

    That is the first position in the first row that contains the maximum, so one axis is treated after the other.
    """
    rows, window = pooled_rows(node, y, x), node.window()
    n = len(window.kernel)
    for i in range(n):
        size = node.g.slice(node.size(0), [0], [i], [i + 1])
        dy = _to_maxima(node, dy, rows[i], rows[i + 1], size, i, window)
    return dy


def pooled_rows(node: Node, y: Tensor, x: Tensor) -> list[Tensor]:
    """Pool the input of a max pooling over fewer and fewer axes.

    node: the pooling.
    y, x: its output and its input.

    Returns [y, ..., x]: item i is x pooled over the spatial axes i, i + 1, ...
    """
    window = node.window()
    n = len(window.kernel)
    if n > 3:
        raise node.error("only up to three spatial axes are supported")
    rows = [y]
    for i in range(1, n):
        one, zero = [1] * i, [0] * i
        rows.append(node.g.op("MaxPool", x, kernel_shape=one + list(window.kernel[i:]),
                              strides=one + list(window.stride[i:]), dilations=one + list(window.dilation[i:]),
                              pads=zero + list(window.before[i:]) + zero + list(window.after[i:])))
    return [*rows, x]


def _to_maxima(node, dy, y, x, size, i, window):
    """Build the gradient of y, the maxima over windows of x along the spatial axis i."""
    g, axis, rank = node.g, 2 + i, 2 + len(window.kernel)
    kernel, stride, dilation, before, after = (getattr(window, k)[i] for k in
                                               ("kernel", "stride", "dilation", "before", "after"))
    padded = _pad(g, x, axis, rank, before, after, float(np.finfo(np.float32).min))
    taps = []
    for t in range(kernel - 1):
        at = t * dilation
        hit = g.op("Equal", g.slice(padded, [axis], [at], [at - window.reach[i]], [stride]), y)
        taps.append(g.where(hit, dy, 0.0))
        dy = g.where(hit, 0.0, dy)
    taps.append(dy)                                # what no other tap took belongs to the last one
    # rounding down may leave pixels after the last window: add one window
    dx = _place(g, taps, axis, rank, stride, dilation, int(after < stride - 1))
    return g.slice(dx, [axis], [before], g.op("Add", size, [before]) if before else size)


def _place(g, taps, axis, rank, stride, dilation, extra):
    """Add tap t of window o to the pixel o * stride + t * dilation along one axis. extra: windows to add."""
    reach = dilation * (len(taps) - 1) // stride
    phases = [[] for _ in range(stride)]
    for t, tap in enumerate(taps):
        offset, phase = divmod(t * dilation, stride)
        phases[phase].append(_pad(g, tap, axis, rank, offset, reach - offset + extra))
    phases = [g.sum(p) if p else None for p in phases]
    if stride == 1:
        return phases[0]
    zeros = next(p for p in phases if p is not None) * 0.0 if None in phases else None
    phases = [g.op("Unsqueeze", zeros if p is None else p, [axis + 1]) for p in phases]
    size = g.shape(taps[0])
    size = g.op("Concat", g.slice(size, [0], [0], [axis]), [-1], g.slice(size, [0], [axis + 1], [rank]), axis=0)
    return g.op("Reshape", g.op("Concat", *phases, axis=axis + 1), size)


def _pad(g, x, axis, rank, before, after, value=0.0):
    if before == after == 0:
        return x
    pads = [0] * 2 * rank
    pads[axis], pads[axis + rank] = before, after
    return g.op("Pad", x, pads, value)


def global_max_pool(node, dy, y, x):
    """dy goes to the first maximum in row-major order."""
    g, n = node.g, len(node.shape(0)) - 2
    flat = g.op("Reshape", x, [0, 0, -1])
    first = g.op("ArgMax", flat, axis=2, keepdims=1)
    length = g.op("Squeeze", g.shape(flat, start=2, end=3), [0])
    place = g.op("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    hit = g.op("Equal", place, first)
    dy = g.op("Reshape", dy, [0, 0, -1]) if n != 1 else dy
    return g.op("Reshape", g.where(hit, dy, 0.0), g.shape(x))
