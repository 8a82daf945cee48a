"""The net that the command line asks for."""
from collections.abc import Sequence
from math import isfinite

from ..errors import DreamError
from ..goals.text import needs_surgery
from ..models.onnx_card import CHANNELS, LAYOUTS, numbers

MODEL = "mini_imagenet"
SHIPPED = ["mini_imagenet", "mini_places"]
# how an .onnx file wants its pictures: option -> the name of its argument
PIXELS = {"mean": "pixel_mean", "scale": "pixel_scale", "channels": "channels", "layout": "layout", "input": "input"}


def add_model(parser):
    """--model."""
    parser.add_argument("--model", metavar="MODEL", help="a name from `deepdream models`, a folder with a prototxt and a "
                        f"caffemodel, or an .onnx file ({MODEL})")


def add_pixels(parser):
    """What only a net in an .onnx file needs: how it wants its pictures."""
    group = parser.add_argument_group("of an .onnx file, if its pictures are not told of in the .toml of the same name "
                                      "beside it")
    group.add_argument("--mean", type=_numbers(False), metavar="R,G,B", dest=PIXELS["mean"], help="subtracted from "
                       "pixels of 0 to 255, in the order of the net's channels, or one number (PyTorch's ImageNet mean)")
    group.add_argument("--scale", type=_numbers(True), metavar="R,G,B", dest=PIXELS["scale"], help="what they are "
                       "multiplied by then, as 0.0171,0.0175,0.0174 or 1/255 (PyTorch's ImageNet deviation)")
    group.add_argument("--channels", choices=CHANNELS, help="order of the net's channels (rgb)")
    group.add_argument("--layout", choices=LAYOUTS, help="of the net's input (nchw, if its shape does not say nhwc)")
    group.add_argument("--input", metavar="NAME", help="the input that takes the picture, if there are several")


def _numbers(positive):
    import argparse

    from ..convert.errors import shown

    def parse(word):
        try:
            return numbers(word, positive)
        except ValueError:
            raise argparse.ArgumentTypeError(f"'{shown(word)}' is not a number, a fraction or one for each channel, like "
                                             "104,116,122" + " (above 0)" * positive) from None
    return parse


def check_pixels(values: dict):
    """Raise TypeError for values of the arguments of PIXELS, {name: value}, that make no sense."""
    for name in ("pixel_mean", "pixel_scale"):
        numbers_ = values.get(name)
        if numbers_ is not None and not (isinstance(numbers_, (list, tuple)) and numbers_ and
                                         all(type(v) in (int, float) and isfinite(v) for v in numbers_)):
            raise TypeError(name)
    for name, allowed in (("channels", CHANNELS), ("layout", LAYOUTS)):
        if values.get(name) is not None and values[name] not in allowed:
            raise TypeError(name)
    if not isinstance(values.get("input", ""), str):
        raise TypeError("input")


def net_of(args, ends: Sequence[str] = (), fast: bool = False, **options):
    """The Net that the arguments of `add_model`, `add_pixels` and `add_device` ask for.

    ends: the ENDs of the dream; if one of them is a class, the classifier runs at any size. options: of Net, beside those
    among the arguments.
    """
    from ..net import Net
    name = MODEL if args.model is None else args.model
    pixels = {k: v for k, dest in PIXELS.items() if (v := getattr(args, dest, None)) is not None}
    if pixels and not name.lower().endswith(".onnx"):
        raise DreamError(f"--{next(iter(pixels))}: only for a net in an .onnx file; {name} knows its own")
    if "channels" in pixels:
        pixels["channel_swap"] = CHANNELS[pixels.pop("channels")]
    given = {k: getattr(args, k) for k in ("device", "threads") if hasattr(args, k)}
    return Net(name, surgery=needs_surgery(ends), fast=fast, **pixels, **{**given, **options})


def nets_of(names: Sequence[str]) -> dict:
    """{name: Net}, in order: they tell their layers and settings only, and dream elsewhere."""
    from ..net import Net
    nets = {}
    for text in dict.fromkeys(names):
        net = Net(text, device="cpu")
        name, i = net.name, 1
        while name in nets:      # two folders of one name
            i += 1
            name = f"{net.name}-{i}"
        nets[name] = net
    return nets
