"""The notebook's endless zoom: dream, zoom in, dream again. Writes 0000.jpg, 0001.jpg ... into a folder.

    deepdream zoom cat.jpg -o frames/ --frames 100
    deepdream zoom cat.jpg -o frames/ --frames 200 --movie cat.mp4     (goes on from frame 100)

The folder also keeps zoom.npz, the next frame before it is dreamt, without loss: going on later gives the same frames
as one long run. The notebook did not seed its jitter; here the seed is drawn, kept, and taken up again.
"""
import math
from pathlib import Path

from ..nets import add_model
from ..options import add_device, add_end, add_priors, add_quality, add_steps, real_number, whole_number
from ..output import make_folder
from ..ready import checked_sizes, net_and_settings, with_seed


def arguments(parser):
    parser.add_argument("picture", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", required=True, metavar="FRAMES", help="folder of the frames")
    parser.add_argument("--frames", type=whole_number(1), default=100, metavar="N", help="frames in all (100)")
    parser.add_argument("--scale", type=real_number("a number between 0 and 1", lambda v: 0 < v < 1), default=0.05,
                        metavar="X", help="of the size, cut off from one frame to the next (0.05)")
    parser.add_argument("--legacy-affine", action="store_true", help="zoom as the SciPy of 2015 did: towards 0.475 of "
                        "the size (for a scale of 0.05) instead of the middle")
    parser.add_argument("--movie", metavar="OUT", help="also write a .gif, .webp or .mp4 (for mp4: pip install av)")
    parser.add_argument("--fps", type=real_number("a number from 1 to 100", lambda v: 1 <= v <= 100), default=25.0,
                        metavar="X", help="frames a second of the movie (25)")
    add_model(parser)      # how an .onnx file wants its pictures says its card: --scale is taken
    add_end(parser)
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    add_steps(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)


def run(args):
    from ... import pictures
    image = pictures.load(args.picture)
    guide = pictures.load(args.guide) if args.guide else None

    from ... import zoom
    from ...goals.text import goals
    from ...pictures.movies import check_movie, movie
    from ..progress import Progress
    folder = Path(args.output)
    for path in folder.glob("[0-9]*.jpg"):
        pictures.refuse_inputs(path, args.picture, args.guide)
    if args.movie:
        check_movie(args.movie)
        pictures.refuse_inputs(args.movie, args.picture, args.guide, option="--movie")
    net, settings = net_and_settings(args)
    sizes = checked_sizes(net, settings, goals(net, settings, guide), image.shape[:2])
    kept = zoom.saved_state(folder) if settings.seed is None else None
    settings = with_seed(settings.replace(seed=kept[1]["seed"]) if kept else settings)
    files = {"picture": checksum(args.picture), "guide": args.guide and checksum(args.guide)}
    way = {"scale": args.scale, "legacy_affine": args.legacy_affine, "files": files}

    first, _ = zoom.resume(folder, zoom.frame_metadata(net, settings, **way), image.shape)
    make_folder(folder)
    pictures.check_target(zoom.frame_path(folder, 0))
    pictures.check_size(zoom.frame_path(folder, 0), *sizes[-1])
    with Progress(sizes, settings.iter_n * max(0, args.frames - first)) as progress:
        def on_frame(i):
            progress.bar.set_description_str(f"frame {i + 1}/{args.frames} ", refresh=False)

        def on_step(octave, i, vis, report):
            progress.bar.update(math.prod(sizes[octave]))

        zoom.zoom(net, image, folder, args.frames, settings, guide, quality=args.quality, on_frame=on_frame,
                  on_step=on_step, **way)
    print(f"{folder}: {max(0, args.frames - first)} frames made, {min(first, args.frames)} kept, {net.name} at "
          f"{' + '.join(settings.end)}, seed {settings.seed}")
    if args.movie:
        movie((zoom.frame_path(folder, i) for i in range(args.frames)), args.movie, args.fps)
        print(f"{args.movie}: {args.frames / args.fps:.1f} s at {args.fps:g} frames a second")


def checksum(path):
    import hashlib
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()[:16]
