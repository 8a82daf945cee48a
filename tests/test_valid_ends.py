"""Every end that is listed can be dreamt at; results that cannot are listed as left out, with the reason."""
import re

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.__main__ import main as convert_main
from deepdream.convert.onnx_nets.prepare import onnx_net
from deepdream.convert.listing import listing
from deepdream.convert.refusals import refusals
from deepdream.convert.graph.source import Source
from onnx import helper
from onnx_toys import check, facts, filters, net, some
from toys import conv, layer

from deepdream import DreamError, Net, convert
from deepdream.cli import main

SIDE = 12                         # of the picture; 10 after the first convolution
FIRST = "c = Conv(x, w); "


def ints(*values):
    return np.array(values, np.int64)


def reals(*values):
    return np.float32(values)


ONE, BOTH = {"one": reals(1, 1, 1, 1)}, {"s": reals(1, 1, 2, 2)}
RESIZE = FIRST + "r = Resize<{}>(c, , s); y = Relu(r)"
GATE = FIRST + "g = GlobalAveragePool(c); "
# name: (body, constants, {result that is left out: regular expression of the reason}, opset)
ZOO = {
    "nearest, as PyTorch writes it": (RESIZE.format('mode="nearest", coordinate_transformation_mode="asymmetric", '
                                                    'nearest_mode="floor"'), {"s": reals(1, 1, 3, 2)}, {}),
    "nearest, by half pixels": (RESIZE.format('mode="nearest"'), {"s": reals(1, 1, 3, 4)}, {}),
    "nearest, by corners": (RESIZE.format('mode="nearest", coordinate_transformation_mode="align_corners"'), BOTH, {}),
    "linear": (RESIZE.format('mode="linear"'), BOTH, {}),
    "cubic": (RESIZE.format('mode="cubic"'), BOTH, {}),
    "half as large again": (RESIZE.format('mode="nearest"'), {"s": reals(1, 1, 1.5, 1.5)}, {}),
    "more channels": (RESIZE.format('mode="nearest"'), {"s": reals(1, 2, 2, 2)},
                      dict.fromkeys("ry", "only the two spatial axes may change")),
    "not in blocks": (RESIZE.format('mode="nearest", coordinate_transformation_mode="asymmetric"'),
                      {"s": reals(1, 1, 3, 3)}, {}),
    "rounded up": (RESIZE.format('mode="nearest", nearest_mode="ceil"'), BOTH, {}),
    "to a size": (FIRST + 'r = Resize<mode="nearest">(c, , , s); y = Relu(r)', {"s": ints(1, 4, 20, 20)}, {}),
    "expanded": (GATE + "e = Expand(g, s); y = Relu(e)", {"s": ints(1, 4, 5, 5)}, {}),
    "expanded by another's size": (GATE + "s = Shape(c); e = Expand(g, s); y = Add(c, e)", {}, {}),
    "quantized": (FIRST + "q = QuantizeLinear(c, s, z); d = DequantizeLinear(q, s, z); y = Relu(d)",
                  {"s": np.float32(0.01), "z": np.int8(0)}, dict.fromkeys("dy", "operator QuantizeLinear .node 'q'")),
    "weights of bytes": ("a = Relu(x); v = DequantizeLinear(q, s, z); y = Conv(a, v)",
                         {"q": np.int8(filters(4, 3) * 99), "s": np.float32(0.01), "z": np.int8(0)}, {}),
    "a gelu": (FIRST + 'g = Gelu<approximate="tanh">(c); y = Gelu(g)', {}, {}, 20),
    "indices": (FIRST + "p, q = MaxPool<kernel_shape=[2, 2]>(c); y = Relu(p)", {}, {}),
    "indices as numbers": (FIRST + "p, q = MaxPool<kernel_shape=[2, 2]>(c); k = Cast<to=1>(q); y = Add(p, k)", {},
                           dict.fromkeys("ky", "operator MaxPool .*only its first output")),
    "same padding": (FIRST + 'd = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(c, v); y = Relu(d)',
                     {"v": filters(4, 4)}, {}),
    "same padding, transposed": (FIRST + 'd = ConvTranspose<auto_pad="SAME_UPPER", strides=[2, 2]>(c, v); y = Relu(d)',
                                 {"v": filters(4, 2)}, dict.fromkeys("dy", "depends on the size of the picture")),
    "a shape to come": (FIRST + "d = ConvTranspose<output_shape=[20, 20], strides=[2, 2]>(c, v); y = Relu(d)",
                        {"v": filters(4, 2)}, dict.fromkeys("dy", "output_shape is not supported")),
    "a dilated average": (FIRST + "a = AveragePool<kernel_shape=[2, 2], dilations=[2, 2]>(c); y = Relu(a)", {},
                          dict.fromkeys("ay", "opset 17 does not know it in this form"), 19),
    "every second row": (FIRST + "d = Slice(c, a, b, axis, step); y = Relu(d)",
                         {"a": ints(0), "b": ints(9), "axis": ints(2), "step": ints(2)}, {}),
    "backwards": (FIRST + "d = Slice(c, a, b, axis, step); y = Relu(d)",
                  {"a": ints(8), "b": ints(0), "axis": ints(2), "step": ints(-2)}, {}),
    "a slice of all axes": (FIRST + "d = Slice(c, a, b, , step); y = Relu(d)",
                            {"a": ints(0, 1), "b": ints(1, 3), "step": ints(1, 1)}, {}),
    "mirrored borders": (FIRST + 'p = Pad<mode="reflect">(c, a); y = Relu(p)', {"a": ints(0, 0, 1, 1, 0, 0, 1, 1)}, {}),
    "weights from the picture": (GATE + "m = Reshape(g, s); y = Conv(c, m)", {"s": ints(1, 4, 1, 1)},
                                 {"y": "operator Conv .*input 1 must be constant"}),
    "a bias from the picture": (GATE + "m = Reshape(g, s); y = Conv(x, w, m)", {"s": ints(4)},
                                {"y": "operator Conv .*input 2 depends on the picture"}),
    "a limit from the picture": (GATE + "m = Reshape(g, s); l = ReduceMean<axes=[1], keepdims=0>(m); y = Clip(c, l)",
                                 {"s": ints(1, 4)}, {"y": "operator Clip .*input 1 depends on the picture"}),
    "slopes from the picture": (GATE + "y = PRelu(c, g)", {}, {"y": "operator PRelu .*input 1 depends on the picture"}),
    "a norm from the picture": (GATE + "m = Reshape(g, s); y = BatchNormalization(c, one, m, one, one)",
                                {"s": ints(4), **ONE}, {"y": "operator BatchNormalization .*input 2 depends"}),
    "a norm in training": (FIRST + "y, m, v = BatchNormalization<training_mode=1>(c, one, one, one, one)", ONE,
                           {"y": "training_mode is not supported"}),
    "dropout in training": (FIRST + "y = Dropout(c, half, yes)", {"half": np.float32(0.5), "yes": np.array(True)},
                            {"y": "training_mode is not supported"}),
    "a power of the picture": (FIRST + "a = Abs(c); y = Pow(a, a)", {},
                               {"y": "operator Pow .*input 1 must be constant"}),
    "the largest of three": (FIRST + "n = Neg(c); r = Relu(c); y = Max(c, n, r)", {}, {"y": "only two operands"}),
    "rounded": (FIRST + "k = Cast<to=7>(c); d = Cast<to=1>(k); y = Add(d, c)", {},
                {"d": "operator Cast .*only in steps"}),
    "compared": (FIRST + "k = Greater(c, zero); n = Neg(c); y = Where(k, c, n)", {"zero": np.float32(0)}, {}),
    "compared, and made a number": (FIRST + "k = Greater(c, zero); d = Cast<to=1>(k); y = Mul(c, d)",
                                    {"zero": np.float32(0)}, {"d": "only in steps"}),
    "a choice of constants": (FIRST + "k = Greater(c, zero); d = Where(k, one, zero); y = Add(c, d)",
                              {"zero": np.float32(0), "one": np.float32(1)},
                              {"d": "only in steps"}),
    "no known operator": (FIRST + "i = Hardmax(c); r = Relu(c); y = Add(i, r)", {},
                          dict.fromkeys("iy", r"operator Hardmax \(node 'i'\)")),
    "sums over no axes": (FIRST + "y = ReduceSum<noop_with_empty_axes=1, keepdims=0>(c)", {}, {}),
    "a gate pooled by its size": (FIRST + "p = AveragePool<kernel_shape=[10, 10]>(c); k = Conv(p, v); g = Sigmoid(k);"
                                  "y = Mul(c, g)", {"v": filters(4, 4, 1)}, {}),
    "a gate by shapes": (GATE + "t = Shape(c); n = Slice(t, zero, two); f = Reshape(g, n); k = Gemm(f, v);"
                         "u = Concat<axis=0>(n, ones); b = Reshape(k, u); s = Sigmoid(b); y = Mul(c, s)",
                         {"v": some(4, 4, spread=0.02), "zero": ints(0), "two": ints(2), "ones": ints(1, 1)}, {}),
    "a huge window": (FIRST + "y = MaxPool<kernel_shape=[2000, 1], pads=[1999, 0, 1999, 0]>(c)", {},
                             {"y": "must be 1 to 512"}),
    "huge strides": (FIRST + "y = Conv<strides=[500, 500], pads=[499, 499, 499, 499]>(c, v)",
                            {"v": filters(64, 4)}, {}),      # too large for the fast form, not for the plain one
}


