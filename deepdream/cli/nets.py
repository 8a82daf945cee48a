"""The net that the command line asks for."""
from ..errors import DreamError
from ..goals.text import needs_surgery
from ..models.own import CHANNELS, LAYOUTS, numbers
from .options import number

MODEL = "mini_imagenet"
PIXELS = {"mean": "pixel_mean", "scale": "pixel_scale", "channels": "channels", "layout": "layout", "input": "input"}


def model_option(parser):
    parser.add_argument("--model", default=MODEL, metavar="MODEL",
                        help="a name from `deepdream models`, a folder with a prototxt and a caffemodel, or an .onnx "
                        f"file ({MODEL})")


def pixel_options(parser):
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
    return number(lambda text: numbers(text, positive), "a number, a fraction or one for each channel, like 104,116,122"
                  + " (above 0)" * positive, lambda v: True)


def net_of(args, ends=(), **options):
    """The Net that the arguments of `model_option` and `pixel_options` ask for; its classifier runs at any size if one
    of the ENDs is a class. options: of Net, beside those among the arguments."""
    from ..net import Net
    name = str(args.model)
    told = {k: v for k, dest in PIXELS.items() if (v := getattr(args, dest, None)) is not None}
    if told and not name.lower().endswith(".onnx"):
        raise DreamError(f"--{next(iter(told))}: only for a net in an .onnx file; {name} knows its own")
    if "channels" in told:
        told["channel_swap"] = CHANNELS[told.pop("channels")]
    given = {k: getattr(args, k) for k in ("device", "threads", "fast") if hasattr(args, k)}
    return Net(name, surgery=needs_surgery(ends), **told, **{**given, **options})


def pixels_of(net):
    """How an .onnx file's net takes its pictures, for a record; None of Caffe's nets."""
    return None if net.caffemodel else {k: v for k, v in net.files.arguments.items() if k != "prototxt"}


def remembered_pixels(pixels):
    """The arguments, {name: value}, that `pixels_of` tells of."""
    order = {swap: name for name, swap in CHANNELS.items()}
    args = {PIXELS[k]: v for k, v in pixels.items() if k in PIXELS and v is not None}
    return args | ({"channels": order.get(tuple(pixels["channel_swap"]))} if "channel_swap" in pixels else {})
