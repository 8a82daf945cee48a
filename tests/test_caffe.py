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
    blob = net.blobs["ip"]
    assert (blob.num, blob.channels, blob.height, blob.width) == (4, 5, 1, 1)
    assert list(out) == net.outputs == ["prob"] and out["prob"].shape == (4, 5)
    assert np.allclose(out["prob"].sum(1), 1) and np.array_equal(out["prob"], net.blobs["prob"].data)


def test_shapes_and_views_are_kept(net):
    """Blobs after the data keep their shapes and their numbers until a pass reshapes them."""
    assert net.inputs == ["data"] and net.blobs["data"].data.shape == (10, 3, 224, 224)
    late, view = net.blobs["inception_4c/output"], net.blobs["pool1/3x3_s2"].data
    assert late.data.shape == (10, 64, 14, 14)
    net.blobs["data"].reshape(1, 3, 64, 48)
    net.blobs["data"].data[...] = toys.noise(1, 3, 64, 48)
    assert late.shape == (10, 64, 14, 14) and view.shape == (10, 8, 56, 56)
    found = net.forward(end="pool1/3x3_s2")["pool1/3x3_s2"]
    assert found.shape == (1, 8, 16, 12) and found.any() and np.array_equal(found.ravel(), view.ravel()[:found.size])
    assert late.shape == (10, 64, 14, 14)
    net.forward(end="inception_4c/output")
    assert late.shape == (1, 64, 4, 3)


def test_reshape(classified):
    net = caffe.Net(*classified, caffe.TEST)
    net.blobs["data"].reshape(2, 3, 12, 12)
    net.reshape()
    assert net.blobs["conv1"].shape == (2, 8, 6, 6) and net.blobs["prob"].shape == (2, 5)


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


@pytest.mark.parametrize("end", ["inception_3a/3x3", "inception_3a/relu_3x3", "inception_3a/output"])
def test_diffs_are_kept_unless_asked(files, end):
    """After a dream further up, `end` has other gradients than on a fresh net, but not with leftover_diffs=False."""
    found = []
    for leftover, before in ((True, None), (True, "inception_3b/output"), (False, "inception_3b/output")):
        n = caffe.Net(*files, caffe.TEST, leftover_diffs=leftover)
        n.blobs["data"].reshape(1, 3, 48, 64)
        for layer in filter(None, (before, end)):
            n.blobs["data"].data[...] = toys.noise(1, 3, 48, 64) * 30
            n.forward(end=layer)
            blob = n.blobs[n.top_names[layer][0]]
            blob.diff[...] = blob.data
            g = n.backward(start=layer)["data"].copy()
        found.append(g)
    assert toys.off(found[2], found[0]) < 1e-6
    assert (toys.off(found[1], found[0]) > 0.01) == (end != "inception_3a/output")


def test_weights(net, files):
    assert list(net.params)[0] == "conv1/7x7_s2"
    weights, bias = (p.data for p in net.params["conv1/7x7_s2"])
    assert weights.shape == (8, 3, 7, 7) and bias.shape == (8,)
    assert np.array_equal(weights, toys.formula("conv1/7x7_s2", 0, (8, 3, 7, 7)))
    net.blobs["data"].reshape(1, 3, 32, 32)
    net.blobs["data"].data[...] = 1
    before = net.forward(end="conv1/7x7_s2")["conv1/7x7_s2"].copy()
    weights *= 2
    bias *= 2
    assert toys.off(net.forward(end="conv1/7x7_s2")["conv1/7x7_s2"], 2 * before) < 1e-6
    assert net.layers[1].type == "Convolution" and net.layers[1].blobs[0].shape == (8, 3, 7, 7)
    assert net.layer_dict["prob"].type == "Softmax" and "conv1/relu_7x7" in net._layer_names
    assert net.top_names["conv1/relu_7x7"] == net.bottom_names["conv1/relu_7x7"] == ["conv1/7x7_s2"]


def test_gradients_follow_the_weights(classified):
    net = caffe.Net(*classified, caffe.TEST)
    found = []
    for factor in (1, 2):
        net.params["ip"][0].data[...] *= factor
        net.forward(data=np.ones((4, 3, 24, 32)))
        net.blobs["ip"].diff[...] = 1
        found.append(net.backward(start="ip")["data"].copy())
    assert toys.off(found[1], 2 * found[0]) < 1e-6


