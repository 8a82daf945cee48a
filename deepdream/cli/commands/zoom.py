"""Make the notebook's endless zoom: dream, zoom in a little, and dream again, frame by frame.

    deepdream zoom cat.jpg -o frames/ --frames 100
    deepdream zoom cat.jpg -o frames/ --frames 200 --movie cat.mp4     continues with frame 100
    deepdream zoom -o frames/ --start noise --size 640x360 --rotate 1  from noise, turning by one degree each frame
    deepdream zoom cat.jpg -o frames/ --through inception_3b/output inception_4c/output inception_4d/output

The frames are FRAMES/0000.jpg, 0001.jpg and so on. If the folder holds frames of the same zoom already, the command
continues after them, with the same seed, and the result is the same as that of one long run: FRAMES/zoom.npz keeps the
exact picture from which the next frame starts.

With --settings, the zoom has the settings of a frame of another zoom, or of a dream.
"""
import json
import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ...options import END, FLAG, Settings, number, whole
from ...provenance import SOFTWARE, check_replaceable
from ..nets import add_model
from ..options import add_device, add_end, add_guide, add_priors, add_quality, add_starts, add_steps, of_kind, \
    real_number, whole_number
from ..output import make_folder
from ..ready import announce_time, check_start, checked_sizes, net_and_settings, with_seed
from ..saved import Entry, Form, add_settings, is_kind, list_of

SCALE = number("a number between 0 and 1", lambda v: 0 < v < 1)
ANGLE = number("a number from -180 to 180", lambda v: -180 <= v <= 180)
SHARE = number("a number from -0.5 to 0.5", lambda v: -0.5 <= v <= 0.5)
HOLD = whole(1)
SAVED = Form("a frame or a dream", ("seed", "end"), {
    "scale": Entry("scale", SCALE.accepts), "legacy_affine": Entry("legacy_affine", FLAG.accepts),
    "rotate": Entry("rotate", ANGLE.accepts), "pan": Entry("pan", lambda v: list_of(SHARE)(v) and len(v) == 2),
    "through": Entry("through", list_of(END)), "hold": Entry("hold", is_kind(HOLD))},
    frames=True, guide="guide")


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture to start from: JPEG, PNG, WebP or "
                        "TIFF (default: that of --settings, or a computed sky)")
    parser.add_argument("-o", "--output", required=True, metavar="FRAMES", help="the folder for the frames")
    parser.add_argument("--frames", type=whole_number(1), default=100, metavar="N", help="total number of frames, "
                        "including those that exist already (default: 100)")
    parser.add_argument("--scale", type=of_kind(SCALE), default=0.05,
                        metavar="X", help="share of the width and height that is lost from one frame to the next "
                        "(default: 0.05)")
    parser.add_argument("--legacy-affine", action="store_true", help="zoom as the SciPy of 2015 did: towards a point "
                        "at 0.475 of the width and height (for a scale of 0.05), not towards the centre")
    parser.add_argument("--rotate", type=of_kind(ANGLE), default=0.0, metavar="DEGREES", help="turn the picture by "
                        "this angle from one frame to the next, counterclockwise (default: 0)")
    parser.add_argument("--pan", type=of_kind(SHARE), nargs=2, default=(0.0, 0.0), metavar=("X", "Y"), help="move the "
                        "view to the right and downwards from one frame to the next, by these shares of the width and "
                        "height (default: 0 0)")
    parser.add_argument("--through", type=of_kind(END), nargs="+", default=(), metavar="END",
                        help="dream at one END after another, and then from the first one again; each is written as "
                        "for --end, which this replaces")
    parser.add_argument("--hold", type=of_kind(HOLD), metavar="N",
                        help="frames at each END of --through (default: 25)")
    parser.add_argument("--movie", metavar="OUT", help="also write a movie: .gif, .webp or .mp4 (.mp4 needs `pip "
                        "install av`)")
    parser.add_argument("--fps", type=real_number("a number from 1 to 100", lambda v: 1 <= v <= 100), default=25.0,
                        metavar="X", help="frames per second of the movie (default: 25)")
    add_model(parser)      # without add_pixels, whose --scale would be a second one; the pixels are those of the card
    add_end(parser)
    add_guide(parser)
    add_steps(parser)
    add_starts(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> None:
    """Run this command."""
    from ... import pictures
    from ..stopping import goes_on
    check_start(args)
    if args.through and args.end:
        raise DreamError("--through: replaces --end; leave out one of them")
    base = _saved(args) if args.settings else Settings()
    if args.hold and not args.through:
        raise DreamError("--hold: there is one layer only; give --through END END ... too")
    image = pictures.load(args.picture) if args.picture else None
    guide = pictures.load(args.guide) if args.guide else None

    from ... import zoom
    from ...pictures.movies import check_movie
    from ...pictures.starts import start_size, starting_picture
    folder = Path(args.output)
    for path in folder.glob("[0-9]*.jpg"):
        pictures.refuse_inputs(path, args.picture, args.guide)
    if args.movie:
        check_movie(args.movie)
        pictures.refuse_inputs(args.movie, args.picture, args.guide, args.settings, option="--movie")
    motion = zoom.Motion(args.scale, args.legacy_affine, args.rotate, tuple(args.pan), tuple(args.through),
                         args.hold or zoom.HOLD)
    net, settings = net_and_settings(args, base.replace(end=motion.through or base.end))
    settings = settings.replace(end=settings.end[:1] if args.through else settings.end)
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, [net], args.threads)
    goals = zoom.goals_by_end(net, settings, motion, guide)
    for chosen in goals.values():
        sizes = checked_sizes(net, settings, chosen, start_size(settings, image if image is None else image.shape[:2]))
    saved = zoom.saved_state(folder) if settings.seed is None else None
    settings = with_seed(settings.replace(seed=saved[1]["seed"]) if saved else settings)
    image = starting_picture(settings, image)
    options = {"motion": motion, "files": _files(args)}

    first, _ = zoom.resume(folder, zoom.frame_metadata(net, settings, **options), image.shape)
    if args.movie:
        check_replaceable(args.movie, "--movie")
    make_folder(folder)
    pictures.check_target(zoom.frame_path(folder, 0))
    pictures.check_size(zoom.frame_path(folder, 0), *sizes[-1])
    if args.frames > first:
        announce_time(net, settings, next(iter(goals.values())), sizes, args.picture or "the zoom", args.frames - first)
    with goes_on():
        _frames(args, net, settings, image, guide, sizes, first, options)


