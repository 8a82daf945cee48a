"""Dream a picture: exaggerate what a layer of a net sees in it, by gradient ascent over several octaves.

    deepdream dream                                            a computed sky, with the net mini_imagenet
    deepdream dream cat.jpg -o out.jpg --end inception_4d/output
    deepdream dream cat.jpg -o out.png --model bvlc_googlenet --guide flowers.jpg --end inception_3b/output
    deepdream dream cat.jpg --model my/folder                  a Caffe net: deploy.prototxt and a .caffemodel
    deepdream dream cat.jpg --model net.onnx                   any image classifier in ONNX
    deepdream dream photos/ -o dreams/                         every picture in a folder
    deepdream dream cat.jpg --end inception_4c/output --end inception_3b/output:0.3      two layers, with weights
    deepdream dream cat.jpg --end "inception_4d/3x3[13,17]"    two channels of a layer
    deepdream dream cat.jpg --end class:samoyed                a class of the net's classifier
    deepdream dream --start lake --end inception_4d/output     a computed lake instead of the sky
    deepdream dream --start noise --size 640x480 --tv 0.3      from noise, with smooth areas
    deepdream dream cat.jpg --mask sky.png                     only where sky.png is white
    deepdream dream cat.jpg --settings out.jpg                 with the settings of out.jpg

In a folder, dreams that exist already and were made with the same settings are not made again.
"""
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from ...convert.console import one_line
from ...errors import DreamError
from ...options import Settings
from ...provenance import differences, is_dream, machine, provenance
from ..nets import add_model, add_pixels
from ..options import add_device, add_end, add_option, add_priors, add_quality, add_starts, add_steps
from ..output import check_outputs, make_folder, output_of, save_output
from ..ready import check_start, checked_sizes, net_and_settings, step_of, with_seed


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture to dream: JPEG, PNG, WebP or TIFF, "
                        "or a folder of such pictures (default: a computed sky)")
    parser.add_argument("-o", "--output", metavar="OUT", help="the picture file to write: .jpg, .png, .webp or .tif; "
                        "the settings are saved in its metadata (default: dream.jpg, or dream-2.jpg and so on if it "
                        "exists). For a folder of pictures, the folder for the dreams")
    add_model(parser)
    add_pixels(parser)
    add_end(parser)
    parser.add_argument("--guide", metavar="PICTURE", help="let the dream follow what the net sees in this picture")
    parser.add_argument("--mask", metavar="PICTURE", help="dream only where this picture is white; where it is black, "
                        "nothing changes, and grey is in between. It is scaled to the size of the dream")
    add_option(parser, "mask_edge")
    add_steps(parser)
    add_starts(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)
    parser.add_argument("--log", metavar="CSV", help="write a table with the octave, objective, mean |gradient|, "
                        "jitter and time of each step")
    parser.add_argument("--plot", metavar="PICTURE", help="draw objective, mean |gradient| and time of each step")
    parser.add_argument("--settings", metavar="PICTURE", help="use the settings that are saved in a picture dreamt "
                        "with this program, including the seed; other options on the command line take precedence")


def run(args: Namespace) -> int | None:
    """Run this command. Returns its exit code; None means 0."""
    check_start(args)
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args)
    if args.mask_edge is not None and not args.mask:
        raise DreamError("--mask-edge: there is no mask; give --mask PICTURE too")
    return (dream_folder if args.picture and Path(args.picture).is_dir() else dream_picture)(args, base)


def dream_picture(args: Namespace, base: Settings) -> None:
    """Dream one picture.

    args: parsed arguments.
    base: the settings to take where the command line specifies nothing.
    """
    from ... import pictures
    output = output_of(args, "dream.jpg")
    check_outputs({"-o": output, "--log": args.log, "--plot": args.plot},
                  [args.picture, args.guide, args.mask, args.settings])
    image = pictures.load(args.picture) if args.picture else None
    guide = pictures.load(args.guide) if args.guide else None

    import numpy as np

    from ...dream import deepdream, visible
    from ...goals.text import goals
    from ...pictures.mask import load_mask
    from ...pictures.starts import start_size, starting_picture
    from ..progress import Progress
    from ..runlog import RunLog
    net, settings = net_and_settings(args, base)
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, net, args.threads)
    size = start_size(settings, image)
    mask = load_mask(args.mask, *size, settings.mask_edge) if args.mask else None
    settings, chosen = with_seed(settings), goals(net, settings, guide, mask)
    sizes = checked_sizes(net, settings, chosen, size)
    pictures.check_size(output, *sizes[-1])
    image, log = starting_picture(settings, image), RunLog()
    try:
        with Progress(sizes, settings.iter_n) as progress:
            def on_step(*step):
                log.step(*step)
                progress.step(*step)
            dream = deepdream(net, image, on_step=on_step, rng=np.random.RandomState(settings.seed), **settings.steps,
                              **chosen)
    finally:
        if log.rows:
            log.save(args.log, args.plot)
    metadata = provenance(net, settings.to_metadata(), picture=_name(args.picture), guide=_name(args.guide),
                          **_mask_name(args), **machine(net))
    output = save_output(visible(dream, settings.clip), args, "dream.jpg", metadata)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {' + '.join(settings.end)}, seed {settings.seed}")
    if not (args.picture or args.start or args.output or args.model):
        print("next: deepdream YOUR_PICTURE.jpg -o out.jpg --end inception_4d/output, or with --model mini_places")


