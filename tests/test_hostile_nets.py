"""Damaged, malicious and absurd net files: each is rejected early, in one line that names the file.

Every case here once raised another exception, hung, or used up the memory.
"""
import json
import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from deepdream import convert
import children
import toys
from deepdream.convert.caffe import caffe_pb2 as pb
from deepdream.convert.__main__ import main as command_line
from deepdream.convert.errors import ConvertError, about, shown
from deepdream.convert.onnx_nets.prepare import onnx_net
from deepdream.convert.graph import Graph, metadata
from deepdream.convert.caffe.layers import LAYERS
from deepdream.convert.graph.source import Source
from deepdream.convert.caffe.reader import parse_prototxt, read_caffemodel
from deepdream import DreamError, Net, cli
from deepdream.runtime.device import Device, readable
from onnx_toys import filters, net

WEIGHTS = {"w": filters(4, 3)}
CONV = toys.conv("c", "data", 4, 3)


def rejected(call, *parts):
    """Check that call() raises ConvertError, with one line of reasonable length that holds the parts."""
    with pytest.raises(ConvertError) as caught:
        call()
    text = str(caught.value)
    assert text.isprintable() and len(text) < 1000, text
    for part in parts:
        assert part in text, text


# ---- the exceptions, and names in messages

def test_any_exception_becomes_one_line_that_names_the_file():
    for error in (RecursionError("maximum"), MemoryError(), OverflowError("int too\nlarge"), KeyError("x"),
                  UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid")):
        def read():
            with about("a.net"):
                raise error
        rejected(read, "a.net: ")
        with pytest.raises(ConvertError) as caught:
            read()
        assert caught.value.__cause__ is error


def test_the_file_is_named_once_and_interruptions_pass():
    def read(error):
        with about("a.net", "b.net"):
            raise error
    rejected(lambda: read(ConvertError("node 'x': wrong")), "a.net: node 'x': wrong")
    with pytest.raises(ConvertError, match="^b.net: wrong$"):
        read(ConvertError("b.net: wrong"))
    with pytest.raises(KeyboardInterrupt):
        read(KeyboardInterrupt())


def test_names_are_cut_and_control_characters_are_made_visible():
    assert shown("inception_4c/output") == "inception_4c/output"
    assert shown("\x1b[31mred\x1b[0m\n\u202e\xe9") == "\\x1b[31mred\\x1b[0m\\n\\u202e\xe9"
    assert shown("a" * 80) == "a" * 80 and len(shown("a" * 81)) == 80 and "..." in shown("a" * 81)
    assert len(shown("\n" * 10 ** 6)) == 80


# ---- caffemodels

def caffemodel(*dims, numbers=4, name="c"):
    file = pb.NetParameter()
    blob = file.layer.add(name=name).blobs.add()
    blob.shape.dim.extend(dims)
    blob.data.extend([1.0] * numbers)
    return file.SerializeToString()


@pytest.fixture
def weights(tmp_path):
    def read(data):
        path = tmp_path / "net.caffemodel"
        path.write_bytes(data)
        return read_caffemodel(path)
    return read


@pytest.mark.parametrize("dims, part", [
    ((-2, -2), "4 numbers for a blob of shape (-2, -2)"), ((2 ** 62, 4), "numbers for a blob of shape"),
    ((2 ** 32, 2 ** 32, 4), "numbers for a blob of shape"), ((1,) * 65 + (4,), "66 axes"), ((4, 0), "4 numbers")],
    ids=["negative", "huge", "a product that wraps to 0", "65 axes", "empty"])
def test_a_blob_of_odd_shape(weights, dims, part):
    rejected(lambda: weights(caffemodel(*dims)), "net.caffemodel: damaged: layer 'c'", part)


def test_doubles_beyond_float32_are_rejected(weights, recwarn):
    file = pb.NetParameter.FromString(caffemodel(1, numbers=0))
    file.layer[0].blobs[0].double_data.append(1e300)
    rejected(lambda: weights(file.SerializeToString()), "not finite")
    assert not recwarn.list


def test_a_layer_name_that_is_not_text(weights):
    old = pb.NetParameter(layers=[pb.V1LayerParameter(name="caf", blobs=[pb.BlobProto(num=1)])]).SerializeToString()
    rejected(lambda: weights(old.replace(b"caf", b"af\xe9")), "net.caffemodel: damaged")


@pytest.mark.parametrize("data, part", [
    (b"\xa2\x06\x00" * 10 ** 6, "more than 5,000 layers"), (b"\x12\x00" * 10 ** 6, "more than 5,000 layers"),
    (pb.NetParameter(layer=[pb.LayerParameter(blobs=[pb.BlobProto()] * 2000)]).SerializeToString(), "2,000 of `blobs`"),
    (pb.NetParameter(layer=[pb.LayerParameter(blobs=[pb.BlobProto()] * 900)] * 50).SerializeToString(),
     "45,000 blobs")],
    ids=["a million empty layers", "a million empty V1 layers", "a layer of 2,000 blobs", "45,000 blobs"])
def test_a_caffemodel_of_many_small_things(weights, data, part):
    """Each needs two bytes in the file and hundreds in memory."""
    rejected(lambda: weights(data), "net.caffemodel", part)


# ---- prototxts

@pytest.mark.parametrize("text, part", [
    ("layers {" * 50000, "V1LayerParameter has no field 'layers'"),
    ("layer { a {" + " a {" * 50000, "no field 'a'"),
    ('layer { type: "F" a {' + " a {" * 50000, "no field 'a'"),
    ("input_dim: " + "9" * 5000, "not a prototxt"),
    ("input_dim: 99999999999999999999", "not a prototxt"),
    ('layer { name: "\\377" }', "deploy.prototxt"),
    ('layer { name: "\\x1b[31m" bottom: 3 }', "not a prototxt"),
    ("input_dim: [" + "1, " * 600000 + "1]", "500,000 words"),
    (" " * 5 * 10 ** 6, "4,000,000 characters"),
    ("layer { }\n" * 5001, "more than 5,000 layers"),
    ('input: "a"\n' * 5001, "more than 5,000 layers"),
    ("layer { " + 'bottom: "a" ' * 1001 + "}", "1,001 of `bottom`"),
], ids=lambda text: text[:20])
def test_a_bad_prototxt(text, part):
    rejected(lambda: parse_prototxt(text, "deploy.prototxt", LAYERS), "deploy.prototxt", part)


def test_thousands_of_unknown_fields():
    """The text must not be parsed again for each of them."""
    text = toys.net(CONV) + "".join(toys.layer(f"p{i}", "Permute", "c", f"p{i}", "permute_param { order: 0 } note: 1")
                                    for i in range(3000))
    assert len(parse_prototxt(text, "deploy.prototxt", LAYERS).layer) == 3002


def test_unknown_fields_of_every_form_are_ignored():
    unknown = ('layer { name: "p" type: "Permute" bottom: "c" top: "p" a: 1 b: -1.5e3 c: "}" \'{\' d { e < f: [1, 2] '
               '> } g [{ h: 1 }, { }] convolution_param { num_output: 3 i: yes; j { } } # } \n k: "\\"}" }')
    after = toys.layer("r", "ReLU", "c", "r")
    net_ = parse_prototxt(toys.net(CONV) + unknown + after, "deploy.prototxt", LAYERS)
    assert [l.name for l in net_.layer] == ["data", "c", "p", "r"] and net_.layer[2].convolution_param.num_output == 3
    text = toys.net(CONV) + unknown + after.replace("bottom", "botom")
    rejected(lambda: parse_prototxt(text, "x", LAYERS), "'botom'")


# ---- Caffe's layers

def caffe(*layers, shape=(1, 3, 16, 16), **options):
    text = toys.net(*layers, shape=shape)
    return lambda: convert.caffe.forward.convert_net(parse_prototxt(text, "deploy.prototxt"), {
        "c": [filters(4, 3), np.zeros(4, np.float32)]}, ("deploy.prototxt", "net.caffemodel"), **options)


@pytest.mark.parametrize("kind, params, part", [
    ("Exp", "exp_param { base: 0 }", "base must be above 0"), ("Exp", "exp_param { base: -2 }", "base must be above 0"),
    ("Exp", "exp_param { base: nan }", "base must be above 0"),
    ("Log", "log_param { base: 0 }", "base must be above 0"),
    ("Log", "log_param { base: 1 }", "base must not be 1"), ("Log", "log_param { base: inf }", "base must be above 0"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 0 }", "group 0"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 dilation: 0 }", "dilation must be at least 1"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 4000000000 }", "at most 65,535"),
    ("Convolution", "convolution_param { kernel_size: 3 kernel_h: 3 }", "kernel_size must be at least 1"),
    ("Deconvolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 60000 }", "numbers are allowed"),
    ("Pooling", "pooling_param { kernel_size: 4000000000 pad: 3999999999 }", "at most 65,535"),
    ("Pooling", "pooling_param { kernel_size: 60000 pad: 59999 }", "numbers are allowed"),
    ("LRN", "lrn_param { local_size: 4000000001 }", "local_size must be odd and not above"),
    ("Flatten", "flatten_param { axis: 2 end_axis: 1 }", "must not be after"),
    ("Reshape", "reshape_param { shape { " + "dim: 0 " * 70 + "} }", "cannot reshape"),
    ("Reshape", "reshape_param { shape { dim: -5 dim: -5 } }", "layer 'it'"),
    ("Scale", "scale_param { num_axes: 1000000000 }", "num_axes 1000000000"),
    ("Scale", "scale_param { axis: 3 num_axes: -3 }", "num_axes -3"),
])
def test_a_layer_with_numbers_that_make_no_sense(kind, params, part):
    weights = {"it": [np.zeros((4, 4, 3, 3), np.float32), np.zeros(4, np.float32)]}
    text = toys.net(toys.layer("it", kind, "data", "it", params), shape=(1, 4, 16, 16))
    names = ("deploy.prototxt", "net.caffemodel")
    rejected(lambda: convert.caffe.forward.convert_net(parse_prototxt(text), weights, names),
             "deploy.prototxt: layer 'it'", part)


