"""Net surgery: InnerProducts as convolutions give the same at the declared size, and maps of scores at larger sizes."""
import json

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.__main__ import main
from deepdream.convert.errors import ConvertError
from toys import concat, conv, layer, net, off, pool, product, relu, softmax

from deepdream import DreamError, Net, convert

# A small AlexNet without padding: fc6 on 6x6, fc7, fc8. The stride is 4, and one position sees 47x47 pixels.
ALEX = net(conv("conv1", "data", 6, 3, stride=2), relu("conv1"), pool("pool1", "conv1", "MAX", 3, 2),
           conv("conv2", "pool1", 8, 6), relu("conv2"),
           product("fc6", "conv2", 12), relu("fc6"), layer("drop6", "Dropout", "fc6", "fc6"),
           product("fc7", "fc6", 9), relu("fc7"), layer("drop7", "Dropout", "fc7", "dropped7"),
           product("fc8", "dropped7", 5), softmax("prob", "fc8"), shape=(1, 3, 47, 47))
PIXELS = {"fc6": 36}
ENDS = ["fc6", "fc7", "fc8", "prob"]


@pytest.fixture(scope="module")
def alex():
    """The net without and with surgery."""
    blobs = toys.weights(ALEX, toys.formula, PIXELS)
    return toys.convert(ALEX, blobs), toys.convert(ALEX, blobs, surgery=True)


def values(model, data, names):
    """Compute any tensors of a model: {name: value}."""
    every = onnx.ModelProto()
    every.CopyFrom(model)
    del every.graph.output[:]
    every.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    return dict(zip(names, toys.run(every, data, names)))


def gradient(model, end, data, diff):
    return toys.run(convert.gradient_graph(model, end), {"data": data, "end_diff": diff})


def test_at_the_declared_size_nothing_changes(alex):
    data = toys.noise(2, 3, 47, 47)
    before, after = (values(model, data, ENDS) for model in alex)
    for end in ENDS:
        assert after[end].shape == (*before[end].shape, 1, 1)
        assert off(after[end][..., 0, 0], before[end]) < 1e-6


def test_each_position_of_the_map_is_the_net_on_its_crop(alex):
    data = toys.noise(1, 3, 63, 55)
    maps = values(alex[1], data, ENDS)
    assert maps["prob"].shape == (1, 5, 5, 3)
    np.testing.assert_allclose(maps["prob"].sum(1), 1, rtol=1e-6)      # a Softmax over the classes of each position
    for i, j in np.ndindex(5, 3):
        crop = np.ascontiguousarray(data[:, :, 4 * i:4 * i + 47, 4 * j:4 * j + 47])
        for end, value in values(alex[0], crop, ENDS).items():
            assert off(maps[end][:, :, i, j], value) < 1e-5, (end, i, j)


@pytest.mark.parametrize("end", ENDS)
def test_gradients_are_those_without_surgery(alex, end):
    data = toys.noise(1, 3, 47, 47)
    diff = toys.noise(1, {"fc6": 12, "fc7": 9, "fc8": 5, "prob": 5}[end], seed=1)
    value, before = gradient(alex[0], end, data, diff)
    map_value, after = gradient(alex[1], end, data, diff[:, :, None, None])
    assert off(map_value[..., 0, 0], value) < 1e-5 and off(after, before) < 1e-5


@pytest.mark.parametrize("end", ["fc6", "fc8", "prob"])
def test_gradients_of_maps_by_finite_differences(alex, end):
    model = alex[1]
    data = np.float64(toys.noise(1, 3, 55, 51, seed=3))
    forward = toys.doubled(model, end)
    diff = toys.noise(*forward(data).shape, seed=4)
    _, data_diff = gradient(model, end, np.float32(data), diff)
    toys.check_gradient(forward, np.float64(np.float32(data)), diff, data_diff)


