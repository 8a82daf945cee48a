"""The command `python -m convert`, which converts a Caffe net to ONNX and writes the gradient of any ONNX net."""
from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from .arguments import Parser
from .console import guarded, program
from .errors import ConvertError, about
from .files import check_target, refuse_inputs, write


def main(argv: Sequence[str] | None = None, prog: str = "convert") -> int:
    """Run the command.

    argv: the arguments; None for those of the process. prog: what messages call the command.

    Returns the exit code. Raises SystemExit for --help and for arguments that are not valid.
    """
    parser = Parser(prog=prog, description="Convert a Caffe net to ONNX: the forward graph or, with --end, the "
                    "gradient graph of one layer (inputs data, end_diff; outputs end_data, data_diff). An image "
                    "classifier in an .onnx file is brought into the same form.")
    parser.add_argument("prototxt", help="the net's deploy.prototxt, or an .onnx file")
    parser.add_argument("caffemodel", nargs="?", help="the net's weights; none for an .onnx file")
    parser.add_argument("-o", "--output", metavar="NET.onnx", help="the file to write")
    parser.add_argument("--end", metavar="NAME", action="append", default=[], help="write the gradient graph of this "
                        "layer; given several times, that of several layers, with the sum of their gradients")
    parser.add_argument("--small", action="store_true", help="with --end: write weights that are others, flipped, as "
                        "nodes that compute them. The file has about half the size and the same results, and a runtime "
                        "takes a little longer to load it")
    parser.add_argument("--list", action="store_true",
                        help="list the valid ends, one a line: name, channels, stride")
    parser.add_argument("--surgery", action="store_true", help="net surgery: turn each InnerProduct into a "
                        "convolution, so that the classifier runs at any picture size and gives a map of class scores")
    parser.add_argument("--mean", metavar="B,G,R", type=_numbers,
                        help="the mean of the training pictures, to be stored in the graph's metadata")
    parser.add_argument("--scale", metavar="R,G,B", type=_numbers, help="of an .onnx file: the factor of the pixels, 0 "
                        "to 255 minus their mean, that it expects: one number, or one for each channel (default: 1)")
    parser.add_argument("--layout", metavar="ORDER", help="of an .onnx file: the order of its input's axes, nchw or "
                        "nhwc (default: recognized by the input's shape)")
    parser.add_argument("--input", metavar="NAME", help="of an .onnx file: the input that takes the picture, if there "
                        "are several")
    args = parser.parse_args(argv)
    caffe, onnx = {"caffemodel", "--mean", "--surgery"}, {"--scale", "--layout", "--input"}
    is_onnx = args.prototxt.lower().endswith(".onnx")
    for option in sorted(caffe if is_onnx else onnx):
        if getattr(args, option.strip("-").lower()):
            parser.error(f"{option}: only for {'a Caffe net' if is_onnx else 'an .onnx file'}, and {args.prototxt} is "
                         f"{'an .onnx file' if is_onnx else 'none'}")
    if not is_onnx and not args.caffemodel:
        parser.error("the following arguments are required: caffemodel")
    if not args.list and not args.output:
        parser.error("nothing to do: give -o NET.onnx, or --list")
    if args.end and not args.output:
        parser.error("--end: --list lists the ends of the whole net; give -o NET.onnx to write the graph of one")
    if args.small and not args.end:
        parser.error("--small: only a gradient graph becomes smaller; give --end NAME, too")
    return guarded(lambda: _run(args), prog, ConvertError)


def _run(args):
    from .facts import Facts
    from .gradient import gradient_graph, valid_ends
    from .graph.small import small
    from .listing import listing
    if args.output:
        target = Path(args.output)
        check_target(target)
        refuse_inputs(target, args.prototxt, args.caffemodel)
        if target.suffix.lower() != ".onnx":
            raise ConvertError(f"-o {target}: '{target.suffix}' is not the name of an ONNX file; it must end in .onnx")
    model = _net(args)
    if args.list:
        print(listing(valid_ends(model), Facts.read(model).left_out))
    if args.output:
        with about(args.prototxt):
            if args.end:
                model = gradient_graph(model, args.end[0] if len(args.end) == 1 else args.end)
                model = small(model) if args.small else model
            data = model.SerializeToString()
        try:
            write(target, data)
        except OSError as error:
            raise ConvertError(f"-o {target}: cannot be written: {error.strerror}") from None
        print(f"{target}: {'gradient graph of ' + ' and '.join(args.end) if args.end else 'forward graph'}, "
              f"{target.stat().st_size:,} bytes")


def _net(args):
    """Return the forward graph of the net."""
    if args.caffemodel:
        from .caffe.forward import to_onnx
        return to_onnx(args.prototxt, args.caffemodel, mean=args.mean, channel_swap=(2, 1, 0) if args.mean else None,
                       surgery=args.surgery)
    from .onnx_nets.prepare import onnx_net
    return onnx_net(args.prototxt, args.scale or 1.0, args.layout, args.input)


def _numbers(text):
    try:
        values = [float(v) for v in text.split(",")]
        if not all(map(math.isfinite, values)):
            raise ValueError(text)
        return values
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers like 104,116,122") from None


if __name__ == "__main__":
    program(main)
