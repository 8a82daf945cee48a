"""Local response normalization with the channels last, where the sum over channels is a pooling."""
from __future__ import annotations

from collections.abc import Callable

from ..derivatives.node import Node
from ..graph import Tensor
from .taps import depthwise


def applies(node: Node) -> bool:
    """Tell whether the input is (N, C, H, W) with a known number of channels."""
    return len(node.shape(0)) == 4 and node.shape(0)[1] is not None


def forward(node: Node, x: Tensor) -> tuple[Tensor, Callable]:
    """Build y = x s^-b and its gradient, which reuses s (ONNX's LRN has no output for it).

    s = k + a/n sum x^2 is computed in units of a, so that the sum needs no factor.

    Returns (y, the function that builds the gradient).
    """
    n, alpha, beta, k = (node.attr.get(name, default) for name, default in
                         (("size", None), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    unit = alpha if alpha > 0 and 0 <= k / alpha < 1e8 else 1.0
    x = _pixels(node, x)
    s = _mean_over_channels(node, x * x, (n - 1) // 2, n // 2)
    s = (s if unit == alpha else s * alpha) + k / unit
    power = _inverse_power(s, beta, unit ** -beta)
    y = node.layouts.channels_first(_picture(node, x * power))
    if "MaxPool" in node.readers:      # onnxruntime converts to its blocked layout at once only for a convolution
        y = depthwise(node, y, {(0, 0): 1})

    def gradient(node, dy, *_):
        """dx = dy s^-b - 2ab/n x sum(dy y / s)"""
        scaled = _pixels(node, dy) * power
        mean = _mean_over_channels(node, scaled * x / s, n // 2, (n - 1) // 2)
        return node.layouts.channels_first(_picture(node, scaled + x * (mean * (-2 * beta * alpha / unit))))

    return y, gradient


def _mean_over_channels(node, x, before, after):
    """Average each channel with those `before` and `after` it, with zeros beyond the first and last.

    x: (N H W, C).
    """
    g, channels = node.g, node.shape(0)[1]
    # each row of pixels becomes a picture with one channel, which stays out of onnxruntime's blocked layout
    lines = g.op("Concat", [-1, 1], g.slice(node.size(0), [0], [1], [2]), [channels], axis=0)
    mean = g.op("AveragePool", g.op("Reshape", x, lines), kernel_shape=[1, before + 1 + after],
                pads=[0, before, 0, after], count_include_pad=1)
    return g.op("Reshape", mean, [-1, channels])


def _inverse_power(s, beta, factor):
    """Compute factor s^-beta. The usual 3/4 uses square roots: as exact as Pow and four times as fast."""
    g = s.graph
    return factor / g.op("Sqrt", s * g.op("Sqrt", s)) if beta == 0.75 else s ** -beta * factor


def _pixels(node, x):
    """Reshape (N, C, H, W) to (N H W, C)."""
    return node.g.op("Reshape", node.layouts.channels_last(x), [-1, node.shape(0)[1]])


def _picture(node, x):
    """Reshape (N H W, C) to (N, H, W, C)."""
    return node.g.op("Reshape", x, node.g.op("Concat", [-1], node.size(0), [node.shape(0)[1]], axis=0))
