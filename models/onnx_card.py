"""Model cards of ONNX files: net.toml in the same folder describes net.onnx.

    mean = [123.675, 116.28, 103.53]       # subtracted from the pixels, 0 to 255: one number for each channel, in the
                                           # net's order, or one number for all
    scale = [0.01712, 0.01751, 0.01743]    # factor of the pixels after that; one number for all, or a text like "1/255"
    channels = "rgb"                       # order of the channels; or "bgr"
    layout = "nchw"                        # order of the input's axes; or "nhwc"
    input = "x"                            # name of the input that takes the picture, if there are several
    labels = "labels.txt"                  # a file in the same folder, with one class on each line
    default_end = "relu_19"                # the layer to dream at if the user names none

Every field is optional. `title` and `ends` are allowed, too, as in a `card.toml`.
"""
from __future__ import annotations

import math
import os
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path

from . import toml
from .errors import ModelError
from .cards import LEVELS, ends
from .toml import when

CHANNELS = {"rgb": (0, 1, 2), "bgr": (2, 1, 0)}     # order -> for each channel of the net, its number in RGB
LAYOUTS = ("nchw", "nhwc")


@dataclass(frozen=True)
class OnnxCard:
    """The model card of an ONNX file. A field that the card does not have is None or empty.

    name: the file name of the net, without .onnx.
    folder: its folder.
    path: the card's file, or None if there is no card.
    mean: subtracted from the pixels, 0 to 255: one number, or one for each channel.
    scale: factor of the pixels after that: one number, or one for each channel.
    channels: order of the channels, a key in CHANNELS.
    layout: order of the input's axes, one of LAYOUTS.
    input: name of the input that takes the picture.
    labels: path of the file with the names of the classes.
    default_end: the layer to dream at if the user names none.
    title: one line for people.
    ends: {level: names of layers}, for galleries.
    """
    name: str
    folder: Path
    path: Path | None = None
    mean: tuple[float, ...] | None = None
    scale: tuple[float, ...] | None = None
    channels: str | None = None
    layout: str | None = None
    input: str | None = None
    labels: Path | None = None
    default_end: str | None = None
    title: str = ""
    ends: dict[str, list[str]] = field(default_factory=lambda: {level: [] for level in LEVELS})

    class_pictures = property(lambda self: {})      # as in Card; the card of an ONNX file has no such settings


def numbers(text: object, positive: bool = False) -> tuple[float, ...]:
    """Parse numbers that are separated by commas.

    text: such as '123.7,116.3,103.5' or '1/255'.
    positive: allow only numbers above 0.

    Raises ValueError.
    """
    try:
        values = tuple(float(Fraction(part)) if "/" in part else float(part) for part in str(text).split(","))
    except ArithmeticError:      # division by zero, or a fraction of too many digits
        raise ValueError(text) from None
    if not all(map(math.isfinite, values)) or positive and min(values) <= 0:
        raise ValueError(text)
    return values


def _numbers(must, low, high):
    """Return a check for numbers from `low` to `high`: one number, a text of numbers, or a list of both."""
    def check(value):
        items = value if isinstance(value, list) else [value]
        when(0 < len(items) < 1000 and all(type(v) in (int, float, str) for v in items), must, value)
        try:
            values = sum((numbers(v) for v in items), ())
        except ValueError:
            values = ()
        when(values and low <= min(values) and max(values) <= high, must, value)
        return values
    return check


_CARD = {"mean": _numbers("a number from 0 to 255, or one for each channel", 0, 255),
         "scale": _numbers('a number above 0 (1e-9 to 1e9) or a text such as "1/255", or one for each channel', 1e-9,
         1e9), "channels": toml.one_of(*CHANNELS), "layout": toml.one_of(*LAYOUTS), "input": toml.text, "labels":
         toml.name, "default_end": toml.text, "title": toml.text, "ends": ends}


def read(path: str | Path) -> OnnxCard:
    """Read the model card of an ONNX file.

    path: the .onnx file; its card has the same name with the suffix .toml.

    Returns the card, or an empty one if there is none. Raises ModelError for a damaged card.
    """
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
