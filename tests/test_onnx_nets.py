"""Nets in .onnx files of other origin: convert.onnx_nets.prepare, models.onnx_card, Net and the command line."""
import children
import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.onnx_nets.prepare import image_input, onnx_net
from deepdream.convert.graph import metadata
from onnx import TensorProto, helper
from onnx_toys import check, facts, filters, net, some
from PIL import Image

from deepdream import DreamError, Net, convert, deepdream, models
from deepdream.dream import preprocess

SCALE = (0.0171, 0.0175, 0.0174)


def norm(channels, seed=1):
    """Make the scale, bias, mean and variance of a BatchNormalization."""
    rng = np.random.default_rng(seed)
    return {f"n{i}": np.float32(rng.uniform(a, b, channels)) for i, (a, b) in
            enumerate([(0.7, 1.3), (-0.2, 0.2), (-0.2, 0.2), (0.5, 1.5)])}


SAME = "pads=[1, 1, 1, 1]"
BN = "n0, n1, n2, n3"
GOOGLENET = (f"c = Conv<strides=[2, 2], {SAME}>(x, w); b = BatchNormalization(c, {BN}); r = Relu(b);"
             "p = MaxPool<kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1>(r); c1 = Conv(p, w1); r1 = Relu(c1);"
             f"c3 = Conv<{SAME}>(p, w3); r3 = Relu(c3); m = MaxPool<kernel_shape=[3, 3], {SAME}>(p);"
             "out = Concat<axis=1>(r1, r3, m); g = GlobalAveragePool(out); f = Flatten(g);"
             "y = Gemm<transB=1>(f, fw, fb)")
GOOGLENET_WEIGHTS = {"w": filters(8, 3), **norm(8), "w1": filters(6, 8, 1), "w3": filters(4, 8), "fw": some(5, 18),
                     "fb": some(5)}
RESNET = (f"c = Conv<strides=[2, 2], {SAME}>(x, w); b = BatchNormalization(c, {BN}); r = Relu(b);"
          f"d = Conv<{SAME}>(r, w2); e = BatchNormalization(d, {BN}); s = Add(e, r); t = Relu(s);"
          "g = GlobalAveragePool(t); size = Shape(g); first = Gather(size, zero); n = Unsqueeze(first, zeros);"
          "all = Concat<axis=0>(n, rest); f = Reshape(g, all); y = Gemm<transB=1>(f, fw, fb)")
RESNET_WEIGHTS = {"w": filters(8, 3), **norm(8), "w2": filters(8, 8), "zero": np.array(0, np.int64),
                  "zeros": np.array([0]), "rest": np.array([-1]), "fw": some(5, 8), "fb": some(5)}
KERAS = ("a = Transpose<perm=[0, 3, 1, 2]>(x); c = Conv<strides=[2, 2], auto_pad=\"SAME_UPPER\">(a, w);"
         "l = Transpose<perm=[0, 2, 3, 1]>(c); lb = Add(l, bias); lr = Relu(lb);"
         "h = Transpose<perm=[0, 3, 1, 2]>(lr); d = Conv<auto_pad=\"SAME_UPPER\">(h, w2); u = Clip(d, low, high);"
         "k = Transpose<perm=[0, 2, 3, 1]>(u); m = ReduceMean<axes=[1, 2], keepdims=0>(k); y = MatMul(m, fw)")
KERAS_WEIGHTS = {"w": filters(8, 3), "bias": some(8), "w2": filters(8, 8), "low": np.float32(0), "high": np.float32(6),
                 "fw": some(8, 5)}
FIXED = ("c = Conv(x, w); r = Relu(c); p = MaxPool<kernel_shape=[2, 2], strides=[2, 2]>(r); f = Reshape(p, s);"
         "y = Gemm(f, fw)")
FIXED_WEIGHTS = {"w": filters(4, 3), "s": np.array([1, -1]), "fw": some(4 * 15 * 15, 5)}


# ---- the form that nets are brought into

@pytest.mark.parametrize("body, weights, ends", [
    (GOOGLENET, GOOGLENET_WEIGHTS, ["c", "b", "p", "out", "y"]), (RESNET, RESNET_WEIGHTS, ["b", "s", "t", "g", "y"])],
    ids=["googlenet", "resnet"])
