"""Steady dreams of the frames of a film: a frame keeps most of the detail that the one before it had."""
from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from ..dream import deepdream
from ..errors import DreamError, NoGradient
from ..goals.priors import Gain, Prior
from ..net import Net
from ..net.pixels import check_picture
from ..runtime.notices import say_once
from . import cuts
from .flow import FLOWS, Motion, grey, moved

FILL = 4.0          # how much larger a step is where there is no detail yet; it is 1 where all of it is there
TINY = 1e-6         # below this, there is no detail
FILLED = 0.999      # where at least this part of the detail is there, no step needs to be larger


class State(NamedTuple):
    """What the next frame of a shot depends on.

    detail: that of the last frame, float32 (H, W, 3).
    filled: which part of its final strength it has, float32 (H, W), 0 to 1.
    strength: the root of the mean square of the first frame's detail, float64.
    """
    detail: np.ndarray
    filled: np.ndarray
    strength: np.ndarray


class Steady:
    """Dreams the frames of one shot, one after another.

    The detail of a frame is what the dream has added to it: dream minus frame. The next frame starts with a part of
    it, moved along with the film, and is dreamt for a few steps. Where something comes into view, there is no detail
    yet, and the steps are larger until there is. Where nothing moves, all steps of many frames can point in the same
    direction; a detail that has become stronger than that of the first frame is scaled back to its strength.

    net: the net.
    iter_n: the number of steps in each octave of the first frame.
    steps: the number of steps in each octave of the others.
    keep: the part of the detail that a frame takes over; None: 1 - steps / iter_n, so that the detail does not fade.
    seed: the seed of the jitter, which is the same for all frames.
    mask: float32 (H, W), 0 to 1: where the dream changes the frames, and how much; None: everywhere.

    Attributes:
    state: all that the next frame depends on, a `State`; None before the first.
    """

    def __init__(self, net: Net, iter_n: int = 10, steps: int = 1, keep: float | None = None, seed: int = 0,
                 mask: np.ndarray | None = None):
        self.net, self.iter_n, self.steps, self.seed, self.mask = net, iter_n, min(steps, iter_n), seed, mask
        self.part = self.steps / iter_n      # of the final strength that a frame's own steps add
        self.keep = 1 - self.part if keep is None else keep
        self.state: State | None = None

    def dream(self, frame: np.ndarray, motion: Motion | None = None, priors: Sequence[Prior] = (),
              **dream_params) -> np.ndarray:
        """Dream the next frame.

        frame: the frame, (H, W, 3), 0 to 255.
        motion: the motion since the last frame; None for the first frame.
        priors, dream_params: as for `deepdream`.

        Returns the dream, float32 (H, W, 3). Raises what `deepdream` raises.
        """
        frame = np.float32(frame)
        if motion is None or self.state is None or self.keep == 0:
            start, gain, iter_n = frame, None, self.iter_n
            filled, strength = np.ones(frame.shape[:2], np.float32), None
        else:
            detail, filled, strength = self.state
            believed = np.float32(motion.believed)
            keep = self.keep * min(1, float(strength) / max(_rms(detail), TINY)) if strength > 0 else self.keep
            start = frame + np.float32(keep) * believed[..., None] * moved(detail, motion)
            before = believed * moved(filled, motion, cubic=False)
            gain, iter_n = 1 + (FILL - 1) * (1 - before), self.steps
            filled = np.minimum(1, before + self.part * (gain - before))
            gain = None if before.min() > FILLED else gain
        if self.mask is not None:
            gain = self.mask if gain is None else gain * self.mask
        try:
            dream = deepdream(self.net, start, iter_n=iter_n, priors=[*priors, *([] if gain is None else [Gain(gain)])],
                              rng=np.random.RandomState(self.seed), on_step=_quiet, **dream_params)
        except NoGradient:
            say_once("frames in which there is nothing to increase, such as black ones, stay as they are")
            dream, filled = start, np.zeros_like(filled) if strength is None else filled
        if dream_params.get("clip", True):
            dream = np.clip(dream, 0, 255)
        detail = dream - frame
        # all at once, so that an interruption cannot leave half of it
        self.state = State(detail, filled, np.float64(_rms(detail) if strength is None else strength))
        return dream


def _rms(array):
    return float(np.sqrt(np.mean(np.square(array, dtype=np.float64))))


def dream_frames(net: Net, frames: Iterable[np.ndarray], iter_n: int = 10, steps: int = 1, keep: float | None = None,
                 flow: str = "dis", seed: int = 0, mask: np.ndarray | None = None,
                 params_at: Callable[[int], dict] = lambda i: {}, **dream_params) -> Iterator[np.ndarray]:
    """Dream the frames of a film so that what the dream adds stays in place and moves along.

        for dream in dream_frames(net, frames, end="inception_4c/output", seed=7): ...

    net: the net.
    frames: the frames, each (H, W, 3), RGB, 0 to 255, all of one size.
    iter_n, steps, keep, seed, mask: see `Steady`. The first frame of each shot is dreamt for iter_n steps.
    flow: how motion is found: 'dis' (needs opencv-python-headless) or 'none', for a camera that stands still.
    params_at: a function of the number of a frame that returns further arguments for it, such as {"end": ...}.
    dream_params: octave_n, octave_scale, end, objective, priors, step_size, jitter, clip and tile, as for `deepdream`.

    Yields the dream of each frame, float32 (H, W, 3), 0 to 255, as soon as it is made. Raises DreamError for frames
    of different sizes, and what `deepdream` raises.
    """
    check_motion(iter_n, steps, keep, flow)
    steady, last, size = Steady(net, iter_n, steps, keep, seed, mask), None, None
    for i, frame in enumerate(frames):
        if np.shape(frame) != (size or np.shape(frame)):
            raise DreamError(f"frame {i}: has the shape {np.shape(frame)}; allowed is (H, W, 3), and the same size for "
                             "all frames")
        check_picture(frame, f"frame {i}")
        size, now = np.shape(frame), (cuts.thumbnail(frame), grey(frame))
        cut = last is None or cuts.is_cut(last[0], now[0], flow)
        motion = None if cut else FLOWS[flow](last[1], now[1])
        last = now
        yield steady.dream(frame, motion, **{**dream_params, **params_at(i)})


def check_motion(iter_n: int, steps: int, keep: float | None, flow: str) -> None:
    """Raise DreamError for values of these options that are not allowed. They are those of `dream_frames`."""
    for name, value, allowed, good in (
            ("steps", steps, f"a whole number from 1 to iter_n, {iter_n}", steps in range(1, iter_n + 1)),
            ("keep", keep, "a number from 0 to 1", keep is None or 0 <= keep <= 1),
            ("flow", flow, " or ".join(FLOWS), flow in FLOWS)):
        if not good:
            raise DreamError(f"{name} is {value}; allowed is {allowed}")


def _quiet(*_):
    """Do nothing after a step: without an `on_step`, a notebook would show each of them."""
