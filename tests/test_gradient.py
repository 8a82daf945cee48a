"""Gradient graphs of whole nets: compared with Caffe's gradients and with finite differences, and run on their own."""
import json
import math

import children
import numpy as np
import onnx
import onnxruntime as ort
import pytest
import toys
from caffe_answers import GRADIENTS, compare_gradient, gradient, gradient_ends, load
from deepdream.convert.errors import ConvertError
from deepdream.convert.fast.forms import TABLES
from deepdream.convert.graph.symbolic import resolved
from onnx import TensorProto, helper, numpy_helper
from toys import concat, conv, layer, lrn, net, off, pool, product, relu, softmax

from deepdream import convert


# ---- Caffe's answers

@pytest.fixture(scope="session")
def synthetic(googlenet):
    return convert.to_onnx(googlenet / "deploy.prototxt", googlenet / "net.caffemodel")


QUICK = ("pool1/norm1", "conv2/3x3", "inception_3b/5x5_reduce", "inception_4a/output")


FORMS = {"plain": {"fast": False}, **{device: {"device": device} for device in TABLES}}


@pytest.mark.parametrize("end, forms", [
    pytest.param(end, forms, marks=() if end in QUICK else pytest.mark.slow)
    for end in gradient_ends(GRADIENTS) for forms in FORMS])
def test_googlenet_by_formula_is_caffes(synthetic, end, forms):
    compare_gradient(synthetic, load(GRADIENTS), end, **FORMS[forms])


def test_26_ends_are_compared():
    assert len(gradient_ends(GRADIENTS)) == 26


@pytest.mark.slow
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_the_real_googlenet_is_caffes(shared, device):
    folder = shared / "models" / "bvlc_googlenet"
    model = convert.to_onnx(folder / "deploy.prototxt", folder / "bvlc_googlenet.caffemodel")
    file = shared / "oracle" / "gradients_bvlc_googlenet.npz"
    ends = gradient_ends(file)
    assert len(ends) == 26
    answers = load(file)
    for end in ends:
        compare_gradient(model, answers, end, plain=True, device=device)


@pytest.mark.slow
@pytest.mark.parametrize("folder, prototxt, weights, answers", [
    ("others/lenet_v1", "lenet.prototxt", "lenet_iter_10000.caffemodel", "caffe.npz"),
    ("others/cifar10_full_v1", "cifar10_full.prototxt", "cifar10_full_iter_70000.caffemodel", "caffe.npz"),
    ("others/mtcnn", "det1.prototxt", "det1.caffemodel", "caffe_det1.npz"),
    ("others/mtcnn", "det2.prototxt", "det2.caffemodel", "caffe_det2.npz"),
    ("others/mtcnn", "det3.prototxt", "det3.caffemodel", "caffe_det3.npz"),
    ("others/bvlc_3b_v1", "deploy_3b_v1.prototxt", "bvlc_3b_v1.caffemodel", "bvlc_3b_v1.npz"),
    ("squeezenet_places365", "deploy.prototxt", "squeezenet_places365.caffemodel", "caffe.npz"),
])
def test_other_real_nets_are_caffes(shared, folder, prototxt, weights, answers):
    folder = shared / "models" / folder
    model = convert.to_onnx(folder / prototxt, folder / weights)
    ends = gradient_ends(folder / answers)
    assert ends
    answers = load(folder / answers)
    for end in ends:
        compare_gradient(model, answers, end)


# ---- all ends

@pytest.fixture(scope="module")
def narrow():
    """A GoogLeNet with an eighth of the channels."""
    return toys.convert(toys.googlenet(narrow=8))


def test_googlenet_has_its_85_ends(synthetic, narrow):
    ends = convert.valid_ends(synthetic)
    assert len(ends) == 85 and list(ends) == list(convert.valid_ends(narrow))
    assert ends["inception_4c/output"][:3] == (512, (16, 16), None)
    assert ends["conv1/7x7_s2"][:3] == (64, (2, 2), None)
    assert ends["prob"][:3] == (1000, None, None)
    assert "inception_3a/relu_1x1" not in ends and "pool5/drop_7x7_s1" not in ends


