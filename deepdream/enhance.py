"""Enhance what a layer already sees in a picture, and keep the picture natural.

Unlike a dream, this is a minimization that converges. With f(X) the features of a picture X at the layer `end`, X0 the
original picture and n the number of its values, L-BFGS minimizes over X:

    E(X) = sum((f(X) - k f(X0))^2) / sum(f(X0)^2)  +  weight * R(X) / n

    R for the prior tv:   sum sqrt(dx^2 + dy^2 + 1)
    R for the prior l2:   sum (X - mean)^2 / 256

With natural, L-BFGS does not change X itself but z in X = start + A z, where A is the filter of `goals.natural`, to the
power of a half: large structures change more easily than fine ones, and brightness more easily than colour, as in
photographs. Instead of coloured specks, light, shade and strokes appear.

This is done in octaves, as in a dream: from a small version of the picture to the full size, each starting from its
version of the picture plus the detail that was found so far. At one size only, L-BFGS finds the features in fine grain
that nobody sees; over several sizes it finds them in strokes of all sizes.

The first term, the data term, starts at (k - 1)^2. R / n is about 2 to 30 for a photograph, whatever the layer and the
size of the picture.
"""
import numbers
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import scipy.ndimage as nd
from scipy.optimize import minimize

from .dream import octave_sizes, possible_octaves
from .engine import memory
from .engine.step import Step
from .errors import DreamError
from .goals.natural import Natural
from .goals.objectives import objective_match
from .goals.priors import Grey, TotalVariation
from .keywords import suggesting
from .net import Net
from .net.lock import exclusive
from .net.pixels import deprocess, preprocess

PRIORS = {"tv": TotalVariation, "l2": Grey, "none": None}
K, ITER_N, OCTAVE_N, OCTAVE_SCALE = 4.0, 15, 4, 1.4
WEIGHTS = {"tv": 0.25, "l2": 0.003, "none": 0.0}
# The net computes in float32, which gives E of GoogLeNet at 4c to a relative precision of about 1e-6. An iteration that
# lowers E by less than ten times that may only follow the noise.
REDUCTION = 1e-5
GRADIENT = 1e-5          # the gradient is small if changing every value by one level would change E by less than this
STOPS = {                # a part of scipy's message -> the reason for stopping, in words
    "GRADIENT": "converged: the gradient is small",
    "REDUCTION": f"converged: an iteration lowered the objective by less than {REDUCTION:g} of it",
    "ITERATIONS": "the iteration limit was reached",
    "ABNORMAL": "the line search found nothing lower",
}
INTERRUPTED = "interrupted"


class EnhanceReport(NamedTuple):
    """What `enhance` reports of an iteration.

    objective: E, which is data + weight * prior.
    data: the data term, the first term of E.
    prior: R / n.
    gradient: the sum of |dE/dX|, which is how much E would change if every value changed by one level. Values at a
        bound that the gradient would push beyond it are left out.
    """
    objective: float
    data: float
    prior: float
    gradient: float


class Enhanced(NamedTuple):
    """The result of `enhance`.

    picture: float32 (H, W, 3).
    stopped: the reason for stopping, in words: one of STOPS, or INTERRUPTED.
    history: an EnhanceReport of the start and of each iteration of the last octave.
    iterations: the number of iterations in all octaves.
    """
    picture: np.ndarray
    stopped: str
    history: list[EnhanceReport]
    iterations: int


