"""Dream a picture: exaggerate what a layer of a net sees in it, by gradient ascent over several octaves.

    deepdream dream                                            a computed sky, with the net mini_imagenet
    deepdream dream cat.jpg -o out.jpg --end inception_4d/output
    deepdream dream cat.jpg -o out.png --model bvlc_googlenet --guide flowers.jpg --end inception_3b/output
    deepdream dream cat.jpg --model my/folder                  a Caffe net: deploy.prototxt and a .caffemodel
    deepdream dream cat.jpg --model net.onnx                   any image classifier in ONNX
    deepdream dream photos/ -o dreams/                         every picture in a folder
    deepdream dream photos/ -o dreams/ --recursive             and in its subfolders
    deepdream dream cat.jpg -o new/out.jpg --size 1024         1024 pixels at the longest side, in a new folder
    deepdream dream cat.jpg --end inception_4c/output --end inception_3b/output:0.3      two layers, with weights
    deepdream dream cat.jpg --end "inception_4d/3x3[13,17]"    two channels of a layer
    deepdream dream cat.jpg --end class:samoyed                a class of the net's classifier
    deepdream dream --start lake --end inception_4d/output     a computed lake instead of the sky
    deepdream dream --start noise --size 640x480 --tv 0.3      from noise, with smooth areas
    deepdream dream cat.jpg --mask sky.png                     only where sky.png is white
    deepdream dream --settings out.jpg                         the dream of out.jpg again
    deepdream dream dog.jpg --settings out.jpg                 another picture with the settings of out.jpg

Ctrl-C saves the picture so far as NAME.partial.EXT; a second Ctrl-C ends the command at once. In a folder, dreams that
exist already and were made with the same settings are not made again.

Colours are converted to sRGB by the picture's colour profile. The dream of a transparent picture is one of its colours
if it is written as PNG, WebP or TIFF, where it keeps the alpha channel; otherwise the picture is put on white. A dream
also keeps the picture's EXIF (camera, date, author, copyright and, if it was there, the place), but not its thumbnail
and the maker's private note.
"""
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ...options import Settings
from ...provenance import files_of, machine, provenance
from ..nets import add_model, add_pixels
from ..options import add_device, add_end, add_guide, add_mask, add_priors, add_quality, add_starts, add_steps
from ..output import check_outputs, make_parent, output_of, save_output, save_partial
from ..ready import announce_time, check_start, checked_sizes, net_and_settings, with_seed
from ..saved import Form, add_settings

SAVED = Form("a dream", ("seed", "end"), guide="guide")


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture to dream: JPEG, PNG, WebP or TIFF, "
                        "or a folder of such pictures (default: a computed sky)")
    parser.add_argument("-o", "--output", metavar="OUT", help="the picture file to write: .jpg, .png, .webp or .tif; "
                        "the settings are saved in its metadata; missing folders are made, and an older dream is "
                        "replaced (default: dream.jpg, or dream-2.jpg and so on if it exists). For a folder of "
                        "pictures, the folder for the dreams")
    parser.add_argument("--recursive", action="store_true", help="with a folder of pictures: dream those in its "
                        "subfolders, too, into the same subfolders of OUT")
    add_model(parser)
    add_pixels(parser)
    add_end(parser)
    add_guide(parser)
    add_mask(parser)
    add_steps(parser)
    add_starts(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)
    parser.add_argument("--log", metavar="CSV", help="write a table with the octave, objective, mean |gradient|, "
                        "jitter and time of each step")
    parser.add_argument("--plot", metavar="PICTURE", help="draw objective, mean |gradient| and time of each step")
    add_settings(parser, SAVED)


def run(args: Namespace) -> int | None:
    """Run this command. Returns its exit code; None means 0."""
    check_start(args)
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args, SAVED)
    if args.mask_edge is not None and not args.mask:
        raise DreamError("--mask-edge: there is no mask; give --mask PICTURE too")
    if args.picture and Path(args.picture).is_dir():
        from ..folder import dream_folder
        return dream_folder(args, base)
    if args.recursive:
        raise DreamError(f"--recursive: only for a folder of pictures, and {args.picture or 'the sky'} is none")
    return dream_picture(args, base)


def dream_picture(args: Namespace, base: Settings) -> None:
    """Dream one picture. Ctrl-C saves the picture so far.

    args: parsed arguments.
    base: the settings to take where the command line specifies nothing.
    """
    from ... import pictures
    output = output_of(args, "dream.jpg")
    check_outputs({"-o": output, "--log": args.log, "--plot": args.plot},
                  [args.picture, args.guide, args.mask, args.settings])
    source = pictures.read(args.picture) if args.picture else None
    guide = pictures.load(args.guide) if args.guide else None

    from ...dream import visible
    from ...goals.text import goals
    from ...pictures.mask import load_mask
    from ...pictures.starts import start_size, starting_picture
    from ..runlog import RunLog
    from ..stopping import Stop
    net, settings = net_and_settings(args, base)
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, [net], args.threads)
    size = start_size(settings, source and source.size)
    mask = load_mask(args.mask, *size, settings.mask_edge) if args.mask else None
    settings, chosen = with_seed(settings), goals(net, settings, guide, mask)
    sizes = checked_sizes(net, settings, chosen, size)
    pictures.check_size(output, *sizes[-1])
    make_parent(output)
    announce_time(net, settings, chosen, sizes, args.picture or "the dream")
    image = starting_picture(settings, source and source.pixels(pictures.keeps_alpha(output)))
    metadata = provenance(net, settings.to_metadata(), **files_of(picture=args.picture, guide=args.guide),
                          **(files_of(mask=args.mask) if args.mask else {}), **machine(net))
    log, stop = RunLog(), Stop()
    try:
        dream = _dream(net, image, settings, chosen, sizes, log, stop)
    except KeyboardInterrupt:
        if stop.picture is not None:
            _save_partial(args, output, stop, sizes, settings, metadata, source)
        raise
    finally:
        if log.rows:
            log.save(args.log, args.plot)
    output = save_output(visible(dream, settings.clip), args, "dream.jpg", metadata, source)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {' + '.join(settings.end)}, seed {settings.seed}")
    if not (args.picture or args.start or args.output or args.model):
        print("next: deepdream YOUR_PICTURE.jpg -o out.jpg --end inception_4d/output, or with --model mini_places")


def _dream(net, image, settings, chosen, sizes, log, stop):
    """Dream, with a progress bar, a run log and Ctrl-C."""
    import numpy as np

    from ...dream import deepdream
    from ..progress import Progress
    with stop, Progress(sizes, settings.iter_n) as progress:
        def on_step(octave, i, vis, report):
            with stop.after_step(octave, i, vis):
                log.step(octave, i, vis, report)
                progress.step(octave, i, vis, report)
        return deepdream(net, image, on_step=on_step, rng=np.random.RandomState(settings.seed), **settings.steps,
                         **chosen)


def _save_partial(args, output, stop, sizes, settings, metadata, source):
    """Save the picture so far of a dream that was stopped."""
    octave, i = stop.place
    path = save_partial(stop.picture, output, args, metadata | {"partial": [octave + 1, i + 1]}, source)
    h, w = stop.picture.shape[:2]
    print(f"{path}: {w}x{h}, the picture so far: octave {octave + 1} of {len(sizes)}, step {i + 1} of "
          f"{settings.iter_n}", flush=True)
