"""Large pictures: the gradient of a step, tile by tile, so that memory is bounded by the tile and not by the picture.

The objective is a sum over the positions of `end`. Each position belongs to one tile, which also holds a margin of
pixels around its own part; the tile's objective sums over its own positions only, and its gradient, margin and all, is
added to the picture's. That is the whole gradient but for what a position sees beyond the margin, and nothing is cut
off or blended. Tiles start at multiples of the net's stride, so that poolings and strides fall as in the whole picture.
"""
import math
import numbers
from fractions import Fraction

import numpy as np

from .device import readable
from .errors import DreamError
from .objectives import Objective, averaged, ends_of, feeds

MARGIN = 32       # pixels at least
STRIDES = 4       # strides at least: at inception_4c 64 pixels, where cosine is .999 with the whole gradient
END = 1 << 62     # of a part that goes on to the border


def ends(objective, end):
    """The layers that an objective, or a function at `end`, looks at."""
    return ends_of(objective, end) if isinstance(objective, Objective) else [end]


def stride(net, ends):
    """What tiles start at multiples of: pixels for one position at the ends and at all layers before them."""
    names = list(net.ends)
    before = names[:max(map(names.index, ends)) + 1]
    sizes = [Fraction(s).limit_denominator(1000) for n in before for s in net.ends[n]["stride"] or ()]
    return math.lcm(*(s.numerator for s in sizes))


def margin(net, ends):
    """Pixels that a tile sees beyond its own part."""
    s = stride(net, ends)
    return -(-max(MARGIN, STRIDES * s) // s) * s


def smallest(net, ends):
    """The smallest tile: half of it is its own, in each direction."""
    return 4 * margin(net, ends)


def check(net, objective, end, tile, sizes=()):
    """Raise DreamError where tiles of `tile` pixels make no sense; None is no tiles. sizes: [(h, w)] of the octaves."""
    if tile is None:
        return
    names = ends(objective, end)
    for name in names:
        if net.ends.get(name, {}).get("stride", ()) is None:
            raise DreamError(f"--tile: '{name}' has no positions in the picture, and cannot be dreamt in tiles")
    if all(name in net.ends for name in names):
        low = smallest(net, names)
        if not isinstance(tile, numbers.Real) or tile != tile // 1 or tile < low:
            raise DreamError(f"--tile {tile}: '{names[0]}' needs tiles of at least {low} pixels; allowed is a whole "
                             f"number from {low}")
    if net.leftover:
        raise DreamError("--tile: leftover_diffs keeps diffs layer by layer for a whole picture; one or the other")
    cut = [size for size in sizes if needed(*size, tile)]
    for size in cut:
        for name in names:
            net.check_size(name, *tile_size(*size, tile, net, names, min), f"--tile {tile}: a tile")
    if cut and not everywhere(objective):
        raise DreamError(f"--tile {tile}: the objective '{objective.formula}' looks at the picture as a whole, and "
                         "cannot be dreamt in tiles")


def everywhere(objective):
    """Whether an objective can be dreamt in tiles."""
    return not isinstance(objective, Objective) or all(term.everywhere for _, term in objective.terms)


def needed(h, w, tile):
    """Whether a picture is dreamt in tiles."""
    return tile is not None and max(h, w) > tile


def spans(length, tile, margin, stride, offset=0):
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


def tile_size(h, w, tile, net, ends, which=max):
    """(h, w) of the largest tile of a picture; which=min: of the smallest."""
    m, s = margin(net, ends), stride(net, ends)
    return tuple(which(stop - start for start, stop, _, _ in spans(n, tile, m, s)) for n in (h, w))


class TiledGradient:
    """The gradient of a picture, tile by tile, for a HostStepper. objective: an Objective, or a function of dst.

    Calling it with the shifted picture (1, C, H, W) draws the offset of the cuts from NumPy's global generator, two
    whole numbers a step, and returns (objective, gradient): the sum of the tiles' objectives, of which each counts its
    own positions only (a mean over positions is weighed by their share of all); None for a function.
    """

    def __init__(self, net, objective, end, tile):
        graph = isinstance(objective, Objective)
        self.ends = ends(objective, end)
        self.net, self.objective, self.tile = net, objective, tile
        self._positions = {}
        self.margin, self.stride = margin(net, self.ends), stride(net, self.ends)
        if graph:
            self._session = net.session(end, objective, step=False, tile=True)
            self._fixed, self._averaged = feeds(objective), averaged(objective, end)
        self._one = self._of_graph if graph else self._of_function

    def __call__(self, x):
        many = self.margin // self.stride
        offsets = self.stride * np.random.randint(-many, many + 1, 2)
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
                                                                self.net.ends[end]["stride"])):
            own[i], own[2 + i] = round((first - start) / s), END if last == stop else round((last - start) / s)
        return own

    def _share(self, end, parts, size):
        """How many of an end's positions, in a picture of `size`, are in a tile's own part: [first, last] pixels."""
        if (end, size) not in self._positions:
            shape = (1, self.net.blobs[self.net.inputs[0]].channels, *size)
            self._positions[end, size] = self.net.shape(end, shape)[2:]
        share = 1.0
        for all_, (first, last), length, s in zip(self._positions[end, size], parts, size, self.net.ends[end]["stride"]):
            share *= ((all_ if last == length else round(last / s)) - round(first / s)) / all_
        return np.array(share, np.float32)

    def _of_graph(self, data, own, parts, whole):
        given = {"data": data, **{f"own:{end}": o for end, o in own.items()}, **self._fixed}
        given |= {f"share:{end}": self._share(end, parts, whole.shape[2:]) for end in self._averaged}
        with readable(*data.shape[-2:]):
            value, diff = self._session.run(["objective", "data_diff"], given)
        return float(value), diff

    def _of_function(self, data, own, parts, whole):
        """As in the notebook, with the net's blobs at the size of the tile for the while."""
        net, (end, (top, left, bottom, right)) = self.net, *own.items()
        src, dst = net.blobs[net.inputs[0]], net.blobs[end]
        src._set(data)
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
            src._set(whole)
