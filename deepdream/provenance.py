"""Provenance: how a picture was made, as written into its metadata, and whether two pictures were made alike."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from . import __version__, models
from .errors import DreamError
from .models.onnx_card import CHANNELS

if TYPE_CHECKING:
    import numpy as np

    from .net import Net

SOFTWARE = f"deepdream {__version__}"
MARK, ENDS = b'"software": "deepdream', 1 << 25      # what films contain, and how many bytes of each end are searched
WOKEN = "woken"      # an entry of pictures of features that were silent where their dream should start
ARRAY = "an array"      # the name of a picture that was not read from a file
# entries that are not compared: with other values it is still the same dream
NOT_COMPARED = {"software", "device", "threads", "picture_path", "guide_path", "mask_path", "model_path", "film"}
# the values of entries that are left out, as older versions do
DEFAULTS = {"tile": None, "priors": {}, "start": None, "size": None, "noise": None, "fast": False, "pixels": None,
            "mask": None, "mask_sha256": None, "mask_edge": None, "guide": None, "guide_sha256": None,
            "from": None, "to": None, "fps": None,
            "rotate": 0.0, "pan": [0.0, 0.0], "through": [], "hold": None}


def provenance(net: Net, settings: dict, **extra) -> dict:
    """Return the provenance of a picture, for its metadata.

    net: the net of the dream.
    settings: the settings of the dream, as `Settings.to_metadata` returns them.
    extra: further entries, such as those of `machine(net)`.
    """
    entries = {"software": SOFTWARE, "model": net.name, "checksum": net.checksum, **settings, **extra}
    entries |= {"model_path": path} if (path := path_of(net)) else {}
    return entries | ({"pixels": pixels} if (pixels := pixels_of(net)) else {})


def path_of(net: Net) -> str | None:
    """Return the path of a net that was given as a folder or as an .onnx file, else None."""
    if net.files.arguments["prototxt"] in models.names() or net.files.arguments.get("caffemodel"):
        return None
    return str(net.prototxt.parent if net.caffemodel else net.prototxt)


def machine(net: Net) -> dict:
    """Return the entries that describe where the net runs."""
    return {"device": net.device.name, "threads": net.thread_count}


def files_of(**paths: str | Path | np.ndarray | None) -> dict:
    """Return the entries that describe the files a picture was made from: their names, paths and checksums.

    paths: the files by name: picture, guide, mask. None for none. An array came from Python and has no file.
    """
    entries = {}
    for name, path in paths.items():
        is_file = isinstance(path, (str, Path))
        entries[name] = Path(path).name if is_file else None if path is None else ARRAY
        if is_file:
            entries |= {f"{name}_path": str(path), f"{name}_sha256": checksum_of(path)}
    return entries


def checksum_of(path: str | Path) -> str:
    """Return the SHA-256 of a file, in hexadecimal digits."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def differences(existing: dict, wanted: dict, ignored: Collection[str] = ()) -> list[str]:
    """List the entries in which an existing picture differs from a wanted one.

    existing: the provenance in the metadata of the existing picture.
    wanted: the provenance that the picture should have.
    ignored: names of entries that are not compared, in addition to those of NOT_COMPARED.
    """
    existing = DEFAULTS | existing
    wanted = DEFAULTS | json.loads(json.dumps(wanted))      # metadata is JSON, where tuples become lists
    return [name for name, value in wanted.items()
            if name not in NOT_COMPARED and name not in ignored and existing.get(name) != value]


def is_dream(path: Path) -> bool:
    """Return whether a file is a picture that this software dreamt."""
    from . import pictures
    software = pictures.settings_if_any(path).get("software")
    return isinstance(software, str) and software.startswith("deepdream")


def check_replaceable(path: str | Path, option: str = "-o") -> None:
    """Raise DreamError if a file exists that this software did not write, and that would be lost.

    option: the option that names the file, for the message.
    """
    path = Path(path)
    if path.is_file() and path.stat().st_size and not is_dream(path) and not _is_film(path):
        raise DreamError(f"{option} {path}: would overwrite {path}, which was not made by deepdream; give another "
                         "name, or delete it first")


def _is_film(path):
    """Return whether a file, of any format, has the settings of a dream at its beginning or end, as films have."""
    with open(path, "rb") as file:
        start = file.read(ENDS)
        file.seek(max(0, path.stat().st_size - ENDS))
        return MARK in start or MARK in file.read()


def pixels_of(net: Net) -> dict | None:
    """Return how a net from an .onnx file takes its pictures (mean, scale, ...).

    For a Caffe net, return the mean and the channel_swap that were given to it in Python; None if it has its own.
    """
    names = ("mean", "channel_swap", *(() if net.caffemodel else ("scale", "layout", "input")))
    return {k: v for k, v in net.files.arguments.items() if k in names} or None


def channels_of(pixels: dict) -> str | None:
    """Return the order of the channels, 'rgb' or 'bgr', in what `pixels_of` returned; None for any other."""
    return {swap: name for name, swap in CHANNELS.items()}.get(tuple(pixels.get("channel_swap") or ()))
