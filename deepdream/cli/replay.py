"""The option --settings: use the settings that are saved in a picture, and the picture that it was made from."""
from __future__ import annotations

import os
import re
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from .. import convert, models, pictures
from ..convert.errors import shown
from ..errors import DreamError
from ..options import Settings
from ..provenance import WOKEN, channels_of, checksum_of
from .nets import PIXELS, check_pixels
from .options import specified
from .saved import Form

if TYPE_CHECKING:
    from ..net import Net

# Option on the command line -> the saved settings that it replaces
REPLACED = {"blur": ("blur", "blur_every", "blur_until"), "start": ("start", "noise"), "picture": ("start", "noise")}
CHECKSUM = re.compile(r"[0-9a-f]{64}")
ELSEWHERE = re.compile(r"[\\/]{2}")      # how paths on other machines begin, which a stranger's picture must not name
ADVICE = {"picture": "give the picture too", "guide": "give --guide too", "mask": "give --mask too"}
OTHER_PIXELS = "was dreamt in Python with another mean or channel_swap than the net's own, which no option can give"
WAS = {"picture": "from", "guide": "with the guide", "mask": "with the mask"}


def replay(args: Namespace, form: Form) -> Settings:
    """Read the settings in the picture of --settings.

    args: parsed arguments. Arguments that the command line does not specify (`args.given` names the others) are set in
        `args`: the picture, the guide, the mask, the model, the pixels of an .onnx file, the number of threads, and
        those of the form.
    form: what the command reads.

    Returns the saved settings of a dream without those that the command line replaces. Raises DreamError for a picture
    without settings of this form or with damaged ones, for a picture, a guide, a mask or a model that is needed, that
    is not specified, and that is not where it was, and for a mask if the command has no masks.
    """
    path = Path(args.settings)
    if form.read:
        metadata = form.read(path)
    else:
        pictures.load(path)      # raises an error if the file is damaged or is not a picture
        metadata = pictures.settings(path)
    frame = "frame" in metadata
    if not all(name in metadata for name in form.needs) or frame and not form.frames:
        raise DreamError(f"--settings {path}: holds no settings of {form.what}"
                         + " alone: it is a frame of a zoom" * frame)
    try:
        kept = {name: value for name, value in metadata.items() if name not in _replaced(args)}
        settings = Settings.from_metadata(kept | {"priors": _priors(metadata, args)})
        _check_texts(metadata, form)
        arguments = _arguments(metadata, args, form, path)
    except (DreamError, AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        why = f": {error}" if isinstance(error, DreamError) else ""
        raise DreamError(f"--settings {path}: its settings are damaged{why}") from None
    if metadata.get(WOKEN):
        raise DreamError(f"--settings {path}: its channel saw nothing where the dream should start, so `features` "
                         "began with other noise; only `deepdream features` makes it again")
    arguments |= _files(args, metadata, path, form)
    for name, value in arguments.items():
        setattr(args, name, value)
    same = getattr(args, "picture", None) and _is_recorded(args.picture, metadata)
    return settings.replace(stretch=True) if same and getattr(args, "size", None) is None else settings


def _replaced(args):
    """Return the names of the saved settings that the command line replaces."""
    used = {*specified(args), *(name for name in ("picture",) if getattr(args, name, None))}
    return {setting for name in used for setting in REPLACED.get(name, ())}


def _priors(metadata, args):
    priors = metadata.get("priors") or {}
    return {k: v for k, v in priors.items() if k not in _replaced(args)}


def _check_texts(metadata, form):
    for name in ("picture", "guide", "mask", "model", "picture_path", "guide_path", "mask_path", "model_path"):
        if not isinstance(metadata.get(name), (str, type(None))):
            raise TypeError(name)
    for name in metadata.get("model_paths") or ():
        if not isinstance(name, (str, type(None))):
            raise TypeError("model_paths")
    for name in ("picture_sha256", "guide_sha256", "mask_sha256"):
        if metadata.get(name) is not None and not CHECKSUM.fullmatch(metadata[name]):
            raise TypeError(name)
    for name, value in metadata.items():
        if name in form.entries and not form.entries[name].accepts(value):
            raise TypeError(name)
    if "end" in form.needs and not metadata["end"]:
        raise TypeError("end")


def _arguments(metadata, args, form, path):
    """Return {name: value} of the arguments, other than settings and files, to take from the metadata."""
    values = {"threads": metadata.get("threads")}
    if values["threads"] is not None and (type(values["threads"]) is not int or not 1 <= values["threads"] <= 1024):
        raise TypeError("threads")
    pixels = metadata.get("pixels") or {}
    saved = {PIXELS[name]: value for name, value in pixels.items() if name in PIXELS}
    saved["channels"] = channels_of(pixels)
    check_pixels(saved)
    if form.model not in args.given:
        values |= saved
        found = _models(metadata, path)
        if None not in found:
            values[form.model] = found[0] if form.model == "model" else found
    elif form.model == "model" and _is_same_net(args.model, pixels, metadata):
        values |= saved
    for name, entry in form.entries.items():
        if entry.argument not in values and (value := metadata.get(name, form.older.get(name))) is not None:
            values[entry.argument] = entry.convert(value)
    return {name: value for name, value in values.items()
            if value is not None and hasattr(args, name) and name not in args.given}


def _models(metadata, path):
    """Return the name or the path of each net to take from the metadata; None for one that is not there."""
    if "models" not in metadata:      # everything but a comparison has one net
        return [_model(metadata.get("model"), metadata.get("model_path"), path)]
    recorded = metadata.get("model_paths") or [None] * len(metadata["models"])
    return [_model(name, place, path) for name, place in zip(metadata["models"], recorded, strict=True)]


def _model(name, recorded, path):
    """Return the path that is recorded for a net, or one beside the picture, or its name; None if it is not there."""
    if recorded and not ELSEWHERE.match(recorded):
        for place in (Path(recorded), path.parent / Path(recorded).name):
            if _is_file(place) if place.suffix.lower() == ".onnx" else _is_net(place):
                return str(place)
    return name if name in models.names() else None


def _is_net(folder):
    """Return whether a folder holds a Caffe net."""
    try:
        return any(name.lower().endswith(".caffemodel") for name in os.listdir(folder))
    except (OSError, ValueError):      # no folder, or a null character
        return False


def _is_same_net(model, pixels, metadata):
    """Return whether an .onnx file is the net of the picture, if it takes pictures as it did then."""
    from ..net.files import OnnxFile
    if not pixels or not model.lower().endswith(".onnx"):
        return False
    try:
        return OnnxFile(model, **{"mean": None, "channel_swap": None, **pixels}).checksum == metadata.get("checksum")
    except (DreamError, convert.ConvertError, models.ModelError):      # the command itself will report it
        return False


# ---- the files that a picture was made from

def _files(args, metadata, path, form):
    """Return {argument: file} of the picture, the guide and the mask to take from the metadata.

    Raises DreamError for files and models that are needed and that neither the command line nor the metadata has.
    """
    found = {}
    if hasattr(args, "picture") and not args.picture and not getattr(args, "start", None):
        if metadata.get("picture"):
            found["picture"] = _recorded_file("picture", metadata, path)
        elif metadata.get("film"):
            raise DreamError(f"--settings {path}: was dreamt from the film {shown(metadata['film'])}; give a picture "
                             "too")
    if metadata.get("guide") and form.guide and form.guide not in args.given:
        guide = _recorded_file("guide", metadata, path)
        found[form.guide] = guide if form.guide == "guide" else [guide]
    if metadata.get("mask") and "mask" not in args.given:
        if not hasattr(args, "mask"):
            raise DreamError(f"--settings {path}: was dreamt with the mask {shown(metadata['mask'])}, and this command "
                             "has no masks")
        found["mask"] = _recorded_file("mask", metadata, path)
    if _other_pixels(metadata) and form.model not in args.given:
        raise DreamError(f"--settings {path}: {OTHER_PIXELS}")
    names = metadata.get("models", [metadata.get("model")])
    unknown = [name for name, found in zip(names, _models(metadata, path)) if found is None]
    if unknown and form.model not in args.given:
        raise DreamError(f"--settings {path}: was dreamt with '{shown(unknown[0])}', which has no name in "
                         f"`deepdream models`; give --{form.model} too")
    return found


def _other_pixels(metadata):
    """Return whether the net was a Caffe net that took pictures in another way than it should."""
    pixels = metadata.get("pixels") or {}
    return "layout" not in pixels and ("mean" in pixels or "channel_swap" in pixels)


def _recorded_file(name, metadata, path):
    """Return the path of the recorded picture, guide or mask, where it was or next to the picture of --settings."""
    recorded, checksum = metadata.get(f"{name}_path"), _recorded_checksum(name, metadata)
    title = recorded and Path(recorded).name if "frame" in metadata else metadata[name]
    was = f"--settings {path}: was dreamt {WAS[name]} " + shown(title or "another file")
    if not checksum or not title:
        raise DreamError(f"{was}; {ADVICE[name]}")
    places = [] if not recorded or ELSEWHERE.match(recorded) else [recorded]
    there = [place for place in (*places, path.parent / Path(title).name) if _is_file(place)]
    for place in there:
        if checksum_of(place).startswith(checksum):
            return str(place)
    raise DreamError(f"{was}, which " + ("has changed since" if there else "is not there any more")
                     + f"; {ADVICE[name]}")


def _recorded_checksum(name, metadata):
    """Return the checksum of a file, or its beginning, which frames of a zoom have; None in older pictures."""
    frame = metadata[name] if "frame" in metadata else None
    return metadata.get(f"{name}_sha256") or (frame if frame and re.fullmatch(r"[0-9a-f]{16}", frame) else None)


def _is_file(path):
    try:
        return os.path.isfile(path)
    except ValueError:      # a null character
        return False


def _is_recorded(path, metadata):
    """Return whether a file is the picture that the metadata name."""
    if not metadata.get("picture") or not _is_file(path):
        return False
    checksum = _recorded_checksum("picture", metadata)
    return checksum_of(path).startswith(checksum) if checksum else Path(path).name == metadata["picture"]


def warn_of_differences(path: str | Path, nets: Sequence[Net], threads: int | None) -> None:
    """Print a warning if the result may not come out as the picture of --settings did.

    path: the picture.
    nets: the nets that are to dream; their files may have changed.
    threads: the number of threads that is requested; if it is that of the picture, the machine may have fewer cores.
    """
    from ..runtime.cores import cores
    metadata = pictures.settings(path)
    for net in nets:
        if net.checksum not in (metadata.get("checksum"), *(metadata.get("checksums") or ())):
            print(f"--settings {path}: was dreamt with other files of {net.name}, or by another version",
                  file=sys.stderr)
        elif net.caffemodel and _other_pixels(metadata):
            print(f"--settings {path}: {OTHER_PIXELS}", file=sys.stderr)
    if threads and threads == metadata.get("threads") and threads > (cores() or threads):
        print(f"--settings {path}: was dreamt with {threads} threads, and this machine has {cores()} cores, so it "
              "will be slow; with another number (--threads) the dream may differ", file=sys.stderr)
