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
    parser.add_argument("--model", default=MODEL, metavar="NAME_OR_FOLDER",
                        help=f"a name from `deepdream models`, or a folder with a prototxt and a caffemodel ({MODEL})")
    parser.add_argument("--end", metavar="LAYER", help="the layer whose activations grow; `deepdream layers` lists "
                        "them (the model's own choice, mostly inception_4c/output)")
    parser.add_argument("--guide", metavar="PICTURE", help="dream towards what the net sees in this picture")
    options(parser)
    device_options(parser)
    parser.add_argument("--quality", type=int, default=95, choices=range(1, 101), metavar="N",
                        help="of JPEG and WebP, 1 to 100 (95)")


def run(args):
    if args.picture and Path(args.picture).is_dir():
        return dream_folder(args)
    from .. import pictures
    output = Path(args.output) if args.output else free_name(Path("dream.jpg"))
    pictures.check_target(output)
    for source in (args.picture, args.guide):
        if source and output.exists() and Path(source).exists() and output.samefile(source):
            raise DreamError(f"-o {output}: would overwrite {source}")
    image = pictures.load(args.picture) if args.picture else default_picture()
    guide = pictures.load(args.guide) if args.guide else None

    import numpy as np

    from ..dream import deepdream, octave_sizes, visible
    from ..net import Net
    from ..progress import Progress
    net = Net(args.model, device=args.device, threads=args.threads)
    end, settings = args.end or net.default_end, settings_of(args)
    seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
    objective = {}
    if guide is not None:
        from ..objectives import objective_guide
        objective = {"objective": objective_guide(net.features(guide, end))}
    sizes = octave_sizes(*image.shape[:2], settings["octave_n"], settings["octave_scale"])
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
    """Dream every picture of a folder into another one, under the same names. A picture that fails is told of and does
    not stop the others (exit code 2 at the end); a dream that was made with the same settings is kept."""
    from .. import pictures
    folder, output = Path(args.picture), Path(args.output or "")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        raise DreamError(f"-o {args.output or ''}: {folder} is a folder, so give another folder for its dreams")
    sources = sorted(p for p in folder.iterdir() if p.suffix.lower() in pictures.FORMATS and p.is_file())
    if not sources:
        raise DreamError(f"{folder}: holds no picture ({', '.join(pictures.FORMATS)})")
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"-o {output}: cannot be made: {error.strerror}") from None

    import hashlib

    import numpy as np
    from tqdm import tqdm

    from .. import jobs
    from ..net import Net
    net = Net(args.model, device=args.device, threads=args.threads)
    end, settings = args.end or net.default_end, settings_of(args)
    guide = Path(args.guide).read_bytes() if args.guide and pictures.load(args.guide) is not None else None
    new = kept = failed = 0
    with jobs.Here(), tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(path.name)
            try:
                pictures.load(path)
            except DreamError as error:
                failed += 1
                bar.write(f"deepdream: {error}", file=sys.stderr)
                continue
            seed = int(np.random.SeedSequence().generate_state(1)[0]) if args.seed is None else args.seed
            target, data = output / path.name, path.read_bytes()
            sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
                    "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
            record = record_of(net, args, end, seed, settings) | sums | {"picture": path.name}
            if _made_so(target, record, args.seed is None):
                kept += 1
                continue
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
