"""The table of derivatives, `VJPS`: one vector-Jacobian product for each ONNX operator.

An entry is called as `entry(node, dy, y, *xs)`:

    node: the `Node` that is differentiated: its attributes, the shapes and constant values of its inputs.
    dy: the gradient of the objective with respect to the node's first output.
    y: that output.
    xs: the node's inputs; None for an omitted one.

dy, y and xs are Tensors, so an entry reads like its formula. It returns the gradient with respect to the first input,
or a tuple with one gradient for each input, None where there is none. (The entry of Split gets a list of gradients and
a list of outputs.) Weights get no gradients. At a kink, a derivative is what Caffe defines, where Caffe defines it.
"""
from __future__ import annotations

import functools
import math
from collections.abc import Callable, Sequence

import numpy as np
import onnx

from ..graph import REAL, Tensor
from ..graph.windows import MAX_WINDOW
from .node import Node
from .windowed import average_pool, conv, conv_transpose, global_average_pool, global_max_pool, max_pool


# ---- products

def gemm(node, dy, y, a, b, *_):
    """y = alpha A B + beta C, where A and B may be transposed."""
    alpha, trans_a, trans_b = node.attr.get("alpha", 1.0), node.attr.get("transA", 0), node.attr.get("transB", 0)
    grad_a = grad_b = None
    if node.needs_gradient(0):
        grad_a = node.g.op("Gemm", b, dy, alpha=alpha, transA=trans_b, transB=1) if trans_a \
            else node.g.op("Gemm", dy, b, alpha=alpha, transB=1 - trans_b)
    if node.needs_gradient(1):
        grad_b = node.g.op("Gemm", dy, a, alpha=alpha, transA=1, transB=trans_a) if trans_b \
            else node.g.op("Gemm", a, dy, alpha=alpha, transA=1 - trans_a)
    return grad_a, grad_b, (_unbroadcast(node, dy, 2) * node.attr.get("beta", 1.0) if node.needs_gradient(2) else None)


def _transposed(node, x, rank):
    return node.g.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def matmul(node, dy, y, a, b):
    ranks = len(node.shape(0)), len(node.shape(1))
    if min(ranks) < 2:
        raise node.error("vectors are not supported; matrices are")
    grad_a = _unbroadcast(node, node.g.op("MatMul", dy, _transposed(node, b, ranks[1])), 0, keep=2) \
        if node.needs_gradient(0) else None
    grad_b = _unbroadcast(node, node.g.op("MatMul", _transposed(node, a, ranks[0]), dy), 1, keep=2) \
        if node.needs_gradient(1) else None
    return grad_a, grad_b


# ---- normalization

