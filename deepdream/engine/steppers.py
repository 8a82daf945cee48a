"""Steppers, which run the steps of one octave. Each has `step(ox, oy, step_size, i, n)` and `picture()`."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from ..errors import DreamError
from ..goals.priors import Prior, at_place, need_unshifted, prior_feeds
from .session import Session
from .step import Step
from .tiles import RandomSource, TiledGradient


def stepper_of(net, step: Step, rng: RandomSource = np.random, steps: int = 1) -> Stepper | HostStepper:
    """Return a stepper for the picture in net.blobs['data'].

    net: the net.
    step: the step.
    rng: the source of the random cuts between tiles (see `tiles.draw`).
    steps: the number of steps that will be made.
    """
    data = net.blobs[net.inputs[0]].data
    step = step.sized(*data.shape[-2:])
    session = step_session(net, step, data.shape[-2:], steps)
    if session:
        return Stepper(session, step, data, steps if steps > 1 and session.size and not net.device.is_cuda else None)
    bias = net.programs.bias if step.clip else None
    if step.in_tiles(*data.shape[-2:]):
        return HostStepper(TiledGradient(net, step, rng), data, bias, step.priors)
    return HostStepper(_gradient_by_blobs(net, step), data, bias, step.priors)


def step_session(net, step: Step, size: tuple[int, int], steps: int) -> Session | None:
    """Return the session of a step graph; None if the step does not run as one graph (see `Step.is_graph`).

    net: the net.
    step: the step.
    size: (h, w) of the picture.
    steps: the number of steps that will be made at this size.
    """
    if step.is_graph(net, *size):
        return net.programs.session(net.programs.step(step), size, steps)


def _gradient_by_blobs(net, step):
    """Return a function that computes the gradient as the notebook did: forward, the objective, backward."""
    end, = step.ends
    src, dst = net.blobs[net.inputs[0]], net.blobs[end]

    def gradient(_):
        net.forward(end=end)
        if not net.leftover:
            dst.diff[...] = 0        # for an objective that sets only a part of it
        step.objective(dst)
        net.backward(start=end)
        return None, src.diff
    return gradient


class Stepper:
    """Runs a step graph. The picture stays on the device between steps, in one of two OrtValues in turn.

    session: the session of the step graph. With captured CUDA graphs it serves one stepper at a time.
    step: the step.
    picture: the picture to start from, float32 (1, C, H, W), as in Caffe's data blob.
    last: the number of the step after which the session frees the memory that it needs to run; None for never.
    """

    def __init__(self, session: Session, step: Step, picture: np.ndarray, last: int | None = None):
        _check_one(picture)
        self._left = last
        self.session, self.priors = session, step.priors
        self.h, self.w, self._unshifted = *picture.shape[-2:], need_unshifted(step.priors)
        self._turn, self._shift = 0, (0, 0)     # which of its two OrtValues has the picture, and its shift (y, x)
        picture = np.asarray(picture, np.float32)
        self._fed = self._varying(0, 0, 0, 0, 1)
        inputs = {**step.objective.feeds(), **self._fed}
        outputs = {"objective": np.zeros((), np.float32), "mean_abs": np.zeros((), np.float32)}
        self._values, number = session.places({"picture": picture, "next_picture": np.zeros_like(picture), **inputs,
                                               **outputs})
        self._pictures = [self._values["picture"], self._values["next_picture"]]
        self._runs = [self._run(inputs, outputs, before, after, number + turn) for turn, (before, after) in
                      enumerate([self._pictures, self._pictures[::-1]])]

    def _run(self, inputs, outputs, before, after, number):
        """Bind a run from one OrtValue of the picture to the other. number: the number of the captured graph."""
        from onnxruntime import RunOptions
        binding, options = self.session.binding(), RunOptions()
        if self.session.device.captures:
            options.add_run_config_entry("gpu_graph_id", str(number))
        for name in inputs:
            binding.bind_ortvalue_input(name, self._values[name])
        for name in outputs:
            binding.bind_ortvalue_output(name, self._values[name])
        binding.bind_ortvalue_input("picture", before)
        binding.bind_ortvalue_output("next_picture", after)
        return binding, options

    def _varying(self, ox, oy, step_size, i, n):
        """Return the inputs that change from step to step."""
        rows, columns, (y, x) = np.arange(self.h), np.arange(self.w), self._shift
        indices = {"rows": (rows + y - oy) % self.h, "columns": (columns + x - ox) % self.w}
        if self._unshifted:
            indices |= {"rows_back": (rows + oy) % self.h, "columns_back": (columns + ox) % self.w}
        indices = {name: index.astype(np.int64) for name, index in indices.items()}
        return indices | prior_feeds(self.priors, i, n) | {"step_size": np.array(step_size, np.float32)}

    def step(self, ox: int, oy: int, step_size: float, i: int = 0, n: int = 1) -> tuple[float, float]:
        """Make one step.

        ox, oy: the random shift, in pixels.
        step_size: see `dream.make_step`.
        i, n: the number of the step, and how many there will be, counted over all octaves.

        Returns the objective and the mean of |gradient|, both before the step.
        """
        for name, value in self._varying(ox, oy, step_size, i, n).items():
            self._put(name, value)
        binding, options = self._runs[self._turn]
        self._left = self._left and self._left - 1
        if self._left == 0:
            options.add_run_config_entry("memory.enable_memory_arena_shrinkage", "cpu:0")
        self.session.run_bound(binding, options, self.h, self.w)
        self._turn, self._shift = 1 - self._turn, (0, 0) if self._unshifted else (oy, ox)
        return float(self._values["objective"].numpy()), float(self._values["mean_abs"].numpy())

    def _put(self, name, value):
        """Set the value of an input. If its shape differs from the one before, it needs a new OrtValue."""
        value = np.asarray(value, self._fed[name].dtype, order="C")
        if value.shape == self._fed[name].shape:
            self._values[name].update_inplace(value)
        elif self.session.device.captures:
            raise DreamError(f"{name}: steps that are captured as CUDA graphs need inputs of one shape")
        else:
            self._fed[name], self._values[name] = value, self.session.device.place(value.copy())
            for binding, _ in self._runs:
                binding.bind_ortvalue_input(name, self._values[name])

    def picture(self) -> np.ndarray:
        """Return the current picture, (1, C, H, W)."""
        y, x = self._shift
        return np.roll(self._pictures[self._turn].numpy(), (-y, -x), (2, 3))


class HostStepper:
    """Runs steps in NumPy, as the notebook did, around a function that computes the gradient.

    gradient: called with the shifted picture; returns the objective (or None) and the gradient with respect to the
        picture.
    picture: the picture to start from, float32 (1, C, H, W); it is changed in place.
    bias: the net's mean, (C, 1, 1), to clip with; None does not clip.
    priors: the priors.
    """

    def __init__(self, gradient: Callable, picture: np.ndarray, bias: np.ndarray | None = None,
                 priors: Sequence[Prior] = ()):
        _check_one(picture)
        self.gradient, self.bias, self.priors, self._picture = gradient, bias, priors, picture

    def step(self, ox: int, oy: int, step_size: float, i: int = 0, n: int = 1) -> tuple[float | None, float]:
        """Make one step; see `Stepper.step`. The objective is None for a function of dst."""
        def apply_priors(place, x):
            for _, prior in at_place(self.priors, place):
                x = prior(x, prior.feeds(i, n))
            return x

        x = self._picture
        before = x.copy() if at_place(self.priors, "change") else None
        penalties = [p(x, p.feeds(i, n)) for _, p in at_place(self.priors, "penalty")]
        x[0] = np.roll(np.roll(x[0], ox, -1), oy, -2)
        value, g = self.gradient(x)
        g = apply_priors("gradient", g)
        mean = np.abs(g[0]).mean()
        if mean > 0:
            x += step_size / mean * g
        x[0] = np.roll(np.roll(x[0], -ox, -1), -oy, -2)
        for penalty in penalties:
            x -= step_size * penalty
        x[...] = apply_priors("picture", x)
        if self.bias is not None:
            x[...] = np.clip(x, -self.bias, 255 - self.bias)
        if before is not None:
            x[...] = before + apply_priors("change", x - before)
        return value, float(mean)

    def picture(self) -> np.ndarray:
        """Return the current picture, (1, C, H, W)."""
        return self._picture


def _check_one(picture):
    if len(picture) != 1:
        raise DreamError(f"one picture at a time can be dreamt, not a batch of {len(picture)}")
