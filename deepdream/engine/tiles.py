"""Large pictures: the gradient is computed tile by tile, so that the size of the tile limits the memory.

The objective is a sum over the positions of `end`. Each position belongs to the core of one tile, and each tile also
has a margin around its core. The objective of a tile sums over the positions of its core only. Its gradient, which
covers the margin too, is added to the gradient of the picture. The sum of all tiles is the gradient of the whole
picture, except for what a position sees beyond the margin; nothing is cut off or blended. Tiles start at multiples of
the net's stride, so that the windows of poolings and convolutions are the same as in the whole picture.
"""
from __future__ import annotations

import math
import numbers
from collections.abc import Callable, Sequence
from fractions import Fraction
from types import ModuleType

import numpy as np

from ..errors import DreamError
from .step import Step


MARGIN = 32       # the minimum margin, in pixels
STRIDES = 4       # the minimum margin, in strides: 64 pixels at inception_4c, where the gradient's cosine is .999
END = 1 << 62     # the last position of a core that reaches the border of the picture

RandomSource = ModuleType | np.random.RandomState | np.random.Generator      # the module is np.random


def stride(net, ends: Sequence[str]) -> int:
    """Return the stride of the net at its layers `ends`, and at all layers before them, in pixels.

    Tiles start at multiples of it.
    """
    names = list(net.ends)
    before = names[:max(map(names.index, ends)) + 1]
    sizes = [Fraction(s).limit_denominator(1000) for n in before for s in net.ends[n].stride or ()]
    return math.lcm(*(s.numerator for s in sizes))