@pytest.mark.parametrize("size, first", [pytest.param((37, 45), "data", marks=pytest.mark.slow),
                                         ((224, 224), "pool5/7x7_s1")])
def test_all_ends_of_googlenet_have_gradients(narrow, size, first):
    ends = list(convert.valid_ends(narrow))
    ends = ends[ends.index(first):ends.index("pool5/7x7_s1") if first == "data" else None]
    data = 50 * toys.noise(1, 3, *size)
    every = toys.ending_at(narrow, *(e for e in ends if e != "data"))
    values = {"data": data} | dict(zip([e for e in ends if e != "data"], toys.run(every, data)))
    for end in ends:
        graph = convert.gradient_graph(narrow, end)
        onnx.checker.check_model(graph, full_check=True)
        assert {o.domain for o in graph.opset_import} == {""} and not graph.functions
        value, diff = toys.session(graph, plain=True).run(None, {"data": data, "end_diff": values[end]})
        np.testing.assert_allclose(value, values[end], rtol=1e-4, atol=1e-4 * np.abs(values[end]).max(), err_msg=end)
        assert diff.shape == data.shape and np.isfinite(diff).all() and np.abs(diff).max() > 0, end


def test_an_end_is_taken_before_its_relu(synthetic):
    with np.load(GRADIENTS) as answers:
        end = "inception_3b/5x5_reduce"
        value, _ = gradient(synthetic, end, answers["data"], answers[f"dst_shape/{end}"])
    assert value.min() < 0


# ---- graphs on their own

BARE = """
import sys
import numpy as np, onnxruntime
values = np.load("in.npz")
run = onnxruntime.InferenceSession("gradient.onnx", providers=["CPUExecutionProvider"])
np.save("out.npy", run.run(["data_diff"], {"data": values["data"], "end_diff": values["diff"]})[0])
ours = [m for m in ("convert", "deepdream", "models", "onnx") if m in sys.modules]
assert not ours, ours
"""


def test_a_gradient_graph_runs_in_a_bare_onnxruntime(tmp_path):
    model = toys.convert(toys.TOY)
    graph = convert.gradient_graph(model, "pool2")
    data = toys.noise(1, 3, 33, 40)
    value, diff = gradient(model, "pool2", data, (1, 10, 8, 10))
    (tmp_path / "gradient.onnx").write_bytes(graph.SerializeToString())
    np.savez(tmp_path / "in.npz", data=data, diff=value)
    children.run("-I", "-c", BARE, cwd=tmp_path).check_returncode()
    np.testing.assert_array_equal(np.load(tmp_path / "out.npy"), diff)


def test_metadata_of_a_gradient_graph():
    model = convert.gradient_graph(toys.convert(toys.TOY), "pool2")
    facts = {p.key: p.value for p in model.metadata_props}
    assert facts["end"] == "pool2" and json.loads(facts["min_size"])[2] is False


def convolved(size, k, stride=1, pad=0):
    return (size + 2 * pad - k) // stride + 1


def pooled(size, k, stride, pad=0):
    """The output size of Caffe's pooling, which rounds up and drops a last window that would start in the padding."""
    n = math.ceil((size + 2 * pad - k) / stride) + 1
    return n - (pad > 0 and (n - 1) * stride >= size + pad)


def smallest(*steps):
    """The smallest size of which every step leaves a pixel. steps: functions size -> size."""
    for size in range(1, 300):
        n = size
        for step in steps:
            n = step(n) if n > 0 else 0
        if n > 0:
            return size


def test_min_size_is_caffes(narrow):
    stem = [lambda n: convolved(n, 7, 2, 3), lambda n: pooled(n, 3, 2), lambda n: pooled(n, 3, 2)]
    half = lambda n: pooled(n, 3, 2)
    for end, steps in {"conv1/7x7_s2": stem[:1], "inception_3b/5x5_reduce": stem, "inception_4c/output":
                       [*stem, half], "inception_5b/output": [*stem, half, half]}.items():
        size = smallest(*steps)
        assert convert.min_size(narrow, end) == (size, size, False), end
    exact = convert.min_size(narrow, "prob")
    assert exact == (224, 224, True)
    toy = toys.convert(toys.TOY)
    size = smallest(lambda n: convolved(n, 3, 2, 1), lambda n: pooled(n, 3, 2), lambda n: pooled(n, 3, 1, 1))
    assert convert.min_size(toy, "pool2") == (size, size, False)


