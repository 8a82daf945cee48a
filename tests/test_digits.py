"""The net digits, and models/make_digits.py, which makes it. Only the last test needs scikit-learn, for its data."""
import sys

import numpy as np
import pytest
from deepdream.convert.caffe.reader import read_caffemodel
from deepdream.models import make_digits
from deepdream.models.caffe_files import write_net

from deepdream import Net, models
from deepdream.cli import main
from deepdream.dream import preprocess

FILES = ("deploy.prototxt", "digits.caffemodel", "labels.txt")


@pytest.fixture(scope="module")
def net():
    return Net("digits", device="cpu")


@pytest.fixture(scope="module")
def weights():
    """The weights of each class, scaled to the range of a picture less the mean: (10, 1, 8, 8)."""
    w = read_caffemodel(models.find("digits").caffemodel)["ip"][0].reshape(10, 1, 8, 8)
    return w / np.abs(w).max((1, 2, 3), keepdims=True) * make_digits.MEAN


def test_the_model_card(net):
    card = models.card("digits")
    assert models.status("digits") == "shipped" and card.mean == (make_digits.MEAN,)
    assert net.default_end == card.default_end == "ip"
    assert {e for ends in card.ends.values() for e in ends} == set(net.ends) - {"data"}
    assert sum((card.folder / name).stat().st_size for name in FILES) < 5000
    assert models.read_labels(models.find("digits").labels) == list(make_digits.LABELS)


def test_a_grey_net_of_one_layer(net):
    assert net.blobs["data"].shape == (1, 1, 8, 8)
    assert net.transformer.mean["data"].tolist() == [[[make_digits.MEAN]]]
    assert net.ends["ip"][:3] == (10, None, None) and net.outputs == ["prob"]
    white = np.full((8, 8, 3), 255.0)
    np.testing.assert_allclose(preprocess(net, white), np.full((1, 8, 8), 255 - make_digits.MEAN), rtol=1e-5)
    assert net.features(white, "prob").shape == (10,)


def test_a_class_s_weights_are_read_as_that_class(net, weights):
    for digit in range(10):
        picture = np.repeat(weights[digit, 0, :, :, None] + make_digits.MEAN, 3, axis=2)
        assert 0 <= picture.min() and picture.max() <= 255
        scores, prob = net.features(picture, ["ip", "prob"])
        assert scores.argmax() == prob.argmax() == digit and prob.sum() == pytest.approx(1)


def test_after_surgery_a_digit_is_found_where_it_stands(net, weights):
    cut = Net("digits", device="cpu", surgery=True)
    cut.blobs["data"].reshape(1, 1, 24, 31)
    for digit, (y, x) in zip(range(10), [(3, 20), (16, 0), (0, 23), (7, 7), (11, 2)] * 2):
        cut.blobs["data"].data[...] = 0
        cut.blobs["data"].data[0, 0, y:y + 8, x:x + 8] = weights[digit]
        scores = cut.forward(end="ip")["ip"]
        assert scores.shape == (1, 10, 17, 24)
        assert np.unravel_index(scores[0, digit].argmax(), (17, 24)) == (y, x)
        net.blobs["data"].data[0] = weights[digit]
        np.testing.assert_allclose(scores[0, :, y, x], net.forward(end="ip")["ip"][0], rtol=1e-4, atol=1e-5)


def test_its_layers_are_listed(capsys):
    assert main(["layers", "--model", "digits"]) == 0
    assert [line.split() for line in capsys.readouterr().out.splitlines()] == \
        [["data", "1", "1"], ["ip", "10", "-"], ["prob", "10", "-"]]


# ---- how it is made

@pytest.fixture(scope="module")
def clouds():
    """Three overlapping clouds of points, with a fifth coordinate that is constant: x (90, 5), labels."""
    rng = np.random.default_rng(0)
    labels = np.arange(90) % 3
    centres = rng.standard_normal((3, 4))
    return np.hstack([centres[labels] + rng.standard_normal((90, 4)), np.full((90, 1), -0.3)]), labels


def test_training_finds_the_minimum_and_is_deterministic(clouds):
    x, labels = clouds
    w, b = make_digits.train(x, labels, 3, decay=0.01)
    for again in (make_digits.train(x, labels, 3, decay=0.01), make_digits.train(x[::-1], labels[::-1], 3, decay=0.01)):
        for one, other in zip(make_digits.caffe_weights(w, b), make_digits.caffe_weights(*again)):
            assert one.dtype == np.float32 and one.tobytes() == other.tobytes()

    def cost(w, b):
        scores = x @ w.T + b
        return (np.log(np.exp(scores).sum(1)) - scores[np.arange(90), labels]).mean() + 0.005 * (w ** 2).sum()
    rng, lowest = np.random.default_rng(1), cost(w, b)
    for _ in range(20):
        assert cost(w + 1e-3 * rng.standard_normal(w.shape), b + 1e-3 * rng.standard_normal(3)) > lowest
    assert b.sum() == pytest.approx(0, abs=1e-12) and np.abs(w[:, 4]).max() < 1e-10
    assert make_digits.accuracy((w, b), x, labels) > 0.6


def test_the_same_bytes_are_written_again(clouds, tmp_path):
    weights = make_digits.caffe_weights(*make_digits.train(*clouds, 3))
    for name in ("one", "two"):
        size = write_net(tmp_path / name / "net", "net", make_digits.LAYERS, {"ip": weights}, ["a", "b", "c"])
        assert size == (tmp_path / name / "net" / "net.caffemodel").stat().st_size
    for name in ("deploy.prototxt", "net.caffemodel", "labels.txt"):
        assert (tmp_path / "one" / "net" / name).read_bytes() == (tmp_path / "two" / "net" / name).read_bytes()
    for mine, read in zip(weights, read_caffemodel(tmp_path / "one" / "net" / "net.caffemodel")["ip"], strict=True):
        np.testing.assert_array_equal(mine, read)


def test_the_script_makes_the_shipped_files(tmp_path, monkeypatch, capsys):
    pytest.importorskip("sklearn", reason="needs scikit-learn, whose digits the net is made from")
    monkeypatch.setattr(sys, "argv", ["make_digits.py", "--out", str(tmp_path / "digits")])
    make_digits.main()
    assert "trained on: 0.9771 of 1438 right\nheld out: 0.8942 of 359 right" in capsys.readouterr().out
    for name in FILES:
        assert (tmp_path / "digits" / name).read_bytes() == (models.card("digits").folder / name).read_bytes()