def test_fillers(tmp_path):
    """Layers that the caffemodel does not have are filled; no weights at all are needed to make a net."""
    fields = 'num_output: 50 kernel_size: 3 weight_filler { type: "xavier" } bias_filler { value: 0.5 }'
    text = toys.net(toys.layer("conv", "Convolution", "data", "conv", f"convolution_param {{ {fields} }}"),
                    toys.layer("scale", "Scale", "conv", "scale"))
    (tmp_path / "net.prototxt").write_text(text)
    made = []
    for _ in range(2):
        caffe.set_random_seed(3)
        made.append(caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST).params)
    weights, bias = (p.data for p in made[0]["conv"])
    assert weights.std() == pytest.approx((1 / 27) ** 0.5, rel=0.1) and (bias == 0.5).all()
    assert (made[0]["scale"][0].data == 1).all() and np.array_equal(weights, made[1]["conv"][0].data)


def test_files_are_read_when_the_net_is_made(files, tmp_path):
    with pytest.raises(ValueError, match="nothing.prototxt: cannot be read"):
        caffe.Net(str(tmp_path / "nothing.prototxt"), files[1], caffe.TEST)
    with pytest.raises(ValueError, match="nothing.caffemodel: cannot be read"):
        caffe.Net(files[0], str(tmp_path / "nothing.caffemodel"), caffe.TEST)


def test_copy_from_what_does_not_fit(classified, net, files):
    other = caffe.Net(*classified, caffe.TEST)
    other.save(files[1] + "2")
    text = open(classified[0]).read().replace("num_output: 5", "num_output: 6")
    open(files[0] + "2", "w").write(text)
    with pytest.raises(ValueError, match="layer 'ip' has weights of the shapes"):
        caffe.Net(files[0] + "2", caffe.TEST).copy_from(files[1] + "2")


LAYERS = toys.net(toys.layer("two", "Slice", "data", "a b", "slice_param { slice_point: 1 }"),
                  toys.conv("ca", "a", 4, 3, pad=1), toys.conv("cb", "b", 4), toys.layer("sig", "Sigmoid", "ca", "ca"),
                  toys.layer("sum", "Eltwise", "ca cb", "sum", "eltwise_param { operation: SUM coeff: 1 coeff: -2 }"),
                  toys.layer("max", "Eltwise", "sum cb", "max", "eltwise_param { operation: MAX }"),
                  toys.layer("prod", "Eltwise", "max ca", "prod", "eltwise_param { operation: PROD }"),
                  toys.layer("leaky", "ReLU", "prod", "leaky", "relu_param { negative_slope: 0.1 }"),
                  toys.pool("pool", "leaky", "AVE"), toys.layer("flat", "Flatten", "pool", "flat"),
                  toys.layer("square", "Power", "flat", "square", "power_param { power: 2 scale: 0.5 shift: 1 }"),
                  toys.product("ip", "square", 3), toys.softmax("prob", "ip"), shape=(2, 3, 8, 8))


def test_gradients_of_many_layers(tmp_path):
    """Against central differences along a random direction."""
    folder = toys.write_net(tmp_path / "many", LAYERS, toys.formula, {"ip": 16})
    net = caffe.Net(str(folder / "deploy.prototxt"), str(folder / "net.caffemodel"), caffe.TEST)
    x, direction, weight = toys.noise(2, 3, 8, 8), toys.noise(2, 3, 8, 8, seed=1), toys.noise(2, 3, seed=2)

    def value(x):
        return float((np.float64(net.forward(data=x)["prob"]) * weight).sum())

    value(x)
    gradient = net.backward(prob=weight)["data"].copy()
    h = 1e-2
    slope = (value(x + h * direction) - value(x - h * direction)) / (2 * h)
    assert float((gradient * direction).sum()) == pytest.approx(slope, rel=0.02)


