"""Enhance what a layer already sees in a picture, under a naturalness prior: a descent with an end, not a dream.

Minimized over X, by L-BFGS, with f what the net computes at `end`, X0 the picture, n the number of its values:

    E(X) = sum((f(X) - k f(X0))^2) / sum(f(X0)^2)  +  weight * R(X) / n

    R, tv:   sum sqrt(dx^2 + dy^2 + 1)      (levels)
    R, l2:   sum (X - mean)^2 / 256

The data term starts at (k - 1)^2 and R / n is some 2 to 30 for a photograph, at every end and every size.
"""
import numbers
from typing import NamedTuple

import numpy as np
from scipy.optimize import minimize

from .engine import memory
from .engine.step import Step
from .errors import DreamError
from .goals.objectives import objective_match
from .goals.priors import Grey, TotalVariation
from .net.lock import exclusive
from .net.pixels import deprocess, preprocess

PRIORS = {"tv": TotalVariation, "l2": Grey, "none": None}
K, WEIGHT, ITER_N = 2.0, 0.003, 60
# The net computes in float32: E of GoogLeNet at 4c is known to about 1e-6 of itself. Below ten times that, an iteration
# may be following the noise; scipy's factr is this divided by float64's epsilon.
REDUCTION = 1e-5
GRADIENT = 1e-5          # small: moving every value by one level would not change E by more
STOPS = {                # what scipy's message holds -> why it stopped
    "GRADIENT": "converged: the gradient is small",
    "REDUCTION": f"converged: an iteration lowered the objective by less than {REDUCTION:g} of it",
    "ITERATIONS": "the iteration limit was reached",
    "ABNORMAL": "the line search found nothing lower",
}
INTERRUPTED = "interrupted"


class Told(NamedTuple):
    """An iteration. objective = data + weight * prior: E, its first term, R / n; gradient: sum |dE/dX|, so much would
    E change if every value moved by a level; values that stand at their bound and push against it do not count."""
    objective: float
    data: float
    prior: float
    gradient: float


class Enhanced(NamedTuple):
    """picture: float32 (H, W, 3); stopped: why, in words; history: [Told], the start and each iteration."""
    picture: np.ndarray
    stopped: str
    history: list


@exclusive
def enhance(net, img, end="inception_4c/output", k=K, prior="tv", weight=None, iter_n=ITER_N, clip=True, on_step=None):
    """Find the picture whose features at `end` are k times those of `img`, and which is natural.

    img: (H, W, 3), RGB 0 to 255. k: above 1 enhances, below 1 takes away, 1 only makes natural. prior: of PRIORS;
    weight: of it (0.003). iter_n: iterations at most. clip: within 0 to 255. on_step(i, vis, told): called for the
    start (i = 0) and after each iteration; vis() is the picture so far, (H, W, 3), told a `Told`.

    Returns an Enhanced. Ctrl-C ends it early, with the picture of the last iteration and stopped "interrupted". Raises
    DreamError for options that make no sense, a picture too small for `end`, and one in which `end` sees nothing.
    """
    weight = _checked(img, k, prior, weight, iter_n)
    if net.leftover:
        raise DreamError("leftover_diffs: enhance needs the gradients of a fresh net")
    energy, history, kept = _Energy(net, img, end, k, prior, weight, clip), [], None

    def on_iteration(x):
        nonlocal kept
        kept = x          # L-BFGS never goes up: the last is the best
        history.append(energy.last)
        if on_step:
            on_step(len(history) - 1, lambda: energy.picture(x), energy.last)

    gradient = energy(energy.start)[1]
    if not np.isfinite(energy.last).all():
        raise DreamError(f"the gradient at '{end}' is not a finite number: the net's numbers overflow on this picture")
    # in these units the first step, the gradient itself, changes a value by one level in the mean: well above
    # float32's noise
    energy.unit = float(np.abs(gradient).mean()) or 1.0
    try:
        on_iteration(energy.start)
        found = minimize(energy, energy.start, jac=True, method="L-BFGS-B", callback=on_iteration,
                         bounds=[(0, 255)] * energy.start.size if clip else None,
                         options={"maxiter": int(iter_n), "maxfun": np.inf, "ftol": REDUCTION,
                                  "gtol": GRADIENT / energy.start.size / energy.unit})
        stopped = next((why for part, why in STOPS.items() if part in found.message.upper()), found.message)
    except KeyboardInterrupt:
        stopped = INTERRUPTED
    return Enhanced(energy.picture(kept), stopped, history)


