"""Options of the command line: those of a dream, from the table in `deepdream.options`, and others that several commands
have."""
import argparse
from dataclasses import fields

from ..options import NOTEBOOK, OPTIONS, SEED, Kind, Option, Settings, number, whole

DEFAULTS = {field.name: field.default for field in fields(Settings)}
PRIORS = [name for name, option in OPTIONS.items() if option.group == OPTIONS["tv"].group]
STARTS = [name for name, option in OPTIONS.items() if option.group == OPTIONS["start"].group]
WITH_CLIP = (*NOTEBOOK, "tile", "clip")


def of_kind(kind: Kind):
    """An argparse type for a kind of value."""
    def parse(word):
        if not word and kind.parse is str:      # an empty text is refused with the others, by name
            return word
        try:
            return kind.of_word(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return parse


def whole_number(low: int, high: int | None = None):
    """An argparse type: whole numbers from `low`."""
    return of_kind(whole(low) if high is None else whole(low, high))


def real_number(allowed: str, test):
    """An argparse type: numbers for which `test` holds; `allowed` says which."""
    return of_kind(number(allowed, test))


def add_option(parser, name: str, default: str | None = None, **more):
    """Add an option of the table. The argument is None where it is not given.

    default: what the help says of the default, if not the one in `Settings`. more: for argparse.
    """
    option = OPTIONS[name]
    usual = _in_words(DEFAULTS[name]) if default is None else default
    keywords = {"default": None, "help": option.help + f" ({usual})" * bool(usual)} | _form(option, DEFAULTS[name])
    parser.add_argument(_words(name), **keywords | more)


def _form(option: Option, default) -> dict:
    """How argparse takes an option."""
    if isinstance(default, bool):
        return {"action": argparse.BooleanOptionalAction}
    if option.kind.choices:
        return {"choices": option.kind.choices}
    form = {"metavar": option.metavar, "type": of_kind(option.kind)}
    if option.many:
        return form | {"action": "append"}
    if option.optional is not None:
        return form | {"nargs": "?", "const": option.optional}
    return form | ({"nargs": option.words} if option.words > 1 else {})


def _words(name):
    return "--" + name.replace("_", "-")


def _in_words(default):
    """What the help says of a default."""
    return "yes" if default is True else "" if default in (None, False, ()) else str(default)


# ---- groups of options that commands have

def add_steps(parser, defaults=None, several: bool = False):
    """The notebook's options, clipping and tiles. defaults: {name: what the help says} where they are others. several:
    numbers of octaves and seeds are lists."""
    for name in WITH_CLIP:
        many = {"nargs": "+"} if several and name == "octave_n" else {}
        add_option(parser, name, (defaults or {}).get(name), **many)
    if several:
        parser.add_argument("--seeds", type=of_kind(SEED), metavar="N", nargs="+", default=[0], help="of the jitter (0)")
    else:
        add_option(parser, "seed")


def add_end(parser):
    """--end."""
    add_option(parser, "end")


def add_starts(parser, start: str = "a picture", size: str = "the picture's own, or 1024x575"):
    """What a dream starts from. start, size: what the help says of the defaults."""
    group, usual = parser.add_argument_group("starts"), {"start": start, "size": size}
    for name in STARTS:
        add_option(group, name, usual.get(name))


def add_priors(parser):
    """The priors."""
    group = parser.add_argument_group(OPTIONS["tv"].group)
    for name in PRIORS:
        add_option(group, name)


def add_device(parser, fast: bool = True):
    """Where the dream runs. fast: may it round to TF32?"""
    parser.add_argument("--device", default="auto", help="auto (CUDA if it works, else the CPU), cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=whole_number(1, 1024), metavar="N", help="of the CPU (as many as it has cores)")
    if fast:
        add_option(parser, "fast")


def add_quality(parser):
    """--quality, of the files that are written."""
    parser.add_argument("--quality", type=whole_number(1, 100), default=95, metavar="N",
                        help="of JPEG and WebP, 1 to 100 (95)")


# ---- what was given

def settings_of(args, base: Settings = Settings()) -> Settings:
    """The settings among the arguments; `base` has those that are not."""
    return base.replace(**given(args))


def given(args) -> dict:
    """{name: value} of the table's options that are among the arguments."""
    return {name: value for name in OPTIONS if (value := getattr(args, name, None)) is not None}


def drawn_seed() -> int:
    """A seed for those who give none."""
    import numpy as np
    return int(np.random.SeedSequence().generate_state(1)[0])
