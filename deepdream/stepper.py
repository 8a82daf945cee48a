"""Running the steps of one octave. All steppers have `step(ox, oy, step_size, i, n)` and `picture()`."""
import weakref

import numpy as np

from .device import readable
from .errors import DreamError
from .objectives import feeds
from .priors import at_place, prior_feeds, upright


class Stepper:
    """Runs a step graph: the picture goes up once, is stepped, and comes down when it is asked for.

    picture: float32 (1, C, H, W), as Caffe's data blob holds it. Where steps are recorded (`Device.graphs`), a session
    serves one stepper at a time.
    """

    def __init__(self, session, device, objective, picture, priors=()):
        _check_one(picture)
        self.session, self.device, self.priors = session, device, priors
        self.h, self.w, self._upright = *picture.shape[-2:], upright(priors)
        self._now = 0, (0, 0)           # which of its two places the picture is in, how far it is shifted
        picture = np.asarray(picture, np.float32)
        self._given = self._varying(0, 0, 0, 0, 1)
        inputs = {**feeds(objective), **self._given}
        outputs = {"objective": np.zeros((), np.float32), "mean_abs": np.zeros((), np.float32)}
        at, number = _places(session, device, {"picture": picture, "next_picture": np.zeros_like(picture), **inputs,
                                               **outputs})
        self._at, self._pictures = at, [at["picture"], at["next_picture"]]
        self._runs = [self._run(inputs, outputs, before, after, number + turn) for turn, (before, after) in
                      enumerate([self._pictures, self._pictures[::-1]])]

    def _run(self, inputs, outputs, before, after, number):
        """What runs the graph from one place of the picture to the other. number: of the recorded graph."""
        from onnxruntime import RunOptions
        binding, options = self.session.io_binding(), RunOptions()
        if self.device.graphs:
            options.add_run_config_entry("gpu_graph_id", str(number))
        for name in inputs:
            binding.bind_ortvalue_input(name, self._at[name])
        for name in outputs:
            binding.bind_ortvalue_output(name, self._at[name])
        binding.bind_ortvalue_input("picture", before)
        binding.bind_ortvalue_output("next_picture", after)
        return binding, options

    def _varying(self, ox, oy, step_size, i, n):
        """The inputs that differ from step to step."""
        rows, columns, (y, x) = np.arange(self.h), np.arange(self.w), self._now[1]
        given = {"rows": (rows + y - oy) % self.h, "columns": (columns + x - ox) % self.w}
        if self._upright:
            given |= {"rows_back": (rows + oy) % self.h, "columns_back": (columns + ox) % self.w}
        given = {name: index.astype(np.int64) for name, index in given.items()}
        return given | prior_feeds(self.priors, i, n) | {"step_size": np.array(step_size, np.float32)}

    def step(self, ox, oy, step_size, i=0, n=1):
        """One make_step with jitter (ox, oy), the step i of n. Returns (objective, mean |gradient|), both before it."""
        turn, _ = self._now
        for name, value in self._varying(ox, oy, step_size, i, n).items():
            self._put(name, value)
        with readable(self.h, self.w):
            self.session.run_with_iobinding(*self._runs[turn])
        self._now = 1 - turn, (0, 0) if self._upright else (oy, ox)
        return float(self._at["objective"].numpy()), float(self._at["mean_abs"].numpy())

    def _put(self, name, value):
        """Feed an input; one of another shape than before gets another place."""
        value = np.asarray(value, self._given[name].dtype, order="C")
        if value.shape == self._given[name].shape:
            self._at[name].update_inplace(value)
        elif self.device.graphs:
            raise DreamError(f"{name}: steps that are recorded need inputs of one shape")
        else:
            self._given[name], self._at[name] = value, self.device.place(value.copy())
            for binding, _ in self._runs:
                binding.bind_ortvalue_input(name, self._at[name])

    def picture(self):
        """The picture as it is now, (1, C, H, W)."""
        turn, (y, x) = self._now
        return np.roll(self._pictures[turn].numpy(), (-y, -x), (2, 3))


_recorded = weakref.WeakKeyDictionary()     # session -> {the shapes of its inputs: (places, number)}


def _places(session, device, arrays):
    """({name: OrtValue}, number): copies of arrays on the device, since what is put there changes. What a recorded graph
    reads and writes stays where it was when it was recorded: then the places of the last stepper of the same shapes are
    used again, and its two numbers."""
    kept = _recorded.setdefault(session, {}) if device.graphs else {}
    shapes = tuple((name, a.shape, a.dtype.str) for name, a in arrays.items())
    if shapes not in kept:
        kept[shapes] = {name: device.place(np.array(a, order="C")) for name, a in arrays.items()}, 1 + 2 * len(kept)
    else:
        for name, value in arrays.items():
            kept[shapes][0][name].update_inplace(np.asarray(value, order="C"))
    return kept[shapes]


class HostStepper:
    """The same in NumPy, as the notebook had it, around a function that finds the gradient.

    picture: float32 (1, C, H, W), stepped in place. gradient(shifted): (objective or None, gradient by the picture).
    bias: the mean (C, 1, 1) to clip by; None does not clip.
    """

    def __init__(self, gradient, picture, bias=None, priors=()):
        _check_one(picture)
        self.gradient, self.bias, self.priors, self._picture = gradient, bias, priors, picture

    def step(self, ox, oy, step_size, i=0, n=1):
        def through(place, x):
            for _, prior in at_place(self.priors, place):
                x = prior(x, prior.feeds(i, n))
            return x

        x = self._picture
        penalties = [p(x, p.feeds(i, n)) for _, p in at_place(self.priors, "penalty")]
        x[0] = np.roll(np.roll(x[0], ox, -1), oy, -2)
        value, g = self.gradient(x)
        g = through("gradient", g)
        mean = np.abs(g[0]).mean()
        if mean > 0:
            x += step_size / mean * g
        x[0] = np.roll(np.roll(x[0], -ox, -1), -oy, -2)
        for penalty in penalties:
            x -= step_size * penalty
        x[...] = through("picture", x)
        if self.bias is not None:
            x[...] = np.clip(x, -self.bias, 255 - self.bias)
        return value, float(mean)

    def picture(self):
        return self._picture


def _check_one(picture):
    if len(picture) != 1:
        raise DreamError(f"one picture at a time can be dreamt, not a batch of {len(picture)}")
