"""Scenes made by formula that a dream can start from, next to the sky of `sky.py`."""
import numpy as np
import scipy.ndimage as nd

from .fractal import noise

HILLS = 5      # rows of hills at the lake, the last one at its shore
STEPS = 14     # samples along each hair of the fur


def formula_lake(height: int = 575, width: int = 1024, seed: int = 3) -> np.ndarray:
    """Compute a picture of clouds and hills that are mirrored in a lake.

    height, width: size of the picture, in pixels.
    seed: the seed of the noise.

    Returns float32 (height, width, 3), whole numbers from 0 to 255.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    shore = max(1, round(0.56 * height))
    above = _cloudy(rng, shore + 1, width, height)
    for i in range(HILLS):
        _add_hills(rng, above, height, shore / width, i / (HILLS - 1), i)
    water = _water(rng, above, height, shore)
    return _grained(rng, np.concatenate([above[:shore], water]))


def formula_fur(height: int = 575, width: int = 1024, seed: int = 5) -> np.ndarray:
    """Compute a picture of brindled fur: fine noise smeared along a field of directions, in light and dark patches.

    The arguments and the result are those of `formula_lake`.
    """
    rng = np.random.Generator(np.random.Philox(key=seed))
    y, x = np.mgrid[0:height, 0:width] / width
    angle = _coarse(rng, height, width, 3.2, 3) * 3.2 * np.pi
    dy, dx = 1.9 * np.sin(angle), 1.9 * np.cos(angle)
    fine = noise(rng, x * 160, y * 160, 2, splines=1)
    hair, weight, at_y, at_x = np.zeros_like(x), 0.0, y * width, x * width
    for i in range(STEPS):
        part = 1 - i / STEPS
        hair += part * nd.map_coordinates(fine, [at_y, at_x], order=1, mode="mirror")
        weight += part
        where = np.clip(at_y, 0, height - 1).astype(int), np.clip(at_x, 0, width - 1).astype(int)
        at_y, at_x = at_y + dy[where], at_x + dx[where]
    hair = hair / weight
    hair = (hair - hair.mean()) / max(hair.std(), 1e-6)
    tuft = noise(rng, at_x / width * 14, at_y / width * 14, 3, splines=1)      # the hairs of a tuft end together
    dark = np.clip((_coarse(rng, height, width, 4, 3) - 0.5) * 5 + 0.5, 0, 1)
    light = 0.72 + 0.16 * hair + 1.1 * (tuft - 0.5) + 8 * _relief(nd.gaussian_filter(tuft, 4), (4, 4))
    coat = _mixed([214, 176, 126], [106, 70, 46], dark)
    return _grained(rng, coat * np.clip(light, 0.12, 1.35)[..., None])


def _cloudy(rng, rows, width, height):
    """Return the sky over the lake, with clouds on a plane overhead, seen in perspective."""
    y, x = np.mgrid[0:rows, 0:width] / width
    low = rows / width
    sky = _mixed([62, 112, 178], [226, 214, 196], (y / low) ** 1.3)
    depth = 0.53 * height / width / (low * 1.12 - y)
    clouds = noise(rng, (x - 0.5) * depth * 2.2 + 11, depth * 3.2 + 11, 6, splines=1)
    cover = noise(rng, (x - 0.5) * depth * 0.9 + 34, depth * 1.3 + 4, 2, splines=1)
    density = np.clip((clouds * 0.7 + cover * 0.5 - 0.58) * 4.5, 0, 1)
    shade = np.clip(0.6 + 1.5 * _relief(nd.gaussian_filter(density, 5), (9, -8)), 0, 1)
    white = _mixed([170, 168, 182], [255, 247, 232], shade)
    return _mixed(sky, white, nd.gaussian_filter(density, 1.2) * 0.93)


def _add_hills(rng, picture, height, shore, near, i):
    """Draw a row of hills into the picture above the shore. near: 0 for the farthest row, 1 for that at the shore."""
    rows, width = picture.shape[:2]
    ratio, across = height / width, np.arange(width) / width
    ridge = noise(rng, across * (4 + 5 * near) + 7 * i, np.full(width, 3.3 + i), 5)
    trees = noise(rng, across * (60 + 40 * near), np.full(width, 1.7 + i), 3)
    top = shore - ratio * (0.33 - 0.27 * near) * (0.25 + 1.25 * ridge) - 0.012 * near * trees
    first = int(np.clip(top.min() * width - 1, 0, rows - 1))
    y, x = np.mgrid[first:rows, 0:width] / width
    texture = noise(rng, x * (30 + 40 * near), y * (45 + 60 * near), 4, splines=0)
    light = 0.45 + 0.75 * np.clip(_relief(texture, (2, -3)) * (5 + 4 * near) + 0.5, 0, 1) * (0.5 + 0.8 * texture)
    haze = 0.75 * (1 - near) ** 1.2
    colour = np.array([122, 146, 176]) * (1 - near ** 0.8) + np.array([66, 92, 44]) * near ** 0.8
    hills = colour * light[..., None] * (1 - haze) + np.array([196, 202, 208]) * haze
    picture[first:] = _mixed(picture[first:], hills, np.clip((y - top) * width + 0.5, 0, 1))


def _water(rng, above, height, shore):
    """Return the water: a mirror image of what is above, shifted by waves, and darker towards the front."""
    width, ratio = above.shape[1], height / above.shape[1]
    y, x = np.mgrid[0:height - shore, 0:width] / width
    far = 1 / (y + 0.02)
    wave = noise(rng, (x - 0.5) * (3 + 0.55 * far) + 9, 0.55 * far + 5, 5, splines=1) - 0.5
    rows = np.clip(shore - (y * 1.15 - wave * (0.02 + 0.3 * y)) * width, 0, shore - 1)
    columns = np.clip((x + wave * 0.02) * width, 0, width - 1)
    mirror = np.stack([nd.map_coordinates(band, [rows, columns], order=1) for band in np.moveaxis(above, 2, 0)], 2)
    water = _mixed(mirror * 0.92, [30, 62, 78], np.clip(0.25 + y / ratio + 1.2 * wave, 0, 0.8))
    return _mixed(water, [235, 238, 235], np.clip((wave - 0.16) * 6, 0, 1) * 0.35)


def _coarse(rng, height, width, cells, octaves):
    """Return noise without fine details. cells: how many cells of its first lattice are in the width."""
    y, x = np.mgrid[0:height // 4 + 2, 0:width // 4 + 2] * (4 / width * cells)
    small = noise(rng, x + 3, y + 9, octaves)
    where = np.mgrid[0:height, 0:width] / 4
    return nd.map_coordinates(small, where, order=1)


def _relief(heights, towards):
    """Return how much higher each point is than the one at an offset, as if light came from there."""
    return heights - nd.shift(heights, towards, order=0, mode="nearest")


def _mixed(a, b, share):
    """Mix two colours or pictures. share: that of b, 0 to 1 at each position."""
    return np.asarray(a) * (1 - share[..., None]) + np.asarray(b) * share[..., None]


def _grained(rng, picture):
    """Add the grain of a photograph, and round to whole numbers."""
    return np.float32(np.clip(np.rint(picture + rng.normal(0, 1.5, (*picture.shape[:2], 1))), 0, 255))
