"""The notebook's functions `preprocess` and `deprocess`, which convert a picture to the input of a net and back."""
from __future__ import annotations

import numpy as np

from ..errors import DreamError


def check_picture(img: np.ndarray, what: str = "the picture") -> None:
    """Raise DreamError unless an array is a picture: (H, W, 3), with finite numbers.

    what: what error messages call the picture.
    """
    if np.ndim(img) != 3 or np.shape(img)[2] != 3:
        raise DreamError(f"{what} must be an array of shape (H, W, 3), not {np.shape(img)}")
    if not np.isfinite(img).all():
        raise DreamError(f"{what} holds infinities, or values that are not numbers")


def preprocess(net, img: np.ndarray) -> np.ndarray:
    """Convert a picture to the input of a net: channels in the net's order, the mean subtracted.

    net: the net.
    img: the picture, (H, W, 3), RGB, 0 to 255.

    Returns float32 (C, H, W).
    """
    name = net.inputs[0]
    chw = np.moveaxis(np.asarray(img), 2, 0)
    mean, swap = net.transformer.mean[name], net.transformer.channel_swap[name]
    if len(mean) == 1:      # a net for grey pictures: ITU-R BT.601, as in Pillow and in Caffe's readers
        return np.float32(np.tensordot(np.float32([0.299, 0.587, 0.114]), chw, 1)[None]) - mean
    return np.float32(chw[list(swap)]) - mean


def deprocess(net, img: np.ndarray) -> np.ndarray:
    """Convert the input of a net to a picture, the reverse of `preprocess`.

    net: the net.
    img: (C, H, W).

    Returns the picture, (H, W, 3), RGB.
    """
    name = net.inputs[0]
    mean, swap = net.transformer.mean[name], net.transformer.channel_swap[name]
    chw = img + mean
    chw = np.repeat(chw, 3, axis=0) if len(mean) == 1 else chw[np.argsort(swap)]
    return np.dstack(chw)
