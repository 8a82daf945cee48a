"""Transformers and other newer nets: tokens as ends, operators that are rewritten, fixed sizes that are opened."""
import json
import tomllib

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.onnx_nets.prepare import onnx_net
from deepdream.convert.graph import metadata
from onnx_toys import check, filters, net, some

from deepdream import DreamError, Net, convert, deepdream, objective_channel
from deepdream.cli import main


def ints(*values):
    return np.array(values, np.int64)


VIT = ("c = Conv<strides=[8, 8]>(x, w); f = Reshape(c, flat); t = Transpose<perm=[0, 2, 1]>(f);"
       "a = Concat<axis=1>(cls, t); p = Add(a, pos); n = LayerNormalization(p, s, b); q = MatMul(n, wq);"
       "k = MatMul(n, wk); kt = Transpose<perm=[0, 2, 1]>(k); sc = MatMul(q, kt); sm = Softmax(sc);"
       "v = MatMul(n, wv); o = MatMul(sm, v); r = Add(p, o); m = LayerNormalization(r, s, b); h = MatMul(m, wh);"
       "hb = Add(h, bh); g = Gelu(hb); d = MatMul(g, wd); z = Add(r, d); i = Gather<axis=1>(z, zero);"
       "y = Gemm(i, fw)")
VIT_WEIGHTS = {"w": some(6, 3, 8, 8, spread=0.05), "flat": ints(1, 6, 16), "cls": some(1, 1, 6), "pos": some(1, 17, 6),
               "s": some(6), "b": some(6), "wq": some(6, 6), "wk": some(6, 6), "wv": some(6, 6), "wh": some(6, 12),
               "bh": some(12), "wd": some(12, 6), "zero": np.array(0), "fw": some(6, 5)}


@pytest.fixture(scope="module")
def vit():
    return onnx_net(net(VIT, VIT_WEIGHTS, opset=20, ir=10), scale=0.02)


def test_tokens_are_ends(vit):
    facts = convert.Facts.read(vit)
    assert facts.left_out == {} and {*facts.ends} >= {"c", "f", "t", "a", "p", "n", "r", "z", "y"}
    assert [facts.ends[e].channels_last for e in ("c", "f", "t", "z", "y")] == [False, False, True, True, False]
    assert facts.ends["z"].channels == 6 and facts.ends["f"].channels == 6
    for end in ("f", "t", "n", "sm", "z", "y"):
        check(vit, end)


def test_a_net_with_fixed_positions_needs_its_size(vit):
    assert convert.min_size(vit, "z") == (32, 32, True)
    assert convert.min_size(vit, "t")[2] is False      # before the positions
    assert convert.classifier(vit) == ("y", None)


def test_objectives_see_channels_of_tokens(vit, tmp_path):
    """A step follows the gradient of the chosen channel, which is the last axis of the tokens."""
    onnx.save(net(VIT, VIT_WEIGHTS, opset=20, ir=10), tmp_path / "net.onnx")
    built = Net(tmp_path / "net.onnx", device="cpu", mean=0, scale=0.02)
    assert built.default_end in ("r", "z")
    img = toys.noise(3, 32, 32).transpose(1, 2, 0) * 30 + 128
    dream = deepdream(built, img, iter_n=1, octave_n=1, end="z", objective=objective_channel([2]), jitter=0, clip=False,
                      step_size=1.0, on_step=lambda *a: None)
    data = np.float32(img.transpose(2, 0, 1)[None])
    graph = convert.gradient_graph(built.model, "z")
    z = toys.run(graph, {"data": data, "end_diff": np.zeros((1, 17, 6), np.float32)}, ["end_data"])[0]
    diff = np.zeros_like(z)
    diff[..., 2] = z[..., 2]
    g = toys.run(graph, {"data": data, "end_diff": diff}, ["data_diff"])[0]
    step = (dream - img).transpose(2, 0, 1)
    assert toys.off(step, g[0] / np.abs(g).mean()) < 1e-4
    assert built.features(np.float32(img), "z").shape == (6, 17)