def _saved(args):
    """Return the settings in the picture of --settings. An --end on the command line replaces a saved --through."""
    from ..replay import replay
    base = replay(args, SAVED)
    if args.end and "through" not in args.given:
        args.through, args.hold = (), args.hold if "hold" in args.given else None
    return base


def _files(args):
    """Return the entries of the metadata that describe the picture and the guide."""
    from ...provenance import files_of
    entries = files_of(picture=args.picture, guide=args.guide)
    files = {name: entries[name] and entries[f"{name}_sha256"][:16] for name in ("picture", "guide")}
    return files | {name: path for name, path in entries.items() if name.endswith("_path")}


def _frames(args, net, settings, image, guide, sizes, first, options):
    """Make the frames from number `first` on, and the movie. options: further arguments of `zoom.zoom`."""
    from ... import zoom
    from ...pictures.movies import movie
    from ..progress import Progress
    folder = Path(args.output)
    with Progress(sizes, settings.iter_n * max(0, args.frames - first)) as progress:
        def on_frame(i):
            progress.bar.set_description_str(f"frame {i + 1}/{args.frames} ", refresh=False)

        def on_step(octave, i, vis, report):
            progress.bar.update(math.prod(sizes[octave]))

        zoom.zoom(net, image, folder, args.frames, settings, guide, quality=args.quality, on_frame=on_frame,
                  on_step=on_step, **options)
    print(f"{folder}: {max(0, args.frames - first)} frames made, {min(first, args.frames)} kept, {net.name} at "
          f"{', '.join(options['motion'].through) or ' + '.join(settings.end)}, seed {settings.seed}")
    if args.movie:
        movie((zoom.frame_path(folder, i) for i in range(args.frames)), args.movie, args.fps,
              json.dumps({"software": SOFTWARE}))
        print(f"{args.movie}: {args.frames / args.fps:.1f} s at {args.fps:g} frames a second")