# ---- small nets of all kinds, against finite differences

def bn(name, bottom):
    return (layer(f"{name}_bn", "BatchNorm", bottom, name)
            + layer(f"{name}_scale", "Scale", name, name, "scale_param { bias_term: true }"))


def fire(name, bottom):
    return "".join([conv(f"{name}/squeeze", bottom, 3), relu(f"{name}/squeeze"),
                    conv(f"{name}/one", f"{name}/squeeze", 4), relu(f"{name}/one"),
                    conv(f"{name}/three", f"{name}/squeeze", 4, 3, pad=1), relu(f"{name}/three"),
                    concat(name, f"{name}/one", f"{name}/three")])


NETS = {
    "ResNet": (net(conv("conv1", "data", 6, 7, pad=3, stride=2, bias_term="false"), bn("x1", "conv1"), relu("x1"),
                   pool("pool1", "x1"),
                   conv("a", "pool1", 8, 1, stride=2, bias_term="false"), bn("xa", "a"),
                   conv("b", "pool1", 8, 3, pad=1, stride=2, bias_term="false"), bn("xb", "b"), relu("xb"),
                   conv("c", "xb", 8, 3, pad=1, bias_term="false"), bn("xc", "c"),
                   layer("res", "Eltwise", "xa xc", "res"), relu("res"),
                   layer("again", "Eltwise", "res xc", "again", "eltwise_param { coeff: 1 coeff: -0.5 }"),
                   shape=(1, 3, 29, 34)), ["res", "again", "a", "c"]),
    "SqueezeNet": (net(conv("conv1", "data", 8, 3, stride=2), relu("conv1"), pool("pool1", "conv1"),
                       fire("fire2", "pool1"), fire("fire3", "fire2"),
                       layer("drop", "Dropout", "fire3", "fire3"), conv("conv10", "fire3", 5), relu("conv10"),
                       layer("pool10", "Pooling", "conv10", "pool10",
                             "pooling_param { pool: AVE global_pooling: true }"),
                       softmax("prob", "pool10"), shape=(1, 3, 27, 31)),
                   ["fire2", "fire3/squeeze", "conv10", "pool10", "prob"]),
    "NIN": (net(conv("conv1", "data", 8, 11, stride=4), relu("conv1"), conv("cccp1", "conv1", 6), relu("cccp1"),
                conv("cccp2", "cccp1", 6), relu("cccp2"), pool("pool0", "cccp2"),
                conv("conv2", "pool0", 8, 5, pad=2), relu("conv2"), pool("pool4", "conv2", "AVE", 3, 2),
                shape=(1, 3, 47, 59)), ["cccp2", "pool0", "pool4"]),
    "AlexNet": (net(conv("conv1", "data", 8, 11, stride=4), relu("conv1"), lrn("norm1", "conv1"),
                    pool("pool1", "norm1"), conv("conv2", "pool1", 8, 5, pad=2, group=2), relu("conv2"),
                    pool("pool2", "conv2"),
                    product("fc6", "pool2", 7), relu("fc6"), product("fc7", "fc6", 5), softmax("prob", "fc7"),
                    shape=(1, 3, 43, 43)), ["norm1", "conv2", "pool2", "fc6", "fc7", "prob"], {"fc6": 4}),
    "VGG": (net(conv("conv1_1", "data", 6, 3, pad=1), relu("conv1_1"), conv("conv1_2", "conv1_1", 6, 3, pad=1),
                relu("conv1_2"), pool("pool1", "conv1_2", "MAX", 2, 2), conv("conv2_1", "pool1", 8, 3, pad=1),
                relu("conv2_1"), pool("pool2", "conv2_1", "MAX", 2, 2), shape=(1, 3, 15, 18)),
            ["conv1_2", "pool1", "pool2"]),
    "Deconvolution and Crop": (
        net(conv("conv1", "data", 6, 3, pad=2, stride=2), relu("conv1"), pool("pool1", "conv1"),
            conv("score", "pool1", 4), layer("up", "Deconvolution", "score", "up", "convolution_param { num_output: 4 "
                                             "kernel_size: 4 stride: 2 bias_term: false }"),
            conv("side", "conv1", 4), layer("cut", "Crop", "up side", "cut", "crop_param { axis: 2 offset: 1 }"),
            layer("sum", "Eltwise", "cut side", "sum"),
            layer("grown", "Deconvolution", "sum", "grown", "convolution_param { num_output: 4 group: 2 kernel_size: 5 "
                                                            "stride: 3 pad: 1 }"),
            layer("prelu", "PReLU", "grown", "grown"), shape=(1, 3, 21, 26)), ["up", "cut", "sum", "grown"]),
    "odds and ends": (
        net(conv("conv1", "data", 8, 3, pad=2, dilation=2),
            layer("elu", "ELU", "conv1", "conv1", "elu_param { alpha: 0.7 }"),
            layer("cut", "Slice", "conv1", "left right", "slice_param { slice_point: 3 }"),
            conv("l", "left", 5, 3), conv("r", "right", 5, 3),
            layer("sig", "Sigmoid", "l", "sig"), layer("tanh", "TanH", "r", "tanh"),
            layer("prod", "Eltwise", "sig tanh", "prod", "eltwise_param { operation: PROD }"),
            layer("max", "Eltwise", "prod r", "max", "eltwise_param { operation: MAX }"),
            layer("within", "LRN", "max", "within", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 "
                                                    "beta: 0.75 }"),
            layer("power", "Power", "within", "power", "power_param { power: 2 scale: 0.5 shift: 0.1 }"),
            layer("bnll", "BNLL", "power", "bnll"), layer("flat", "Flatten", "bnll", "flat"),
            layer("gate", "Power", "sig", "gate", "power_param { power: 1 scale: 2 shift: 1 }"),
            layer("gated", "Scale", "within gate", "gated", "scale_param { axis: 0 }"), shape=(1, 3, 11, 13)),
        ["conv1", "prod", "max", "within", "bnll", "flat", "gated"]),
    "joined along the height": (
        net(conv("conv1", "data", 4, 3, pad=1), conv("conv2", "data", 4, 3, pad=1),
            layer("tall", "Concat", "conv1 conv2", "tall", "concat_param { axis: 2 }"),
            conv("strided", "tall", 4, 3, stride=2), pool("max", "tall"), pool("ave", "tall", "AVE"),
            shape=(1, 3, 9, 11)), ["strided", "max", "ave"]),
    "a power of nothing": (
        net(conv("conv1", "data", 4, 3), layer("one", "Power", "conv1", "one", "power_param { power: 0 }"),
            layer("sum", "Eltwise", "conv1 one", "sum"), shape=(1, 3, 9, 11)), ["sum"]),
}


