"""Two nets, one picture, one layer: the source and both dreams side by side, with captions, ready to share.

    deepdream compare cat.jpg -o compare.jpg
    deepdream compare cat.jpg --models bvlc_googlenet places205_googlenet --end inception_4d/output
    deepdream compare cat.jpg --models bvlc_googlenet my/squeezenet --end inception_4c/output fire8/concat
"""
from pathlib import Path

from ...errors import DreamError
from ..options import device_options, options, quality_option, seed_of, settings_of
from .dream import output_of, save_output
from .gallery import MODELS, load_nets


def arguments(parser):
    parser.add_argument("picture", metavar="PICTURE", help="JPEG, PNG, WebP or TIFF")
    parser.add_argument("-o", "--output", metavar="OUT", help="where it goes: .jpg, .png, .webp or .tif; the "
                        "settings are written into it (compare.jpg, or the next free number)")
    parser.add_argument("--models", nargs=2, default=MODELS, metavar="MODEL",
                        help=f"names from `deepdream models`, folders, .onnx files ({' '.join(MODELS)})")
    parser.add_argument("--end", nargs="+", metavar="LAYER", help="the layer whose activations grow; where the nets "
                        "name their layers differently, one for each (the first model's own choice)")
    options(parser)
    device_options(parser)
    quality_option(parser)


def run(args):
    from ... import pictures
    output = output_of(args, "compare.jpg")
    pictures.check_target(output)
    image = pictures.load(args.picture)
    pictures.refuse_inputs(output, args.picture)

    from ... import __version__
    from ...batch import jobs
    from ...dream import octave_sizes
    from ...pictures.sheet import side_by_side
    from ...runtime.device import Device
    from ..progress import Progress
    device = Device(args.device)
    nets, given = load_nets(args.models)
    if len(nets) < 2:
        raise DreamError(f"--models {' '.join(args.models)}: compare needs two different models")
    ends, settings = _ends(args.end, nets), settings_of(args)
    seed = seed_of(args)
    sizes = octave_sizes(*image.shape[:2], settings["octave_n"], settings["octave_scale"])
    dreams = []
    with jobs.Here():
        for model in nets:
            job = {"model": given[model], "end": ends[model], "settings": settings, "seed": seed,
                   "picture": Path(args.picture).read_bytes(), "guide": None, "device": device.name,
                   "threads": args.threads}
            with Progress(sizes, args.iter_n) as progress:
                result = jobs.make(job, progress.step)
            if "error" in result:
                raise DreamError(f"{model}: {result['error']}")
            dreams.append(result["picture"])

    one_end = len(set(ends.values())) == 1
    captions = ["source"] + [m if one_end else f"{m}, {ends[m]}" for m in nets]
    told = f"{args.iter_n} steps in each of {args.octave_n} octaves, seed {seed}"
    sheet = side_by_side([pictures.to_uint8(image), *dreams], captions, f"{ends[model]}, {told}" if one_end else told)
    record = {"software": f"deepdream {__version__}", "models": list(nets), "ends": list(ends.values()),
              "checksums": [net.checksum for net in nets.values()], **settings, "seed": seed,
              "picture": Path(args.picture).name, "device": device.name, "threads": result["threads"]}
    output = save_output(sheet, args, "compare.jpg", record)
    h, w = sheet.shape[:2]
    print(f"{output}: {w}x{h}, {' and '.join(nets)} at {' and '.join(dict.fromkeys(ends.values()))}")


def _ends(asked, nets):
    """{model: end}."""
    from ...convert import no_such_end
    first = next(iter(nets.values()))
    if asked is None:
        end = first.default_end
        return {m: end if end in net.ends else net.default_end for m, net in nets.items()}
    if len(asked) > 2:
        raise DreamError(f"--end: {len(asked)} layers; give one, or one for each of the two models")
    ends = dict(zip(nets, asked if len(asked) == 2 else asked * 2))
    for model, end in ends.items():
        if end not in nets[model].ends:
            raise DreamError(f"--end: {model}: {no_such_end(end, list(nets[model].ends))}")
    return ends
