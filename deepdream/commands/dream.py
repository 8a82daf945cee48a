"""Dream a picture: gradient ascent on what one layer of a net sees in it, over octaves.

    deepdream dream                                            a sky by formula, with the net that comes along
    deepdream dream cat.jpg -o out.jpg --end inception_4d/output
    deepdream dream cat.jpg -o out.png --model bvlc_googlenet --guide flowers.jpg --end inception_3b/output
    deepdream dream cat.jpg -o out.jpg --model my/folder       (with a deploy.prototxt and a caffemodel in it)
    deepdream dream photos/ -o dreams/                         every picture of a folder; what is there is kept
"""
import sys
from pathlib import Path

from ..cli import device_options, options, settings_of
from ..errors import DreamError

MODEL = "mini_imagenet"


def arguments(parser):
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF, or a folder of "
                        "them (a sky by formula)")
    parser.add_argument("-o", "--output", metavar="OUT", help="where the dream goes: .jpg, .png, .webp or .tif; the "
                        "settings are written into it (dream.jpg, or the next free number)")
    model_option(parser)
    parser.add_argument("--end", metavar="LAYER", help="the layer whose activations grow; `deepdream layers` lists "
                        "them (the model's own choice, mostly inception_4c/output)")
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    options(parser)
    device_options(parser)
    parser.add_argument("--quality", type=int, default=95, choices=range(1, 101), metavar="N",
                        help="of JPEG and WebP, 1 to 100 (95)")


def model_option(parser):
    parser.add_argument("--model", default=MODEL, metavar="NAME_OR_FOLDER",
                        help=f"a name from `deepdream models`, or a folder with a prototxt and a caffemodel ({MODEL})")


def run(args):
    if args.picture and Path(args.picture).is_dir():
        return dream_folder(args)
    from .. import pictures
    output = Path(args.output) if args.output else free_name(Path("dream.jpg"))
    pictures.check_target(output)
    pictures.refuse_inputs(output, args.picture, args.guide)
    image = pictures.load(args.picture) if args.picture else default_picture()
    guide = pictures.load(args.guide) if args.guide else None

    import numpy as np

    from ..dream import deepdream, visible
    from ..net import Net
    from ..progress import Progress
    net = Net(args.model, device=args.device, threads=args.threads)
    end, settings = net.default_end if args.end is None else args.end, settings_of(args)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
    sizes = checked_sizes(net, end, image, settings)
    objective = {}
    if guide is not None:
        from ..objectives import objective_guide
        objective = {"objective": objective_guide(net.features(guide, end, "the guide"))}
    np.random.seed(seed)
    with Progress(sizes, args.iter_n) as progress:
        dream = deepdream(net, image, end=end, on_step=progress.step, **settings, **objective)
    record = record_of(net, args, end, seed, settings)
    pictures.save(visible(dream, settings["clip"]), output, record, args.quality)
    h, w = image.shape[:2]
    print(f"{output}: {w}x{h}, {net.name} at {end}, seed {seed}")
    if not args.picture and args.output is None and args.model == MODEL:
        print("next: python -m deepdream dream YOUR_PICTURE.jpg -o out.jpg --end inception_4d/output, "
              "or --model mini_places")


def dream_folder(args):
    """Dream every picture of a folder into another one, under the same names (`targets_of`). A picture that fails is
    told of and does not stop the others (exit code 2 at the end); a dream that was made with the same settings is
    kept."""
    from .. import pictures
    folder, output = Path(args.picture), Path(args.output or "")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        raise DreamError(f"-o {args.output or ''}: {folder} is a folder, so give another folder for its dreams")
    formats = (*pictures.FORMATS, *pictures.ONLY_READ)
    sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in formats and p.is_file())
    if not sources:
        raise DreamError(f"{folder}: holds no picture ({', '.join(formats)})")
    targets = targets_of(sources, output)
    for path, target in targets.items():
        pictures.refuse_inputs(target, path, args.guide)

    import hashlib

    import numpy as np
    from tqdm import tqdm

    from .. import jobs
    from ..net import Net
    net = Net(args.model, device=args.device, threads=args.threads)
    end, settings = net.default_end if args.end is None else args.end, settings_of(args)
    check_end(net, end)
    guide = None
    if args.guide:
        net.check_size(end, *pictures.load(args.guide).shape[:2], "the guide")
        guide = Path(args.guide).read_bytes()
    new = kept = failed = 0
    with jobs.Here(), tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(path.name)
            try:
                checked_sizes(net, end, pictures.load(path), settings)
            except DreamError as error:
                failed += 1
                said = str(error)
                bar.write(f"deepdream: {said if str(path) in said else f'{path}: {said}'}", file=sys.stderr)
                continue
            seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
            target, data = targets[path], path.read_bytes()
            sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
                    "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
            record = record_of(net, args, end, seed, settings) | sums | {"picture": path.name}
            if _made_so(target, record, args.seed is None):
                kept += 1
                continue
            make_folder(output)
            pictures.check_target(target)
            result = jobs.make({"model": args.model, "end": end, "settings": settings, "seed": seed, "picture": data,
                                "guide": guide, "device": net.device.name, "threads": args.threads})
            if "error" in result:
                failed += 1
                bar.write(f"deepdream: {path}: {result['error']}", file=sys.stderr)
            else:
                new += 1
                pictures.save(result["picture"], target, record, args.quality)
    print(f"{output}: {new} dreams made, {kept} kept, {failed} failed, {net.name} at {end}")
    return 2 if failed else 0


def targets_of(sources, output):
    """{picture: its dream} in the folder `output`: of the same name; .png for what is not written (BMP, GIF, PPM),
    behind the whole name where another picture has that one."""
    from ..pictures import ONLY_READ
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


def checked_sizes(net, end, image, settings):
    """[(h, w)] of the octaves of a picture (H, W, 3). Raises what `deepdream` would, before anything is made: for an
    unknown end, and for a picture that is too small for it in the smallest octave."""
    from ..dream import octave_sizes
    check_end(net, end)
    sizes = octave_sizes(*image.shape[:2], settings["octave_n"], settings["octave_scale"])
    h, w = image.shape[:2]
    net.check_size(end, *sizes[0], "the picture" if len(sizes) == 1 else
                   f"the picture of {w}x{h} in the smallest of {len(sizes)} octaves")
    return sizes


def check_end(net, end):
    """Raise what a dream at an unknown or unsupported end would."""
    if end not in net.ends:
        net.session(end)      # nothing is built: it says what is wrong


def make_folder(path):
    """Make the folder of -o, if it is not there. Raises DreamError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be made: {error.strerror}") from None


def _made_so(path, record, any_seed):
    """Whether a dream is there that was made with these settings, on whatever device, of whatever version."""
    from ..pictures import settings
    free = {"software", "device"} | ({"seed"} if any_seed else set())
    try:
        there = settings(path)
    except OSError:
        return False
    return all(there.get(k, "?") == v for k, v in record.items() if k not in free)


def record_of(net, args, end, seed, settings):
    """What a picture's metadata tells of how it was made."""
    from .. import __version__
    return {"software": f"deepdream {__version__}", "model": net.name, "checksum": net.checksum, "end": end,
            **settings, "seed": seed, "picture": args.picture and Path(args.picture).name,
            "guide": args.guide and Path(args.guide).name, "device": net.device.name}


def default_picture():
    from ..sky import formula_sky
    return formula_sky()


def free_name(path):
    """The path itself, or the first of dream-2.jpg, dream-3.jpg ... that is not there yet."""
    name, i = path, 1
    while name.exists():
        i += 1
        name = path.with_stem(f"{path.stem}-{i}")
    return name
