"""Show what a net thinks a class looks like: gradient ascent on the score of the class, from noise or grey.

    deepdream class samoyed --model bvlc_googlenet -o samoyed.png
    deepdream class samoyed dumbbell 207 -o three.png          three classes in a grid, with captions
    deepdream class four --model digits -o four.png --strip    from noise to the dream, step by step
    deepdream class --settings three.png -o again.png          the picture of three.png again

Ctrl-C saves the classes that are finished, or the first one so far, as NAME.partial.EXT; a second Ctrl-C ends the
command at once. At the end the net says what it sees in each of its pictures, as `deepdream classify` does.
"""
from __future__ import annotations

from argparse import ArgumentParser, Namespace

from ...errors import DreamError
from ...goals.text import CLASS, class_index, class_name, goals
from ...options import NOTEBOOK, Settings, whole
from ..nets import add_model, add_pixels, net_of
from ..options import add_device, add_priors, add_quality, add_starts, add_steps, of_kind, settings_of
from ..output import check_output, make_parent, output_of, save_output, save_partial
from ..ready import checked_sizes, with_seed
from ..saved import Entry, Form, add_settings, is_kind, list_of

# Settings for a net whose model card has none; the picture is twice as large as the net's input
DEFAULTS = {"iter_n": 50, "octave_n": 3, "octave_scale": 1.4, "step_size": 1.5, "jitter": 16, "laplacian": 4,
            "blur": 1.0, "blur_until": 0.4}
STRIP = 8                     # pictures in a strip, if --strip has no number
SIDE = 160                    # pixels: smaller pictures are enlarged in a grid or strip
STILL = 0.05                  # grey levels: an octave ends after a step that changes a pixel by less on average
PICTURES, COLUMNS = whole(3, 32), whole(1, 32)
SAVED = Form("a class picture", ("seed", "classes"), {
    "classes": Entry("label", list_of(whole(0)), lambda classes: [str(c) for c in classes]),
    "strip": Entry("strip", is_kind(PICTURES)), "columns": Entry("columns", is_kind(COLUMNS))})


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("label", nargs="*", metavar="CLASS", help="name or number of a class; `deepdream layers "
                        "--labels` lists the classes of a net. With --settings, the classes of that picture if there "
                        "is none")
    parser.add_argument("-o", "--output", metavar="OUT", help="the picture file to write: .jpg, .png, .webp or .tif; "
                        "missing folders are made (default: class.png, or class-2.png and so on if it exists)")
    add_model(parser)
    add_pixels(parser)
    add_starts(parser, "noise", "twice the size of the net's input", picture=False)
    parser.add_argument("--strip", nargs="?", type=of_kind(PICTURES), const=STRIP, metavar="N",
                        help="write a row of N pictures, 3 to 32, from the start to the finished dream "
                        f"({STRIP} if N is left out); for a linear net, its weights for the class follow")
    parser.add_argument("--columns", type=of_kind(COLUMNS), metavar="N", help="number of columns of the grid of "
                        "classes or of the strip (default: a grid that is nearly square, a strip of one row)")
    add_steps(parser, {k: f"the model card's, else {DEFAULTS[k]}" for k in NOTEBOOK})
    add_priors(parser, "priors, which keep the picture natural (default: the model card's, else a Laplacian pyramid of "
               f"{DEFAULTS['laplacian']} levels and a blur of {DEFAULTS['blur']:g} that changes to "
               f"{DEFAULTS['blur_until']:g})")
    add_device(parser)
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> None:
    """Run this command."""
    output, base = output_of(args, "class.png"), None
    check_output(output)
    if args.settings:
        from ... import pictures
        from ..replay import replay
        pictures.refuse_inputs(output, args.settings)
        base = replay(args, SAVED)
    if not args.label:
        raise DreamError("CLASS: is missing; give the name or number of a class, or --settings PICTURE")
    if args.strip and len(args.label) > 1:
        raise DreamError(f"--strip: shows one class, and there are {len(args.label)}")
    settings_of(args, base or Settings(start="noise"))      # raises an error for contradictory options early

    from ...net.pixels import deprocess, preprocess
    from ...pictures.starts import resized, start_size, starting_picture
    from ...seeing.classify import verdict
    from ..stopping import Stop
    ends = [f"{CLASS}{label}" for label in args.label]
    net = net_of(args, ends, (base or Settings()).fast if args.fast is None else args.fast)
    if args.settings:
        from ..replay import warn_of_differences
        warn_of_differences(args.settings, [net], args.threads)
    indices = [class_index(net, label) for label in args.label]
    settings = with_seed(_settings(args, net, base))
    chosen = [goals(net, settings.replace(end=(end,))) for end in ends]
    sizes = checked_sizes(net, settings, chosen[0], start_size(settings))
    make_parent(output)
    start = starting_picture(settings)
    if net.blobs[net.inputs[0]].channels == 1:
        start = deprocess(net, preprocess(net, start))      # without the colours, which the net does not see
    dreams, steps, stop = [], [] if args.strip else None, Stop()
    try:
        with stop:
            for goal in chosen:
                dreams.append(_dream(net, settings, goal, start, sizes, steps, stop))
    except KeyboardInterrupt:
        if dreams or stop.picture is not None:
            finished = len(dreams)
            dreams = dreams or [resized(stop.picture, *start.shape[:2])]
            picture, note = _picture(args, net, settings, start, dreams, steps, indices)
            metadata = _metadata(args, net, settings, indices[:len(dreams)])
            path = save_partial(picture, output, args, metadata | {"partial": finished})
            print(f"{path}: the picture so far, {finished} of {len(chosen)} classes are finished; {note}", flush=True)
        raise
    picture, note = _picture(args, net, settings, start, dreams, steps, indices)
    output = save_output(picture, args, "class.png", _metadata(args, net, settings, indices))
    print(f"{output}: {note}")
    for dream, index in zip(dreams, indices):
        print(f"{class_name(net, index)}: the net sees {verdict(net, dream, index)}")


