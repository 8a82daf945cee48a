"""`classifier`: which end holds the scores of the classes. It is an output of the net, or there is none."""
import re

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.onnx_nets.prepare import onnx_net
from onnx_toys import filters, net, some
from toys import conv, layer, pool, product, relu, softmax

from deepdream import DreamError, Net, convert
from deepdream.cli import main

FIRST = "c = Conv(x, w); "
HEAD = FIRST + "g = GlobalAveragePool(c); f = Flatten(g); l = Gemm(f, fw); "
HEADS = {"w": filters(4, 3), "fw": some(4, 5)}
ATTENTION = ("t = Reshape(c, s); q = Transpose<perm=[0, 2, 1]>(t); a = MatMul(q, t); p = Softmax(a); v = MatMul(p, q);"
             "m = ReduceMean<axes=[1], keepdims=0>(v); ")
TOKENS = {"s": np.array([0, 4, -1]), "one": np.ones(4, np.float32)}
CLASSIFIERS = {   # name: (body, outputs, the classifier, or a regular expression of why there is none)
    "logits": (HEAD, "l", "l"),
    "before a softmax": (HEAD + "y = Softmax(l)", "y", "l"),
    "before a logarithm": (HEAD + "y = LogSoftmax<axis=1>(l)", "y", "l"),
    "before identities": (HEAD + "i = Identity(l); y = Softmax(i); z = Identity(y)", "z", "i"),
    "logits and their softmax": (HEAD + "y = Softmax(l)", "l y", "l"),
    "flattened": (FIRST + "g = GlobalAveragePool(c); y = Flatten(g)", "y", "y"),
    "a softmax, then flattened": (FIRST + "g = GlobalAveragePool(c); p = Softmax<axis=1>(g); y = Flatten(p)", "y", "g"),
    "one pixel": (FIRST + "y = GlobalAveragePool(c)", "y", "y"),
    "a map of scores": (FIRST + "y = Softmax<axis=1>(c)", "y", "c"),
    "squashed": (HEAD + "y = Sigmoid(l)", "y", "y"),
    "scores and a map": (HEAD, "c l", "l"),
    "attention": (FIRST + ATTENTION + "y = Gemm(m, fw)", "y", "y"),
    "attention and a norm": (FIRST + ATTENTION + "n = Hardmax(m); y = Gemm(n, fw)", "y",
                                r"operator Hardmax \(node 'n'\) is not supported, and its scores, 'y'"),
    "a norm, then a softmax": (HEAD + "n = Hardmax(l); y = Softmax(n)", "y",
                               r"operator Hardmax \(node 'n'\) is not supported, and its scores, 'n', need"),
    "attention as an output": (FIRST + ATTENTION + "n = LayerNormalization(m, one, one)", "v p n",
                            r"one of scores, \(N, classes\), is needed among .*'p' \(1, 900, 900\)"),
    "features": (FIRST + "r = Relu(c)", "r", r"is needed among its outputs: 'r' \(1, 4, 30, 30\)"),
    "two heads": (HEAD + "k = Gemm(f, fw)", "l k", "is needed among its outputs: 'l' .*, 'k'"),
    "a class, not scores": (HEAD + "y = ArgMax<axis=1>(l)", "y", "is needed among its outputs: 'y' "),
}


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_classifier_is_an_output_of_the_net(name):
    body, outputs, expected = CLASSIFIERS[name]
    weights = {k: v for k, v in {**HEADS, **TOKENS}.items() if re.search(rf"\b{k}\b", body)}
    model = net(body.strip().strip(";"), weights, outputs=outputs.split())
    for info in model.graph.output:
        if info.name == "y" and "ArgMax" in body:
            info.type.tensor_type.elem_type = onnx.TensorProto.INT64
    found, why = convert.classifier(onnx_net(model))
    if found is None:
        assert re.search(expected, why), why
    else:
        assert (found, why) == (expected, None)


@pytest.mark.parametrize("surgery", [False, True])
def test_the_classifier_of_a_caffe_net(surgery):
    text = toys.net(conv("a", "data", 4, 3), relu("a"), pool("p", "a", "AVE", 7, 1), product("fc", "p", 5),
                    softmax("prob", "fc"), shape=(1, 3, 9, 9))
    assert convert.classifier(toys.convert(text, surgery=surgery)) == ("fc", None)
    assert convert.classifier(toys.convert(toys.TOY, surgery=surgery)) == ("pool2", None)


def test_a_caffe_net_whose_classifier_is_not_supported():
    text = toys.net(conv("a", "data", 4, 3), layer("odd", "Wobble", "a", "odd"), product("fc", "odd", 5),
                    softmax("prob", "fc"), shape=(1, 3, 9, 9))
    found, why = convert.classifier(toys.convert(text, {"a": [filters(4, 3), some(4)]}))
    assert found is None and "layer 'odd' of type Wobble is not supported, and its scores, 'prob', need it" == why


def test_commands_that_need_a_classifier_explain_that_there_is_none(tmp_path, capsys):
    body, _, _ = CLASSIFIERS["a norm, then a softmax"]
    onnx.save(net(body, HEADS, outputs=["y"]), tmp_path / "net.onnx")
    model = ["--model", str(tmp_path / "net.onnx"), "--scale", "0.02", "--device", "cpu"]
    quick = ["--iter-n", "1", "--octave-n", "1", "--jitter", "0", "--size", "32x32", "--start", "grey"]
    out = tmp_path / "out.png"
    for args in (["class", "3", "-o", str(out), *model], ["dream", "-o", str(out), "--end", "class:3", *quick, *model]):
        assert main(args) == 2
        err = capsys.readouterr().err
        assert err.count("\n") == 1 and "net has no classifier" in err and "Hardmax (node 'n')" in err
        assert not out.exists()
    made = Net(tmp_path / "net.onnx", scale=0.02, device="cpu")
    assert "n" in made.left_out and "l" in made.ends
    with pytest.raises(DreamError, match="no classifier"):
        made.classifier
    assert main(["dream", "-o", str(out), "--end", "l[3]", *quick, *model]) == 0 and out.exists()


def test_an_output_of_unknown_shape_is_no_classifier(monkeypatch):
    made = onnx_net(net(CLASSIFIERS["flattened"][0], HEADS, outputs=["y"]))
    monkeypatch.setattr("deepdream.convert.graph.source.Source.declared_shape", lambda source, name: None)
    found, why = convert.classifier(made)
    assert found is None and "one of scores, (N, classes), is needed" in why
