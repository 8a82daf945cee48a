"""Dream a picture: gradient ascent on what one layer of a net sees in it, over octaves.

    deepdream dream                                            a sky by formula, with the net that comes along
    deepdream dream cat.jpg -o out.jpg --end inception_4d/output
    deepdream dream cat.jpg -o out.png --model bvlc_googlenet --guide flowers.jpg --end inception_3b/output
    deepdream dream cat.jpg -o out.jpg --model my/folder       (with a deploy.prototxt and a caffemodel in it)
    deepdream dream cat.jpg -o out.jpg --model net.onnx        (any image classifier; `net.toml` beside it tells more)
    deepdream dream photos/ -o dreams/                         every picture of a folder; what is there is kept
    deepdream dream cat.jpg --end inception_4c/output --end inception_3b/output:0.3    two layers, weighed
    deepdream dream cat.jpg --end "inception_4d/3x3[13,17]"    two channels; [13@0.5,0.5]: one neuron
    deepdream dream cat.jpg --end class:samoyed                a class of the net's classifier
    deepdream dream --start noise --size 640x480 --tv 0.3      from noise, kept smooth
    deepdream dream cat.jpg --settings out.jpg                 as out.jpg was dreamt; other options win
"""
import sys
from pathlib import Path

from ...convert.console import one_line
from ...errors import DreamError
from ...options import Settings
from ...provenance import differences, is_dream, machine, provenance
from ..nets import add_model, add_pixels
from ..options import add_device, add_end, add_priors, add_quality, add_starts, add_steps
from ..output import check_outputs, make_folder, output_of, save_output
from ..ready import check_start, checked_sizes, net_and_settings, step_of, with_seed


def arguments(parser):
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF, or a folder of "
                        "them (a sky by formula)")
    parser.add_argument("-o", "--output", metavar="OUT", help="where the dream goes: .jpg, .png, .webp or .tif; the "
                        "settings are written into it (dream.jpg, or the next free number)")
    add_model(parser)
    add_pixels(parser)
    add_end(parser)
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    add_steps(parser)
    add_starts(parser)
    add_priors(parser)
    add_device(parser)
    add_quality(parser)
    parser.add_argument("--log", metavar="CSV", help="write octave, step, objective, mean |gradient|, jitter and "
                        "milliseconds of each step")
    parser.add_argument("--plot", metavar="PICTURE", help="draw them")
    parser.add_argument("--settings", metavar="PICTURE", help="take the settings, the seed among them, from a picture "
                        "that was dreamt here; options that are given win")


def run(args):
    check_start(args)
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args)
    return (dream_folder if args.picture and Path(args.picture).is_dir() else dream_picture)(args, base)


def dream_picture(args, base):
    """Dream one picture. base: settings that are not among the arguments."""
    from ... import pictures
    output = output_of(args, "dream.jpg")
    check_outputs({"-o": output, "--log": args.log, "--plot": args.plot}, [args.picture, args.guide, args.settings])
    image = pictures.load(args.picture) if args.picture else None
    guide = pictures.load(args.guide) if args.guide else None

    import numpy as np

    from ...dream import deepdream, visible
    from ...goals.text import goals
    from ...pictures.starts import start_size, starting_picture
    from ..progress import Progress
    from ..runlog import RunLog
    net, settings = net_and_settings(args, base)
    if args.settings:
        from ..replay import say_differences
        say_differences(args.settings, net, args.threads)
    settings, chosen = with_seed(settings), goals(net, settings, guide)
    sizes = checked_sizes(net, settings, chosen, start_size(settings, image))
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
    record = provenance(net, settings.to_metadata(), picture=_name(args.picture), guide=_name(args.guide),
                        **machine(net))
    output = save_output(visible(dream, settings.clip), args, "dream.jpg", record)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {' + '.join(settings.end)}, seed {settings.seed}")
    if not (args.picture or args.start or args.output or args.model):
        print("next: python -m deepdream dream YOUR_PICTURE.jpg -o out.jpg --end inception_4d/output, "
              "or --model mini_places")