def test_layers_and_models_add(tmp_path, capsys):
    path = tmp_path / "vit.onnx"
    onnx.save(net(VIT, VIT_WEIGHTS, opset=20, ir=10), path)
    assert main(["layers", "--model", str(path), "--scale", "1"]) == 0
    assert any(line.split()[0] == "z" and line.endswith("Add  tokens x channels, end of a block")
               for line in capsys.readouterr().out.splitlines())
    assert main(["models", "--add", str(path)]) == 0
    card = tomllib.loads((tmp_path / "vit.toml").read_text())
    assert card["layout"] == "nchw" and len(card["mean"]) == 3 and card["default_end"] in ("r", "z")
    assert Net(path, device="cpu").default_end == card["default_end"]
    assert main(["models", "--add", str(path)]) == 2      # never over a card
    assert capsys.readouterr().err.splitlines()[-1].endswith("exists; edit it, or remove it first")


# ---- operators that are rewritten

REWRITTEN = {
    "groups of opset 18": ("y = GroupNormalization<num_groups=2>(c, g, h)", {"g": some(2), "h": some(2)}, 18),
    "groups of opset 21": ("y = GroupNormalization<num_groups=2, epsilon=0.01>(c, g, h)",
                           {"g": some(4), "h": some(4)}, 21),
    "root mean square": ("t = Transpose<perm=[0, 2, 3, 1]>(c); y = RMSNormalization<epsilon=0.01>(t, g)",
                         {"g": some(4)}, 23),
    "unit length": ("y = LpNormalization<axis=1, p=2>(c)", {}, 17),
    "mean and variance": ("y = MeanVarianceNormalization<axes=[2, 3]>(c)", {}, 17),
    "swish": ("y = Swish<alpha=1.3>(c)", {}, 24),
    "attention of heads": ("q = Reshape(c, h); k = Sin(q); v = Cos(q); y = Attention(q, k, v)",
                           {"h": ints(1, 2, 25, 8)}, 23),
    "attention, causal": ("q = Reshape(c, h); k = Sin(q); v = Cos(q); y = Attention<is_causal=1, softcap=2.0>(q, k, v)",
                          {"h": ints(1, 2, 25, 8)}, 23),
    "attention of tokens": ("q = Reshape(c, h); k = Sin(q); y = Attention<q_num_heads=2, kv_num_heads=2, scale=0.3>"
                            "(q, k, q, m)", {"h": ints(1, 25, 16), "m": np.float32(some(25, 25))}, 24),
    "enlarged along axes": ('y = Resize<mode="linear", axes=[2, 3]>(c, , z)', {"z": np.float32([2, 3])}, 18),
    "smoothed when made smaller": ('y = Resize<mode="linear", antialias=1>(c, , z)',
                                   {"z": np.float32([1, 1, 0.4, 0.75])}, 18),
    "smoothed to a size": ('y = Resize<mode="cubic", antialias=1>(c, , , z)', {"z": ints(1, 4, 4, 12)}, 19),
    "a grid with newer names": ('y = GridSample<mode="linear">(c, z)', {"z": some(1, 5, 4, 2, spread=0.5)}, 20),
    "backwards": ("y = Slice(c, m, l, r, m)", {"m": ints(-1), "l": ints(-100), "r": ints(3)}, 17),
    "a tanh gelu": ('y = Gelu<approximate="tanh">(c)', {}, 20),
}


@pytest.mark.parametrize("name", REWRITTEN)
def test_rewritten_operators(name):
    body, weights, opset = REWRITTEN[name]
    old = net("c = Conv(x, w); " + body, {"w": filters(4, 3), **weights}, (1, 3, 12, 12), opset=opset, ir=10)
    made = onnx_net(old, scale=0.02)
    x = some(1, 3, 12, 12) * 50
    expected = toys.session(old, plain=True).run(None, {"x": x * np.float32(0.02)})[0]
    assert toys.off(toys.session(made, plain=True).run(["y"], {"data": x})[0], expected) < 1e-5
    assert convert.Facts.read(made).left_out == {}
    if "grid" not in name:      # ONNX's reference implementation does not know the mode's older name
        check(made, "y", (12, 12))


# ---- fixed sizes