def zoo(name):
    body, weights, left_out, *opset = ZOO[name]
    weights = {"w": filters(4, 3), **weights}
    return net(body, {k: v for k, v in weights.items() if re.search(rf"\b{k}\b", body)}, (1, 3, SIDE, SIDE),
               *opset), left_out


@pytest.mark.parametrize("name", ZOO)
def test_every_listed_end_has_a_gradient(name):
    model, expected = zoo(name)
    made = onnx_net(model)
    ends, left_out = facts(made, "ends"), facts(made, "left_out")
    assert set(left_out) == set(expected)
    for end, part in expected.items():
        assert re.search(part, left_out[end]), left_out[end]
        with pytest.raises(convert.ConvertError, match=f" is not supported, and '{end}' needs it") as caught:
            convert.gradient_graph(made, end)
        assert "\n" not in str(caught.value)
    assert len(ends) > 1
    for end in list(ends)[1:]:
        reached = onnx.utils.Extractor(made).extract_model(["data"], [end])
        reached.metadata_props.extend(made.metadata_props)
        check(reached, end, (SIDE, SIDE))


def test_valid_ends_of_a_model_without_metadata():
    """`valid_ends` lists what a gradient graph can be built for."""
    for name in ("more channels", "indices as numbers", "compared", "no known operator", "rounded"):
        model, left_out = zoo(name)
        del model.graph.output[:]
        model.graph.output.append(helper.make_tensor_value_info("y", 1, None))
        listed = convert.valid_ends(model)
        assert not set(listed) & set(left_out) and "c" in listed
        for end in listed:
            assert convert.gradient_graph(model, end)


