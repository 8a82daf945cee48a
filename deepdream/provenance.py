"""Provenance: what the metadata of a picture tells of how it was made, and whether two pictures were made alike."""
import json
from pathlib import Path

from . import __version__
from .models.onnx_card import CHANNELS

SOFTWARE = f"deepdream {__version__}"
# what does not make a dream another one, and what a record of an older version means where it says nothing
MACHINE = {"software", "device", "threads"}
USUAL = {"tile": None, "priors": {}, "start": None, "size": None, "noise": None, "fast": False, "pixels": None}


def provenance(net, settings: dict, **more) -> dict:
    """A record of how a picture was made.

    net: the Net. settings: what was chosen, as `Settings.to_metadata` gives it. more: what else the picture owes its looks to,
    `machine(net)` among it.
    """
    record = {"software": SOFTWARE, "model": net.name, "checksum": net.checksum, **settings, **more}
    return record | ({"pixels": pixels} if (pixels := pixels_of(net)) else {})


def machine(net) -> dict:
    """What a record says of where the net ran."""
    return {"device": net.device.name, "threads": net.thread_count}


def differences(there: dict, wanted: dict, but=()) -> list[str]:
    """The names of what a record says otherwise than is wanted. The machine, its threads and the version do not count,
    nor does what `but` names."""
    there, wanted = USUAL | there, USUAL | json.loads(json.dumps(wanted))      # as it comes back from a picture
    return [name for name, value in wanted.items()
            if name not in MACHINE and name not in but and there.get(name) != value]


def is_dream(path: Path) -> bool:
    """Is a file a picture that was dreamt here?"""
    from . import pictures
    software = pictures.settings_there(path).get("software")
    return isinstance(software, str) and software.startswith("deepdream")


def pixels_of(net) -> dict | None:
    """How a net in an .onnx file takes its pictures; None of Caffe's nets."""
    return None if net.caffemodel else {k: v for k, v in net.files.arguments.items() if k != "prototxt"}


def channels_of(pixels: dict) -> str | None:
    """'rgb' or 'bgr', from what `pixels_of` gave."""
    return {swap: name for name, swap in CHANNELS.items()}.get(tuple(pixels.get("channel_swap") or ()))
