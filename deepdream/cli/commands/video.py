"""Dream a film, so that what the dream adds stays in place and moves along with what the film shows.

    deepdream video in.mp4 -o out.mp4
    deepdream video in.mp4 -o out.mp4 --end inception_4c/output --end inception_3b/output@5s
    deepdream video in.mov -o out.mov --from 10 --to 1:20 --size 640 --jobs 4
    deepdream video frames/ -o dreams/                a folder of pictures, 2.png before 10.png
    deepdream video frames/ -o out.mp4 --fps 24
    deepdream video in.gif -o out.webp
    deepdream video other.mp4 -o b.mp4 --settings out.mp4       with the settings of out.mp4

The first frame, and the first one after each cut, is dreamt for --iter-n steps. Every other frame takes over the
detail of the one before it, moved along by optical flow, and is dreamt for --steps more. Time stamps stay those of the
film, and sound and subtitles are copied.

The dreamt frames are saved in a work folder, OUT.work. A film that was interrupted goes on where it stopped if you
repeat the command, and its frames are the same. (On processors with AVX-512, libx264 does not always encode the same
frames alike.) preview.jpg in that folder shows the frame that was dreamt last. When the film is written, the folder is
deleted, unless you named it with --work.

Movies need PyAV and the optical flow needs OpenCV: pip install "deepdream[video]". With --dask, all workers must find
the film and the work folder under the same paths, so give absolute ones in a shared folder.
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace
from fractions import Fraction
from pathlib import Path
from ...errors import DreamError
from ...film.flow import FLOWS
from ...film.saved import saved_settings
from ...film.timeline import TIME, Timeline
from ...options import Kind, Settings, number, whole
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_end, add_guide, add_jobs, add_mask, add_option, add_priors, add_quality, \
    add_steps, of_kind, settings_of, whole_number
from ..saved import Entry, Form, add_settings, is_kind

KEEP = number("a number from 0 to 1", lambda v: 0 <= v <= 1)
FADE = number("a number from 0 to 1000", lambda v: 0 <= v <= 1000)
RATE = Kind("a number like 25 or 29.97, or a fraction like 30000/1001, from 1/1000 to 1000", Fraction,
            lambda v: isinstance(v, Fraction) and Fraction(1, 1000) <= v <= 1000)
STEPS = whole(1)


def _is_rate(value):
    """Return whether the text of a frame rate in metadata is one."""
    try:
        return RATE.accepts(RATE.parse(value))
    except (TypeError, ValueError, ZeroDivisionError):
        return False


SAVED = Form("a dream", ("seed", "end"), {
    "steps": Entry("steps", is_kind(STEPS)), "keep": Entry("keep", is_kind(KEEP)), "fade": Entry("fade", is_kind(FADE)),
    "flow": Entry("flow", lambda v: v in FLOWS), "from": Entry("start_time", is_kind(TIME)),
    "to": Entry("stop_time", is_kind(TIME)), "fps": Entry("fps", _is_rate, Fraction)}, guide="guide",
    read=saved_settings)


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("film", metavar="FILM", help="the film: a movie, an animated GIF or WebP, or a folder of "
                        "pictures")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the film to write: .mp4, .mov, .mkv, "
                        ".webm, .gif or .webp, or a folder for pictures")
    group = parser.add_argument_group("the film")
    group.add_argument("--keep", type=of_kind(KEEP), metavar="X", help="the part of the detail that a frame takes over "
                       "from the one before (default: 1 - steps / iter-n; with more, the dream changes less from frame "
                       "to frame)")
    group.add_argument("--steps", type=of_kind(STEPS), metavar="N", default=1, help="number of steps in each octave "
                       "of a frame that takes over detail; --iter-n is for the others (default: 1)")
    group.add_argument("--flow", choices=FLOWS, default="dis", help="how motion is found: by DIS optical flow, or "
                       "none, for a camera that stands still (default: dis)")
    group.add_argument("--fade", type=of_kind(FADE), metavar="SECONDS", default=1.0, help="how long one END takes to "
                       "replace another, with --end A --end B@5s (default: 1)")
    group.add_argument("--from", type=of_kind(TIME), metavar="TIME", dest="start_time", help="begin with this time of "
                       "the film: 5, 2.5s, 1:30 or 1:02:30")
    group.add_argument("--to", type=of_kind(TIME), metavar="TIME", dest="stop_time", help="end before this time of the "
                       "film")
    group.add_argument("--fps", type=of_kind(RATE), metavar="X", help="frames a second, like 25 or 30000/1001: of the "
                       "dream, for which frames of a movie are repeated or left out (default: those of the film); of a "
                       "folder of pictures (default: 25)")
    add_option(group, "size", "that of the film")
    add_option(group, "stretch")
    group.add_argument("--codec", metavar="NAME", help="encoder of the movie, by FFmpeg's name (default: libx264; for "
                       ".webm libvpx-vp9; with an alpha channel prores_ks for .mov and ffv1 for .mkv)")
    group.add_argument("--crf", type=whole_number(0, 63), metavar="N", help="quality of the movie, lower is better "
                       "(default: 18 with libx264)")
    group.add_argument("--without", choices=("audio", "subtitle"), nargs="+", default=[], help="do not copy the film's "
                       "sound, or its subtitles")
    group.add_argument("--work", metavar="FOLDER", help="the work folder, which is then not deleted (default: "
                       "OUT.work)")
    add_jobs(group, "shots to dream", ", whose workers dream the shots")
    add_model(parser)
    add_pixels(parser)
    add_end(parser)
    add_guide(parser)
    add_mask(parser)
    add_steps(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> None:
    """Run this command."""
    from ...film.making import Part, planned_film
    from ...film.opening import open_film
    from ...film.targets import target_of
    from ...film.work import Work
    from ..film import Planning, check_output, dream_and_write
    from ..stopping import goes_on
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args, SAVED)
        if "frame_size" not in SAVED.read(Path(args.settings)):      # the size of a picture says nothing about a film
            base = base.replace(start=None, noise=None, size=None, stretch=False)
    if args.mask_edge is not None and not args.mask:
        raise DreamError("--mask-edge: there is no mask; give --mask PICTURE too")
    if args.start_time is not None and args.stop_time is not None and args.start_time >= args.stop_time:
        raise DreamError(f"--to {args.stop_time:g}: is not after --from {args.start_time:g}")
    source = open_film(args.film, args.fps)
    target = target_of(args.output, args.codec, args.crf, tuple(args.without), args.quality)
    check_output(args, source, target)
    work = Work(args.work or f"{args.output.rstrip('/')}.work")
    recipe, metadata, net = _recipe(args, base, source, target, work)
    part = Part(args.start_time, args.stop_time, None if Path(args.film).is_dir() else args.fps)
    with goes_on(), work.alone():
        with Planning(source) as progress:
            plan = planned_film(source, work, part, args.flow, metadata, progress.frame)
        dream_and_write(args, recipe, metadata, net, source, target, work, plan)


def _recipe(args, base, source, target, work):
    """Check everything that can be checked before the work. Returns the recipe, the metadata and the net."""
    from ...film.shot import Recipe
    from ...film.steady import check_motion
    from ..film import checked_settings, files, size_of
    settings = settings_of(args, base)
    ends = Timeline.of(settings.end, args.fade).ends if settings.end else ()
    net = net_of(args, ends, settings.fast)
    settings = settings.replace(end=settings.end or (net.default_end,))
    check_motion(settings.iter_n, args.steps, args.keep, args.flow)
    size = size_of(settings, source, target)
    target.check_size(*size, source.transparent and target.keeps_alpha)
    begun = work.facts()
    settings = checked_settings(args, net, settings, size, begun)
    guide, mask = (Path(name).read_bytes() if name else None for name in (args.guide, args.mask))
    recipe = Recipe(net.files.arguments, settings, str(Path(args.film).absolute()), str(work.path.absolute()), size,
                    args.steps, args.keep, args.flow, args.fade, args.fps if source.path.is_dir() else None,
                    source.transparent and target.keeps_alpha, guide, mask, args.device, args.threads)
    return recipe, files(args, net, recipe), net