def test_the_metadata(alex):
    before, after = (convert.valid_ends(model) for model in alex)
    assert list(before) == list(after)
    assert before["fc8"][:3] == (5, None, None) and after["fc8"][:3] == (5, (4, 4), None)
    assert after["prob"][:3] == (5, (4, 4), None)
    facts = {p.key: p.value for p in alex[1].metadata_props}
    assert json.loads(facts["data_shape"]) == [1, 3, 47, 47] and json.loads(facts["left_out"]) == {}
    for end in ENDS:
        assert convert.min_size(alex[0], end) == (47, 47, True)
        low, low_w, exact = convert.min_size(alex[1], end)
        assert low == low_w <= 47 and not exact
        assert values(alex[1], toys.noise(1, 3, low, low), [end])[end].shape[2:] == (1, 1)
    assert json.loads({p.key: p.value for p in convert.gradient_graph(alex[1], "prob").metadata_props}["min_size"]) \
        == list(convert.min_size(alex[1], "prob"))
    onnx.checker.check_model(alex[1], full_check=True)


def test_transposed_without_bias_and_in_old_shapes():
    w = toys.noise(4, 54)
    data = toys.noise(1, 3, 10, 6)
    for params, blob in (("num_output: 4 bias_term: false", w), ("num_output: 4 bias_term: false transpose: true", w.T),
                         ("num_output: 4 bias_term: false axis: -3", w.reshape(1, 1, 4, 54))):
        text = net(layer("ip", "InnerProduct", "data", "ip", f"inner_product_param {{ {params} }}"), shape=(1, 3, 6, 3))
        before, after = (toys.convert(text, {"ip": [blob]}, surgery=s) for s in (False, True))
        maps = toys.run(after, data)[0]
        assert maps.shape == (1, 4, 5, 4)
        for i, j in np.ndindex(5, 4):
            crop = np.ascontiguousarray(data[:, :, i:i + 6, j:j + 3])
            assert off(maps[:, :, i, j], toys.run(before, crop)[0]) < 1e-6


def test_a_global_pooling_stays_global():
    text = net(conv("a", "data", 4, 3),
               layer("all", "Pooling", "a", "all", "pooling_param { pool: AVE global_pooling: true }"),
               product("ip", "all", 5), softmax("prob", "ip"))
    before, after = (toys.convert(text, surgery=s) for s in (False, True))
    data = toys.noise(1, 3, 21, 30)
    assert off(toys.run(after, data)[0][..., 0, 0], toys.run(before, data)[0]) < 1e-6
    assert convert.valid_ends(after)["prob"][:3] == (5, None, None)


def test_later_layers_that_count_axes_from_the_end():
    """For Caffe's blobs of two axes, axis -1 is that of the channels."""
    text = net(product("x", "data", 6), layer("s", "Scale", "x", "s", "scale_param { axis: -1 bias_term: true }"),
               layer("all", "Scale", "s", "all", "scale_param { axis: 1 num_axes: -1 }"),
               layer("flat", "Flatten", "all", "flat"), layer("slope", "PReLU", "flat", "slope"),
               product("y", "data", 6), layer("sum", "Eltwise", "slope y", "sum"),
               layer("cut", "Slice", "sum", "one two", "slice_param { axis: -1 slice_point: 2 }"),
               layer("both", "Concat", "two one x", "both", "concat_param { axis: -1 }"),
               product("z", "both", 4), layer("prob", "Softmax", "z", "prob", "softmax_param { axis: -1 }"),
               shape=(1, 2, 3, 3))
    sizes = {"x": (6, 18), "y": (6, 18), "z": (4, 12)}
    blobs = {n: [toys.formula(n, 0, s), toys.formula(n, 1, s[:1])] for n, s in sizes.items()}
    blobs |= {n: [toys.formula(n, i, (6,)) for i in range(2)] for n in ("s", "all", "slope")}
    before, after = (toys.convert(text, blobs, surgery=s) for s in (False, True))
    data = toys.noise(1, 2, 5, 4)
    maps = values(after, data, ["flat", "prob"])
    for i, j in np.ndindex(3, 2):
        for name, value in values(before, np.ascontiguousarray(data[:, :, i:i + 3, j:j + 3]), ["flat", "prob"]).items():
            assert off(maps[name][:, :, i, j], value) < 1e-6


