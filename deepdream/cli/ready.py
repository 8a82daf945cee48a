"""What the commands that dream do before they begin: the net, the settings with nothing left open, and the checks."""
from ..errors import DreamError
from ..options import Settings
from .nets import net_of
from .options import drawn_seed, settings_of


def net_and_settings(args, base: Settings = Settings()):
    """The net and the settings that the arguments ask for. base: settings that are not among the arguments."""
    settings = settings_of(args, base)
    net = net_of(args, settings.end, settings.fast)
    return net, settings.replace(end=settings.end or (net.default_end,))


def with_seed(settings: Settings) -> Settings:
    """Settings with a seed: drawn, if none was given."""
    return settings.replace(seed=drawn_seed()) if settings.seed is None else settings


def check_start(args):
    """Raise DreamError where there are two things to start from."""
    if args.picture and args.start:
        raise DreamError(f"--start {args.start}: there is a picture to start from, {args.picture}; leave out one")


def checked_sizes(net, settings: Settings, goals: dict, size: tuple[int, int]) -> list[tuple[int, int]]:
    """(h, w) of the octaves of a picture of a size (h, w). Raises what `deepdream` would, before anything is made.

    goals: from `goals.text.goals`.
    """
    from ..dream import check_dream, octave_sizes
    sizes = octave_sizes(*size, settings.octave_n, settings.octave_scale)
    check_dream(net, step_of(settings, goals), sizes)
    return sizes


def step_of(settings: Settings, goals: dict):
    """The Step of a dream. goals: from `goals.text.goals`."""
    from ..engine.step import Step
    return Step(goals["objective"], settings.clip, goals["priors"], settings.tile or None)
