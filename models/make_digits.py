"""Make the net digits, a perceptron of one layer, by logistic regression on scikit-learn's handwritten digits.

    python models/make_digits.py [--out FOLDER]

The data are 1,797 pictures of 8x8 pixels, of digits that 13 people wrote (the test part of UCI's "Optical Recognition
of Handwritten Digits", E. Alpaydin and C. Kaynak, 1998). The last fifth, in the order of the data, is held out and only
used for measuring. The weights are the minimum of a convex function, found by Newton's method and rounded, so the
script writes the same file every time.
"""
from __future__ import annotations

import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream.models.caffe_files import write_net  # noqa: E402

MEAN = 78.0        # mean grey level of the pictures, 0 to 255, rounded; the ink is bright
DECAY = 0.003      # L2 regularization of the weights, for pixels from 0 to 1
DIGITS = 24        # binary digits after the point to which weights are rounded, so that machines agree on them
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LAYERS = (("data", "Input", [], "data", ["input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } }"]),
          ("ip", "InnerProduct", ["data"], "ip", ["inner_product_param { num_output: 10 }"]),
          ("prob", "Softmax", ["ip"], "prob", []))


def train(x: np.ndarray, labels: np.ndarray, classes: int, decay: float = DECAY,
          steps: int = 50) -> tuple[np.ndarray, np.ndarray]:
    """Fit a multinomial logistic regression: minimize the mean cross-entropy of softmax(W x + b) plus decay / 2 |W|^2.

    x: the data, (n, d), scaled to about 1.
    labels: the classes of the data, (n,), from 0 to classes - 1.
    classes: the number of classes.
    decay: weight of the L2 regularization.
    steps: maximum number of steps of Newton's method; each is halved until it descends.

    Returns W (classes, d) and b (classes,), float64; b sums to 0. Raises RuntimeError if the minimum is not reached.
    """
    n, d = x.shape
    x = np.hstack([np.float64(x), np.ones((n, 1))])
    truth = np.eye(classes)[labels]
    ridge = np.tile(np.append(np.full(d, decay), 0), classes)
    # a constant added to all biases changes nothing; this term keeps it at 0
    level = np.tile(np.append(np.zeros(d), 1), classes)
    w = np.zeros((classes, d + 1))

    def loss(w):
        scores = x @ w.T
        scores -= scores.max(1, keepdims=True)
        p = np.exp(scores)
        p /= p.sum(1, keepdims=True)
        cost = -np.log(np.maximum(p[truth > 0], 1e-300)).mean() + ridge @ w.ravel() ** 2 / 2
        return cost, p

    cost, p = loss(w)
    for _ in range(steps):
        slope = ((p - truth).T @ x / n).ravel() + ridge * w.ravel()
        if np.abs(slope).max() < 1e-13:
            return w[:, :-1], w[:, -1]
        slopes = [p[:, k, None] * (np.eye(classes)[k] - p) for k in range(classes)]       # d p[:, k] / d scores
        curvature = np.vstack([x.T @ (s[:, :, None] * x[:, None]).reshape(n, -1) / n for s in slopes])
        step = np.linalg.solve(curvature + np.diag(ridge) + np.outer(level, level), slope).reshape(w.shape)
        size = 1.0
        while loss(w - size * step)[0] > cost + 1e-12:
            size /= 2
        w -= size * step
        cost, p = loss(w)
    raise RuntimeError(f"no minimum after {steps} steps of Newton's method")


def caffe_weights(w: np.ndarray, b: np.ndarray) -> list[np.ndarray]:
    """Convert weights for a data blob that holds grey levels, 0 to 255, minus MEAN.

    w, b: from `train`.

    Returns the blobs of the InnerProduct layer, float32.
    """
    # + 0, because the sign of a zero depends on the machine
    return [np.float32(np.round(np.ldexp(a, DIGITS)) / 2.0 ** DIGITS + 0) for a in (w / 255, b)]


def accuracy(weights: list[np.ndarray], data: np.ndarray, labels: np.ndarray) -> float:
    """Return the share of pictures whose largest score is that of their label.

    weights: from `caffe_weights`.
    data: the pictures as the data blob holds them, (n, d).
    labels: (n,).
    """
    w, b = weights
    return float(((data @ w.T + b).argmax(1) == labels).mean())


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "digits", help="the folder for the net's files (default: "
                        "models/digits)")
    folder = parser.parse_args().out
    from sklearn.datasets import load_digits
    pictures, labels = load_digits(return_X_y=True)
    data = pictures * (255 / 16) - MEAN
    cut = len(data) - len(data) // 5
    weights = caffe_weights(*train(data[:cut] / 255, labels[:cut], len(LABELS)))
    for name, part in (("trained on", slice(cut)), ("held out", slice(cut, None))):
        print(f"{name}: {accuracy(weights, data[part], labels[part]):.4f} of {len(labels[part])} right")
    write_net(folder, "digits", LAYERS, {"ip": weights}, LABELS)
    for path in (folder / "deploy.prototxt", folder / "digits.caffemodel", folder / "labels.txt"):
        content = path.read_bytes()
        print(f"{path.name}: {len(content)} bytes, sha256 {hashlib.sha256(content).hexdigest()}")


if __name__ == "__main__":
    main()