def lrn(node, dy, y, x):
    """y = x s^-b, where s = k + a/n sum x^2 over a window of channels.

    dx = dy s^-b - 2ab/n x sum(dy y / s), summed over the windows that contain the channel.
    """
    n, alpha, beta = node.attr["size"], node.attr.get("alpha", 1e-4), node.attr.get("beta", 0.75)
    s = _over_channels(node, x * x, (n - 1) // 2, n // 2) * (alpha / n) + node.attr.get("bias", 1.0)
    return dy * s ** -beta - x * _over_channels(node, dy * y / s, n // 2, (n - 1) // 2) * (2 * alpha * beta / n)


def _over_channels(node, x, before, after):
    """Sum each channel with those `before` and `after` it, by a convolution with a band matrix of ones."""
    if len(node.shape(0)) != 4 or node.shape(0)[1] is None:
        raise node.error("only for (N, C, H, W) with a known number of channels")
    channel = np.arange(node.shape(0)[1])
    distance = channel - channel[:, None]
    band = np.float32((distance >= -before) & (distance <= after))
    return node.g.op("Conv", x, node.constant(band[:, :, None, None], "band"), kernel_shape=[1, 1])


def batch_normalization(node, dy, y, x, *_):
    """At inference, y is x times a factor for each channel, plus an offset."""
    if node.attr.get("training_mode", 0):
        raise node.error("training_mode is not supported")
    scale, variance = node.value(1), node.value(4)
    factor = scale / np.sqrt(variance.astype(np.float64) + node.attr.get("epsilon", 1e-5))
    return dy * node.constant(factor.astype(np.float32).reshape(-1, *[1] * (len(node.shape(0)) - 2)), "factor")


def softmax(node, dy, y, x):
    axis = node.attr.get("axis", -1)
    return y * (dy - _reduce_sum(node, dy * y, [axis]))


def log_softmax(node, dy, y, x):
    axis = node.attr.get("axis", -1)
    return dy - node.g.op("Exp", y) * _reduce_sum(node, dy, [axis])


def _reduce_sum(node, x, axes, keepdims=1):
    return node.g.op("ReduceSum", x, list(axes), keepdims=keepdims)


# ---- shapes

def like_input(node, dy, y, x, *_):
    """For operators that only change the shape: restore the shape of the input."""
    return node.g.op("Reshape", dy, node.g.shape(x))


def concat(node, dy, y, *xs):
    axis = node.attr["axis"] % len(node.shape(0))
    sizes = [node.shape(i)[axis] for i in range(len(xs))]
    if len(xs) == 1:
        return dy
    if None not in sizes:
        if sum(map(node.needs_gradient, range(len(xs)))) == 1:   # a Slice is enough for a single part
            i = next(i for i in range(len(xs)) if node.needs_gradient(i))
            part = node.g.slice(dy, [axis], [sum(sizes[:i])], [sum(sizes[:i + 1])])
            return tuple(part if j == i else None for j in range(len(xs)))
    else:
        sizes = node.g.op("Concat", *(node.g.shape(x, start=axis, end=axis + 1) for x in xs), axis=0)
    return tuple(node.g.op("Split", dy, sizes, axis=axis, outputs=len(xs)))


def split(node, dys, ys, x, *_):
    parts = [y * 0.0 if dy is None else dy for dy, y in zip(dys, ys)]
    return node.g.op("Concat", *parts, axis=node.attr.get("axis", 0))


def transpose(node, dy, y, x):
    perm = node.attr.get("perm") or list(range(len(node.shape(0))))[::-1]
    return node.g.op("Transpose", dy, perm=[perm.index(i) for i in range(len(perm))])


def slice_(node, dy, y, x, starts, ends, *_):
    """Pad with zeros where nothing was taken. Axes and steps must be constant, and steps 1."""
    rank = len(node.shape(0))
    if node.has(4) and any(int(s) != 1 for s in node.value(4)):
        raise node.error("only steps of 1 are supported")
    if not node.has(3) and node.shape(1) in ([], [None]):
        raise node.error("the number of its starts is unknown")
    axes = [int(a) % rank for a in node.value(3)] if node.has(3) else list(range(node.shape(1)[0]))
    g, size, taken = node.g, node.g.shape(x), node.g.shape(y)
    # like Slice: a negative start counts from the end, and every start is clamped to the axis
    length = g.op("Gather", size, axes)
    start = g.op("Cast", starts, to=7)
    start = g.where(g.op("Less", start, [0]), g.op("Add", start, length), start)
    start = g.op("Min", g.op("Max", start, [0]), length)
    before = g.op("ScatterElements", g.op("Mul", size, [0]), axes, start)
    return g.op("Pad", dy, g.op("Concat", before, g.op("Sub", g.op("Sub", size, taken), before), axis=0))


def pad(node, dy, y, x, pads=None, *_):
    if node.attr.get("mode", b"constant") not in (b"constant", "constant"):
        raise node.error(f"only mode constant is supported, not {_text(node.attr['mode'])}")
    if node.has(3):
        raise node.error("only pads for all axes are supported")
    rank = len(node.shape(0))
    before = [int(p) for p in node.value(1)[:rank]]
    if any(int(p) < 0 for p in node.value(1)):
        raise node.error("negative pads are not supported")
    return node.g.slice(dy, range(rank), before, node.g.op("Add", node.g.shape(x), before))


def expand(node, dy, y, x, *_):
    target = [int(d) for d in node.value(1)]
    return _sum_to(node, dy, 0, [node.shape(0), target], [node.declared_shape(0), target])


def depth_to_space(node, dy, y, x):
    """SpaceToDepth is the inverse. ONNX's has only the order DCR; the other one needs a permutation of channels."""
    b, channels = node.attr["blocksize"], node.shape(0)[1]
    if node.attr.get("mode", b"DCR") in (b"DCR", "DCR"):
        return node.g.op("SpaceToDepth", dy, blocksize=b)
    if channels is None:
        raise node.error("the number of channels must be known")
    return node.g.op("Gather", node.g.op("SpaceToDepth", dy, blocksize=b),
                     [p * (channels // (b * b)) + k for k in range(channels // (b * b)) for p in range(b * b)], axis=1)


def space_to_depth(node, dy, y, x):
    return node.g.op("DepthToSpace", dy, blocksize=node.attr["blocksize"], mode="DCR")


def _reduced_axes(node):
    rank = len(node.shape(0))
    axes = node.attr.get("axes")
    if axes is None and node.has(1):
        axes = [int(a) for a in node.value(1)]
    return [a % rank for a in axes] if axes else [] if node.attr.get("noop_with_empty_axes", 0) else list(range(rank))


def reduce_sum(node, dy, y, x, *_, mean=False):
    axes, g = _reduced_axes(node), node.g
    if not axes:
        return dy
    if not node.attr.get("keepdims", 1):
        dy = g.op("Unsqueeze", dy, axes)
    if mean:
        dy = dy / g.op("Cast", g.op("ReduceProd", g.op("Gather", g.shape(x), axes), keepdims=0), to=1)
    return g.op("Expand", dy, g.shape(x))


def reduce_mean(node, dy, y, x, *_):
    return reduce_sum(node, dy, y, x, mean=True)


def resize(node, dy, y, x, *_):
    """For nearest-neighbour enlargement by whole factors: the sum over each block."""
    upsample = node.op_type == "Upsample"
    if _text(node.attr.get("mode", "nearest")) != "nearest" or node.has(3):
        raise node.error("only mode nearest by whole factors is supported")
    transform = "asymmetric" if upsample else _text(node.attr.get("coordinate_transformation_mode", "half_pixel"))
    rounding = "floor" if upsample else _text(node.attr.get("nearest_mode", "round_prefer_floor"))
    scales = [float(s) for s in node.value(1 if upsample else 2)]
    if len(scales) != len(node.shape(0)) or scales[:2] != [1, 1] or any(s != int(s) or s > MAX_WINDOW for s in scales):
        raise node.error(f"only whole factors on the spatial axes are supported, not {scales}")
    kernel = [int(s) for s in scales[2:]]
    if not all(_makes_blocks(s, transform, rounding) for s in kernel):
        raise node.error(f"coordinates {transform} and {rounding} do not make each pixel a block")
    return node.g.op("AveragePool", dy, kernel_shape=kernel, strides=kernel) * float(math.prod(kernel))


def _makes_blocks(factor, transform, rounding):
    """Does each pixel become a block of `factor` equal pixels at its own place?"""
    if transform == "align_corners":
        return factor <= 2 and rounding.startswith("round")
    if transform not in PIXEL_AT or rounding not in ROUNDINGS:
        return False
    at = PIXEL_AT[transform]
    return all(ROUNDINGS[rounding]((pixel + at) / factor - at) == 1 for pixel in range(factor, 2 * factor))


# the position of a sample inside its pixel, 0 to 1, for each way to count coordinates
PIXEL_AT = {"asymmetric": 0, "half_pixel": 0.5, "half_pixel_symmetric": 0.5, "pytorch_half_pixel": 0.5}
ROUNDINGS = {"floor": math.floor, "ceil": math.ceil, "round_prefer_floor": lambda x: math.ceil(x - 0.5),
             "round_prefer_ceil": lambda x: math.floor(x + 0.5)}


def _text(value):
    return value.decode() if isinstance(value, bytes) else value


# ---- elementwise

def cast(node, dy, y, x):
    if node.attr["to"] not in REAL:
        raise node.error("what is rounded has no gradient")
    return node.g.op("Cast", dy, to=1)


def dropout(node, dy, y, x, *_):
    """The identity at inference."""
    if node.has(2) and node.value(2).any():
        raise node.error("training_mode is not supported")
    return dy


def _unbroadcast(node, dy, i, keep=0):
    """Sum dy over the axes along which input i was broadcast. keep: the number of last axes that never are."""
    inputs = [j for j in range(node.inputs) if node.has(j)]
    return _sum_to(node, dy, i, [node.shape(j) for j in inputs], [node.declared_shape(j) for j in inputs], keep)


def _sum_to(node, dy, i, operands, declared, keep=0):
    """Sum dy, which has the shape to which the operands broadcast, down to the shape of input i.

    operands: their shapes. declared: their shapes for a picture of the declared shape, where a dynamic axis may turn
    out to have size 1, for example after a pooling over the whole picture.
    """
    rank, shape = max(map(len, operands)), node.shape(i)
    extra, known = rank - len(shape), [[d or 1 for d in s] for s in declared]
    axes = {a for mine, others in ((shape, operands), (node.declared_shape(i), known)) for a in range(rank - keep)
            if a < extra or mine[a - extra] == 1 and any(_at(s, a - rank) != 1 for s in others)}
    dy = _reduce_sum(node, dy, sorted(axes)) if axes else dy
    return node.g.op("Squeeze", dy, list(range(extra))) if extra else dy


def _at(shape, axis):
    """Return the size of an axis, counted from the last one (-1); missing axes have size 1."""
    return shape[axis] if -axis <= len(shape) else 1


def binary(*gradients: Callable) -> Callable:
    """Make the entry of a binary operator from the formulas of its two gradients, functions of (dy, y, a, b)."""
    def entry(node, dy, y, a, b):
        return tuple(_unbroadcast(node, f(dy, y, a, b), i) if node.needs_gradient(i) else None
                     for i, f in enumerate(gradients))
    return entry


def variadic_sum(node, dy, y, *xs):
    return tuple(_unbroadcast(node, dy, i) if node.needs_gradient(i) else None for i in range(len(xs)))


def extremum(greater: bool) -> Callable:
    """Make the entry of Max or Min: a tie goes to the second operand (Caffe: eltwise_layer.cpp)."""
    def entry(node, dy, y, *xs):
        if len(xs) == 1:
            return dy
        if len(xs) > 2:
            raise node.error("only two operands are supported")
        a, b = xs
        first_wins = a > b if greater else a < b
        return (_unbroadcast(node, node.g.where(first_wins, dy), 0) if node.needs_gradient(0) else None,
                _unbroadcast(node, node.g.where(first_wins, 0.0, dy), 1) if node.needs_gradient(1) else None)
    return entry


def where(node, dy, y, condition, a, b):
    return (None, _unbroadcast(node, node.g.where(condition, dy), 1) if node.needs_gradient(1) else None,
            _unbroadcast(node, node.g.where(condition, 0.0, dy), 2) if node.needs_gradient(2) else None)


def power(node, dy, y, x, exponent):
    p = node.value(1)
    if p.size == 1:
        p = float(p.reshape(()))
        if p == 0:
            return node.g.op("Mul", dy, 0.0)
        return dy * 2.0 * x if p == 2 else dy * p * x ** (p - 1)
    return _unbroadcast(node, dy * exponent * x ** (exponent - 1.0), 0)


def clip(node, dy, y, x, low=None, high=None):
    """The derivative is 1 between the limits and at them (Caffe: clip_layer.cpp)."""
    inside = [test for test in (low and x >= low, high and x <= high) if test]
    for test in inside:
        dy = node.g.where(test, dy)
    return dy


def prelu(node, dy, y, x, slope):
    return node.g.where(x > 0, dy, dy * slope)


SELU_ALPHA, SELU_GAMMA = 1.6732632423543772, 1.0507009873554805


def selu(node, dy, y, x):
    alpha, gamma = node.attr.get("alpha", SELU_ALPHA), node.attr.get("gamma", SELU_GAMMA)
    return node.g.where(x > 0, dy * gamma, dy * (y + alpha * gamma))


def hard_sigmoid(node, dy, y, x):
    return node.g.where((y > 0) & (y < 1), dy * node.attr.get("alpha", 0.2))


def hard_swish(node, dy, y, x):
    """y = x max(0, min(1, x/6 + 1/2))"""
    return node.g.where(x >= 3, dy, node.g.where(x > -3, dy * (x / 3 + 0.5)))


def gelu(node, dy, y, x):
    if _text(node.attr.get("approximate", "none")) != "none":
        raise node.error("only approximate=none is supported")
    cdf = 0.5 * (1.0 + node.g.op("Erf", x * math.sqrt(0.5)))
    return dy * (cdf + x * node.g.op("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


VJPS = {
    # elementwise, one operand
    "Abs":          lambda node, dy, y, x: dy * node.g.op("Sign", x),
    "Cast":         cast,
    "Clip":         clip,
    "Cos":          lambda node, dy, y, x: -dy * node.g.op("Sin", x),
    "Dropout":      dropout,
    "Elu":          lambda node, dy, y, x: node.g.where(x > 0, dy, dy * (y + node.attr.get("alpha", 1.0))),
    "Erf":          lambda node, dy, y, x: dy * node.g.op("Exp", -(x * x)) * (2 / math.sqrt(math.pi)),
    "Exp":          lambda node, dy, y, x: dy * y,
    "Gelu":         gelu,
    "HardSigmoid":  hard_sigmoid,
    "HardSwish":    hard_swish,
    "Identity":     lambda node, dy, y, x: dy,
    "LeakyRelu":    lambda node, dy, y, x: node.g.where(x > 0, dy, dy * node.attr.get("alpha", 0.01)),
    "Log":          lambda node, dy, y, x: dy / x,
    "Neg":          lambda node, dy, y, x: -dy,
    "PRelu":        prelu,
    "Pow":          power,
    "Reciprocal":   lambda node, dy, y, x: -dy * y * y,
    "Relu":         lambda node, dy, y, x: node.g.where(y > 0, dy),
    "Selu":         selu,
    "Sigmoid":      lambda node, dy, y, x: dy * y * (1.0 - y),
    "Sin":          lambda node, dy, y, x: dy * node.g.op("Cos", x),
    "Softplus":     lambda node, dy, y, x: dy * node.g.op("Sigmoid", x),
    "Softsign":     lambda node, dy, y, x: dy / ((1.0 + node.g.op("Abs", x)) ** 2.0),
    "Sqrt":         lambda node, dy, y, x: dy * 0.5 / y,
    "Tanh":         lambda node, dy, y, x: dy * (1.0 - y * y),
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


def input_gradients(node: Node, dys: Sequence[Tensor | None], ys: Sequence[Tensor | None],
                    xs: Sequence[Tensor | None], entry: Callable | None = None) -> tuple[Tensor | None, ...]:
    """Build the gradients with respect to the inputs of a node.

    node: the node.
    dys: the gradients with respect to its outputs, None for an output without one.
    ys: its outputs; None for an omitted one.
    xs: its inputs; None for an omitted one.
    entry: the derivative to use; None for that of the table.

    Returns one gradient for each input, None for an input without one. Raises NoDerivative for a node that has none.
    """
    entry = entry or VJPS.get(node.op_type)
    if entry is None:
        raise node.error("it is not in the table of derivatives")
    if node.op_type != "Split":
        if any(dy is not None for dy in dys[1:]):
            raise node.error("only its first output has a derivative")
        dys, ys = dys[0], ys[0]
    found = entry(node, dys, ys, *xs)
    found = found if isinstance(found, tuple) else (found,)
    found += (None,) * (len(xs) - len(found))
    for i, gradient in enumerate(found):
        if gradient is None and node.needs_gradient(i) and _accepts_floats(node.op_type, i):
            raise node.error(f"its input {i} depends on the picture; it must be constant")
    return found


@functools.lru_cache(None)
def _accepts_floats(op_type, i):
    """Does the operator accept floating-point numbers as input i?"""
    inputs = onnx.defs.get_schema(op_type).inputs
    return "tensor(float)" in inputs[min(i, len(inputs) - 1)].types
