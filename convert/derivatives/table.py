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

import onnx

from ..graph import Tensor
from . import indexing, normalization, reductions
from .common import text, unbroadcast
from .node import Node
from .resizing import grid_sample, resize
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
    return grad_a, grad_b, (unbroadcast(node, dy, 2) * node.attr.get("beta", 1.0) if node.needs_gradient(2) else None)


def _transposed(node, x, rank):
    return node.g.op("Transpose", x, perm=[*range(rank - 2), rank - 1, rank - 2])


def matmul(node, dy, y, a, b):
    ranks = len(node.shape(0)), len(node.shape(1))
    if min(ranks) < 2:
        raise node.error("vectors are not supported; matrices are")
    grad_a = unbroadcast(node, node.g.op("MatMul", dy, _transposed(node, b, ranks[1])), 0, keep=2) \
        if node.needs_gradient(0) else None
    grad_b = unbroadcast(node, node.g.op("MatMul", _transposed(node, a, ranks[0]), dy), 1, keep=2) \
        if node.needs_gradient(1) else None
    return grad_a, grad_b


def einsum(node, dy, y, *xs):
    """The gradient of one operand is an Einsum, too: of dy and the other operands, to the indices of that operand."""
    equation = text(node.attr["equation"]).replace(" ", "")
    left, _, result = equation.partition("->")
    terms = left.split(",")
    if "->" not in equation or "." in equation or any(len(set(t)) < len(t) for t in (*terms, result)):
        raise node.error(f"the equation {equation} is not supported; only one with ->, without ... and diagonals is")
    gradients = []
    for i, (term, x) in enumerate(zip(terms, xs)):
        if not node.needs_gradient(i):
            gradients.append(None)
            continue
        others = [j for j in range(len(xs)) if j != i]
        operands, given = [dy, *(xs[j] for j in others)], [result, *(terms[j] for j in others)]
        if not set(term) <= set("".join(given)):      # an index that is only summed over: each value gets the same
            operands, given = [*operands, node.g.op("Expand", 1.0, node.g.shape(x))], [*given, term]
        gradients.append(node.g.op("Einsum", *operands, equation=f"{','.join(given)}->{term}"))
    return tuple(gradients)


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


