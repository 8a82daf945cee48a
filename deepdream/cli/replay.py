"""The option --settings: dream again with the settings that are saved in a picture."""
from __future__ import annotations

import sys
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import models, pictures
from ..convert.errors import shown
from ..errors import DreamError
from ..options import Settings
from ..provenance import channels_of
from .nets import PIXELS, check_pixels
from .options import specified

if TYPE_CHECKING:
    from ..net import Net

# Option on the command line -> the saved settings that it replaces
REPLACED = {"blur": ("blur", "blur_every", "blur_until"), "start": ("start", "noise"), "picture": ("start", "noise")}


def replay(args: Namespace) -> Settings:
    """Read the settings of a dream from the picture of --settings.

    args: parsed arguments. Options on the command line take precedence over the saved settings. The model, the pixels
    of an .onnx file and the number of threads are set in `args`, unless the command line specifies them.

    Returns the saved settings without those that the command line replaces. Raises DreamError for a picture without
    settings or with damaged ones, and for a picture, a guide or a model that the dream needs and that is not specified.
    """
    path = Path(args.settings)
    pictures.load(path)      # raises an error if the file is damaged or is not a picture
    metadata = pictures.settings(path)
    if "seed" not in metadata or "end" not in metadata or "frame" in metadata:
        raise DreamError(f"--settings {path}: holds no settings of a dream"
                         + " alone: it is a frame of a zoom" * ("frame" in metadata))
    try:
        kept = {name: value for name, value in metadata.items() if name not in _replaced(args)}
        settings = Settings.from_metadata(kept | {"priors": _priors(metadata, args)})
        _check_texts(metadata)
        arguments = _arguments(metadata, args)
    except (DreamError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, DreamError) else ""
        raise DreamError(f"--settings {path}: its settings are damaged{why}") from None
    _check_files(args, metadata, path)
    for name, value in arguments.items():
        setattr(args, name, value)
    return settings


def _replaced(args):
    """Return the names of the saved settings that the command line replaces."""
    used = {*specified(args), *(name for name in ("picture",) if getattr(args, name, None))}
    return {setting for name in used for setting in REPLACED.get(name, ())}


def _priors(metadata, args):
    priors = metadata.get("priors") or {}
    return {k: v for k, v in priors.items() if k not in _replaced(args)}


def _check_texts(metadata):
    for name in ("picture", "guide", "mask", "model"):
        if not isinstance(metadata.get(name), (str, type(None))):
            raise TypeError(name)
    if not metadata["end"]:
        raise TypeError("end")


def _arguments(metadata, args):
    """Return {name: value} of the arguments, other than settings, to take from the metadata."""
    values = {"threads": metadata.get("threads")}
    if values["threads"] is not None and (type(values["threads"]) is not int or not 1 <= values["threads"] <= 1024):
        raise TypeError("threads")
    if args.model is None:
        pixels = metadata.get("pixels") or {}
        values |= {PIXELS[name]: value for name, value in pixels.items() if name in PIXELS}
        values["channels"] = channels_of(pixels)
        check_pixels(values)
        if metadata.get("model") in models.names():
            values["model"] = metadata["model"]
    return {name: value for name, value in values.items() if value is not None and getattr(args, name, None) is None}


def _check_files(args, metadata, path):
    """Raise DreamError for files that the dream needs and that the command line does not specify."""
    if metadata.get("picture") and not args.picture and not args.start:
        raise DreamError(f"--settings {path}: was dreamt from {shown(metadata['picture'])}; give the picture too")
    if metadata.get("guide") and not args.guide:
        raise DreamError(f"--settings {path}: was dreamt with the guide {shown(metadata['guide'])}; give --guide too")
    if metadata.get("mask") and not args.mask:
        raise DreamError(f"--settings {path}: was dreamt with the mask {shown(metadata['mask'])}; give --mask too")
    if metadata.get("model") not in models.names() and args.model is None:
        raise DreamError(f"--settings {path}: was dreamt with '{shown(metadata.get('model'))}', which has no name in "
                         "`deepdream models`; give --model too")


def warn_of_differences(path: str | Path, net: Net, threads: int | None) -> None:
    """Print a warning if the dream may not come out as the picture of --settings did.

    path: the picture.
    net: the net that is to dream; its files may have changed.
    threads: the number of threads that is requested; if it is that of the picture, the machine may have fewer cores.
    """
    from ..runtime.cores import cores
    metadata = pictures.settings(path)
    if metadata.get("checksum") != net.checksum:
        print(f"--settings {path}: was dreamt with other files of {net.name}, or by another version", file=sys.stderr)
    if threads and threads == metadata.get("threads") and threads > (cores() or threads):
        print(f"--settings {path}: was dreamt with {threads} threads, and this machine has {cores()} cores, so it "
              "will be slow; with another number (--threads) the dream may differ", file=sys.stderr)
