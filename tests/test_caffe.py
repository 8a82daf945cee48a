"""`deepdream.caffe`, which stands in for pycaffe: a dream script's calls, on small nets by formula."""
import numpy as np
import pytest
import toys
from google.protobuf import text_format
from PIL import Image

import deepdream
from deepdream import caffe

END = "inception_3a/output"
CLASSIFIED = toys.net(toys.conv("conv1", "data", 8, 3, pad=1, stride=2), toys.relu("conv1"),
                      toys.layer("pool", "Pooling", "conv1", "pool", "pooling_param { global_pooling: true }"),
                      toys.layer("drop", "Dropout", "pool", "pool"), toys.product("ip", "pool", 5),
                      toys.softmax("prob", "ip"), shape=(4, 3, 24, 32))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toys.write_net(tmp_path_factory.mktemp("narrow"), toys.googlenet(narrow=8))


@pytest.fixture(scope="module")
def files(folder):
    return str(folder / "deploy.prototxt"), str(folder / "net.caffemodel")


@pytest.fixture
def net(files):
    return caffe.Net(files[0], caffe.TEST, weights=files[1])


@pytest.fixture(scope="module")
def classified(tmp_path_factory):
    folder = toys.write_net(tmp_path_factory.mktemp("classified"), CLASSIFIED)
    return str(folder / "deploy.prototxt"), str(folder / "net.caffemodel")


def patched(prototxt, target):
    """What dream scripts do to get gradients at the data."""
    model = caffe.io.caffe_pb2.NetParameter()
    text_format.Merge(open(prototxt).read(), model)
    model.force_backward = True
    target.write_text(str(model))
    assert "force_backward: true" in target.read_text()
    return str(target)


def ascend(net, end, step_size=1.5):
    """A step of gradient ascent on the calls of pycaffe alone."""
    src, dst = net.blobs["data"], net.blobs[end]
    net.forward(end=end)
    dst.diff[:] = dst.data
    net.backward(start=end)
    g = src.diff[0]
    src.data[:] += step_size / np.abs(g).mean() * g


def test_a_dream_script(files, folder, tmp_path):
    mean = np.float32([104.0, 116.0, 122.0])
    net = caffe.Classifier(patched(files[0], tmp_path / "tmp.prototxt"), files[1], mean=mean, channel_swap=(2, 1, 0))
    assert net.transformer.mean["data"].shape == (3, 1, 1)
    assert list(net.blobs.keys())[:2] == ["data", "conv1/7x7_s2"] and list(net.blobs)[-1] == "prob"
    picture = np.float32(np.random.default_rng(0).uniform(0, 255, (40, 56, 3)))
    data = np.rollaxis(picture, 2)[::-1] - net.transformer.mean["data"]
    net.blobs["data"].reshape(1, 3, 40, 56)
    net.blobs["data"].data[0] = data
    ours = deepdream.Net(str(folder), mean=mean, device="cpu")
    ours.blobs["data"].reshape(1, 3, 40, 56)
    ours.blobs["data"].data[0] = data
    for _ in range(3):
        ascend(net, END)
        deepdream.make_step(ours, end=END, jitter=0, clip=False)
    assert np.abs(net.blobs["data"].data[0] - data).mean() > 2
    assert toys.off(net.blobs["data"].data[0] - data, ours.blobs["data"].data[0] - data) < 1e-4


@pytest.mark.parametrize("make", [
    lambda p, w: caffe.Net(p, w, caffe.TEST), lambda p, w: caffe.Net(p, caffe.TEST, weights=w),
    lambda p, w: caffe.Net(network_file=p, phase=caffe.TEST, weights=w), lambda p, w: caffe.Classifier(p, w)])
def test_every_way_to_make_a_net(classified, make):
    net = make(*classified)
    out = net.forward(data=np.ones((4, 3, 24, 32)))
    assert list(out) == net.outputs == ["prob"] and out["prob"].shape == (4, 5)
    assert np.allclose(out["prob"].sum(1), 1) and np.array_equal(out["prob"], net.blobs["prob"].data)


def test_blobs_know_their_shapes(net):
    assert net.inputs == ["data"] and net.blobs["data"].data.shape == (10, 3, 224, 224)
    assert net.blobs["inception_4c/output"].data.shape == (10, 64, 14, 14)
    net.blobs["data"].reshape(1, 3, 64, 48)
    net.reshape()
    blob = net.blobs["pool1/3x3_s2"]
    assert (blob.num, blob.height, blob.width) == (1, 16, 12)
    assert net.forward(end="pool1/3x3_s2")["pool1/3x3_s2"].shape == (1, 8, 16, 12)