def test_results_of_a_second_input_name_it_as_the_reason():
    model = net(FIRST + "u = Relu(t); y = Add(c, u)", {"w": filters(4, 3)})
    model.graph.input.append(helper.make_tensor_value_info("t", 1, [1, 4, 1, 1]))
    made = onnx_net(model, input="x")
    assert list(facts(made, "ends")) == ["data", "c"] and facts(made, "left_out") == {"y": "a second input, 't',"}


def test_an_if_that_reads_the_picture_only_in_its_branches():
    branch = helper.make_graph([onnx.parser.parse_node("z = Neg(c)")], "branch", [],
                               [helper.make_tensor_value_info("z", 1, None)])
    model = net(FIRST + "r = Relu(c)", {"w": filters(4, 3), "yes": np.array(True)}, outputs=["y"])
    model.graph.node.append(helper.make_node("If", ["yes"], ["q"], then_branch=branch, else_branch=branch))
    model.graph.node.append(onnx.parser.parse_node("y = Add(r, q)"))
    assert list(convert.valid_ends(model)) == ["c", "r"]
    assert refusals(Source(model))["y"] == "operator If (node 'q')"
    with pytest.raises(convert.ConvertError, match="operator If has no derivative here, and 'y' needs it"):
        convert.gradient_graph(model, "y")