@pytest.mark.parametrize("kind, bottoms, part", [
    ("Crop", "data", "takes 2 bottoms, not 1"), ("ReLU", "data data", "takes 1 bottom, not 2"),
    ("Eltwise", "", "has no bottom"), ("Pooling", "data data data", "takes 1 bottom, not 3")])
def test_a_wrong_number_of_bottoms(kind, bottoms, part):
    rejected(caffe(toys.layer("it", kind, bottoms, "it")), "deploy.prototxt: layer 'it'", part)


def test_a_programming_error_is_not_reported_as_a_wrong_number_of_bottoms(monkeypatch):
    def broken(c, x):
        return (lambda: None)(x)
    monkeypatch.setitem(LAYERS, "ReLU", broken)
    with pytest.raises(ConvertError, match="TypeError") as caught:
        caffe(toys.layer("it", "ReLU", "data", "it"))()
    assert isinstance(caught.value.__cause__.__cause__, TypeError)


@pytest.mark.parametrize("shape", [(0, 3, 9, 9), (-1, 3, 9, 9), (1, 3, 2 ** 40, 2 ** 40), (2 ** 62, 3, 9, 9),
                                   (1,) * 70])
def test_absurd_inputs(shape):
    rejected(caffe(CONV, shape=shape), "deploy.prototxt: layer 'data' (Input): its input")


