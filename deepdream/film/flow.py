"""Optical flow: where each point of a frame was in the frame before, and where that can be believed."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np

from ..errors import DreamError
from .needed import cv2

LEAST = 16            # the smallest height and width for which DIS finds a flow, in pixels
BRIGHTNESS = 20.0     # a point whose brightness changes by more, on the scale of 0 to 255, is not the same point
LUMA = 0.299, 0.587, 0.114


class Motion(NamedTuple):
    """The motion from one frame to the next.

    back: float32 (H, W, 2): what to add to the position (x, y) of a pixel, to find the position in the frame before.
        None if nothing moves.
    believed: bool (H, W): whether the pixel shows what that position of the frame before shows.
    """
    back: np.ndarray | None
    believed: np.ndarray


def grey(frame: np.ndarray) -> np.ndarray:
    """Return the brightness of a frame (H, W, 3) of 0 to 255, as uint8 (H, W)."""
    return np.uint8(np.clip(np.rint(np.asarray(frame, np.float32) @ np.float32(LUMA)), 0, 255))


def dis(before: np.ndarray, now: np.ndarray) -> Motion:
    """Find the motion between two frames by DIS optical flow (Kroeger et al. 2016), as OpenCV computes it.

    before, now: the brightness of the two frames, from `grey`.

    A pixel is believed if the flow there and back leads to the same place (the bounds are those of Sundaram et al.
    2010), inside of the frame, and if the brightness is the same there. Raises DreamError for frames that are too
    small, and if OpenCV is not installed.
    """
    cv = cv2()
    h, w = now.shape
    if min(h, w) < LEAST:
        raise DreamError(f"--flow dis: frames of {w}x{h} pixels are too small; {LEAST} are needed in each direction")
    with _one_thread(cv):
        finder = cv.DISOpticalFlow_create(cv.DISOPTICAL_FLOW_PRESET_MEDIUM)
        back, forth = finder.calc(now, before, None), finder.calc(before, now, None)
        x, y = _positions(back)
        returned = cv.remap(forth, x, y, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
        came_from = cv.remap(before, x, y, cv.INTER_LINEAR, borderMode=cv.BORDER_REPLICATE)
    apart = ((back + returned) ** 2).sum(2)
    bound = 0.01 * ((back ** 2).sum(2) + (returned ** 2).sum(2)) + 0.5
    inside = (x >= 0) & (x <= w - 1) & (y >= 0) & (y <= h - 1)
    return Motion(back, (apart <= bound) & inside & _as_bright(came_from, now))


def none(before: np.ndarray, now: np.ndarray) -> Motion:
    """Return the motion between two frames of a camera that stands still: none, where the brightness is the same.

    The arguments are those of `dis`.
    """
    return Motion(None, _as_bright(before, now))


FLOWS: dict[str, Callable[[np.ndarray, np.ndarray], Motion]] = {"dis": dis, "none": none}


def moved(array: np.ndarray, motion: Motion, cubic: bool = True) -> np.ndarray:
    """Move an array along with the film: take for each pixel the value at the place where it was before.

    array: float32 (H, W) or (H, W, C), of the frame before.
    motion: the motion since then.
    cubic: interpolate by bicubic splines, which keeps details sharp; False: linearly, which stays within the values.

    Returns an array of the same shape. It has values at all pixels, also at those that are not believed.
    """
    if motion.back is None:
        return array
    cv = cv2()
    x, y = _positions(motion.back)
    with _one_thread(cv):
        return cv.remap(array, x, y, cv.INTER_CUBIC if cubic else cv.INTER_LINEAR, borderMode=cv.BORDER_REFLECT_101)


def _positions(back):
    h, w = back.shape[:2]
    y, x = np.mgrid[:h, :w].astype(np.float32)
    return x + back[..., 0], y + back[..., 1]


def _as_bright(before, now):
    """Return where two pictures are equally bright, apart from the change that most pixels share, as in a fade."""
    change = now.astype(np.float32) - before
    return np.abs(change - np.median(change)) <= BRIGHTNESS


@contextlib.contextmanager
def _one_thread(cv) -> Iterator[None]:
    """Let OpenCV use one thread: the result of DIS depends on their number, and the dream needs the others."""
    before = cv.getNumThreads()
    cv.setNumThreads(1)
    try:
        yield
    finally:
        cv.setNumThreads(before)
