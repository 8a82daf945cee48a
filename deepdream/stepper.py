"""Running the steps of one octave. All steppers have `step(ox, oy, step_size, i, n)` and `picture()`."""
import numpy as np

from .device import readable
from .errors import DreamError
from .objectives import feeds
from .priors import at_place, upright


class Stepper:
    """Runs a step graph: the picture goes up once, is stepped, and comes down when it is asked for.

    picture: float32 (1, C, H, W), as Caffe's data blob holds it.
    """

    def __init__(self, session, device, objective, picture, priors=()):
        _check_one(picture)
        self.session, self.device, self.priors = session, device, priors
        self.h, self.w, self._upright = *picture.shape[-2:], upright(priors)
        self._picture, self._shift = device.place(np.ascontiguousarray(picture, np.float32)), (0, 0)
        self._fixed = {k: device.place(v) for k, v in feeds(objective).items()}

    def step(self, ox, oy, step_size, i=0, n=1):
        """One make_step with jitter (ox, oy), the step i of n. Returns (objective, mean |gradient|), both before it."""
        binding, place = self.session.io_binding(), self.device.place
        rows, columns, (y, x) = np.arange(self.h), np.arange(self.w), self._shift
        index = {"rows": (rows + y - oy) % self.h, "columns": (columns + x - ox) % self.w}
        if self._upright:
            index |= {"rows_back": (rows + oy) % self.h, "columns_back": (columns + ox) % self.w}
        # on the CPU an OrtValue only points at its array: all are held until the run is over
        held = {name: place(value.astype(np.int64)) for name, value in index.items()}
        held |= {f"prior{p}:{k}": place(np.asarray(v)) for p, prior in enumerate(self.priors)
                 for k, v in prior.feeds(i, n).items()}
        held |= {"step_size": place(np.array(step_size, np.float32)), "picture": self._picture, **self._fixed}
        for name, value in held.items():
            binding.bind_ortvalue_input(name, value)
        where = "cuda" if self.device.is_cuda else "cpu"
        binding.bind_output("next_picture", where, self.device.index)
        binding.bind_output("objective", "cpu")
        binding.bind_output("mean_abs", "cpu")
        with readable(self.h, self.w):
            self.session.run_with_iobinding(binding)
        self._picture, objective, mean = binding.get_outputs()
        self._shift = (0, 0) if self._upright else (oy, ox)
        return float(objective.numpy()), float(mean.numpy())

    def picture(self):
        """The picture as it is now, (1, C, H, W)."""
        y, x = self._shift
        return np.roll(self._picture.numpy(), (-y, -x), (2, 3))


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
