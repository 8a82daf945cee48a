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
import re
import sys
from pathlib import Path

from ...convert.console import one_line
from ...convert.errors import shown
from ...convert.files import free_names
from ...errors import DreamError
from ...goals.text import recipe
from ..nets import MODEL, model_option, net_of, pixel_options
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
)
from ..record import end_texts, is_dream, made_so, record_of, say_differences

SIZE = (1024, 575)      # of a dream that starts from grey or noise
MOST = 178956970        # pixels of a dream: Pillow reads no picture that has more


def arguments(parser):
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF, or a folder of "
                        "them (a sky by formula)")
    parser.add_argument("-o", "--output", metavar="OUT", help="where the dream goes: .jpg, .png, .webp or .tif; the "
                        "settings are written into it (dream.jpg, or the next free number)")
    model_option(parser)
    pixel_options(parser)
    end_option(parser)
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    options(parser)
    start_options(parser)
    prior_options(parser)
    device_options(parser)
    fast_option(parser)
    quality_option(parser)
    parser.add_argument("--log", metavar="CSV", help="write octave, step, objective, mean |gradient|, jitter and "
                        "milliseconds of each step")
    parser.add_argument("--plot", metavar="PICTURE", help="draw them")
    parser.add_argument("--settings", metavar="PICTURE", help="take the settings, the seed among them, from a picture "
                        "that was dreamt here; options that are given win")


def end_option(parser):
    parser.add_argument("--end", metavar="END", action="append", help="what grows: a layer (`deepdream layers` lists "
                        "them), some of its channels NAME[13,17], a neuron NAME[13@0.5,0.5], class:LABEL; several "
                        "times, and each with a weight, NAME:0.3 (the model's own choice, mostly inception_4c/output)")


def start_options(parser, start=None, usual=f"the picture's own, or {SIZE[0]}x{SIZE[1]}"):
    group = parser.add_argument_group("starts")
    group.add_argument("--start", choices=("grey", "noise"), default=start, help="grey, or noise by the seed "
                       f"({start or 'a picture'})")
    group.add_argument("--size", type=size, metavar="WxH", help=f"of the dream; a picture is scaled to it ({usual})")
    group.add_argument("--noise", type=number(float, "a number from 0 to 255", lambda v: 0 <= v <= 255), nargs=2,
                       metavar=("MEAN", "SPREAD"), help="mean and standard deviation of the noise (128 20)")


def size(text):
    """An argparse type: 640x480 as [640, 480]."""
    import argparse
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", text.lower())
    w, h = map(int, found.groups()) if found else (0, 0)
    if not 0 < w * h <= MOST:
        raise argparse.ArgumentTypeError(f"'{shown(text)}' is not a size like 640x480, of at most {MOST // 10 ** 6} "
                                         "million pixels")
    return [w, h]


def check_start(args):
    """Raise DreamError for starts that contradict each other."""
    if getattr(args, "picture", None) and args.start:
        raise DreamError(f"--start {args.start}: there is a picture to start from, {args.picture}; leave out one")
    if args.noise and args.start != "noise":
        raise DreamError("--noise: only a dream that starts from noise has it; give --start noise")


def run(args):
    check_start(args)
    if args.picture and Path(args.picture).is_dir():
        return dream_folder(args)
    from ... import pictures
    output = output_of(args, "dream.jpg")
    pictures.check_target(output)
    read = [args.picture, args.guide, args.settings]
    pictures.refuse_inputs(output, *read)
    for path, option, check, others in ((args.log, "--log", pictures.check_file, [output]),
                                        (args.plot, "--plot", pictures.check_target, [output, args.log])):
        if path:
            check(path, option)
            pictures.refuse_inputs(path, *read, option=option)
            if any(o and Path(path).resolve() == Path(o).resolve() for o in others):
                raise DreamError(f"{option} {path}: another file of this run has that name")
    image = pictures.load(args.picture) if args.picture else None
    guide = pictures.load(args.guide) if args.guide else None

    import numpy as np

    from ...dream import deepdream, visible
    from ..progress import Progress
    from ..runlog import RunLog
    net = net_of(args, args.end)
    if args.settings:
        say_differences(args.settings, net, args.threads)
    settings, priors = settings_of(args), priors_of(args)
    seed = seed_of(args)
    plan = recipe(net, args.end, guide, priors)
    sizes = checked_sizes(net, plan, start_size(image, args), settings)
    pictures.check_size(output, *sizes[-1])
    image = starting_from(image, args, seed)
    log = RunLog()
    try:
        with Progress(sizes, args.iter_n) as progress:
            def on_step(*step):
                log.step(*step)
                progress.step(*step)
            dream = deepdream(net, image, on_step=on_step, rng=np.random.RandomState(seed), **settings, **plan)
    finally:
        if log.rows:
            log.save(args.log, args.plot)
    record = record_of(net, args, seed, settings, priors)
    output = save_output(visible(dream, settings["clip"]), args, "dream.jpg", record)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {' + '.join(end_texts(net, args))}, seed {seed}")
    if not args.picture and not args.start and args.output is None and args.model == MODEL:
        print("next: python -m deepdream dream YOUR_PICTURE.jpg -o out.jpg --end inception_4d/output, "
              "or --model mini_places")


def start_size(image, args):
    """(h, w) of the picture that a dream starts from."""
    return image.shape[:2] if image is not None and not args.size else (args.size or SIZE)[::-1]


