"""Films that are read: what is common to movies, folders of pictures and animations."""
from __future__ import annotations

from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np


class Frame(NamedTuple):
    """A frame of a film.

    stamp: its time stamp, in units of the film's time base; larger than that of the frame before.
    length: how long it is shown, in the same units.
    colours: float32 (H, W, 3), RGB, 0 to 255, turned as it is to be shown.
    alpha: uint8 (H, W), or None.
    """
    stamp: int
    length: int
    colours: np.ndarray
    alpha: np.ndarray | None = None


class Source(Protocol):
    """A film that can be read.

    path: its file or folder.
    time_base: the unit of its time stamps, in seconds.
    rate: its frames a second, on average.
    size: (h, w) of its frames, as they are shown.
    transparent: whether it has an alpha channel.
    count: the number of its frames, as its file states it; 0 if it does not.
    """
    path: Path
    time_base: Fraction
    rate: Fraction
    size: tuple[int, int]
    transparent: bool
    count: int

    def frames(self, start: int | None = None) -> Iterator[Frame]:
        """Yield the frames in order, beginning with the one whose time stamp is `start`; None: with the first.

        Raises DreamError if the film cannot be read.
        """
