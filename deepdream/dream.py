"""The notebook's functions `make_step` and `deepdream`, with the notebook's names, arguments and defaults."""
import importlib
import numbers
import threading
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from .convert.errors import shown
from .engine import memory, tiles
from .engine.step import Step
from .engine.steppers import step_session, stepper_of
from .errors import DreamError, NoGradient
from .goals.objectives import Objective, as_objective, objective_L2
from .goals.priors import Prior, at_place, carried
from .keywords import arguments_of
from .net import Net
from .net.lock import exclusive
from .net.pixels import check_picture, deprocess, preprocess
from .options import SEED

UNCHANGED = 1e-3         # levels
SETTLED = "settled"      # `on_step` returns this to end an octave early


class StepReport(NamedTuple):
    """What `deepdream` reports of a step to `on_step`.

    objective: the value of the objective before the step; None for a function of dst.
    mean_abs: the mean of |gradient| before the step.
    jitter: the random offset (ox, oy), in pixels.
    size: (h, w) of the octave, in pixels.
    milliseconds: the duration of the step.
    """
    objective: float | None
    mean_abs: float
    jitter: tuple[int, int]
    size: tuple[int, int]
    milliseconds: float


@exclusive
def make_step(net: Net, step_size: float = 1.5, end: str = "inception_4c/output", jitter: int = 32, clip: bool = True,
              objective: Objective | Callable = objective_L2, priors: Sequence[Prior] = (), tile: int | None = None,
              rng: tiles.RandomSource = np.random, **arguments) -> tuple[float | None, float]:
    """Take one step of gradient ascent on the picture in net.blobs['data'], in place.

    net: the net.
    step_size: the mean change of a value of the picture, on the scale of 0 to 255.
    end: the layer that the objective looks at; terms of the objective that name a layer look at that one instead.
    jitter: the maximum of the random shift in each direction, in pixels.
    clip: keep the picture within 0 to 255.
    objective: an Objective, or any function of dst that sets dst.diff.
    priors: from `deepdream.goals.priors`.
    tile: dream pictures larger than this, in pixels, in tiles of at most this size (see `deepdream.engine.tiles`).
    rng: the source of the jitter: np.random, as in the notebook, a RandomState or a Generator.
    arguments: arguments of an objective that is passed as a class, such as guide_features of objective_guide.

    Returns (objective, mean |gradient|), both before the step; the objective is None for a function of dst. Raises
    DreamError or ConvertError as `check_dream` does, and DreamError if the gradient is zero or not finite.
    """
    step = Step(as_objective(objective, end, arguments, "make_step", arguments_of(make_step)), clip, priors, tile)
    _check_options(step_size=step_size, jitter=jitter)
    src = net.blobs[net.inputs[0]]
    ox, oy = tiles.draw(rng, -int(jitter), int(jitter) + 1)
    check_layers(net, step)
    for name in step.ends:
        net.sizes.check(name, *src.data.shape[-2:])
    tiles.check_tiles(net, step, [src.data.shape[-2:]])
    stepper = stepper_of(net, step, rng)
    values = stepper.step(ox, oy, step_size)
    _check_gradient(values[1], step.ends)
    src.data[...] = stepper.picture()
    return values


