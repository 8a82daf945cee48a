"""The derivatives of operators that pick out parts of a tensor, or put some in: Gather, Slice, Pad, Scatter."""
from __future__ import annotations

import numpy as np

from .common import back_through_axes, sum_to, text

ROUNDS = 8      # how often the same index may occur before a matrix product is used


def gather(node, dy, y, x, indices):
    """Each position gets the sum of dy over the places where it was taken."""
    g, rank = node.g, len(node.shape(0))
    axis, index_rank = node.attr.get("axis", 0) % rank, len(node.shape(1))
    if index_rank != 1:      # one axis of places
        dy = g.op("Unsqueeze", dy, [axis]) if index_rank == 0 else g.op("Reshape", dy, g.op(
            "Concat", g.shape(x, end=axis), [-1], g.shape(x, start=axis + 1), axis=0))
    size = node.shape(0)[axis]
    if size is not None and node.is_constant(1):
        taken = node.value(1).ravel()
        taken = np.where(taken < 0, taken + size, taken)
        rounds = _rounds(taken, size)
        if len(rounds) <= ROUNDS:
            # a slice of zeros after the last place, for positions that were not taken
            pads = [0] * 2 * rank
            pads[rank + axis] = 1
            padded = g.op("Pad", dy, pads)
            return g.sum([g.op("Gather", padded, node.constant(r, "places"), axis=axis) for r in rounds])
    depth = g.shape(x, start=axis, end=axis + 1)
    hot = g.op("OneHot", g.op("Reshape", indices, [-1]), depth, np.float32([0, 1]))
    if axis == rank - 1:
        return g.op("MatMul", dy, hot)
    perm = [a for a in range(rank) if a != axis] + [axis]
    back = g.op("MatMul", g.op("Transpose", dy, perm=perm), hot)
    return g.op("Transpose", back, perm=[perm.index(a) for a in range(rank)])


def _rounds(taken, size):
    """Return arrays of `size` places, so that each index is taken at most once in each; len(taken) means nowhere."""
    order = np.argsort(taken, kind="stable")
    ordered = taken[order]
    occurrence = np.arange(len(taken)) - np.searchsorted(ordered, ordered)
    rounds = []
    for r in range(int(occurrence.max(initial=-1)) + 1):
        if r > ROUNDS:
            break
        places = np.full(size, len(taken), np.int64)
        places[ordered[occurrence == r]] = order[occurrence == r]
        rounds.append(places)
    return rounds or [np.zeros(size, np.int64)]


def gather_elements(node, dy, y, x, indices):
    return node.g.op("ScatterElements", x * 0.0, indices, dy, axis=node.attr.get("axis", 0), reduction="add")


def gather_nd(node, dy, y, x, indices):
    if node.attr.get("batch_dims", 0):
        raise node.error("batch_dims are not supported")
    return node.g.op("ScatterND", x * 0.0, indices, dy, reduction="add")


def scatter_nd(node, dy, y, x, indices, updates):
    """What was overwritten gets no gradient, and what was written gets that of its place."""
    if text(node.attr.get("reduction", "none")) != "none":
        raise node.error("reductions are not supported")
    return (node.g.op("ScatterND", dy, indices, updates * 0.0) if node.needs_gradient(0) else None, None,
            node.g.op("GatherND", dy, indices) if node.needs_gradient(2) else None)