SHUFFLE = ("c = Conv<pads=[1, 1, 1, 1]>(x, w); a = Reshape(c, s1); b = Transpose<perm=[0, 2, 1, 3, 4]>(a);"
           "d = Reshape(b, s2); r = Relu(d); u = Resize<mode=\"linear\">(r, , , big); g = GlobalAveragePool(u);"
           "f = Reshape(g, s3); y = Gemm(f, fw)")
SHUFFLE_WEIGHTS = {"w": filters(4, 3), "s1": ints(1, 2, 2, 32, 32), "s2": ints(1, 4, 32, 32), "s3": ints(1, 4),
                   "big": ints(1, 4, 64, 64), "fw": some(4, 5)}


def test_fixed_sizes_are_opened():
    made = onnx_net(net(SHUFFLE, SHUFFLE_WEIGHTS))
    assert convert.min_size(made, "y") == (1, 1, False)
    for end in ("d", "u", "y"):
        check(made, end)
        check(made, end, (20, 27))
    picture = some(1, 3, 20, 27)      # the same net, exported for this size
    other = net(SHUFFLE, {**SHUFFLE_WEIGHTS, "s1": ints(1, 2, 2, 20, 27), "s2": ints(1, 4, 20, 27),
                          "big": ints(1, 4, 40, 54)}, (1, 3, 20, 27))
    expected = toys.session(other, plain=True).run(None, {"x": picture})[0]
    assert toys.off(toys.session(made, plain=True).run(["y"], {"data": picture})[0], expected) < 1e-6


# padding "SAME" as PyTorch's exporter writes it: computed from the size of the picture
SAME = ("a = Conv<pads=[1, 1, 1, 1]>(x, w); s = Shape<start=2>(a); t = Add(s, one); h = Div(t, two); u = Sub(h, one);"
        "v = Mul(u, two); e = Add(v, three); f = Sub(e, s); p = Max(f, zero); b = Div(p, two); c = Sub(p, b);"
        "pads = Concat<axis=0>(nought, b, nought, c); q = Pad(a, pads); r = Conv<strides=[2, 2]>(q, k); y = Relu(r)")
SAME_WEIGHTS = {"w": filters(4, 3), "k": filters(5, 4), "one": ints(1), "two": ints(2), "three": ints(3),
                "zero": ints(0), "nought": ints(0, 0)}


@pytest.mark.parametrize("after, declared", [
    ("Conv<strides=[2, 2]>(q, k)", None), ("AveragePool<kernel_shape=[3, 3], strides=[2, 2]>(q)", 16),
    ("MaxPool<kernel_shape=[3, 3], strides=[2, 2]>(q)", None)])
