"""The gradients of average pooling, and of two-dimensional max pooling of the output of a ReLU.

Average pooling is a convolution. For max pooling of x >= 0, zeros can serve as padding if nothing depends on the
gradient where x = 0. Then tap (i, j) of all windows is a convolution of each channel with a kernel of a single 1.

The order in which this module builds nodes decides how much memory the masks take. onnxruntime orders nodes by walking
back from the last one. Of the inputs of a node, it first follows the one that was built last, and computes all that
leads there; convolutions, which it builds again in its blocked layout, count as built last. So where a mask is
multiplied with another product, the mask would come first, in the middle of the forward pass, and wait for dy. The
first path of the walk must therefore reach dy over convolutions only; from then on dy is there before every mask. This
is why dy is multiplied before it is padded, and why the first phase is put last.
"""
from __future__ import annotations

import math

from ..derivatives.node import Node
from ..derivatives.windowed import LARGEST, averaged, pooled_rows
from ..graph import Tensor
from .convolution import affordable, convolved_back
from .layouts import Parts
from .taps import along, depthwise, positive


def average_applies(node: Node) -> bool:
    """Tell whether the weights of the convolution have a reasonable size."""
    window, channels = node.window(), node.shape(0)[1]
    shape = channels, 1, *window.kernel
    return channels is not None and math.prod(shape) <= LARGEST and affordable(shape, window, channels)


def average_gradient(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of an AveragePool, like an entry of the table of derivatives."""
    dy, weights, window = averaged(node, dy, x)
    return convolved_back(node, dy, x, weights, window, len(weights))


# ---- max pooling with stride 1

def max_stride_1_applies(node: Node) -> bool:
    """Tell whether it is a two-dimensional max pooling of the output of a ReLU, with stride 1."""
    return _pools_relu_output(node) and max(node.window().stride) == 1


def _pools_relu_output(node):
    window = node.window()
    return len(window.kernel) == 2 and set(window.dilation) == {1} and node.input_is_non_negative() \
        and bool(node.shape(0)[1])


def max_stride_1_gradient(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of a max pooling with stride 1, like an entry of the table of derivatives."""
    rows, window = pooled_rows(node, y, x), node.window()
    for i, k in enumerate(window.kernel):
        def tap(t):
            return depthwise(node, rows[i + 1], {along(i, t): -1}, along(i, k, 1), (1, 1), along(i, window.before[i]),
                             along(i, window.after[i]))

        remainders = _remainders(dy, lambda: depthwise(node, rows[i], {(0, 0): 1}), map(tap, range(k - 1)))
        dy, = _scatter(node, remainders, 1, i, k - 1 - window.before[i], k - 1 - window.after[i])
    return dy


# ---- max pooling with larger strides

def max_strided_applies(node: Node) -> bool:
    """Tell whether it is a two-dimensional max pooling of the output of a ReLU, with strides from 2 to the kernel's."""
    return _pools_relu_output(node) and min(node.window().stride) > 1 \
        and all(k >= s for k, s in zip(node.window().kernel, node.window().stride))


def max_strided_gradient(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of a max pooling with larger strides, like an entry of the table of derivatives.

    The pixels with the same position inside a stride form one phase, a picture of the size of y. The gradients of the
    phases are computed separately and then interleaved. The gradient where x = 0 is 0.
    """
    (y, x_rows, x), window = pooled_rows(node, y, x), node.window()
    (kh, kw), (sh, sw), before = window.kernel, window.stride, window.before
    # the number of extra windows needed to cover all of x, and the padding after x that adds them
    extra = [max(0, -((a + 1 - k) // s)) for a, k, s in zip(window.after, window.kernel, window.stride)]
    after = [a + e * s for a, e, s in zip(window.after, extra, window.stride)]

    def pooled():
        return depthwise(node, y, {(0, 0): 1}, after=extra)

    def row(t, value):
        return depthwise(node, x_rows, {(t, 0): value}, (kh, 1), (sh, 1), (before[0], 0), (after[0], extra[1]))

    def column(p, t):
        return depthwise(node, x, {(p, t): -1}, window.kernel, window.stride, before, after)

    if not node.masked:      # a product, then a convolution, see above; dy may have to enter the blocked layout first
        dy = (depthwise(node, dy, {(0, 0): 1}) if node.layouts.known_last(dy) else dy) * positive(y)
    dy = depthwise(node, dy, {(0, 0): 1}, after=extra)
    lines = _scatter(node, _remainders(dy, pooled, (row(t, -1) for t in range(kh - 1))), sh, 0, (kh - 1) // sh)
    return _assemble(node, Parts(
        [_scatter(node, _remainders(line, lambda: row(p, 1), (column(p, t) for t in range(kw - 1))), sw, 1,
                  (kw - 1) // sw) for p, line in enumerate(lines)], before))


def _assemble(node, parts):
    g, lines, before = node.g, [], list(parts.before)
    for line in reversed(parts.grid):
        line = g.op("Transpose", g.op("Concat", *line, axis=1), perm=[0, 2, 3, 1])
        lines.insert(0, g.op("Reshape", line, [0, 0, -1]))
    height = g.op("Mul", g.shape(lines[0], start=1, end=2), [len(lines)])
    dx = g.op("Reshape", g.op("Concat", *lines, axis=2),
              g.op("Concat", [0], height, [-1, node.shape(0)[1]], axis=0))
    dx = g.slice(dx, [1, 2], before, g.op("Add", node.size(0), before) if any(before) else node.size(0))
    return node.layouts.put_together(node.layouts.channels_first(dx), parts)


def _remainders(dy, y, taps):
    """Return what remains of dy after each tap of the windows, where the first tap that equals y takes all of it.

    taps: the taps of -x. y: a function that builds the maxima. It is called for each tap, since onnxruntime adds two
    convolutions in place if nothing else reads them. It must use a convolution, like the taps, since TF32 rounds the
    input of a convolution.
    """
    remainders = [dy]
    for tap in taps:
        remainders.append(remainders[-1] * positive(tap + y()))
    return remainders


def _scatter(node, remainders, stride, axis, before, after=0):
    """Build one picture for each phase, along one axis.

    Tap t takes remainders[t] - remainders[t + 1] of window o, which goes to pixel o * stride + t. Each picture begins
    `before` pixels before the last tap of the first window, and ends `after` pixels after the first tap of the last
    window.
    """
    last = (len(remainders) - 1) // stride
    phases = []
    for phase in range(stride):
        taken = []
        for t, remainder in enumerate(remainders):
            at = {along(axis, last - tap // stride): value for tap, value in ((t, 1), (t - 1, -1))
                  if tap >= 0 and tap % stride == phase}
            if at == {along(axis, last): 1} and before == last and after == 0:
                taken.append(remainder)
            elif at:
                taken.append(depthwise(node, remainder, at, along(axis, last + 1, 1), (1, 1), along(axis, before),
                                       along(axis, after)))
        phases.append(node.g.sum(taken))
    return phases