def test_blobs_that_grow_without_end():
    doubling = [toys.concat(f"k{i}", *[f"k{i - 1}" if i else "data"] * 2) for i in range(60)]
    rejected(caffe(*doubling), "deploy.prototxt: layer 'k1", "numbers are allowed")
    striding = [toys.layer(f"p{i}", "Pooling", f"p{i - 1}" if i else "data", f"p{i}",
                           "pooling_param { kernel_size: 1 stride: 60000 }") for i in range(100)]
    rejected(caffe(*striding), "deploy.prototxt: ", "multiply to more than")


def test_a_long_name_is_shortened_in_the_metadata():
    name = "N" * 10 ** 5
    model = caffe(toys.layer("first", "ReLU", "data", "first"), toys.layer(name, "Permute", "data", "q0"),
                  toys.relu("q0"))()
    reason = json.loads(metadata(model)["left_out"])["q0"]
    assert len(reason) < 200
    rejected(lambda: convert.gradient_graph(model, "q0"), "N" * 40)


def test_nets_deeper_than_pythons_stack():
    """Sizes and non-negative tensors are traced through 700 poolings without recursion."""
    layers = [toys.conv("c0", "data", 3, 1), toys.relu("c0")]
    for i in range(700):
        layers.append(toys.pool(f"p{i}", f"p{i - 1}" if i else "c0", "MAX", 1, 1))
    model = toys.convert(toys.net(*layers))
    graph = convert.gradient_graph(model, "p699")
    assert [o.name for o in graph.graph.output][0] == "end_data"


