"""Enhance what a layer already sees in a picture: its features there k times as strong, and the picture natural.

    deepdream enhance cat.jpg -o out.jpg --end inception_4c/output
    deepdream enhance cat.jpg -o out.jpg --model bvlc_googlenet --end inception_3b/output --k 3 --iter-n 100
    deepdream enhance cat.jpg -o out.jpg --prior l2 --weight 0.01

No octaves, no jitter, no seed: L-BFGS lowers, until it can lower it no more,

    sum((f(X) - k f(X0))^2) / sum(f(X0)^2)  +  weight * R(X) / values

where X0 is the picture, f what the net computes at the layer, and R the prior: tv, the total variation, or l2, the
distance to the net's mean. Ctrl-C writes the picture of the last iteration.
"""
import time
from pathlib import Path

from ...convert.console import interrupted
from ...errors import DreamError
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_quality, real_number, whole_number

PRIORS = ("tv", "l2", "none")      # those of `deepdream.enhance`, which takes scipy to import


def arguments(parser):
    positive = real_number("a number from 0 to 1e6", lambda v: 0 <= v <= 1e6)
    parser.add_argument("picture", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="where it goes: .jpg, .png, .webp or "
                        ".tif; the settings are written into it")
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--end", metavar="LAYER", help="the layer; `deepdream layers` lists them (the model's own "
                        "choice, mostly inception_4c/output)")
    parser.add_argument("--k", type=positive, default=2.0, metavar="X",
                        help="how strong its features shall be: above 1 enhances, below 1 takes away (2)")
    parser.add_argument("--prior", choices=PRIORS, default="tv", help="what is natural (tv)")
    parser.add_argument("--weight", type=positive, metavar="X", help="of the prior, alike at every layer and size "
                        "(0.003)")
    parser.add_argument("--iter-n", type=whole_number(1), default=60, metavar="N", help="iterations at most (60)")
    parser.add_argument("--no-clip", action="store_true", help="let pixels leave 0 to 255, and scale them at the end")
    add_device(parser)
    add_quality(parser)


def run(args):
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
    from ...enhance import INTERRUPTED, WEIGHT, enhance
    from ...provenance import machine, provenance
    from ..progress import Iterations
    net = net_of(args, fast=bool(args.fast))
    settings = {"end": net.default_end if args.end is None else args.end, "k": args.k, "prior": args.prior,
                "weight": WEIGHT if args.weight is None and args.prior != "none" else args.weight,
                "iter_n": args.iter_n, "clip": not args.no_clip}
    start = time.monotonic()
    with Iterations(args.iter_n, args.prior) as progress:
        found = enhance(net, image, on_step=progress.step, **settings)
    seconds, iterations = time.monotonic() - start, len(found.history) - 1
    if found.stopped == INTERRUPTED and not iterations:
        return interrupted("deepdream")      # there is nothing to keep
    record = provenance(net, settings, iterations=iterations, stopped=found.stopped, picture=Path(args.picture).name,
                        fast=bool(args.fast), **machine(net))
    # rounded, not cut off: a value that nothing moved stays what it was
    pictures.save(np.rint(visible(found.picture, settings["clip"])), output, record, args.quality)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {settings['end']}, {figures(found.history, args)}")
    print(f"{found.stopped} after {iterations} iterations, {seconds:.0f} s")
    return interrupted("deepdream") if found.stopped == INTERRUPTED else 0


def figures(history, args):
    """The start and the end of a list of `enhance.EnhanceReport`, in words."""
    first, last = history[0], history[-1]
    prior = "" if args.prior == "none" else f", {args.prior} {first.prior:.4g} to {last.prior:.4g}"
    return (f"k {args.k:g}: objective {first.objective:.4g} to {last.objective:.4g}, data {first.data:.4g} to "
            f"{last.data:.4g}{prior}, gradient {first.gradient:.2g} to {last.gradient:.2g}")
