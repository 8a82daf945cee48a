"""Makes the net digits, a perceptron of one layer, by logistic regression on scikit-learn's handwritten digits.

    python models/make_digits.py [--out FOLDER]

The digits are 1,797 pictures of 8x8 pixels by 13 people (the test part of UCI's "Optical Recognition of Handwritten
Digits", E. Alpaydin and C. Kaynak, 1998). The last fifth, in the data's order, is held out: it is only measured on.
Weights are the minimum of a convex function, found by Newton's method and rounded: the same file comes out again.
"""
import argparse
import hashlib
import sys
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream.models.caffe_files import write_net  # noqa: E402

MEAN = 78.0        # grey level 0..255: the mean of the pictures, rounded; ink is bright
DECAY = 0.003      # L2, on weights for pixels in 0..1
DIGITS = 24        # binary digits behind the point that weights keep: coarser than what another machine's sums change
LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")
LAYERS = (("data", "Input", [], "data", ["input_param { shape { dim: 1 dim: 1 dim: 8 dim: 8 } }"]),
          ("ip", "InnerProduct", ["data"], "ip", ["inner_product_param { num_output: 10 }"]),
          ("prob", "Softmax", ["ip"], "prob", []))


def train(x, labels, classes, decay=DECAY, steps=50):
    """Multinomial logistic regression: W (classes, d), b (classes), float64, that minimize the mean cross-entropy of
    softmax(W x + b) plus decay / 2 |W|^2; b sums to 0.

    x: (n, d), numbers of the order of 1. labels: (n,) in 0..classes - 1. Newton's method, each step halved until it
    descends; raises RuntimeError if `steps` of them do not reach the minimum.
    """
    n, d = x.shape
    x = np.hstack([np.float64(x), np.ones((n, 1))])
    truth = np.eye(classes)[labels]
    ridge = np.tile(np.append(np.full(d, decay), 0), classes)
    level = np.tile(np.append(np.zeros(d), 1), classes)        # one and the same on all biases changes nothing: kept 0
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
        shares = [p[:, k, None] * (np.eye(classes)[k] - p) for k in range(classes)]       # how p[:, k] follows scores
        curvature = np.vstack([x.T @ (s[:, :, None] * x[:, None]).reshape(n, -1) / n for s in shares])
        step = np.linalg.solve(curvature + np.diag(ridge) + np.outer(level, level), slope).reshape(w.shape)
        size = 1.0
        while loss(w - size * step)[0] > cost + 1e-12:
            size /= 2
        w -= size * step
        cost, p = loss(w)
    raise RuntimeError(f"no minimum after {steps} steps of Newton's method")


def caffe_weights(w, b):
    """The InnerProduct's blobs, float32, for a data blob of grey levels 0..255 minus MEAN. w, b: as from `train`."""
    # + 0: the sign of a zero depends on the machine too
    return [np.float32(np.round(np.ldexp(a, DIGITS)) / 2.0 ** DIGITS + 0) for a in (w / 255, b)]


def accuracy(weights, data, labels):
    """The share of the pictures (n, d), as the data blob has them, whose largest score is their label's."""
    w, b = weights
    return float(((data @ w.T + b).argmax(1) == labels).mean())


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--out", type=Path, default=HERE / "digits", help="the net's folder")
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
