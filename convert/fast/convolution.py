"""The gradient of a convolution with respect to its input, written as another convolution, which every runtime
computes quickly: the kernel is flipped, and input and output channels are swapped.

Weights are NumPy arrays of shape (out, in / group, *kernel).
"""
from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from ..derivatives.node import Node
from ..graph import Tensor
from ..graph.windows import Window

NUMBERS = 1 << 25   # the maximum number of new weights, unless it is at most eight times the number of the node's


def applies(node: Node) -> bool:
    """Tell whether the new weights have a reasonable size. With large strides many of them are zeros."""
    weights = node.value(1)
    return affordable(weights.shape, node.window(weights.shape[2:]), node.attr.get("group", 1))


def affordable(shape: Sequence[int], window: Window, group: int) -> bool:
    """Tell the same from the shape of a convolution's weights, its window and its groups."""
    if max(window.stride) == 1 or max(window.kernel) == 1:
        return True
    phases = _phases_shape(shape, window, group, _strides_at_once(shape, window, group))
    return math.prod(phases) <= max(NUMBERS, 8 * math.prod(shape))


def gradient(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of a Conv, like an entry of the table of derivatives."""
    weights = node.value(1)
    return convolved_back(node, dy, x, weights, node.window(weights.shape[2:]), node.attr.get("group", 1))


def convolved_back(node: Node, dy: Tensor, x: Tensor, weights: np.ndarray, window: Window, group: int,
                   even: bool = False) -> Tensor:
    """Build the gradient of a convolution.

    node: the convolution, or a pooling that is one.
    dy: the gradient with respect to its output.
    x: its input.
    weights, window, group: those of the convolution.
    even: prefer pads that are the same on both sides, with a larger result that is cut.
    """
    if max(window.stride) == 1:
        return _stride_1(node, dy, weights, window, group)
    # the last windows may start beyond the picture, inside the padding: enlarge the result, and cut it again
    extra = [max(0, -((a - r) // s)) for r, a, s in zip(window.reach, window.after, window.stride)]
    spread = _spread if max(window.kernel) == 1 else _even_phases if even else _phases
    dx = spread(node, dy, weights, window, group, extra)
    n, before = len(window.kernel), list(window.before)
    size = node.size(0) if n == 2 else node.g.shape(x, start=2)
    return node.g.slice(dx, range(2, 2 + n), before, node.g.op("Add", size, before))


def _swapped(weights, group):
    """Swap channels: (out, in / group, *kernel) -> (group, in / group, out / group, *kernel)."""
    out, inner, *kernel = weights.shape
    return weights.reshape(group, out // group, inner, *kernel).swapaxes(1, 2)


def _stride_1(node, dy, weights, window, group):
    """Stride 1: one convolution with the kernel flipped."""
    n = len(window.kernel)
    pads = [r - p for r, p in zip(window.reach * 2, window.pads)]
    if min(pads) < 0:   # padding wider than the kernel: the outermost outputs do not depend on the picture
        crop = [max(0, -p) for p in pads]
        dy = node.g.slice(dy, range(2, 2 + n), crop[:n], [-q if q else 2 ** 62 for q in crop[n:]])
        pads = [max(0, p) for p in pads]
    w = np.flip(_swapped(weights, group), axis=tuple(range(3, 3 + n)))
    w = node.constant(w.reshape(-1, *w.shape[2:]), "weights back")
    return node.g.op("Conv", dy, w, group=group, pads=pads, dilations=window.dilation, kernel_shape=window.kernel,
                     strides=[1] * n)


def _spread(node, dy, weights, window, group, extra):
    """Kernel 1, stride s: a convolution, then zeros inserted between its pixels."""
    n, g, w = len(window.kernel), node.g, _swapped(weights, group)
    channels, blocks = w.shape[0] * w.shape[1], math.prod(window.stride)
    dx = g.op("Conv", dy, node.constant(w.reshape(channels, *w.shape[2:]), "weights back"), group=group,
              pads=[0] * n + extra)
    size = g.shape(dx, start=2)
    dx = g.op("Pad", g.op("Unsqueeze", dx, [2]), [0] * (n + 3) + [0, 0, blocks - 1] + [0] * n)
    dx = g.op("Reshape", dx, g.op("Concat", [0, channels * blocks], size, axis=0))
    return _interleaved(g, dx, channels, window.stride)


def _phases(node, dy, weights, window, group, extra):
    """Stride s: a convolution of stride 1 with s^n times as many channels, which are then interleaved.

    With v = u + padding, the pixel x[u] contributes to the output o through the tap t of the kernel if v = o s + t d.
    Consider the pixels v = q s + r with the same r (one phase): they use the taps with t d = r (mod s), for the outputs
    o = q - (t d - r) / s. So each phase is a small convolution of dy.
    """
    m = _strides_at_once(weights.shape, window, group)
    phases, reach = _phase_weights(weights, window, group, m)
    parts = node.layouts.parts(dy)
    if parts and parts.stride == [m] * len(reach) and all(r - b >= m for r, b in zip(reach, parts.before)):
        dx = _convolved_parts(node, parts, phases, group, m, extra)
    else:
        dx = node.g.op("Conv", dy, node.constant(phases, "weights back"), group=group, strides=[m] * len(reach),
                       pads=[r - m for r in reach] + [e + m - 1 for e in extra], kernel_shape=reach)
    steps = [m * s for s in window.stride]
    return _interleaved(node.g, dx, len(phases) // math.prod(steps), steps)


def _even_phases(node, dy, weights, window, group, extra):
    """Compute the same with one stride at a time, and with as much padding after the picture as before it."""
    phases, reach = _phase_weights(weights, window, group, 1)
    before = [r - 1 for r in reach]
    dx = node.g.op("Conv", dy, node.constant(phases, "weights back"), group=group, strides=[1] * len(reach),
                   pads=before + [max(b, e) for b, e in zip(before, extra)], kernel_shape=reach)
    return _interleaved(node.g, dx, len(phases) // math.prod(window.stride), list(window.stride))


def _phase_weights(weights, window, group, m):
    """Return the weights for all phases, m strides at a time, and the shape of their kernel."""
    w, shape = _swapped(weights, group), _phases_shape(weights.shape, window, group, m)
    phases, reach = np.zeros(shape, weights.dtype), shape[-len(window.kernel):]
    for tap in np.ndindex(*window.kernel):
        at = [t * d for t, d in zip(tap, window.dilation)]
        for half in np.ndindex(*[m] * len(at)):
            phase = tuple(a % s + h * s for a, s, h in zip(at, window.stride, half))
            position = tuple(r - m + h - a // s for a, s, h, r in zip(at, window.stride, half, reach))
            phases[(slice(None), slice(None), *phase, slice(None), *position)] = w[(..., *tap)]
    return phases.reshape(-1, w.shape[2], *reach), reach


def _strides_at_once(shape, window, group):
    """Return 2 if all phases fit into one block of channels, as for the three colours of a picture, else 1.

    Two strides at a time make better use of the processor's registers.
    """
    return 2 if group * shape[1] * math.prod(window.stride) <= 16 else 1


def _phases_shape(shape, window, group, m):
    """Return the shape of the weights for all phases, (group, in / group, *steps, out / group, *kernel).

    shape: that of the node's weights. m: how many strides are computed at a time.
    """
    steps = [m * s for s in window.stride]
    return (group, shape[1], *steps, shape[0] // group, *(r // s + m for r, s in zip(window.reach, window.stride)))


def _convolved_parts(node, parts, weights, group, m, extra):
    """Compute a convolution of stride m of a picture that exists in m x m parts: one small convolution for each part.

    Window q starts at pixel q m + m - reach. So its tap t reads pixel q m + t + m - reach, which is pixel q + a of the
    part r if t + m - reach + before = a m + r. The first part comes last, which saves memory (see `pooling`).
    """
    reach, shares = weights.shape[2:], []
    for i, j in reversed(list(np.ndindex(m, m))):
        first = [(r + k - b) % m for r, k, b in zip((i, j), reach, parts.before)]      # the tap with the smallest a
        share = weights[:, :, first[0]::m, first[1]::m]
        front = [(k - m - b + r - t) // m for t, k, b, r in zip(first, reach, parts.before, (i, j))]       # -a
        back = [max(0, -((b - e) // m)) - f + k - 1 for b, e, f, k in zip(parts.before, extra, front, share.shape[2:])]
        shares.append(node.g.op("Conv", parts.grid[i][j], node.constant(share, "weights back"), group=group,
                                pads=front + back, kernel_shape=share.shape[2:]))
    return node.g.sum(shares)


def _interleaved(g, x, channels, stride):
    """Interleave the phases: (N, C s1 s2.., h, w, ..) -> (N, C, h s1, w s2, ..)."""
    n = len(stride)
    if n == 2 and stride[0] == stride[1]:
        return g.op("DepthToSpace", x, blocksize=stride[0], mode="CRD")
    size = g.shape(x, start=2)
    x = g.op("Reshape", x, g.op("Concat", [0, channels, *stride], size, axis=0))
    x = g.op("Transpose", x, perm=[0, 1] + [a for i in range(n) for a in (2 + n + i, 2 + i)])
    return g.op("Reshape", x, g.op("Concat", [0, channels], g.op("Mul", size, list(stride)), axis=0))
