"""What a net thinks of a picture: the probability of each class."""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

from ..goals.text import class_name
from ..net import Net
from ..net.pixels import check_picture
from ..pictures.starts import resized

BORDER = 8 / 7      # the picture is scaled to this many times the input, and the middle is cut out: 256 / 224
SMALL = 64          # pixels: of nets with a smaller input, such as those for digits, the subject fills the picture
PROBABILITIES = ("Sigmoid", "Softmax")      # scores that one of these operators computes are probabilities already


class Guess(NamedTuple):
    """A class that a net sees in a picture.

    index: the number of the class.
    name: its first label, or `class 7` if the net has no labels.
    probability: 0 to 1.
    """
    index: int
    name: str
    probability: float

    def __str__(self):
        return f"{100 * self.probability:.1f} % {self.name}"


def classify(net: Net, img: np.ndarray, top: int = 5, whole: bool = False) -> list[Guess]:
    """List the classes that a net sees in a picture, most probable first.

    The net looks at the middle of the picture: the shorter side is scaled to 8/7 of the size of the net's input, as to
    256 for 224, and the middle is cut out. For an input below 64 pixels the shorter side is scaled to the input's.

    net: the net.
    img: the picture, (H, W, 3), RGB, 0 to 255.
    top: the number of classes to list.
    whole: show the net the whole picture, scaled to the size of its input.

    Returns at most `top` guesses. Raises DreamError if the net has no classifier.
    """
    p = probabilities(net, img, whole)
    return [Guess(int(i), class_name(net, int(i)), float(p[i])) for i in np.argsort(-p, kind="stable")[:top]]


def probabilities(net: Net, img: np.ndarray, whole: bool = False) -> np.ndarray:
    """Return the probability of each class, float64 (classes,). The arguments are those of `classify`."""
    end = net.classifier
    scores = np.float64(net.features(input_view(net, img, whole), end))
    scores = scores.reshape(len(scores), -1).mean(1)      # of a map of scores: their mean
    if net.ends[end].operator in PROBABILITIES:
        return scores
    exponentials = np.exp(scores - scores.max())
    return exponentials / exponentials.sum()


def input_view(net: Net, img: np.ndarray, whole: bool = False) -> np.ndarray:
    """Return the part of a picture that `classify` shows to the net, float32 (h, w, 3) of the size of its input."""
    check_picture(img)
    low_h, low_w, exact, _ = net.sizes.of(net.classifier)
    h, w = (low_h, low_w) if exact else net.blobs[net.inputs[0]].shape[2:]
    if whole or img.shape[:2] == (h, w):
        return img if img.shape[:2] == (h, w) else resized(img, h, w)
    border = BORDER if min(h, w) >= SMALL else 1
    scale = max(h / img.shape[0], w / img.shape[1]) * border
    scaled = resized(img, *(max(low, round(n * scale)) for n, low in zip(img.shape[:2], (h, w))))
    top, left = (scaled.shape[0] - h) // 2, (scaled.shape[1] - w) // 2
    return scaled[top:top + h, left:left + w]


def verdict(net: Net, img: np.ndarray, index: int) -> str:
    """Describe in a few words what a net thinks of a picture that shall show a class.

    net, img: as for `classify`.
    index: the number of the class.

    Returns text like "99.8 % four" or, if the net sees another class, "51.0 % nine, 40.2 % four".
    """
    p = probabilities(net, img)
    chosen = dict.fromkeys((int(np.argmax(p)), index))
    return ", ".join(str(Guess(i, class_name(net, i), float(p[i]))) for i in chosen)
