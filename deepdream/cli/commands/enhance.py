"""Enhance what a layer sees in a picture: make its features there k times as strong, and keep the picture natural.

    deepdream enhance cat.jpg -o out.jpg --end inception_4c/output
    deepdream enhance cat.jpg -o out.jpg --model bvlc_googlenet --end inception_3b/output --k 3 --iter-n 100
    deepdream enhance cat.jpg -o out.jpg --prior l2 --weight 0.01
    deepdream enhance cat.jpg -o out.png --octave-n 1 --k 2 --weight 0.003 --iter-n 100      at one size, to convergence

This is not a dream: there is no jitter and no seed. In each of several octaves, the sizes of the picture from small to
full, L-BFGS minimizes

    sum((f(X) - k f(X0))^2) / sum(f(X0)^2)  +  weight * R(X) / number of values in X

where X0 is the picture, f the features that the net computes at the layer, and R the prior: the total variation (tv) or
the squared distance from the net's mean (l2). Ctrl-C stops early and writes the result of the last iteration.
"""
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ...convert.console import interrupted
from ...errors import DreamError
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_option, add_quality, real_number, whole_number

# Repeated from `deepdream.enhance`, so that the help need not import scipy
PRIORS = ("tv", "l2", "none")

WEIGHTS = {"tv": 0.25, "l2": 0.003, "none": None}
DEFAULTS = {"k": 4.0, "iter_n": 15, "octave_n": 4, "octave_scale": 1.4}


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    positive = real_number("a number from 0 to 1e6", lambda v: 0 <= v <= 1e6)
    parser.add_argument("picture", metavar="PICTURE", help="the picture: JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the picture file to write: .jpg, .png, "
                        ".webp or .tif; the settings are saved in its metadata")
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--end", metavar="LAYER", help="the layer to enhance; `deepdream layers` lists them (default: "
                        "the model's, usually inception_4c/output)")
    parser.add_argument("--k", type=positive, default=DEFAULTS["k"], metavar="X", help="how many times as strong the "
                        "features should become: above 1 enhances them, below 1 weakens them (default: "
                        f"{DEFAULTS['k']:g})")
    parser.add_argument("--prior", choices=PRIORS, default="tv", help="the prior, which keeps the picture natural "
                        "(default: tv)")
    parser.add_argument("--weight", type=positive, metavar="X", help="weight of the prior, which suits every layer "
                        f"and size (default: {WEIGHTS['tv']} for tv, {WEIGHTS['l2']} for l2)")
    parser.add_argument("--iter-n", type=whole_number(1), default=DEFAULTS["iter_n"], metavar="N", help="maximum "
                        f"number of iterations in each octave (default: {DEFAULTS['iter_n']})")
    for name in ("octave_n", "octave_scale"):
        add_option(parser, name, str(DEFAULTS[name]))
    parser.set_defaults(octave_n=DEFAULTS["octave_n"], octave_scale=DEFAULTS["octave_scale"])
    parser.add_argument("--no-clip", action="store_true", help="let pixel values exceed 0 to 255, and scale the "
                        "result to fit this range")
    add_device(parser)
    add_quality(parser)


def run(args: Namespace) -> int:
    """Run this command. Returns its exit code."""
    from ... import pictures
    output = Path(args.output)
    pictures.check_target(output)
    pictures.refuse_inputs(output, args.picture)
    if args.prior == "none" and args.weight is not None:
        raise DreamError("--weight: with --prior none there is nothing to weigh; allowed are --prior tv and l2")
    image = pictures.load(args.picture)
    pictures.check_size(output, *image.shape[:2])

    import numpy as np

    from ...dream import visible
    from ...enhance import INTERRUPTED, enhance
    from ...provenance import machine, provenance
    from ..progress import Iterations
    net = net_of(args, fast=bool(args.fast))
    settings = {"end": net.default_end if args.end is None else args.end, "k": args.k, "prior": args.prior,
                "weight": WEIGHTS[args.prior] if args.weight is None else args.weight,
                "iter_n": args.iter_n, "clip": not args.no_clip, "octave_n": args.octave_n,
                "octave_scale": args.octave_scale}
    start = time.monotonic()
    with Iterations(args.iter_n * args.octave_n, args.prior) as progress:
        result = enhance(net, image, on_step=progress.step, **settings)
    seconds, iterations = time.monotonic() - start, result.iterations
    if result.stopped == INTERRUPTED and not iterations:
        return interrupted("deepdream")      # without an iteration there is no result
    metadata = provenance(net, settings, iterations=iterations, stopped=result.stopped, picture=Path(args.picture).name,
                          fast=bool(args.fast), **machine(net))
    # Rounded, not truncated, so that values which did not change stay the same
    pictures.save(np.rint(visible(result.picture, settings["clip"])), output, metadata, args.quality)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {settings['end']}, {summary(result.history, args)}")
    print(f"{result.stopped} after {iterations} iterations, {seconds:.0f} s")
    return interrupted("deepdream") if result.stopped == INTERRUPTED else 0


def summary(history: Sequence, args: Namespace) -> str:
    """Describe in one line what the iterations achieved.

    history: the `enhance.EnhanceReport` of the start and of each iteration.
    args: parsed arguments, with k and prior.
    """
    first, last = history[0], history[-1]
    prior = "" if args.prior == "none" else f", {args.prior} {first.prior:.4g} to {last.prior:.4g}"
    return (f"k {args.k:g}: objective {first.objective:.4g} to {last.objective:.4g}, data {first.data:.4g} to "
            f"{last.data:.4g}{prior}, gradient {first.gradient:.2g} to {last.gradient:.2g}")
