"""Ask a net what it sees in pictures: its best classes, each with its probability.

    deepdream classify cat.jpg --model bvlc_googlenet
    deepdream classify photos/*.jpg --top 1
    deepdream classify class.png --model mini_places           what one net makes of another one's dream

The net looks at the middle of a picture: the shorter side is scaled to 8/7 of the size of the net's input, and the
middle is cut out. With --whole it looks at the whole picture, which is scaled to the input's size.
"""
import sys
from argparse import ArgumentParser, Namespace

from ...convert.console import one_line
from ...errors import DreamError
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, whole_number


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="+", metavar="PICTURE", help="a picture: JPEG, PNG, WebP or TIFF")
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--top", type=whole_number(1, 1000), default=5, metavar="N",
                        help="number of classes to list (default: 5)")
    parser.add_argument("--whole", action="store_true", help="show the net the whole picture, not its middle")
    add_device(parser)


def run(args: Namespace) -> int:
    """Run this command. Returns its exit code: 2 if a picture cannot be read, else 0."""
    from ... import pictures
    from ...seeing.classify import classify
    net = net_of(args, fast=bool(args.fast))
    net.classifier      # raises an error if there is none, before a picture is read
    failed = 0
    for path in args.picture:
        try:
            guesses = classify(net, pictures.load(path), args.top, args.whole)
        except DreamError as error:
            if len(args.picture) == 1:
                raise
            failed += 1
            message = str(error) if path in str(error) else f"{path}: {error}"
            print(f"deepdream: {one_line(message)}", file=sys.stderr)
            continue
        print(f"{path}, by {net.name}:")
        print("\n".join(f"{100 * g.probability:7.1f} %  {g.name}" for g in guesses))
    return 2 if failed else 0
