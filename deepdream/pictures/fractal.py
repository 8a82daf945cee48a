"""Smooth fractal noise, of which the scenes made by formula consist."""
import numpy as np
import scipy.ndimage as nd


def noise(rng: np.random.Generator, u: np.ndarray, v: np.ndarray, octaves: int, splines: int = 2) -> np.ndarray:
    """Compute smooth fractal noise, about 0 to 1, by interpolating random lattices, each half as wide as the last.

    rng: the source of the lattices.
    u, v: the coordinates, in cells of the first lattice.
    octaves: the number of lattices.
    splines: how many of them, the coarse ones, are interpolated by splines; the others are interpolated linearly.
    """
    total, weight = np.zeros_like(u), 0.0
    for i in range(octaves):
        lattice = rng.random((64, 64))
        coordinates = np.stack([(v * 2 ** i) % 64, (u * 2 ** i) % 64])
        order = 3 if i < splines else 1                    # the fine lattices need no splines
        total += nd.map_coordinates(lattice, coordinates, order=order, mode="grid-wrap") * 0.55 ** i
        weight += 0.55 ** i
    return total / weight
