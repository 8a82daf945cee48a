"""The derivatives of reductions over axes: sums, means, norms, maxima."""
from __future__ import annotations

from collections.abc import Callable

from ..graph import Tensor
from .common import reduced_axes
from .node import Node


def sum_(node, dy, y, x, *_, mean=False):
    axes, g = reduced_axes(node), node.g
    if not axes:
        return dy
    if not node.attr.get("keepdims", 1):
        dy = g.op("Unsqueeze", dy, axes)
    if mean:
        dy = dy / g.op("Cast", g.op("ReduceProd", g.op("Gather", g.shape(x), axes), keepdims=0), to=1)
    return g.op("Expand", dy, g.shape(x))


def mean(node, dy, y, x, *_):
    return sum_(node, dy, y, x, mean=True)


def reduction(formula: Callable[[Node, Tensor, Tensor, Tensor], Tensor]) -> Callable:
    """Make the entry of a reduction from a formula of (node, dy, y, x), in which all axes are still there."""
    def entry(node, dy, y, x, *_):
        axes = reduced_axes(node)
        if not axes:
            raise node.error("without axes it is not supported")
        if not node.attr.get("keepdims", 1):
            dy, y = node.g.op("Unsqueeze", dy, axes), node.g.op("Unsqueeze", y, axes)
        return formula(node, dy, y, x)
    return entry


def _extremum(node, dy, y, x):
    """Equal maxima share dy evenly (PyTorch: amax)."""
    hit = node.g.op("Cast", node.g.op("Equal", x, y), to=1)
    return hit * (dy / node.g.op("ReduceSum", hit, reduced_axes(node), keepdims=1))


def _l2(node, dy, y, x):
    """x / y; 0 where the norm is 0, which is a kink."""
    return x * node.g.where(y > 0, dy / y)


extremum = reduction(_extremum)
l1 = reduction(lambda node, dy, y, x: dy * node.g.op("Sign", x))
l2 = reduction(_l2)
log_sum = reduction(lambda node, dy, y, x: dy / node.g.op("Exp", y) + x * 0.0)
log_sum_exp = reduction(lambda node, dy, y, x: dy * node.g.op("Exp", x - y))
sum_of_squares = reduction(lambda node, dy, y, x: dy * 2.0 * x)
