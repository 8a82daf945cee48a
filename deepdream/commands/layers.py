"""List the layers of a net that one can dream at: name, channels, pixels of the picture for one of the layer's.

    deepdream layers --model bvlc_googlenet
"""
from .dream import MODEL


def arguments(parser):
    parser.add_argument("--model", default=MODEL, metavar="NAME_OR_FOLDER",
                        help=f"a name from `deepdream models`, or a folder with a prototxt and a caffemodel ({MODEL})")


def run(args):
    from convert.listing import ends_table

    from ..net import Net
    print(ends_table(Net(args.model, device="cpu").ends))