def test_a_blob_of_an_earlier_pass_keeps_its_value(net):
    """A shorter pass leaves what lies behind its end alone."""
    net.blobs["data"].reshape(1, 3, 64, 64)
    net.blobs["data"].data[...] = toys.noise(1, 3, 64, 64)
    net.forward(end="inception_3a/output")
    net.blobs["data"].data[...] = 0
    net.forward(end="pool1/3x3_s2")
    assert not np.array_equal(net.blobs["pool1/3x3_s2"].data, 0 * net.blobs["pool1/3x3_s2"].data)
    late = net.blobs["inception_3a/3x3"].data
    net.forward(end="inception_3a/output")
    assert not np.array_equal(late, net.blobs["inception_3a/3x3"].data)


def test_layers_without_a_blob_of_their_own(net):
    src, dst = net.blobs["data"], net.blobs["inception_3a/3x3"]
    src.reshape(1, 3, 64, 64)
    src.data[...] = 50 * toys.noise(1, 3, 64, 64)
    net.forward(end="inception_3a/relu_3x3")
    assert dst.data.min() == 0
    dst.diff[:] = dst.data
    net.backward(start="inception_3a/relu_3x3")
    after = src.diff.copy()
    net.forward(end="inception_3a/3x3")
    assert dst.data.min() < 0
    dst.diff[:] = np.maximum(dst.data, 0)
    assert toys.off(net.backward(start="inception_3a/3x3")["data"], after) < 1e-6


@pytest.mark.parametrize("layer", ["inception_3a/3x3", "inception_3a/relu_3x3", "inception_3a/output"])
def test_leftover_diffs(files, net, layer):
    """Kept diffs change nothing the first time."""
    found = []
    for n in (net, caffe.Net(*files, caffe.TEST, leftover_diffs=True)):
        src, blob = n.blobs["data"], n.blobs[n.top_names[layer][0]]
        src.reshape(1, 3, 48, 64)
        src.data[...] = toys.noise(1, 3, 48, 64) * 30
        n.forward(end=layer)
        blob.diff[...] = blob.data
        found.append(n.backward(start=layer)["data"].copy())
    assert toys.off(found[1], found[0]) < 1e-6


def test_weights(net, files):
    assert list(net.params)[0] == "conv1/7x7_s2"
    weights, bias = (p.data for p in net.params["conv1/7x7_s2"])
    assert weights.shape == (8, 3, 7, 7) and bias.shape == (8,)
    assert np.array_equal(weights, toys.formula("conv1/7x7_s2", 0, (8, 3, 7, 7)))
    copy = weights.copy()
    copy[0] = 1
    copy *= 2
    assert np.mean(weights ** 2) > 0
    with pytest.raises(ValueError, match="read-only.*caffe_pb2"):
        weights[0] = 1
    with pytest.raises(ValueError, match="read-only.*caffe_pb2"):
        weights *= 2
    assert net.layers[1].type == "Convolution" and net.layers[1].blobs[0].shape == (8, 3, 7, 7)
    assert net.layer_dict["prob"].type == "Softmax" and "conv1/relu_7x7" in net._layer_names
    assert net.top_names["conv1/relu_7x7"] == net.bottom_names["conv1/relu_7x7"] == ["conv1/7x7_s2"]