def margin(net, ends: Sequence[str]) -> int:
    """Return the width of the margin around the core of a tile, in pixels, for a dream at the layers `ends`."""
    s = stride(net, ends)
    return -(-max(MARGIN, STRIDES * s) // s) * s


def smallest(net, ends: Sequence[str]) -> int:
    """Return the smallest tile, in pixels, for a dream at the layers `ends`: half of its height is the core."""
    return 4 * margin(net, ends)


def check_tiles(net, step: Step, sizes: Sequence[tuple[int, int]] = ()) -> None:
    """Raise DreamError if a step cannot run in tiles of the size that it asks for.

    net: the net.
    step: the step. Without step.tile there is nothing to check.
    sizes: (h, w) of the octaves.
    """
    tile = step.tile
    if tile is None:
        return
    for name in step.ends:
        if name in net.ends and net.ends[name].stride is None:
            raise DreamError(f"--tile: '{name}' has no positions in the picture, and cannot be dreamt in tiles")
    if all(name in net.ends for name in step.ends):
        low = smallest(net, step.ends)
        if not isinstance(tile, numbers.Real) or tile != tile // 1 or tile < low:
            raise DreamError(f"--tile {tile}: '{step.ends[0]}' needs tiles of at least {low} pixels; allowed is a "
                             f"whole number from {low}")
    if net.leftover:
        raise DreamError("--tile: leftover_diffs keeps diffs layer by layer for a whole picture; one or the other")
    cut = [size for size in sizes if step.in_tiles(*size)]
    for size in cut:
        for name in step.ends:
            net.sizes.check(name, *tile_size(*size, tile, net, step.ends, min), f"--tile {tile}: a tile")
    if cut and not step.objective.tileable:
        raise DreamError(f"--tile {tile}: the objective '{step.objective.formula}' looks at the picture as a whole, "
                         "and cannot be dreamt in tiles")


def spans(length: int, tile: int, margin: int, stride: int, offset: int = 0) -> list[tuple[int, int, int, int]]:
    """Cut one direction of a picture into tiles.

    length: the height or width of the picture.
    tile: the maximum size of a tile.
    margin: the width of the margin.
    stride: the stride of the net.
    offset: moves the cuts; from -margin to margin, a multiple of the stride.

    Returns a list of (start, stop, first, last): a tile has the pixels from start to stop, and its core those from
    first to last. All tiles have the same size, except for those at the border if the length is not a multiple of the
    stride.
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


def tile_size(h: int, w: int, tile: int, net, ends: Sequence[str], which: Callable = max) -> tuple[int, int]:
    """Return (h, w) of the largest tile of a picture.

    h, w: size of the picture, in pixels.
    tile: the maximum size of a tile.
    net, ends: the net and the layers of the dream.
    which: max for the largest tile, min for the smallest one.
    """
    m, s = margin(net, ends), stride(net, ends)
    return tuple(which(stop - start for start, stop, _, _ in spans(n, tile, m, s)) for n in (h, w))


def draw(rng: RandomSource, low: int, high: int) -> np.ndarray:
    """Draw two whole numbers from `low` to `high` - 1.

    rng: np.random, a RandomState or a Generator.
    """
    return (rng.integers if hasattr(rng, "integers") else rng.randint)(low, high, 2)


class TiledGradient:
    """Computes the gradient of a picture tile by tile, for a HostStepper.

    Calling it with the shifted picture (1, C, H, W) draws the offsets of the cuts, two whole numbers per step, and
    returns (objective, gradient). The objective is the sum of those of the tiles, of which each counts the positions of
    its core only (a mean over positions is weighted by the share of all positions that are in the core). It is None for
    a function of dst.

    net: the net.
    step: the step, of which only the objective and the size of tiles are used.
    rng: the source of the random offsets (see `draw`).
    """

    def __init__(self, net, step: Step, rng: RandomSource = np.random):
        self.net, self.objective, self.tile, self.rng = net, step.objective, step.tile, rng
        self.ends = step.ends
        self._end_sizes = {}
        self.margin, self.stride = margin(net, self.ends), stride(net, self.ends)
        if self.objective.in_graph:
            self._session = net.programs.session(net.programs.objective(step, tile=True))
            self._feeds, self._mean_ends = self.objective.feeds(), self.objective.mean_ends
        self._gradient_of_tile = self._by_graph if self.objective.in_graph else self._by_function

    def __call__(self, x):
        strides = self.margin // self.stride
        offsets = self.stride * draw(self.rng, -strides, strides + 1)
        rows, columns = (spans(n, self.tile, self.margin, self.stride, int(o)) for n, o in zip(x.shape[2:], offsets))
        total, gradient = 0.0, np.zeros_like(x)
        for top, bottom, *core_rows in rows:
            for left, right, *core_columns in columns:
                cores = {e: self._core(e, (top, left), (bottom, right), core_rows, core_columns) for e in self.ends}
                value, diff = self._gradient_of_tile(np.ascontiguousarray(x[..., top:bottom, left:right]), cores,
                                                     (core_rows, core_columns), x)
                gradient[..., top:bottom, left:right] += diff
                total = None if value is None else total + value
        return total, gradient

    def _core(self, end, starts, stops, rows, columns):
        """Return the core at an end: [first row, first column, last row, last column], the last ones excluded."""
        core = np.zeros(4, np.int64)
        for i, (start, stop, (first, last), s) in enumerate(zip(starts, stops, (rows, columns),
                                                                self.net.ends[end].stride)):
            core[i], core[2 + i] = round((first - start) / s), END if last == stop else round((last - start) / s)
        return core

    def _share(self, end, core, size):
        """Return the share of an end's positions that are in a core, which is [first, last] pixels of each axis."""
        if (end, size) not in self._end_sizes:
            shape = (1, self.net.blobs[self.net.inputs[0]].channels, *size)
            found = self.net.shape_at(end, shape)
            self._end_sizes[end, size] = found[1:-1] if self.net.ends[end].channels_last else found[2:]
        share = 1.0
        for count, (first, last), length, s in zip(self._end_sizes[end, size], core, size, self.net.ends[end].stride):
            share *= ((count if last == length else round(last / s)) - round(first / s)) / count
        return np.array(share, np.float32)

    def _by_graph(self, data, cores, core, picture):
        """Compute the gradient of a tile. data: the tile; cores: its core at each end; core: its core in pixels."""
        feeds = {"data": data, **{f"core:{end}": c for end, c in cores.items()}, **self._feeds}
        feeds |= {f"share:{end}": self._share(end, core, picture.shape[2:]) for end in self._mean_ends}
        value, diff = self._session.run(["objective", "data_diff"], feeds)
        return float(value), diff

    def _by_function(self, data, cores, core, picture):
        """Compute the gradient of a tile as the notebook did. Meanwhile the net's blobs have the tile's size."""
        net, (end, (top, left, bottom, right)) = self.net, *cores.items()
        src, dst = net.blobs[net.inputs[0]], net.blobs[end]
        src.hold(data)
        try:
            net.forward(end=end)
            dst.diff[...] = 0
            self.objective(dst)
            diff = np.zeros_like(dst.diff)
            core = (slice(None),) * (1 if net.ends[end].channels_last else 2) + np.s_[top:bottom, left:right]
            diff[core] = dst.diff[core]
            dst.diff[...] = diff
            net.backward(start=end)
            return None, src.diff
        finally:
            src.hold(picture)
