"""`classify`: the classes that a net sees in pictures, and its verdict after `deepdream class`."""
import re

import numpy as np
import onnx
import pytest
import toys
from onnx_toys import filters, net, some
from toys import conv, pool, product, relu, softmax

from deepdream import Net, classify, load, save
from deepdream.cli import main
from deepdream.seeing.classify import input_view, probabilities, verdict


@pytest.fixture(scope="module")
def digits():
    return Net("digits", device="cpu", threads=1)


def test_probabilities_are_the_softmax_of_the_net(tmp_path):
    text = toys.net(conv("c", "data", 6, 3, stride=2), relu("c"), pool("p", "c", "AVE", 15, 1),
                    product("ip", "p", 10), softmax("prob", "ip"), shape=(1, 3, 32, 32))
    folder = toys.write_net(tmp_path / "net", text)
    seen, img = Net(folder, device="cpu", threads=1), np.float32(np.random.default_rng(0).uniform(0, 255, (32, 32, 3)))
    expected = seen.features(img, "prob").ravel()
    np.testing.assert_allclose(probabilities(seen, img), expected, rtol=1e-4, atol=1e-12)
    guesses = classify(seen, img, 3)
    assert [g.index for g in guesses] == list(np.argsort(-expected)[:3])
    assert str(guesses[0]) == f"{100 * expected.max():.1f} % class {np.argmax(expected)}"
    cut = Net(folder, device="cpu", threads=1, surgery=True)      # scores as a map
    np.testing.assert_allclose(probabilities(cut, img), expected, rtol=1e-3, atol=1e-12)


def test_scores_that_are_probabilities_already(tmp_path):
    """The scores of a net that ends in a Sigmoid are shown as they are."""
    path = tmp_path / "net.onnx"
    onnx.save(net("c = Conv(x, w); g = GlobalAveragePool(c); f = Flatten(g); l = Gemm(f, fw); y = Sigmoid(l)",
                  {"w": filters(4, 3), "fw": some(4, 5)}), path)
    seen = Net(path, device="cpu", threads=1, mean=0, scale=1 / 255)
    img = np.float32(np.random.default_rng(0).uniform(0, 255, (32, 32, 3)))
    np.testing.assert_allclose(probabilities(seen, img), seen.features(img, "y").ravel(), rtol=1e-6)
    assert abs(probabilities(seen, img).sum() - 1) > 0.01


def test_the_net_looks_at_the_middle(digits):
    y, x = np.mgrid[:300, :600]
    ramp = np.float32(np.dstack([x * 255 / 599, y * 255 / 299, y * 0]))
    imagenet = Net("mini_imagenet", device="cpu", threads=1)
    view = input_view(imagenet, ramp)
    assert view.shape == (224, 224, 3)
    # 300 becomes 256: the middle 224 are 262.5 pixels of the picture in both directions
    for channel, axis, size in ((0, 1, 600), (1, 0, 300)):
        line = view[112, :, channel] if axis else view[:, 112, channel]
        assert line[0] == pytest.approx((size / 2 - 131.25) / size * 255, abs=1)
        assert line[-1] == pytest.approx((size / 2 + 131.25) / size * 255, abs=1)
    whole = input_view(imagenet, ramp, whole=True)
    assert whole.shape == (224, 224, 3) and whole[112, 0, 0] < 2 and whole[112, -1, 0] > 253
    exact = np.float32(np.random.default_rng(0).uniform(0, 255, (224, 224, 3)))
    assert input_view(imagenet, exact) is exact
    small = input_view(digits, ramp)      # nothing of the height is cut off
    assert small.shape == (8, 8, 3) and small[0, 4, 1] < 25 and small[-1, 4, 1] > 230


def test_a_digit_is_recognized_and_the_verdict_agrees(tmp_path, capsys, digits):
    out = tmp_path / "four.png"
    assert main(["class", "four", "nine", "--model", "digits", "-o", str(tmp_path / "two.png"), "--seed", "1",
                 "--device", "cpu"]) == 0
    lines = capsys.readouterr().out.splitlines()
    for name, line in zip(("four", "nine"), lines[-2:], strict=True):
        assert re.fullmatch(rf"{name}: the net sees 9\d\.\d % {name}", line), line
    assert main(["class", "four", "--model", "digits", "-o", str(out), "--seed", "1", "--device", "cpu"]) == 0
    printed = capsys.readouterr().out.splitlines()[-1]
    guess = classify(digits, load(out))[0]
    assert guess.name == "four" and guess.probability > 0.9
    assert printed.startswith("four: the net sees") and printed.endswith(" % four")
    nine, = (g for g in classify(digits, load(out), 10) if g.name == "nine")
    assert verdict(digits, load(out), 9) == f"{guess}, {nine}"


def test_the_command_lists_classes(tmp_path, capsys):
    out = tmp_path / "four.png"
    assert main(["class", "four", "--model", "digits", "-o", str(out), "--seed", "1", "--device", "cpu"]) == 0
    capsys.readouterr()
    (tmp_path / "no.txt").write_text("no picture")
    assert main(["classify", str(out), str(tmp_path / "no.txt"), str(out), "--model", "digits", "--top", "3",
                 "--device", "cpu"]) == 2
    printed = capsys.readouterr()
    assert printed.err.strip().endswith("no.txt: not a picture; JPEG, PNG, WebP and TIFF are supported")
    lines = printed.out.splitlines()
    assert lines[0] == lines[4] == f"{out}, by digits:" and len(lines) == 8
    assert re.fullmatch(r"   9\d\.\d %  four", lines[1])
    shares = [float(line.split()[0]) for line in lines[1:4]]
    assert shares == sorted(shares, reverse=True) and sum(shares) <= 100.1


@pytest.mark.parametrize("arguments, message", [
    (["missing.png"], "missing.png: no such picture"),
    ([""], "PICTURE: is empty"),
])
def test_mistakes_are_one_line(arguments, message, capsys):
    code = main(["classify", *arguments, "--model", "digits", "--device", "cpu"])
    error = capsys.readouterr().err
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1


def test_a_net_without_a_classifier(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    onnx.save(net("c = Conv(x, w); r = Relu(c)", {"w": filters(4, 3)}, outputs=["r"]), path)
    save(np.full((40, 40, 3), 90.0), tmp_path / "p.png")
    assert main(["classify", str(tmp_path / "p.png"), "--model", str(path), "--device", "cpu"]) == 2
    assert "has no classifier to ask for a class" in capsys.readouterr().err


def test_labelled_photographs(shared):
    """GoogLeNet knows what is in 24 photographs whose names are its labels."""
    paths = sorted((shared / "images" / "probe").glob("*.jpg"))
    if not paths:
        pytest.skip(f"needs labelled photographs in {shared / 'images' / 'probe'}")
    seen = Net(shared / "models" / "bvlc_googlenet", device="cpu", threads=1)
    labels = [[word.strip().lower().replace(" ", "_") for word in label.split(",")] for label in seen.labels]
    ranks = []
    for path in paths:
        indices = [guess.index for guess in classify(seen, load(path))]
        ranks.append(next((rank for rank, i in enumerate(indices) if path.stem in labels[i]), 99))
    assert (np.array(ranks) == 0).mean() >= 0.7 and max(ranks) < 5, dict(zip((p.stem for p in paths), ranks))
