"""What does a net think a samoyed looks like? From grey or noise, gradient ascent on the score of a class.

    deepdream class samoyed --model bvlc_googlenet -o samoyed.png
    deepdream class samoyed dumbbell 207 -o three.png              a grid with captions
    deepdream class four --model digits -o four.png --strip        from noise to the dream, and the weights themselves
"""
from ...convert.console import interrupted
from ...errors import DreamError
from ...goals.text import CLASS, class_index, class_name, goals
from ...options import NOTEBOOK, Settings
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_priors, add_quality, add_starts, add_steps, settings_of, whole_number
from ..output import output_of, save_output
from ..ready import checked_sizes, with_seed

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
    add_model(parser)
    add_pixels(parser)
    add_starts(parser, "noise", "twice what the net was trained on")
    parser.add_argument("--strip", nargs="?", type=whole_number(3, 32), const=HALFWAY, metavar="N",
                        help=f"show 3 to 32 pictures from the start to the dream ({HALFWAY}) and, of a net of one "
                        "layer, its weights")
    parser.add_argument("--columns", type=whole_number(1, 32), metavar="N", help="of a grid (as square as it gets)")
    add_steps(parser, {k: f"the model's own, or {OWN[k]}" for k in NOTEBOOK})
    add_priors(parser)
    add_device(parser)
    add_quality(parser)


def run(args):
    from ... import pictures
    pictures.check_target(output_of(args, "class.png"))
    if args.strip and len(args.label) > 1:
        raise DreamError(f"--strip: shows one class, and there are {len(args.label)}")
    settings_of(args, Settings(start="noise"))      # says what contradicts what before the net is loaded

    from ...net.pixels import deprocess, preprocess
    from ...pictures.starts import start_size, starting_picture
    from ...provenance import machine, provenance
    ends = [f"{CLASS}{label}" for label in args.label]
    net = net_of(args, ends, bool(args.fast))
    indices = [class_index(net, label) for label in args.label]
    settings = with_seed(_settings(args, net))
    chosen = [goals(net, settings.replace(end=(end,))) for end in ends]
    sizes = checked_sizes(net, settings, chosen[0], start_size(settings))
    start = starting_picture(settings)
    if net.blobs[net.inputs[0]].channels == 1:
        start = deprocess(net, preprocess(net, start))      # as the net sees it
    dreams, names = [], [class_name(net, i) for i in indices]
    try:
        for one in chosen:
            dreams.append(_dream(net, settings, one, start, sizes, args.strip))
    except KeyboardInterrupt:
        if not dreams:
            raise
        names = names[:len(dreams)]      # what is finished is shown
    note = f"{net.name}, from {settings.start}, seed {settings.seed}"
    picture = _strip_of(args, net, start, dreams[0], indices[0], names[0], note) if args.strip else \
        _grid_of(args, dreams, names, note) if len(chosen) > 1 else dreams[0][0]
    record = provenance(net, settings.to_metadata(), classes=indices[:len(dreams)], **machine(net))
    del record["end"]      # the classes are in its place
    output = save_output(picture, args, "class.png", record)
    print(f"{output}: {', '.join(names)}; {note}")
    return interrupted("deepdream") if len(dreams) < len(chosen) else 0


def _settings(args, net):
    """What was asked for; else the model's own settings, else OWN. A blur that was asked for keeps its sigma."""
    h, w = net.blobs[net.inputs[0]].shape[2:]
    low_h, low_w, exact = net.smallest(net.classifier)
    size = {"size": [low_w, low_h], "octave_n": 1} if exact else {"size": [2 * w, 2 * h]}
    own = {k: OWN[k] for k in NOTEBOOK} | (net.card and net.card.class_pictures or OWN | size)
    if args.blur is not None:
        own.pop("blur_until", None)
    settings = settings_of(args, Settings(**own, start="noise"))
    return settings if settings.size else settings.replace(size=size["size"])


def _strip_of(args, net, start, dream, index, name, note):
    from ... import pictures
    from ...pictures.sheet import enlarged, grid
    shown, captions = _strip(net, start, *dream, index, args.strip)
    return grid([enlarged(pictures.to_uint8(p), SIDE) for p in shown], captions, f"{name}: {note}",
                args.columns or len(shown))


def _grid_of(args, dreams, names, note):
    import math

    from ... import pictures
    from ...pictures.sheet import enlarged, grid
    columns = args.columns or math.ceil(math.sqrt(len(dreams)))
    return grid([enlarged(pictures.to_uint8(d), SIDE) for d, _ in dreams], names, note, columns)


def _dream(net, settings, chosen, start, sizes, stages):
    """(dream, [the picture after each step], for `stages` of a strip; else an empty list)."""
    import numpy as np

    from ...dream import SETTLED, deepdream, visible
    from ..progress import Progress
    before, way = start, []
    with Progress(sizes, settings.iter_n) as progress:
        def on_step(octave, i, vis, report):
            nonlocal before
            progress.step(octave, i, vis, report)
            now = vis()
            if stages:
                way.append(now)
            if now.shape == before.shape and np.abs(now - before).mean() < STILL:
                return SETTLED
            before = now
        dream = deepdream(net, start, on_step=on_step, rng=np.random.RandomState(settings.seed), **settings.steps, **chosen)
    return visible(dream, settings.clip), way


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
