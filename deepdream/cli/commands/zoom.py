"""The notebook's endless zoom: dream, zoom in, dream again. Writes 0000.jpg, 0001.jpg ... into a folder.

    deepdream zoom cat.jpg -o frames/ --frames 100
    deepdream zoom cat.jpg -o frames/ --frames 200 --movie cat.mp4     (goes on from frame 100)

The folder also keeps zoom.npz, the next frame before it is dreamt, without loss: going on later gives the same frames
as one long run, if --threads stays the same. The notebook did not seed its jitter; here the seed is drawn, kept, and
taken up again.
"""
import math
from pathlib import Path

from ...goals.text import recipe
from ..nets import model_option, net_of
from ..options import (
    device_options,
    fast_option,
    number,
    options,
    prior_options,
    priors_of,
    quality_option,
    seed_of,
    settings_of,
    whole,
)
from ..record import end_texts
from .dream import checked_sizes, end_option, make_folder


def arguments(parser):
    parser.add_argument("picture", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", required=True, metavar="FRAMES", help="folder of the frames")
    parser.add_argument("--frames", type=whole(1), default=100, metavar="N", help="frames in all (100)")
    parser.add_argument("--scale", type=number(float, "a number between 0 and 1", lambda v: 0 < v < 1), default=0.05,
                        metavar="X", help="of the size, cut off from one frame to the next (0.05)")
    parser.add_argument("--legacy-affine", action="store_true", help="zoom as the SciPy of 2015 did: towards 0.475 of "
                        "the size (for a scale of 0.05) instead of the middle")
    parser.add_argument("--movie", metavar="OUT", help="also write a .gif, .webp or .mp4 (for mp4: pip install av)")
    parser.add_argument("--fps", type=number(float, "a number from 1 to 100", lambda v: 1 <= v <= 100), default=25.0,
                        metavar="X", help="frames a second of the movie (25)")
    model_option(parser)      # how an .onnx file wants its pictures says its record: --scale is taken
    end_option(parser)
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    options(parser)
    prior_options(parser)
    device_options(parser)
    fast_option(parser)
    quality_option(parser)


def run(args):
    from ... import pictures
    image = pictures.load(args.picture)
    guide = pictures.load(args.guide) if args.guide else None

    from ... import zoom
    from ..progress import Progress
    folder = Path(args.output)
    for path in folder.glob("[0-9]*.jpg"):
        pictures.refuse_inputs(path, args.picture, args.guide)
    if args.movie:
        zoom.check_movie(args.movie)
        pictures.refuse_inputs(args.movie, args.picture, args.guide, option="--movie")
    net = net_of(args, args.end)
    settings, priors, ends = settings_of(args), priors_of(args), end_texts(net, args)
    plan = recipe(net, ends, guide, priors)
    sizes = checked_sizes(net, plan, image.shape[:2], settings)
    record = {"model": net.name, "checksum": net.checksum, "end": ends[0] if len(ends) == 1 else ends,
              "picture": checksum(args.picture), "guide": args.guide and checksum(args.guide),
              "priors": priors, "fast": args.fast}
    seed = kept_seed(folder) if args.seed is None else args.seed
    seed = seed_of(args) if seed is None else seed

    first, _ = zoom.resume(folder, {**record, **settings, "scale": args.scale, "legacy_affine": args.legacy_affine,
                                    "seed": seed}, image.shape)
    make_folder(folder)
    pictures.check_target(zoom.frame_path(folder, 0))
    pictures.check_size(zoom.frame_path(folder, 0), *sizes[-1])
    with Progress(sizes, args.iter_n * max(0, args.frames - first)) as progress:
        def on_frame(i):
            progress.bar.set_description_str(f"frame {i + 1}/{args.frames} ", refresh=False)

        def on_step(octave, i, vis, told):
            progress.bar.update(math.prod(sizes[octave]))

        zoom.zoom(net, image, folder, args.frames, seed, settings, args.scale, args.legacy_affine, args.quality, record,
                  on_frame, on_step=on_step, **plan)
    print(f"{folder}: {max(0, args.frames - first)} frames made, {min(first, args.frames)} kept, {net.name} at "
          f"{' + '.join(ends)}, seed {seed}")
    if args.movie:
        zoom.movie(folder, args.frames, args.movie, args.fps)
        print(f"{args.movie}: {args.frames / args.fps:.1f} s at {args.fps:g} frames a second")


def checksum(path):
    import hashlib
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]


def kept_seed(folder):
    """The seed of the zoom in a folder; None if there is none."""
    from ...zoom import kept
    there = kept(folder)
    return there and there[1]["seed"]