def test_each_node_of_a_net_is_checked_only_once():
    """Else concatenations of concatenations would take exponential time."""
    body = "; ".join(["a0 = Relu(x)", *(f"a{i} = Concat<axis=2>(a{i - 1}, a{i - 1}); b{i} = Slice(a{i}, z, one, two);"
                                        f"m{i} = MaxPool<kernel_shape=[1, 1]>(a{i})" for i in range(1, 40))])
    model = net(body, {"z": ints(0), "one": ints(1), "two": ints(2)}, (1, 3, 1, 1), outputs=["m39"])
    assert refusals(Source(model)) == {}


def test_nets_with_too_many_nodes_are_not_tried_out(monkeypatch):
    monkeypatch.setattr("deepdream.convert.refusals.NODES", 3)
    refused = refusals(Source(net(FIRST + "r = Relu(c); s = Relu(r); y = Relu(s)", {"w": filters(4, 3)})))
    assert list(refused) == ["s", "y"]
    assert "more are not tried out" in refused["y"]


def test_the_listing_names_the_reasons(tmp_path, capsys):
    path = tmp_path / "net.onnx"
    onnx.save(zoo("more channels")[0], path)
    assert main(["layers", "--model", str(path), "--scale", "1"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == [
        "left out, 2 results: operator Resize (node 'r': only the two spatial axes may change their sizes, not by "
        "[1.0, 2.0, 2.0, 2.0]): r, y"]
    assert listing({"a": convert.End(3, None)}, {**dict.fromkeys("bcdefg", "layer 'b' of type MVN"),
                                                            "z": "a second input, 't',"}).splitlines()[1:] == [
        "left out, 6 results: layer 'b' of type MVN: b, c, d, e, ...", "left out, 1 result: a second input, 't': z"]


def test_caffe_nets(tmp_path, capsys):
    """Layers after an unsupported layer or a second input are left out, with the reason."""
    data = layer("data", "Input", "", "data info", "input_param { shape { dim: 1 dim: 3 dim: 9 dim: 9 } "
                                                   "shape { dim: 1 dim: 4 dim: 7 dim: 7 } }")
    text = data + "".join([conv("a", "data", 4, 3), layer("sum", "Eltwise", "a info", "sum"),
                           layer("odd", "Wobble", "a", "odd"), conv("b", "odd", 3)])
    folder = toys.write_net(tmp_path / "net", data + conv("a", "data", 4, 3))
    (folder / "deploy.prototxt").write_text(text)
    assert convert_main([str(folder / "deploy.prototxt"), str(folder / "net.caffemodel"), "--list"]) == 0
    assert capsys.readouterr().out.splitlines()[2:] == ["left out, 2 results: layer 'odd' of type Wobble: odd, b",
                                                        "left out, 1 result: a second input, 'info': sum"]
    with pytest.raises(DreamError, match="a second input, 'info', is not supported, and 'sum' needs it"):
        Net(folder, device="cpu").features(np.zeros((9, 9, 3), np.float32), "sum")


@pytest.mark.parametrize("body, smallest", [
    ("c = Conv(x, w7); t = Slice(c, one, nine, rows); y = Relu(t)", (8, 7)),
    ("c = Conv(x, w); t = Slice(c, one, many, rows); d = Conv(t, v); u = Slice(d, one, nine, rows); y = Relu(u)",
     (9, 7)),
])
@pytest.mark.parametrize("opset", [13, 17])
def test_slices_of_pictures_that_are_too_small(body, smallest, opset):
    """onnx's own shape inference ends the process at a Slice of a negative size."""
    weights = {"w7": filters(4, 3, 7), "w": filters(4, 3), "v": filters(4, 4, 5), "one": ints(1), "nine": ints(9),
               "many": ints(12), "rows": ints(2)}
    weights = {k: v for k, v in weights.items() if re.search(rf"\b{k}\b", body)}
    made = onnx_net(net(body, weights, ("n", 3, "h", "w"), opset))
    assert convert.min_size(made, "y")[:2] == smallest
    for side in (2, 0):       # a declared size that is too small, and one that is left open
        model = net(body, weights, (1, 3, side, 32), opset)
        if side:
            with pytest.raises(convert.ConvertError, match="below zero|has no pixel|too small|cannot be computed"):
                onnx_net(model)
        else:
            assert "y" in convert.valid_ends(onnx_net(model))
