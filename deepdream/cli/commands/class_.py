"""What does a net think a samoyed looks like? From grey or noise, gradient ascent on the score of a class.

    deepdream class samoyed --model bvlc_googlenet -o samoyed.png
    deepdream class samoyed dumbbell 207 -o three.png              a grid with captions
    deepdream class four --model digits -o four.png --strip        from noise to the dream, and the weights themselves
"""
from ...convert.console import interrupted
from ...errors import DreamError
from ...goals.text import CLASS, class_index, class_name, recipe
from ..nets import model_option, net_of, pixel_options, pixels_of
from ..options import (
    SETTINGS,
    device_options,
    fast_option,
    options,
    prior_options,
    priors_of,
    quality_option,
    seed_of,
    settings_of,
    whole,
)
from .dream import check_start, checked_sizes, output_of, save_output, start_options, start_size, starting_from

OWN = {"iter_n": 50, "octave_n": 3, "octave_scale": 1.4, "step_size": 1.5, "jitter": 16, "laplacian": 4, "blur": 1.0,
       "blur_until": 0.4}     # and a picture of twice the size that the net was trained on
HALFWAY = 8                   # pictures of a strip
SIDE = 160                    # pixels: smaller pictures are enlarged on a sheet
STILL = 0.05                  # levels: a step that changes a pixel by less on average changes nothing


def arguments(parser):
    parser.add_argument("label", nargs="+", metavar="CLASS", help="its name or number; `deepdream layers --labels` "
                        "lists them")
    parser.add_argument("-o", "--output", metavar="OUT", help="where the picture goes: .jpg, .png, .webp or .tif "
                        "(class.png, or the next free number)")
    model_option(parser)
    pixel_options(parser)
    start_options(parser, "noise", "twice what the net was trained on")
    parser.add_argument("--strip", nargs="?", type=whole(3, 32), const=HALFWAY, metavar="N",
                        help=f"show 3 to 32 pictures from the start to the dream ({HALFWAY}) and, of a net of one "
                        "layer, its weights")
    parser.add_argument("--columns", type=whole(1, 32), metavar="N", help="of a grid (as square as it gets)")
    options(parser, defaults={k: f"the model's own, or {OWN[k]}" for k in SETTINGS})
    prior_options(parser)
    device_options(parser)
    fast_option(parser)
    quality_option(parser)


def run(args):
    from ... import pictures
    pictures.check_target(output_of(args, "class.png"))
    check_start(args)
    if args.strip and len(args.label) > 1:
        raise DreamError(f"--strip: shows one class, and there are {len(args.label)}")

    import numpy as np

    from ... import __version__
    from ...net.pixels import deprocess, preprocess
    from ...pictures.sheet import enlarged, grid
    ends = [f"{CLASS}{label}" for label in args.label]
    net = net_of(args, ends)
    indices = [class_index(net, label) for label in args.label]
    _fill_in(args, net)
    seed = seed_of(args)
    settings, priors = settings_of(args), priors_of(args)
    plans = [recipe(net, [end], None, priors) for end in ends]
    sizes = checked_sizes(net, plans[0], start_size(None, args), settings)
    start = starting_from(None, args, seed)
    if net.blobs[net.inputs[0]].channels == 1:
        start = deprocess(net, preprocess(net, start))      # as the net sees it
    dreams, names = [], [class_name(net, i) for i in indices]
    try:
        for plan in plans:
            dreams.append(_dream(net, plan, start, sizes, settings, seed, args.strip))
    except KeyboardInterrupt:
        if not dreams:
            raise
        names = names[:len(dreams)]      # what is finished is shown
    note = f"{net.name}, from {args.start}, seed {seed}"
    if args.strip:
        shown, captions = _strip(net, start, *dreams[0], indices[0], args.strip)
        picture = grid([enlarged(pictures.to_uint8(p), SIDE) for p in shown], captions, f"{names[0]}: {note}",
                       args.columns or len(shown))
    elif len(plans) > 1:
        columns = args.columns or int(np.ceil(np.sqrt(len(dreams))))
        picture = grid([enlarged(pictures.to_uint8(d), SIDE) for d, _ in dreams], names, note, columns)
    else:
        picture = dreams[0][0]
    record = {"software": f"deepdream {__version__}", "model": net.name, "checksum": net.checksum,
              "classes": indices[:len(dreams)], **settings, "priors": priors, "start": args.start, "size": args.size,
              "noise": args.noise, "seed": seed, "device": net.device.name, "threads": net.thread_count, "fast": args.fast, "pixels": pixels_of(net)}
    output = save_output(picture, args, "class.png", record)
    print(f"{output}: {', '.join(names)}; {note}")
    return interrupted("deepdream") if len(dreams) < len(plans) else 0


