"""Show what the channels of a layer look for: dream each of them from noise, and put the pictures on a sheet.

    deepdream features inception_4c/output --model bvlc_googlenet -o features/
    deepdream features "inception_3b/output[0-63,80]"                  these channels
    deepdream features inception_3b/output --count 1000                all of them
    deepdream features inception_4c/output --strongest cat.jpg         what the layer sees in this picture

The sheet and a picture of each channel are written to the folder -o. Pictures that exist already, made with the same
settings, are not made again, so that the command goes on where it was interrupted, and more channels can be added.
"""
from __future__ import annotations

import math
from argparse import ArgumentParser, Namespace
from pathlib import Path

from ...errors import DreamError
from ...options import NOTEBOOK, Settings
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_option, add_priors, add_starts, settings_of, whole_number
from ..output import make_folder

DEFAULTS = {"iter_n": 20, "octave_n": 2, "octave_scale": 1.4, "step_size": 3.0, "jitter": 8, "laplacian": 4,
            "natural": 0.6, "blur": 0.8, "blur_until": 0.3, "seed": 0, "start": "noise", "size": (160, 160)}
FIRST = 16      # channels of the sheet, if the user does not choose any


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("layer", metavar="LAYER", help="the layer, or some of its channels as LAYER[13,17,20-25]; "
                        "`deepdream layers` lists the layers")
    parser.add_argument("-o", "--output", default="features", metavar="FOLDER", help="the folder for the sheet and the "
                        "pictures (default: features)")
    add_model(parser)
    add_pixels(parser)
    parser.add_argument("--strongest", metavar="PICTURE", help="show the channels that this picture excites most, "
                        "compared with noise (default: the first channels)")
    parser.add_argument("--count", type=whole_number(1, 10000), metavar="N", help="the number of channels to show "
                        f"(default: {FIRST})")
    parser.add_argument("--columns", type=whole_number(1, 64), metavar="N", help="number of columns of the sheet "
                        "(default: a sheet that is nearly square)")
    for name in (*NOTEBOOK, "clip"):
        add_option(parser, name, DEFAULTS.get(name) and str(DEFAULTS[name]))
    add_option(parser, "seed", help="seed of the jitter and of the noise (default: 0)")
    add_starts(parser, DEFAULTS["start"], "160x160")
    add_priors(parser)
    add_device(parser)


def run(args: Namespace) -> None:
    """Run this command."""
    from ... import pictures
    image = pictures.load(args.strongest) if args.strongest else None

    from ...seeing.features import Features, chosen_channels, strongest
    from ..progress import Progress
    from ..stopping import goes_on
    net = net_of(args, fast=bool(args.fast))
    layer, channels = chosen_channels(net, args.layer)
    if channels and (args.count or args.strongest):
        raise DreamError(f"{args.layer}: names its channels; leave them out, or --count and --strongest")
    count = args.count or FIRST
    if not channels:
        channels = strongest(net, layer, image, count) if args.strongest else range(net.ends[layer].channels)[:count]
    features = Features(Path(args.output), net, layer, channels, _settings(args), args.columns)
    missing = features.resume()
    pictures.refuse_inputs(features.sheet, args.strongest)
    make_folder(features.folder)
    pictures.check_target(features.sheet)
    with goes_on(), Progress(features.sizes, features.settings.iter_n * len(missing)) as progress:
        def on_feature(feature):
            progress.bar.set_description_str(f"channel {feature.channel} ", refresh=False)

        def on_step(octave, i, vis, report):
            progress.bar.update(math.prod(features.sizes[octave]))

        features.run(missing, on_feature, on_step)
    silent = [feature for feature in missing if feature.reason]
    print(f"{features.sheet}: {len(channels)} channels of {layer}, {net.name}: {len(missing) - len(silent)} made, "
          f"{len(channels) - len(missing)} kept" + f", {len(silent)} silent" * bool(silent))


def _settings(args):
    """Return the settings of the command line; for the rest DEFAULTS. A --blur on the command line stays constant."""
    defaults = dict(DEFAULTS)
    if args.blur is not None:
        defaults["blur_until"] = None
    return settings_of(args, Settings(**defaults))