def positive(name, i, shape):
    """Weights by formula, but with variances and scales away from zero."""
    if "_bn" in name and i > 0 or "_scale" in name and i == 0:
        return np.abs(toys.formula(name, i, shape)) * 5 + 0.5
    return toys.formula(name, i, shape)


@pytest.mark.parametrize("name", NETS)
def test_small_nets_against_finite_differences(name):
    text, ends, *pixels = NETS[name]
    model = toys.convert(text, toys.weights(text, positive, *pixels))
    onnx.checker.check_model(model, full_check=True)
    shape = json.loads({p.key: p.value for p in model.metadata_props}["data_shape"])
    data = toys.noise(*shape, seed=3)
    for end in ends:
        assert end in convert.valid_ends(model)
        forward = toys.doubled(model, end)
        diff = toys.noise(*forward(data).shape, seed=4)
        graph = convert.gradient_graph(model, end)
        onnx.checker.check_model(graph, full_check=True)
        value, gradient = toys.run(graph, {"data": data, "end_diff": diff})
        assert off(value, forward(data)) < 1e-5, end
        toys.check_gradient(forward, data, diff, gradient, directions=2, step=1e-6)


def test_branches_that_fit_together_at_odd_sizes_only():
    model = toys.convert(net(conv("conv1", "data", 3, 3, stride=2), layer("up", "Deconvolution", "conv1", "up",
                             "convolution_param { num_output: 3 kernel_size: 3 stride: 2 }"),
                             layer("sum", "Eltwise", "up data", "sum"), shape=(1, 3, 15, 15)))
    assert convert.min_size(model, "sum") == (1, 1, False)
    data = toys.noise(1, 3, 21, 19)
    value, gradient = toys.run(convert.gradient_graph(model, "sum"), {"data": data, "end_diff": data})
    assert value.shape == gradient.shape == data.shape