def test_concats_of_concats_are_checked_once():
    """There are 2^14 paths through this net."""
    body = "a0 = Conv(x, w); r0 = Relu(a0); " + "; ".join(
        f"k{i} = Concat<axis=1>(r{i}, r{i}); s{i} = MaxPool<kernel_shape=[1, 1]>(k{i}); "
        f"r{i + 1} = Identity(s{i})" for i in range(14))
    model = onnx_net(net(body, WEIGHTS, (1, 3, 6, 6), outputs=("r14",)))
    assert Source(model).is_non_negative("r14")


# ---- ONNX files: what is checked before the onnx package reads them

def built(body, weights=None, **options):
    return lambda: onnx_net(net(body, {**WEIGHTS, **(weights or {})}, **options), source="net.onnx")


def whole(*values):
    return np.array(values, np.int64)


HUGE = whole(1, 4, 10 ** 8, 10 ** 8)


@pytest.mark.parametrize("node, weights", [
    ("k = ConstantOfShape(s)", {"s": HUGE}), ("k = Expand(one, s)", {"s": HUGE}),
    ("k = Range(zero, s, step)", {"s": np.array(10 ** 17), "zero": np.array(0), "step": np.array(1)}),
    ("k = Resize(one, , s)", {"s": np.float32([1, 1, 1e8, 1e8])}),
    ("k = Pad(one, s)", {"s": whole(0, 0, 0, 0, 0, 0, 10 ** 8, 10 ** 8)}), ("k = Tile(one, s)", {"s": HUGE}),
    ("k = Gather(many, s)", {"many": np.zeros((2, 10 ** 5), np.float32), "s": np.zeros(10 ** 5, np.int64)}),
    ("k = MatMul(many, s)", {"many": np.zeros((10 ** 5, 1), np.float32), "s": np.zeros((1, 10 ** 5), np.float32)}),
    ("k = Add(many, s)", {"many": np.zeros((10 ** 5, 1), np.float32), "s": np.zeros((1, 10 ** 5), np.float32)}),
    ("k = MaxPool<kernel_shape=[99, 99]>(many)", {"many": np.zeros((1, 1, 999, 999), np.float32)}),
], ids=lambda value: value.split()[2].split("(")[0].split("<")[0] if isinstance(value, str) else "")
def test_constants_that_would_fill_all_memory(node, weights):
    rejected(built(f"{node}; t = ReduceSum(k); c = Conv(x, w); y = Add(c, t)",
                   {"one": np.ones((1, 1, 1, 1), np.float32), **weights}), "net.onnx: node 'k'",
             "numbers are allowed" if "Tile" in node else "would be needed")


def test_many_constants_that_together_would_fill_all_memory():
    body = "; ".join(f"k{i} = ConstantOfShape(s); t{i} = ReduceSum(k{i})" for i in range(200))
    rejected(built(body + "; c = Conv(x, w); y = Add(c, t0)", {"s": whole(10 ** 6)}), "net.onnx: node 'k",
             "would be needed")


@pytest.mark.parametrize("body, weights", [
    ("y = Expand(c, s)", {"s": whole(10 ** 9, 4, 30, 30)}), ("y = Tile(c, s)", {"s": whole(1, 1, 10 ** 6, 10 ** 6)}),
    ("y = Resize(c, , s)", {"s": np.float32([1, 1, 1e5, 1e5])}),
    ("y = Pad(c, s)", {"s": whole(0, 0, 0, 0, 0, 0, 10 ** 7, 10 ** 7)}),
    ("; ".join(f"c{i + 1} = Concat<axis=1>(c{i}, c{i})" for i in range(40)) + "; y = Relu(c40)", {}),
    ("y = Conv<pads=[60000, 60000, 60000, 60000]>(c, v)", {"v": filters(4, 4)}),
    ("y = ConvTranspose<dilations=[10000, 10000]>(c, v)", {"v": filters(4, 4)}),
], ids=["Expand", "Tile", "Resize", "Pad", "Concat", "Conv", "ConvTranspose"])
def test_results_that_would_fill_all_memory(body, weights):
    rejected(built(f"c = Conv(x, w); c0 = Identity(c); {body}", weights), "net.onnx: node '", "numbers are allowed")


