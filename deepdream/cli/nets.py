"""The options that choose a net, and the net that they ask for."""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..errors import DreamError
from ..goals.text import needs_surgery
from ..models.onnx_card import CHANNELS, LAYOUTS, numbers

if TYPE_CHECKING:
    from ..net import Net

MODEL = "mini_imagenet"
SHIPPED = ["mini_imagenet", "mini_places"]
LARGEST = 1e30      # the limit of a mean or scale
# How an .onnx file expects its pictures: option -> the attribute of the parsed arguments
PIXELS = {"mean": "pixel_mean", "scale": "pixel_scale", "channels": "channels", "layout": "layout", "input": "input"}


def add_model(parser: ArgumentParser) -> None:
    """Add --model to a command's parser."""
    parser.add_argument("--model", metavar="MODEL", help="the net: a name from `deepdream models`, a folder with a "
                        f"deploy.prototxt and a .caffemodel, or an .onnx file (default: {MODEL})")


def add_pixels(parser: ArgumentParser) -> None:
    """Add the options that only a net in an .onnx file needs: the pixels that it expects."""
    group = parser.add_argument_group("pixels that a net in an .onnx file expects (the default is what net.toml, next "
                                      "to net.onnx, says)")
    group.add_argument("--mean", type=_numbers(False), metavar="R,G,B", dest=PIXELS["mean"], help="subtracted from the "
                       "pixels, 0 to 255: one number for each channel, in the net's order, or one for all (default "
                       "without a net.toml: the ImageNet mean as PyTorch's nets use it)")
    group.add_argument("--scale", type=_numbers(True), metavar="R,G,B", dest=PIXELS["scale"], help="factor of the "
                       "pixels after that, such as 0.0171,0.0175,0.0174 or 1/255 (default without a net.toml: 1 / the "
                       "ImageNet standard deviation as PyTorch's nets use it)")
    group.add_argument("--channels", choices=CHANNELS, help="order of the channels (default: rgb)")
    group.add_argument("--layout", choices=LAYOUTS, help="order of the input's axes (default: recognized by the "
                       "input's shape, else nchw)")
    group.add_argument("--input", metavar="NAME", help="name of the input that takes the picture, if there are several")


def _numbers(positive):
    """Return an argparse type: numbers separated by commas."""
    import argparse

    from ..convert.errors import shown

    def parse(word):
        try:
            return numbers(word, positive)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{shown(word)}' is not a number, a fraction or one for each channel, "
                                             "like 104,116,122" + " (above 0)" * positive) from None
    return parse


def check_pixels(values: dict) -> None:
    """Check settings for the options of `add_pixels` that come from a picture's metadata.

    values: {name of an argument: value}; names that are missing are not checked.

    Raises TypeError, with the name, for a value that is not allowed.
    """
    for name in ("pixel_mean", "pixel_scale"):
        value = values.get(name)
        if value is not None and not (isinstance(value, (list, tuple)) and value and
                                      all(type(v) in (int, float) and abs(v) < LARGEST for v in value)):
            raise TypeError(name)
    for name, allowed in (("channels", CHANNELS), ("layout", LAYOUTS)):
        if values.get(name) is not None and values[name] not in allowed:
            raise TypeError(name)
    if not isinstance(values.get("input"), (str, type(None))):
        raise TypeError("input")


def net_of(args: Namespace, ends: Sequence[str] = (), fast: bool = False, **options) -> Net:
    """Load the net that the command line asks for.

    args: the parsed options of `add_model`, `add_pixels` and `add_device`.
    ends: the ENDs of the dream; if one of them is a class, the classifier is converted to run at any picture size.
    fast: allow TF32 on CUDA.
    options: further arguments of `Net`, which override the options.

    Raises DreamError for pixel options of a net that is not in an .onnx file, and whatever `Net` raises.
    """
    from ..net import Net
    name = MODEL if args.model is None else args.model
    pixels = {k: v for k, dest in PIXELS.items() if (v := getattr(args, dest, None)) is not None}
    if pixels and not name.lower().endswith(".onnx"):
        raise DreamError(f"--{next(iter(pixels))}: only for a net in an .onnx file; {name} knows its own")
    if "channels" in pixels:
        pixels["channel_swap"] = CHANNELS[pixels.pop("channels")]
    device = {k: getattr(args, k) for k in ("device", "threads") if hasattr(args, k)}
    return Net(name, surgery=needs_surgery(ends), fast=fast, **pixels, **{**device, **options})


def on_disk(names: Sequence[str]) -> list[str]:
    """Replace the word all by the names of the nets that are shipped or downloaded completely."""
    from .. import models
    known = [name for name in models.names() if models.status(name) in ("shipped", "cached")] if "all" in names else []
    return list(dict.fromkeys(name for text in names for name in (known if text == "all" else [text])))


def nets_of(names: Sequence[str]) -> dict:
    """Load several nets, only to read their layers and settings: the dreams are made by jobs with nets of their own.

    names: as for --model; repeated ones are loaded once.

    Returns {name: Net}, in the same order, where a second net of the same name gets -2, and so on.
    """
    from ..net import Net
    nets = {}
    for text in dict.fromkeys(names):
        net = Net(text, device="cpu")
        name, i = net.name, 1
        while name in nets:
            i += 1
            name = f"{net.name}-{i}"
        nets[name] = net
    return nets
