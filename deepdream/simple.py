"""One function for a whole dream, from a picture file to the file of its dream."""
from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np

from . import pictures
from .dream import check_dream, deepdream, octave_sizes, possible_octaves, visible
from .engine.step import Step
from .errors import DreamError
from .goals.text import goals, needs_surgery
from .keywords import arguments_of, unexpected
from .net import Net
from .net.pixels import check_picture
from .options import OPTIONS, Settings
from .pictures.mask import load_mask
from .pictures.starts import start_size, starting_picture
from .provenance import files_of, machine, provenance

MODEL = "mini_imagenet"


def dream_picture(picture: str | Path | np.ndarray | None = None, output: str | Path | None = None,
                  model: str | Path | Net = MODEL, guide: str | Path | np.ndarray | None = None,
                  quality: int = 95, on_step: Callable | None = None, mask: str | Path | np.ndarray | None = None,
                  **settings) -> np.ndarray:
    """Load a picture, dream, and save the dream with its settings in the metadata, as the command line does.

        dream_picture("cat.jpg", "out.jpg", end="inception_4d/output", seed=7)
        dream_picture("cat.jpg", "out.jpg", "mini_places", tv=0.5)
        dream_picture(start="lake", octave_n=3, end="class:peacock")

    picture: the picture, a file or an array (H, W, 3) of 0 to 255; None for the one that `start` names, or the sky.
        The dream of a file keeps its EXIF and, as PNG, WebP or TIFF, its alpha channel.
    output: the file to write; None to write none. An existing file is replaced, unless it is one of those that are
        read.
    model: a Net, or what names one: a model, a folder or an .onnx file.
    guide: a picture that the dream is to follow.
    quality: the quality of a JPEG or WebP file, 1 to 100.
    on_step: see `deepdream`.
    mask: a picture that is white where to dream, and black where nothing may change (see `pictures.mask.load_mask`).
    settings: the fields of `options.Settings`: end, iter_n, octave_n, seed, start, size, tv and so on, with their
        defaults. `end` can be one text of --end or several. Without a seed, one is drawn.

    Returns the dream, uint8 (H, W, 3), as it is saved. Raises TypeError for an unknown setting, and DreamError,
    ConvertError or ModelError, with one line, for whatever the command line would reject.
    """
    for name in settings:
        if name not in OPTIONS:
            raise unexpected("dream_picture", name, [*arguments_of(dream_picture), *OPTIONS])
    if isinstance(settings.get("end"), str):
        settings["end"] = (settings["end"],)
    chosen = Settings(**settings)
    if chosen.start and picture is not None:
        raise DreamError(f"start: {chosen.start}: there is a picture to start from; leave out one")
    if chosen.mask_edge is not None and mask is None:
        raise DreamError("mask_edge: there is no mask; give mask, too")
    for name, array in {"picture": picture, "guide": guide, "mask": mask}.items():
        if isinstance(array, np.ndarray):
            check_picture(array, f"the {name}")
    if output is not None:
        pictures.check_target(output, "output")
        pictures.refuse_inputs(output, *map(_path, (picture, guide, mask)), option="output")
    source = None if picture is None or isinstance(picture, np.ndarray) else pictures.read(picture)
    image = source.pixels(output is not None and pictures.keeps_alpha(output)) if source else picture
    guide_image = guide if guide is None or isinstance(guide, np.ndarray) else pictures.load(guide)
    net = model if isinstance(model, Net) else Net(model, surgery=needs_surgery(chosen.end), fast=chosen.fast)
    if chosen.seed is None:
        chosen = chosen.replace(seed=int(np.random.SeedSequence().generate_state(1)[0]))
    chosen = chosen.replace(end=chosen.end or (net.default_end,))
    size = start_size(chosen, None if image is None else image.shape[:2])
    goal = goals(net, chosen, guide_image, None if mask is None else load_mask(mask, *size, chosen.mask_edge))
    step = Step(goal["objective"], chosen.clip, goal["priors"], chosen.tile or None)
    sizes = possible_octaves(net, step.ends, octave_sizes(*size, chosen.octave_n, chosen.octave_scale))
    check_dream(net, step, sizes)
    if output is not None:
        pictures.check_size(output, *sizes[-1], "output")
    dream = deepdream(net, starting_picture(chosen, image), seed=chosen.seed, on_step=on_step, **chosen.steps, **goal)
    result = pictures.to_uint8(visible(dream, chosen.clip))
    if output is not None:
        masks = {} if mask is None else {"mask": mask}
        metadata = provenance(net, chosen.to_metadata(), **files_of(picture=picture, guide=guide, **masks),
                              **machine(net))
        pictures.save(result, output, metadata, quality, source)
    return result


def _path(picture):
    return None if isinstance(picture, np.ndarray) else picture