@exclusive
def deepdream(net: Net, base_img: np.ndarray, iter_n: int = 10, octave_n: int = 4, octave_scale: float = 1.4,
              end: str = "inception_4c/output", clip: bool = True, on_step: Callable | None = None,
              priors: Sequence[Prior] = (), tile: int | None = None, rng: tiles.RandomSource | None = None,
              seed: int | None = None, **step_params) -> np.ndarray:
    """Dream: do gradient ascent on a picture in octaves, from the smallest to the full size.

    net: the net.
    base_img: the picture, (H, W, 3), RGB, 0 to 255.
    iter_n: the number of steps in each octave.
    octave_n: the number of octaves.
    octave_scale: how many times larger each octave is than the one before.
    end, clip, priors, tile, rng: see `make_step`.
    seed: the seed of the jitter, in place of rng: seed=7 is short for rng=np.random.RandomState(7).
    on_step: called as on_step(octave, i, vis, report) after each step. vis() returns the picture so far, (H, W, 3);
        report is a StepReport. If it returns SETTLED, the octave ends. Without on_step, a Jupyter notebook shows the
        picture after each step.
    step_params: step_size, jitter, objective and its arguments; see `make_step`.

    Returns the picture, float32 (H, W, 3). Raises DreamError for options that are not allowed, for a picture that is
    too small for `end` in the smallest octave or too large for the memory, and if the gradient vanishes (Caffe would go
    on with NaN).
    """
    step_size, jitter = step_params.pop("step_size", 1.5), step_params.pop("jitter", 32)
    objective = as_objective(step_params.pop("objective", objective_L2), end, step_params, "deepdream",
                             dict.fromkeys([*arguments_of(deepdream), *arguments_of(make_step)]))
    step, rng = Step(objective, clip, priors, tile), _random_source(rng, seed)
    _check_options(iter_n=iter_n, octave_n=octave_n, octave_scale=octave_scale, step_size=step_size, jitter=jitter)
    iter_n, octave_n, jitter = int(iter_n), int(octave_n), int(jitter)
    check_picture(base_img)
    on_step = on_step or _notebook_display(" + ".join(step.ends))
    sizes = possible_octaves(net, step.ends, octave_sizes(*np.shape(base_img)[:2], octave_n, octave_scale))
    check_dream(net, step, sizes)

    _make_ready(net, step, sizes[0], iter_n)
    from scipy import ndimage as nd

    src, octaves = net.blobs[net.inputs[0]], _octaves(net, base_img, sizes)
    stepper, detail = None, np.zeros_like(octaves[0])     # detail: what the dream has added to the picture so far

    def vis():
        return visible(deprocess(net, (stepper.picture() if stepper else src.data)[0]), clip)

    for octave, octave_base in enumerate(octaves):
        h, w = octave_base.shape[-2:]
        if octave > 0:
            h1, w1 = detail.shape[-2:]
            detail = carried(step.priors, nd.zoom(detail, (1, 1.0 * h / h1, 1.0 * w / w1), order=1))
        src.reshape(1, len(octave_base), h, w)
        src.data[0] = octave_base + detail
        stepper = stepper_of(net, step, rng, iter_n)
        for i in range(iter_n):
            ox, oy = tiles.draw(rng, -jitter, jitter + 1)
            start = time.perf_counter()
            values = stepper.step(ox, oy, step_size, octave * iter_n + i, octave_n * iter_n)
            _check_gradient(values[1], step.ends)
            report = StepReport(*values, (int(ox), int(oy)), (h, w), 1000 * (time.perf_counter() - start))
            if on_step and on_step(octave, i, vis, report) is SETTLED:
                break
        src.data[...] = stepper.picture()
        stepper = None              # frees its memory before the next octave needs some
        if not np.isfinite(src.data).all():
            raise DreamError("the picture's numbers overflow: take a smaller step_size, or weaker priors")
        detail = src.data[0] - octave_base
    return _protected(step, deprocess(net, src.data[0]), base_img)


def _octaves(net, base_img, sizes):
    """Return the picture as the net's input at the size of each octave, smallest first."""
    from scipy import ndimage as nd
    octaves = [preprocess(net, base_img)]
    for size in reversed(sizes[:-1]):
        factors = (new / old for new, old in zip(size, octaves[-1].shape[1:]))
        octaves.append(nd.zoom(octaves[-1], (1, *factors), order=1))
    return octaves[::-1]


def _protected(step, dream, base_img):
    """Return the dream with exactly the picture's values where only the subtraction of the mean rounded them.

    What a mask protects must stay the same.
    """
    if not at_place(step.priors, "change"):
        return dream
    return np.where(np.abs(dream - base_img) < UNCHANGED, base_img, dream)


def _make_ready(net, step, size, steps):
    """Create the session of the first octave while another thread imports scipy.

    Both are slow, and onnxruntime releases Python's lock, so the two overlap.
    """
    importing = threading.Thread(target=importlib.import_module, args=("scipy.ndimage",))
    importing.start()
    try:
        step_session(net, step, size, steps)
    finally:
        importing.join()


def visible(img: np.ndarray, clip: bool = True) -> np.ndarray:
    """Return a picture as the notebook showed it.

    img: the picture, (H, W, 3).
    clip: whether it was dreamt with clipping. If not, it is scaled so that its 99.98th percentile becomes 255.
    """
    return img if clip else img * (255.0 / np.percentile(img, 99.98))


