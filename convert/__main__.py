"""python -m convert: Caffe's files to ONNX."""
import argparse
import os
import sys
import tempfile
from pathlib import Path

from .errors import ConvertError


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")


def main(argv=None):
    parser = Parser(prog="convert", description="Turn a Caffe net into ONNX: the forward graph or, with --end, the "
                    "gradient graph of one layer (inputs data, end_diff; outputs end_data, data_diff).")
    parser.add_argument("prototxt", help="deploy.prototxt")
    parser.add_argument("caffemodel", help="the weights")
    parser.add_argument("-o", "--output", metavar="NET.onnx", help="where the graph goes")
    parser.add_argument("--end", metavar="NAME", help="write the gradient graph of this layer")
    parser.add_argument("--list", action="store_true",
                        help="list the valid ends: name, channels, stride, one a line")
    parser.add_argument("--mean", metavar="B,G,R", type=_mean, help="recorded in the graph's metadata")
    args = parser.parse_args(argv)
    if not args.list and not args.output:
        parser.error("nothing to do: give -o NET.onnx, or --list")
    try:
        run(args)
    except ConvertError as error:
        print(f"convert: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("\nconvert: interrupted", file=sys.stderr)
        return 130
    return 0


def run(args):
    from .forward import to_onnx
    from .gradient import gradient_graph, valid_ends
    from .listing import ends_table
    if args.output:
        target = Path(args.output)
        if not target.parent.is_dir():
            raise ConvertError(f"-o {target}: there is no folder {target.parent}")
        if target.is_dir() or not os.access(target.parent, os.W_OK):
            raise ConvertError(f"-o {target}: cannot be written")
    model = to_onnx(args.prototxt, args.caffemodel, mean=args.mean, channel_swap=(2, 1, 0) if args.mean else None)
    if args.list:
        print(ends_table(valid_ends(model)))
    if args.output:
        if args.end is not None:
            model = gradient_graph(model, args.end)
        _write(target, model.SerializeToString())
        print(f"{target}: {'gradient graph of ' + args.end if args.end else 'forward graph'}, "
              f"{target.stat().st_size:,} bytes")


def _write(target, data):
    """Beside first, then renamed: never half a file."""
    with tempfile.NamedTemporaryFile(dir=target.parent, suffix=".part", delete=False) as file:
        try:
            file.write(data)
            file.close()
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(file.name, 0o666 & ~umask)
            os.replace(file.name, target)
        except BaseException:
            os.unlink(file.name)
            raise


def _mean(text):
    try:
        return [float(v) for v in text.split(",")]
    except ValueError:
        raise argparse.ArgumentTypeError(f"'{text}' is not a list of numbers like 104,116,122") from None


if __name__ == "__main__":
    sys.exit(main())
