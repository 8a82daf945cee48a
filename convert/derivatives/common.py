"""Formulas that several tables of derivatives share: sums over axes, means, and linear maps axis by axis."""
from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..graph import Tensor
from .node import Node


def text(value: object) -> object:
    """Return an attribute that is bytes as text, any other unchanged."""
    return value.decode() if isinstance(value, bytes) else value


def reduce_sum(node: Node, x: Tensor, axes: Sequence[int], keepdims: int = 1) -> Tensor:
    """Add up x over some axes."""
    return node.g.op("ReduceSum", x, list(axes), keepdims=keepdims)


def mean(node: Node, x: Tensor, axes: Sequence[int], sizes: Sequence[int | None]) -> Tensor:
    """Return the mean of x over some axes, which stay, with size 1.

    sizes: the sizes of these axes; None for a dynamic one.
    """
    total = reduce_sum(node, x, axes)
    if None not in sizes:
        return total * (1.0 / math.prod(sizes))
    return total / node.g.op("Cast", node.g.op("ReduceProd", node.g.op("Gather", node.g.shape(x), list(axes)),
                                               keepdims=0), to=1)


def reduced_axes(node: Node) -> list[int]:
    """List the axes that a reduction reduces: an attribute or its second input; all if it names none."""
    rank = len(node.shape(0))
    axes = node.attr.get("axes")
    if axes is None and node.has(1):
        axes = [int(a) for a in node.value(1)]
    return [a % rank for a in axes] if axes else [] if node.attr.get("noop_with_empty_axes", 0) else list(range(rank))


def unbroadcast(node: Node, dy: Tensor, i: int, keep: int = 0) -> Tensor:
    """Sum dy over the axes along which input i was broadcast. keep: the number of last axes that never are."""
    inputs = [j for j in range(node.inputs) if node.has(j)]
    return sum_to(node, dy, i, [node.shape(j) for j in inputs], [node.declared_shape(j) for j in inputs], keep)


def sum_to(node: Node, dy: Tensor, i: int, operands: Sequence[Sequence[int | None]],
           declared: Sequence[Sequence[int | None]], keep: int = 0) -> Tensor:
    """Sum dy, which has the shape to which the operands broadcast, down to the shape of input i.

    operands: their shapes. declared: their shapes for a picture of the declared shape, where a dynamic axis may turn
    out to have size 1, for example after a pooling over the whole picture.
    """
    rank, shape = max(map(len, operands)), node.shape(i)
    extra, known = rank - len(shape), [[d or 1 for d in s] for s in declared]
    axes = {a for mine, others in ((shape, operands), (node.declared_shape(i), known)) for a in range(rank - keep)
            if a < extra or mine[a - extra] == 1 and any(_at(s, a - rank) != 1 for s in others)}
    dy = reduce_sum(node, dy, sorted(axes)) if axes else dy
    return node.g.op("Squeeze", dy, list(range(extra))) if extra else dy


def _at(shape, axis):
    """Return the size of an axis, counted from the last one (-1); missing axes have size 1."""
    return shape[axis] if -axis <= len(shape) else 1


def back_through_axes(node: Node, dy: Tensor, x: Tensor, applied: Callable[[Tensor, int], Tensor],
                      axes: Sequence[int] = (0, 1)) -> Tensor:
    """Build the gradient of an operator that is a linear map of the rows and one of the columns of a picture.

    Each map is a matrix, and the operator itself computes it, from the identity matrix; so it is right for every size
    and in every mode. dx = R^T dy C.

    dy: (N, C, h', w').
    x: (N, C, h, w).
    applied: does to the rows of a (1, 1, n, n) picture what the operator does to a spatial axis, 0 (rows) or 1.
    axes: the spatial axes that the operator changes.
    """
    g = node.g
    for axis in axes:
        size = g.shape(x, start=2 + axis, end=3 + axis)
        square = g.op("EyeLike", g.op("ConstantOfShape", g.op("Concat", size, size, axis=0)))
        matrix = applied(g.op("Unsqueeze", square, [0, 1]), axis)
        dy = g.op("MatMul", g.op("Transpose", matrix, perm=[0, 1, 3, 2]), dy) if axis == 0 else \
            g.op("MatMul", dy, matrix)
    return dy