def test_gradients_at_any_size(body, weights, ends):
    model = onnx_net(net(body, weights), scale=SCALE)
    onnx.checker.check_model(model, full_check=True)
    for end in ends:
        check(model, end)
        check(model, end, (29, 41))


def test_the_form_is_that_of_a_converted_net():
    model = onnx_net(net(GOOGLENET, GOOGLENET_WEIGHTS), scale=SCALE)
    assert [i.name for i in model.graph.input] == ["data"] and model.opset_import[0].version == 17
    dims = model.graph.input[0].type.tensor_type.shape.dim
    assert [d.dim_param or d.dim_value for d in dims] == ["N", 3, "H", "W"]
    ends = convert.Facts.read(model).ends
    assert list(ends) == "data c b r p c1 r1 c3 r3 m out g f y".split()
    assert ends["out"][:3] == (18, (4, 4), "Concat")
    assert ends["c"][:3] == (8, (2, 2), "Conv")
    assert ends["y"][:3] == (5, None, "Gemm") and ends["g"].stride is None
    assert facts(model, "data_shape") == [1, 3, 32, 32] and facts(model, "left_out") == {}
    assert facts(model, "writes")[:2] == [["data"] * 3, ["c"] * 3] and metadata(model)["data"] == "data"


def run(model, x):
    return toys.session(model, plain=True).run(None, {model.graph.input[0].name: x})[0]


@pytest.mark.parametrize("opset", [7, 8, 9, 13, 17, 18, 20, 22, 23, 24])
def test_opsets(opset):
    """Axes as an attribute or as an input, and weights among the inputs, make the same net."""
    mean = "m = ReduceMean<axes=[2, 3], keepdims=0>(a)" if opset < 18 else "m = ReduceMean<keepdims=0>(a, axes)"
    pool = "a = AveragePool<kernel_shape=[2, 2]" + (", dilations=[1, 1]" if opset > 18 else "") + ">(r)"
    old = net(f"c = Conv(x, w); r = Relu(c); {pool}; {mean}; y = MatMul(m, fw)",
              {"w": filters(4, 3), "fw": some(4, 5)} | ({"axes": np.array([2, 3])} if opset > 17 else {}), opset=opset,
              ir=4 if opset < 13 else 10)
    if opset <= 9:
        old.graph.input.extend(helper.make_tensor_value_info(t.name, t.data_type, t.dims)
                               for t in old.graph.initializer)
    model = onnx_net(old)
    assert [i.name for i in model.graph.input] == ["data"] and model.opset_import[0].version == 17
    onnx.checker.check_model(model, full_check=True)
    x = some(1, 3, 32, 32)
    assert toys.off(run(model, x), run(old, x)) < 1e-6
    check(model, "y", (20, 27))


def test_unknown_opsets_are_rejected():
    for opset in (6, 25):
        with pytest.raises(convert.ConvertError, match=rf"opset {opset} .* 7 to 24"):
            onnx_net(net("y = Relu(x)", {}, opset=opset))


def test_scale_is_a_first_layer():
    old = net(GOOGLENET, GOOGLENET_WEIGHTS)
    x = some(1, 3, 32, 32) * 50
    for scale in (SCALE, 1 / 255):
        expected = run(old, x * np.float32(scale).reshape(1, -1, 1, 1))
        assert toys.off(run(onnx_net(old, scale), x), expected) < 1e-6
    with pytest.raises(convert.ConvertError, match="scale has 2 numbers for 3"):
        onnx_net(old, (1, 2))