@pytest.mark.parametrize("attributes, part", [
    ("strides=[4611686018427387904, 1]", "strides is [4611686018427387904, 1]"),
    ("strides=[0, 0]", "strides is [0, 0]"),
    ("dilations=[-1, 1]", "dilations is [-1, 1]"), ("pads=[0, 0, 4611686018427387904, 0]", "pads is [0, 0, 461"),
    ("kernel_shape=[0, 3]", "kernel_shape is [0, 3]"), ("group=0", "group is 0"),
    ("pads=[1, 1, 1]", "pads is [1, 1, 1]"), ("kernel_shape=[3, 3], strides=[1, 1, 1]", "strides is [1, 1, 1]")])
def test_absurd_windows(attributes, part):
    rejected(built(f"c = Conv<{attributes}>(x, w); y = Relu(c)"), "net.onnx: node 'c' (Conv)", part)
    if "group" not in attributes:
        rejected(built(f"c = Conv(x, w); y = MaxPool<{attributes}>(c)"), "net.onnx: node 'y' (MaxPool)")


def test_large_windows_have_no_gradient():
    for node in ("MaxPool<kernel_shape=[9999, 9999], strides=[9999, 9999], pads=[5000, 5000, 5000, 5000]>(r)",
                 "AveragePool<kernel_shape=[9999, 9999], pads=[5000, 5000, 5000, 5000]>(r)"):
        model = built(f"c = Conv(x, w); r = Relu(c); y = {node}")()
        rejected(lambda: convert.gradient_graph(model, "y"), "node 'y'", "must be 1 to 512")


def test_a_graph_raises_before_it_is_too_large():
    graph = Graph(weights=0)
    huge = np.broadcast_to(np.float32(0), (1 << 20, 1 << 20))
    rejected(lambda: graph.op("Add", graph.tensor("x"), huge), "would be needed")
    graph = Graph()
    rejected(lambda: [graph.op("Relu", graph.tensor("x")) for _ in range(20000)], "12,000 nodes")


@pytest.mark.parametrize("change, part", [
    (lambda m: m.graph.node.extend([m.graph.node[1]] * 10001), "nodes"),
    (lambda m: [m.graph.node.add() for _ in range(200001)], "nodes, names and attributes"),
    (lambda m: [m.graph.initializer.add() for _ in range(200001)], "nodes, names and attributes"),
    (lambda m: [m.metadata_props.add() for _ in range(200001)], "nodes, names and attributes"),
    (lambda m: m.graph.node[1].input.extend(["c"] * 1001), "1,002 inputs"),
    (lambda m: m.graph.node[0].input.__setitem__(0, "y"), "reads 'y' before it is computed"),
    (lambda m: m.graph.node[1].output.__setitem__(0, "c"), "computes 'c' a second time"),
    (lambda m: m.graph.input[0].type.tensor_type.shape.dim[0].__setattr__("dim_value", 2 ** 62),
     "input 'x' has the shape"),
    (lambda m: m.graph.initializer[0].dims.__setitem__(0, -4), "the weights 'w' has the shape (-4, 3, 3, 3)"),
    (lambda m: m.graph.initializer[0].dims.__setitem__(0, 2 ** 62), "the weights 'w' has the shape"),
    (lambda m: m.graph.initializer[0].dims.__setitem__(0, 5), "the weights 'w': damaged"),
    (lambda m: m.graph.initializer[0].dims.extend([1] * 70), "the weights 'w' has the shape"),
    (lambda m: m.graph.initializer[0].__setattr__("data_type", 4096), "the weights 'w': damaged"),
    (lambda m: m.graph.node[0].__setattr__("domain", "else"), "net.onnx"),
    (lambda m: m.graph.node[0].__setattr__("op_type", "\x1b[31mNo\n"), "\\x1b[31mNo\\n"),
    (lambda m: m.graph.node[0].ClearField("output"), "net.onnx"),
    (lambda m: m.graph.node[1].ClearField("input"), "net.onnx"),
    (lambda m: m.ClearField("opset_import"), "opset 1 is not supported"),
])
def test_a_model_that_makes_no_sense(tmp_path, change, part):
    model = net("c = Conv(x, w); y = Relu(c)", WEIGHTS)
    change(model)
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    for ask in (lambda: onnx_net(path), lambda: convert.gradient_graph(Net(path, device="cpu").model, "y")):
        with pytest.raises(ConvertError) as caught:
            ask()
        text = str(caught.value)
        assert "net.onnx: " in text and part in text and text.isprintable() and len(text) < 1000, text