def test_filling_up_channels_changes_nothing(monkeypatch):
    """Nets whose channel counts are not multiples of a block: the same numbers with and without additional zeros."""
    text = net(conv("conv1", "data", 19, 3, pad=1), relu("conv1"), lrn("norm1", "conv1"),
               fire("fire2", "norm1"), fire("fire3", "fire2"), pool("pool", "fire3", s=1, pad=1),
               conv("last", "pool", 7), shape=(1, 3, 13, 15))
    model = toys.convert(text)
    data, diff = toys.noise(1, 3, 13, 15, seed=1), toys.noise(1, 7, 13, 15, seed=2)
    graph = convert.gradient_graph(model, "last")
    filled = [t for t in graph.graph.initializer if t.name.endswith("aligned weights")]
    assert filled and {t.dims[0] % 16 for t in filled} <= {0, 7}
    monkeypatch.setattr("deepdream.convert.gradient.align_channels", lambda source, ends: None)
    plain = convert.gradient_graph(model, "last")
    assert not any("aligned" in t.name for t in plain.graph.initializer)
    for mine, theirs in zip(toys.run(graph, {"data": data, "end_diff": diff}),
                            toys.run(plain, {"data": data, "end_diff": diff})):
        assert off(mine, theirs) < 1e-5


MASKED = {
    "normalized": ([conv("a", "data", 16, 3, pad=1), relu("a"), lrn("norm", "a"), pool("y", "norm")], 0),
    "joined": ([conv("a", "data", 16), relu("a"), conv("b", "data", 16, 3, pad=1), relu("b"), concat("ab", "a", "b"),
                pool("y", "ab")], 0),
    "pooled twice": ([conv("a", "data", 16), relu("a"), pool("p", "a", k=2), pool("y", "p", k=5, s=3, pad=1)], 0),
    "pooled in place": ([conv("a", "data", 16), relu("a"), pool("y", "a", s=1, pad=1)], 1),
    "read twice": ([conv("a", "data", 16), relu("a"), pool("p", "a"), pool("q", "a", "AVE"),
                    layer("y", "Eltwise", "p q", "y")], 1),
    "added": ([conv("a", "data", 16), relu("a"), conv("b", "data", 16), layer("ab", "Eltwise", "a b", "ab"), relu("ab"),
               pool("y", "ab")], 1),
}


@pytest.mark.parametrize("name", MASKED)
@pytest.mark.parametrize("size", [(13, 15), (14, 16), (15, 24)])
def test_a_relu_is_masked_where_its_pooling_is(monkeypatch, name, size):
    """A pooling's gradient is 0 where its input, a ReLU's output, is 0: the ReLU need not mask it again.

    The gradients equal the plain ones, also with many zeros and ties.
    """
    layers, masks = MASKED[name]
    model = toys.convert(net(*layers, shape=(2, 3, *size)))
    data = np.round(toys.noise(2, 3, *size, seed=5))
    graph = convert.gradient_graph(model, "y")
    diff = toys.noise(*toys.run(model, data, ["y"])[0].shape, seed=6)
    large = {n.output[0] for n in graph.graph.node if n.op_type == "Relu"}
    assert sum(n.op_type == "HardSigmoid" and n.input[0] in large for n in graph.graph.node) == masks
    monkeypatch.setattr("deepdream.convert.graph.source.Source.is_non_negative", lambda source, name: False)
    plain = convert.gradient_graph(model, "y")
    assert any(n.op_type == "Equal" for n in plain.graph.node) and all(n.op_type != "Equal" for n in graph.graph.node)
    for mine, theirs in zip(toys.run(graph, {"data": data, "end_diff": diff}),
                            toys.run(plain, {"data": data, "end_diff": diff})):
        assert off(mine, theirs) < 1e-5


