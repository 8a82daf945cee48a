"""List the layers of a net that one can dream at: name, channels, pixels of the picture for one of the layer's.

    deepdream layers --model bvlc_googlenet
"""
from .dream import model_option


def arguments(parser):
    model_option(parser)


def run(args):
    from convert.listing import ends_table

    from ..net import Net
    print(ends_table(Net(args.model, device="cpu").ends))
