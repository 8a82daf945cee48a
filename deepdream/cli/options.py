"""Options that several commands share: those of a dream, from the table in `deepdream.options`, and a few others."""
import argparse
from argparse import ArgumentParser as Parser
from argparse import Namespace
from collections.abc import Callable
from dataclasses import fields

from ..options import NOTEBOOK, OPTIONS, PRIORS, PRIORS_GROUP, SEED, Kind, Option, Settings, number, whole

DEFAULTS = {field.name: field.default for field in fields(Settings)}
STARTS = [name for name, option in OPTIONS.items() if option.group == OPTIONS["start"].group]
WITH_CLIP = (*NOTEBOOK, "tile", "clip")


def of_kind(kind: Kind) -> Callable:
    """Return an argparse type for a kind of value."""
    def parse(word):
        if not word and kind.parse is str:      # the command line rejects all empty arguments later, by name
            return word
        try:
            return kind.of_word(word)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None
    return parse


def whole_number(low: int, high: int | None = None) -> Callable:
    """Return an argparse type for whole numbers.

    low, high: the smallest and the largest one that are allowed; None: no upper limit.
    """
    return of_kind(whole(low) if high is None else whole(low, high))


def real_number(allowed: str, test: Callable[[float], bool]) -> Callable:
    """Return an argparse type for numbers.

    allowed: which ones are allowed, in words, for the error message.
    test: whether a number is allowed.
    """
    return of_kind(number(allowed, test))


def add_option(parser: Parser, name: str, default: str | None = None, **extra) -> None:
    """Add an option of the table to a parser. It is None in the parsed arguments if it is not used.

    parser: the parser, or one of its groups.
    name: key in OPTIONS.
    default: the default as the help text shows it, if it is not the one in `Settings`.
    extra: further arguments of `add_argument`.
    """
    option = OPTIONS[name]
    shown = _in_words(DEFAULTS[name]) if default is None else default
    keywords = {"default": None, "help": option.help + f" (default: {shown})" * bool(shown)}
    parser.add_argument(_flag(name), **keywords | _form(option, DEFAULTS[name]) | extra)


def _form(option: Option, default) -> dict:
    """Return the arguments of `add_argument` that say how many values an option takes, and which."""
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


def _flag(name):
    return "--" + name.replace("_", "-")


def _in_words(default):
    """Return a default as the help text shows it; an empty text shows nothing."""
    return "yes" if default is True else "" if default in (None, False, ()) else str(default)


# ---- groups of options

def add_steps(parser: Parser, defaults: dict | None = None, several: bool = False) -> None:
    """Add the notebook's options, --clip, --tile and --seed.

    parser: a command's parser.
    defaults: {name: default as the help text shows it}, where it is not the one in `Settings`.
    several: let --octave-n take several numbers, and add --seeds in place of --seed.
    """
    for name in WITH_CLIP:
        many = several and name == "octave_n"
        add_option(parser, name, (defaults or {}).get(name), **{
            "nargs": "+", "help": f"{OPTIONS[name].help}; each number makes another dream (default: {DEFAULTS[name]})"
        } if many else {})
    if several:
        parser.add_argument("--seeds", type=of_kind(SEED), metavar="N", nargs="+", default=[0],
                            help="seeds of the jitter; each one makes another dream (default: 0)")
    else:
        add_option(parser, "seed")


def add_end(parser: Parser) -> None:
    """Add --end."""
    add_option(parser, "end")


def add_guide(parser: Parser) -> None:
    """Add --guide."""
    parser.add_argument("--guide", metavar="PICTURE", help="let the dream follow what the net sees in this picture")


def add_mask(parser: Parser) -> None:
    """Add --mask and --mask-edge."""
    parser.add_argument("--mask", metavar="PICTURE", help="dream only where this picture is white; where it is black, "
                        "nothing changes, and grey is in between. It is scaled to the size of the dream")
    add_option(parser, "mask_edge")


def add_jobs(parser: Parser, what: str, workers: str = "") -> None:
    """Add --jobs and --dask.

    what: what is made at the same time, for the help, such as "dreams to make".
    workers: what the help says of the workers of Dask.
    """
    parser.add_argument("--jobs", type=whole_number(1), default=1, metavar="N", help=f"number of {what} at the same "
                        "time, each in its own process; they share the --threads (default: 1)")
    parser.add_argument("--dask", metavar="ADDRESS", help="address of a Dask scheduler, such as tcp://host:8786"
                        + workers)


def add_starts(parser: Parser, start: str = "a picture", size: str = "the picture's own, or 1024x575",
               picture: bool = True) -> None:
    """Add the options that say what a dream starts from.

    parser: a command's parser.
    start, size: the defaults of these two options, as the help text shows them.
    picture: whether the dream can start from a picture.
    """
    group, defaults = parser.add_argument_group(OPTIONS["start"].group), {"start": start, "size": size}
    for name in STARTS:
        if picture or name != "stretch":
            add_option(group, name, defaults.get(name))


def add_priors(parser: Parser, title: str = PRIORS_GROUP) -> None:
    """Add the priors. title: the heading of their group in the help text."""
    group = parser.add_argument_group(title)
    for name in PRIORS:
        add_option(group, name)


def add_device(parser: Parser, fast: bool = True) -> None:
    """Add the options that say where a dream is computed.

    parser: a command's parser.
    fast: add --fast, too.
    """
    parser.add_argument("--device", default="auto", help="where to compute: auto (on CUDA if it works, otherwise on "
                        "the CPU), cpu, cuda, or cuda:N for one of several GPUs (default: auto)")
    parser.add_argument("--threads", type=whole_number(1, 1024), metavar="N",
                        help="number of CPU threads (default: one for each core)")
    if fast:
        add_option(parser, "fast")


def add_quality(parser: Parser) -> None:
    """Add --quality."""
    parser.add_argument("--quality", type=whole_number(1, 100), default=95, metavar="N",
                        help="quality of a JPEG or WebP file, from 1 to 100 (default: 95)")


# ---- the values that were specified

def settings_of(args: Namespace, base: Settings = Settings()) -> Settings:
    """Return the settings that the command line specifies.

    args: parsed arguments.
    base: the settings to take where the command line specifies nothing.
    """
    return base.replace(**specified(args))


def specified(args: Namespace) -> dict:
    """Return {name: value} of the options in OPTIONS that the command line specifies."""
    return {name: value for name in OPTIONS if (value := getattr(args, name, None)) is not None}


def drawn_seed() -> int:
    """Draw a seed at random."""
    import numpy as np
    return int(np.random.SeedSequence().generate_state(1)[0])