def depth_to_space(node, dy, y, x):
    """SpaceToDepth is the inverse. ONNX's has only the order DCR; the other one needs a permutation of channels."""
    b = node.attr["blocksize"]
    if node.attr.get("mode", b"DCR") in (b"DCR", "DCR"):
        return node.g.op("SpaceToDepth", dy, blocksize=b)
    channels = node.channels(0)
    return node.g.op("Gather", node.g.op("SpaceToDepth", dy, blocksize=b),
                     [p * (channels // (b * b)) + k for k in range(channels // (b * b)) for p in range(b * b)], axis=1)


def space_to_depth(node, dy, y, x):
    return node.g.op("DepthToSpace", dy, blocksize=node.attr["blocksize"], mode="DCR")


# ---- elementwise

def cast(node, dy, y, x):
    return node.g.op("Cast", dy, to=1)


def dropout(node, dy, y, x, *_):
    """The identity at inference."""
    if node.has(2) and node.value(2).any():
        raise node.error("training_mode is not supported")
    return dy


def binary(*gradients: Callable) -> Callable:
    """Make the entry of a binary operator from the formulas of its two gradients, functions of (dy, y, a, b)."""
    def entry(node, dy, y, a, b):
        return tuple(unbroadcast(node, f(dy, y, a, b), i) if node.needs_gradient(i) else None
                     for i, f in enumerate(gradients))
    return entry


def variadic_sum(node, dy, y, *xs):
    return tuple(unbroadcast(node, dy, i) if node.needs_gradient(i) else None for i in range(len(xs)))


def extremum(greater: bool) -> Callable:
    """Make the entry of Max or Min: a tie goes to the second operand (Caffe: eltwise_layer.cpp)."""
    def entry(node, dy, y, *xs):
        if len(xs) == 1:
            return dy
        if len(xs) > 2:
            raise node.error("only two operands are supported")
        a, b = xs
        first_wins = a > b if greater else a < b
        return (unbroadcast(node, node.g.where(first_wins, dy), 0) if node.needs_gradient(0) else None,
                unbroadcast(node, node.g.where(first_wins, 0.0, dy), 1) if node.needs_gradient(1) else None)
    return entry


def where(node, dy, y, condition, a, b):
    return (None, unbroadcast(node, node.g.where(condition, dy), 1) if node.needs_gradient(1) else None,
            unbroadcast(node, node.g.where(condition, 0.0, dy), 2) if node.needs_gradient(2) else None)


def power(node, dy, y, x, exponent):
    p = node.value(1)
    if p.size == 1:
        p = float(p.reshape(()))
        if p == 0:
            return node.g.op("Mul", dy, 0.0)
        return dy * 2.0 * x if p == 2 else dy * p * x ** (p - 1)
    return unbroadcast(node, dy * exponent * x ** (exponent - 1.0), 0)


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
    if text(node.attr.get("approximate", "none")) == "tanh":
        t = node.g.op("Tanh", math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x))
        return dy * (0.5 * (1.0 + t) + 0.5 * x * (1.0 - t * t) * math.sqrt(2 / math.pi) * (1.0 + 0.134145 * x * x))
    cdf = 0.5 * (1.0 + node.g.op("Erf", x * math.sqrt(0.5)))
    return dy * (cdf + x * node.g.op("Exp", x * x * -0.5) * (1 / math.sqrt(2 * math.pi)))


def celu(node, dy, y, x):
    """y = x, below 0 a (exp(x / a) - 1)"""
    return node.g.where(x > 0, dy, dy * (y / node.attr.get("alpha", 1.0) + 1.0))


VJPS = {
    # elementwise, one operand
    "Abs":          lambda node, dy, y, x: dy * node.g.op("Sign", x),
    "Atan":         lambda node, dy, y, x: dy / (1.0 + x * x),
    "Cast":         cast,
    "Celu":         celu,
    "Clip":         clip,
    "Cosh":         lambda node, dy, y, x: dy * node.g.op("Sinh", x),
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
    "Sinh":         lambda node, dy, y, x: dy * node.g.op("Cosh", x),
    "Softplus":     lambda node, dy, y, x: dy * node.g.op("Sigmoid", x),
    "Softsign":     lambda node, dy, y, x: dy / ((1.0 + node.g.op("Abs", x)) ** 2.0),
    "Sqrt":         lambda node, dy, y, x: dy * 0.5 / y,
    "Tan":          lambda node, dy, y, x: dy * (1.0 + y * y),
    "ThresholdedRelu": lambda node, dy, y, x: node.g.where(x > node.attr.get("alpha", 1.0), dy),
    "Tanh":         lambda node, dy, y, x: dy * (1.0 - y * y),
    # elementwise, several operands
    "Add":          binary(lambda dy, y, a, b: dy,     lambda dy, y, a, b: dy),
    "Sub":          binary(lambda dy, y, a, b: dy,     lambda dy, y, a, b: -dy),
    "Mul":          binary(lambda dy, y, a, b: dy * b, lambda dy, y, a, b: dy * a),
    "Div":          binary(lambda dy, y, a, b: dy / b, lambda dy, y, a, b: -dy * y / b),
    "Max":          extremum(True),
    "Min":          extremum(False),
    "Mod":          binary(lambda dy, y, a, b: dy,     lambda dy, y, a, b: -dy * dy.graph.op("Round", (a - y) / b)),
    "Sum":          variadic_sum,
    "Where":        where,
    # convolution, pooling, products
    "AveragePool":  average_pool,
    "Conv":         conv,
    "ConvTranspose": conv_transpose,
    "Einsum":       einsum,
    "Gemm":         gemm,
    "GlobalAveragePool": global_average_pool,
    "GlobalMaxPool": global_max_pool,
    "MatMul":       matmul,
    "MaxPool":      max_pool,
    # normalization
    "BatchNormalization": normalization.batch_normalization,
    "InstanceNormalization": normalization.instance_normalization,
    "LayerNormalization": normalization.layer_normalization,
    "LRN":          normalization.lrn,
    "LogSoftmax":   normalization.log_softmax,
    "Softmax":      normalization.softmax,
    # shapes and sums
    "Concat":       concat,
    "DepthToSpace": depth_to_space,
    "Expand":       indexing.expand,
    "Flatten":      like_input,
    "Gather":       indexing.gather,
    "GatherElements": indexing.gather_elements,
    "GatherND":     indexing.gather_nd,
    "GridSample":   grid_sample,
    "Pad":          indexing.pad,
    "ReduceL1":     reductions.l1,
    "ReduceL2":     reductions.l2,
    "ReduceLogSum": reductions.log_sum,
    "ReduceLogSumExp": reductions.log_sum_exp,
    "ReduceMax":    reductions.extremum,
    "ReduceMean":   reductions.mean,
    "ReduceMin":    reductions.extremum,
    "ReduceSum":    reductions.sum_,
    "ReduceSumSquare": reductions.sum_of_squares,
    "Reshape":      like_input,
    "Resize":       resize,
    "ScatterND":    indexing.scatter_nd,
    "Slice":        indexing.slice_,
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