@exclusive
@suggesting
def enhance(net: Net, img: np.ndarray, end: str = "inception_4c/output", k: float = K, prior: str = "tv",
            weight: float | None = None, iter_n: int = ITER_N, clip: bool = True, on_step: Callable | None = None,
            octave_n: int = OCTAVE_N, octave_scale: float = OCTAVE_SCALE, natural: float | None = None) -> Enhanced:
    """Find a natural picture whose features at a layer are k times those of a picture.

    net: the net.
    img: the picture, (H, W, 3), RGB, 0 to 255.
    end: the layer.
    k: the factor, from 0. Above 1 it enhances what the layer sees, below 1 it takes it away.
    prior: what is natural, one of PRIORS: 'tv' (total variation), 'l2' (close to the mean) or 'none'.
    weight: the weight of the prior, from 0; that of WEIGHTS if None.
    iter_n: the maximum number of iterations in each octave.
    clip: keep the picture within 0 to 255.
    on_step: called as on_step(i, vis, report) for the start of each octave and after each iteration; i counts the
        iterations of all octaves, from 0. vis() returns the picture so far, (H, W, 3) at the size of the octave; report
        is an EnhanceReport.
    octave_n: the number of octaves; 1: at the full size only.
    octave_scale: how many times larger each octave is than the one before.
    natural: change the picture in a space of natural colours and frequencies; 1: as photographs have them, more:
        prefer large structures; None or 0: change the pixels.

    Returns an Enhanced. Ctrl-C ends it early, with the picture of the last iteration. Raises DreamError for options
    that are not allowed, for a picture that is too small for the layer or too large for the memory, and for one in
    which the layer sees nothing.
    """
    weight = _checked_weight(img, prior, weight, k=k, iter_n=iter_n, octave_n=octave_n, octave_scale=octave_scale,
                             natural=natural or 0)
    if net.leftover:
        raise DreamError("leftover_diffs: enhance needs the gradients of a fresh net")
    sizes = possible_octaves(net, [end], octave_sizes(*np.shape(img)[:2], octave_n, octave_scale))
    net.sizes.check_octaves(net.checked(end), sizes)
    part, detail, done = None, None, 0

    def report(i, vis, values):
        if on_step:
            on_step(done + i, vis, values)

    try:
        for h, w in sizes:
            base = np.float32(img) if (h, w) == sizes[-1] else _scaled(img, h, w)
            energy = Energy(net, base, end, k, prior, weight, clip)
            start = energy.start if part is None else energy.values_of(base + _scaled(detail, h, w))
            part = _minimized(NaturalEnergy(energy, start, natural), np.zeros(start.size), iter_n, report) if natural \
                else _minimized(energy, start, iter_n, report)
            found = np.clip(part.picture, 0, 255) if clip else part.picture
            detail, done = found - base, done + part.iterations
            if part.stopped == INTERRUPTED:
                break
    except KeyboardInterrupt:      # while an octave was prepared
        if part is None:
            raise
        part = part._replace(stopped=INTERRUPTED)
    picture = part.picture
    if picture.shape != np.shape(img):      # interrupted in a smaller octave
        picture = img + _scaled(detail, *np.shape(img)[:2])
    return Enhanced(np.clip(picture, 0, 255) if clip else picture, part.stopped, part.history, done)


def _scaled(img, h, w):
    """Scale a picture or a detail linearly, as the octaves of a dream are scaled."""
    return nd.zoom(np.float32(img), (h / len(img), w / len(img[0]), 1), order=1)


def _minimized(energy, start, iter_n, on_step):
    """Minimize an Energy or a NaturalEnergy from the values `start`. Returns an Enhanced of this octave."""
    history, best = [], None

    def on_iteration(x):
        nonlocal best
        best = x          # L-BFGS never goes up, so the last one is the best
        history.append(energy.last)
        on_step(len(history) - 1, lambda: energy.picture(x), energy.last)

    gradient = energy(start)[1]
    if not np.isfinite(energy.last).all():
        raise DreamError(f"the gradient at '{energy.end}' is not a finite number: the net's numbers overflow on this "
                         "picture")
    # The first step of L-BFGS is the gradient itself. In these units it changes a value by one level on average, which
    # is well above the noise of float32.
    energy.unit = float(np.abs(gradient).mean()) or 1.0
    try:
        on_iteration(start)
        result = minimize(energy, start, jac=True, method="L-BFGS-B", callback=on_iteration,
                          bounds=[(0, 255)] * start.size if energy.clip else None,
                          options={"maxiter": int(iter_n), "maxfun": np.inf, "ftol": REDUCTION,
                                   "gtol": GRADIENT / start.size / energy.unit})
        stopped = next((why for part, why in STOPS.items() if part in result.message.upper()), result.message)
    except KeyboardInterrupt:
        if not history:
            raise
        stopped = INTERRUPTED
    return Enhanced(energy.picture(best), stopped, history, max(0, len(history) - 1))