def _name(path):
    return path and Path(path).name


def _mask_name(args):
    return {"mask": _name(args.mask)} if args.mask else {}


def dream_folder(args: Namespace, base: Settings) -> int:
    """Dream every picture of a folder into another folder, under the names that `targets_of` chooses.

    args: parsed arguments; `picture` is the folder.
    base: the settings to take where the command line specifies nothing.

    A picture that fails is reported and does not stop the others. A dream that exists and was made with the same
    settings is not made again. Returns the exit code: 2 if a picture failed, else 0.
    """
    from ... import pictures
    folder, output = Path(args.picture), Path(args.output or "")
    sources = _sources(args, folder, output)
    targets = targets_of(sources, output)
    for path, target in targets.items():
        pictures.refuse_inputs(target, path, args.guide, args.mask)
    existing = [target for target in targets.values() if target.exists()]
    foreign = [target for target in existing if not is_dream(target)]
    if foreign and foreign == existing:
        raise DreamError(f"-o {output}: would overwrite {foreign[0]}, which is not a dream; give another folder")

    from tqdm import tqdm

    from ...batch.jobs import InProcess
    from ...dream import check_layers
    from ...engine import tiles
    from ...goals.text import goals
    net, settings = net_and_settings(args, base)
    guide, mask = (Path(name).read_bytes() if name else None for name in (args.guide, args.mask))
    chosen = goals(net, settings, pictures.load(args.guide) if args.guide else None)
    check_layers(net, step_of(settings, chosen))
    tiles.check_tiles(net, step_of(settings, chosen))
    counts = {"made": 0, "kept": 0, "failed": 0}
    with InProcess() as executor, tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(path.name)
            try:
                if targets[path] in foreign:
                    raise DreamError(f"would overwrite {targets[path]}, which is not a dream, or a damaged one")
                counts[_dream_one(args, net, settings, chosen, path, targets[path], guide, mask, executor)] += 1
            except DreamError as error:
                counts["failed"] += 1
                message = str(error) if str(path) in str(error) else f"{path}: {error}"
                bar.write(f"deepdream: {one_line(message)}", file=sys.stderr)
    print(f"{output}: {counts['made']} dreams made, {counts['kept']} kept, {counts['failed']} failed, {net.name} at "
          + " + ".join(settings.end))
    return 2 if counts["failed"] else 0


def _sources(args, folder, output):
    """Return the pictures of a folder. Raises DreamError for options that do not go with a folder."""
    from ... import pictures
    for option in ("log", "plot"):
        if getattr(args, option):
            raise DreamError(f"--{option}: {folder} is a folder; this option is only for the dream of one picture")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        raise DreamError(f"-o {args.output or ''}: {folder} is a folder, so give another folder for its dreams")
    formats = (*pictures.FORMATS, *pictures.ONLY_READ)
    sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in formats and p.is_file())
    if not sources:
        raise DreamError(f"{folder}: holds no picture ({', '.join(formats)})")
    return sources


def _dream_one(args, net, settings, chosen, path, target, guide, mask, executor):
    """Dream one picture of a folder. Returns 'made', or 'kept' if it was made before. Raises DreamError if it fails."""
    import hashlib

    from ... import pictures
    from ...batch.jobs import Job
    from ...pictures.starts import start_size
    sizes = checked_sizes(net, settings, chosen, start_size(settings, pictures.load(path)))
    pictures.check_size(target, *sizes[-1])
    ignored = ("seed",) if settings.seed is None else ()       # a seed that was drawn may be any
    data, settings = path.read_bytes(), with_seed(settings)
    sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
            "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
    if mask:
        sums |= {"mask": _name(args.mask), "mask_sha256": hashlib.sha256(mask).hexdigest()}
    metadata = provenance(net, settings.to_metadata(), picture=path.name, guide=_name(args.guide), **sums)
    existing = pictures.settings_if_any(target)
    if existing and not differences(existing, metadata, ignored):
        return "kept"
    make_folder(target.parent)
    pictures.check_target(target)
    result = executor.make(Job(net.files.arguments, settings, data, guide, net.device.name, args.threads, mask))
    if result.error:
        raise DreamError(result.error)
    metadata |= {"device": result.device, "threads": result.threads}
    pictures.save(result.picture, target, metadata, args.quality)
    return "made"


def targets_of(sources: Sequence[Path], output: Path) -> dict[Path, Path]:
    """Choose the file names of the dreams of a folder.

    sources: the pictures.
    output: the folder for the dreams.

    Returns {picture: its dream}. A dream has the name of its picture. A picture in a format that is not written (BMP,
    GIF, PPM) becomes a .png: a.bmp becomes a.png or, if another picture takes that name, a.bmp.png.
    """
    from ...pictures import ONLY_READ
    targets = {p: output / p.name for p in sources if p.suffix.lower() not in ONLY_READ}
    taken = {target.name.casefold() for target in targets.values()}
    for path in sources:
        if path not in targets:
            name = f"{path.stem}.png"
            if name.casefold() in taken:
                name = f"{path.name}.png"
            taken.add(name.casefold())
            targets[path] = output / name
    return targets
