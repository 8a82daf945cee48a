"""The gradient of max pooling for CUDA: the maxima are found with their positions, and the gradients are added there.

Comparing each pixel of a window with the maximum, as on the CPU, takes many passes over the memory. Here the windows
are pooled along one axis after the other, since the first maximum in row-major order is the first one in the first row
that contains the maximum, and onnxruntime's MaxPool on CUDA visits the pixels of two axes in another order. Each
pixel belongs to at most two windows of a pooling: wide windows are pooled in several steps. So at most two numbers are
added to a zero, and the result does not depend on the order in which CUDA adds them.
"""
from __future__ import annotations

from collections.abc import Callable

from ..derivatives.node import Node
from ..graph import Tensor
from .taps import along

STEPS = 4       # the maximum number of poolings along one axis


def applies(node: Node) -> bool:
    """Tell whether it is a two-dimensional max pooling that few poolings of small windows can replace."""
    window = node.window()
    return len(window.kernel) == 2 and set(window.dilation) == {1} and node.g.opset >= 16 \
        and all(0 < len(_steps(*sizes)) <= STEPS for sizes in _axes(window))


def applies_after_relu(node: Node) -> bool:
    """Tell the same for a pooling of the output of a ReLU, where gradients of zeros do not matter."""
    return node.input_is_non_negative() and applies(node)


def forward(node: Node, x: Tensor) -> tuple[Tensor, Callable]:
    """Build a max pooling and its gradient. Returns (y, the function that builds the gradient)."""
    pooled = [(x, None)]       # (a picture, the positions of its pixels in the picture before)
    for axis in (1, 0):
        for kernel, stride, before, after in _steps(*_axes(node.window())[axis]):
            pooled.append(node.g.op("MaxPool", pooled[-1][0], outputs=2, kernel_shape=along(axis, kernel, 1),
                                    strides=along(axis, stride, 1),
                                    pads=[*along(axis, before), *along(axis, after)]))
    if len(pooled) == 1:
        return node.g.op("Identity", x), lambda node, dy, *_: dy
    return pooled[-1][0], lambda node, dy, *_: _back(node, dy, pooled)


def forward_after_relu(node: Node, x: Tensor) -> tuple[Tensor, Callable]:
    """Build the same for a pooling of the output of a ReLU, with a gradient that is 0 where x is 0."""
    y, gradient = forward(node, x)

    def masked(node, dy, y, x):
        return gradient(node, dy if node.masked else node.g.where(y > 0.0, dy), y, x)
    return y, masked


def forward_at_once(node: Node, x: Tensor) -> tuple[Tensor, Callable]:
    """Build the same as `forward_after_relu` with a single pooling.

    That is faster, but on CUDA another one of several equal maxima may be chosen, and sums are rounded in changing
    orders, so that a dream cannot be repeated bit for bit.
    """
    window = node.window()
    pooled = node.g.op("MaxPool", x, outputs=2, kernel_shape=window.kernel, strides=window.stride, pads=window.pads)
    return pooled[0], lambda node, dy, y, x: _back(node, dy if node.masked else node.g.where(y > 0.0, dy),
                                                   [(x, None), pooled])


def _back(node, dy, pooled):
    """Add dy at the maxima, through all poolings."""
    g = node.g
    for (before, _), (_, positions) in zip(pooled[-2::-1], pooled[:0:-1]):
        # a product, not a constant: onnxruntime adds in place only in memory that belongs to the run
        zeros = g.op("Reshape", g.op("Mul", before, 0.0, name="exact zeros"), [-1])
        dy = g.op("ScatterND", zeros, g.op("Reshape", positions, [-1, 1]), g.op("Reshape", dy, [-1]), reduction="add")
        dy = g.op("Reshape", dy, g.shape(before))
    return dy


def _axes(window):
    return list(zip(window.kernel, window.stride, window.before, window.after))


def _steps(kernel, stride, before, after):
    """Divide a pooling along one axis into poolings in which a pixel belongs to at most two windows.

    Returns [(kernel, stride, before, after)]: one pooling if the windows of this one overlap so little; poolings of two
    pixels if the stride is 1; else an empty list.
    """
    if kernel == 1 and stride == 1:
        return [(1, 1, 0, 0)] if not before and not after else []
    if kernel <= 2 * stride:
        return [(kernel, stride, before, after)]
    if stride > 1:
        return []
    return [(2, 1, int(i < before), int(i < after)) for i in range(kernel - 1)]
