"""The notebook's functions make_step and deepdream. Names, arguments and defaults are its own."""
import importlib
import numbers
import threading
import time
from typing import NamedTuple

import numpy as np

from . import memory, tiles
from .errors import DreamError
from .objectives import Objective, objective_guide, objective_L2
from .pictures import showarray
from .pixels import deprocess, preprocess
from .priors import check
from .stepper import HostStepper, Stepper


SETTLED = "settled"      # what on_step returns to end an octave


class Told(NamedTuple):
    """What is told of a step: objective and mean |gradient| before it (the objective is None for a function of one's
    own), the jitter (ox, oy), the octave's size (h, w), milliseconds."""
    objective: float | None
    mean_abs: float
    jitter: tuple
    size: tuple
    milliseconds: float


def make_step(net, step_size=1.5, end="inception_4c/output", jitter=32, clip=True, objective=objective_L2, priors=(),
              tile=None, **more):
    """One step of gradient ascent on net.blobs['data'], in place.

    step_size: the mean change of a pixel's channel; jitter: the picture is shifted by up to so many pixels, drawn from
    NumPy's global generator; clip: keep pixels within 0 to 255; objective: an Objective, or any function of dst that
    sets dst.diff; priors: of `deepdream.priors`; tile: a larger picture is dreamt in tiles of at most so many pixels in
    each direction (see `deepdream.tiles`); more: arguments for an objective that is still a class
    (guide_features=... for objective_guide).

    Returns (objective, mean |gradient|) before the step; the objective is None for a function of one's own.
    """
    objective = _made(objective, more)
    src = net.blobs[net.inputs[0]]
    ox, oy = np.random.randint(-jitter, jitter + 1, 2)
    check_terms(net, objective, end)
    for name in tiles.ends(objective, end):
        net.check_size(name, *src.data.shape[-2:])
    tiles.check(net, objective, end, tile, [src.data.shape[-2:]])
    stepper = _stepper(net, objective, end, clip, check(priors), tile)
    told = stepper.step(ox, oy, step_size)
    _check(told, end)
    src.data[...] = stepper.picture()
    return told


def _stepper(net, objective, end, clip, priors, tile=None, steps=1):
    """What steps net.blobs['data'], so many times: the step graph, or, for a function of one's own and where diffs are
    kept layer by layer, NumPy around forward and backward, as in the notebook."""
    src = net.blobs[net.inputs[0]]
    bias = net.transformer.mean[net.inputs[0]] if clip else None
    session = _session(net, objective, end, clip, priors, tile, src.data.shape[-2:], steps)
    if session:
        return Stepper(session, net.device, objective, src.data, priors)
    if tiles.needed(*src.data.shape[-2:], tile):
        return HostStepper(tiles.TiledGradient(net, objective, end, tile), src.data, bias, priors)
    dst = net.blobs[end]

    def gradient(_):
        net.forward(end=end)
        if not net.leftover:
            dst.diff[...] = 0        # an objective that sets a part of it sets the rest to nothing
        objective(dst)
        net.backward(start=end)
        return None, src.diff

    return HostStepper(gradient, src.data, bias, priors)


def _session(net, objective, end, clip, priors, tile, size, steps):
    """The session in which a step is one graph; None where it is none: in tiles, or in NumPy."""
    if isinstance(objective, Objective) and not net.leftover and not tiles.needed(*size, tile):
        return net.session(end, objective, clip, priors, size=size, steps=steps)


def _make_ready(*what):
    """Make the session of the first octave, for which onnxruntime does not need Python, while scipy is imported, which
    takes as long. what: the arguments of `_session`."""
    importing = threading.Thread(target=importlib.import_module, args=("scipy.ndimage",))
    importing.start()
    try:
        _session(*what)
    finally:
        importing.join()


