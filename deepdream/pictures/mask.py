"""Masks: pictures that say where a dream may change another picture."""
from pathlib import Path

import numpy as np

from ..convert.errors import shown
from ..errors import DreamError
from .reading import load
from .starts import resized

EDGE = 0.02      # the default width of the soft edge, as a share of the picture's longer side


def load_mask(source, height: int, width: int, edge: float | None = None) -> np.ndarray:
    """Read a mask for a picture.

    source: the mask's file, as `load` takes it, or an array (H, W, 3) of 0 to 255. Where it is white, the dream is as
        strong as without a mask; where it is black, the picture stays as it is; grey is in between. It is scaled to the
        size of the picture.
    height, width: size of the picture, in pixels.
    edge: the width of the soft edge, in pixels: the mask is blurred, and what is further than this from its bright part
        does not change. None: 2 % of the picture's longer side; 0: no blur.

    Returns float32 (height, width), 0 to 1. Raises DreamError if the file cannot be read, and for a mask that is black
    everywhere.
    """
    mask = np.float32(source) if isinstance(source, np.ndarray) else load(source)
    mask = resized(mask, height, width).mean(2) / 255
    mask[mask < 1 / 255] = 0      # what a JPEG file adds to black
    edge = EDGE * max(height, width) if edge is None else edge
    if not mask.any():
        name = shown(source) if isinstance(source, (str, Path)) else "the mask"
        raise DreamError(f"--mask {name}: is black everywhere, so nothing may change; make it white where to dream")
    if edge >= 1:
        import scipy.ndimage as nd
        mask = nd.gaussian_filter(mask, edge / 2, radius=int(edge))
    return np.float32(mask)
