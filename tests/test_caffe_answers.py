"""What real Caffe answered when old scripts' ways of using a net were tried on mini_imagenet (tests/data).

Of large arrays, 500 numbers at regular distances are kept.
"""
import re

import numpy as np
import pytest
from conftest import ROOT

from deepdream import caffe

NET = ROOT / "models" / "mini_imagenet"
ANSWERS = np.load(ROOT / "tests" / "data" / "pycaffe_answers.npz")
FIRST = "inception_4c/output"


@pytest.fixture
def make(tmp_path):
    """A function that makes the net from a prototxt that is removed again, with loss_weights: {layer: weight}."""
    def made(losses={}):
        text = (NET / "deploy.prototxt").read_text()
        for layer, weight in losses.items():
            text = re.sub(rf'name: *"{layer}"', rf"\g<0> loss_weight: {weight}", text, count=1)
        file = tmp_path / "temporary.prototxt"
        file.write_text("force_backward: true\n" + text)
        net = caffe.Net(str(file), str(NET / "mini_imagenet.caffemodel"), caffe.TEST)
        file.unlink()
        return net
    return made


def picture(h=96, w=128):
    noise = np.random.RandomState(int(ANSWERS["seed"])).randn(1, 3, h, w)
    return (noise * 40).astype(np.float32)


def fill(net, data):
    net.blobs["data"].reshape(*data.shape)
    net.blobs["data"].data[...] = data
    return net


def gradient(net, end):
    net.forward(end=end)
    net.blobs[end].diff[...] = net.blobs[end].data
    return net.backward(start=end)


def check(key, found):
    found, known = np.ravel(found), ANSWERS[key].ravel()
    if found.size != known.size:
        found = found[::found.size // 500][:500]
    error = np.linalg.norm(np.float64(found) - known) / max(np.linalg.norm(np.float64(known)), 1e-30)
    assert error < 1e-5, (key, error)


def sample(array):
    return np.ravel(array)[::max(1, array.size // 64)][:64]


@pytest.mark.parametrize("end", ["conv2/3x3", "inception_3b/output", FIRST])
def test_diffs_of_all_blobs_on_the_way(make, end):
    net = fill(make(), picture())
    gradient(net, end)
    for key in (k for k in ANSWERS if k.startswith(f"intermediate:{end}|")):
        check(key, sample(net.blobs[key.split("|")[1]].diff))


def test_losses_at_several_layers(make):
    net, ends = fill(make(), picture()), ["inception_4a/output", "pool2/3x3_s2", "conv2/3x3", "pool1/3x3_s2", None]
    net.forward(end=ends[0])
    for i, (end, below) in enumerate(zip(ends, ends[1:])):
        data = net.blobs[end].data
        net.blobs[end].diff[...] += data * np.float32(0.5 ** i) / np.abs(data).sum()
        net.backward(start=end, end=below)
        check(f"layered:{below or 'data'}", net.blobs[below or "data"].diff)


def test_leftover_diffs(make):
    net = make()
    for i, end in enumerate([FIRST, "inception_3b/5x5_reduce", "inception_4a/3x3", "inception_3b/output"]):
        check(f"leftover:{i}|{end}", gradient(fill(net, picture()), end)["data"])


def test_loss_weights(make):
    net = fill(make({"inception_3a/output": 0.3, "inception_4a/output": 1.0}), picture())
    assert net.blob_loss_weights["inception_3a/output_inception_3a/output_0_split_0"] == pytest.approx(0.3)
    net.forward(end="inception_4d/output")
    for name in ("inception_3a/output", "inception_4a/output"):
        check(f"loss_weight:before|{name}", sample(net.blobs[name].diff))
    net.blobs[FIRST].diff[...] = 0
    net.blobs[FIRST].diff[0, 5] = 1
    check("loss_weight:data", net.backward(start=FIRST)["data"])


def test_keywords(make):
    net, end = fill(make(), picture()), "conv2/3x3"
    net.forward(end="inception_3a/output")
    net.blobs[end].diff[...] = net.blobs[end].data
    found = net.backward(start=end, diffs=["pool1/3x3_s2", "conv2/3x3_reduce"])
    assert set(found) == {"data", "pool1/3x3_s2", "conv2/3x3_reduce"}
    for name, diff in found.items():
        check(f"keywords:diffs|{name}", diff)
    out = fill(make(), picture(224, 224)).forward(blobs=[FIRST, "pool5/7x7_s1"])
    check("keywords:forward|prob", out["prob"])
    check("keywords:forward|pool5", out["pool5/7x7_s1"])


def test_the_gradient_of_a_class(make):
    net = fill(make(), picture(224, 224))
    hot = np.zeros_like(net.forward()["prob"])
    hot[0, 207] = 1
    check("keywords:backward(prob=)", net.backward(prob=hot)["data"])


def test_forward_from_a_layer(make):
    """Caffe's copies of pool2 are shared only when the Split layer after it runs, so here they still hold zeros."""
    net = fill(make(), picture())
    net.forward(end="pool2/3x3_s2")
    net.blobs["pool2/3x3_s2"].data[...] *= 2
    check("forward_from:3b", net.forward(start="inception_3a/1x1", end="inception_3b/output")["inception_3b/output"])


def test_shapes(make):
    net = make()

    def shapes():
        return [size for name, blob in net.blobs.items() if "_split_" not in name for size in (*blob.data.shape, -1)]

    check("shapes:start", shapes())
    net.blobs["data"].reshape(1, 3, 96, 128)
    check("shapes:reshaped", shapes())
    net.forward(end=FIRST)
    check("shapes:after", shapes())
    prob = make().blobs["prob"]
    check("shapes:legacy", [prob.num, prob.channels, prob.height, prob.width, prob.count])


def test_a_view_follows(make):
    net = make()
    view = net.blobs["prob"].data
    fill(net, picture(224, 224)).forward()
    check("view:prob", view)


def test_weights_written_in_place(make):
    net = fill(make(), picture())
    net.params["conv1/7x7_s2"][0].data[...] *= np.float32(0.5)
    net.params["conv1/7x7_s2"][1].data[...] = 0
    check("surgery:3a", net.forward(end="inception_3a/output")["inception_3a/output"])


def test_save_and_copy_from(make, tmp_path):
    net, target = make(), str(tmp_path / "saved.caffemodel")
    net.params["conv2/3x3"][1].data[...] += np.float32(1)
    net.save(target)
    other = caffe.Net(str(NET / "deploy.prototxt"), caffe.TEST)
    assert not other.params["conv2/3x3"][0].data.any()      # as Caffe's default filler makes them
    other.copy_from(target)
    check("saved:3a", fill(other, picture()).forward(end="inception_3a/output")["inception_3a/output"])


def test_io():
    image = np.random.RandomState(1).rand(40, 60, 6).astype(np.float32)
    for order in (0, 1):
        check(f"resize:6|{order}", caffe.io.resize_image(image, (27, 90), interp_order=order))
    check("resize:oversample", caffe.io.oversample([image[..., :3]], (20, 30)))
