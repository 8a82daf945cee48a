"""A net of one's own: an .onnx file and, beside it under the same stem, its card: net.onnx, net.toml.

    mean = [123.675, 116.28, 103.53]       # one number or one a channel, in the order of the net's channels, of 0..255
    scale = [0.01712, 0.01751, 0.01743]    # what the pixels less their mean are multiplied by; or "1/255"
    channels = "rgb"                       # or "bgr"
    layout = "nchw"                        # or "nhwc"
    input = "x"                            # its name, where the net has several
    labels = "labels.txt"                  # a file beside it, a class a line
    default_end = "relu_19"

All of it may be left out. Also allowed: title, ends (as in a `card.toml`).
"""
import math
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from . import toml
from .errors import ModelError
from .cards import LEVELS, ends
from .toml import when

CHANNELS = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}     # the picture's channels in the net's order
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class OnnxCard:
    """What the card beside an .onnx file says; None where it says nothing. mean, scale: tuples of numbers."""
    name: str
    folder: Path
    path: Path | None = None                # of the card itself
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    channels: str | None = None
    layout: str | None = None
    input: str | None = None
    labels: Path | None = None
    default_end: str | None = None
    title: str = ""
    ends: dict[str, list[str]] = field(default_factory=lambda: {level: [] for level in LEVELS})

    class_pictures = property(lambda self: {})      # such a card has none


def numbers(text, positive=False):
    """'1/255' or '123.7,116.3,103.5' as a tuple of floats. Raises ValueError."""
    try:
        found = tuple(float(Fraction(part)) if "/" in part else float(part) for part in str(text).split(","))
    except ArithmeticError:      # 1/0; a fraction of hundreds of digits
        raise ValueError(text) from None
    if not all(map(math.isfinite, found)) or positive and min(found) <= 0:
        raise ValueError(text)
    return found


def _numbers(must, low, high):
    """The check of numbers from `low` to `high`: one, a text of them or a list of both."""
    def check(value):
        given = value if isinstance(value, list) else [value]
        when(0 < len(given) < 1000 and all(type(v) in (int, float, str) for v in given), must, value)
        try:
            found = sum((numbers(v) for v in given), ())
        except ValueError:
            found = ()
        when(found and low <= min(found) and max(found) <= high, must, value)
        return found
    return check


_CARD = {"mean": _numbers("a number of 0..255, or one a channel", 0, 255),
        "scale": _numbers('a number above 0 (1e-9 to 1e9) or a text such as "1/255", or one a channel', 1e-9, 1e9),
        "channels": toml.one_of(*CHANNELS), "layout": toml.one_of(*LAYOUTS), "input": toml.text, "labels": toml.name,
        "default_end": toml.text, "title": toml.text, "ends": ends}


def beside(path):
    """The card beside the .onnx file `path`; one that says nothing if there is none. ModelError: what is wrong."""
    path = Path(path)
    file = path.with_suffix(".toml")
    if not os.path.lexists(file):
        return OnnxCard(path.stem, path.parent)
    values = toml.read(file, _CARD)
    if "labels" in values:
        values["labels"] = path.parent / values["labels"]
        if not values["labels"].is_file():
            raise ModelError(f"{file}: labels: there is no file {values['labels']}")
    return OnnxCard(path.stem, path.parent, file, **values)
