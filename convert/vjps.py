"""Derivatives: one short entry an ONNX operator, in `VJPS` (vector-Jacobian products).

An entry is called as `entry(c, dy, y, *xs)`: `c` is the node (its attributes, what is known of its inputs), `dy` the
gradient of the objective by the node's output `y`, `xs` its inputs; all are Tensors, so an entry reads as its
formula. It returns the gradient by the first input, or a tuple, one an input, None where there is none. Gradients by
weights are not computed. Where Caffe defines a derivative at a kink, it is Caffe's.
"""
import math

import numpy as np

from .errors import ConvertError
from .graph import Tensor, attributes

HUGE = 3e38     # HardSigmoid, max(0, min(1, HUGE x)), is a comparison that stays in float32 and in blocked layouts


class Node:
    """One node while its derivative is written: g (the graph), attr (its attributes), inputs and outputs (how many).

    values, shapes: functions of a name, that give the constant array or the static shape behind it, or None.
    moving: the names that depend on the data. readers: the operators that read its output. masked: is dy 0 wherever y
    is 0? masks: do its gradients have this of themselves?
    """

    def __init__(self, graph, node, attr, values, shapes, moving, rectified, size, readers):
        self.g, self.op_type, self.name, self.attr = graph, node.op_type, node.name or node.output[0], attr
        self.inputs, self.outputs = len(node.input), len(node.output)
        self._names, self._values, self._shapes, self._moving = list(node.input), values, shapes, moving
        self._rectified, self._size, self.readers = rectified, size, readers
        self.masked = self.masks = False
        self.saved = None        # what the node's forward part keeps for its derivative

    def wants(self, i):
        """Does input i depend on the data?"""
        return i < self.inputs and self._names[i] in self._moving

    def size(self, i):
        """The spatial size of input i, (N, C, h, w), as an int64 Tensor (h, w)."""
        return self._size(self._names[i])

    def rectified(self):
        """Is the first input a ReLU's output, but for pooling, normalizing and joining?"""
        return self._rectified(self._names[0])

    def has(self, i):
        return i < self.inputs and bool(self._names[i])

    def error(self, message):
        return ConvertError(f"node '{self.name}' ({self.op_type}): no derivative: {message}")

    def value(self, i):
        """Input i as an array; an error if it is not constant."""
        array = self._values(self._names[i])
        if array is None:
            raise self.error(f"its input {i} must be constant")
        return array

    def shape(self, i):
        """The static shape of input i: ints, None for a dynamic axis; an error if even the rank is unknown."""
        shape = self._shapes(self._names[i])
        if shape is None:
            raise self.error(f"the number of axes of its input {i} is unknown")
        return shape

    def constant(self, array, what):
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")


# ---- convolution

