"""--settings: dream again as a picture was dreamt."""
import sys
from pathlib import Path

from .. import models, pictures
from ..convert.errors import shown
from ..errors import DreamError
from ..options import Settings
from ..provenance import channels_of
from .nets import PIXELS, check_pixels
from .options import given

# what is given on the command line -> what of the picture's settings no longer counts
DISPLACED = {"blur": ("blur", "blur_every", "blur_until"), "start": ("start", "noise"), "picture": ("start", "noise")}


def replay(args) -> Settings:
    """The settings with which the picture of --settings was dreamt, but for those that are among the arguments. The model,
    the pixels of an .onnx file and the threads are put into `args`, where they are not given. Raises DreamError."""
    path = Path(args.settings)
    pictures.load(path)      # says what is wrong with it
    record = pictures.settings(path)
    if "seed" not in record or "end" not in record or "frame" in record:
        raise DreamError(f"--settings {path}: holds no settings of a dream"
                         + " alone: it is a frame of a zoom" * ("frame" in record))
    try:
        settings = Settings.from_metadata({name: value for name, value in record.items() if name not in _displaced(args)}
                                 | {"priors": _priors(record, args)})
        _check_texts(record)
        remembered = _arguments(record, args)
    except (DreamError, AttributeError, KeyError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, DreamError) else ""
        raise DreamError(f"--settings {path}: its settings are damaged{why}") from None
    _check_files(args, record, path)
    for name, value in remembered.items():
        setattr(args, name, value)
    return settings


def _displaced(args):
    there = {*given(args), *(name for name in ("picture",) if getattr(args, name, None))}
    return {gone for name in there for gone in DISPLACED.get(name, ())}


def _priors(record, args):
    priors = record.get("priors") or {}
    return {k: v for k, v in priors.items() if k not in _displaced(args)}


def _check_texts(record):
    for name in ("picture", "guide", "model"):
        if not isinstance(record.get(name), (str, type(None))):
            raise TypeError(name)
    if not record["end"]:
        raise TypeError("end")


def _arguments(record, args):
    """{name of an argument: value} that the record tells of, beside the settings."""
    values = {"threads": record.get("threads")}
    if values["threads"] is not None and (type(values["threads"]) is not int or not 1 <= values["threads"] <= 1024):
        raise TypeError("threads")
    if args.model is None:
        pixels = record.get("pixels") or {}
        values |= {PIXELS[name]: value for name, value in pixels.items() if name in PIXELS}
        values["channels"] = channels_of(pixels)
        check_pixels(values)
        if record.get("model") in models.names():
            values["model"] = record["model"]
    return {name: value for name, value in values.items() if value is not None and getattr(args, name, None) is None}


def _check_files(args, record, path):
    """Raise DreamError for files that the dream needs and that were not given."""
    if record.get("picture") and not args.picture and not args.start:
        raise DreamError(f"--settings {path}: was dreamt from {shown(record['picture'])}; give the picture too")
    if record.get("guide") and not args.guide:
        raise DreamError(f"--settings {path}: was dreamt with the guide {shown(record['guide'])}; give --guide too")
    if record.get("model") not in models.names() and args.model is None:
        raise DreamError(f"--settings {path}: was dreamt with '{shown(record.get('model'))}', a model of one's own; give "
                         "--model too")


def say_differences(path, net, threads: int | None):
    """Say so, where the net's files are not those that a picture was dreamt with, and where this machine has fewer cores
    than the threads that it was dreamt with and is now again. threads: as asked for."""
    from ..runtime.cores import cores
    record = pictures.settings(path)
    if record.get("checksum") != net.checksum:
        print(f"--settings {path}: was dreamt with other files of {net.name}, or by another version", file=sys.stderr)
    if threads and threads == record.get("threads") and threads > (cores() or threads):
        print(f"--settings {path}: was dreamt with {threads} threads, which this machine's {cores()} cores take turns at; "
              "--threads gives another number, for a dream that may differ", file=sys.stderr)