class Energy:
    """The function that `enhance` minimizes: called with X, it returns E and its gradient.

    X is a float64 vector of the picture's values, in the net's order of axes and channels. The arguments are those of
    `enhance`.

    start: X of the original picture.
    unit: E and its gradient are divided by this.
    last: the EnhanceReport of the last call.
    """

    def __init__(self, net: Net, img: np.ndarray, end: str, k: float, prior: str, weight: float, clip: bool):
        features = net.features(img, end)
        self.scale = float(np.sum(np.square(features, dtype=np.float64)))
        if not self.scale > 0:
            raise DreamError(f"'{end}' sees nothing in this picture: all of its values are "
                             + ("zero" if self.scale == 0 else "not numbers"))
        step = Step(objective_match(np.float32(k) * features).at(end), clip=False)
        memory.check_fits(net, step, np.shape(img)[:2], whole_step=False)
        self.net, self.end, self.clip, self.unit, self.last = net, end, clip, 1.0, None
        self.session, self.feeds = net.programs.session(net.programs.objective(step)), step.objective.feeds()
        self.mean = np.float64(net.transformer.mean[net.inputs[0]])
        self.shape, self.start = preprocess(net, img).shape, self.values_of(img)
        self.prior = PRIORS[prior] and PRIORS[prior](1)
        self.weight = weight

    def values_of(self, img: np.ndarray) -> np.ndarray:
        """Return X of a picture, (H, W, 3)."""
        data = np.float64(preprocess(self.net, img)) + self.mean
        return data.clip(0, 255).ravel() if self.clip else data.ravel()

    def __call__(self, x):
        data = (x.reshape(self.shape) - self.mean)[None]
        value, diff = self.session.run(["objective", "data_diff"], {"data": np.float32(data), **self.feeds})
        data_term, gradient = -float(value) / self.scale, np.float64(diff) / -self.scale
        prior_term = 0.0
        if self.prior:
            prior_term = float(self.prior.value(data, self.prior.inputs)) / data.size
            gradient += self.weight / data.size * self.prior(data, self.prior.inputs)
        gradient = gradient.ravel()
        total = data_term + self.weight * prior_term
        self.last = EnhanceReport(total, data_term, prior_term, float(np.abs(self._free(x, gradient)).sum()))
        return total / self.unit, gradient / self.unit

    def _free(self, x, gradient):
        """Return the gradient of the values that a descent does not push beyond their bounds."""
        return gradient[(x > 0) & (gradient > 0) | (x < 255) & (gradient < 0)] if self.clip else gradient

    def picture(self, x: np.ndarray) -> np.ndarray:
        """Return X as a picture, float32 (H, W, 3)."""
        return np.float32(deprocess(self.net, x.reshape(self.shape) - self.mean))


class NaturalEnergy:
    """An Energy as a function of z, where X = start + A z.

    A multiplies, in the principal colours and in Fourier space, with the square root of the amplitudes of photographs,
    so that a step along the gradient of z changes X by what `goals.natural` makes of the gradient of X. A is symmetric.
    z has no bounds: what exceeds 0 to 255 in X is clipped at the end of each octave.

    energy: the Energy.
    start: the X at z = 0.
    strength: of the prior `Natural`.
    """
    clip = False

    def __init__(self, energy: Energy, start: np.ndarray, strength: float):
        self.energy, self.start, self.end = energy, start, energy.end
        net = energy.net
        natural = Natural(strength, net.transformer.channel_swap[net.inputs[0]]).sized(*energy.shape[1:])
        self.filter, self.feeds = natural, natural.inputs | {"amplitudes": np.sqrt(natural.inputs["amplitudes"])}

    last = property(lambda self: self.energy.last)

    @property
    def unit(self) -> float:
        """The unit of the Energy."""
        return self.energy.unit

    @unit.setter
    def unit(self, unit: float):
        self.energy.unit = unit

    def __call__(self, z):
        value, gradient = self.energy(self._values(z))
        return value, self._filtered(gradient)

    def picture(self, z: np.ndarray) -> np.ndarray:
        """Return z as a picture, float32 (H, W, 3)."""
        return self.energy.picture(self._values(z))

    def _values(self, z):
        return self.start + self._filtered(z)

    def _filtered(self, z):
        return np.float64(self.filter(z.reshape(1, *self.energy.shape), self.feeds)).ravel()


OPTIONS = {   # option -> (allowed values in words, test)
    "k": ("a number from 0", lambda v: v >= 0),
    "weight": ("a number from 0", lambda v: v >= 0),
    "iter_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_scale": ("a number greater than 1", lambda v: v > 1),
    "natural": ("a number from 0", lambda v: v >= 0),
}


def _checked_weight(img, prior, weight, **values):
    """Return the weight of the prior. Raises DreamError for options that are not allowed."""
    if np.ndim(img) != 3 or np.shape(img)[2] != 3:
        raise DreamError(f"the picture must be an array of shape (H, W, 3), not {np.shape(img)}")
    if prior not in PRIORS:
        raise DreamError(f"prior is {prior!r}; allowed are {', '.join(PRIORS)}")
    if prior == "none" and weight is not None:
        raise DreamError(f"weight is {weight}, but there is no prior to weigh; prior may be tv or l2")
    values["weight"] = WEIGHTS[prior] if weight is None else weight
    for name, value in values.items():
        allowed, test = OPTIONS[name]
        if not isinstance(value, numbers.Real) or not np.isfinite(value) or not test(value):
            raise DreamError(f"{name} is {value}; allowed is {allowed}")
    return 0.0 if prior == "none" else float(values["weight"])
