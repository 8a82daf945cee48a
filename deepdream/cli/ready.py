"""Preparation of a dream: load the net, complete the settings, and check everything before any work is done."""
from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..convert.console import one_line
from ..errors import DreamError
from ..options import Settings
from .nets import net_of
from .options import drawn_seed, settings_of

if TYPE_CHECKING:
    from ..engine.step import Step
    from ..net import Net


def net_and_settings(args: Namespace, base: Settings = Settings()) -> tuple[Net, Settings]:
    """Load the net and complete the settings that the command line specifies.

    args: parsed arguments.
    base: the settings to take where the command line specifies nothing.

    Returns the net, and settings that name a layer; the seed may still be None.
    """
    settings = settings_of(args, base)
    net = net_of(args, settings.end, settings.fast)
    return net, settings.replace(end=settings.end or (net.default_end,))


def with_seed(settings: Settings) -> Settings:
    """Return the settings, with a random seed if they have none."""
    return settings.replace(seed=drawn_seed()) if settings.seed is None else settings


def check_start(args: Namespace) -> None:
    """Raise DreamError if the command line specifies both a picture and --start."""
    if args.picture and args.start:
        raise DreamError(f"--start {args.start}: there is a picture to start from, {args.picture}; leave out one")


def require_picture(args: Namespace) -> None:
    """Raise DreamError if there is no picture, neither on the command line nor in the picture of --settings."""
    if not args.picture:
        raise DreamError(f"--settings {args.settings}: was not made from a picture file; give a picture too"
                         if args.settings else "PICTURE: is missing; give a picture, or --settings PICTURE")


def checked_sizes(net: Net, settings: Settings, goals: dict, size: tuple[int, int]) -> list[tuple[int, int]]:
    """Compute the sizes of the octaves, and check that the dream is possible at these sizes.

    net, settings: as for the dream.
    goals: objective, end and priors, from `goals.text.goals`.
    size: (h, w) of the picture.

    Returns [(h, w)], smallest first. Raises the exceptions that `deepdream` would raise before its first step.
    """
    from ..dream import check_dream, octave_sizes
    sizes = octave_sizes(*size, settings.octave_n, settings.octave_scale)
    check_dream(net, step_of(settings, goals), sizes)
    return sizes


def announce_time(net: Net, settings: Settings, goals: dict, sizes: Sequence[tuple[int, int]], name: str,
                  times: int = 1, faster: str = "--size 1024") -> None:
    """Print how long the dream of a large picture will take, and which options help.

    net, settings, goals: as for `checked_sizes`.
    sizes: from `checked_sizes`.
    name: what the line calls the picture.
    times: how often it is dreamt.
    faster: what the line recommends.
    """
    from ..forecast import LARGE, in_words, seconds_of
    h, w = sizes[-1]
    if h * w <= LARGE:
        return
    seconds = seconds_of(net, step_of(settings, goals), sizes, settings.iter_n)
    time = "a long time" if seconds is None else in_words(seconds * times)
    print(one_line(f"{name}: {h * w / 1e6:.1f} megapixels, {time} here; {faster} would be faster"
                   + ", and --tile 1024 needs less memory" * (not settings.tile)), file=sys.stderr, flush=True)


def step_of(settings: Settings, goals: dict) -> Step:
    """Return the Step of a dream.

    settings: as for the dream.
    goals: objective, end and priors, from `goals.text.goals`.
    """
    from ..engine.step import Step
    return Step(goals["objective"], settings.clip, goals["priors"], settings.tile or None)
