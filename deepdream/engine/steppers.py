"""What runs the steps of one octave. Every stepper has `step(ox, oy, step_size, i, n)` and `picture()`."""
import numpy as np

from ..errors import DreamError
from ..goals.priors import at_place, need_unshifted, prior_feeds
from .session import Session
from .step import Step
from .tiles import TiledGradient


def stepper_of(net, step: Step, rng=np.random, steps: int = 1):
    """What steps net.blobs['data'], so many times: the step graph, or NumPy around a gradient (see `Step.is_graph`).

    rng: where tiles draw the places of their cuts.
    """
    data = net.blobs[net.inputs[0]].data
    session = step_session(net, step, data.shape[-2:], steps)
    if session:
        return Stepper(session, step, data)
    bias = net.programs.bias if step.clip else None
    if step.in_tiles(*data.shape[-2:]):
        return HostStepper(TiledGradient(net, step, rng), data, bias, step.priors)
    return HostStepper(_gradient_by_blobs(net, step), data, bias, step.priors)


def step_session(net, step: Step, size: tuple[int, int], steps: int) -> Session | None:
    """The session in which a step at this size (h, w) is one graph; None where it is none."""
    if step.is_graph(net, *size):
        return net.programs.session(net.programs.step(step), size, steps)


def _gradient_by_blobs(net, step):
    """The gradient as the notebook found it: forward, the objective sets dst.diff, backward."""
    end, = step.ends
    src, dst = net.blobs[net.inputs[0]], net.blobs[end]

    def gradient(_):
        net.forward(end=end)
        if not net.leftover:
            dst.diff[...] = 0        # an objective that sets a part of it sets the rest to nothing
        step.objective(dst)
        net.backward(start=end)
        return None, src.diff
    return gradient


class Stepper:
    """Runs a step graph: the picture goes to the device once, is stepped there, and comes back when it is asked for.

    picture: float32 (1, C, H, W), as Caffe's data blob holds it. Where steps are captured, a session serves one stepper
    at a time.
    """

    def __init__(self, session: Session, step: Step, picture: np.ndarray):
        _check_one(picture)
        self.session, self.priors = session, step.priors
        self.h, self.w, self._unshifted = *picture.shape[-2:], need_unshifted(step.priors)
        self._turn, self._shift = 0, (0, 0)     # which of its two places the picture is in, and how far it is shifted
        picture = np.asarray(picture, np.float32)
        self._fed = self._varying(0, 0, 0, 0, 1)
        inputs = {**step.objective.feeds(), **self._fed}
        outputs = {"objective": np.zeros((), np.float32), "mean_abs": np.zeros((), np.float32)}
        self._at, number = session.places({"picture": picture, "next_picture": np.zeros_like(picture), **inputs,
                                           **outputs})
        self._pictures = [self._at["picture"], self._at["next_picture"]]
        self._runs = [self._run(inputs, outputs, before, after, number + turn) for turn, (before, after) in
                      enumerate([self._pictures, self._pictures[::-1]])]

    def _run(self, inputs, outputs, before, after, number):
        """What runs the graph from one place of the picture to the other. number: of the captured graph."""
        from onnxruntime import RunOptions
        binding, options = self.session.binding(), RunOptions()
        if self.session.device.captures:
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
        rows, columns, (y, x) = np.arange(self.h), np.arange(self.w), self._shift
        indices = {"rows": (rows + y - oy) % self.h, "columns": (columns + x - ox) % self.w}
        if self._unshifted:
            indices |= {"rows_back": (rows + oy) % self.h, "columns_back": (columns + ox) % self.w}
        indices = {name: index.astype(np.int64) for name, index in indices.items()}
        return indices | prior_feeds(self.priors, i, n) | {"step_size": np.array(step_size, np.float32)}

    def step(self, ox: int, oy: int, step_size: float, i: int = 0, n: int = 1) -> tuple[float, float]:
        """One make_step with jitter (ox, oy), step i of n. Returns the objective and mean |gradient|, both before it."""
        for name, value in self._varying(ox, oy, step_size, i, n).items():
            self._put(name, value)
        self.session.run_bound(*self._runs[self._turn], self.h, self.w)
        self._turn, self._shift = 1 - self._turn, (0, 0) if self._unshifted else (oy, ox)
        return float(self._at["objective"].numpy()), float(self._at["mean_abs"].numpy())

    def _put(self, name, value):
        """Feed an input; one of another shape than before gets another place."""
        value = np.asarray(value, self._fed[name].dtype, order="C")
        if value.shape == self._fed[name].shape:
            self._at[name].update_inplace(value)
        elif self.session.device.captures:
            raise DreamError(f"{name}: steps that are captured as CUDA graphs need inputs of one shape")
        else:
            self._fed[name], self._at[name] = value, self.session.device.place(value.copy())
            for binding, _ in self._runs:
                binding.bind_ortvalue_input(name, self._at[name])

    def picture(self) -> np.ndarray:
        """The picture as it is now, (1, C, H, W)."""
        y, x = self._shift
        return np.roll(self._pictures[self._turn].numpy(), (-y, -x), (2, 3))


class HostStepper:
    """The same in NumPy, as in the notebook, around a function that finds the gradient.

    gradient: called with the shifted picture; returns the objective (or None) and the gradient by the picture.
    picture: float32 (1, C, H, W), stepped in place.
    bias: the mean (C, 1, 1) to clip by; None does not clip.
    """

    def __init__(self, gradient, picture: np.ndarray, bias: np.ndarray | None = None, priors=()):
        _check_one(picture)
        self.gradient, self.bias, self.priors, self._picture = gradient, bias, priors, picture

    def step(self, ox: int, oy: int, step_size: float, i: int = 0, n: int = 1) -> tuple[float | None, float]:
        """As `Stepper.step`."""
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

    def picture(self) -> np.ndarray:
        """The picture as it is now, (1, C, H, W)."""
        return self._picture


def _check_one(picture):
    if len(picture) != 1:
        raise DreamError(f"one picture at a time can be dreamt, not a batch of {len(picture)}")
