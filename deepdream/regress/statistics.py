"""Statistics of dreams. Two dreams of one picture differ in every pixel because of their jitter, but not in these.

`measure` turns a dream into a few arrays, one for each statistic; `compare` tests for each of them whether a reference
could be one more of a sample of dreams that differ only in their seeds.
"""
from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import SimpleNamespace

import numpy as np

BLOCK = 8              # pixels: side of the blocks whose means are the low frequencies
BANDS = 12             # number of rings of the power spectrum, equally wide in log frequency
PRIOR = 3              # the spreads in STATISTICS count as much as this number of dreams in the sample
LEAST = 1e-4           # a smaller or negative cosine counts as this
FAR = 99.0             # maximum of |z|; without a spread in the sample, z would be infinite
NO = 5.0               # a single statistic with this |z| means no
DOUBTFUL = 2.2         # limits for all statistics together, the root of the mean of z^2
WRONG = 3.0
ACROSS = 4.0           # a statistic that is out by this much in all pictures together means no


@dataclass(frozen=True)
class Statistic:
    """A property of dreams.

    name, unit: for people.
    spread: the standard deviation over seeds of a logarithm. For a number, it is the logarithm of the number; for a
        vector, that of the mean squared distance from the dreams of a sample, relative to their distances from each
        other. Measured on twelve dreams of real Caffe, four each of three of Google's pictures, 1024 x 575 pixels.
    of: computes a number or a vector from a Dream.
    is_number: which of both.
    """
    name: str
    unit: str
    spread: float
    of: Callable[[Dream], float | np.ndarray]
    is_number: bool = False


@dataclass(frozen=True)
class Calibration:
    """Spreads of the statistics that were measured for one picture and net.

    dreams: the number of dreams that they were measured on.
    spreads: {key in STATISTICS: spread}, as `Statistic.spread`.
    """
    dreams: int
    spreads: Mapping[str, float]


@dataclass
class Dream:
    """A dream to measure.

    picture: the dream, (H, W, 3).
    source: the picture from which it started, (H, W, 3).
    ends: {end: activations (C, h, w)} of the dream, from low to high.
    gradient: that of the objective at the dream, (H, W, 3).
    end: where it was dreamt.
    objective: sets the diff of a blob, as in `make_step`.
    """
    picture: np.ndarray
    source: np.ndarray
    ends: dict[str, np.ndarray]
    gradient: np.ndarray
    end: str
    objective: Callable

    @property
    def change(self) -> np.ndarray:
        """What the dream added to its source, (H, W, 3)."""
        return self.picture - self.source


def _direction(x):
    """Scale x so that the mean squared distance of two results is 1 - their correlation (or cosine)."""
    return np.ravel(x) / np.linalg.norm(x) * math.sqrt(x.size / 2)


def mean_change(d: Dream) -> float:
    """Return the mean absolute change of a pixel."""
    return np.abs(d.change).mean()


def low_frequencies(d: Dream) -> np.ndarray:
    """Return the means of the change over blocks of 8 x 8 pixels, as a direction."""
    h, w = (n - n % BLOCK for n in d.change.shape[:2])
    means = d.change[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK, 3).mean((1, 3))
    return _direction(means - means.mean((0, 1)))


def spectrum(d: Dream) -> np.ndarray:
    """Return the power of the change of the grey levels in BANDS rings, in decibels."""
    grey = d.change.mean(2)
    h, w = grey.shape
    window = np.outer(np.hanning(h), np.hanning(w))
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 / (window ** 2).sum()
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    edges = np.geomspace(6 / min(h, w), 0.5, BANDS + 1)      # lower rings would hold too few waves to be stable
    ring = np.digitize(radius, edges)
    return np.array([10 * np.log10(power[ring == i].mean() + 1e-12) for i in range(1, BANDS + 1) if (ring == i).any()])


def objective(d: Dream) -> float:
    """Return the value of the dream's objective at its `end`, divided by the number of positions there."""
    x = d.ends[d.end][None]
    dst = SimpleNamespace(data=x, diff=np.zeros_like(x))
    d.objective(dst)
    return float(np.vdot(x.astype(np.float64), dst.diff)) / x[0, 0].size


def along_gradient(d: Dream) -> float:
    """Return the cosine between the change and the gradient at the dream, which shows where the dream was going.

    A net that sees a dream other than the one that dreamt it does (without its mean, for example) has another gradient
    there.
    """
    change = d.change.astype(np.float64)
    cosine = (change * d.gradient).sum() / (np.linalg.norm(change) * np.linalg.norm(d.gradient))
    return max(float(cosine), LEAST)      # its logarithm is compared


def channels(d: Dream) -> np.ndarray:
    """Return the mean of the positive part of each channel at `end`, as a direction."""
    return _direction(np.maximum(d.ends[d.end], 0).mean((1, 2)))


def content(d: Dream) -> np.ndarray:
    """Return the mean of the positive part of each channel of the highest layer, as a direction."""
    return _direction(np.maximum(list(d.ends.values())[-1], 0).mean((1, 2)))


def layers(d: Dream) -> np.ndarray:
    """Return the energy of the layers from low to high, in decibels."""
    return np.array([10 * math.log10(np.mean(np.maximum(x, 0).astype(np.float64) ** 2) + 1e-12)
                     for x in d.ends.values()])


