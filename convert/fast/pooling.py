"""The gradient of max pooling in two dimensions, of what a ReLU let through.

Where x >= 0 and nothing depends on the gradient at x = 0, zeros will do as padding. Then each tap of a window is a
convolution of each channel with a single 1. Average pooling is itself a convolution.
"""
import math

from ..derivatives.windowed import LARGEST, averaged, pooled_rows
from .convolution import affordable, convolved_back
from .layouts import Parts
from .taps import on, positive, tapped


def average_applies(node):
    window, channels = node.window(), node.shape(0)[1]
    shape = channels, 1, *window.kernel
    return channels is not None and math.prod(shape) <= LARGEST and affordable(shape, window, channels)


def average_gradient(node, dy, y, x, *_):
    dy, weights, window = averaged(node, dy, x)
    return convolved_back(node, dy, x, weights, window, len(weights))


# ---- max pooling with stride 1

def in_place_applies(node):
    return _rectified_picture(node) and max(node.window().stride) == 1


def _rectified_picture(node):
    window = node.window()
    return len(window.kernel) == 2 and set(window.dilation) == {1} and node.rectified() and bool(node.shape(0)[1])


def in_place(node, dy, y, x, *_):
    rows, window = pooled_rows(node, y, x), node.window()
    for i, k in enumerate(window.kernel):
        def tap(t):
            return tapped(node, rows[i + 1], {on(i, t): -1}, on(i, k, 1), (1, 1), on(i, window.before[i]),
                          on(i, window.after[i]))

        rests = _rests(dy, lambda: tapped(node, rows[i], {(0, 0): 1}), map(tap, range(k - 1)))
        dy, = _scattered(node, rests, 1, i, k - 1 - window.before[i], k - 1 - window.after[i])
    return dy


# ---- max pooling with larger strides

def in_phases_applies(node):
    return _rectified_picture(node) and min(node.window().stride) > 1 \
        and all(k >= s for k, s in zip(node.window().kernel, node.window().stride))


def in_phases(node, dy, y, x, *_):
    """The pixels that have the same place among the strides make a picture for themselves, of the size of y; in the end
    these are interleaved. The gradient at x = 0 is 0."""
    (y, x_rows, x), window = pooled_rows(node, y, x), node.window()
    (kh, kw), (sh, sw), before = window.kernel, window.stride, window.before
    # so many windows more that they cover all of x, and the padding after x that makes them
    extra = [max(0, -((a + 1 - k) // s)) for a, k, s in zip(window.after, window.kernel, window.stride)]
    after = [a + e * s for a, e, s in zip(window.after, extra, window.stride)]

    def pooled():
        return tapped(node, y, {(0, 0): 1}, after=extra)

    def row(t, value):
        return tapped(node, x_rows, {(t, 0): value}, (kh, 1), (sh, 1), (before[0], 0), (after[0], extra[1]))

    def column(p, t):
        return tapped(node, x, {(p, t): -1}, window.kernel, window.stride, before, after)

    dy = tapped(node, dy, {(0, 0): 1}, after=extra)
    if not node.masked:
        dy = dy * positive(pooled())
    lines = _scattered(node, _rests(dy, pooled, (row(t, -1) for t in range(kh - 1))), sh, 0, (kh - 1) // sh)
    return _put_together(node, Parts(
        [_scattered(node, _rests(line, lambda: row(p, 1), (column(p, t) for t in range(kw - 1))), sw, 1, (kw - 1) // sw)
         for p, line in enumerate(lines)], before))


def _put_together(node, parts):
    g, lines, before = node.g, [], list(parts.before)
    for line in parts.grid:
        line = g.op("Transpose", g.op("Concat", *line, axis=1), perm=[0, 2, 3, 1])
        lines.append(g.op("Reshape", line, [0, 0, -1]))
    height = g.op("Mul", g.shape(lines[0], start=1, end=2), [len(lines)])
    dx = g.op("Reshape", g.op("Concat", *lines, axis=2),
              g.op("Concat", [0], height, [-1, node.shape(0)[1]], axis=0))
    dx = g.slice(dx, [1, 2], before, g.op("Add", node.size(0), before) if any(before) else node.size(0))
    return node.layouts.put_together(node.layouts.channels_first(dx), parts)


def _rests(dy, y, taps):
    """What is left of dy after each tap of the windows: it goes to the first that equals y.

    taps: -x. y: called anew for each tap, since onnxruntime adds two convolutions in place if nothing else reads them;
    it is a convolution as the taps are, since TF32 rounds what goes through one.
    """
    rests = [dy]
    for tap in taps:
        rests.append(rests[-1] * positive(tap + y()))
    return rests


def _scattered(node, rests, stride, axis, before, after=0):
    """One picture for each phase, along one axis: what tap t takes of window o, rests[t] - rests[t + 1], goes to pixel
    o * stride + t. The pictures begin so many windows `before` the last tap's first."""
    last = (len(rests) - 1) // stride
    phases = []
    for phase in range(stride):
        taken = []
        for t, rest in enumerate(rests):
            at = {on(axis, last - tap // stride): value for tap, value in ((t, 1), (t - 1, -1))
                  if tap >= 0 and tap % stride == phase}
            if at == {on(axis, last): 1} and before == last and after == 0:
                taken.append(rest)
            elif at:
                taken.append(tapped(node, rest, at, on(axis, last + 1, 1), (1, 1), on(axis, before), on(axis, after)))
        phases.append(node.g.sum(taken))
    return phases
