"""Statistics of dreams that can be compared where pixels cannot: two dreams of one picture differ by their jitter.

`measure` turns a dream into a few arrays, one a statistic; `compare` asks of each whether a reference could be one more
of a sample of dreams that differ in nothing but the seed.
"""
import math
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Callable

import numpy as np

BLOCK = 8              # pixels: side of the means that the low frequencies are taken from
BANDS = 12             # rings of the power spectrum, equally wide in log frequency
PRIOR = 3              # how many dreams the spreads below weigh, beside those at hand
FAR = 99.0             # no z is larger: dreams that do not differ at all have no spread
NO = 5.0               # a statistic as many standard deviations out, alone, says no
DOUBTFUL = 2.2         # all statistics together, as the root of the mean of z^2
WRONG = 3.0


@dataclass(frozen=True)
class Statistic:
    """name, unit: for people. of: called with a Dream, returns a number or a vector. spread: standard deviation over
    seeds of the logarithm: of a number; of a vector, that of its mean squared distance from other dreams over theirs
    from each other. Measured on twelve dreams of real Caffe, four each of Google's three, 1024 x 575 pixels."""
    name: str
    unit: str
    spread: float
    of: Callable


@dataclass
class Dream:
    """A dream under measurement. picture, source: (H, W, 3); ends: {end: activations (C, h, w)}, from low to high; end:
    where it was dreamt; objective: a function of a blob, as of make_step."""
    picture: np.ndarray
    source: np.ndarray
    ends: dict
    end: str
    objective: Callable

    @property
    def change(self):
        return self.picture - self.source


def _direction(x):
    """x as a vector of such a length that the mean squared distance of two is 1 - their correlation (or cosine)."""
    return np.ravel(x) / np.linalg.norm(x) * math.sqrt(x.size / 2)


def mean_change(d):
    return np.abs(d.change).mean()


def low_frequencies(d):
    """Means of the change over blocks of 8 x 8 pixels, as a direction."""
    h, w = (n - n % BLOCK for n in d.change.shape[:2])
    means = d.change[:h, :w].reshape(h // BLOCK, BLOCK, w // BLOCK, BLOCK, 3).mean((1, 3))
    return _direction(means - means.mean((0, 1)))


def spectrum(d):
    """Power of the grey change in rings of equal width in log frequency, in decibels."""
    grey = d.change.mean(2)
    h, w = grey.shape
    window = np.outer(np.hanning(h), np.hanning(w))
    power = np.abs(np.fft.rfft2((grey - grey.mean()) * window)) ** 2 / (window ** 2).sum()
    radius = np.hypot(np.fft.fftfreq(h)[:, None], np.fft.rfftfreq(w)[None])
    edges = np.geomspace(6 / min(h, w), 0.5, BANDS + 1)      # the lowest rings hold too few waves to be steady
    ring = np.digitize(radius, edges)
    return np.array([10 * np.log10(power[ring == i].mean() + 1e-12) for i in range(1, BANDS + 1) if (ring == i).any()])


def objective(d):
    """What the dream's own objective is at its `end`, for each position there."""
    x = d.ends[d.end][None]
    dst = SimpleNamespace(data=x, diff=np.zeros_like(x))
    d.objective(dst)
    return float(np.vdot(x.astype(np.float64), dst.diff)) / x[0, 0].size


def channels(d):
    """Mean of the positive part of each channel at `end`, as a direction."""
    return _direction(np.maximum(d.ends[d.end], 0).mean((1, 2)))


def content(d):
    """Mean of each channel of the highest layer looked at, as a direction: what things there are to see."""
    return _direction(np.maximum(list(d.ends.values())[-1], 0).mean((1, 2)))


def layers(d):
    """Energy at layers from low to high, in decibels."""
    return np.array([10 * math.log10(np.mean(np.maximum(x, 0).astype(np.float64) ** 2) + 1e-12)
                     for x in d.ends.values()])


def colours(d):
    """Mean and standard deviation of red, green and blue, and of their differences, of 255."""
    r, g, b = np.moveaxis(d.picture, 2, 0)
    return np.array([m(x) for x in (r, g, b, r - g, g - b) for m in (np.mean, np.std)])


STATISTICS = {
    "change": Statistic("mean absolute change", "of 255", 0.006, mean_change),
    "low": Statistic("low frequencies of the change", "√(1 - correlation)", 0.03, low_frequencies),
    "spectrum": Statistic("power spectrum of the change", "dB apart", 0.32, spectrum),
    "objective": Statistic("objective reached", "a position", 0.05, objective),
    "channels": Statistic("channels at the end", "√(1 - cosine)", 0.27, channels),
    "content": Statistic("channels of a high layer", "√(1 - cosine)", 0.18, content),
    "layers": Statistic("energy of the layers", "dB apart", 0.42, layers),
    "colours": Statistic("colours", "of 255 apart", 0.38, colours),
}


def measure(dream):
    """{statistic: an array of one number, or of many}."""
    return {key: np.atleast_1d(s.of(dream)).astype(np.float64) for key, s in STATISTICS.items()}


@dataclass(frozen=True)
class Result:
    """One statistic of one picture. value: the reference's (of a vector, its distance from our dreams, rms); low, high:
    the range of ours (the distances among them); z: how many standard deviations the reference is out (of a vector,
    only upwards: it cannot be too near); rank: how many of ours are further out, and how many there are."""
    statistic: str
    value: float
    low: float
    high: float
    z: float
    rank: tuple

    @property
    def fits(self):
        return abs(self.z) < NO


def compare(reference, sample):
    """[Result]: could `reference` be one more of `sample`? Both as from `measure`, the sample of two dreams or more."""
    if len(sample) < 2:
        raise ValueError("a spread needs two dreams or more")
    return [(_number if len(reference[key]) == 1 else _vector)(key, reference[key], [s[key] for s in sample])
            for key in STATISTICS]


def _number(key, reference, sample):
    ours, n = np.array([s[0] for s in sample]), len(sample)
    logs, value = np.log(ours), float(reference[0])
    variance = (PRIOR * STATISTICS[key].spread ** 2 + ((logs - logs.mean()) ** 2).sum()) / (PRIOR + n - 1)
    out = math.log(value) - logs.mean()
    z = out / math.sqrt(variance * (1 + 1 / n))
    return Result(key, value, ours.min(), ours.max(), min(max(z, -FAR), FAR),
                  (int((np.abs(logs - logs.mean()) > abs(out)).sum()), n))


def _vector(key, reference, sample):
    n, v = len(sample), np.array(sample)
    pairs = ((v[:, None] - v[None]) ** 2).mean(2)
    among = pairs[np.triu_indices(n, 1)]
    away = ((v - reference) ** 2).mean(1).mean()
    spread = STATISTICS[key].spread * math.sqrt(1 + 3 / (n - 1))
    out = math.log(max(away, 1e-30) / max(among.mean(), 1e-30)) / spread
    own = pairs.sum(1) / (n - 1)
    return Result(key, math.sqrt(away), math.sqrt(among.min()), math.sqrt(among.max()), min(max(out, 0.0), FAR),
                  (int((own > away).sum()), n))


def together(results):
    """All statistics at once: the root of the mean of z^2."""
    return math.sqrt(sum(r.z ** 2 for r in results) / len(results))


def verdict(results):
    """'fits', 'doubtful' or 'no'."""
    score = together(results)
    if score >= WRONG or not all(r.fits for r in results):
        return "no"
    return "doubtful" if score >= DOUBTFUL else "fits"