def _fill_in(args, net):
    """What was not asked for: the model's own settings, else OWN. A blur that was asked for keeps its sigma."""
    record = net.record and net.record.record
    h, w = net.blobs[net.inputs[0]].shape[2:]
    low_h, low_w, exact = net.smallest(net.classifier)
    size = {"size": [low_w, low_h], "octave_n": 1} if exact else {"size": [2 * w, 2 * h]}
    own = {k: OWN[k] for k in SETTINGS} | (getattr(record, "class_pictures", None) or OWN | size)
    if args.blur is not None:
        own.pop("blur_until", None)
    for name, value in own.items():
        if getattr(args, name) is None:
            setattr(args, name, value)
    args.size = args.size or size["size"]


def _dream(net, plan, start, sizes, settings, seed, stages):
    """(dream, [the picture after each step], for `stages` of a strip; else an empty list)."""
    import numpy as np

    from ...dream import SETTLED, deepdream, visible
    from ..progress import Progress
    before, way = start, []
    with Progress(sizes, settings["iter_n"]) as progress:
        def on_step(octave, i, vis, told):
            nonlocal before
            progress.step(octave, i, vis, told)
            now = vis()
            if stages:
                way.append(now)
            if now.shape == before.shape and np.abs(now - before).mean() < STILL:
                return SETTLED
            before = now
        dream = deepdream(net, start, on_step=on_step, rng=np.random.RandomState(seed), **settings, **plan)
    return visible(dream, settings["clip"]), way


def _strip(net, start, dream, way, index, n):
    """([pictures], [captions]): n, or as many as there are, from the start to the dream, the early ones closer to each
    other; of a net of one layer, its weights too."""
    import numpy as np

    from ...pictures.starts import resized
    h, w = dream.shape[:2]
    steps = np.unique(np.geomspace(1, len(way), n - 1).round().astype(int))
    shown = [start] + [p if p.shape == dream.shape else resized(p, h, w) for p in (way[n - 1] for n in steps[:-1])]
    captions = ["start"] + [f"step {n}" for n in steps[:-1]]
    weights = _weights(net, index, h, w)
    if weights is not None:
        grey = [p.mean(2).ravel() - p.mean() for p in (dream, weights)]
        alike = np.dot(*grey) / np.linalg.norm(grey[0]) / np.linalg.norm(grey[1])
        print(f"the dream and the weights of the class correlate {alike:.3f}")
        shown, captions = [*shown, dream, weights], [*captions, f"step {len(way)}", "the weights"]
    else:
        shown, captions = [*shown, dream], [*captions, f"step {len(way)}"]
    return shown, captions


def _weights(net, index, h, w):
    """The class's weights as a picture (h, w, 3), if the net is linear, so that its gradient is the same everywhere."""
    import numpy as np

    from ...net.pixels import deprocess
    data, gradients = net.blobs[net.inputs[0]], []
    for level in (-20.0, 20.0):
        data.reshape(1, data.channels, h, w)
        data.data[...] = level
        net.forward(end=net.classifier)
        scores = net.blobs[net.classifier]
        scores.diff[...] = 0
        scores.diff[:, index] = 1
        net.backward(start=net.classifier)
        gradients.append(data.diff[0].copy())
    if np.abs(gradients[0] - gradients[1]).max() > 1e-5 * np.abs(gradients[0]).max():
        return None
    return deprocess(net, gradients[0] * (64 / np.abs(gradients[0]).mean()))