def _settings(args, net, base=None):
    """Return the settings of the command line; for the rest, those of the model card, or else DEFAULTS.

    A --blur on the command line stays constant, unless --blur-until is there, too. With --settings, `base` has the
    settings instead of the model card.
    """
    from ...pictures.starts import fitted
    h, w = net.blobs[net.inputs[0]].shape[2:]
    low_h, low_w, exact, _ = net.sizes.of(net.classifier)
    size = {"size": [low_w, low_h], "octave_n": 1} if exact else {"size": [2 * w, 2 * h]}
    defaults = {k: DEFAULTS[k] for k in NOTEBOOK} | (net.card and net.card.class_pictures or DEFAULTS | size)
    if args.blur is not None:
        defaults.pop("blur_until", None)
    settings = settings_of(args, base or Settings(**defaults, start="noise"))
    w, h = settings.size if isinstance(settings.size, tuple) else size["size"]
    if isinstance(settings.size, int):
        h, w = fitted((h, w), settings.size)
    return settings.replace(size=(w, h))


def _metadata(args, net, settings, indices):
    from ...provenance import machine, provenance
    sheet = {name: value for name in ("strip", "columns") if (value := getattr(args, name))}
    metadata = provenance(net, settings.to_metadata(), classes=indices, **sheet, **machine(net))
    del metadata["end"]      # `classes` replaces it
    return metadata


def _picture(args, net, settings, start, dreams, steps, indices):
    """Return the picture of the dreams that are finished, and a note about it."""
    names = [class_name(net, i) for i in indices[:len(dreams)]]
    note = f"{net.name}, from {settings.start}, seed {settings.seed}"
    if args.strip:
        picture = _strip_of(args, net, start, dreams[0], steps, indices[0], names[0], note)
    else:
        picture = _grid_of(args, dreams, names, note) if len(indices) > 1 else dreams[0]
    return picture, f"{', '.join(names)}; {note}"


def _strip_of(args, net, start, dream, steps, index, name, note):
    from ... import pictures
    from ...pictures.sheet import enlarged, grid
    shown, captions = _strip(net, start, dream, steps, index, args.strip)
    return grid([enlarged(pictures.to_uint8(p), SIDE) for p in shown], captions, f"{name}: {note}",
                args.columns or len(shown))


def _grid_of(args, dreams, names, note):
    import math

    from ... import pictures
    from ...pictures.sheet import enlarged, grid
    columns = args.columns or math.ceil(math.sqrt(len(dreams)))
    return grid([enlarged(pictures.to_uint8(d), SIDE) for d in dreams], names, note, columns)


def _dream(net, settings, goal, start, sizes, steps, stop):
    """Return the dream of a class.

    steps: a list to which the picture after each step is added, or None.
    stop: the Stop for Ctrl-C.
    """
    import numpy as np

    from ...dream import SETTLED, deepdream, visible
    from ..progress import Progress
    before = start
    with Progress(sizes, settings.iter_n) as progress:
        def on_step(octave, i, vis, report):
            nonlocal before
            with stop.after_step(octave, i, vis):
                progress.step(octave, i, vis, report)
                now = vis()
                if steps is not None:
                    steps.append(now)
            if now.shape == before.shape and np.abs(now - before).mean() < STILL:
                return SETTLED
            before = now
        dream = deepdream(net, start, on_step=on_step, rng=np.random.RandomState(settings.seed), **settings.steps,
                          **goal)
    return visible(dream, settings.clip)


def _strip(net, start, dream, steps, index, n):
    """Choose up to n pictures from the start to the dream, more of them from the early steps, where more changes.

    Returns the pictures, with the weights of the class if the net is linear, and their captions.
    """
    import numpy as np

    from ...pictures.starts import resized
    h, w = dream.shape[:2]
    chosen = np.unique(np.geomspace(1, len(steps), n - 1).round().astype(int))
    shown = [start] + [p if p.shape == dream.shape else resized(p, h, w) for p in (steps[n - 1] for n in chosen[:-1])]
    captions = ["start"] + [f"step {n}" for n in chosen[:-1]]
    weights = _weights(net, index, h, w)
    if weights is not None:
        grey = [p.mean(2).ravel() - p.mean() for p in (dream, weights)]
        correlation = np.dot(*grey) / np.linalg.norm(grey[0]) / np.linalg.norm(grey[1])
        print(f"the dream and the weights of the class correlate {correlation:.3f}")
        shown, captions = [*shown, dream, weights], [*captions, f"step {len(steps)}", "the weights"]
    else:
        shown, captions = [*shown, dream], [*captions, f"step {len(steps)}"]
    return shown, captions


def _weights(net, index, h, w):
    """Return the weights of a class as a picture (h, w, 3); None if the gradient shows that the net is not linear."""
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