def test_constants_that_onnx_cannot_compute():
    for body in ("k = LRN(one)", "k = Range(one)", "k = Log(one, one, one)", "k = Reshape(one, bad)"):
        rejected(built(f"{body}; c = Conv(x, w); y = Add(c, k)", {"one": np.ones((1, 1, 1, 1), np.float32),
                                                                 "bad": whole(7, 7)}), "net.onnx: node 'k'")


# ---- functions

def with_functions(*bodies, calls="f0"):
    """Return a model whose last node calls the function `calls`.

    bodies: for the functions f0, f1, ..., each (a) => (b): their nodes (operator, inputs, output).
    """
    model = net("c = Conv(x, w)", WEIGHTS, outputs=("y",))
    model.graph.node.append(helper.make_node(calls, ["c"], ["y"], domain="own"))
    model.opset_import.append(helper.make_opsetid("own", 1))
    for i, body in enumerate(bodies):
        nodes = [helper.make_node(kind, list(inputs), [output], domain="own" if kind.startswith("f") else "")
                 for kind, inputs, output in body]
        model.functions.append(helper.make_function("own", f"f{i}", ["a"], ["b"], nodes, [
            helper.make_opsetid("", 17), helper.make_opsetid("own", 1)]))
    return model


def test_functions_of_a_model_are_inlined():
    made = onnx_net(with_functions([("Sigmoid", "a", "s"), ("Mul", "as", "b")]))
    assert [n.op_type for n in made.graph.node] == ["Conv", "Sigmoid", "Mul"]
    assert "y" in json.loads(metadata(made)["ends"])
    convert.gradient_graph(made, "y")


def test_functions_that_call_functions_without_end():
    laughs = [[(f"f{i + 1}", "a" if j == 0 else f"{j - 1}", f"{j}" if j < 9 else "b") for j in range(10)]
              for i in range(30)]
    rejected(lambda: onnx_net(with_functions(*laughs, [("Relu", "a", "b")]), source="net.onnx"),
             "net.onnx: more than 10,000 nodes")
    rejected(lambda: onnx_net(with_functions([("f1", "a", "b")], [("f0", "a", "b")]), source="net.onnx"),
             "net.onnx: damaged: its function 'f0' calls itself")
    chain = [[(f"f{i + 1}", "a", "b")] for i in range(3000)]
    rejected(lambda: onnx_net(with_functions(*chain, [("Relu", "a", "b")]), source="net.onnx"), "net.onnx: ", "nested")


def test_a_loop_that_does_not_end():
    body = helper.make_graph([helper.make_node("Identity", ["go"], ["go_on"]), helper.make_node("Neg", ["v"], ["u"])],
                             "body",
                             [helper.make_tensor_value_info("i", TensorProto.INT64, []),
                              helper.make_tensor_value_info("go", TensorProto.BOOL, []),
                              helper.make_tensor_value_info("v", TensorProto.FLOAT, [])],
                             [helper.make_tensor_value_info("go_on", TensorProto.BOOL, []),
                              helper.make_tensor_value_info("u", TensorProto.FLOAT, [])])
    for rounds in (5, 10 ** 15):
        model = net("c = Conv(x, w)", {**WEIGHTS, "n": np.array(rounds), "yes": np.array(True), "v0": np.float32(1)},
                    outputs=("y",))
        model.graph.node.append(helper.make_node("Loop", ["n", "yes", "v0"], ["k"], body=body))
        model.graph.node.append(helper.make_node("Mul", ["c", "k"], ["y"]))
        if rounds == 5:
            onnx_net(model)
        else:
            rejected(lambda: onnx_net(model, source="net.onnx"), "net.onnx: node 'k' (Loop): a loop")


# ---- weights in other files

@pytest.fixture
def external(tmp_path):
    """Return a function that writes a model with weights in another file, and returns its path."""
    folder = tmp_path / "nets"
    folder.mkdir()
    (folder / "w.data").write_bytes(WEIGHTS["w"].tobytes())
    (tmp_path / "secret").write_bytes(bytes(1000))

    def write(location, offset="0", length="432", count=1):
        model = net("c = Conv(x, w); y = Relu(c)", WEIGHTS)
        tensors = [model.graph.initializer[0]]
        for i in range(1, count):
            model.graph.initializer.add().CopyFrom(tensors[0])
            model.graph.initializer[-1].name = f"w{i}"
        for tensor in model.graph.initializer:
            tensor.ClearField("raw_data")
            tensor.data_location = TensorProto.EXTERNAL
            for key, value in {"location": location, "offset": offset, "length": length}.items():
                if value is not None:
                    tensor.external_data.add(key=key, value=value)
        (folder / "net.onnx").write_bytes(model.SerializeToString())
        return folder / "net.onnx"
    return write