def test_channels_last():
    old = net(KERAS, KERAS_WEIGHTS, ("batch", 32, 32, 3))
    model = onnx_net(old, scale=1 / 127.5)
    x = some(1, 3, 32, 32) * 100
    assert toys.off(run(model, x), run(old, x.transpose(0, 2, 3, 1) / np.float32(127.5))) < 1e-6
    ends = convert.Facts.read(model).ends
    assert [e for e in ends if not ends[e].channels_last] == ["data", "a", "c", "h", "d", "u", "m", "y"]
    assert [e for e in ends if ends[e].channels_last] == ["l", "lb", "lr", "k"]
    assert ends["lr"][:3] == (8, (2, 2), "Relu")
    assert ends["u"][:3] == (8, (2, 2), "Clip")
    assert sum(n.op_type == "Transpose" for n in model.graph.node) == 3      # that at the input is gone
    for end in ("c", "lr", "d", "u", "k", "y"):
        check(model, end)
        check(model, end, (27, 30))


@pytest.mark.parametrize("size, declared", [((32, 33), (32, 33)), ((31, 30), (31, 30)), ((32, 32), (None, None))])
@pytest.mark.parametrize("auto", ["SAME_UPPER", "SAME_LOWER"])
@pytest.mark.parametrize("node", ["Conv<strides=[2, 2]", "MaxPool<kernel_shape=[3, 3], strides=[2, 2]",
                                  "AveragePool<kernel_shape=[2, 3], strides=[3, 2]"])