def deepdream(net, base_img, iter_n=10, octave_n=4, octave_scale=1.4, end="inception_4c/output", clip=True,
              on_step=None, priors=(), tile=None, **step_params):
    """Dream: gradient ascent over octaves, from the smallest to the picture's own size.

    base_img: (H, W, 3), RGB 0 to 255. iter_n steps in each of octave_n octaves, each octave_scale times as large as
    the one before. end: where the objective, or those of its terms that have no layer of their own, look. priors: of
    `deepdream.priors`, none as in the notebook. tile: octaves that are larger are dreamt in tiles of at most so many
    pixels in each direction (see `deepdream.tiles`). step_params: of `make_step`. on_step(octave, i, vis, told): called
    after each step; vis() is the picture so far, (H, W, 3), told a Told; where it returns SETTLED, the octave ends. In a
    Jupyter notebook the picture is shown as it grows, unless on_step is given.

    Returns the picture, float32 (H, W, 3). Raises DreamError for a picture too small for `end` in the smallest octave
    or too large for the memory, for options that make no sense, and where the gradient vanishes (Caffe would go on with
    NaN).
    """
    step_params = dict(step_params)
    step_size, jitter = step_params.pop("step_size", 1.5), step_params.pop("jitter", 32)
    objective = _made(step_params.pop("objective", objective_L2), step_params)
    _check_options(iter_n, octave_n, octave_scale, step_size, jitter)
    if np.ndim(base_img) != 3 or np.shape(base_img)[2] != 3:
        raise DreamError(f"the picture must be an array of shape (H, W, 3), not {np.shape(base_img)}")
    on_step = on_step or _notebook_display(end, clip)

    priors = check(priors)
    check_terms(net, objective, end)
    sizes = octave_sizes(*np.shape(base_img)[:2], octave_n, octave_scale)
    check_sizes(net, tiles.ends(objective, end), sizes)
    tiles.check(net, objective, end, tile, sizes)
    memory.check(net, objective, end, clip, priors, sizes[-1], tile)

    _make_ready(net, objective, end, clip, priors, tile, sizes[0], iter_n)
    from scipy import ndimage as nd

    octaves = [preprocess(net, base_img)]
    for _ in range(octave_n - 1):
        octaves.append(nd.zoom(octaves[-1], (1, 1.0 / octave_scale, 1.0 / octave_scale), order=1))

    src = net.blobs[net.inputs[0]]
    stepper, detail = None, np.zeros_like(octaves[-1])     # detail: what the dream has added so far

    def vis():
        return _visible(net, (stepper.picture() if stepper else src.data)[0], clip)

    for octave, octave_base in enumerate(octaves[::-1]):
        h, w = octave_base.shape[-2:]
        if octave > 0:
            h1, w1 = detail.shape[-2:]
            detail = nd.zoom(detail, (1, 1.0 * h / h1, 1.0 * w / w1), order=1)
        src.reshape(1, len(octave_base), h, w)
        src.data[0] = octave_base + detail
        stepper = _stepper(net, objective, end, clip, priors, tile, iter_n)
        for i in range(iter_n):
            ox, oy = np.random.randint(-jitter, jitter + 1, 2)
            begun = time.perf_counter()
            told = stepper.step(ox, oy, step_size, octave * iter_n + i, octave_n * iter_n)
            _check(told, end)
            told = Told(*told, (int(ox), int(oy)), (h, w), 1000 * (time.perf_counter() - begun))
            if on_step and on_step(octave, i, vis, told) is SETTLED:
                break
        src.data[...] = stepper.picture()
        stepper = None              # and what it holds of this octave
        if not np.isfinite(src.data).all():
            raise DreamError("the picture's numbers overflow: take a smaller step_size, or weaker priors")
        detail = src.data[0] - octave_base
    return deprocess(net, src.data[0])


def visible(img, clip=True):
    """What the notebook showed of a picture: without clipping, scaled to 255 / its 99.98th percentile."""
    return img if clip else img * (255.0 / np.percentile(img, 99.98))


def _visible(net, data, clip):
    return visible(deprocess(net, data), clip)


def octave_sizes(h, w, octave_n, octave_scale):
    """[(h, w)] of the octaves, smallest first: scipy.ndimage.zoom rounds each size to the nearest."""
    sizes = [(h, w)]
    for _ in range(octave_n - 1):
        sizes.append(tuple(max(1, int(round(n * (1.0 / octave_scale)))) for n in sizes[-1]))
    return sizes[::-1]


def _made(objective, arguments):
    """An objective that was handed over as a class, with its arguments."""
    if isinstance(objective, type) and issubclass(objective, Objective):
        if objective is objective_guide and not arguments:
            raise DreamError("objective_guide needs the guide's features: objective=objective_guide(guide_features)")
        return objective(**arguments)
    if arguments:
        raise TypeError(f"unexpected arguments: {', '.join(arguments)}")
    return objective


def check_sizes(net, ends, sizes):
    """Raise DreamError if a picture is too small for one of the ends in its smallest octave. sizes: of the octaves."""
    h, w = sizes[-1]
    for end in ends:
        net.check_size(end, *sizes[0], "the picture" if len(sizes) == 1 else
                       f"the picture of {w}x{h} in the smallest of {len(sizes)} octaves")


def check_terms(net, objective, end):
    """Raise DreamError unless the net has what an objective looks at."""
    if not isinstance(objective, Objective):
        return
    if net.leftover and any(term.end is not None for _, term in objective.terms) \
            and (len(objective.terms) > 1 or objective.terms[0][0] != 1 or objective.terms[0][1].end != end):
        raise DreamError("leftover_diffs: one layer at a time; the objective looks at several")
    for _, term in objective.terms:
        name = net.checked(term.end or end)
        term.check(name, net.ends[name]["channels"])


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


def _check(told, end):
    mean = told[1]
    if not mean > 0 or not np.isfinite(mean):
        raise DreamError(f"the gradient at '{end}' is zero everywhere: there is nothing here for this objective to "
                         "increase" if mean == 0 else f"the gradient at '{end}' is not a finite number: the net's "
                         "numbers overflow on this picture")


def _notebook_display(end, clip):
    """In Jupyter: show the picture after each step and clear it before the next, as the original did."""
    try:
        from IPython import get_ipython
        from IPython.display import clear_output
    except ImportError:
        return None
    if getattr(get_ipython(), "kernel", None) is None:
        return None

    def show(octave, i, vis, told):
        picture = vis()
        showarray(picture)
        print(octave, i, end, picture.shape)
        clear_output(wait=True)
    return show
