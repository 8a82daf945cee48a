"""The notebook's functions make_step and deepdream. Names, arguments and defaults are its own."""
import importlib
import numbers
import threading
import time
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from .engine import memory, tiles
from .engine.step import Step
from .engine.steppers import step_session, stepper_of
from .errors import DreamError
from .goals.objectives import as_objective, objective_L2
from .net.lock import exclusive
from .net.pixels import deprocess, preprocess

SETTLED = "settled"      # what on_step returns to end an octave


class StepReport(NamedTuple):
    """What `on_step` is told of a step.

    objective, mean_abs: the objective (None for a function of dst) and mean |gradient|, both before the step.
    jitter: (ox, oy), in pixels. size: (h, w) of the octave. milliseconds: that the step took.
    """
    objective: float | None
    mean_abs: float
    jitter: tuple[int, int]
    size: tuple[int, int]
    milliseconds: float


@exclusive
def make_step(net, step_size=1.5, end="inception_4c/output", jitter=32, clip=True, objective=objective_L2, priors=(),
              tile=None, rng=np.random, **arguments):
    """Take one step of gradient ascent on net.blobs['data'], in place.

    step_size: the mean change of a pixel's channel, of 255.
    jitter: the picture is shifted by up to so many pixels in each direction, drawn from `rng`.
    clip: keep pixels within 0 to 255.
    objective: an Objective, or any function of dst that sets dst.diff.
    priors: of `deepdream.goals.priors`.
    tile: dream a larger picture in tiles of at most so many pixels in each direction (see `deepdream.engine.tiles`).
    rng: np.random, as in the notebook, a RandomState or a Generator.
    arguments: for an objective that is still a class (guide_features=... for objective_guide).

    Returns (objective, mean |gradient|) before the step; the objective is None for a function of dst.
    """
    step = Step(as_objective(objective, end, arguments), clip, priors, tile)
    src = net.blobs[net.inputs[0]]
    ox, oy = tiles.draw(rng, -jitter, jitter + 1)
    check_layers(net, step)
    for name in step.ends:
        net.check_size(name, *src.data.shape[-2:])
    tiles.check(net, step, [src.data.shape[-2:]])
    stepper = stepper_of(net, step, rng)
    values = stepper.step(ox, oy, step_size)
    _check_gradient(values[1], end)
    src.data[...] = stepper.picture()
    return values


@exclusive
def deepdream(net, base_img, iter_n=10, octave_n=4, octave_scale=1.4, end="inception_4c/output", clip=True,
              on_step=None, priors=(), tile=None, rng=np.random, **step_params):
    """Dream: gradient ascent over octaves, from the smallest to the picture's own size.

    base_img: (H, W, 3), RGB 0 to 255.
    iter_n: steps in each octave.
    octave_n, octave_scale: so many octaves, each so many times as large as the one before.
    end: the layer that the objective looks at, or those of its terms that have no layer of their own.
    clip, priors, tile, rng: as of `make_step`.
    on_step: on_step(octave, i, vis, report) is called after each step; vis() is the picture so far, (H, W, 3), report a
    StepReport. Where it returns SETTLED, the octave ends. In a Jupyter notebook the picture is shown as it grows, unless
    on_step is given.
    step_params: of `make_step`: step_size, jitter, objective and its arguments.

    Returns the picture, float32 (H, W, 3). Raises DreamError for a picture too small for `end` in the smallest octave or
    too large for the memory, for options that make no sense, and where the gradient vanishes (Caffe would go on with
    NaN).
    """
    step_size, jitter = step_params.pop("step_size", 1.5), step_params.pop("jitter", 32)
    step = Step(as_objective(step_params.pop("objective", objective_L2), end, step_params), clip, priors, tile)
    _check_options(iter_n, octave_n, octave_scale, step_size, jitter)
    if np.ndim(base_img) != 3 or np.shape(base_img)[2] != 3:
        raise DreamError(f"the picture must be an array of shape (H, W, 3), not {np.shape(base_img)}")
    on_step = on_step or _notebook_display(end)
    sizes = octave_sizes(*np.shape(base_img)[:2], octave_n, octave_scale)
    check_dream(net, step, sizes)

    _make_ready(net, step, sizes[0], iter_n)
    from scipy import ndimage as nd

    octaves = [preprocess(net, base_img)]
    for _ in range(octave_n - 1):
        octaves.append(nd.zoom(octaves[-1], (1, 1.0 / octave_scale, 1.0 / octave_scale), order=1))

    src = net.blobs[net.inputs[0]]
    stepper, detail = None, np.zeros_like(octaves[-1])     # detail: what the dream has added so far

    def vis():
        return visible(deprocess(net, (stepper.picture() if stepper else src.data)[0]), clip)

    for octave, octave_base in enumerate(octaves[::-1]):
        h, w = octave_base.shape[-2:]
        if octave > 0:
            h1, w1 = detail.shape[-2:]
            detail = nd.zoom(detail, (1, 1.0 * h / h1, 1.0 * w / w1), order=1)
        src.reshape(1, len(octave_base), h, w)
        src.data[0] = octave_base + detail
        stepper = stepper_of(net, step, rng, iter_n)
        for i in range(iter_n):
            ox, oy = tiles.draw(rng, -jitter, jitter + 1)
            begun = time.perf_counter()
            values = stepper.step(ox, oy, step_size, octave * iter_n + i, octave_n * iter_n)
            _check_gradient(values[1], end)
            report = StepReport(*values, (int(ox), int(oy)), (h, w), 1000 * (time.perf_counter() - begun))
            if on_step and on_step(octave, i, vis, report) is SETTLED:
                break
        src.data[...] = stepper.picture()
        stepper = None              # and what it holds of this octave
        if not np.isfinite(src.data).all():
            raise DreamError("the picture's numbers overflow: take a smaller step_size, or weaker priors")
        detail = src.data[0] - octave_base
    return deprocess(net, src.data[0])


