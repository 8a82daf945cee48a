"""Dream a picture: gradient ascent on what one layer of a net sees in it, over octaves.

    deepdream dream                                            a sky by formula, with the net that comes along
    deepdream dream cat.jpg -o out.jpg --end inception_4d/output
    deepdream dream cat.jpg -o out.png --model bvlc_googlenet --guide flowers.jpg --end inception_3b/output
    deepdream dream cat.jpg -o out.jpg --model my/folder       (with a deploy.prototxt and a caffemodel in it)
"""
import sys
from pathlib import Path

from ..cli import device_options, options, settings_of
from ..errors import DreamError

MODEL = "mini_imagenet"


def arguments(parser):
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF (a sky by formula)")
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
