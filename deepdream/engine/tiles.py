"""Large pictures: the gradient of a step, tile by tile, so that memory is bounded by the tile and not by the picture.

The objective is a sum over the positions of `end`. Each position belongs to one tile, which also holds a margin of
pixels around its own part. The tile's objective sums over its own positions only, and its gradient, margin and all, is
added to the picture's. That is the whole gradient except for what a position sees beyond the margin; nothing is cut off
or blended. Tiles start at multiples of the net's stride, so that poolings and strides fall as in the whole picture.
"""
import math
import numbers
from collections.abc import Sequence
from fractions import Fraction

import numpy as np

from ..errors import DreamError
from .step import Step

MARGIN = 32       # pixels at least
STRIDES = 4       # strides at least: at inception_4c 64 pixels, where cosine is .999 with the whole gradient
END = 1 << 62     # of a part that goes on to the border


def stride(net, ends: Sequence[str]) -> int:
    """What tiles start at multiples of: pixels for one position at the ends and at all layers before them."""
    names = list(net.ends)
    before = names[:max(map(names.index, ends)) + 1]
    sizes = [Fraction(s).limit_denominator(1000) for n in before for s in net.ends[n].stride or ()]
    return math.lcm(*(s.numerator for s in sizes))


def margin(net, ends: Sequence[str]) -> int:
    """Pixels that a tile sees beyond its own part."""
    s = stride(net, ends)
    return -(-max(MARGIN, STRIDES * s) // s) * s


def smallest(net, ends: Sequence[str]) -> int:
    """The smallest tile, in pixels: half of it is its own, in each direction."""
    return 4 * margin(net, ends)


def check_tiles(net, step: Step, sizes: Sequence[tuple[int, int]] = ()):
    """Raise DreamError where a step's tiles make no sense. sizes: (h, w) of the octaves."""
    tile = step.tile
    if tile is None:
        return
    for name in step.ends:
        if name in net.ends and net.ends[name].stride is None:
            raise DreamError(f"--tile: '{name}' has no positions in the picture, and cannot be dreamt in tiles")
    if all(name in net.ends for name in step.ends):
        low = smallest(net, step.ends)
        if not isinstance(tile, numbers.Real) or tile != tile // 1 or tile < low:
            raise DreamError(f"--tile {tile}: '{step.ends[0]}' needs tiles of at least {low} pixels; allowed is a whole "
                             f"number from {low}")
    if net.leftover:
        raise DreamError("--tile: leftover_diffs keeps diffs layer by layer for a whole picture; one or the other")
    cut = [size for size in sizes if step.in_tiles(*size)]
    for size in cut:
        for name in step.ends:
            net.check_size(name, *tile_size(*size, tile, net, step.ends, min), f"--tile {tile}: a tile")
    if cut and not step.objective.tileable:
        raise DreamError(f"--tile {tile}: the objective '{step.objective.formula}' looks at the picture as a whole, and "
                         "cannot be dreamt in tiles")


def spans(length: int, tile: int, margin: int, stride: int, offset: int = 0) -> list[tuple[int, int, int, int]]:
    """How one direction is cut: [(start, stop, first, last)], the pixels that a tile sees and those that are its own.

    All tiles are of one size but, where the length is no multiple of the stride, those that end at the border. offset:
    of the cuts, from -margin to margin, a multiple of the stride.
    """
    if length <= tile:
        return [(0, length, 0, length)]
    tile -= tile % stride

    def up(n):
        return -(-n // stride) * stride

    count = next(n for n in range(2, length + 1) if up(-(-length // n)) + 2 * margin <= tile)
    size = up(-(-length // count)) + 2 * margin
    cuts = [0, *(up(-(-length * k // count)) + offset for k in range(1, count)), length]
    starts = [min(max(first - margin, 0), up(length - size)) for first in cuts[:-2]] + [up(length - size)]
    return [(start, min(start + size, length), first, last)
            for start, first, last in zip(starts, cuts, cuts[1:])]


def tile_size(h: int, w: int, tile: int, net, ends: Sequence[str], which=max) -> tuple[int, int]:
    """(h, w) of the largest tile of a picture of h x w pixels; which=min: of the smallest."""
    m, s = margin(net, ends), stride(net, ends)
    return tuple(which(stop - start for start, stop, _, _ in spans(n, tile, m, s)) for n in (h, w))


def draw(rng, low: int, high: int) -> np.ndarray:
    """Two whole numbers from `low` to `high` - 1. rng: np.random, a RandomState, or a Generator."""
    return (rng.integers if hasattr(rng, "integers") else rng.randint)(low, high, 2)


class TiledGradient:
    """The gradient of a picture, tile by tile, for a HostStepper.

    Calling it with the shifted picture (1, C, H, W) draws the offset of the cuts, two whole numbers a step, and returns
    (objective, gradient). The objective is the sum of the tiles' objectives, of which each counts its own positions only
    (a mean over positions is weighed by their share of all); it is None for a function of dst.
    """

    def __init__(self, net, step: Step, rng=np.random):
        self.net, self.objective, self.tile, self.rng = net, step.objective, step.tile, rng
        self.ends = step.ends
        self._positions = {}
        self.margin, self.stride = margin(net, self.ends), stride(net, self.ends)
        if self.objective.in_graph:
            self._session = net.programs.session(net.programs.objective(step, tile=True))
            self._feeds, self._mean_ends = self.objective.feeds(), self.objective.mean_ends
        self._one = self._by_graph if self.objective.in_graph else self._by_function

    def __call__(self, x):
        many = self.margin // self.stride
        offsets = self.stride * draw(self.rng, -many, many + 1)
        rows, columns = (spans(n, self.tile, self.margin, self.stride, int(o)) for n, o in zip(x.shape[2:], offsets))
        total, gradient = 0.0, np.zeros_like(x)
        for top, bottom, *own_rows in rows:
            for left, right, *own_columns in columns:
                own = {e: self._own(e, (top, left), (bottom, right), own_rows, own_columns) for e in self.ends}
                value, diff = self._one(np.ascontiguousarray(x[..., top:bottom, left:right]), own,
                                        (own_rows, own_columns), x)
                gradient[..., top:bottom, left:right] += diff
                total = None if value is None else total + value
        return total, gradient

    def _own(self, end, starts, stops, rows, columns):
        """The tile's own positions at an end: [first row, first column, last row, last column], the last excluded."""
        own = np.zeros(4, np.int64)
        for i, (start, stop, (first, last), s) in enumerate(zip(starts, stops, (rows, columns),
                                                                self.net.ends[end].stride)):
            own[i], own[2 + i] = round((first - start) / s), END if last == stop else round((last - start) / s)
        return own

    def _share(self, end, parts, size):
        """How many of an end's positions, in a picture of `size`, are in a tile's own part: [first, last] pixels."""
        if (end, size) not in self._positions:
            shape = (1, self.net.blobs[self.net.inputs[0]].channels, *size)
            self._positions[end, size] = self.net.shape_at(end, shape)[2:]
        share = 1.0
        for all_, (first, last), length, s in zip(self._positions[end, size], parts, size, self.net.ends[end].stride):
            share *= ((all_ if last == length else round(last / s)) - round(first / s)) / all_
        return np.array(share, np.float32)

    def _by_graph(self, data, own, parts, whole):
        feeds = {"data": data, **{f"own:{end}": o for end, o in own.items()}, **self._feeds}
        feeds |= {f"share:{end}": self._share(end, parts, whole.shape[2:]) for end in self._mean_ends}
        value, diff = self._session.run(["objective", "data_diff"], feeds)
        return float(value), diff

    def _by_function(self, data, own, parts, whole):
        """As in the notebook, with the net's blobs at the size of the tile for the while."""
        net, (end, (top, left, bottom, right)) = self.net, *own.items()
        src, dst = net.blobs[net.inputs[0]], net.blobs[end]
        src.hold(data)
        try:
            net.forward(end=end)
            dst.diff[...] = 0
            self.objective(dst)
            kept = np.zeros_like(dst.diff)
            kept[..., top:bottom, left:right] = dst.diff[..., top:bottom, left:right]
            dst.diff[...] = kept
            net.backward(start=end)
            return None, src.diff
        finally:
            src.hold(whole)