def _make_ready(net, step, size, steps):
    """Make the session of the first octave, for which onnxruntime does not need Python, while scipy is imported, which
    takes as long."""
    importing = threading.Thread(target=importlib.import_module, args=("scipy.ndimage",))
    importing.start()
    try:
        step_session(net, step, size, steps)
    finally:
        importing.join()


def visible(img: np.ndarray, clip: bool = True) -> np.ndarray:
    """What the notebook showed of a picture: without clipping, scaled to 255 / its 99.98th percentile."""
    return img if clip else img * (255.0 / np.percentile(img, 99.98))


def octave_sizes(h: int, w: int, octave_n: int, octave_scale: float) -> list[tuple[int, int]]:
    """(h, w) of the octaves, smallest first: scipy.ndimage.zoom rounds each size to the nearest."""
    sizes = [(h, w)]
    for _ in range(octave_n - 1):
        sizes.append(tuple(max(1, int(round(n * (1.0 / octave_scale)))) for n in sizes[-1]))
    return sizes[::-1]


# ---- what can be said before a dream begins

def check_dream(net, step: Step, sizes: Sequence[tuple[int, int]]):
    """Raise DreamError or ConvertError for a layer that the net does not have, for an objective that makes no sense
    there, for a picture too small for a layer in its smallest octave or too large for the memory, and for tiles that
    make no sense. sizes: (h, w) of the octaves."""
    check_layers(net, step)
    h, w = sizes[-1]
    for end in step.ends:
        net.check_size(end, *sizes[0], "the picture" if len(sizes) == 1 else
                       f"the picture of {w}x{h} in the smallest of {len(sizes)} octaves")
    tiles.check(net, step, sizes)
    memory.check(net, step, sizes[-1])


def check_layers(net, step: Step):
    """Raise DreamError or ConvertError unless the net has what a step's objective looks at."""
    if net.leftover and len(step.ends) > 1:
        raise DreamError("leftover_diffs: one layer at a time; the objective looks at several")
    for _, term in step.objective.terms:
        name = net.checked(term.end)
        term.check(name, net.ends[name].channels)


OPTIONS = {   # option -> (what is allowed, test)
    "iter_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_scale": ("a number greater than 1", lambda v: 1 < v < np.inf),
    "step_size": ("a number other than 0", lambda v: v != 0 and np.isfinite(v)),
    "jitter": ("a whole number from 0", lambda v: v >= 0 and v == int(v)),
}


def _check_options(*values):
    for (name, (allowed, test)), value in zip(OPTIONS.items(), values):
        if not isinstance(value, numbers.Real) or not np.isfinite(value) or not test(value):
            raise DreamError(f"{name} is {value}; allowed is {allowed}")


def _check_gradient(mean_abs, end):
    if not mean_abs > 0 or not np.isfinite(mean_abs):
        raise DreamError(f"the gradient at '{end}' is zero everywhere: there is nothing here for this objective to "
                         "increase" if mean_abs == 0 else f"the gradient at '{end}' is not a finite number: the net's "
                         "numbers overflow on this picture")


def _notebook_display(end):
    """In Jupyter: show the picture after each step and clear it before the next, as the original did."""
    try:
        from IPython import get_ipython
        from IPython.display import clear_output
    except ImportError:
        return None
    if getattr(get_ipython(), "kernel", None) is None:
        return None

    from .pictures.files import showarray

    def show(octave, i, vis, report):
        picture = vis()
        showarray(picture)
        print(octave, i, end, picture.shape)
        clear_output(wait=True)
    return show