def starting_from(image, args, seed):
    """The picture that a dream starts from, (H, W, 3). image: the user's, or None."""
    from ...pictures import starts
    h, w = start_size(image, args)
    if args.start == "noise":
        return starts.noise(h, w, seed, *(args.noise or starts.NOISE))
    if args.start == "grey":
        return starts.grey(h, w)
    if image is None:
        return default_picture(h, w)
    return starts.resized(image, h, w) if args.size else image


def dream_folder(args):
    """Dream every picture of a folder into another one, under the same names (`targets_of`). A picture that fails is
    told of and does not stop the others (exit code 2 at the end); a dream that was made with the same settings is
    kept."""
    from ... import pictures
    folder, output = Path(args.picture), Path(args.output or "")
    for option in ("log", "plot"):
        if getattr(args, option):
            raise DreamError(f"--{option}: {folder} is a folder; only the dream of one picture has it")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        raise DreamError(f"-o {args.output or ''}: {folder} is a folder, so give another folder for its dreams")
    formats = (*pictures.FORMATS, *pictures.ONLY_READ)
    sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in formats and p.is_file())
    if not sources:
        raise DreamError(f"{folder}: holds no picture ({', '.join(formats)})")
    targets = targets_of(sources, output)
    for path, target in targets.items():
        pictures.refuse_inputs(target, path, args.guide)
    there = [target for target in targets.values() if target.exists()]
    strange = [target for target in there if not is_dream(target)]
    if strange and strange == there:
        raise DreamError(f"-o {output}: would overwrite {strange[0]}, which is no dream; give another folder")

    import hashlib

    from tqdm import tqdm

    from ...batch import jobs
    from ...dream import check_layers
    from ...engine import tiles
    from ...engine.step import Step
    net = net_of(args, args.end)
    ends, settings, priors = end_texts(net, args), settings_of(args), priors_of(args)
    guide = Path(args.guide).read_bytes() if args.guide else None
    plan = recipe(net, ends, pictures.load(args.guide) if args.guide else None, priors)
    step = Step(plan["objective"], args.clip, plan["priors"], args.tile)
    check_layers(net, step)
    tiles.check(net, step)
    new = kept = failed = 0
    with jobs.Here(), tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(path.name)
            try:
                if targets[path] in strange:
                    raise DreamError(f"would overwrite {targets[path]}, which is no dream, or a damaged one")
                sizes = checked_sizes(net, plan, start_size(pictures.load(path), args), settings)
                pictures.check_size(targets[path], *sizes[-1])
            except DreamError as error:
                failed += 1
                said = str(error)
                said = said if str(path) in said else f"{path}: {said}"
                bar.write(f"deepdream: {one_line(said)}", file=sys.stderr)
                continue
            seed = seed_of(args)
            target, data = targets[path], path.read_bytes()
            sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
                    "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
            record = record_of(net, args, seed, settings, priors) | sums | {"picture": path.name}
            if made_so(target, record, args.seed is None):
                kept += 1
                continue
            make_folder(output)
            pictures.check_target(target)
            result = jobs.make({"model": net.files.arguments, "end": ends, "settings": settings, "priors": priors,
                                "seed": seed, "picture": data, "size": args.size, "guide": guide,
                                "device": net.device.name, "fast": args.fast, "threads": args.threads})
            if "error" in result:
                failed += 1
                bar.write(f"deepdream: {one_line(f'{path}: ' + result['error'])}", file=sys.stderr)
            else:
                new += 1
                pictures.save(result["picture"], target, record, args.quality)
    print(f"{output}: {new} dreams made, {kept} kept, {failed} failed, {net.name} at "
          + " + ".join(ends))
    return 2 if failed else 0


def targets_of(sources, output):
    """{picture: its dream} in the folder `output`: of the same name; .png for what is not written (BMP, GIF, PPM),
    behind the whole name where another picture has that one."""
    from ...pictures.files import ONLY_READ
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


def checked_sizes(net, plan, size, settings):
    """(h, w) of the octaves of a picture of a size (h, w). Raises what `deepdream` would, before anything is made: for
    an unknown layer, for a picture that is too small for it in the smallest octave, and for one that is too large for
    the memory. plan: from `recipe`."""
    from ...dream import check_dream, octave_sizes
    from ...engine import memory, tiles
    from ...engine.step import Step
    sizes = octave_sizes(*size, settings["octave_n"], settings["octave_scale"])
    step = Step(plan["objective"], settings["clip"], plan["priors"], settings.get("tile"))
    check_dream(net, step, sizes)
    tiles.check(net, step, sizes)
    memory.check(net, step, sizes[-1])
    return sizes


def make_folder(path):
    """Make the folder of -o, if it is not there. Raises DreamError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be made: {error.strerror}") from None


def default_picture(height, width):
    """The sky by formula, (height, width, 3). It takes a second, so it is kept under a checksum of the formula."""
    import numpy as np

    from ... import pictures
    from ...runtime.cache import cached, key

    def make():
        from ...pictures.sky import formula_sky
        return np.uint8(formula_sky(height, width)).tobytes()

    formula = Path(pictures.__file__).with_name("sky.py")
    data = cached(f"{key(formula.read_bytes(), height, width)}.sky", make)
    return np.frombuffer(data, np.uint8).reshape(height, width, 3).astype(np.float32)


def output_of(args, usual):
    """Where the picture goes: -o, or the first free name of `usual`, dream-2.jpg, dream-3.jpg ... as things are now."""
    return Path(args.output) if args.output else next(free_names(usual))


def save_output(picture, args, usual, record):
    """Write the picture and return where: another process may have taken the name that `output_of` told of."""
    from ... import pictures
    if not args.output:
        return pictures.save_new(picture, usual, record, args.quality)
    pictures.save(picture, args.output, record, args.quality)
    return output_of(args, usual)