@pytest.mark.parametrize("call, message", [
    (lambda c, n, f: c.Net(*f, c.TRAIN), "TRAIN is not supported.*caffe.TEST"),
    (lambda c, n, f: c.Net(*f, c.TEST, stages=["deploy"]), "stages are not supported"),
    (lambda c, n, f: c.SGDSolver("solver.prototxt"), "caffe.SGDSolver is not supported here: .*caffemodel"),
    (lambda c, n, f: c.nonsense, "no attribute 'nonsense'; it has .*Classifier"),
    (lambda c, n, f: c.io.datum_to_array(1), "datum_to_array is not supported here"),
    (lambda c, n, f: c.proto.caffe_pb2.SolverParameter, "SolverParameter is not supported here"),
    (lambda c, n, f: n.copy_from("/nowhere/x"), "nowhere/x: cannot be read"),
    (lambda c, n, f: n.copy_from("x.h5"), "x.h5: HDF5 files are not read"),
    (lambda c, n, f: n.save("/nowhere/x"), "/nowhere/x: cannot be written"),
    (lambda c, n, f: n.nonsense, "no attribute 'nonsense'"),
    (lambda c, n, f: n.forward(end="conv2/3x4"), "nearest are.*conv2/3x3"),
    (lambda c, n, f: n.forward(picture=1), "inputs are data"),
    (lambda c, n, f: n.forward(data=np.zeros((3, 3, 8, 8))), r"shape \(3, 3, 8, 8\) for a blob of shape"),
    (lambda c, n, f: n.forward(blobs=["conv"], end="data"), "no blob called 'conv'"),
    (lambda c, n, f: setattr(n.blobs["data"], "data", 1), r"changed in place: blob.data\[\.\.\.\]"),
    (lambda c, n, f: setattr(n.params["conv2/3x3"][0], "data", 1), "changed in place"),
    (lambda c, n, f: n.params["conv2/3x3"][0].diff, "gradients by the weights are not computed"),
    (lambda c, n, f: (n.blobs["data"].reshape(1, 3, 99, 99), n.forward()), "cannot take a bottom of shape|too small"),
])
def test_what_is_not_supported_says_what_to_use(net, files, call, message):
    with pytest.raises((AttributeError, NotImplementedError, ValueError), match=message) as error:
        call(caffe, net, files)
    assert "\n" not in str(error.value)


def test_an_unsupported_layer(tmp_path):
    """A pass up to it works; a pass through it does not."""
    text = toys.net(toys.conv("conv", "data", 4), toys.layer("odd", "ArgMax", "conv", "odd"), toys.relu("odd"))
    (tmp_path / "net.prototxt").write_text(text)
    net = caffe.Net(str(tmp_path / "net.prototxt"), caffe.TEST)
    assert net.forward(end="conv")["conv"].shape == (1, 4, 16, 16)
    with pytest.raises(ValueError, match=r"net.prototxt: layer 'odd' \(ArgMax\) is not supported"):
        net.forward()


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
    assert np.allclose(net.forward(data=np.stack([data] * 4))["prob"][0], centre[0], atol=1e-5)


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
    turned = Image.Exif()
    turned[274] = 6
    Image.new("RGB", (6, 4)).save(tmp_path / "turned.jpg", exif=turned)
    assert caffe.io.load_image(tmp_path / "turned.jpg").shape == (4, 6, 3)
    with pytest.raises(ValueError, match="missing.png: cannot be read: No such file"):
        caffe.io.load_image(tmp_path / "missing.png")
    assert caffe.io.resize_image(np.full((3, 4, 3), 7.0), (6, 9)).tolist() == np.full((6, 9, 3), 7.0).tolist()
    assert caffe.io.resize_image(picture, (8, 3), 3).max() <= 1
    assert caffe.io.oversample([picture], (2, 3)).shape == (10, 2, 3, 3)
    array = toys.noise(1, 3, 2, 2)
    assert np.array_equal(caffe.io.blobproto_to_array(caffe.io.array_to_blobproto(array)), array)
    several = caffe.io.blobprotovector_str_to_arraylist(caffe.io.arraylist_to_blobprotovector_str([array, 2 * array]))
    assert np.array_equal(several[1], 2 * array)
    from deepdream.caffe.proto import caffe_pb2
    assert caffe_pb2 is caffe.proto.caffe_pb2 is caffe.io.caffe_pb2
