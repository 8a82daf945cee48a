"""The command line, `deepdream COMMAND`. Each command is a module in `commands`, imported only when it is used."""
import argparse
import importlib
import os
import sys
from collections.abc import Callable
from pathlib import Path
from runpy import run_path

from .. import __version__
from ..convert import console
from ..convert.arguments import Parser

MODULES = {"class": "class_"}      # `class` is a keyword of Python, so no module can have that name
COMMANDS = {   # command -> one line of help; the module of that name has `arguments(parser)` and `run(args)`
    "dream": "dream a picture (the default command)",
    "class": "show what a net thinks a class looks like",
    "features": "show what each channel of a layer looks for",
    "classify": "ask a net which classes it sees in pictures",
    "enhance": "strengthen what a layer sees in a picture, and keep the picture natural",
    "gallery": "compare what several nets dream at several layers, on a web page",
    "compare": "put a picture and the dreams of two nets side by side",
    "zoom": "dream, zoom in and dream again: the notebook's endless zoom",
    "video": "dream a film, so that the dream moves along with it",
    "web": "make a web page that dreams by itself, in the browser",
    "regress": "check that this installation dreams what Google's notebook dreamt",
    "layers": "list the layers of a net at which it can dream",
    "models": "list the nets that can be used by name; download, remove or check their files",
    "info": "show versions, devices, memory, cache and models, and what is missing for CUDA",
    "caffe": "run a script that was written for Caffe's Python interface, unchanged",
    "convert": "convert a Caffe net, or the gradient of one of its layers, to ONNX",
}


def _caffe(words):
    # the file is run without the package, because a script may have a module called deepdream itself
    return run_path(str(Path(__file__).resolve().parent.parent / "caffe" / "run.py"))["main"](words)


def _convert(words):
    from ..convert.__main__ import main as convert
    return convert(words, "deepdream convert")


PROGRAMS = {"caffe": _caffe, "convert": _convert}      # commands with a command line of their own

DESCRIPTION = "Google's DeepDream notebook of 2015 on ONNX Runtime: the same nets, the same steps, the same dreams."
EPILOG = """`deepdream COMMAND --help` explains a command. `deepdream cat.jpg` is short for `deepdream dream cat.jpg`.
Without any argument, `deepdream` dreams on a computed sky, with a small net that comes with it, and writes
dream.jpg."""


def main(argv: list[str] | None = None) -> int:
    """Run a command line.

    argv: its words, without the program's name; those of sys.argv if None.

    Returns the exit code: 0; 2 for a mistake that the user can correct, after one line on stderr; 130 after Ctrl-C.
    """
    argv = list(sys.argv[1:] if argv is None else argv)
    if not argv or argv[0] not in (*COMMANDS, "-h", "--help", "--version"):
        if argv and not _belongs_to_dream(argv[0]):
            return console.complain("deepdream", f"'{argv[0]}' is not a command; {_advice(argv[0])}")
        argv.insert(0, "dream")
    name = argv[0]
    if name in PROGRAMS:
        return PROGRAMS[name](argv[1:])
    parser = Parser(prog="deepdream", description=DESCRIPTION, epilog=EPILOG,
                    formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--version", action="version", version=f"deepdream {__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True, parser_class=Parser)
    modules = {}
    for command, line in COMMANDS.items():
        chosen = command == name
        sub = commands.add_parser(command, help=line, add_help=chosen,
                                  formatter_class=argparse.RawDescriptionHelpFormatter)
        if chosen:
            modules[command] = importlib.import_module(f".commands.{MODULES.get(command, command)}", __package__)
            sub.description = modules[command].__doc__
            modules[command].arguments(sub)
    args = parser.parse_args(argv)
    if getattr(args, "settings", None):
        args.given = _given(parser, commands.choices[name], argv)

    def run():
        _reject_empty(args)
        return modules[args.command].run(args)

    return guarded(run, "deepdream")


def _given(parser, command, argv):
    """Return the names of the arguments that the command line specifies, even if it specifies their defaults."""
    unset = object()
    defaults = {name for name in vars(parser.parse_args(argv)) if command.get_default(name) is not None}
    command.set_defaults(**dict.fromkeys(defaults, unset))
    return {name for name, value in vars(parser.parse_args(argv)).items() if value is not None and value is not unset
            and value != []}


def _belongs_to_dream(word):
    """Return whether the first word is an option or a picture, so that the command `dream` was left out."""
    from ..pictures import FORMATS, ONLY_READ
    return word.startswith("-") or os.path.lexists(word) or Path(word).suffix.lower() in {*FORMATS, *ONLY_READ}


def _advice(word):
    """Return a suggestion for a word that is not a command."""
    from difflib import get_close_matches
    near = get_close_matches(word[:80].lower(), COMMANDS, 1)
    return f"did you mean {near[0]}?" if near else f"the commands are {', '.join(COMMANDS)}"


def _reject_empty(args):
    """Raise DreamError for an empty argument, which is mostly a shell variable that is not set."""
    from ..errors import DreamError
    for name, value in vars(args).items():
        if value == "" or isinstance(value, list) and "" in value:
            option = name.upper() if name in ("picture", "label") else "--" + name.replace("_", "-")
            raise DreamError(f"{option}: is empty")


def guarded(run: Callable[[], int | None], prog: str) -> int:
    """Call a function, and turn the user's mistakes into one line on stderr.

    run: the function; it returns an exit code, or None for 0.
    prog: name of the program, for messages.

    Returns the exit code: that of `run`; 2 for a mistake that the user can correct; 130 after Ctrl-C.
    """
    from ..convert.errors import ConvertError
    from ..errors import DreamError
    from ..models.cards import ModelError
    return console.guarded(run, prog, (ConvertError, DreamError, ModelError),
                           "not enough memory for a picture of this size")
