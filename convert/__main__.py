"""The command `python -m convert`, which converts a Caffe net to ONNX."""
from __future__ import annotations

import argparse
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
                    "gradient graph of one layer (inputs data, end_diff; outputs end_data, data_diff).")
    parser.add_argument("prototxt", help="the net's deploy.prototxt")
    parser.add_argument("caffemodel", help="the net's weights")
    parser.add_argument("-o", "--output", metavar="NET.onnx", help="the file to write")
    parser.add_argument("--end", metavar="NAME", help="write the gradient graph of this layer")
    parser.add_argument("--small", action="store_true", help="with --end: write weights that are others, flipped, as "
                        "nodes that compute them. The file has about half the size and the same results, and a runtime "
                        "takes a little longer to load it")
    parser.add_argument("--list", action="store_true",
                        help="list the valid ends, one a line: name, channels, stride")
    parser.add_argument("--surgery", action="store_true", help="net surgery: turn each InnerProduct into a "
                        "convolution, so that the classifier runs at any picture size and gives a map of class scores")
    parser.add_argument("--mean", metavar="B,G,R", type=_mean,
                        help="the mean of the training pictures, to be stored in the graph's metadata")
    args = parser.parse_args(argv)
    if not args.list and not args.output:
        parser.error("nothing to do: give -o NET.onnx, or --list")
    if args.end is not None and not args.output:
        parser.error("--end: --list lists the ends of the whole net; give -o NET.onnx to write the graph of one")
    if args.small and args.end is None:
        parser.error("--small: only a gradient graph becomes smaller; give --end NAME, too")
    return guarded(lambda: _run(args), prog, ConvertError)


def _run(args):
    from .facts import Facts
    from .caffe.forward import to_onnx
    from .gradient import gradient_graph, valid_ends
    from .graph.small import small
    from .listing import listing
    if args.output:
        target = Path(args.output)
        check_target(target)
        refuse_inputs(target, args.prototxt, args.caffemodel)
        if target.suffix.lower() != ".onnx":
            raise ConvertError(f"-o {target}: '{target.suffix}' is not the name of an ONNX file; it must end in .onnx")
    model = to_onnx(args.prototxt, args.caffemodel, mean=args.mean, channel_swap=(2, 1, 0) if args.mean else None,
                    surgery=args.surgery)
    if args.list:
        print(listing(valid_ends(model), Facts.read(model).left_out))
    if args.output:
        with about(args.prototxt):
            if args.end is not None:
                model = gradient_graph(model, args.end)
                model = small(model) if args.small else model
            data = model.SerializeToString()
        try:
            write(target, data)
        except OSError as error:
            raise ConvertError(f"-o {target}: cannot be written: {error.strerror}") from None
        print(f"{target}: {'gradient graph of ' + args.end if args.end is not None else 'forward graph'}, "
              f"{target.stat().st_size:,} bytes")


def _mean(text):
    try:
        return [float(v) for v in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers like 104,116,122") from None


if __name__ == "__main__":
    program(main)