def test_computed_pads_stay_right_at_every_size(after, declared):
    """onnx's inference loses the number of channels there, which the gradient of an AveragePool needs."""
    weights = {k: v for k, v in SAME_WEIGHTS.items() if k != "k" or "k)" in after}
    old, source = (net(SAME.replace("Conv<strides=[2, 2]>(q, k)", after), weights, (1, 3, side, side))
                   for side in (None, declared))
    made = onnx_net(source, scale=0.02)
    facts = convert.Facts.read(made)
    assert facts.left_out == {} and {"a", "q", "r", "y"} <= {*facts.ends} and facts.ends["y"].stride == (2, 2)
    for size in ((16, 16), (15, 18)):
        x = some(1, 3, *size) * 50
        expected = toys.session(old, plain=True).run(None, {"x": x * np.float32(0.02)})[0]
        assert toys.off(toys.session(made, plain=True).run(["y"], {"data": x})[0], expected) < 1e-6
        assert expected.shape[2:] == tuple(-(-n // 2) for n in size)
        check(made, "y", size)


# a coarse branch is enlarged and added, as in an HRNet
COARSE = ("a = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w); b = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(a, k);"
          "c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(b, k); u = Resize<mode=\"nearest\">(c, , four); y = Add(a, u)")
COARSE_WEIGHTS = {"w": filters(4, 3), "k": filters(4, 4), "four": np.float32([1, 1, 4, 4])}


def test_octaves_have_sizes_that_the_net_takes(tmp_path, capsys):
    onnx.save(net(COARSE, COARSE_WEIGHTS, (1, 3, None, None)), tmp_path / "net.onnx")
    made = Net(tmp_path / "net.onnx", device="cpu", mean=0, scale=0.02)
    assert convert.sizes_of(made.model, "y") == (8, 8, False, (8, 8)) and convert.min_size(made.model, "a")[2] is False
    assert convert.sizes_of(made.model, "c").step == (1, 1)
    assert made.sizes.nearest(["y"], 45, 33) == (48, 32) and made.sizes.nearest(["c"], 45, 33) == (45, 33)
    assert made.sizes.nearest(["y"], 2, 9) == (8, 8)
    seen = []
    img = toys.noise(3, 48, 64).transpose(1, 2, 0) * 30 + 128
    deepdream(made, img, iter_n=1, octave_n=4, end="y", on_step=lambda o, i, vis, report: seen.append(report.size))
    assert seen == [(16, 24), (24, 32), (32, 48), (48, 64)]
    with pytest.raises(DreamError, match=r"'y' needs a picture a multiple of 8 pixels wide and .* has 63x47 \(--size "
                                         "64x48"):
        deepdream(made, img[:47, :63], iter_n=1, octave_n=1, end="y")
    assert json.loads(metadata(convert.gradient_graph(made.model, ["y", "c"]))["size_step"]) == [8, 8]


def test_blocks_and_what_is_good_to_dream_at(vit, tmp_path, capsys):
    ends = convert.Facts.read(vit).ends
    assert [e for e in ends if ends[e].good] == ["r", "z"]
    plain = onnx_net(net("c = Conv(x, w); r = Relu(c); d = Conv(r, k); y = Relu(d)", {"w": filters(4, 3),
                                                                                     "k": filters(4, 4)}))
    assert [e for e, end in convert.Facts.read(plain).ends.items() if end.good] == ["r", "y"]
    named = net("a = Conv<pads=[1, 1, 1, 1]>(x, w); b = Conv<pads=[1, 1, 1, 1]>(a, k); s = Add(a, b); r = Relu(s);"
                "y = Conv(r, k)", {"w": filters(4, 3), "k": filters(4, 4)})
    names = {"a": "/stem/Conv", "b": "/layer1/layer1.0/conv1/Conv", "s": "/layer1/layer1.0/Add",
             "r": "/layer1/layer1.0/relu/Relu"}
    for node in named.graph.node:
        for field in (node.input, node.output):
            field[:] = [names.get(n, n) for n in field]
    onnx.save(named, tmp_path / "net.onnx")
    assert Net(tmp_path / "net.onnx", device="cpu", mean=0, scale=1).default_end == names["r"]
    assert main(["layers", "--model", str(tmp_path / "net.onnx"), "--mean", "0", "--scale", "1"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line for line in lines if line.startswith("#")] == ["# stem", "# layer1.0", "# in no block"]
    assert [line.split()[0] for line in lines if line.endswith("Relu, end of a block")] == [names["r"]]


def test_weights_of_channels_that_are_expanded():
    """As in an ECA block: the weights are expanded to the declared size of the map that they are multiplied with."""
    made = onnx_net(net("c = Conv<pads=[1, 1, 1, 1]>(x, w); m = ReduceMean<axes=[2, 3]>(c); g = Sigmoid(m);"
                        "e = Expand(g, size); y = Mul(c, e)", {"w": filters(4, 3), "size": ints(1, 4, 32, 32)}))
    assert convert.sizes_of(made, "y")[:3] == (1, 1, False) and convert.Facts.read(made).left_out == {}
    for end in ("e", "y"):
        check(made, end)
        check(made, end, (20, 27))


def test_windows_keep_a_net_at_its_size():
    """[1, 4, 32, 32] to [1, 4, 8, 4, 8, 4]: whether 8 or 4 is the window cannot be known."""
    made = onnx_net(net("c = Conv<pads=[1, 1, 1, 1]>(x, w); a = Reshape(c, s); b = Relu(a); y = Reshape(b, t)",
                        {"w": filters(4, 3), "s": ints(1, 4, 8, 4, 8, 4), "t": ints(1, 4, 32, 32)}))
    assert convert.min_size(made, "y") == (32, 32, True)
    check(made, "y")
