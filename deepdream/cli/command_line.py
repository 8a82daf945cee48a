"""The command line, `deepdream COMMAND`. Each command is a module in `commands`, imported when it is used."""
import argparse
import importlib
import os
import sys
from pathlib import Path

from .. import __version__
from ..convert import console
from ..convert.arguments import Parser

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
    "convert": "turn a Caffe net into ONNX: the net itself, or the gradient graph of a layer",
}


def main(argv: list[str] | None = None) -> int:
    """Run a command line.

    argv: its words, without the program's name; sys.argv if None.

    Returns the exit code: 0; 2 for a mistake that the user can correct, after one line on stderr; 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in (*COMMANDS, "-h", "--help", "--version"):
        if argv and not _belongs_to_dream(argv[0]):
            return console.complain("deepdream", f"'{argv[0]}' is not a command; {_advice(argv[0])}")
        argv.insert(0, "dream")
    name = argv[0]
    if name == "convert":
        from ..convert.__main__ import main as convert
        return convert(argv[1:], "deepdream convert")
    parser = Parser(prog="deepdream", description="DeepDream as Google's notebook of 2015 made it, from Caffe's nets, "
                    "on ONNX Runtime.", epilog="`deepdream COMMAND --help` explains a command. `deepdream cat.jpg` is "
                    "short for `deepdream dream cat.jpg`. Without any argument, the small net that comes with the "
                    "package dreams a sky, and dream.jpg is written.",
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

    def run():
        _refuse_empty(args)
        return modules[args.command].run(args)

    return guarded(run, "deepdream")


def _belongs_to_dream(word):
    """Is this first word an option or a picture, so that the command `dream` was left out?"""
    from ..pictures import FORMATS, ONLY_READ
    return word.startswith("-") or os.path.lexists(word) or Path(word).suffix.lower() in {*FORMATS, *ONLY_READ}


def _advice(word):
    """What to type in place of a word that is no command."""
    from difflib import get_close_matches
    near = get_close_matches(word[:80].lower(), COMMANDS, 1)
    return f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"


def _refuse_empty(args):
    """Raise DreamError for an argument that is there and empty: mostly a variable of the shell that is not set."""
    from ..errors import DreamError
    for name, value in vars(args).items():
        if value == "" or isinstance(value, list) and "" in value:
            raise DreamError(f"{name.upper() if name in ('picture', 'label') else '--' + name.replace('_', '-')}: is empty")


def guarded(run, prog):
    """Call `run`; what the user can mend becomes one line on stderr and exit code 2."""
    from ..convert.errors import ConvertError
    from ..errors import DreamError
    from ..models.cards import ModelError
    return console.guarded(run, prog, (ConvertError, DreamError, ModelError),
                           "not enough memory for a picture of this size")
