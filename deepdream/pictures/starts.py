"""What a dream starts from, if not from a picture: grey, or noise."""
import numpy as np

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
