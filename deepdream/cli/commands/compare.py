"""Put a picture and what two nets dream of it side by side, with captions, in one picture to share.

    deepdream compare cat.jpg -o compare.jpg
    deepdream compare cat.jpg --models bvlc_googlenet places205_googlenet --end inception_4d/output
    deepdream compare cat.jpg --models bvlc_googlenet my/squeezenet --end inception_4c/output fire8/concat
"""
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ...options import END, Settings
from ..nets import SHIPPED, nets_of
from ..options import add_device, add_quality, add_steps, settings_of
from ..output import check_output, make_parent, output_of, save_output
from ..ready import announce_time, require_picture, with_seed
from ..saved import Entry, Form, add_settings, list_of

SAVED = Form("a comparison", ("seed", "models", "ends"), {
    "models": Entry("models", list_of(END)), "ends": Entry("layers", list_of(END))}, model="models")


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture: JPEG, PNG, WebP or TIFF (default: "
                        "that of --settings)")
    parser.add_argument("-o", "--output", metavar="OUT", help="the picture file to write: .jpg, .png, .webp or .tif; "
                        "the settings are saved in its metadata (default: compare.jpg, or compare-2.jpg and so on if "
                        "it exists)")
    parser.add_argument("--models", nargs=2, default=SHIPPED, metavar="MODEL",
                        help="the two nets: names from `deepdream models`, folders or .onnx files (default: "
                        f"{' '.join(SHIPPED)})")
    parser.add_argument("--end", nargs="+", metavar="LAYER", dest="layers", help="the layer to maximize; two layers, "
                        "one for each net, if the nets name them differently (default: that of the first net's "
                        "model card)")
    add_steps(parser)
    add_device(parser, fast=False)
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> None:
    """Run this command."""
    from ... import pictures
    output = output_of(args, "compare.jpg")
    check_output(output)
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args, SAVED)
    require_picture(args)
    image = pictures.load(args.picture)
    pictures.refuse_inputs(output, args.picture, args.settings)

    from ...batch.jobs import InProcess, Job
    from ...dream import octave_sizes
    from ...goals.text import goals
    from ...pictures.sheet import side_by_side
    from ...provenance import SOFTWARE, files_of, path_of
    from ...runtime.device import Device
    from ..progress import Progress
    device = Device(args.device)
    nets = nets_of(args.models)
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, list(nets.values()), args.threads)
    if len(nets) < 2:
        raise DreamError(f"--models {' '.join(args.models)}: compare needs two different models")
    ends, settings, data = _ends(args.layers, nets), with_seed(settings_of(args, base)), Path(args.picture).read_bytes()
    make_parent(output)
    sizes = octave_sizes(*image.shape[:2], settings.octave_n, settings.octave_scale)
    for model, net in nets.items():
        chosen = settings.replace(end=(ends[model],))
        announce_time(net, chosen, goals(net, chosen), sizes, model, faster="a smaller picture")
    dreams = []
    with InProcess() as executor:
        for model, net in nets.items():
            job = Job(net.files.arguments, settings.replace(end=(ends[model],)), data, None, device.name, args.threads)
            with Progress(sizes, settings.iter_n) as progress:
                result = executor.make(job, progress.step)
            if result.error:
                raise DreamError(f"{model}: {result.error}")
            dreams.append(result.picture)

    one_end = len(set(ends.values())) == 1
    captions = ["source"] + [m if one_end else f"{m}, {ends[m]}" for m in nets]
    note = f"{settings.iter_n} steps in each of {settings.octave_n} octaves, seed {settings.seed}"
    sheet = side_by_side([pictures.to_uint8(image), *dreams], captions, f"{ends[model]}, {note}" if one_end else note)
    metadata = settings.to_metadata() | {
        "software": SOFTWARE, "models": list(nets), "ends": list(ends.values()),
        "model_paths": [path_of(net) for net in nets.values()],
        "checksums": [net.checksum for net in nets.values()], "device": device.name,
        "threads": result.threads} | files_of(picture=args.picture)
    del metadata["end"]      # `ends` replaces it
    output = save_output(sheet, args, "compare.jpg", metadata)
    h, w = sheet.shape[:2]
    print(f"{output}: {w}x{h}, {' and '.join(nets)} at {' and '.join(dict.fromkeys(ends.values()))}")


def _ends(layers, nets):
    """Return {model: end}. layers: of the option --end, or None."""
    from ...convert import no_such_end
    first = next(iter(nets.values()))
    if layers is None:
        end = first.default_end
        return {m: end if end in net.ends else net.default_end for m, net in nets.items()}
    if len(layers) > 2:
        raise DreamError(f"--end: {len(layers)} layers; give one, or one for each of the two models")
    ends = dict(zip(nets, layers if len(layers) == 2 else layers * 2))
    for model, end in ends.items():
        if end not in nets[model].ends:
            raise DreamError(f"--end: {model}: {no_such_end(end, list(nets[model].ends))}")
    return ends
