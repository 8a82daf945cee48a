"""The sizes of pictures that a net can take, for each of its layers."""
from __future__ import annotations

import json
import math
from collections.abc import Sequence
from typing import NamedTuple

from .. import convert
from ..convert.errors import about, shown
from ..errors import DreamError
from ..runtime.cache import cached, graph_key
from .files import Files


class Limits(NamedTuple):
    """The sizes of a picture for which the blob of a layer has at least one position.

    height, width: the smallest size.
    exact: whether every picture must have exactly this size, because the layer comes after one of fixed size.
    step: (h, w), the distance from one possible height or width to the next, usually (1, 1).
    """
    height: int
    width: int
    exact: bool
    step: tuple[int, int]

    def allow(self, h: int, w: int) -> bool:
        """Return whether a picture of h x w pixels is large enough."""
        return h >= self.height and w >= self.width


class PossibleSizes:
    """The sizes of pictures that a net can take.

    files: the files of the net.
    """

    def __init__(self, files: Files):
        self._files, self._found = files, {}

    def of(self, end: str) -> Limits:
        """Return the possible sizes for a layer."""
        def find():
            with about(self._files.prototxt):
                return json.dumps(convert.sizes_of(self._files.proto, end)).encode()

        if end not in self._found:
            h, w, exact, step = json.loads(cached(f"{graph_key(self._files.checksum, end, 'sizes')}.json", find))
            self._found[end] = Limits(h, w, exact, tuple(step))
        return self._found[end]

    def nearest(self, ends: Sequence[str], h: int, w: int) -> tuple[int, int]:
        """Return the possible size of a picture that is nearest to h x w, where only every n-th size is possible.

        ends: the layers that must have a position.
        h, w: the size, which is returned unchanged where every size, or no other one, is possible.
        """
        limits = [self.of(end) for end in ends]
        if any(limit.exact for limit in limits) or all(limit.step == (1, 1) for limit in limits):
            return h, w
        return tuple(_nearest(n, [(limit[axis], limit.step[axis]) for limit in limits])
                     for axis, n in enumerate((h, w)))

    def check(self, end: str, h: int, w: int, what: str = "the picture") -> None:
        """Raise DreamError if a picture is too small for a layer, or if the layer needs another size.

        end: the layer.
        h, w: size of the picture, in pixels.
        what: what error messages call the picture.
        """
        low_h, low_w, exact, step = limits = self.of(end)
        if exact and (h, w) != (low_h, low_w):
            before = "an InnerProduct" if self._files.caffemodel else "a layer of fixed size"
            raise DreamError(f"'{shown(end)}' comes after {before} and needs a picture of exactly {low_w}x{low_h} "
                             f"pixels; {what} has {w}x{h} (--size {low_w}x{low_h} --octave-n 1 dreams at it)")
        if not limits.allow(h, w):
            raise DreamError(f"{what} has {w}x{h} pixels, too small for '{shown(end)}', "
                             f"which needs at least {low_w}x{low_h}")
        if (h - low_h) % step[0] or (w - low_w) % step[1]:
            near_h, near_w = self.nearest([end], h, w)
            raise DreamError(f"'{shown(end)}' needs a picture {_in_steps(low_w, step[1])} wide and "
                             f"{_in_steps(low_h, step[0])} high; {what} has {w}x{h} (--size {near_w}x{near_h} "
                             "--stretch dreams at a possible size)")

    def check_octaves(self, end: str, sizes: Sequence[tuple[int, int]]) -> None:
        """Raise DreamError as `check` does if the smallest or the largest octave does not suit a layer.

        end: the layer.
        sizes: (h, w) of the octaves, smallest first.
        """
        h, w = sizes[-1]
        what = "the picture" if len(sizes) == 1 else f"the picture of {w}x{h} in the smallest of {len(sizes)} octaves"
        try:
            self.check(end, *sizes[0], what)
        except DreamError as error:
            raise DreamError(f"{error}{self._remedy(end, sizes)}") from None
        self.check(end, h, w)

    def _remedy(self, end, sizes):
        """Return what to do if the smallest octave is too small: take fewer octaves, or a larger picture."""
        limits, (h, w) = self.of(end), sizes[-1]
        fitting = sum(limits.allow(*size) for size in sizes)
        if limits.exact or fitting == len(sizes):
            return ""
        if fitting:
            return f"; --octave-n {fitting} fits"
        # h and w may be rounded, so the shorter side may come out a little smaller than it seems
        longest = max(h, w)
        size = max(math.ceil(low if n == longest else (low - 0.5) * (longest + 0.5) / (n - 0.5))
                   for n, low in ((h, limits.height), (w, limits.width)))
        return f"; --octave-n 1 --size {size} fits"


def _nearest(n, limits):
    """Return the number nearest to n that all limits, (lowest, step), allow; n if there is none."""
    reach = 2 * math.lcm(*(step for _, step in limits)) + max(low for low, _ in limits)
    around = (n + sign * k for k in range(reach) for sign in (1, -1))
    return next((m for m in around if all(m >= low and (m - low) % step == 0 for low, step in limits)), n)


def _in_steps(low, step):
    """Describe the possible sizes of one direction."""
    if step == 1:
        return f"{low} pixels or more"
    return f"a multiple of {step} pixels" if low == step else f"{low}, {low + step}, {low + 2 * step} pixels and so on"
