"""What the statistics of a dream are computed from: the layers of the net that sees it, and the gradient at it."""
from __future__ import annotations

import numpy as np

from ..engine.step import Step
from ..goals.objectives import Objective
from ..net import Net
from ..net.pixels import preprocess
from . import statistics

LAYERS = ["conv2/3x3", "inception_3a/output", "inception_3b/5x5_reduce", "inception_3b/output", "inception_4a/output",
          "inception_4b/output", "inception_4c/output", "inception_4d/output", "inception_4e/output"]
SHIFTS = [(0, 0), (7, -13), (-21, 17), (29, 5)]      # rows and columns: no two of them alike in any stride of the net


def measure(net: Net, end: str, objective: Objective, source: np.ndarray, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the statistics of a dream.

    net: looks at the dream.
    end: the layer at which it was dreamt.
    objective: that of the dream.
    source: the picture from which the dream started, (H, W, 3).
    picture: the dream, (H, W, 3).

    Returns {statistic: array}, as `statistics.measure` does.
    """
    ends = sorted({*layers_of(net), end}, key=list(net.ends).index)
    features = dict(zip(ends, net.features(picture, ends)))
    gradient = gradient_at(net, end, objective, picture)
    return statistics.measure(statistics.Dream(picture, source, features, gradient, end, objective))


def layers_of(net: Net) -> list[str]:
    """Return the layers whose energy is compared: LAYERS of a GoogLeNet; of any other net, nine from low to high."""
    known = [e for e in LAYERS if e in net.ends]
    if len(known) > 3:
        return known
    spatial = [e for e, facts in net.ends.items() if facts.stride and e not in net.inputs]
    return [spatial[round(i)] for i in np.linspace(0, len(spatial) - 1, min(9, len(spatial)))]


def gradient_at(net: Net, end: str, objective: Objective, picture: np.ndarray) -> np.ndarray:
    """Compute the gradient of an objective with respect to a picture: its mean over a few shifts of the picture.

    A dream averages over many shifts, too, so what the gradients at different shifts have in common is what it has
    followed.

    net, end, objective: as in `measure`.
    picture: (H, W, 3), 0 to 255.

    Returns float32 (H, W, 3), in the order of the picture's channels; (H, W, 1) for a net for grey pictures.
    """
    step = Step(objective.bound(end))
    session = net.programs.session(net.programs.objective(step))
    data, total = preprocess(net, picture)[None], 0.0
    for shift in SHIFTS:
        moved = np.roll(data, shift, (2, 3))
        diff, = session.run(["data_diff"], {"data": moved, **step.objective.feeds()})
        total = total + np.roll(diff, [-n for n in shift], (2, 3))
    mean = total[0] / len(SHIFTS)
    if len(mean) > 1:      # a net for grey pictures has only one channel, and its gradient is the same for all colours
        mean = mean[np.argsort(net.transformer.channel_swap[net.inputs[0]])]
    return np.moveaxis(mean, 0, -1).astype(np.float32)