def test_weights_of_another_file_are_read(external):
    for offset, length in (("0", "432"), (None, None), ("0", None)):
        model = onnx_net(external("w.data", offset, length))
        assert np.array_equal(numpy_helper.to_array(model.graph.initializer[0]), WEIGHTS["w"])


@pytest.mark.parametrize("location, part", [
    ("../secret", "plain relative path"), ("/etc/passwd", "plain relative path"), ("", "plain relative path"),
    ("/dev/zero", "plain relative path"), ("a/../../secret", "plain relative path"), ("..\\secret", "plain relative"),
    ("C:\\secret", "plain relative path"), ("w\0", "plain relative path"), (".", "not a regular file"),
    ("pipe", "not a regular file"), ("link", "leads out of the folder"), ("way/secret", "leads out of the folder"),
    ("none", "nets/none: cannot be read: No such file"), ("\x1b[31m" + "n" * 300, "cannot be read")])
def test_weights_must_be_in_the_folder_of_the_model(external, tmp_path, location, part):
    """Other files are not even opened: reading a pipe would never end."""
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "nets" / "pipe")
    (tmp_path / "nets" / "link").symlink_to(tmp_path / "secret")
    (tmp_path / "nets" / "way").symlink_to(tmp_path)
    path = external(location)
    rejected(lambda: onnx_net(path), "net.onnx: its weights are in", part)
    rejected(lambda: Net(path, device="cpu"), "net.onnx: its weights are in", part)


@pytest.mark.parametrize("offset, length, part", [
    ("1", "432", "too few for 'w'"), ("0", "433", "needs 432 bytes, not 433"), ("0", "4", "needs 432 bytes, not 4"),
    ("-1", "432", "offset '-1'"), ("0", "x" * 300, "length 'xxx"), ("9" * 5000, "432", "offset '999"),
    ("1e3", "432", "offset '1e3'"), (str(2 ** 50), None, "too few")])
def test_weights_at_a_wrong_place_of_the_file(external, offset, length, part):
    rejected(lambda: onnx_net(external("w.data", offset, length)), "net.onnx: ", part)


def test_many_weights_at_the_same_place_of_the_file(external):
    rejected(lambda: onnx_net(external("w.data", count=100)), "net.onnx: damaged: its weights are many times")


def test_weights_are_not_looked_for_in_the_current_folder(external, monkeypatch, tmp_path):
    model = onnx.load(external("w.data"), load_external_data=False)
    monkeypatch.chdir(tmp_path / "nets")
    rejected(lambda: onnx_net(model, source="the model"), "the model: its weights are in other files")


# ---- models whose metadata say that they were converted from Caffe's files

@pytest.mark.parametrize("name, value, part", [
    ("ends", "", "its metadata, ends"), ("ends", "[]", "its metadata, ends, is []"),
    ("ends", '{"conv1": {}}', "its metadata, ends"),
    ("ends", '{"conv1": {"channels": "8", "stride": null}}', "its metadata, ends"),
    ("ends", '{"gone": {"channels": 8, "stride": [1, 1]}}', "names 'gone'"),
    ("ends", '{"conv1": {"channels": 8, "stride": [0, 1]}}', "its metadata, ends"),
    ("ends", '{"conv1": {"channels": 8, "stride": [NaN, 1]}}', "its metadata, ends"),
    ("writes", "null", "its metadata, writes"), ("writes", '[["a", "b"]]', "its metadata, writes"),
    ("writes", '[["conv1", "conv1", "gone"]]', "names 'gone'"), ("writes", "[" * 100000, "its metadata, writes"),
    ("left_out", "3", "its metadata, left_out"), ("data", "gone", "names 'gone'"),
    ("data", "conv1", "names 'conv1'"),
    ("data_shape", "[]", "its metadata, data_shape"), ("data_shape", "[1, 3, -1, 5]", "its metadata, data_shape"),
    ("data_shape", "[" + "9" * 5000 + "]", "its metadata, data_shape"), ("mean", '"x"', "its metadata, mean"),
    ("mean", "[1e400]", "its metadata, mean"), ("channel_swap", "[0, 1]", "its metadata, channel_swap"),
    ("ends", None, "lacks ends"), ("data_shape", None, "lacks data_shape"),
    ("end", "conv1", "the gradient graph of 'conv1'")])
