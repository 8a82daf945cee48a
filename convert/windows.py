"""Derivatives of what moves a window over a picture, convolution and pooling: entries for `vjps.VJPS`, and the layouts
that they are fast in. Where Caffe defines a derivative at a kink, it is Caffe's."""
import math

import numpy as np

from .graph import Tensor, attributes

# HardSigmoid, max(0, min(1, HUGE x + NOTHING)), is a comparison that stays in float32 and in blocked layouts. NOTHING
# is lost in HUGE times the smallest x there is (4e-7); OpenVINO takes a beta of 0 for none given, which would mean 0.5.
HUGE, NOTHING = 3e38, -1e-30
MOST = 512          # of a window, a stride, a dilation: beyond it there would be nodes without end
NUMBERS = 1 << 25   # of a convolution's weights, if they are more than eight times those that it is made from


# ---- convolution

def _windows(c, kernel):
    """(strides, dilations, pads before, pads behind) of a Conv or pooling node; pads None where they depend on the
    size of the picture."""
    n = len(kernel)
    stride = list(c.attr.get("strides", [1] * n))
    dilation = list(c.attr.get("dilations", [1] * n))
    if not all(1 <= size <= MOST for size in (*kernel, *stride, *dilation)):
        raise c.error(f"windows, strides and dilations must be 1 to {MOST}")
    auto = c.attr.get("auto_pad", b"NOTSET")
    auto = auto.decode() if isinstance(auto, bytes) else auto
    if auto in ("NOTSET", "VALID"):
        pads = list(c.attr.get("pads", [0] * 2 * n)) if auto == "NOTSET" else [0] * 2 * n
    elif all(s == 1 for s in stride):
        total = [d * (k - 1) for k, d in zip(kernel, dilation)]
        small, large = [t // 2 for t in total], [t - t // 2 for t in total]
        pads = small + large if auto == "SAME_UPPER" else large + small
    else:
        raise c.error(f"auto_pad {auto} with a stride depends on the size of the picture; export with explicit pads")
    return stride, dilation, pads[:n], pads[n:]


def _swapped(weights, group):
    """(out, in / group, *k) -> (group, in / group, out / group, *k): input and output channels change places."""
    out, inner, *kernel = weights.shape
    return weights.reshape(group, out // group, inner, *kernel).swapaxes(1, 2)


def _conv_input_gradient(c, dy, x, weights, group, stride, dilation, before, behind):
    """The gradient of a convolution by its input. weights: (out, in / group, *kernel), a NumPy array."""
    n, kernel = len(stride), weights.shape[2:]
    extent = [d * (k - 1) for k, d in zip(kernel, dilation)]
    if all(s == 1 for s in stride):
        return _convolve_back(c, dy, weights, group, dilation, extent, before, behind)
    more = [max(0, -((b - e) // s)) for e, b, s in zip(extent, behind, stride)]   # windows that end in the padding
    if max(kernel) == 1:
        dx = _spread(c, dy, _swapped(weights, group), group, stride, more)
    else:
        dx = _convolve_phases(c, dy, weights, group, stride, dilation, more)
    size = c.size(0) if n == 2 else c.g.shape(x, start=2)
    return c.g.slice(dx, range(2, 2 + n), before, c.g.op("Add", size, before))


def _convolve_back(c, dy, weights, group, dilation, extent, before, behind):
    """Stride 1: a convolution with the kernel turned round and input and output channels exchanged."""
    n, kernel = len(extent), weights.shape[2:]
    pads = [e - b for e, b in zip(extent, before)] + [e - b for e, b in zip(extent, behind)]
    if min(pads) < 0:   # padding wider than the kernel's reach: those outputs saw nothing of the picture
        crop = [max(0, -p) for p in pads]
        dy = c.g.slice(dy, range(2, 2 + n), crop[:n], [-q if q else 2 ** 62 for q in crop[n:]])
        pads = [max(0, p) for p in pads]
    w = np.flip(_swapped(weights, group), axis=tuple(range(3, 3 + n)))
    w = c.constant(w.reshape(-1, *w.shape[2:]), "weights back")
    return c.g.op("Conv", dy, w, group=group, pads=pads, dilations=dilation, kernel_shape=kernel, strides=[1] * n)


def _convolve_phases(c, dy, weights, group, stride, dilation, more):
    """Stride s: a convolution of stride 1 with s^n times the channels, interleaved.

    With v = u + pad, the pixel x[u] meets dy[o] through tap t where v = o s + t d. The pixels v = q s + r of one
    phase r see the taps with t d = r (mod s), at o = q - (t d - r) / s: a small convolution for each phase.
    """
    n, kernel = len(stride), weights.shape[2:]
    w = _swapped(weights, group)
    # where one block holds all phases (those of a picture's colours) the double stride, for a better use of registers
    m = 2 if w.shape[0] * w.shape[1] * math.prod(stride) <= 16 else 1
    steps, reach = [m * s for s in stride], [d * (k - 1) // s + m for k, s, d in zip(kernel, stride, dilation)]
    shape = (*w.shape[:2], *steps, w.shape[2], *reach)
    if math.prod(shape) > max(NUMBERS, 8 * weights.size):
        raise c.error(f"its strides and dilations make weights of {math.prod(shape):,} numbers")
    phases = np.zeros(shape, weights.dtype)
    for tap in np.ndindex(*kernel):
        at = [t * d for t, d in zip(tap, dilation)]
        for half in np.ndindex(*[m] * n):
            phase = tuple(a % s + h * s for a, s, h in zip(at, stride, half))
            place = tuple(r - m + h - a // s for a, s, h, r in zip(at, stride, half, reach))
            phases[(slice(None), slice(None), *phase, slice(None), *place)] = w[(..., *tap)]
    phases = phases.reshape(-1, w.shape[2], *reach)
    if isinstance(dy, Phases) and dy.stride == [m] * n and all(k - b >= m for k, b in zip(reach, dy.before)):
        dx = _convolve_parts(c, dy, phases, group, m, more)
    else:
        dx = c.g.op("Conv", dy, c.constant(phases, "weights back"), group=group, strides=[m] * n,
                    pads=[r - m for r in reach] + [b + m - 1 for b in more], kernel_shape=reach)
    return _interleave(c.g, dx, len(phases) // math.prod(steps), steps)


def _convolve_parts(c, dy, weights, group, m, more):
    """A convolution of stride m of a picture that is there in parts, m x m of them: each meets its share of the kernel.

    Window q begins m - reach pixels from q m: its tap t sees pixel q m + t + m - reach, which is part r's pixel q + a
    where t + m - reach + before = a m + r.
    """
    reach, shares = weights.shape[2:], []
    for i, j in np.ndindex(m, m):
        first = [(r + k - b) % m for r, k, b in zip((i, j), reach, dy.before)]         # the tap with the smallest a
        share = weights[:, :, first[0]::m, first[1]::m]
        front = [(k - m - b + r - t) // m for t, k, b, r in zip(first, reach, dy.before, (i, j))]       # -a
        back = [max(0, -((b - e) // m)) - f + k - 1 for b, e, f, k in zip(dy.before, more, front, share.shape[2:])]
        shares.append(c.g.op("Conv", dy.parts[i][j], c.constant(share, "weights back"), group=group, pads=front + back,
                             kernel_shape=share.shape[2:]))
    return c.g.sum(shares)


def _spread(c, dy, w, group, stride, more):
    """Stride s, kernel 1: a convolution, then zeros between its pixels."""
    n, g = len(stride), c.g
    channels = w.shape[0] * w.shape[1]
    dx = g.op("Conv", dy, c.constant(w.reshape(channels, *w.shape[2:]), "weights back"), group=group,
              pads=[0] * n + more)
    pads = [0] * (n + 3) + [0, 0, math.prod(stride) - 1] + [0] * n
    size = g.shape(dx, start=2)
    dx = g.op("Pad", g.op("Unsqueeze", dx, [2]), pads)
    dx = g.op("Reshape", dx, g.op("Concat", [0, channels * math.prod(stride)], size, axis=0))
    return _interleave(g, dx, channels, stride)


def _interleave(g, x, channels, stride):
    """(N, C s1 s2.., h, w, ..) -> (N, C, h s1, w s2, ..)."""
    n = len(stride)
    if n == 2 and stride[0] == stride[1]:
        return g.op("DepthToSpace", x, blocksize=stride[0], mode="CRD")
    size = g.shape(x, start=2)
    x = g.op("Reshape", x, g.op("Concat", [0, channels, *stride], size, axis=0))
    x = g.op("Transpose", x, perm=[0, 1] + [a for i in range(n) for a in (2 + n + i, 2 + i)])
    return g.op("Reshape", x, g.op("Concat", [0, channels], g.op("Mul", size, list(stride)), axis=0))


def conv(c, dy, y, x, *_):
    weights = c.value(1)
    stride, dilation, before, behind = _windows(c, weights.shape[2:])
    return _conv_input_gradient(c, dy, x, weights, c.attr.get("group", 1), stride, dilation, before, behind)


def conv_transpose(c, dy, y, x, *_):
    weights = c.value(1)                        # (in, out / group, *k): as it is, the weights of the convolution back
    stride, dilation, before, behind = _windows(c, weights.shape[2:])
    if c.attr.get("output_shape"):
        raise c.error("output_shape is not supported; use pads and output_padding")
    return c.g.op("Conv", dy, c.constant(weights, "weights back"), group=c.attr.get("group", 1), strides=stride,
                  dilations=dilation, pads=[*before, *behind])


# ---- pooling

def _pool_windows(c):
    """As _windows, with ceil_mode turned into padding behind (as in convert.layers.pool_pads)."""
    kernel = list(c.attr["kernel_shape"])
    stride, dilation, before, behind = _windows(c, kernel)
    if c.attr.get("ceil_mode", 0):
        behind = [min(b + s - 1, d * (k - 1)) for b, s, k, d in zip(behind, stride, kernel, dilation)]
    return kernel, stride, dilation, before, behind


def max_pool(c, dy, y, x, *_):
    """dy goes to the first maximum of each window in row-major order (Caffe: pooling_layer.cpp, strictly greater).

    The first maximum stands in the first row that holds it, at the first place in that row: one axis after the other.
    """
    kernel, stride, dilation, before, behind = _pool_windows(c)
    if len(kernel) > 3:
        raise c.error("only up to three spatial axes are supported")
    # maxima over the axes behind the one at hand: rows[i] is x pooled over axes i, i + 1, ...
    rows = [y]
    for i in range(1, len(kernel)):
        one, zero = [1] * i, [0] * i
        rows.append(c.g.op("MaxPool", x, kernel_shape=one + kernel[i:], strides=one + stride[i:],
                           dilations=one + dilation[i:], pads=zero + before[i:] + zero + behind[i:]))
    rows.append(x)
    if len(kernel) == 2 and set(dilation) == {1} and c.rectified() and c.shape(0)[1]:
        if stride == [1, 1]:
            return _max_pool_in_place(c, dy, rows, kernel, before, behind)
        if min(stride) > 1 and all(k >= s for k, s in zip(kernel, stride)):
            return _max_pool_in_phases(c, dy, rows, kernel, stride, before, behind)
    for i in range(len(kernel)):
        size = c.g.slice(c.size(0), [0], [i], [i + 1])
        dy = _route(c, dy, rows[i], rows[i + 1], size, 2 + i, 2 + len(kernel), kernel[i], stride[i], dilation[i],
                    before[i], behind[i])
    return dy


# The gradient of max pooling in two dimensions, for x >= 0 where nothing depends on the gradient at x = 0 (a ReLU
# stands before it): zeros will do as padding, so that each tap of the windows is a depthwise convolution with a single
# 1. On the CPU onnxruntime keeps convolutions, sums, products and HardSigmoid in its blocked layout.

def _max_pool_in_place(c, dy, rows, kernel, before, behind):
    """Stride 1."""
    for i, k in enumerate(kernel):
        def tap(t):
            return tapped(c, rows[i + 1], {_on(i, t): -1}, _on(i, k, 1), (1, 1), _on(i, before[i]), _on(i, behind[i]))

        rests = _rests(c, dy, lambda: tapped(c, rows[i], {(0, 0): 1}), map(tap, range(k - 1)))
        dy, = _scatter(c, rests, 1, i, k - 1 - before[i], k - 1 - behind[i])
    return dy


def _max_pool_in_phases(c, dy, rows, kernel, stride, before, behind):
    """Larger strides: the pixels that have the same place among the strides make a picture for themselves, of the size
    of y; these are interleaved in the end. The gradient at x = 0 is 0."""
    y, x_rows, x = rows
    (kh, kw), (sh, sw) = kernel, stride
    # so many windows more that they cover all of x, and the padding behind x that makes them
    more = [max(0, -((b + 1 - k) // s)) for b, k, s in zip(behind, kernel, stride)]
    behind = [b + m * s for b, m, s in zip(behind, more, stride)]

    def pooled():
        return tapped(c, y, {(0, 0): 1}, behind=more)

    def row(t, value):
        return tapped(c, x_rows, {(t, 0): value}, (kh, 1), (sh, 1), (before[0], 0), (behind[0], more[1]))

    def column(p, t):
        return tapped(c, x, {(p, t): -1}, kernel, stride, before, behind)

    dy = tapped(c, dy, {(0, 0): 1}, behind=more)
    if not c.masked:
        dy = dy * positive(c.g, pooled())
    lines = _scatter(c, _rests(c, dy, pooled, (row(t, -1) for t in range(kh - 1))), sh, 0, (kh - 1) // sh)
    c.masks = True
    return Phases(c, [_scatter(c, _rests(c, line, lambda: row(p, 1), (column(p, t) for t in range(kw - 1))), sw, 1,
                               (kw - 1) // sw) for p, line in enumerate(lines)], before)


def _rests(c, dy, y, taps):
    """What is left of dy behind each tap of the windows: it goes to the first that is y. taps: -x. y: called for each
    tap, since onnxruntime adds two convolutions in place if nothing else reads them; a convolution, as the taps are,
    since TF32 rounds what goes through one."""
    rests = [dy]
    for tap in taps:
        rests.append(rests[-1] * positive(c.g, tap + y()))
    return rests


def _scatter(c, rests, stride, axis, before, behind=0):
    """What tap t takes of window o, rests[t] - rests[t + 1], goes to pixel o * stride + t: the pixels of each phase,
    from so many windows `before` the last tap's first on."""
    last = (len(rests) - 1) // stride
    phases = []
    for phase in range(stride):
        taken = []
        for t, rest in enumerate(rests):
            at = {_on(axis, last - tap // stride): value for tap, value in ((t, 1), (t - 1, -1))
                  if tap >= 0 and tap % stride == phase}
            if at == {_on(axis, last): 1} and before == last and behind == 0:
                taken.append(rest)
            elif at:
                taken.append(tapped(c, rest, at, _on(axis, last + 1, 1), (1, 1), _on(axis, before), _on(axis, behind)))
        phases.append(c.g.sum(taken))
    return phases


class Phases(Tensor):
    """A picture (N, C, H, W) that is also there in parts: parts[i][j] holds every pixel that has the place (i, j) among
    the strides, counted from `before` the first pixel on. What asks for the parts spares the putting together."""

    def __init__(self, c, parts, before):
        self.parts, self.stride, self.before = parts, [len(parts), len(parts[0])], before
        g, lines = c.g, []
        for line in parts:
            line = g.op("Transpose", g.op("Concat", *line, axis=1), perm=[0, 2, 3, 1])
            lines.append(g.op("Reshape", line, [0, 0, -1]))
        height = g.op("Mul", g.shape(lines[0], start=1, end=2), [len(lines)])
        dx = g.op("Reshape", g.op("Concat", *lines, axis=2), g.op("Concat", [0], height, [-1, c.shape(0)[1]], axis=0))
        dx = g.slice(dx, [1, 2], before, g.op("Add", c.size(0), before) if any(before) else c.size(0))
        super().__init__(g, channels_first(g, dx).name)


def positive(g, x):
    """1 where x > 0, else 0, for x >= 0."""
    return g.op("HardSigmoid", x, alpha=HUGE, beta=NOTHING)


def tapped(c, x, values, kernel=(1, 1), stride=(1, 1), before=(0, 0), behind=(0, 0)):
    """A depthwise convolution of few taps. values: {(i, j): value}. Borders of zeros are cut off with their padding."""
    window = np.zeros(kernel, np.float32)
    for place, value in values.items():
        window[place] = value
    before, behind = list(before), list(behind)
    for axis in range(2):
        used = np.flatnonzero(window.any(axis=1 - axis))
        front, back = min(used[0], before[axis]), min(kernel[axis] - 1 - used[-1], behind[axis])
        before[axis], behind[axis] = before[axis] - int(front), behind[axis] - int(back)
        window = window.take(range(front, kernel[axis] - back), axis)
    channels = c.shape(0)[1]
    w = np.broadcast_to(window, (channels, 1, *window.shape))
    return c.g.op("Conv", x, c.constant(w, "taps"), group=channels, strides=list(stride), pads=before + behind)


def _on(axis, value, other=0):
    """(value, other) or (other, value)."""
    return (value, other) if axis == 0 else (other, value)


def _cut(c, dx, size, axis, before):
    """`size` of dx along an axis, from `before`."""
    return c.g.slice(dx, [axis], [before], c.g.op("Add", size, [before]) if before else size)


def _route(c, dy, y, x, size, axis, rank, kernel, stride, dilation, before, behind):
    """The gradient of y = max over windows of x along one axis."""
    g = c.g
    extent = dilation * (kernel - 1)
    padded = _pad(g, x, axis, rank, before, behind, float(np.finfo(np.float32).min))
    taps = []
    for t in range(kernel - 1):
        at = t * dilation
        hit = g.op("Equal", g.slice(padded, [axis], [at], [at - extent], [stride]), y)
        taps.append(g.where(hit, dy, 0.0))
        dy = g.where(hit, 0.0, dy)
    taps.append(dy)                                # a maximum that is none of the others is the last
    # rounding down may leave pixels behind the last window: room for one window more
    dx = _place(g, taps, axis, rank, stride, dilation, int(behind < stride - 1))
    return _cut(c, dx, size, axis, before)


def _place(g, taps, axis, rank, stride, dilation, more):
    """Add up tap t of window o at o * stride + t * dilation along one axis."""
    reach = dilation * (len(taps) - 1) // stride
    phases = [[] for _ in range(stride)]
    for t, tap in enumerate(taps):
        offset, phase = divmod(t * dilation, stride)
        phases[phase].append(_pad(g, tap, axis, rank, offset, reach - offset + more))
    phases = [g.sum(p) if p else None for p in phases]
    if stride == 1:
        return phases[0]
    nothing = next(p for p in phases if p is not None) * 0.0 if None in phases else None
    phases = [g.op("Unsqueeze", nothing if p is None else p, [axis + 1]) for p in phases]
    size = g.shape(taps[0])
    size = g.op("Concat", g.slice(size, [0], [0], [axis]), [-1], g.slice(size, [0], [axis + 1], [rank]), axis=0)
    return g.op("Reshape", g.op("Concat", *phases, axis=axis + 1), size)


def _pad(g, x, axis, rank, before, behind, value=0.0):
    if before == behind == 0:
        return x
    pads = [0] * 2 * rank
    pads[axis], pads[axis + rank] = before, behind
    return g.op("Pad", x, pads, value)


def average_pool(c, dy, y, x, *_):
    """dy over the number of pixels counted, spread over the window."""
    kernel, stride, dilation, before, behind = _pool_windows(c)
    g, channels = c.g, c.shape(0)[1]
    if channels is None:
        raise c.error("the number of channels must be known")
    ones = g.op("Expand", 1.0, g.op("Concat", [1, 1], g.shape(x, start=2), axis=0))
    window = dict(kernel_shape=kernel, strides=stride)
    # what the node divided by: it maps ones to (pixels of the picture) / (pixels counted)
    inside = g.op("AveragePool", ones, pads=before + behind, count_include_pad=1, **window)   # times k^n: in picture
    if c.attr.get("count_include_pad", 0):
        mine = {k: v for k, v in c.attr.items() if k != "auto_pad"}
        if "auto_pad" in c.attr:
            mine["pads"] = before + behind
        counted = g.op("Div", inside, g.op("AveragePool", ones, **mine))
    else:
        counted = inside
    if channels * math.prod(kernel) > NUMBERS:
        raise c.error(f"its windows make weights of {channels * math.prod(kernel):,} numbers")
    weights = np.full((channels, 1, *kernel), 1 / math.prod(kernel), np.float32)
    return _conv_input_gradient(c, dy / counted, x, weights, channels, stride, dilation, before, behind)


def global_average_pool(c, dy, y, x):
    n = len(c.shape(0)) - 2
    pixels = c.g.op("Cast", c.g.op("ReduceProd", c.g.shape(x, start=2), keepdims=0), to=1)
    return c.g.op("Expand", dy / pixels, c.g.shape(x)) if n else dy


def global_max_pool(c, dy, y, x):
    """dy goes to the first maximum in row-major order."""
    g, n = c.g, len(c.shape(0)) - 2
    flat = g.op("Reshape", x, [0, 0, -1])
    first = g.op("ArgMax", flat, axis=2, keepdims=1)
    length = g.op("Squeeze", g.shape(flat, start=2, end=3), [0])
    place = g.op("Range", np.array(0, np.int64), length, np.array(1, np.int64))
    hit = g.op("Equal", place, first)
    dy = g.op("Reshape", dy, [0, 0, -1]) if n != 1 else dy
    return g.op("Reshape", g.where(hit, dy, 0.0), g.shape(x))


def channels_first(g, x):
    return g.op("Transpose", x, perm=[0, 3, 1, 2])


def had_last(g, x):
    """What `channels_first` has made x of, else None."""
    made = next((n for n in reversed(g.nodes) if n.output[0] == x.name), None)
    if made is not None and made.op_type == "Transpose" and attributes(made).get("perm") == [0, 3, 1, 2]:
        return g.tensor(made.input[0])
