"""Cuts: where one shot of a film ends and the next one begins."""
from __future__ import annotations

import numpy as np

from .flow import LEAST, dis, grey

SIDE = 160          # frames are compared at this size (of the longer side), in pixels
BELIEVED = 0.25     # a smaller share of believed flow is a cut: within a shot it is above 0.9, at a cut below 0.05
COMMON = 0.5        # a smaller common part of two colour histograms is a cut, where there is no flow
LEVELS = 4          # of each colour in such a histogram


def thumbnail(frame: np.ndarray) -> np.ndarray:
    """Return a small version of a frame (H, W, 3) of 0 to 255, uint8, which `is_cut` compares."""
    from PIL import Image
    image = Image.fromarray(np.uint8(np.clip(frame, 0, 255)))
    w, h = (max(LEAST, round(n * min(1, SIDE / max(image.size)))) for n in image.size)
    return np.asarray(image.resize((w, h), Image.Resampling.BOX))


def is_cut(before: np.ndarray, now: np.ndarray, flow: str = "dis") -> bool:
    """Return whether there is a cut between two frames.

    before, now: the frames, from `thumbnail`.
    flow: 'dis': there is one if the flow can be believed hardly anywhere; 'none': if the colours differ.
    """
    if before.shape != now.shape:
        return True
    if flow == "dis":
        return bool(dis(grey(before), grey(now)).believed.mean() < BELIEVED)
    return bool(np.minimum(_colours(before), _colours(now)).sum() < COMMON)


def _colours(frame):
    """Return the histogram of the colours of a frame; its sum is 1."""
    levels = (frame.astype(int) * LEVELS // 256).reshape(-1, 3)
    return np.bincount(levels @ [LEVELS * LEVELS, LEVELS, 1], minlength=LEVELS ** 3) / len(levels)