def colours(d: Dream) -> np.ndarray:
    """Return mean and standard deviation of red, green, blue and two of their differences, on the scale of 0 to 255."""
    r, g, b = np.moveaxis(d.picture, 2, 0)
    return np.array([m(x) for x in (r, g, b, r - g, g - b) for m in (np.mean, np.std)])


STATISTICS = {
    "change": Statistic("mean absolute change", "of 255", 0.006, mean_change, is_number=True),
    "low": Statistic("low frequencies of the change", "√(1 - correlation)", 0.03, low_frequencies),
    "spectrum": Statistic("power spectrum of the change", "dB apart", 0.32, spectrum),
    "objective": Statistic("objective reached", "per position", 0.05, objective, is_number=True),
    "gradient": Statistic("change along the gradient", "cosine", 0.05, along_gradient, is_number=True),
    "channels": Statistic("channels at the end", "√(1 - cosine)", 0.27, channels),
    "content": Statistic("channels of a high layer", "√(1 - cosine)", 0.18, content),
    "layers": Statistic("energy of the layers", "dB apart", 0.42, layers),
    "colours": Statistic("colours", "of 255 apart", 0.38, colours),
}


def measure(dream: Dream) -> dict[str, np.ndarray]:
    """Compute all statistics of a dream. Returns {key in STATISTICS: float64 array of one number or more}."""
    return {key: np.atleast_1d(s.of(dream)).astype(np.float64) for key, s in STATISTICS.items()}


@dataclass(frozen=True)
class Result:
    """One statistic of a reference, compared with those of our dreams.

    statistic: key in STATISTICS.
    value: that of the reference. For a vector, its distance from our dreams (root mean square).
    low, high: the range of our dreams. For a vector, that of their distances from each other.
    z: how many standard deviations the reference is out. For a vector, at least 0, because it cannot be too near.
    rank: how many of our dreams are further out than the reference, and how many dreams there are.
    """
    statistic: str
    value: float
    low: float
    high: float
    z: float
    rank: tuple[int, int]

    @property
    def fits(self) -> bool:
        """Whether the statistic is within its limit."""
        return abs(self.z) < NO


def compare(reference: dict[str, np.ndarray], sample: Sequence[dict[str, np.ndarray]],
            calibration: Calibration | None = None) -> list[Result]:
    """Test whether a reference could be one more dream of a sample.

    reference: from `measure`.
    sample: of at least two dreams, from `measure`.
    calibration: spreads that were measured for the same picture and net; by default those of STATISTICS, which are
        guesses for any picture, and count less.

    Returns one result for each statistic. Raises ValueError for a sample that is too small.
    """
    if len(sample) < 2:
        raise ValueError("a spread needs two dreams or more")
    if calibration is None:
        calibration = Calibration(PRIOR + 1, {key: s.spread for key, s in STATISTICS.items()})
    results, weight = [], calibration.dreams - 1
    for key, spread in calibration.spreads.items():
        test = _number if len(reference[key]) == 1 else _vector
        results.append(test(key, reference[key], [s[key] for s in sample], spread, weight))
    return results


def _number(key, reference, sample, spread, weight):
    ours, n = np.array([s[0] for s in sample]), len(sample)
    logs, value = np.log(ours), float(reference[0])
    variance = (weight * spread ** 2 + ((logs - logs.mean()) ** 2).sum()) / (weight + n - 1)
    out = math.log(value) - logs.mean()
    z = out / math.sqrt(variance * (1 + 1 / n))
    return Result(key, value, ours.min(), ours.max(), min(max(z, -FAR), FAR),
                  (int((np.abs(logs - logs.mean()) > abs(out)).sum()), n))


def _vector(key, reference, sample, spread, _):
    n, v = len(sample), np.array(sample)
    pairs = ((v[:, None] - v[None]) ** 2).mean(2)
    among = pairs[np.triu_indices(n, 1)]
    away = ((v - reference) ** 2).mean(1).mean()
    out = math.log(max(away, 1e-30) / max(among.mean(), 1e-30)) / (spread * math.sqrt(1 + 3 / (n - 1)))
    distances = pairs.sum(1) / (n - 1)
    return Result(key, math.sqrt(away), math.sqrt(among.min()), math.sqrt(among.max()), min(max(out, 0.0), FAR),
                  (int((distances > away).sum()), n))


def together(results: Sequence[Result]) -> float:
    """Combine all statistics of a picture: the root of the mean of z^2."""
    return math.sqrt(sum(r.z ** 2 for r in results) / len(results))


def across(pictures: Sequence[Sequence[Result]]) -> dict[str, float]:
    """Combine the results of several pictures.

    A mistake moves a number in the same direction in each picture, so deviations that are too small to be noticed in
    one picture add up.

    pictures: the results of each picture.

    Returns {statistic: z}, for those statistics that are numbers.
    """
    numbers = [key for key, s in STATISTICS.items() if s.is_number]
    return {key: sum(r.z for results in pictures for r in results if r.statistic == key) / math.sqrt(len(pictures))
            for key in numbers}


def verdict(results: Sequence[Result]) -> str:
    """Judge a picture by all its statistics: 'fits', 'doubtful' or 'no'."""
    score = together(results)
    if score >= WRONG or not all(r.fits for r in results):
        return "no"
    return "doubtful" if score >= DOUBTFUL else "fits"
