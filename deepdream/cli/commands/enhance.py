"""Enhance what a layer sees in a picture: make its features there k times as strong, and keep the picture natural.

    deepdream enhance cat.jpg -o out.jpg --end inception_4c/output
    deepdream enhance cat.jpg -o out.jpg --model bvlc_googlenet --end inception_3b/output --k 3 --iter-n 100
    deepdream enhance cat.jpg -o out.jpg --prior l2 --weight 0.01
    deepdream enhance cat.jpg -o out.jpg --natural --weight 0.1      no coloured specks, but light, shade and clouds
    deepdream enhance cat.jpg -o out.png --octave-n 1 --k 2 --weight 0.003 --iter-n 100      at one size, to convergence
    deepdream enhance -o again.jpg --settings out.jpg

This is not a dream: there is no jitter and no seed. In each of several octaves, the sizes of the picture from small to
full, L-BFGS minimizes

    sum((f(X) - k f(X0))^2) / sum(f(X0)^2)  +  weight * R(X) / number of values in X

where X0 is the picture, f the features that the net computes at the layer, and R the prior: the total variation (tv) or
the squared distance from the net's mean (l2). Ctrl-C stops early and saves the result of the last iteration as
NAME.partial.EXT; a second Ctrl-C ends the command at once.
"""
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ...errors import DreamError
from ...options import END, FLAG, OPTIONS, number, one_of, whole
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_option, add_quality, of_kind
from ..output import check_output, make_parent, save_partial
from ..ready import require_picture
from ..saved import Entry, Form, add_settings, is_kind

# Repeated from `deepdream.enhance`, so that the help need not import scipy
PRIORS = ("tv", "l2", "none")
WEIGHTS = {"tv": 0.25, "l2": 0.003, "none": None}
DEFAULTS = {"k": 4.0, "iter_n": 15, "octave_n": 4, "octave_scale": 1.4}
POSITIVE = number("a number from 0 to 1e6", lambda v: 0 <= v <= 1e6)
SAVED = Form("an enhanced picture", ("k", "prior", "end"), {
    "end": Entry("end", END.accepts), "k": Entry("k", POSITIVE.accepts),
    "prior": Entry("prior", one_of(*PRIORS).accepts), "weight": Entry("weight", is_kind(POSITIVE)),
    "natural": Entry("natural", is_kind(OPTIONS["natural"].kind)),
    "iter_n": Entry("iter_n", whole(1).accepts), "clip": Entry("no_clip", FLAG.accepts, lambda clip: not clip),
    **{name: Entry(name, OPTIONS[name].accepts) for name in ("octave_n", "octave_scale")},
    "fast": Entry("fast", is_kind(FLAG))}, older={"octave_n": 1})


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture: JPEG, PNG, WebP or TIFF (default: "
                        "that of --settings)")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the picture file to write: .jpg, .png, "
                        ".webp or .tif; the settings are saved in its metadata, and missing folders are made")
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--end", metavar="LAYER", help="the layer to enhance; `deepdream layers` lists them (default: "
                        "the model's, usually inception_4c/output)")
    parser.add_argument("--k", type=of_kind(POSITIVE), default=DEFAULTS["k"], metavar="X", help="how many times as "
                        "strong the features should become: above 1 enhances them, below 1 weakens them (default: "
                        f"{DEFAULTS['k']:g})")
    parser.add_argument("--prior", choices=PRIORS, default="tv", help="the prior, which keeps the picture natural "
                        "(default: tv)")
    parser.add_argument("--weight", type=of_kind(POSITIVE), metavar="X", help="weight of the prior, which suits "
                        f"every layer and size (default: {WEIGHTS['tv']} for tv, {WEIGHTS['l2']} for l2)")
    parser.add_argument("--iter-n", type=of_kind(whole(1)), default=DEFAULTS["iter_n"], metavar="N", help="maximum "
                        f"number of iterations in each octave (default: {DEFAULTS['iter_n']})")
    for name in ("octave_n", "octave_scale"):
        add_option(parser, name, str(DEFAULTS[name]))
    add_option(parser, "natural", help="change the picture in a space of natural colours and frequencies (Fourier "
               "space), in which light, shade and strokes appear instead of coloured specks; more than 1 prefers large "
               "structures (1, unless X is given)")
    parser.set_defaults(octave_n=DEFAULTS["octave_n"], octave_scale=DEFAULTS["octave_scale"])
    parser.add_argument("--no-clip", action="store_true", help="let pixel values exceed 0 to 255, and scale the "
                        "result to fit this range")
    add_device(parser)
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> None:
    """Run this command. Ctrl-C saves the picture so far."""
    from ... import pictures
    output = Path(args.output)
    check_output(output)
    if args.settings:
        from ..replay import replay
        replay(args, SAVED)
        if args.prior != pictures.settings(args.settings)["prior"] and "weight" not in args.given:
            args.weight = None      # the saved weight is that of another prior
    require_picture(args)
    pictures.refuse_inputs(output, args.picture, args.settings)
    if args.prior == "none" and args.weight is not None:
        raise DreamError("--weight: with --prior none there is nothing to weigh; allowed are --prior tv and l2")
    source = pictures.read(args.picture)
    image = source.pixels(pictures.keeps_alpha(output))
    pictures.check_size(output, *image.shape[:2])

    import numpy as np

    from ...dream import visible
    from ...enhance import INTERRUPTED, enhance
    from ...provenance import files_of, machine, provenance
    from ..progress import Iterations
    from ..stopping import Stop
    net = net_of(args, fast=bool(args.fast))
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, [net], args.threads)
    settings = {"end": net.default_end if args.end is None else args.end, "k": args.k, "prior": args.prior,
                "weight": WEIGHTS[args.prior] if args.weight is None else args.weight,
                "iter_n": args.iter_n, "clip": not args.no_clip, "octave_n": args.octave_n,
                "octave_scale": args.octave_scale} | ({"natural": args.natural} if args.natural else {})
    net.checked(settings["end"])
    make_parent(output)
    start = time.monotonic()
    with Stop(at_once=True), Iterations(args.iter_n * args.octave_n, args.prior) as progress:
        result = enhance(net, image, on_step=progress.step, **settings)
    seconds, iterations = time.monotonic() - start, result.iterations
    stopped = result.stopped == INTERRUPTED
    if stopped and not iterations:
        raise KeyboardInterrupt      # without an iteration there is no result
    metadata = provenance(net, settings, iterations=iterations, stopped=result.stopped,
                          **files_of(picture=args.picture), fast=bool(args.fast), **machine(net))
    # Rounded, not truncated, so that values which did not change stay the same
    picture = np.rint(visible(result.picture, settings["clip"]))
    if stopped:
        output = save_partial(picture, output, args, metadata, source)
    else:
        pictures.save(picture, output, metadata, args.quality, source)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {settings['end']}, {summary(result.history, args)}")
    print(f"{result.stopped} after {iterations} iterations, {seconds:.0f} s", flush=True)
    if stopped:
        raise KeyboardInterrupt


def summary(history: Sequence, args: Namespace) -> str:
    """Describe in one line what the iterations achieved.

    history: the `enhance.EnhanceReport` of the start and of each iteration.
    args: parsed arguments, with k and prior.
    """
    first, last = history[0], history[-1]
    prior = "" if args.prior == "none" else f", {args.prior} {first.prior:.4g} to {last.prior:.4g}"
    return (f"k {args.k:g}: objective {first.objective:.4g} to {last.objective:.4g}, data {first.data:.4g} to "
            f"{last.data:.4g}{prior}, gradient {first.gradient:.2g} to {last.gradient:.2g}")