def octave_sizes(h: int, w: int, octave_n: int, octave_scale: float) -> list[tuple[int, int]]:
    """List the sizes (h, w) of the octaves, smallest first, rounded as scipy.ndimage.zoom does.

    h, w: size of the picture, in pixels.
    octave_n: the number of octaves.
    octave_scale: how many times larger each octave is than the one before.
    """
    sizes = [(h, w)]
    for _ in range(octave_n - 1):
        sizes.append(tuple(max(1, int(round(n * (1.0 / octave_scale)))) for n in sizes[-1]))
    return sizes[::-1]


def possible_octaves(net: Net, ends: Sequence[str], sizes: Sequence[tuple[int, int]]) -> list[tuple[int, int]]:
    """Replace the sizes of the smaller octaves by the nearest ones that the net can take.

    Most nets take every size; some cut their feature maps into windows, and take only multiples of their size.

    net: the net.
    ends: the layers to dream at.
    sizes: (h, w) of the octaves, smallest first. The last one stays.
    """
    ends = [end for end in ends if end in net.ends]
    return [*(net.sizes.nearest(ends, h, w) for h, w in sizes[:-1]), sizes[-1]] if ends else list(sizes)


# ---- checks before a dream begins

def check_dream(net: Net, step: Step, sizes: Sequence[tuple[int, int]]) -> None:
    """Raise an error unless a dream can run.

    net: the net.
    step: the step that the dream repeats.
    sizes: (h, w) of the octaves, smallest first.

    Raises ConvertError for a layer that the net does not have. Raises DreamError for an objective that does not suit
    its layer, for a picture that is too small for a layer in the smallest octave or too large for the memory, and for a
    size of tiles that is not possible.
    """
    check_layers(net, step)
    for end in step.ends:
        net.sizes.check_octaves(end, sizes)
    tiles.check_tiles(net, step, sizes)
    memory.check_fits(net, step, sizes[-1])


def check_layers(net: Net, step: Step) -> None:
    """Raise DreamError or ConvertError unless the net has the layers and channels that a step needs."""
    if net.leftover and len(step.ends) > 1:
        raise DreamError("leftover_diffs: one layer at a time; the objective looks at several")
    for _, term in step.objective.terms:
        name = net.checked(term.end)
        term.check_layer(name, net.ends[name].channels)


ALLOWED = {   # option -> (allowed values in words, test)
    "iter_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_n": ("a whole number from 1", lambda v: v >= 1 and v == int(v)),
    "octave_scale": ("a number greater than 1", lambda v: 1 < v < np.inf),
    "step_size": ("a number other than 0", lambda v: v != 0 and np.isfinite(v)),
    "jitter": ("a whole number from 0", lambda v: v >= 0 and v == int(v)),
}


def _check_options(**values):
    for name, value in values.items():
        allowed, test = ALLOWED[name]
        if not isinstance(value, numbers.Real) or not np.isfinite(value) or not test(value):
            value = repr(value) if isinstance(value, str) else value
            raise DreamError(f"{name} is {shown(value)}; allowed is {allowed}")


def _random_source(rng, seed):
    if seed is None:
        return np.random if rng is None else rng
    if rng is not None:
        raise DreamError("seed and rng: both are given; seed=7 is short for rng=np.random.RandomState(7)")
    if not isinstance(seed, numbers.Integral) or isinstance(seed, bool) or not SEED.accepts(int(seed)):
        raise DreamError(f"seed is {shown(seed)}; allowed is {SEED.allowed}")
    return np.random.RandomState(int(seed))


def _check_gradient(mean_abs, ends):
    if not mean_abs > 0 or not np.isfinite(mean_abs):
        gradient = "the gradient at '" + "' and '".join(ends) + "' is "
        if mean_abs == 0:
            raise NoGradient(gradient + "zero everywhere: there is nothing here for this objective to increase")
        raise DreamError(gradient + "not a finite number: the net's numbers overflow on this picture")


def _notebook_display(ends):
    """Return an `on_step` that shows the picture after each step, as the notebook did; None outside of Jupyter."""
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
        print(octave, i, ends, picture.shape)
        clear_output(wait=True)
    return show