@pytest.mark.parametrize("text, message", [
    (net(layer("flat", "Flatten", "data", "flat"), product("ip", "flat", 5)),
     r"layer 'ip' \(InnerProduct\): net surgery is not possible after layer 'flat' \(Flatten\)"),
    (net(layer("r", "Reshape", "data", "r", "reshape_param { shape { dim: 0 dim: 12 dim: 8 dim: 8 } }"), relu("r"),
         product("ip", "r", 5)), r"'ip' .* after layer 'r' \(Reshape\)"),
    (net(layer("ip", "InnerProduct", "data", "ip", "inner_product_param { num_output: 5 axis: 2 }")),
     "'ip' .*needs axis 1, not 2"),
    (net(product("ip", "data", 5), shape=(1, 48)), r"'ip' .* 4 axes \(N, C, H, W\), not \(1, 48\)"),
    (net(product("ip", "data", 5), layer("r", "Reshape", "ip", "r", "reshape_param { shape { dim: 0 dim: 5 } }")),
     r"'r' \(Reshape\): cannot follow an InnerProduct"),
    (net(product("ip", "data", 5), layer("f", "Flatten", "ip", "f", "flatten_param { axis: 0 }")),
     r"'f' \(Flatten\): cannot follow an InnerProduct"),
    (net(product("ip", "data", 5), layer("flat", "Flatten", "data", "flat"), concat("both", "ip", "flat")),
     r"'both' \(Concat\): net surgery makes a map of scores of its bottom 'ip', but not of 'flat'"),
    (net(product("ip", "data", 5), conv("c", "ip", 4)),
     r"'c' \(Convolution\): needs a bottom of 4 axes .* not \(1, 5\)"),
])
def test_nets_for_which_surgery_is_impossible(text, message):
    blobs = {"ip": [toys.noise(5, 768), toys.noise(5)]}
    with pytest.raises(ConvertError, match=message) as caught:
        toys.convert(text, blobs, surgery=True)
    assert "\n" not in str(caught.value)


@pytest.mark.slow
def test_googlenet(googlenet):
    """pool5 is an AVE 7x7 with stride 1, which needs no surgery; the classifier after it becomes a 1x1 convolution."""
    files = googlenet / "deploy.prototxt", googlenet / "net.caffemodel"
    before, after = (convert.to_onnx(*files, surgery=s) for s in (False, True))
    nodes = {n.name: n for n in after.graph.node}
    assert nodes["pool5/7x7_s1"].op_type == "AveragePool" and nodes["loss3/classifier"].op_type == "Conv"
    assert convert.valid_ends(after)["prob"][:3] == (1000, (32, 32), None)
    assert convert.min_size(after, "prob") == (223, 223, False)     # 222 leave pool5 six pixels
    data = 50 * toys.noise(1, 3, 224, 224)
    ends = ["loss3/classifier", "prob"]
    mine, theirs = values(after, data, ends), values(before, data, ends)
    for end in ends:
        assert off(mine[end][..., 0, 0], theirs[end]) < 1e-5
    diff = theirs[ends[0]]
    gradients = [gradient(m, ends[0], data, d)[1] for m, d in ((before, diff), (after, diff[..., None, None]))]
    assert off(gradients[1], gradients[0]) < 1e-5
    data = 50 * toys.noise(1, 3, 260, 300)
    value, data_diff = gradient(after, "prob", data, toys.noise(1, 1000, 2, 3))
    assert value.shape == (1, 1000, 2, 3) and np.isfinite(data_diff).all() and data_diff.any()


