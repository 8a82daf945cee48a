"""Derivatives: one short entry an ONNX operator, in `VJPS` (vector-Jacobian products).

An entry is called as `entry(c, dy, y, *xs)`: `c` is the node (its attributes, what is known of its inputs), `dy` the
gradient of the objective by the node's output `y`, `xs` its inputs; all are Tensors, so an entry reads as its
formula. It returns the gradient by the first input, or a tuple, one an input, None where there is none. Gradients by
weights are not computed. Where Caffe defines a derivative at a kink, it is Caffe's.
"""
import functools
import math

import numpy as np
import onnx

from .graph import REAL
from .windows import (
    MOST,
    average_pool,
    channels_first,
    conv,
    conv_transpose,
    global_average_pool,
    global_max_pool,
    had_last,
    max_pool,
    positive,
    tapped,
)

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
    if len(c.shape(0)) != 4 or c.shape(0)[1] is None:
        raise c.error("only for (N, C, H, W) with a known number of channels")
    size, alpha, beta, k = c.attr["size"], c.attr.get("alpha", 1e-4), c.attr.get("beta", 0.75), c.attr.get("bias", 1.0)
    unit = alpha if alpha > 0 and 0 <= k / alpha < 1e8 else 1.0       # in units of a the sum needs no factor
    x = _pixels(c, x)
    s = _mean_over_channels(c, x * x, (size - 1) // 2, size // 2)
    s = (s if unit == alpha else s * alpha) + k / unit
    power = _inverse_power(c.g, s, beta, unit ** -beta)
    c.saved = x, s, power, unit
    y = channels_first(c.g, _rows(c, x * power))
    # onnxruntime takes it into its blocked layout at once only for a convolution
    return tapped(c, y, {(0, 0): 1}) if "MaxPool" in c.readers else y


def lrn(c, dy, y, x):
    """dx = dy s^-b - 2ab/n x sum(dy y / s), summed over the windows that hold the channel."""
    x, s, power, unit = c.saved
    size, factor = c.attr["size"], -2 * c.attr.get("beta", 0.75) * c.attr.get("alpha", 1e-4) / unit
    scaled = _pixels(c, dy) * power
    mean = _mean_over_channels(c, scaled * x / s, size // 2, (size - 1) // 2)
    return channels_first(c.g, _rows(c, scaled + x * (mean * factor)))


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
    last = had_last(c.g, x) or c.g.op("Transpose", x, perm=[0, 2, 3, 1])
    return c.g.op("Reshape", last, [-1, c.shape(0)[1]])


def _rows(c, x):
    """(N H W, C) -> (N, H, W, C)."""
    return c.g.op("Reshape", x, c.g.op("Concat", [-1], c.size(0), [c.shape(0)[1]], axis=0))


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
    last = had_last(c.g, dy) if axis == 1 else None
    if last is None:
        return tuple(c.g.op("Split", dy, sizes, axis=axis, outputs=len(xs)))
    return tuple(channels_first(c.g, part) for part in c.g.op("Split", last, sizes, axis=3, outputs=len(xs)))


def split(c, dys, ys, x, *_):
    parts = [y * 0.0 if dy is None else dy for dy, y in zip(dys, ys)]
    return c.g.op("Concat", *parts, axis=c.attr.get("axis", 0))


def transpose(c, dy, y, x):
    perm = c.attr.get("perm") or list(range(len(c.shape(0))))[::-1]
    return c.g.op("Transpose", dy, perm=[perm.index(i) for i in range(len(perm))])


def slice_(c, dy, y, x, starts, ends, *more):
    """Zeros where nothing was taken. Axes and steps constant; only steps of 1."""
    rank = len(c.shape(0))
    if c.has(4) and any(int(s) != 1 for s in c.value(4)):
        raise c.error("only steps of 1 are supported")
    if not c.has(3) and c.shape(1) in ([], [None]):
        raise c.error("the number of its starts is unknown")
    axes = [int(a) % rank for a in c.value(3)] if c.has(3) else list(range(c.shape(1)[0]))
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
        raise c.error(f"only mode constant is supported, not {_text(c.attr['mode'])}")
    if c.has(3):
        raise c.error("only pads for all axes are supported")
    rank = len(c.shape(0))
    before = [int(p) for p in c.value(1)[:rank]]
    if any(int(p) < 0 for p in c.value(1)):
        raise c.error("negative pads are not supported")
    return c.g.slice(dy, range(rank), before, c.g.op("Add", c.g.shape(x), before))


def expand(c, dy, y, x, *_):
    target = [int(d) for d in c.value(1)]
    return _sum_to(c, dy, 0, [c.shape(0), target], [c.usual_shape(0), target])


def depth_to_space(c, dy, y, x):
    """Undone by SpaceToDepth; ONNX's knows only the order DCR, the other needs a transposition."""
    b, channels = c.attr["blocksize"], c.shape(0)[1]
    if c.attr.get("mode", b"DCR") in (b"DCR", "DCR"):
        return c.g.op("SpaceToDepth", dy, blocksize=b)
    if channels is None:
        raise c.error("the number of channels must be known")
    return c.g.op("Gather", c.g.op("SpaceToDepth", dy, blocksize=b),
                  [p * (channels // (b * b)) + k for k in range(channels // (b * b)) for p in range(b * b)], axis=1)


def space_to_depth(c, dy, y, x):
    return c.g.op("DepthToSpace", dy, blocksize=c.attr["blocksize"], mode="DCR")


def _reduced_axes(c):
    rank = len(c.shape(0))
    axes = c.attr.get("axes")
    if axes is None and c.has(1):
        axes = [int(a) for a in c.value(1)]
    return [a % rank for a in axes] if axes else [] if c.attr.get("noop_with_empty_axes", 0) else list(range(rank))


def reduce_sum(c, dy, y, x, *_, mean=False):
    axes, g = _reduced_axes(c), c.g
    if not axes:
        return dy
    if not c.attr.get("keepdims", 1):
        dy = g.op("Unsqueeze", dy, axes)
    if mean:
        dy = dy / g.op("Cast", g.op("ReduceProd", g.op("Gather", g.shape(x), axes), keepdims=0), to=1)
    return g.op("Expand", dy, g.shape(x))


def reduce_mean(c, dy, y, x, *_):
    return reduce_sum(c, dy, y, x, mean=True)


def resize(c, dy, y, x, *_):
    """Nearest neighbour by whole factors: the sum over each block."""
    upsample = c.op_type == "Upsample"
    if _text(c.attr.get("mode", "nearest")) != "nearest" or c.has(3):
        raise c.error("only mode nearest by whole factors is supported")
    transform = "asymmetric" if upsample else _text(c.attr.get("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if upsample else _text(c.attr.get("nearest_mode", "round_prefer_floor"))
    scales = [float(s) for s in c.value(1 if upsample else 2)]
    if len(scales) != len(c.shape(0)) or scales[:2] != [1, 1] or any(s != int(s) or s > MOST for s in scales):
        raise c.error(f"only whole factors on the spatial axes are supported, not {scales}")
    kernel = [int(s) for s in scales[2:]]
    if not all(_blocks(s, transform, rounding) for s in kernel):
        raise c.error(f"coordinates {transform} and {rounding} do not make each pixel a block")
    return c.g.op("AveragePool", dy, kernel_shape=kernel, strides=kernel) * float(math.prod(kernel))


def _blocks(factor, transform, rounding):
    """Does the nearest neighbour make of each pixel the `factor` pixels that stand in its place?"""
    if transform == "align_corners":
        return factor <= 2 and rounding.startswith("round")
    if transform not in PIXEL_AT or rounding not in ROUNDINGS:
        return False
    at = PIXEL_AT[transform]
    return all(ROUNDINGS[rounding]((pixel + at) / factor - at) == 1 for pixel in range(factor, 2 * factor))


# where in itself a pixel is, 0 to 1, for each way to count coordinates
PIXEL_AT = {"asymmetric": 0, "half_pixel": 0.5, "half_pixel_symmetric": 0.5, "pytorch_half_pixel": 0.5}
ROUNDINGS = {"floor": math.floor, "ceil": math.ceil, "round_prefer_floor": lambda x: math.ceil(x - 0.5),
             "round_prefer_ceil": lambda x: math.floor(x + 0.5)}


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


# ---- elementwise

def cast(c, dy, y, x):
    if c.attr["to"] not in REAL:
        raise c.error("what is rounded has no gradient")
    return c.g.op("Cast", dy, to=1)


def dropout(c, dy, y, x, *_):
    """The identity, but while training."""
    if c.has(2) and c.value(2).any():
        raise c.error("training_mode is not supported")
    return dy


def _unbroadcast(c, dy, i, keep=0):
    """Sum dy over the axes along which input i was broadcast. keep: trailing axes that never are."""
    inputs = [j for j in range(c.inputs) if c.has(j)]
    return _sum_to(c, dy, i, [c.shape(j) for j in inputs], [c.usual_shape(j) for j in inputs], keep)


def _sum_to(c, dy, i, operands, usual, keep=0):
    """Sum dy, of the shape that the operands broadcast to, down to the shape of input i. usual: the operands' shapes
    with what is known of open axes at the declared size: a pooling over all of it may leave one pixel there."""
    rank, shape = max(map(len, operands)), c.shape(i)
    extra, known = rank - len(shape), [[d or 1 for d in s] for s in usual]
    axes = {a for mine, others in ((shape, operands), (c.usual_shape(i), known)) for a in range(rank - keep)
            if a < extra or mine[a - extra] == 1 and any(_at(s, a - rank) != 1 for s in others)}
    dy = _reduce_sum(c, dy, sorted(axes)) if axes else dy
    return c.g.op("Squeeze", dy, list(range(extra))) if extra else dy


def _at(shape, axis):
    """The size of an axis, counted from the last; those before the first are 1."""
    return shape[axis] if -axis <= len(shape) else 1


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
    if _text(c.attr.get("approximate", "none")) != "none":
        raise c.error("only approximate=none is supported")
    cdf = 0.5 * (1.0 + c.g.op("Erf", x * math.sqrt(0.5)))
    return dy * (cdf + x * c.g.op("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


VJPS = {
    # elementwise, one operand
    "Abs":          lambda c, dy, y, x: dy * c.g.op("Sign", x),
    "Cast":         cast,
    "Clip":         clip,
    "Cos":          lambda c, dy, y, x: -dy * c.g.op("Sin", x),
    "Dropout":      dropout,
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
    "Relu":         lambda c, dy, y, x: dy if c.masked else dy * positive(c.g, y),
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


def input_gradients(c, dys, ys, xs):
    """The gradient by each input of a node, None where there is none. dys: by each of its outputs, None where nothing
    comes back. Raises NoDerivative."""
    entry = VJPS.get(c.op_type)
    if entry is None:
        raise c.error("it is not in the table of derivatives")
    if c.op_type != "Split":
        if any(dy is not None for dy in dys[1:]):
            raise c.error("only its first output has a derivative")
        dys, ys = dys[0], ys[0]
    found = entry(c, dys, ys, *xs)
    found = found if isinstance(found, tuple) else (found,)
    found += (None,) * (len(xs) - len(found))
    for i, gradient in enumerate(found):
        if gradient is None and c.wants(i) and _may_be_real(c.op_type, i):
            raise c.error(f"its input {i} depends on the picture; it must be constant")
    return found


@functools.lru_cache(None)
def _may_be_real(op_type, i):
    """May input i be of real numbers, and not only of whole ones or truth values?"""
    inputs = onnx.defs.get_schema(op_type).inputs
    return "tensor(float)" in inputs[min(i, len(inputs) - 1)].types