def test_same_padding(node, auto, size, declared):
    """At the declared size the results are the model's; at other sizes there are as many windows as it would have."""
    conv = node.startswith("Conv")
    old = net(f'y = {node}, auto_pad="{auto}">({"x, w" if conv else "x"})', {"w": filters(4, 3)} if conv else {},
              (1, 3, *declared))
    model = onnx_net(old)
    x = some(1, 3, *size)
    if "3, 2" not in node or declared[0]:
        assert toys.off(run(model, x), run(old, x)) < 1e-6
    for h, w in ((29, 30), (36, 36), (7, 8)):
        x = some(1, 3, h, w)
        assert run(model, x).shape[2:] == (-(-h // (3 if "3, 2" in node else 2)), -(-w // 2))
    check(model, "y", (13, 14))


def test_a_net_of_fixed_size():
    model = onnx_net(net(FIXED, FIXED_WEIGHTS))
    assert convert.min_size(model, "y") == (32, 32, True) and convert.min_size(model, "p") == (4, 4, False)
    check(model, "y")
    check(model, "p")


def test_a_split_into_uneven_parts():
    """Opset 18 has the number of parts, opset 17 needs their sizes: 16 channels in 3 parts are 6, 6 and 4."""
    model = net("c = Conv(x, w); a, b, d = Split<axis=1, num_outputs=3>(c); y = Relu(d)", {"w": filters(16, 3)},
                opset=18, outputs=("y", "c"))
    made = onnx_net(model)
    x = toys.noise(1, 3, 32, 32)
    want, value = toys.run(model, x, ["y"])[0], toys.run(made, {"data": x}, ["y"])[0]
    assert value.shape[1] == 4 and toys.off(value, want) < 1e-6


def test_an_operator_without_derivative():
    model = onnx_net(net("c = Conv(x, w); r = Relu(c); i = Hardmax(r); q = Relu(i);"
                         "a = ArgMax<axis=1>(q); k = Cast<to=1>(a); y = Add(r, r)",
                         {"w": filters(4, 3)}))
    assert list(facts(model, "ends")) == ["data", "c", "r", "y"]
    left_out = facts(model, "left_out")
    assert set(left_out) == {"i", "q", "k"} and left_out["q"] == "operator Hardmax (node 'i')"
    with pytest.raises(convert.ConvertError, match="Hardmax .* is not supported, and 'q' needs it"):
        convert.gradient_graph(model, "q")


def test_control_flow_is_named():
    branch = helper.make_graph([onnx.parser.parse_node("z = Relu(c)")], "branch", [],
                               [helper.make_tensor_value_info("z", 1, None)])
    model = net("c = Conv(x, w)", {"w": filters(4, 3), "yes": np.array(True)}, outputs=["z"])
    model.graph.node.append(helper.make_node("If", ["yes"], ["if"], then_branch=branch, else_branch=branch))
    model.graph.node.append(onnx.parser.parse_node("z = Relu(if)"))
    made = onnx_net(model)
    assert list(facts(made, "ends")) == ["data", "c"]
    with pytest.raises(convert.ConvertError, match=r"operator If \(node 'if'\) is not supported, and 'z' needs it"):
        convert.gradient_graph(made, "z")
    del model.graph.node[0]
    model.graph.node[0].attribute[0].g.node[0].input[0] = model.graph.node[0].attribute[1].g.node[0].input[0] = "x"
    with pytest.raises(convert.ConvertError, match=r"nothing to dream at: operator If"):
        onnx_net(model)


@pytest.mark.parametrize("kind, dtype", [(TensorProto.FLOAT16, np.float16), (TensorProto.DOUBLE, np.float64)])
def test_halves_and_doubles(kind, dtype):
    weights = {k: v.astype(dtype) if v.dtype == np.float32 else v for k, v in GOOGLENET_WEIGHTS.items()}
    model = onnx_net(net(f"k = Cast<to={kind}>(x); " + GOOGLENET.replace("(x, w)", "(k, w)"), weights, kind=kind))
    single = onnx_net(net(GOOGLENET, GOOGLENET_WEIGHTS))
    x = some(1, 3, 32, 32)
    assert toys.off(run(model, x), run(single, x)) < (2e-3 if dtype == np.float16 else 1e-6)
    check(model, "out")


def test_bytes_as_input():
    model = onnx_net(net("f = Cast<to=1>(x); y = Conv(f, w)", {"w": filters(4, 3)}, kind=TensorProto.UINT8))
    check(model, "y")


def test_newer_and_older_forms():
    for body, opset, weights in [
            ("y = Gelu(x)", 20, {}), ('y = Gelu<approximate="tanh">(x)', 20, {}), ("y = Mish(x)", 18, {}),
            ("a, b, c = Split<axis=1, num_outputs=3>(x); y = Concat<axis=1>(c, a)", 18, {}),
            ("y = Pad(x, p, , axes)", 18, {"p": np.array([1, 2, 3, 0]), "axes": np.array([2, 3])}),
            ("y = HardSwish(x)", 14, {}),
            ('y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor", '
             "antialias=0>(x, , s)", 19, {"s": np.float32([1, 1, 2, 2])})]:
        old = net(body, weights, opset=opset, ir=9)
        model = onnx_net(old)
        onnx.checker.check_model(model, full_check=True)
        x = some(1, 3, 32, 32)
        assert toys.off(run(model, x), run(old, x)) < 1e-6, body
        check(model, "y", (9, 11))


def test_models_that_use_our_names():
    """A model may call its input `data`, or other tensors `data`, `end_data` or `const`."""
    for body, name in [("end_data = Relu(data); const = Neg(end_data); y = Mul(const, end_data)", "data"),
                       ("data = Relu(x); y = Mul(data, data)", "x")]:
        model = onnx_net(net(body, {}, name=name), scale=0.5)
        onnx.checker.check_model(model, full_check=True)
        check(model, "y", (5, 6))


def test_a_converted_net_is_returned_unchanged():
    model = toys.convert(toys.TOY)
    assert onnx_net(model) is model


@pytest.mark.parametrize("shape, message", [((1, 10), r"takes no picture: .* its inputs: 'x' \(1, 10\)"),
                                            ((1, 4, 8, 8), "has 4 channels as nchw; 1 .grey. or 3"),
                                            ((1, 8, 8, 5), "has 8 channels as nchw")])
def test_inputs_that_are_no_pictures(shape, message):
    with pytest.raises(convert.ConvertError, match=message):
        onnx_net(net("y = Relu(x)", {}, shape))


def test_several_inputs():
    model = net("y = Relu(x); z = Add(y, t); q = Neg(y)", {}, outputs=["z", "q"])
    model.graph.input.append(helper.make_tensor_value_info("t", 1, [1, 3, 1, 1]))
    with pytest.raises(convert.ConvertError, match=r"several inputs .* 't' \(1, 3, 1, 1\)"):
        onnx_net(model)
    with pytest.raises(convert.ConvertError, match="no input is called 'u'"):
        onnx_net(model, input="u")
    made = onnx_net(model, input="x")
    assert list(facts(made, "ends")) == ["data", "y", "q"]
    assert facts(made, "left_out") == {"z": "a second input, 't',"}
    x = some(1, 3, 5, 5)
    results = toys.run(convert.gradient_graph(made, "q"), {"data": x, "end_diff": x}, ["end_data", "data_diff"])
    np.testing.assert_array_equal(results, [np.minimum(-x, 0), -x * (x > 0)])


def test_layouts():
    def layout(*shape, given=None):
        return image_input(net("y = Relu(x)", {}, shape), layout=given)[1:3]
    assert layout(1, 3, 8, 9) == ("nchw", [1, 3, 8, 9]) and layout("n", 8, 9, 3) == ("nhwc", [None, 3, 8, 9])
    assert layout(1, 28, 28, 1) == ("nhwc", [1, 1, 28, 28]) and layout(1, 3, 3, 3) == ("nchw", [1, 3, 3, 3])
    assert layout(1, None, None, None) == ("nchw", [1, 3, None, None])
    assert layout(1, 3, 3, 3, given="nhwc") == ("nhwc", [1, 3, 3, 3])
    with pytest.raises(convert.ConvertError, match="layout is 'NHWC'; allowed are nchw and nhwc"):
        layout(1, 3, 3, 3, given="NHWC")


# ---- Net

@pytest.fixture
def file(tmp_path):
    path = tmp_path / "net.onnx"
    onnx.save(net(GOOGLENET, GOOGLENET_WEIGHTS), path)
    return path


def write_toml(path, text):
    path.with_suffix(".toml").write_text(text)


def test_assumptions_are_printed_once(file, capsys):
    made = Net(file, device="cpu")
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and "mean 123.675,116.28,103.53" in err and "rgb, nchw" in err and "net.toml" in err
    Net(file, device="cpu")
    assert not capsys.readouterr().err
    assert made.name == "net" and made.default_end == "out" and made.blobs["data"].shape == (1, 3, 32, 32)
    picture = np.full((4, 4, 3), (255, 0, 128), np.float32)
    expected = np.float32([255, 0, 128]) - (123.675, 116.28, 103.53)
    np.testing.assert_allclose(preprocess(made, picture)[:, 0, 0], expected, rtol=1e-5)


@pytest.mark.parametrize("arguments, toml", [({"channel_swap": (2, 1, 0)}, ""), ({}, 'channels = "bgr"')])
def test_the_assumed_mean_and_scale_are_in_the_nets_order(file, arguments, toml):
    write_toml(file, toml)
    made = Net(file, device="cpu", **arguments)
    assert made.files.mean == (103.53, 116.28, 123.675) and made.files.scale == (0.0174292, 0.0175070, 0.0171248)
    picture = np.full((4, 4, 3), (123.675, 116.28, 103.53), np.float32)
    np.testing.assert_allclose(preprocess(made, picture), 0, atol=1e-5)


def test_settings_in_a_toml_file_and_arguments_that_override_them(file, capsys):
    write_toml(file, 'mean = 127.5\nscale = ["1/255", 0.01, 0.02]\nchannels = "bgr"\ndefault_end = "p"\n')
    made = Net(file, device="cpu")
    assert not capsys.readouterr().err and made.default_end == "p"
    assert made.transformer.channel_swap["data"] == (2, 1, 0)
    np.testing.assert_array_equal(made.transformer.mean["data"].ravel(), [127.5] * 3)
    scale = np.float32([1 / 255, 0.01, 0.02]).reshape(3, 1, 1)
    old = run(net(GOOGLENET, GOOGLENET_WEIGHTS), some(1, 3, 32, 32) * scale)
    made.blobs["data"].data[...] = some(1, 3, 32, 32)
    assert toys.off(made.forward(end="y")["y"], old) < 1e-5
    other = Net(file, mean=(1, 2, 3), scale=0.5, channel_swap=(0, 1, 2), device="cpu")
    assert other.transformer.mean["data"].ravel().tolist() == [1, 2, 3]
    assert other.files.scale == (0.5,) and other.transformer.channel_swap["data"] == (0, 1, 2)
    again = Net(**other.files.arguments, device="cpu")
    assert len({made.checksum, other.checksum, again.checksum}) == 2


def test_one_of_mean_and_scale_leaves_the_other_neutral(file, capsys):
    assert Net(file, scale=1 / 255, device="cpu").files.mean == (0.0,)
    assert Net(file, mean=128, device="cpu").files.scale == (1.0,)
    assert not capsys.readouterr().err


@pytest.mark.parametrize("text, message", [
    ("meen = 3", "unknown key 'meen', did you mean 'mean'"), ('mean = "a"', "mean must be a number"),
    ("scale = 0", "scale must be a number above 0"), ("scale = [1, 2]", "scale: 2 numbers for the 3 channel"),
    ('channels = "grb"', "channels must be rgb or bgr"), ('layout = "nwhc"', "layout must be nchw or nhwc"),
    ('labels = "no.txt"', "labels: there is no"), ("mean =", "not readable as TOML")])
def test_mistakes_in_the_toml_file(file, text, message):
    write_toml(file, text)
    with pytest.raises((models.ModelError, DreamError), match=message) as caught:
        Net(file, device="cpu")
    assert "\n" not in str(caught.value)


def test_a_default_end_that_does_not_exist(file):
    write_toml(file, 'mean = 0\ndefault_end = "oit"')
    with pytest.raises(convert.ConvertError, match="no such end: 'oit'; the nearest are out"):
        Net(file, device="cpu").default_end


def test_weights_in_another_file(tmp_path):
    path, data = tmp_path / "net.onnx", tmp_path / "net.onnx.data"
    onnx.save(net(GOOGLENET, GOOGLENET_WEIGHTS), path, save_as_external_data=True, location=data.name, size_threshold=0)
    made = Net(path, scale=0.01, device="cpu")
    made.blobs["data"].data[...] = x = some(1, 3, 32, 32)
    assert toys.off(made.forward(end="y")["y"], run(net(GOOGLENET, GOOGLENET_WEIGHTS), x * np.float32(0.01))) < 1e-5
    changed = bytearray(data.read_bytes())
    changed[3] ^= 1
    data.write_bytes(changed)
    assert Net(path, scale=0.01, device="cpu").checksum != made.checksum
    data.write_bytes(changed[:100])
    with pytest.raises(convert.ConvertError, match="net.onnx.data, which must be complete and in the same folder"):
        Net(path, scale=0.01, device="cpu")
    data.unlink()
    with pytest.raises(convert.ConvertError, match="net.onnx.data: cannot be read"):
        Net(path, scale=0.01, device="cpu")


def test_other_files_are_rejected(tmp_path):
    path = tmp_path / "net.onnx"
    with pytest.raises(convert.ConvertError, match="net.onnx: cannot be read: No such file"):
        Net(path)
    for data in (b"", b"\x89PNG" * 100, b"version https://git-lfs"):
        path.write_bytes(data)
        with pytest.raises(convert.ConvertError, match="net.onnx: not an ONNX file"):
            Net(path)


def test_options_for_one_kind_of_file_only(toy, file):
    with pytest.raises(DreamError, match="scale: only for a net in an .onnx file"):
        Net(toy, scale=2)
    with pytest.raises(DreamError, match="leftover diffs are Caffe's"):
        Net(file, mean=0, leftover_diffs=True)


def test_a_dream_is_that_of_the_same_net_from_caffes_files(toy, tmp_path):
    """The toy net without its metadata is an ordinary ONNX net, and its dream is that of the Caffe net."""
    model = toys.convert(toys.TOY)
    onnx.save(model, tmp_path / "converted.onnx")
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "net.onnx")
    picture = np.random.default_rng(3).uniform(0, 255, (40, 33, 3)).astype(np.float32)
    dreams = []
    for made in (Net(toy, device="cpu"), Net(tmp_path / "converted.onnx", device="cpu"),
                 Net(tmp_path / "net.onnx", mean=(104, 116, 122), scale=1, channel_swap=(2, 1, 0), device="cpu")):
        np.random.seed(1)
        dreams.append(deepdream(made, picture, iter_n=3, octave_n=2, end="both", jitter=4))
    assert list(made.ends)[:3] == ["data", "conv1", "relu_conv1"]
    np.testing.assert_array_equal(dreams[0], dreams[1])
    np.testing.assert_allclose(dreams[0], dreams[2], atol=1e-2)
    assert np.abs(dreams[0] - picture).mean() > 0.5
    with pytest.raises(DreamError, match="scale: .*converted.onnx was converted from Caffe's files"):
        Net(tmp_path / "converted.onnx", scale=2)


def test_a_grey_net_and_one_of_fixed_size(tmp_path):
    onnx.save(net("c = Conv(x, w); y = Relu(c)", {"w": filters(4, 1)}, (1, 28, 28, 1)[::3] + (28, 28)),
              tmp_path / "grey.onnx")
    made = Net(tmp_path / "grey.onnx", device="cpu")
    assert made.files.mean == pytest.approx(((123.675 + 116.28 + 103.53) / 3,))
    assert deepdream(made, np.full((30, 30, 3), 90, np.float32) + some(30, 30, 3), iter_n=1, octave_n=1,
                     end="y").shape == (30, 30, 3)
    onnx.save(net(FIXED, FIXED_WEIGHTS), tmp_path / "fixed.onnx")
    made = Net(tmp_path / "fixed.onnx", scale="0.01", device="cpu")
    picture = np.float32(np.random.default_rng(1).uniform(0, 255, (32, 32, 3)))
    assert deepdream(made, picture, iter_n=2, octave_n=1, end="y").shape == (32, 32, 3)
    with pytest.raises(DreamError, match="after a layer of fixed size and needs a picture of exactly 32x32"):
        deepdream(made, picture, iter_n=2, octave_n=2, end="y")


# ---- the command line

def command(*args, **options):
    return children.run("-m", "deepdream", *args, **options)


TINY = ["--iter-n", 1, "--octave-n", 2, "--jitter", 3, "--threads", 1, "--device", "cpu"]


@pytest.mark.slow
def test_layers_dream_and_a_folder(file, tmp_path):
    result = command("layers", "--model", file, "--scale", "1/255")
    assert result.returncode == 0 and not result.stderr
    assert result.stdout.splitlines()[10].split() == ["out", "18", "4", "Concat,", "end", "of", "a", "block"]
    (tmp_path / "in").mkdir()
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(tmp_path / "in/a.png")
    options = ["--model", "net.onnx", "--mean", "120,110,100", "--scale", "0.02", "--channels", "bgr", "--seed", 3,
               *TINY]
    result = command("dream", "in", "-o", "out", *options, cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr and "1 dreams made" in result.stdout, result
    result = command("dream", "in/a.png", "-o", "b.png", *options, cwd=tmp_path)
    assert result.returncode == 0 and (tmp_path / "b.png").exists() and not result.stderr, result
    assert np.array_equal(*(np.asarray(Image.open(tmp_path / p)) for p in ("b.png", "out/a.png")))


def test_compare_with_a_net_in_a_file(file, toy, tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8)).save(tmp_path / "a.png")
    write_toml(file, "scale = 0.02")
    result = command("compare", "a.png", "-o", "c.png", "--models", "net.onnx", toy, "--end", "out", "both", *TINY,
                     cwd=tmp_path)
    assert result.returncode == 0 and not result.stderr, result


@pytest.mark.parametrize("args, message", [
    (["--model", "TOY", "--mean", "1,2,3"], "--mean: only for a net in an .onnx file"),
    (["--model", "net.onnx", "--scale", "0"], "--scale: '0' is not a number, a fraction"),
    (["--model", "net.onnx", "--mean", "1,2"], "mean: 2 numbers for the 3 channel(s) of net.onnx"),
    (["--model", "net.onnx", "--scale", "1/0"], "--scale: '1/0' is not a number, a fraction"),
    (["--model", "no.onnx"], "no.onnx: cannot be read"),
    (["--model", "net.onnx", "--input", "z"], "input: no input is called 'z'; its inputs: 'x' (1, 3, 32, 32)"),
])
def test_mistakes_of_users_are_one_line(file, toy, args, message):
    result = command("layers", *(str(toy) if a == "TOY" else a for a in args), cwd=file.parent)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and message in result.stderr, result