@pytest.mark.parametrize("call, message", [
    (lambda c, n, f: c.Net(f[0], c.TEST), "without weights.*weights=caffemodel"),
    (lambda c, n, f: c.Net(*f, c.TRAIN), "TRAIN is not supported.*caffe.TEST"),
    (lambda c, n, f: c.Net(*f, c.TEST, stages=["deploy"]), "stages are not supported"),
    (lambda c, n, f: c.SGDSolver, "caffe.SGDSolver is not supported here: .*caffemodel"),
    (lambda c, n, f: c.nonsense, "no attribute 'nonsense'; it has .*Classifier"),
    (lambda c, n, f: c.io.datum_to_array, "datum_to_array is not supported here"),
    (lambda c, n, f: n.copy_from("x"), "copy_from is not supported here: give the weights when"),
    (lambda c, n, f: n.save("x"), "save is not supported here"),
    (lambda c, n, f: n.nonsense, "no attribute 'nonsense'"),
    (lambda c, n, f: n.forward(start="conv2/3x3"), r"forward\(start=\) is not supported"),
    (lambda c, n, f: n.forward(end="conv2/3x4"), "nearest are.*conv2/3x3"),
    (lambda c, n, f: n.forward(picture=1), "inputs are data"),
    (lambda c, n, f: n.backward(end="conv2/3x3"), r"backward\(end=.*net.backward\(start=start\)"),
    (lambda c, n, f: setattr(n.blobs["data"], "data", 1), r"changed in place: blob.data\[\.\.\.\]"),
    (lambda c, n, f: setattr(n.params["conv2/3x3"][0], "data", 1), "read-only"),
    (lambda c, n, f: n.params["conv2/3x3"][0].diff, "gradients by the weights are not computed"),
])
def test_what_is_not_supported_says_what_to_use(net, files, call, message):
    with pytest.raises((AttributeError, NotImplementedError, ValueError), match=message):
        call(caffe, net, files)


def test_the_cpu_or_a_gpu(net, capsys):
    caffe.set_mode_gpu()
    caffe.set_device(0)
    try:
        assert net.forward(end="conv1/7x7_s2")["conv1/7x7_s2"].shape[1] == 8
    finally:
        caffe.set_mode_cpu()
    assert net.forward(end="conv1/7x7_s2")["conv1/7x7_s2"].shape[1] == 8 and not net.device.is_cuda


def test_predict(classified):
    net = caffe.Classifier(*classified, image_dims=(32, 40), mean=np.float32([1, 2, 3]), raw_scale=255,
                           channel_swap=(2, 1, 0))
    pictures = [np.random.default_rng(i).uniform(0, 1, (50, 60, 3)) for i in range(3)]
    found = net.predict(pictures)
    assert found.shape == (3, 5) and np.allclose(found.sum(1), 1, atol=1e-5)
    centre = net.predict(pictures, oversample=False)
    data = net.transformer.preprocess("data", caffe.io.resize_image(pictures[0], (32, 40))[4:28, 4:36])
    assert np.allclose(net.forward(data=data[None])["prob"][0], centre[0], atol=1e-5)


def test_transformer(tmp_path):
    t = caffe.io.Transformer({"data": (1, 3, 20, 30)})
    t.set_transpose("data", (2, 0, 1))
    t.set_mean("data", np.load(_saved(tmp_path, np.float32([104, 117, 123]))))
    t.set_raw_scale("data", 255)
    t.set_channel_swap("data", (2, 1, 0))
    picture = np.random.default_rng(0).uniform(0, 1, (20, 30, 3)).astype(np.float32)
    data = t.preprocess("data", picture)
    assert data.shape == (3, 20, 30) and np.allclose(data[0], picture[:, :, 2] * 255 - 104, atol=1e-4)
    assert np.allclose(t.deprocess("data", data[None]), picture, atol=1e-5)
    assert t.preprocess("data", np.ones((40, 40, 3))).shape == (3, 20, 30)
    t.set_mean("data", np.ones((3, 256, 256)))
    assert t.mean["data"].shape == (3, 20, 30)
    with pytest.raises(ValueError, match="does not fit"):
        t.set_mean("data", np.ones(4))
    with pytest.raises(KeyError, match="no input called 'label'"):
        t.set_raw_scale("label", 1)


def _saved(folder, array):
    np.save(folder / "mean.npy", array)
    return folder / "mean.npy"


def test_io(tmp_path):
    Image.new("RGB", (6, 4), (255, 128, 0)).save(tmp_path / "a.png")
    picture = caffe.io.load_image(str(tmp_path / "a.png"))
    assert picture.shape == (4, 6, 3) and picture.dtype == np.float32 and picture.max() == 1
    assert caffe.io.load_image(str(tmp_path / "a.png"), color=False).shape == (4, 6, 1)
    assert caffe.io.oversample([picture], (2, 3)).shape == (10, 2, 3, 3)
    array = toys.noise(1, 3, 2, 2)
    assert np.array_equal(caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(array)), array)
    from deepdream.caffe.proto import caffe_pb2
    assert caffe_pb2 is caffe.proto.caffe_pb2 is caffe.io.caffe_pb2
