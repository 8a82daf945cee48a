"""Local response normalization with the channels last, where the sum over channels is a pooling."""
from .taps import tapped


def applies(node):
    return len(node.shape(0)) == 4 and node.shape(0)[1] is not None


def forward(node, x):
    """y = x s^-b and its gradient, which uses the parts of y again: ONNX's LRN has no output for s.

    In s = k + a/n sum x^2 everything is counted in units of a, so that the sum needs no factor.
    """
    n, alpha, beta, k = (node.attr.get(name, usual) for name, usual in
                         (("size", None), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    unit = alpha if alpha > 0 and 0 <= k / alpha < 1e8 else 1.0
    x = _pixels(node, x)
    s = _mean_over_channels(node, x * x, (n - 1) // 2, n // 2)
    s = (s if unit == alpha else s * alpha) + k / unit
    power = _inverse_power(s, beta, unit ** -beta)
    y = node.layouts.channels_first(_picture(node, x * power))
    if "MaxPool" in node.readers:      # onnxruntime takes it into its blocked layout at once only for a convolution
        y = tapped(node, y, {(0, 0): 1})

    def gradient(node, dy, *_):
        """dx = dy s^-b - 2ab/n x sum(dy y / s)"""
        scaled = _pixels(node, dy) * power
        mean = _mean_over_channels(node, scaled * x / s, n // 2, (n - 1) // 2)
        return node.layouts.channels_first(_picture(node, scaled + x * (mean * (-2 * beta * alpha / unit))))

    return y, gradient


def _mean_over_channels(node, x, before, after):
    """The mean of so many channels before each, itself and so many after it, with zeros beyond the ends.
    x: (N H W, C)."""
    g, channels = node.g, node.shape(0)[1]
    # a line of pixels as a picture with one channel: that stays out of onnxruntime's blocked layout
    lines = g.op("Concat", [-1, 1], g.slice(node.size(0), [0], [1], [2]), [channels], axis=0)
    mean = g.op("AveragePool", g.op("Reshape", x, lines), kernel_shape=[1, before + 1 + after],
                pads=[0, before, 0, after], count_include_pad=1)
    return g.op("Reshape", mean, [-1, channels])


def _inverse_power(s, beta, factor):
    """factor s^-beta. For 3/4, which everyone uses, by roots: as exact as Pow and four times as fast."""
    g = s.graph
    return factor / g.op("Sqrt", s * g.op("Sqrt", s)) if beta == 0.75 else s ** -beta * factor


def _pixels(node, x):
    """(N, C, H, W) -> (N H W, C)."""
    return node.g.op("Reshape", node.layouts.channels_last(x), [-1, node.shape(0)[1]])


def _picture(node, x):
    """(N H W, C) -> (N, H, W, C)."""
    return node.g.op("Reshape", x, node.g.op("Concat", [-1], node.size(0), [node.shape(0)[1]], axis=0))