@pytest.mark.parametrize("folder, prototxt, weights, answers, ends", [
    ("lenet_v1", "lenet.prototxt", "lenet_iter_10000.caffemodel", "caffe.npz", 3),
    ("cifar10_full_v1", "cifar10_full.prototxt", "cifar10_full_iter_70000.caffemodel", "caffe.npz", 2),
    ("mtcnn", "det2.prototxt", "det2.caffemodel", "caffe_det2.npz", 4),
    ("mtcnn", "det3.prototxt", "det3.caffemodel", "caffe_det3.npz", 5),
])
def test_real_nets_are_caffes(shared, folder, prototxt, weights, answers, ends):
    folder = shared / "models" / "others" / folder
    model = convert.to_onnx(folder / prototxt, folder / weights, surgery=True)
    with np.load(folder / answers) as npz:
        caffe = {k[6:]: (npz[f"value/{k[6:]}"], npz[f"grad/{k[6:]}"]) for k in npz.files
                 if k.startswith("shape/") and len(npz[k]) == 2}
        data = npz["data"]
    assert len(caffe) == ends
    for end, (value, grad) in caffe.items():
        map_value, diff = gradient(model, end, data, value[:, :, None, None])
        assert off(map_value[..., 0, 0], value) < 1e-5 and off(diff, grad) < 1e-5, end


# ---- Net and the command line

@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toys.write_net(tmp_path_factory.mktemp("surgery") / "alex", ALEX, toys.formula, PIXELS)


def test_a_net_after_surgery(folder):
    plain, cut = Net(folder, device="cpu"), Net(folder, device="cpu", surgery=True)
    assert plain.checksum != cut.checksum
    with pytest.raises(DreamError, match="exactly 47x47"):
        plain.sizes.check("fc8", 55, 63)
    cut.sizes.check("fc8", 55, 63)
    cut.blobs["data"].reshape(1, 3, 55, 63)
    cut.blobs["data"].data[...] = toys.noise(1, 3, 55, 63)
    assert cut.forward()["prob"].shape == (1, 5, 3, 5)
    cut.blobs["prob"].diff[0, 2] = 1
    assert cut.backward(start="prob")["data"].any()
    assert cut.features(np.full((47, 51, 3), 128.0), "fc6").shape == (12, 1, 2)


def test_leftover_diffs_after_surgery(folder):
    """For a net without branches the gradient is that of a fresh net."""
    gradients = []
    for leftover in (False, True):
        one = Net(folder, device="cpu", surgery=True, leftover_diffs=leftover)
        one.blobs["data"].reshape(1, 3, 55, 51)
        one.blobs["data"].data[...] = toys.noise(1, 3, 55, 51)
        one.forward(end="fc8")
        one.blobs["fc8"].diff[...] = one.blobs["fc8"].data
        gradients.append(one.backward(start="fc8")["data"].copy())
    assert off(gradients[1], gradients[0]) < 1e-5


def test_the_command_line(folder, tmp_path, capsys):
    files = [str(folder / "deploy.prototxt"), str(folder / "net.caffemodel")]
    target = tmp_path / "net.onnx"
    assert main([*files, "-o", str(target), "--surgery", "--list"]) == 0
    table = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["fc8", "5", "4"] in table and ["prob", "5", "4"] in table
    assert toys.run(onnx.load(target), toys.noise(1, 3, 51, 47))[0].shape == (1, 5, 2, 1)
    assert main([*files, "-o", str(target), "--surgery", "--end", "prob"]) == 0
    run = toys.session(onnx.load(target))
    data, diff = toys.noise(1, 3, 47, 51), toys.noise(1, 5, 1, 2)
    assert run.run(None, {"data": data, "end_diff": diff})[1].shape == data.shape


def test_the_command_line_where_surgery_is_impossible(tmp_path, capsys):
    text = net(layer("flat", "Flatten", "data", "flat"), product("ip", "flat", 5))
    made = toys.write_net(tmp_path / "flat", text, toys.formula, {"ip": 256})
    files = [str(made / "deploy.prototxt"), str(made / "net.caffemodel")]
    assert main([*files, "-o", str(tmp_path / "net.onnx")]) == 0
    assert main([*files, "-o", str(tmp_path / "cut.onnx"), "--surgery"]) == 2
    err = capsys.readouterr().err
    assert err.startswith(f"convert: {files[0]}: layer 'ip'") and err.count("\n") == 1
    assert not (tmp_path / "cut.onnx").exists()
