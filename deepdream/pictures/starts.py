"""The pictures that a dream starts from: the user's, grey, noise, or a scene made by formula."""
from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import DreamError
from ..options import PIXELS
from ..runtime.cache import cached, key

if TYPE_CHECKING:
    from ..options import Settings

SIZE = 1024, 575           # the default (w, h) of a dream without a picture
GREY = 128.0
NOISE = (128.0, 20.0)      # mean and standard deviation
SCENES = {                 # name -> the module that computes it, and its function
    "sky": ("sky", "formula_sky"),
    "lake": ("scenes", "formula_lake"),
    "fur": ("scenes", "formula_fur"),
}


def grey(height: int, width: int) -> np.ndarray:
    """Return a plain grey picture, float32 (height, width, 3)."""
    return np.full((height, width, 3), GREY, np.float32)


def noise(height: int, width: int, seed: int, mean: float = NOISE[0], spread: float = NOISE[1]) -> np.ndarray:
    """Return a picture of normally distributed noise, clipped to 0 to 255.

    height, width: size of the picture, in pixels.
    seed: the seed of the random numbers.
    mean, spread: mean and standard deviation of the values.

    Returns float32 (height, width, 3).
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    return np.clip(rng.normal(mean, spread, (height, width, 3)), 0, 255).astype(np.float32)


def resized(img: np.ndarray, height: int, width: int) -> np.ndarray:
    """Scale a picture with a Lanczos filter.

    img: the picture, (H, W, 3), 0 to 255.
    height, width: size of the result, in pixels.

    Returns float32 (height, width, 3).
    """
    from PIL import Image
    bands = [Image.fromarray(np.ascontiguousarray(band)).resize((width, height), Image.Resampling.LANCZOS)
             for band in np.moveaxis(np.float32(img), 2, 0)]
    return np.clip(np.dstack([np.asarray(band) for band in bands]), 0, 255)


def start_size(settings: Settings, size: tuple[int, int] | None = None) -> tuple[int, int]:
    """Return the size (h, w) of the picture that a dream starts from.

    settings: the settings of the dream.
    size: (h, w) of the user's picture, or None.

    Raises DreamError for a size that would change the shape of the picture, unless settings.stretch allows it, and for
    one that is too large.
    """
    if settings.size is None:
        return size or SIZE[::-1]
    if isinstance(settings.size, int):
        return fitted(size or SIZE[::-1], settings.size)
    w, h = settings.size
    if size and not settings.start and not settings.stretch and not _same_shape(size, (h, w)):
        side = max(w, h)
        fit_h, fit_w = fitted(size, side)
        raise DreamError(f"--size {w}x{h}: would squash the picture, which has {size[1]}x{size[0]} pixels; give "
                         f"--size {side} for {fit_w}x{fit_h}, or --stretch to insist")
    return h, w


def fitted(size: tuple[int, int], longest: int) -> tuple[int, int]:
    """Return the size (h, w) of a picture whose longest side is scaled to a certain length.

    size: (h, w) of the picture.
    longest: the longest side of the result, in pixels.

    Raises DreamError for a result that is too large.
    """
    h, w = (max(1, round(n * longest / max(size))) for n in size)
    if h * w > PIXELS:
        raise DreamError(f"--size {longest}: makes {w}x{h} pixels, and at most {PIXELS // 10 ** 6} million are allowed")
    return h, w


def _same_shape(old, new):
    """Return whether two sizes (h, w) have the same shape, up to a rounding of one of the sides."""
    return any(abs(new[i] - new[1 - i] * old[i] / old[1 - i]) <= 1 for i in (0, 1))


def starting_picture(settings: Settings, image: np.ndarray | None = None) -> np.ndarray:
    """Return the picture that a dream starts from.

    settings: the settings of the dream, which can ask for a scene, grey, noise or another size.
    image: the user's picture, (H, W, 3), or None. Without a picture, a dream starts from the sky of `sky.formula_sky`.

    Returns float32 (H, W, 3). Raises DreamError as `start_size` does.
    """
    h, w = start_size(settings, None if image is None else image.shape[:2])
    if settings.start == "noise":
        return noise(h, w, settings.seed, *(settings.noise or NOISE))
    if settings.start == "grey":
        return grey(h, w)
    if image is None or settings.start:
        return cached_scene(settings.start or "sky", h, w)
    return resized(image, h, w) if settings.size else image


def cached_scene(name: str, height: int, width: int) -> np.ndarray:
    """Return a scene in a certain size, from the cache, because computing it takes a second or two.

    name: one of SCENES.
    height, width: size of the picture, in pixels.

    Returns float32 (height, width, 3).
    """
    module, function = SCENES[name]

    def make():
        scene = getattr(importlib.import_module(f".{module}", __package__), function)
        return np.uint8(scene(height, width)).tobytes()

    sources = [Path(__file__).with_name(f"{file}.py").read_bytes() for file in (module, "fractal")]
    data = cached(f"{key(*sources, function, height, width)}.scene", make)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3).astype(np.float32)
