"""The default picture to dream on: a summer sky made by a formula, so that the package needs no photograph."""
import numpy as np
import scipy.ndimage as nd

from .fractal import noise

SEED = 6


def formula_sky(height: int = 575, width: int = 1024, seed: int = SEED) -> np.ndarray:
    """Compute a picture of cumulus clouds in a blue sky.

    The clouds are fractal noise on a plane overhead, seen in perspective. The slope of the noise towards the sun, at
    the upper left, gives them a bright and a shaded side.

    height, width: size of the picture, in pixels.
    seed: the seed of the noise.

    Returns float32 (height, width, 3), whole numbers from 0 to 255.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[0:height, 0:width] / width
    horizon = height / width * 1.25
    depth = 0.42 / (horizon - y)                     # distance on the plane: far clouds are small and flat
    u, v = (x - 0.5) * depth * 1.5 + 20, depth * 2.4 + 20

    clouds = noise(rng, u * 1.6, v * 1.6, octaves=7)
    cover = noise(rng, u * 0.7 + 40, v * 0.7, octaves=3)
    density = np.clip((clouds * 0.75 + cover * 0.55 - 0.60) * 4.2, 0, 1) ** 0.8
    soft = nd.gaussian_filter(density, 3)
    light = nd.gaussian_filter(density, 7)
    away = nd.shift(light, (14, 10), order=1, mode="nearest")
    shade = np.clip(0.55 + 2.2 * (light - away) + 0.35 * (1 - light), 0, 1)

    t = (y / max(y.max(), 1e-9))[..., None] ** 0.8
    blue = (1 - t) * np.array([38, 92, 168]) + t * np.array([158, 196, 226])
    white = (1 - shade[..., None]) * np.array([148, 160, 180]) + shade[..., None] * np.array([255, 252, 246])
    alpha = np.clip(0.85 * soft + 0.25 * density, 0, 1)[..., None]
    sky = blue * (1 - alpha) + white * alpha
    sky += rng.normal(0, 1.2, (height, width, 1))    # grain, as in a photograph
    return np.float32(np.clip(np.rint(sky), 0, 255))
