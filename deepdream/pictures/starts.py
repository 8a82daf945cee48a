"""What a dream starts from, if not from a picture: grey, or noise."""
from pathlib import Path

import numpy as np

from ..runtime.cache import cached, key

SIZE = 1024, 575            # (w, h) of a dream that starts from no picture
GREY = 128.0
NOISE = (128.0, 20.0)      # mean and standard deviation


def grey(height, width):
    """(height, width, 3), all of one grey."""
    return np.full((height, width, 3), GREY, np.float32)


def noise(height, width, seed, mean=NOISE[0], spread=NOISE[1]):
    """(height, width, 3): each number normal around `mean`, with standard deviation `spread`, held within 0 to 255."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    return np.clip(rng.normal(mean, spread, (height, width, 3)), 0, 255).astype(np.float32)


def resized(img, height, width):
    """A picture (H, W, 3) at another size: Lanczos."""
    from PIL import Image
    bands = [Image.fromarray(np.ascontiguousarray(band)).resize((width, height), Image.Resampling.LANCZOS)
             for band in np.moveaxis(np.float32(img), 2, 0)]
    return np.clip(np.dstack([np.asarray(band) for band in bands]), 0, 255)


def start_size(settings, image: np.ndarray | None = None) -> tuple[int, int]:
    """(h, w) of the picture that a dream starts from. settings: an `options.Settings`; image: the user's, or None."""
    return image.shape[:2] if image is not None and not settings.size else (settings.size or SIZE)[::-1]


def starting_picture(settings, image: np.ndarray | None = None) -> np.ndarray:
    """The picture that a dream starts from, (H, W, 3): the user's, grey, noise, or else the sky by formula."""
    h, w = start_size(settings, image)
    if settings.start == "noise":
        return noise(h, w, settings.seed, *(settings.noise or NOISE))
    if settings.start == "grey":
        return grey(h, w)
    if image is None:
        return _kept_sky(h, w)
    return resized(image, h, w) if settings.size else image


def _kept_sky(height, width):
    """The sky by formula. It takes a second, so it is kept under a checksum of the formula."""
    def make():
        from .sky import formula_sky
        return np.uint8(formula_sky(height, width)).tobytes()

    formula = Path(__file__).with_name("sky.py").read_bytes()
    data = cached(f"{key(formula, height, width)}.sky", make)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3).astype(np.float32)