def _name(path):
    return path and Path(path).name


def dream_folder(args, base):
    """Dream every picture of a folder into another one, under the same names (`targets_of`).

    A picture that fails is reported and does not stop the others (exit code 2 at the end); a dream that was made with the
    same settings is kept.
    """
    from ... import pictures
    folder, output = Path(args.picture), Path(args.output or "")
    sources = _sources(args, folder, output)
    targets = targets_of(sources, output)
    for path, target in targets.items():
        pictures.refuse_inputs(target, path, args.guide)
    there = [target for target in targets.values() if target.exists()]
    strange = [target for target in there if not is_dream(target)]
    if strange and strange == there:
        raise DreamError(f"-o {output}: would overwrite {strange[0]}, which is no dream; give another folder")

    from tqdm import tqdm

    from ...batch.jobs import Here
    from ...dream import check_layers
    from ...engine import tiles
    from ...goals.text import goals
    net, settings = net_and_settings(args, base)
    guide = Path(args.guide).read_bytes() if args.guide else None
    chosen = goals(net, settings, pictures.load(args.guide) if args.guide else None)
    check_layers(net, step_of(settings, chosen))
    tiles.check_tiles(net, step_of(settings, chosen))
    counts = {"made": 0, "kept": 0, "failed": 0}
    with Here() as here, tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(path.name)
            try:
                if targets[path] in strange:
                    raise DreamError(f"would overwrite {targets[path]}, which is no dream, or a damaged one")
                counts[_dream_one(args, net, settings, chosen, path, targets[path], guide, here)] += 1
            except DreamError as error:
                counts["failed"] += 1
                message = str(error) if str(path) in str(error) else f"{path}: {error}"
                bar.write(f"deepdream: {one_line(message)}", file=sys.stderr)
    print(f"{output}: {counts['made']} dreams made, {counts['kept']} kept, {counts['failed']} failed, {net.name} at "
          + " + ".join(settings.end))
    return 2 if counts["failed"] else 0


def _sources(args, folder, output):
    """The pictures of a folder. Raises DreamError where a folder cannot be dreamt so."""
    from ... import pictures
    for option in ("log", "plot"):
        if getattr(args, option):
            raise DreamError(f"--{option}: {folder} is a folder; only the dream of one picture has it")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        raise DreamError(f"-o {args.output or ''}: {folder} is a folder, so give another folder for its dreams")
    formats = (*pictures.FORMATS, *pictures.ONLY_READ)
    sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in formats and p.is_file())
    if not sources:
        raise DreamError(f"{folder}: holds no picture ({', '.join(formats)})")
    return sources


def _dream_one(args, net, settings, chosen, path, target, guide, here):
    """Dream one picture of a folder, unless that was done: 'made' or 'kept'. Raises DreamError where it fails."""
    import hashlib

    from ... import pictures
    from ...batch.jobs import Job
    from ...pictures.starts import start_size
    sizes = checked_sizes(net, settings, chosen, start_size(settings, pictures.load(path)))
    pictures.check_size(target, *sizes[-1])
    but = ("seed",) if settings.seed is None else ()       # one that was drawn is as good as another
    data, settings = path.read_bytes(), with_seed(settings)
    sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
            "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
    record = provenance(net, settings.to_metadata(), picture=path.name, guide=_name(args.guide), **sums)
    there = pictures.settings_if_any(target)
    if there and not differences(there, record, but):
        return "kept"
    make_folder(target.parent)
    pictures.check_target(target)
    result = here.make(Job(net.files.arguments, settings, data, guide, net.device.name, args.threads))
    if result.error:
        raise DreamError(result.error)
    record |= {"device": result.device, "threads": result.threads}
    pictures.save(result.picture, target, record, args.quality)
    return "made"


def targets_of(sources, output):
    """{picture: its dream} in the folder `output`: of the same name; .png for what is not written (BMP, GIF, PPM),
    after the whole name where another picture has that one."""
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
