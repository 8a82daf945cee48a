"""List the layers of a net that one can dream at: name, channels, pixels of the picture for one of the layer's. What one
cannot dream at follows, with its reason.

    deepdream layers --model bvlc_googlenet
    deepdream layers --model net.onnx                          (with the operator of each)
    deepdream layers --model bvlc_googlenet --labels           the classes, by number
"""
from ...errors import DreamError
from ..nets import add_model, add_pixels, net_of


def arguments(parser):
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--labels", action="store_true", help="list the classes that class:LABEL knows")


def run(args):
    from ...convert.listing import listing

    net = net_of(args, device="cpu")
    if args.labels and not net.labels:
        raise DreamError(f"--labels: {net.name} has none")
    print("\n".join(f"{i:5}  {label}" for i, label in enumerate(net.labels)) if args.labels
          else listing(net.ends, net.left_out))
