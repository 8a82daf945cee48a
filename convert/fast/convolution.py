"""The gradient of a convolution by its input as another convolution, for which every runtime has fast code: the kernel
is turned round, and input and output channels change places.

Weights are NumPy arrays of shape (out, in / group, *kernel).
"""
import math

import numpy as np

NUMBERS = 1 << 25   # new weights may have so many numbers, or eight times as many as the node's own


def applies(node):
    """Are the new weights of a reasonable size? With large strides there are many zeros among them."""
    weights = node.value(1)
    return affordable(weights.shape, node.window(weights.shape[2:]), node.attr.get("group", 1))


def affordable(shape, window, group):
    if max(window.stride) == 1 or max(window.kernel) == 1:
        return True
    return math.prod(_phases_shape(shape, window, group)) <= max(NUMBERS, 8 * math.prod(shape))


def gradient(node, dy, y, x, *_):
    weights = node.value(1)
    return convolved_back(node, dy, x, weights, node.window(weights.shape[2:]), node.attr.get("group", 1))


def convolved_back(node, dy, x, weights, window, group):
    if max(window.stride) == 1:
        return _turned(node, dy, weights, window, group)
    # windows that begin in the last stride's padding: the picture is made so much larger, and cut again
    extra = [max(0, -((a - r) // s)) for r, a, s in zip(window.reach, window.after, window.stride)]
    spread = _spread if max(window.kernel) == 1 else _phases
    dx = spread(node, dy, weights, window, group, extra)
    n, before = len(window.kernel), list(window.before)
    size = node.size(0) if n == 2 else node.g.shape(x, start=2)
    return node.g.slice(dx, range(2, 2 + n), before, node.g.op("Add", size, before))


def _swapped(weights, group):
    """(out, in / group, *kernel) -> (group, in / group, out / group, *kernel)."""
    out, inner, *kernel = weights.shape
    return weights.reshape(group, out // group, inner, *kernel).swapaxes(1, 2)


def _turned(node, dy, weights, window, group):
    """Stride 1: one convolution with the kernel turned round."""
    n = len(window.kernel)
    pads = [r - p for r, p in zip(window.reach * 2, window.pads)]
    if min(pads) < 0:   # more padding than the kernel reaches over: the outputs there saw nothing of the picture
        crop = [max(0, -p) for p in pads]
        dy = node.g.slice(dy, range(2, 2 + n), crop[:n], [-q if q else 2 ** 62 for q in crop[n:]])
        pads = [max(0, p) for p in pads]
    w = np.flip(_swapped(weights, group), axis=tuple(range(3, 3 + n)))
    w = node.constant(w.reshape(-1, *w.shape[2:]), "weights back")
    return node.g.op("Conv", dy, w, group=group, pads=pads, dilations=window.dilation, kernel_shape=window.kernel,
                     strides=[1] * n)


def _spread(node, dy, weights, window, group, extra):
    """Kernel 1, stride s: a convolution, then zeros between its pixels."""
    n, g, w = len(window.kernel), node.g, _swapped(weights, group)
    channels, blocks = w.shape[0] * w.shape[1], math.prod(window.stride)
    dx = g.op("Conv", dy, node.constant(w.reshape(channels, *w.shape[2:]), "weights back"), group=group,
              pads=[0] * n + extra)
    size = g.shape(dx, start=2)
    dx = g.op("Pad", g.op("Unsqueeze", dx, [2]), [0] * (n + 3) + [0, 0, blocks - 1] + [0] * n)
    dx = g.op("Reshape", dx, g.op("Concat", [0, channels * blocks], size, axis=0))
    return _interleaved(g, dx, channels, window.stride)


def _phases(node, dy, weights, window, group, extra):
    """Stride s: a convolution of stride 1 with s^n times the channels, which are interleaved.

    With v = u + padding, the pixel x[u] meets dy[o] through the tap t of the kernel where v = o s + t d. The pixels
    v = q s + r with the same r, one phase, see the taps with t d = r (mod s), at o = q - (t d - r) / s: a small
    convolution for each phase.
    """
    w, m = _swapped(weights, group), _strides_at_once(weights.shape, window, group)
    shape = _phases_shape(weights.shape, window, group)
    phases, reach = np.zeros(shape, weights.dtype), shape[-len(window.kernel):]
    for tap in np.ndindex(*window.kernel):
        at = [t * d for t, d in zip(tap, window.dilation)]
        for half in np.ndindex(*[m] * len(at)):
            phase = tuple(a % s + h * s for a, s, h in zip(at, window.stride, half))
            place = tuple(r - m + h - a // s for a, s, h, r in zip(at, window.stride, half, reach))
            phases[(slice(None), slice(None), *phase, slice(None), *place)] = w[(..., *tap)]
    phases = phases.reshape(-1, w.shape[2], *reach)
    parts = node.layouts.parts(dy)
    if parts and parts.stride == [m] * len(reach) and all(r - b >= m for r, b in zip(reach, parts.before)):
        dx = _convolved_parts(node, parts, phases, group, m, extra)
    else:
        dx = node.g.op("Conv", dy, node.constant(phases, "weights back"), group=group, strides=[m] * len(reach),
                       pads=[r - m for r in reach] + [e + m - 1 for e in extra], kernel_shape=reach)
    steps = [m * s for s in window.stride]
    return _interleaved(node.g, dx, len(phases) // math.prod(steps), steps)


def _strides_at_once(shape, window, group):
    """Two where one block of channels holds all phases (as those of a picture's colours), for a better use of the
    processor's registers; else one."""
    return 2 if group * shape[1] * math.prod(window.stride) <= 16 else 1


def _phases_shape(shape, window, group):
    """(group, in / group, *steps, out / group, *kernel) of the weights that make all phases. shape: of the node's."""
    m = _strides_at_once(shape, window, group)
    steps = [m * s for s in window.stride]
    return (group, shape[1], *steps, shape[0] // group, *(r // s + m for r, s in zip(window.reach, window.stride)))


def _convolved_parts(node, parts, weights, group, m, extra):
    """A convolution of stride m of a picture that exists in m x m parts: each meets its share of the kernel.

    Window q begins m - reach pixels from q m: its tap t sees pixel q m + t + m - reach, which is pixel q + a of part r
    where t + m - reach + before = a m + r.
    """
    reach, shares = weights.shape[2:], []
    for i, j in np.ndindex(m, m):
        first = [(r + k - b) % m for r, k, b in zip((i, j), reach, parts.before)]      # the tap with the smallest a
        share = weights[:, :, first[0]::m, first[1]::m]
        front = [(k - m - b + r - t) // m for t, k, b, r in zip(first, reach, parts.before, (i, j))]       # -a
        back = [max(0, -((b - e) // m)) - f + k - 1 for b, e, f, k in zip(parts.before, extra, front, share.shape[2:])]
        shares.append(node.g.op("Conv", parts.grid[i][j], node.constant(share, "weights back"), group=group,
                                pads=front + back, kernel_shape=share.shape[2:]))
    return node.g.sum(shares)


def _interleaved(g, x, channels, stride):
    """(N, C s1 s2.., h, w, ..) -> (N, C, h s1, w s2, ..)."""
    n = len(stride)
    if n == 2 and stride[0] == stride[1]:
        return g.op("DepthToSpace", x, blocksize=stride[0], mode="CRD")
    size = g.shape(x, start=2)
    x = g.op("Reshape", x, g.op("Concat", [0, channels, *stride], size, axis=0))
    x = g.op("Transpose", x, perm=[0, 1] + [a for i in range(n) for a in (2 + n + i, 2 + i)])
    return g.op("Reshape", x, g.op("Concat", [0, channels], g.op("Mul", size, list(stride)), axis=0))