PARTS = {    # the first convolution, the pooling after it, whether the pooling's gradient is passed on in parts
    "GoogLeNet": (dict(k=7, stride=2, pad=3), dict(k=3, s=2), True),
    "ResNet": (dict(k=7, stride=2, pad=3), dict(k=3, s=2, pad=1), True),
    "even kernels": (dict(k=4, stride=2, pad=1), dict(k=2, s=2), True),
    "a wide padding": (dict(k=3, stride=2, pad=3), dict(k=5, s=2, pad=2), False),
    "a large pooling": (dict(k=5, stride=2), dict(k=4, s=2, pad=1), True),
    "another stride": (dict(k=5, stride=2), dict(k=3, s=3), False),
    "stride 1": (dict(k=3, pad=1), dict(k=3, s=2), False),
    "stride 3": (dict(k=5, stride=3), dict(k=3, s=2), False),
}


@pytest.mark.parametrize("name", PARTS)
@pytest.mark.parametrize("size", [(29, 31), (30, 32), (31, 45), (32, 34)])
def test_a_poolings_gradient_is_passed_on_in_parts(monkeypatch, name, size):
    first, pooling, parts = PARTS[name]
    model = toys.convert(net(conv("a", "data", 16, **first), relu("a"), pool("y", "a", **pooling), shape=(2, 3, *size)))
    data = np.round(toys.noise(2, 3, *size, seed=5))
    graph = convert.gradient_graph(model, "y")
    diff = toys.noise(*toys.run(model, data, ["y"])[0].shape, seed=6)
    assert sum("weights back" in n.input[1] for n in graph.graph.node if n.op_type == "Conv") == (4 if parts else 1)
    monkeypatch.setattr("deepdream.convert.graph.source.Source.is_non_negative", lambda source, name: False)
    for mine, theirs in zip(toys.run(graph, {"data": data, "end_diff": diff}),
                            toys.run(convert.gradient_graph(model, "y"), {"data": data, "end_diff": diff})):
        assert off(mine, theirs) < 1e-5


def test_names_of_dynamic_axes_stand_for_sizes(googlenet):
    end = "pool3/3x3_s2"
    model = convert.to_onnx(googlenet / "deploy.prototxt", googlenet / "net.caffemodel")
    graph = convert.gradient_graph(model, end)
    dims = {i.name: [d.dim_value or d.dim_param for d in i.type.tensor_type.shape.dim] for i in graph.graph.value_info}
    made_of = json.loads({p.key: p.value for p in graph.metadata_props}["sizes"])
    wanted = ["pool1/norm1", "conv2/3x3", "pool2/3x3_s2", "inception_3b/output"]
    assert len(made_of) >= 8
    model = toys.ending_at(model, *wanted)
    for h, w in ((91, 120), (64, 77)):
        sizes = resolved(made_of, {"N": 1, "H": h, "W": w})
        for name, value in zip(wanted, toys.run(model, toys.noise(1, 3, h, w), wanted)):
            assert [sizes.get(d, d) for d in dims[name]] == list(value.shape), name
    assert resolved({"a": ["unknown", 0, 2]}, {"H": 3}) == {"H": 3}