def slice_(node, dy, y, x, starts, ends, *_):
    """Pad with zeros where nothing was taken. Axes and steps must be constant."""
    rank = len(node.shape(0))
    if not node.has(3) and node.shape(1) in ([], [None]):
        raise node.error("the number of its starts is unknown")
    axes = [int(a) % rank for a in node.value(3)] if node.has(3) else list(range(node.shape(1)[0]))
    steps = [int(s) for s in node.value(4)] if node.has(4) else [1] * len(axes)
    g, size, taken = node.g, node.g.shape(x), node.g.shape(y)
    for k, (axis, step) in enumerate(zip(axes, steps)):
        if step < 0:
            dy = _put_back(g, dy, axis, g.shape(x, start=axis, end=axis + 1),
                           [*(g.op("Gather", t, [k]) for t in (starts, ends)), [0], [step]])
        elif step > 1:
            dy = _spread(g, dy, axis, rank, step)
    if any(s != 1 for s in steps):
        taken = g.shape(dy)
    if any(s < 0 for s in steps):
        kept = [k for k, step in enumerate(steps) if step > 0]
        if not kept:
            return dy
        axes, starts = [axes[k] for k in kept], g.op("Gather", starts, kept)
    # like Slice: a negative start counts from the end, and every start is clamped to the axis
    length = g.op("Gather", size, axes)
    start = g.op("Cast", starts, to=7)
    start = g.where(g.op("Less", start, [0]), g.op("Add", start, length), start)
    start = g.op("Min", g.op("Max", start, [0]), length)
    before = g.op("ScatterElements", g.op("Mul", size, [0]), axes, start)
    return g.op("Pad", dy, g.op("Concat", before, g.op("Sub", g.op("Sub", size, taken), before), axis=0))


def _put_back(g, dy, axis, length, slicing):
    """Build the gradient of a Slice with a negative step along one axis: each position gets dy from where it went.

    length: the size of the axis. slicing: the inputs of the Slice after the first, for a vector.
    """
    first = g.constant(np.array(0, np.int64), "first")
    one = g.constant(np.array(1, np.int64), "one")
    positions = g.op("Slice", g.op("Range", first, g.op("Squeeze", length, [0]), one), *slicing)
    count = g.shape(positions)
    places = g.op("ScatterElements", g.op("Expand", count, length), positions,
                  g.op("Range", first, g.op("Squeeze", count, [0]), one), axis=0)      # count: nowhere
    zero = g.op("Mul", g.op("Slice", g.op("ReduceSum", dy, [axis], keepdims=1), [0], [1], [axis]), 0.0)
    return g.op("Gather", g.op("Concat", dy, zero, axis=axis), places, axis=axis)


def _spread(g, dy, axis, rank, step):
    """Put step - 1 zeros after each position of an axis. (The last ones may lie outside; Pad takes them away.)"""
    shape = g.op("Concat", g.shape(dy, end=axis), [-1], g.shape(dy, start=axis + 1), axis=0)
    pads = [0] * 2 * (rank + 1)
    pads[rank + 1 + axis + 1] = step - 1
    return g.op("Reshape", g.op("Pad", g.op("Unsqueeze", dy, [axis + 1]), pads), shape)


def pad(node, dy, y, x, pads=None, *_):
    mode = text(node.attr.get("mode", "constant"))
    if node.has(3):
        raise node.error("only pads for all axes are supported")
    g, rank = node.g, len(node.shape(0))
    if mode != "constant":
        return _pad_by_repetition(node, dy, x, mode)
    if not node.is_constant(1) or (node.value(1) < 0).any():      # a negative pad cuts off, and its inverse pads
        return g.op("Pad", dy, g.op("Mul", pads, [-1]))
    before = [int(p) for p in node.value(1)[:rank]]
    return g.slice(dy, range(rank), before, g.op("Add", g.shape(x), before))


def _pad_by_repetition(node, dy, x, mode):
    """Modes reflect, edge and wrap: dy of the padding goes to the pixels that it repeats."""
    g, rank, pads = node.g, len(node.shape(0)), node.value(1)
    if rank != 4 or pads.reshape(2, -1)[:, :2].any():
        raise node.error(f"mode {mode} is supported on the two spatial axes of a picture only")

    def applied(square, axis):
        own = np.zeros(8, np.int64)
        own[[2, 6]] = pads[[2 + axis, 6 + axis]]
        return g.op("Pad", square, own, mode=mode)

    return back_through_axes(node, dy, x, applied)


def expand(node, dy, y, x, *_):
    target = [int(d) for d in node.value(1)] if node.is_constant(1) else node.output_shape()
    declared = target if node.is_constant(1) else node.declared_output_shape()
    return sum_to(node, dy, 0, [node.shape(0), target], [node.declared_shape(0), declared])
