"""List the layers of a net at which it can dream.

    deepdream layers --model bvlc_googlenet
    deepdream layers --model net.onnx
    deepdream layers --model bvlc_googlenet --labels           the classes of the net, with their numbers

Each line has the name of a layer, its number of channels and its stride: how many pixels of the picture lie between two
neighbouring positions of the layer, or - if it has no positions. For a net in an .onnx file, the operator follows,
and `tokens x channels` or `channels last` where the channels are the last axis; objectives work there all the same.
`end of a block` marks layers that are good to dream at; lines that start with # name the block of those after them.
Layers at which the net cannot dream are listed at the end, with the reason.
"""
from argparse import ArgumentParser, Namespace

from ...errors import DreamError
from ..nets import add_model, add_pixels, net_of


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--labels", action="store_true", help="list the classes of the net instead, for `--end "
                        "class:LABEL` and `deepdream class`")


def run(args: Namespace) -> None:
    """Run this command."""
    from ...convert.listing import listing

    net = net_of(args, device="cpu")
    if args.labels and not net.labels:
        raise DreamError(f"--labels: {net.name} has none")
    print("\n".join(f"{i:5}  {label}" for i, label in enumerate(net.labels)) if args.labels
          else listing(net.ends, net.left_out))
