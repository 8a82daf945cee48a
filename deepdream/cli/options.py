"""Options that several commands have, and what their arguments mean."""
import argparse
from math import inf

from ..convert.errors import shown
from ..errors import DreamError

MANY = 10 ** 9      # more than that many of anything is a slip of the finger


def number(kind, allowed, test):
    """An argparse type: a number for which `test` holds; `allowed` says so in the error."""
    def parse(text):
        try:
            value = kind(text)
            if test(value):
                return value
        except ValueError:
            pass
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is not {allowed}")
    return parse


def whole(low, high=MANY):
    """An argparse type: a whole number from `low` to `high`."""
    return number(int, f"a whole number from {low} to {high if high < MANY else '1e9'}", lambda v: low <= v <= high)


NOTEBOOK = {"iter_n": 10, "octave_n": 4, "octave_scale": 1.4, "step_size": 1.5, "jitter": 32}
SETTINGS = {   # option -> (type, what is allowed, test, help)
    "iter_n": (int, "a whole number from 1 to 1e9", lambda v: 1 <= v <= MANY, "steps in each octave"),
    "octave_n": (int, "a whole number from 1 to 100", lambda v: 1 <= v <= 100,
                 "octaves: sizes of the picture that are dreamt at"),
    "octave_scale": (float, "a number greater than 1", lambda v: 1 < v < inf, "from one octave to the next"),
    "step_size": (float, "a number other than 0, to 1e6", lambda v: 0 < abs(v) <= 1e6,
                  "mean change of a pixel in a step, of 255"),
    "jitter": (int, "a whole number from 0 to 1e9", lambda v: 0 <= v <= MANY,
               "the picture is shifted by up to N pixels in each step"),
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
    parser.add_argument("--tile", type=whole(0), metavar="N",
                        help="dream what is larger than N pixels in overlapping tiles of at most NxN, in the memory of "
                        "one of them (1024: about 2 GB, for 8 megapixels). Without it, what needs more memory than is "
                        "free (or than $DEEPDREAM_MEMORY_GB says) is refused")
    parser.add_argument("--clip", action=argparse.BooleanOptionalAction, default=True, help="keep pixels within 0 to 255 "
                        "(yes); otherwise they are scaled at the end")
    seed = whole(0, 2 ** 32 - 1)
    if several:
        parser.add_argument("--seeds", type=seed, metavar="N", nargs="+", default=[0], help="of the jitter (0)")
    else:
        parser.add_argument("--seed", type=seed, metavar="N",
                            help="of the jitter; drawn and written into the picture if not given")


def device_options(parser):
    parser.add_argument("--device", default="auto", help="auto (CUDA if it works, else the CPU), cpu, cuda or cuda:N")
    parser.add_argument("--threads", type=whole(1, 1024), metavar="N", help="of the CPU (as many as it has cores)")


def seed_of(args):
    """The seed that is given, or one that is drawn."""
    import numpy as np
    return int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed


def quality_option(parser):
    parser.add_argument("--quality", type=whole(1, 100), default=95, metavar="N",
                        help="of JPEG and WebP, 1 to 100 (95)")


def fast_option(parser):
    parser.add_argument("--fast", action=argparse.BooleanOptionalAction, default=False,
                        help="on CUDA: convolutions with TF32's 10 bits of mantissa, a thousandth off in each; the "
                        "dream is one of the same kind, not Caffe's step for step")


def settings_of(args):
    """The notebook's settings among the arguments, as keywords of `deepdream`."""
    return {name: getattr(args, name) for name in SETTINGS} | {"clip": args.clip} \
        | ({"tile": args.tile} if args.tile else {})


def prior_options(parser):
    """The options of PRIORS; `priors_of` reads them."""
    positive = number(float, "a number from 0 to 1000", lambda v: 0 <= v <= 1000)
    group = parser.add_argument_group("priors, beside the notebook (0: none)")
    group.add_argument("--tv", type=positive, metavar="X", help="total variation: smooth areas; 1 is as strong as the "
                       "dream")
    group.add_argument("--grey", type=positive, metavar="X", help="towards the mean: no colour stronger than need be")
    group.add_argument("--blur", type=positive, metavar="SIGMA", help="blur the picture by so many pixels ...")
    group.add_argument("--blur-until", type=positive, metavar="SIGMA", help="... going over to so many in the last step "
                       "...")
    group.add_argument("--blur-every", type=whole(1), default=1, metavar="N", help="... every N steps (1)")
    group.add_argument("--laplacian", type=whole(0, 12), nargs="?", const=4, metavar="LEVELS", help="details of all sizes alike: normalize the gradient's "
                       "Laplacian pyramid (4 levels)")
    group.add_argument("--keep-colours", action=argparse.BooleanOptionalAction, default=False, help="only the luminance dreams")


def priors_of(args):
    """The priors among the arguments: {option: value}."""
    if args.blur is None and (args.blur_until or args.blur_every != 1):
        raise DreamError("--blur-until, --blur-every: there is no blur; give --blur SIGMA too")
    values = {"tv": args.tv, "grey": args.grey, "blur": [args.blur, args.blur_every, args.blur_until] if args.blur else None,
              "laplacian": args.laplacian, "keep_colours": args.keep_colours}
    return {k: v for k, v in values.items() if v}


def remembered_priors(priors):
    """The arguments that `priors_of` was given, {name: value}, from what it gave."""
    return {k: v for k, v in priors.items() if k in ("tv", "grey", "laplacian", "keep_colours")} | dict(
        zip(("blur", "blur_every", "blur_until"), priors.get("blur", ())))