def _windows(c, kernel):
    """(strides, dilations, pads before, pads behind) of a Conv or pooling node; pads None where they depend on the
    size of the picture."""
    n = len(kernel)
    stride = list(c.attr.get("strides", [1] * n))
    dilation = list(c.attr.get("dilations", [1] * n))
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
    phases = np.zeros((*w.shape[:2], *steps, w.shape[2], *reach), weights.dtype)
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
    if len(kernel) > 3 or c.outputs > 1:
        raise c.error("only up to three spatial axes, and no use of its Indices")
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
            return _taps(c, rows[i + 1], {_on(i, t): -1}, _on(i, k, 1), (1, 1), _on(i, before[i]), _on(i, behind[i]))

        rests = _rests(c, dy, lambda: _taps(c, rows[i], {(0, 0): 1}), map(tap, range(k - 1)))
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
        return _taps(c, y, {(0, 0): 1}, behind=more)

    def row(t, value):
        return _taps(c, x_rows, {(t, 0): value}, (kh, 1), (sh, 1), (before[0], 0), (behind[0], more[1]))

    def column(p, t):
        return _taps(c, x, {(p, t): -1}, kernel, stride, before, behind)

    dy = _taps(c, dy, {(0, 0): 1}, behind=more)
    if not c.masked:
        dy = dy * _positive(c.g, pooled())
    lines = _scatter(c, _rests(c, dy, pooled, (row(t, -1) for t in range(kh - 1))), sh, 0, (kh - 1) // sh)
    c.masks = True
    return Phases(c, [_scatter(c, _rests(c, line, lambda: row(p, 1), (column(p, t) for t in range(kw - 1))), sw, 1,
                               (kw - 1) // sw) for p, line in enumerate(lines)], before)


def _rests(c, dy, y, taps):
    """What is left of dy behind each tap of the windows: it goes to the first that is y. taps: -x. y: called for each
    tap, since onnxruntime adds two convolutions in place if nothing else reads them."""
    rests = [dy]
    for tap in taps:
        rests.append(rests[-1] * _positive(c.g, tap + y()))
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
                taken.append(_taps(c, rest, at, _on(axis, last + 1, 1), (1, 1), _on(axis, before), _on(axis, behind)))
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
        super().__init__(g, _channels_first(g, dx).name)


def _positive(g, x):
    """1 where x > 0, else 0, for x >= 0."""
    return g.op("HardSigmoid", x, alpha=HUGE, beta=0.0)


def _taps(c, x, values, kernel=(1, 1), stride=(1, 1), before=(0, 0), behind=(0, 0)):
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


# ---- products

def gemm(c, dy, y, a, b, *_):
    """y = alpha A B + beta C; A may be transposed, B constant or not."""
    alpha, trans_a, trans_b = c.attr.get("alpha", 1.0), c.attr.get("transA", 0), c.attr.get("transB", 0)
    grad_a = grad_b = None
    if c.wants(0):
        grad_a = c.g.op("Gemm", b, dy, alpha=alpha, transA=trans_b, transB=1) if trans_a \
            else c.g.op("Gemm", dy, b, alpha=alpha, transB=1 - trans_b)
    if c.wants(1):
        grad_b = c.g.op("Gemm", dy, a, alpha=alpha, transA=1, transB=trans_a) if trans_b \
            else c.g.op("Gemm", a, dy, alpha=alpha, transA=1 - trans_a)
    return grad_a, grad_b, (_unbroadcast(c, dy, 2) * c.attr.get("beta", 1.0) if c.wants(2) else None)


def _transposed(c, x, rank):
    return c.g.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def matmul(c, dy, y, a, b):
    ranks = len(c.shape(0)), len(c.shape(1))
    if min(ranks) < 2:
        raise c.error("vectors are not supported; matrices are")
    grad_a = _unbroadcast(c, c.g.op("MatMul", dy, _transposed(c, b, ranks[1])), 0, keep=2) if c.wants(0) else None
    grad_b = _unbroadcast(c, c.g.op("MatMul", _transposed(c, a, ranks[0]), dy), 1, keep=2) if c.wants(1) else None
    return grad_a, grad_b


# ---- normalization

def lrn_forward(c, x):
    """y = x s^-b with s = k + a/n sum x^2 over the window of channels, in parts that the gradient uses again: there is
    no output of LRN's for its scale. With the channels last the sum is a pooling."""
    if c.shape(0)[1] is None:
        raise c.error("the number of channels must be known")
    size, alpha, beta, k = c.attr["size"], c.attr.get("alpha", 1e-4), c.attr.get("beta", 0.75), c.attr.get("bias", 1.0)
    x = _pixels(c, x)
    s = _mean_over_channels(c, x * x, (size - 1) // 2, size // 2) + k / alpha       # s / a
    power = _inverse_power(c.g, s, beta, alpha ** -beta)
    c.saved = x, s, power
    y = _channels_first(c.g, _rows(c, x * power))
    # onnxruntime takes it into its blocked layout at once only for a convolution
    return _taps(c, y, {(0, 0): 1}) if "MaxPool" in c.readers else y


def lrn(c, dy, y, x):
    """dx = dy s^-b - 2ab/n x sum(dy y / s), summed over the windows that hold the channel."""
    x, s, power = c.saved
    size = c.attr["size"]
    scaled = _pixels(c, dy) * power
    mean = _mean_over_channels(c, scaled * x / s, size // 2, (size - 1) // 2)
    return _channels_first(c.g, _rows(c, scaled + x * (mean * (-2 * c.attr.get("beta", 0.75)))))


def _mean_over_channels(c, x, before, behind):
    """The mean of so many channels before each, itself and so many behind it, zeros beyond the ends. x: (N H W, C)."""
    channels = c.shape(0)[1]
    # a picture a row: with one channel it stays out of onnxruntime's blocked layout
    rows = c.g.op("Concat", [-1, 1], c.g.slice(c.size(0), [0], [1], [2]), [channels], axis=0)
    mean = c.g.op("AveragePool", c.g.op("Reshape", x, rows), kernel_shape=[1, before + 1 + behind],
                  pads=[0, before, 0, behind], count_include_pad=1)
    return c.g.op("Reshape", mean, [-1, channels])


def _inverse_power(g, s, beta, factor):
    """factor s^-beta. For 3/4, everyone's beta, by roots: as exact as Pow and four times as fast."""
    return factor / g.op("Sqrt", s * g.op("Sqrt", s)) if beta == 0.75 else s ** -beta * factor


def _pixels(c, x):
    """(N, C, H, W) -> (N H W, C)."""
    last = _had_last(c.g, x) or c.g.op("Transpose", x, perm=[0, 2, 3, 1])
    return c.g.op("Reshape", last, [-1, c.shape(0)[1]])


def _rows(c, x):
    """(N H W, C) -> (N, H, W, C)."""
    return c.g.op("Reshape", x, c.g.op("Concat", [-1], c.size(0), [c.shape(0)[1]], axis=0))


def _had_last(g, x):
    """What `_channels_first` has made x of, else None."""
    made = next((n for n in reversed(g.nodes) if n.output[0] == x.name), None)
    if made is not None and made.op_type == "Transpose" and attributes(made).get("perm") == [0, 3, 1, 2]:
        return g.tensor(made.input[0])


def _channels_first(g, x):
    return g.op("Transpose", x, perm=[0, 3, 1, 2])


def batch_normalization(c, dy, y, x, *_):
    """In inference a scale for each channel."""
    if c.attr.get("training_mode", 0):
        raise c.error("training_mode is not supported")
    scale, variance = c.value(1), c.value(4)
    factor = scale / np.sqrt(variance.astype(np.float64) + c.attr.get("epsilon", 1e-5))
    return dy * c.constant(factor.astype(np.float32).reshape(-1, *[1] * (len(c.shape(0)) - 2)), "factor")


def softmax(c, dy, y, x):
    axis = c.attr.get("axis", -1)
    return y * (dy - _reduce_sum(c, dy * y, [axis]))


def log_softmax(c, dy, y, x):
    axis = c.attr.get("axis", -1)
    return dy - c.g.op("Exp", y) * _reduce_sum(c, dy, [axis])


def _reduce_sum(c, x, axes, keepdims=1):
    return c.g.op("ReduceSum", x, list(axes), keepdims=keepdims)


# ---- shapes

def like_input(c, dy, y, x, *_):
    """Operators that only change the shape: back to the input's."""
    return c.g.op("Reshape", dy, c.g.shape(x))


def concat(c, dy, y, *xs):
    axis = c.attr["axis"] % len(c.shape(0))
    sizes = [c.shape(i)[axis] for i in range(len(xs))]
    if len(xs) == 1:
        return dy
    if None not in sizes:
        if sum(map(c.wants, range(len(xs)))) == 1:   # only one part is wanted: cut it out
            i = next(i for i in range(len(xs)) if c.wants(i))
            part = c.g.slice(dy, [axis], [sum(sizes[:i])], [sum(sizes[:i + 1])])
            return tuple(part if j == i else None for j in range(len(xs)))
    else:
        sizes = c.g.op("Concat", *(c.g.shape(x, start=axis, end=axis + 1) for x in xs), axis=0)
    last = _had_last(c.g, dy) if axis == 1 else None
    if last is None:
        return tuple(c.g.op("Split", dy, sizes, axis=axis, outputs=len(xs)))
    return tuple(_channels_first(c.g, part) for part in c.g.op("Split", last, sizes, axis=3, outputs=len(xs)))


def split(c, dys, ys, x, *_):
    parts = [y * 0.0 if dy is None else dy for dy, y in zip(dys, ys)]
    return c.g.op("Concat", *parts, axis=c.attr.get("axis", 0))


def transpose(c, dy, y, x):
    perm = c.attr.get("perm") or list(range(len(c.shape(0))))[::-1]
    return c.g.op("Transpose", dy, perm=[perm.index(i) for i in range(len(perm))])


def slice_(c, dy, y, x, starts, ends, *more):
    """Zeros where nothing was taken. Starts and steps constant; only steps of 1."""
    rank = len(c.shape(0))
    axes = [int(a) % rank for a in c.value(3)] if len(more) > 0 else list(range(len(c.shape(1)) and c.shape(1)[0]))
    if len(more) > 1 and any(int(s) != 1 for s in c.value(4)):
        raise c.error("only steps of 1 are supported")
    g, size, taken = c.g, c.g.shape(x), c.g.shape(y)
    # a start counts from the end where it is negative, and is held inside the axis, as the node does it
    length = g.op("Gather", size, axes)
    start = g.op("Cast", starts, to=7)
    start = g.where(g.op("Less", start, [0]), g.op("Add", start, length), start)
    start = g.op("Min", g.op("Max", start, [0]), length)
    before = g.op("ScatterElements", g.op("Mul", size, [0]), axes, start)
    return g.op("Pad", dy, g.op("Concat", before, g.op("Sub", g.op("Sub", size, taken), before), axis=0))


def pad(c, dy, y, x, pads=None, *_):
    if c.attr.get("mode", b"constant") not in (b"constant", "constant"):
        raise c.error(f"only mode constant is supported, not {c.attr['mode']}")
    rank = len(c.shape(0))
    before = [int(p) for p in c.value(1)[:rank]]
    if any(int(p) < 0 for p in c.value(1)):
        raise c.error("negative pads are not supported")
    return c.g.slice(dy, range(rank), before, c.g.op("Add", c.g.shape(x), before))


def expand(c, dy, y, x, *_):
    return _sum_to(c, dy, c.shape(0), [list(c.shape(0)), [int(d) for d in c.value(1)]])


def depth_to_space(c, dy, y, x):
    """Undone by SpaceToDepth; ONNX's knows only the order DCR, the other needs a transposition."""
    b, channels = c.attr["blocksize"], c.shape(0)[1]
    if c.attr.get("mode", b"DCR") in (b"DCR", "DCR"):
        return c.g.op("SpaceToDepth", dy, blocksize=b)
    return c.g.op("Gather", c.g.op("SpaceToDepth", dy, blocksize=b),
                  [p * (channels // (b * b)) + k for k in range(channels // (b * b)) for p in range(b * b)], axis=1)


def space_to_depth(c, dy, y, x):
    return c.g.op("DepthToSpace", dy, blocksize=c.attr["blocksize"], mode="DCR")


def _reduced_axes(c):
    rank = len(c.shape(0))
    axes = c.attr.get("axes")
    if axes is None and c.inputs > 1:
        axes = [int(a) for a in c.value(1)]
    return [a % rank for a in axes] if axes else list(range(rank))


def reduce_sum(c, dy, y, x, *_, mean=False):
    axes, g = _reduced_axes(c), c.g
    if not c.attr.get("keepdims", 1):
        dy = g.op("Unsqueeze", dy, axes)
    if mean:
        dy = dy / g.op("Cast", g.op("ReduceProd", g.op("Gather", g.shape(x), axes), keepdims=0), to=1)
    return g.op("Expand", dy, g.shape(x))


def reduce_mean(c, dy, y, x, *_):
    return reduce_sum(c, dy, y, x, mean=True)


def resize(c, dy, y, x, *_):
    """Nearest neighbour by whole factors: the sum over each block."""
    if c.attr.get("mode", b"nearest") not in (b"nearest", "nearest"):
        raise c.error("only mode nearest by whole factors is supported")
    scales = [float(s) for s in c.value(c.inputs - 1)] if c.inputs > 1 else []
    rank = len(c.shape(0))
    if len(scales) != rank or scales[:2] != [1, 1] or any(s != int(s) for s in scales):
        raise c.error(f"only whole factors on the spatial axes are supported, not {scales}")
    kernel = [int(s) for s in scales[2:]]
    return c.g.op("AveragePool", dy, kernel_shape=kernel, strides=kernel) * float(math.prod(kernel))


# ---- elementwise

def _unbroadcast(c, dy, i, keep=0):
    """Sum dy over the axes along which input i was broadcast. keep: trailing axes that never are."""
    return _sum_to(c, dy, c.shape(i), [c.shape(j) for j in range(c.inputs) if c.has(j)], keep)


def _sum_to(c, dy, shape, operands, keep=0):
    """Sum dy, of the shape that the operands broadcast to, down to `shape`."""
    rank = max(map(len, operands))
    extra = rank - len(shape)
    mine = [1] * extra + list(shape)
    operands = [[1] * (rank - len(s)) + list(s) for s in operands]
    axes = [a for a in range(rank - keep) if a < extra or mine[a] == 1 and any(s[a] != 1 for s in operands)]
    dy = _reduce_sum(c, dy, axes) if axes else dy
    return c.g.op("Squeeze", dy, list(range(extra))) if extra else dy


def binary(*gradients):
    """A binary operator from its partial derivatives, each a function of (dy, y, a, b)."""
    def entry(c, dy, y, a, b):
        return tuple(_unbroadcast(c, f(dy, y, a, b), i) if c.wants(i) else None for i, f in enumerate(gradients))
    return entry


def variadic_sum(c, dy, y, *xs):
    return tuple(_unbroadcast(c, dy, i) if c.wants(i) else None for i in range(len(xs)))


def extremum(greater):
    """Max, Min: dy goes to the first operand only where it is strictly ahead (Caffe: eltwise_layer.cpp)."""
    def entry(c, dy, y, *xs):
        if len(xs) == 1:
            return dy
        if len(xs) > 2:
            raise c.error("only two operands are supported")
        a, b = xs
        ahead = a > b if greater else a < b
        return (_unbroadcast(c, c.g.where(ahead, dy), 0) if c.wants(0) else None,
                _unbroadcast(c, c.g.where(ahead, 0.0, dy), 1) if c.wants(1) else None)
    return entry


def where(c, dy, y, condition, a, b):
    return (None, _unbroadcast(c, c.g.where(condition, dy), 1) if c.wants(1) else None,
            _unbroadcast(c, c.g.where(condition, 0.0, dy), 2) if c.wants(2) else None)


def power(c, dy, y, x, exponent):
    p = c.value(1)
    if p.size == 1:
        p = float(p.reshape(()))
        if p == 0:
            return c.g.op("Mul", dy, 0.0)
        return dy * 2.0 * x if p == 2 else dy * p * x ** (p - 1)
    return _unbroadcast(c, dy * exponent * x ** (exponent - 1.0), 0)


def clip(c, dy, y, x, low=None, high=None):
    """1 inside and at the limits (Caffe: clip_layer.cpp)."""
    inside = [test for test in (low and x >= low, high and x <= high) if test]
    for test in inside:
        dy = c.g.where(test, dy)
    return dy


def prelu(c, dy, y, x, slope):
    return c.g.where(x > 0, dy, dy * slope)


SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


def selu(c, dy, y, x):
    alpha, gamma = c.attr.get("alpha", SELU_ALPHA), c.attr.get("gamma", SELU_GAMMA)
    return c.g.where(x > 0, dy * gamma, dy * (y + alpha * gamma))


def hard_sigmoid(c, dy, y, x):
    return c.g.where((y > 0) & (y < 1), dy * c.attr.get("alpha", 0.2))


def hard_swish(c, dy, y, x):
    """x max(0, min(1, x/6 + 1/2))"""
    return c.g.where(x >= 3, dy, c.g.where(x > -3, dy * (x / 3 + 0.5)))


def gelu(c, dy, y, x):
    if c.attr.get("approximate", b"none") not in (b"none", "none"):
        raise c.error("only approximate=none is supported")
    cdf = 0.5 * (1.0 + c.g.op("Erf", x * math.sqrt(0.5)))
    return dy * (cdf + x * c.g.op("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


VJPS = {
    # elementwise, one operand
    "Abs":          lambda c, dy, y, x: dy * c.g.op("Sign", x),
    "Cast":         lambda c, dy, y, x: c.g.op("Cast", dy, to=1),
    "Clip":         clip,
    "Cos":          lambda c, dy, y, x: -dy * c.g.op("Sin", x),
    "Dropout":      lambda c, dy, y, x, *_: dy,
    "Elu":          lambda c, dy, y, x: c.g.where(x > 0, dy, dy * (y + c.attr.get("alpha", 1.0))),
    "Erf":          lambda c, dy, y, x: dy * c.g.op("Exp", -(x * x)) * (2 / math.sqrt(math.pi)),
    "Exp":          lambda c, dy, y, x: dy * y,
    "Gelu":         gelu,
    "HardSigmoid":  hard_sigmoid,
    "HardSwish":    hard_swish,
    "Identity":     lambda c, dy, y, x: dy,
    "LeakyRelu":    lambda c, dy, y, x: c.g.where(x > 0, dy, dy * c.attr.get("alpha", 0.01)),
    "Log":          lambda c, dy, y, x: dy / x,
    "Neg":          lambda c, dy, y, x: -dy,
    "PRelu":        prelu,
    "Pow":          power,
    "Reciprocal":   lambda c, dy, y, x: -dy * y * y,
    "Relu":         lambda c, dy, y, x: dy if c.masked else dy * _positive(c.g, y),
    "Selu":         selu,
    "Sigmoid":      lambda c, dy, y, x: dy * y * (1.0 - y),
    "Sin":          lambda c, dy, y, x: dy * c.g.op("Cos", x),
    "Softplus":     lambda c, dy, y, x: dy * c.g.op("Sigmoid", x),
    "Softsign":     lambda c, dy, y, x: dy / ((1.0 + c.g.op("Abs", x)) ** 2.0),
    "Sqrt":         lambda c, dy, y, x: dy * 0.5 / y,
    "Tanh":         lambda c, dy, y, x: dy * (1.0 - y * y),
    # elementwise, several operands
    "Add":          binary(lambda dy, y, a, b: dy,     lambda dy, y, a, b: dy),
    "Sub":          binary(lambda dy, y, a, b: dy,     lambda dy, y, a, b: -dy),
    "Mul":          binary(lambda dy, y, a, b: dy * b, lambda dy, y, a, b: dy * a),
    "Div":          binary(lambda dy, y, a, b: dy / b, lambda dy, y, a, b: -dy * y / b),
    "Max":          extremum(True),
    "Min":          extremum(False),
    "Sum":          variadic_sum,
    "Where":        where,
    # convolution, pooling, products
    "AveragePool":  average_pool,
    "Conv":         conv,
    "ConvTranspose": conv_transpose,
    "Gemm":         gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MatMul":       matmul,
    "MaxPool":      max_pool,
    # normalization
    "BatchNormalization": batch_normalization,
    "LRN":          lrn,
    "LogSoftmax":   log_softmax,
    "Softmax":      softmax,
    # shapes and sums
    "Concat":       concat,
    "DepthToSpace": depth_to_space,
    "Expand":       expand,
    "Flatten":      like_input,
    "Pad":          pad,
    "ReduceMean":   reduce_mean,
    "ReduceSum":    reduce_sum,
    "Reshape":      like_input,
    "Resize":       resize,
    "Slice":        slice_,
    "SpaceToDepth": space_to_depth,
    "Split":        split,
    "Squeeze":      like_input,
    "Transpose":    transpose,
    "Unsqueeze":    like_input,
    "Upsample":     resize,
}

# operators whose forward part is written anew, so that the derivative can use what it computes on the way
FORWARD = {"LRN": lrn_forward}

# operators whose output is 0 where their input is, so that a gradient that is 0 there stays so
MASK_KEEPERS = {"Concat", "Dropout", "Identity", "LRN"}