def test_metadata_that_do_not_fit(tmp_path, name, value, part):
    model = toys.convert(toys.TOY)
    facts = {**metadata(model), name: value}
    del model.metadata_props[:]
    helper.set_model_props(model, {k: v for k, v in facts.items() if v is not None})
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    rejected(lambda: Net(path, device="cpu"), "net.onnx: ", part)
    rejected(lambda: onnx_net(path), "net.onnx: ", part)


def test_a_net_that_takes_no_picture(tmp_path):
    for shape in ((1, 3), (1, 2 ** 30, 1, 1)):
        folder = toys.write_net(tmp_path / str(len(shape)), toys.net(
            toys.layer("r", "ReLU", "data", "r"), shape=shape))
        (folder / "net.caffemodel").write_bytes(caffemodel(4))
        with pytest.raises(DreamError, match="deploy.prototxt: takes no picture"):
            Net(folder, device="cpu")


# ---- errors of onnxruntime

def test_a_session_that_cannot_be_made_names_the_net():
    with pytest.raises(DreamError, match="^some/net.onnx: onnxruntime cannot run this net: ") as caught:
        Device("cpu").session(b"no model", name="some/net.onnx")
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("error, part", [
    (RuntimeError("vector::reserve"), "the net cannot run at 5x4 pixels: vector::reserve"),
    (IndexError("map::at"), "cannot run"), (MemoryError("std::bad_alloc"), "not enough memory for 5x4 pixels"),
    (RuntimeError("Failed to allocate memory for requested buffer of size 9"), "not enough memory"),
    (ValueError("a\nb" * 300), "cannot run")])
def test_errors_of_a_run_need_not_name_onnxruntime(error, part):
    with pytest.raises(DreamError) as caught:
        with readable(4, 5):
            raise error
    assert part in str(caught.value) and str(caught.value).isprintable() and len(str(caught.value)) < 300


# ---- terminals and pipes

def test_names_on_a_terminal_that_shows_ascii_only(tmp_path):
    folder = toys.write_net(tmp_path / "net", toys.net(toys.conv("größe\u202e", "data", 4, 3)))
    files = [folder / "deploy.prototxt", folder / "net.caffemodel"]
    for command in (["convert", *files, "--list"], ["deepdream", "layers", "--model", folder]):
        run = children.run("-m", *command, env=children.environment(PYTHONIOENCODING="ascii"))
        assert run.returncode == 0 and "gr\\xf6\\xdfe\\u202e" in run.stdout and not run.stderr


def test_a_closed_pipe(toy):
    files = [toy / "deploy.prototxt", toy / "net.caffemodel"]
    for command in (["convert", *files, "--list"], ["deepdream", "layers", "--model", toy]):
        read, write = os.pipe()
        os.close(read)
        run = children.run("-m", *command, stdout=write)
        os.close(write)
        assert run.returncode == 0 and not run.stderr


def test_the_command_lines_print_one_line(tmp_path, capsys):
    model = net("c = Conv(x, w); y = Add(c, k)", {**WEIGHTS, "k": np.zeros(4, np.float32)})
    model.graph.node[1].name = "\x1b[31m" + "n" * 1000
    model.graph.node[1].op_type = "Nonsense"
    model.graph.node.insert(1, helper.make_node("Range", ["k"], ["z"], name="\x07" + "r" * 1000))
    (tmp_path / "net.onnx").write_bytes(model.SerializeToString())
    (tmp_path / "net.toml").write_text("mean = 0")
    assert cli.main(["layers", "--model", str(tmp_path / "net.onnx")]) == 2
    err = capsys.readouterr().err
    assert err.count("\n") == 1 and err[:-1].isprintable() and len(err) < 700 and "net.onnx: " in err
    (tmp_path / "deploy.prototxt").write_text(toys.net(toys.layer("it", "Log", "data", "it", "log_param { base: 0 }")))
    (tmp_path / "net.caffemodel").write_bytes(caffemodel(4))
    files = [str(tmp_path / "deploy.prototxt"), str(tmp_path / "net.caffemodel")]
    assert command_line([*files, "--list"]) == 2
    err = capsys.readouterr().err
    assert err.startswith("convert: ") and err.count("\n") == 1 and "deploy.prototxt: layer 'it' (Log): base" in err
