"""Objectives and priors from settings: the texts and numbers of settings become arguments of `deepdream`.

An END is one of
    NAME                     a layer: its L2 norm is maximized or, with a guide, its resemblance to the guide
    NAME[13,17,20-25]        some of its channels
    NAME[13@0.5,0.25]        one neuron: a channel at a position, 0 to 1 from the left and from the top
    class:samoyed            a class of the net's classifier, by label or number: its score before the softmax
and can end with a colon and a weight, which is 1 by default: inception_3b/output:0.3
"""
from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

import numpy as np

from ..convert.errors import shown
from ..errors import DreamError
from .objectives import objective_channel, objective_class, objective_guide, objective_L2, objective_neuron
from .natural import Natural
from .priors import Blur, Grey, Laplacian, Luminance, Mask, TotalVariation

if TYPE_CHECKING:
    from ..options import Settings

CLASS = "class:"
SUGGESTIONS = 5     # the maximum number of labels that a message suggests
MOST = 1 << 16      # the maximum number of channels in a range
MANY = 10 ** 9      # more classes than any net has


def goals(net, settings: Settings, guide: np.ndarray | None = None, mask: np.ndarray | None = None) -> dict:
    """Return the arguments `end`, `objective` and `priors` of `deepdream`.

    net: the net.
    settings: the settings. Without an end, the net's default is used.
    guide: the picture of the guide, (H, W, 3), or None.
    mask: the mask, (H, W), 0 to 1, from `pictures.mask.load_mask`, or None.

    Raises ConvertError for a layer that the net does not have, and DreamError for any other END that is not valid.
    """
    terms = [_term(net, text, guide) for text in settings.end or [net.default_end]]
    objective = terms[0] if len(terms) == 1 else sum(terms[1:], terms[0])
    if not any(weight for weight, _ in objective.terms):
        raise DreamError("--end: every weight is 0")
    return {"end": objective.terms[0].objective.end, "objective": objective,
            "priors": [PRIORS[name](net, value) for name, value in settings.priors.items()]
            + ([] if mask is None else [Mask(mask)])}


def needs_surgery(ends: Iterable[str]) -> bool:
    """Return whether one of the ENDs is a class, which needs a classifier for any picture size: Net(surgery=True)."""
    return any(text.startswith(CLASS) for text in ends)


def _term(net, text, guide):
    if text.startswith(CLASS):
        label, weight = _weighted(text[len(CLASS):], [])
        return _scaled(objective_class(class_index(net, label)).at(net.classifier), weight)
    name, weight = _weighted(text, net.ends)
    match = None if name in net.ends else re.fullmatch(r"(.+)\[(.*)\]", name)
    if match is None:
        objective = objective_L2 if guide is None else objective_guide(net.features(guide, name, "the guide"))
        return _scaled(objective.at(name), weight)
    objective = _selected(match[2], text)
    if guide is not None:
        raise DreamError(f"--end {shown(text)}: a guide follows whole layers; leave out [{shown(match[2])}], or the "
                         "guide")
    return _scaled(objective.at(match[1]), weight)


def _scaled(objective, weight):
    return objective if weight == 1 else objective * weight


def _weighted(text, names):
    """Split a text into what comes before the weight, and the weight. A text among `names` has no weight."""
    before, colon, after = text.rpartition(":")
    if text in names or not colon or not before:
        return text, 1.0
    try:
        weight = float(after)
    except ValueError:
        return text, 1.0
    if not abs(weight) <= 1e9:
        raise DreamError(f"--end: the weight of {shown(before)} is {shown(after)}; allowed are numbers to 1e9")
    return before, weight


def _selected(inside, text):
    """Return the objective of the channels or the neuron that the text inside of the brackets selects."""
    channel, at, place = inside.partition("@")
    try:
        if at:
            x, y = map(float, place.split(","))
            channel = int(channel)
        else:
            ranges = [part.strip().partition("-") for part in inside.split(",")]
            ranges = [(int(first), int(last or first)) for first, _, last in ranges]
            if any(not 0 <= last - first < MOST for first, last in ranges):
                raise ValueError
            channels = [c for first, last in ranges for c in range(first, last + 1)]
    except ValueError:
        raise DreamError(f"--end {shown(text)}: [{shown(inside)}] is no choice of channels; allowed are [13,17], "
                         "[20-25] and, for a neuron, [13@0.5,0.5]") from None
    return objective_neuron(channel, x, y) if at else objective_channel(channels)


def class_index(net, label: str) -> int:
    """Return the number of a class.

    net: the net.
    label: the label, one of its synonyms, or the number of the class. Upper and lower case are the same.

    Raises DreamError for a class that the net does not have.
    """
    label = label.strip().strip("\"'")
    count, labels = net.ends[net.classifier].channels, net.labels
    if not label:
        raise DreamError("class: needs a label or a number")
    if re.fullmatch(r"[0-9]+", label):
        if len(label) > 9 or int(label) >= (count or MANY):
            raise DreamError(f"class {shown(label)}: {net.name} has classes 0 to {(count or MANY) - 1}")
        return int(label)
    if not labels:
        raise DreamError(f"class '{shown(label)}': {net.name} has no labels; give the number of the class")
    words = {}
    for i, line in enumerate(labels):
        for word in (line, *line.split(",")):
            words.setdefault(_plain(word), i)
    if _plain(label) in words:
        return words[_plain(label)]
    near = [w for w in words if re.search(rf"\b{re.escape(_plain(label))}\b", w)] + \
        difflib.get_close_matches(_plain(label), words, SUGGESTIONS, 0.6)
    near = [shown(name) for name in dict.fromkeys(labels[words[w]].split(",")[0] for w in near)][:SUGGESTIONS]
    raise DreamError(f"class '{shown(label)}': {net.name} knows none of this name; "
                     + (f"did you mean {', '.join(near)}?" if near else
                        f"`deepdream layers --model {net.name} --labels` lists them"))


def class_name(net, index: int) -> str:
    """Return the first label of a class, or its number if there are no labels."""
    return net.labels[index].split(",")[0].replace("_", " ") if index < len(net.labels) else f"class {index}"


def _plain(text):
    return text.strip().lower().replace("_", " ")


def _channels(net):
    """Return the order of a net's channels, (0,) for grey pictures."""
    name = net.inputs[0]
    return net.transformer.channel_swap[name] if len(net.transformer.mean[name]) == 3 else (0,)


PRIORS = {   # in the order in which they apply: name -> function of the net and the value in the settings
    "tv": lambda net, weight: TotalVariation(weight),
    "grey": lambda net, weight: Grey(weight),
    "blur": lambda net, value: Blur(*value),
    "laplacian": lambda net, levels: Laplacian(levels),
    "natural": lambda net, strength: Natural(strength, _channels(net)),
    "keep_colours": lambda net, _: Luminance(net.transformer.channel_swap[net.inputs[0]]),
}