class _Energy:
    """E and its gradient, in units of `unit`, of a float64 vector X: the picture's values in the net's layout.

    start: X of the picture; last: the Told of the last call.
    """

    def __init__(self, net, img, end, k, prior, weight, clip):
        features = net.features(img, end)
        self.scale = float(np.sum(np.square(features, dtype=np.float64)))
        if not self.scale > 0:
            raise DreamError(f"'{end}' sees nothing in this picture: all of its values are "
                             + ("zero" if self.scale == 0 else "not numbers"))
        step = Step(objective_match(np.float32(k) * features).at(end), clip=False)
        memory.check(net, step, np.shape(img)[:2], whole_step=False)
        self.net, self.clip, self.unit, self.last = net, clip, 1.0, None
        self.session, self.feeds = net.programs.session(net.programs.objective(step)), step.objective.feeds()
        self.mean = np.float64(net.transformer.mean[net.inputs[0]])
        data = np.float64(preprocess(net, img)) + self.mean
        self.shape, self.start = data.shape, data.clip(0, 255).ravel() if clip else data.ravel()
        self.prior = PRIORS[prior] and PRIORS[prior](1)
        self.weight = weight

    def __call__(self, x):
        data = (x.reshape(self.shape) - self.mean)[None]
        value, diff = self.session.run(["objective", "data_diff"], {"data": np.float32(data), **self.feeds})
        off, gradient = -float(value) / self.scale, np.float64(diff) / -self.scale
        natural = 0.0
        if self.prior:
            natural = float(self.prior.value(data, self.prior.inputs)) / data.size
            gradient += self.weight / data.size * self.prior(data, self.prior.inputs)
        gradient = gradient.ravel()
        total = off + self.weight * natural
        self.last = Told(total, off, natural, float(np.abs(self._free(x, gradient)).sum()))
        return total / self.unit, gradient / self.unit

    def _free(self, x, gradient):
        """The gradient where a step down it stays within the bounds."""
        return gradient[(x > 0) & (gradient > 0) | (x < 255) & (gradient < 0)] if self.clip else gradient

    def picture(self, x):
        """(H, W, 3) float32."""
        return np.float32(deprocess(self.net, x.reshape(self.shape) - self.mean))


OPTIONS = {   # option -> (what is allowed, test)
    "k": ("a number from 0", lambda v: v >= 0),
    "weight": ("a number from 0", lambda v: v >= 0),
    "iter_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
}


def _checked(img, k, prior, weight, iter_n):
    """The prior's weight. Raises DreamError for what makes no sense."""
    if np.ndim(img) != 3 or np.shape(img)[2] != 3:
        raise DreamError(f"the picture must be an array of shape (H, W, 3), not {np.shape(img)}")
    if prior not in PRIORS:
        raise DreamError(f"prior is {prior!r}; allowed are {', '.join(PRIORS)}")
    if prior == "none" and weight is not None:
        raise DreamError(f"weight is {weight}, but there is no prior to weigh; prior may be tv or l2")
    values = {"k": k, "weight": WEIGHT if weight is None else weight, "iter_n": iter_n}
    for name, value in values.items():
        allowed, test = OPTIONS[name]
        if not isinstance(value, numbers.Real) or not np.isfinite(value) or not test(value):
            raise DreamError(f"{name} is {value}; allowed is {allowed}")
    return 0.0 if prior == "none" else float(values["weight"])
