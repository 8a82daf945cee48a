"""The command line: `python -m deepdream COMMAND`. Each command is a module in `commands`, imported when it is used."""
import argparse
import importlib
import os
import sys
from math import inf

from convert.arguments import Parser

from . import __version__

MODULES = {"class": "class_"}      # where a command's name cannot be its module's
COMMANDS = {   # command -> one line of help; the module of that name has `arguments(parser)` and `run(args)`
    "dream": "dream a picture (the default: without any argument, a sky by formula)",
    "class": "what a net thinks a class looks like: from grey or noise, on its score",
    "enhance": "make stronger what a layer already sees, and keep the picture natural",
    "gallery": "what several nets dream at several layers, as a page to look at",
    "compare": "source and the dreams of two nets side by side, as one picture",
    "zoom": "dream, zoom in, dream again: the notebook's endless zoom",
    "regress": "does this installation dream what Google's did? Statistics of the notebook's pictures",
    "layers": "list the layers of a net that one can dream at",
    "models": "list the models that have a name here, and fetch their files",
}


def main(argv=None):
    """Run a command line. Returns the exit code: 0, 2 for what the user can mend, 130 after Ctrl-C."""
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv:
        argv = ["dream"]
    name = argv[0]
    if name not in COMMANDS and name not in ("-h", "--help", "--version"):
        guess = f"did you mean `deepdream dream {' '.join(argv)}`?" if name.startswith("-") or os.path.exists(name) \
            else f"the commands are {', '.join(COMMANDS)}"
        print(f"deepdream: '{name}' is not a command; {guess}", file=sys.stderr)
        return 2
    parser = Parser(prog="deepdream", description="DeepDream as Google's notebook of 2015 made it, from Caffe's nets, "
                    "on ONNX Runtime.", epilog="`deepdream COMMAND --help` tells more. Without any argument: "
                    "dream a sky with the net that comes along, and write dream.jpg.",
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"deepdream {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    modules = {}
    for command, line in COMMANDS.items():
        wanted = command == name
        sub = commands.add_parser(command, help=line, add_help=wanted,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        if wanted:
            modules[command] = importlib.import_module(f".commands.{MODULES.get(command, command)}", __package__)
            sub.description = modules[command].__doc__
            modules[command].arguments(sub)
    args = parser.parse_args(argv)
    module, sub = modules[args.command], commands.choices[args.command]

    def run():
        _refuse_empty(args)
        if not getattr(args, "settings", None):
            return module.run(args)
        from .record import remembered
        # what a picture remembers stands before what is given, and so gives way to it
        return module.run(sub.parse_args(remembered(args) + argv[1:]))

    return guarded(run, "deepdream")


def _refuse_empty(args):
    """Raise DreamError for an argument that is there and empty: mostly a variable of the shell that is not set."""
    from .errors import DreamError
    for name, value in vars(args).items():
        if value == "" or isinstance(value, list) and "" in value:
            raise DreamError(f"{name.upper() if name in ('picture', 'label') else '--' + name.replace('_', '-')}: is empty")


def guarded(run, prog):
    """Call `run`; what the user can mend becomes one line on stderr and exit code 2."""
    from convert.errors import ConvertError
    from models.records import ModelError

    from .errors import DreamError
    try:
        return run() or 0
    except (ConvertError, DreamError, ModelError) as error:
        print(f"{prog}: {error}", file=sys.stderr)
        return 2
    except MemoryError:
        print(f"{prog}: not enough memory for a picture of this size", file=sys.stderr)
        return 2
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        print(f"{prog}: {where}{error.strerror or error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return interrupted(prog)


def interrupted(prog):
    """Say so, on a line of its own behind what the terminal shows of Ctrl-C. Returns the exit code."""
    print("\n" * sys.stderr.isatty() + f"{prog}: interrupted", file=sys.stderr)
    return 130


def number(kind, allowed, test):
    """An argparse type: a number for which `test` holds; `allowed` says so in the error."""
    def parse(text):
        try:
            value = kind(text)
            if test(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"'{text}' is not {allowed}")
    return parse


NOTEBOOK = {"iter_n": 10, "octave_n": 4, "octave_scale": 1.4, "step_size": 1.5, "jitter": 32}
SETTINGS = {   # option -> (type, what is allowed, test, help)
    "iter_n": (int, "a whole number from 1", lambda v: v >= 1, "steps in each octave"),
    "octave_n": (int, "a whole number from 1 to 100", lambda v: 1 <= v <= 100,
                 "octaves: sizes of the picture that are dreamt at"),
    "octave_scale": (float, "a number greater than 1", lambda v: 1 < v < inf, "from one octave to the next"),
    "step_size": (float, "a number other than 0, to 1e6", lambda v: 0 < abs(v) <= 1e6,
                  "mean change of a pixel in a step, of 255"),
    "jitter": (int, "a whole number from 0", lambda v: v >= 0, "the picture is shifted by up to N pixels in each step"),
}


def options(parser, several=False, defaults=NOTEBOOK):
    """The notebook's settings, under its names and with its defaults. several: octave numbers and seeds are lists.
    defaults: others; a text tells what stands for them, and the argument is None where none is given."""
    for name, (kind, allowed, test, line) in SETTINGS.items():
        default = defaults[name]
        many = several and name == "octave_n"
        parser.add_argument(f"--{name.replace('_', '-')}", type=number(kind, allowed, test), metavar="NX"[kind is float],
                            help=f"{line} ({default})", nargs="+" if many else None,
                            default=None if isinstance(default, str) else [default] if many else default)
    parser.add_argument("--tile", type=number(int, "a whole number from 0", lambda v: v >= 0), metavar="N",
                        help="dream what is larger than N pixels in overlapping tiles of at most NxN, in the memory of "
                        "one of them (1024: about 2 GB, for 8 megapixels). Without it, what needs more memory than is "
                        "free (or than $DEEPDREAM_MEMORY_GB says) is refused")
    parser.add_argument("--clip", action=argparse.BooleanOptionalAction, default=True, help="keep pixels within 0 to 255 "
                        "(yes); otherwise they are scaled at the end")
    seed = number(int, "a whole number from 0 to 4294967295", lambda v: 0 <= v < 2 ** 32)
    if several:
        parser.add_argument("--seeds", type=seed, metavar="N", nargs="+", default=[0], help="of the jitter (0)")
    else:
        parser.add_argument("--seed", type=seed, metavar="N",
                            help="of the jitter; drawn and written into the picture if not given")


def device_options(parser):
    parser.add_argument("--device", default="auto", help="auto (CUDA if it works, else the CPU), cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=number(int, "a whole number from 1 to 1024", lambda v: 1 <= v <= 1024),
                        metavar="N", help="of the CPU (as many as it has cores)")


def seed_of(args):
    """The seed that is given, or one that is drawn."""
    import numpy as np
    return int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed


def whole(low, high):
    """An argparse type: a whole number from `low` to `high`."""
    return number(int, f"a whole number from {low} to {high}", lambda v: low <= v <= high)


def quality_option(parser):
    parser.add_argument("--quality", type=whole(1, 100), default=95, metavar="N", help="of JPEG and WebP, 1 to 100 (95)")


def fast_option(parser):
    parser.add_argument("--fast", action=argparse.BooleanOptionalAction, default=False, help="on CUDA: convolutions with TF32's 10 bits of mantissa, a "
                        "thousandth off in each; the dream is one of the same kind, not Caffe's step for step")


def settings_of(args):
    """The notebook's settings among the arguments, as keywords of `deepdream`."""
    return {name: getattr(args, name) for name in SETTINGS} | {"clip": args.clip} \
        | ({"tile": args.tile} if args.tile else {})