def test_onnxruntime_keeps_a_pooling_and_its_gradient_in_its_blocked_layout(tmp_path):
    """onnxruntime does so only where it knows the number of channels, and that tensors to be added have equal sizes."""
    model = toys.convert(net(conv("a", "data", 16, 3, pad=1), relu("a"), lrn("norm", "a"), pool("p", "norm"),
                             pool("q", "p", s=1, pad=1), conv("y", "q", 16), shape=(1, 3, 31, 34)))
    options = ort.SessionOptions()
    options.optimized_model_filepath, options.log_severity_level = str(tmp_path / "optimized.onnx"), 3
    ort.InferenceSession(convert.gradient_graph(model, "y").SerializeToString(), options,
                         providers=["CPUExecutionProvider"])
    nodes = onnx.load(tmp_path / "optimized.onnx").graph.node
    if not any(n.domain == "com.microsoft.nchwc" for n in nodes):
        pytest.skip("no blocked layout on this processor")
    blocked = ("Conv", "MaxPool")
    assert {n.domain for n in nodes if n.op_type in blocked} == {"com.microsoft.nchwc"}
    if tuple(map(int, ort.__version__.split(".")[:2])) >= (1, 23):      # older ones are slower: they leave some
        assert not any(n.op_type == "Transpose" for n in nodes)


# ---- nets that do not come from Caffe

def exported(opset, size=("N", 3, "H", "W"), name="pixels"):
    """A small net as other exporters write it: Constant nodes, other names, an inner tensor called `data`."""
    w1, w2 = toys.formula("w1", 0, (6, 3, 3, 3)), toys.formula("w2", 0, (4, 6, 1, 1))
    nodes = [helper.make_node("Constant", [], ["w1"], value=numpy_helper.from_array(w1)),
             helper.make_node("Conv", [name, "w1"], ["data"], pads=[1, 1, 1, 1], strides=[2, 2]),
             helper.make_node("Relu", ["data"], ["end_diff"]),
             helper.make_node("MaxPool", ["end_diff"], ["pooled"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
             helper.make_node("Conv", ["pooled", "w2"], ["mixed"])]
    if opset < 13:
        nodes.append(helper.make_node("ReduceSum", ["mixed"], ["out"], axes=[1], keepdims=1))
    else:
        nodes.append(helper.make_node("ReduceSum", ["mixed", "axes"], ["out"], keepdims=1))
    graph = helper.make_graph(nodes, "exported", [helper.make_tensor_value_info(name, TensorProto.FLOAT, size)],
                              [helper.make_tensor_value_info("out", TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(w2, "w2"), numpy_helper.from_array(np.array([1]), "axes")])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=8)


@pytest.mark.parametrize("opset", [11, 13, 17, 18, 21])
@pytest.mark.parametrize("end", ["data", "end_diff", "pooled", "out"])
def test_any_onnx_net(opset, end):
    model = exported(opset)
    assert list(convert.valid_ends(model)) == ["data", "end_diff", "pooled", "mixed", "out"]
    graph = convert.gradient_graph(model, end)
    onnx.checker.check_model(graph, full_check=True)
    data = toys.noise(1, 3, 14, 17, seed=8)
    forward = toys.doubled(model, end)
    diff = toys.noise(*forward(data).shape, seed=9)
    value, gradient = toys.run(graph, {"data": data, "end_diff": diff})
    assert off(value, forward(data)) < 1e-5
    toys.check_gradient(forward, data, diff, gradient, directions=2, step=1e-6)


def test_ends_without_a_gradient_are_rejected():
    model = exported(17)
    with pytest.raises(ConvertError, match="no such end: 'puled'; the nearest are pooled"):
        convert.gradient_graph(model, "puled")
    model.graph.node.append(helper.make_node("Floor", ["out"], ["floored"]))
    with pytest.raises(ConvertError, match="'floored' changes only in steps"):
        convert.gradient_graph(model, "floored")
    assert convert.gradient_graph(model, "out")         # which does not need the Floor
    model.graph.input.append(helper.make_tensor_value_info("other", TensorProto.FLOAT, [1]))
    model.graph.node.append(helper.make_node("Add", ["out", "other"], ["both"]))
    with pytest.raises(ConvertError, match="'both' also depends on the input 'other'"):
        convert.gradient_graph(model, "both")
    constant = helper.make_node("Shape", ["pixels"], ["shape"])
    model.graph.node.append(constant)
    with pytest.raises(ConvertError, match="no such end: 'shape'"):
        convert.gradient_graph(model, "shape")


def test_the_model_itself_is_not_changed():
    model = exported(13)
    before = model.SerializeToString()
    convert.gradient_graph(model, "out")
    assert model.SerializeToString() == before
