"""convert.caffe.reader: every generation of Caffe's files, and the messages about other and damaged files."""
import struct

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.caffe import caffe_pb2 as pb
from deepdream.convert.errors import ConvertError
from deepdream.convert.caffe.layers import LAYERS
from deepdream.convert.caffe.reader import parse_prototxt, read_caffemodel, read_prototxt

from deepdream import convert

W = np.float32(np.random.default_rng(0).standard_normal((4, 3, 3, 3)))
B = np.float32(np.random.default_rng(1).standard_normal(4))
FC = np.float32(np.random.default_rng(2).standard_normal((5, 16)))

V2 = """
name: "n"  # a comment
layer { name: "data" type: "Input" top: "data" input_param { shape: { dim: 1 dim: 3 dim: 6 dim: 6 } } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv"
  param { lr_mult: 1 decay_mult: 1 } param { lr_mult: 2 decay_mult: 0 }
  convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2
                      weight_filler { type: "xavier" std: 0.1 } bias_filler { type: "constant" value: 0.2 } } }
layer { name: "relu" type: "ReLU" bottom: "conv" top: "conv" }
layer { name: "pool" type: "Pooling" bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 1 } }
layer { name: "norm" type: "LRN" bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 } }
layer { name: "drop" type: "Dropout" bottom: "norm" top: "norm" dropout_param { dropout_ratio: 0.4 } }
layer { name: "fc" type: "InnerProduct" bottom: "norm" top: "fc"
  inner_product_param { num_output: 5 bias_term: false } }
layer { name: "prob" type: "Softmax" bottom: "fc" top: "prob" }
"""
INPUT_DIM = 'input: "data" input_dim: 1 input_dim: 3 input_dim: 6 input_dim: 6\n'
INPUT_SHAPE = 'input: "data" input_shape { dim: 1 dim: 3 dim: 6 dim: 6 }\n'
V1 = """
layers { name: "conv" type: CONVOLUTION bottom: "data" top: "conv" blobs_lr: 1 blobs_lr: 2 weight_decay: 1
  weight_decay: 0 convolution_param { num_output: 4 kernel_size: 3 pad: 1 stride: 2 } }
layers { name: "relu" type: RELU bottom: "conv" top: "conv" }
layers { name: "pool" type: POOLING bottom: "conv" top: "pool" pooling_param { pool: AVE kernel_size: 2 stride: 1 } }
layers { name: "norm" type: LRN bottom: "pool" top: "norm" lrn_param { local_size: 3 alpha: 0.5 beta: 0.75 } }
layers { name: "drop" type: DROPOUT bottom: "norm" top: "norm" dropout_param { dropout_ratio: 0.4 } }
layers { name: "fc" type: INNER_PRODUCT bottom: "norm" top: "fc"
  inner_product_param { num_output: 5 bias_term: false } }
layers { name: "prob" type: SOFTMAX bottom: "fc" top: "prob" }
"""
V0 = """
layers { layer { name: "conv" type: "conv" num_output: 4 kernelsize: 3 pad: 1 stride: 2 blobs_lr: 1. weight_decay: 1.
                 weight_filler { type: "gaussian" std: 0.01 } } bottom: "data" top: "conv" }
layers { layer { name: "relu" type: "relu" } bottom: "conv" top: "conv" }
layers { layer { name: "pool" type: "pool" pool: AVE kernelsize: 2 stride: 1 } bottom: "conv" top: "pool" }
layers { layer { name: "norm" type: "lrn" local_size: 3 alpha: 0.5 beta: 0.75 } bottom: "pool" top: "norm" }
layers { layer { name: "drop" type: "dropout" dropout_ratio: 0.4 } bottom: "norm" top: "norm" }
layers { layer { name: "fc" type: "innerproduct" num_output: 5 biasterm: false } bottom: "norm" top: "fc" }
layers { layer { name: "prob" type: "softmax" } bottom: "fc" top: "prob" }
"""


def blob(array, shape="new", kind="data"):
    b = pb.BlobProto()
    if shape == "new":
        b.shape.dim.extend(array.shape)
    else:
        b.num, b.channels, b.height, b.width = (1,) * (4 - array.ndim) + array.shape
    getattr(b, kind).extend(np.ravel(array).tolist())
    return b


def binary(generation="V2", shape="new", kind="data", extra=True, arrays=None):
    """Return the bytes of a caffemodel with layers conv and fc. extra: and others that the prototxt does not have."""
    file = pb.NetParameter(name="trained")
    for name, (old, v0, blobs) in {"label": ("DATA", "data", []), "conv": ("CONVOLUTION", "conv", [W, B]),
                                   "elsewhere": ("INNER_PRODUCT", "innerproduct", [FC]),
                                   "fc": ("INNER_PRODUCT", "innerproduct", [FC])}.items():
        if not extra and name in ("label", "elsewhere"):
            continue
        blobs = [blob(b, shape, kind) for b in (arrays or {}).get(name, blobs)]
        if generation == "V2":
            file.layer.add(name=name, type="Anything" if name == "elsewhere" else "Convolution", blobs=blobs)
        elif generation == "V1":
            file.layers.add(name=name, type=getattr(pb.V1LayerParameter, old), blobs=blobs)
        else:
            file.layers.add().layer.CopyFrom(pb.V0LayerParameter(name=name, type=v0, blobs=blobs))
    return file.SerializeToString()


@pytest.fixture
def files(tmp_path):
    """Return a function that writes a prototxt and a caffemodel, and returns their paths."""
    def write(text=V2, data=None):
        (tmp_path / "deploy.prototxt").write_text(text)
        (tmp_path / "net.caffemodel").write_bytes(binary() if data is None else data)
        return tmp_path / "deploy.prototxt", tmp_path / "net.caffemodel"
    return write


# ---- every generation gives the same net

def same(model, other):
    def form(m):
        return m.graph.input, m.graph.output, m.graph.node, m.graph.initializer, \
            {p.key: p.value for p in m.metadata_props}
    assert form(model) == form(other)


@pytest.mark.parametrize("text", [
    V2, INPUT_DIM + V2.split("\n", 3)[3], INPUT_SHAPE + V2.split("\n", 3)[3], INPUT_DIM + V1, INPUT_SHAPE + V1,
    INPUT_DIM + V0, V2.replace("layer {", "layer: {").replace("\n", "\r\n"), V2.replace('"', "'"),
], ids=["V2", "V2 input_dim", "V2 input_shape", "V1 input_dim", "V1 input_shape", "V0", "colons, CRLF", "quotes"])
def test_text_of_every_generation(files, text):
    expected = convert.to_onnx(*files())
    onnx.checker.check_model(expected, full_check=True)
    same(convert.to_onnx(*files(text)), expected)


def test_fields_of_V0():
    """Every field of an old layer is converted."""
    net = parse_prototxt(INPUT_DIM + """layers { layer { name: "c" type: "conv" num_output: 6 kernelsize: 3 pad: 2
        stride: 4 group: 3 biasterm: false } bottom: "data" top: "c" }
        layers { layer { name: "p" type: "pool" pool: MAX kernelsize: 3 pad: 1 stride: 2 } bottom: "c" top: "p" }
        layers { layer { name: "n" type: "lrn" local_size: 7 alpha: 0.5 beta: 0.25 k: 2 } bottom: "p" top: "n" }
        layers { layer { name: "j" type: "concat" concat_dim: 2 } bottom: "n" bottom: "n" top: "j" }""")
    _, c, p, n, j = net.layer
    assert c.convolution_param == pb.ConvolutionParameter(num_output=6, kernel_size=[3], pad=[2], stride=[4], group=3,
                                                          bias_term=False)
    assert p.pooling_param == pb.PoolingParameter(pool=pb.PoolingParameter.MAX, kernel_size=3, pad=1, stride=2)
    assert n.lrn_param == pb.LRNParameter(local_size=7, alpha=0.5, beta=0.25, k=2)
    assert j.concat_param.concat_dim == 2 and list(j.bottom) == ["n", "n"]


@pytest.mark.parametrize("kind", ["data", "double_data"])
@pytest.mark.parametrize("shape", ["new", "old"])
@pytest.mark.parametrize("generation", ["V2", "V1", "V0"])
def test_binary_of_every_generation(files, generation, shape, kind):
    expected = convert.to_onnx(*files())
    same(convert.to_onnx(*files(V2, binary(generation, shape, kind))), expected)


def test_weights_are_what_was_written(files):
    blobs = read_caffemodel(files()[1])
    assert list(blobs) == ["conv", "elsewhere", "fc"]
    np.testing.assert_array_equal(blobs["conv"][0], W)
    np.testing.assert_array_equal(blobs["conv"][1], B)
    assert blobs["fc"][0].dtype == np.float32
    old = read_caffemodel(files(V2, binary("V1", "old"))[1])
    assert old["conv"][1].shape == (1, 1, 1, 4) and old["fc"][0].shape == (1, 1, 5, 16)


def field(number, wire, payload):
    """Return a field in protobuf's wire format: wire type 5 is four bytes; 2 starts with a length, here up to 127."""
    return bytes([number << 3 | wire]) + (bytes([len(payload)]) if wire == 2 else b"") + payload


def test_floats_packed_and_one_by_one(files):
    """Caffe's oldest files have a tag before each number."""
    numbers = np.float32([1.5, -2, 3, 0.25])
    shape = field(7, 2, field(1, 2, bytes([4])))
    for data in (field(5, 2, numbers.tobytes()), b"".join(field(5, 5, struct.pack("<f", v)) for v in numbers),
                 field(5, 2, numbers[:2].tobytes()) + field(5, 2, numbers[2:].tobytes())):
        layer = field(1, 2, b"one") + field(7, 2, shape + data)
        net = bytes([100 << 3 & 0x7F | 0x80 | 2, 100 >> 4]) + bytes([len(layer)]) + layer
        np.testing.assert_array_equal(read_caffemodel(files(V2, net)[1])["one"][0], numbers)


def test_unknown_fields_are_ignored(files):
    unknown = bytes([0xFA, 0x7F, 3]) + b"abc"            # field 2047
    same(convert.to_onnx(*files(V2, binary() + unknown)), convert.to_onnx(*files()))


def test_a_data_layer_is_an_input(files):
    text = V2.replace(V2.split("\n")[2], 'layer { name: "data" type: "Data" top: "data" top: "label" '
                                         'transform_param { crop_size: 6 } data_param { source: "x" } }')
    assert {p.key: p.value for p in convert.to_onnx(*files(text)).metadata_props}["data_shape"] == "[1, 3, 6, 6]"
    with pytest.raises(ConvertError, match="'data' .Data.: its input shape is missing"):
        convert.to_onnx(*files(text.replace("crop_size: 6", "mirror: true")))


def test_phases():
    text = toys.net(
        toys.layer("a", "ReLU", "data", "a", "include { phase: TEST }"),
        toys.layer("b", "ReLU", "data", "b", "include { phase: TRAIN }"),
        toys.layer("c", "ReLU", "data", "c", "exclude { phase: TEST }"),
        toys.layer("d", "ReLU", "data", "d", "exclude { phase: TRAIN }"),
        toys.layer("e", "ReLU", "data", "e", 'include { phase: TEST stage: "later" }'),
        toys.layer("f", "ReLU", "data", "f", "include { phase: TRAIN } include { phase: TEST min_level: 0 }"),
        toys.layer("g", "ReLU", "data", "g", "include { min_level: 1 }"),
        toys.layer("h", "ReLU", "data", "h", 'include { not_stage: "later" }'))
    assert [l.name for l in parse_prototxt(text).layer] == ["data", "a", "d", "f", "h"]


def test_V1_types_are_todays():
    types = {"RELU": "ReLU", "LRN": "LRN", "TANH": "TanH", "ABSVAL": "AbsVal", "BNLL": "BNLL",
             "SOFTMAX_LOSS": "SoftmaxWithLoss", "HDF5_DATA": "HDF5Data", "INNER_PRODUCT": "InnerProduct",
             "DECONVOLUTION": "Deconvolution", "EUCLIDEAN_LOSS": "EuclideanLoss",
             "SIGMOID_CROSS_ENTROPY_LOSS": "SigmoidCrossEntropyLoss", "ELTWISE": "Eltwise", "CONCAT": "Concat",
             "SLICE": "Slice", "POWER": "Power", "EXP": "Exp", "SIGMOID": "Sigmoid", "SPLIT": "Split", "MVN": "MVN",
             "ARGMAX": "ArgMax", "IM2COL": "Im2col", "MEMORY_DATA": "MemoryData", "FLATTEN": "Flatten"}
    for old, new in types.items():
        net = parse_prototxt(f'{INPUT_DIM} layers {{ name: "x" type: {old} bottom: "data" top: "x" }}')
        assert net.layer[1].type == new


# ---- messages about bad files

def rejected(call, *parts):
    """Check that call() raises ConvertError, with one line that holds the parts."""
    with pytest.raises(ConvertError) as caught:
        call()
    text = str(caught.value)
    assert "\n" not in text
    for part in parts:
        assert part in text, text


@pytest.mark.parametrize("old, new, parts", [
    ("kernel_size: 3", "kernal_size: 3",
     ["line 6", "ConvolutionParameter", "'kernal_size'", "did you mean kernel_size"]),
    ("bottom: \"conv\" top: \"pool\"", "botom: \"conv\" top: \"pool\"", ["line 9", "'botom'", "did you mean bottom"]),
    ("pool: AVE", "pool: AVERAGE", ["line 9", "AVERAGE"]),
    ("num_output: 4", "num_output: four", ["line 6", "four"]),
    ("stride: 2", "stride 2", ["line 6"]),
    ("dropout_ratio: 0.4 } }", "dropout_ratio: 0.4 }", ["line 12", "is a } missing before it?"]),
    ("name: \"n\"", "<html><body>404</body></html>", ["line 2", "not a prototxt"]),
    ("bottom: \"pool\"", "bottom: \"pol\"", ["'norm'", "'pol'", "is not a top of any layer before it"]),
])
def test_a_typo_in_a_prototxt(files, old, new, parts):
    assert old in V2
    rejected(lambda: convert.to_onnx(*files(V2.replace(old, new, 1))), "deploy.prototxt", *parts)


def test_unknown_fields_matter_only_in_supported_layers():
    unknown = 'layer { name: "p" type: "Permute" bottom: "conv" top: "p" ' \
              'permute_param { order: 0 order: 2 note: "}" } new_field: 3 }'
    net = parse_prototxt(V2 + unknown, "x.prototxt", LAYERS)
    assert net.layer[-1].name == "p" and len(net.layer) == 9
    assert [l for l in net.layer[:-1]] == list(parse_prototxt(V2).layer)
    rejected(lambda: parse_prototxt(V2 + unknown, "x.prototxt"), "x.prototxt", "permute_param")
    for kind in ("ReLU", "Convolution"):
        rejected(lambda: parse_prototxt(V2 + unknown.replace("Permute", kind), "x.prototxt", LAYERS), "permute_param")
    text = unknown.replace('top: "p"', 'tpo: "p"') + "\nlayers_ {}"
    rejected(lambda: parse_prototxt(text, "x.prototxt", LAYERS), "layers_")


def test_unknown_fields_in_a_layer_on_the_same_line():
    unknown = 'layer { name: "p" type: "Permute" bottom: "conv" top: "p" ' \
              'permute_param { order: 0 } # layer {\n note: "}" }'
    known = 'layer { name: "q" type: "ReLU" bottom: "conv" top: "q" }'
    for text in (f"{known} {unknown}", f"{known}{unknown}", f"{unknown} {known}", f"{unknown}{unknown}"):
        assert len(parse_prototxt(V2 + text, "x.prototxt", LAYERS).layer) == 10
    wrong = known.replace("bottom", "botom")
    for text in (f"{wrong} {unknown}", f"{unknown} {wrong}"):
        rejected(lambda: parse_prototxt(V2 + text, "x.prototxt", LAYERS), "'botom'")


@pytest.mark.parametrize("change", [
    lambda text: text.encode("utf-8-sig"), lambda text: f"# f\xfcr K\xe4tzchen\n{text}".encode("latin-1"),
    lambda text: text.replace("\n", "\r\n").encode(), lambda text: f"# f\xfcr\u2028\n{text}".encode()])
def test_text_of_every_encoding(tmp_path, change):
    (tmp_path / "deploy.prototxt").write_bytes(change(V2))
    assert read_prototxt(tmp_path / "deploy.prototxt") == parse_prototxt(V2)


def test_a_prototxt_that_is_not_text(tmp_path):
    for data in (bytes(range(256)), V2.encode("utf-16")):
        (tmp_path / "x.prototxt").write_bytes(data)
        rejected(lambda: read_prototxt(tmp_path / "x.prototxt"), "x.prototxt: not a prototxt: it is not text")


def test_missing_and_empty_files(files, tmp_path):
    prototxt, weights = files()
    rejected(lambda: read_prototxt(tmp_path / "no.prototxt"), "no.prototxt", "No such file")
    rejected(lambda: read_caffemodel(tmp_path / "no.caffemodel"), "no.caffemodel", "No such file")
    rejected(lambda: read_prototxt(tmp_path), "Is a directory")
    rejected(lambda: read_caffemodel(tmp_path), "Is a directory")
    rejected(lambda: convert.to_onnx(*files("")), "deploy.prototxt", "no layer")
    rejected(lambda: convert.to_onnx(*files(V2, b"")), "net.caffemodel", "not a caffemodel")
    files()
    rejected(lambda: convert.to_onnx(weights, weights), "net.caffemodel", "not a prototxt")
    rejected(lambda: convert.to_onnx(prototxt, prototxt), "deploy.prototxt", "not a caffemodel")


@pytest.mark.parametrize("data", [b"\x89PNG\r\n\x1a\n" + bytes(100), b"<html><title>404 Not Found</title></html>",
                                  bytes(range(256)), b"\x00" * 1000, b"PK\x03\x04" + bytes(200)])
def test_other_files_are_no_caffemodel(files, data):
    rejected(lambda: convert.to_onnx(*files(V2, data)), "net.caffemodel", "not a caffemodel")


@pytest.mark.parametrize("generation", ["V2", "V1"])
def test_a_truncated_caffemodel(files, generation):
    whole = binary(generation)
    for length in (*range(1, len(whole) - 1, 37), len(whole) - 1):
        prototxt, weights = files(V2, whole[:length])
        rejected(lambda: convert.to_onnx(prototxt, weights), "net.caffemodel")


@pytest.mark.parametrize("arrays, parts", [
    ({"conv": []}, ["'conv' (Convolution)", "(4, 3, 3, 3)", "has none"]),
    ({"conv": [W]}, ["'conv'", "a bias", "(4,)", "has 1 blob"]),
    ({"conv": [W[:, :2], B]}, ["'conv'", "(4, 3, 3, 3)", "(4, 2, 3, 3)"]),
    ({"conv": [W, B[:3]]}, ["'conv'", "(4,)", "(3,)"]),
    ({"fc": [FC.T]}, ["'fc' (InnerProduct)", "(5, 16)", "(16, 5)"]),
    ({"conv": [W * np.float32("nan"), B]}, ["'conv'", "NaN"]),
    ({"fc": [np.where(FC == FC.max(), np.inf, FC)]}, ["'fc'", "not finite"]),
])
def test_missing_misshapen_and_nan_weights(files, arrays, parts):
    rejected(lambda: convert.to_onnx(*files(V2, binary(arrays=arrays))), "net.caffemodel", *parts)


def test_a_blob_with_too_few_numbers(files):
    file = pb.NetParameter.FromString(binary())
    del file.layer[1].blobs[0].data[5:]
    rejected(lambda: convert.to_onnx(*files(V2, file.SerializeToString())), "net.caffemodel", "'conv'", "5 numbers",
         "(4, 3, 3, 3)")


def test_a_net_without_weights(files):
    file = pb.NetParameter.FromString(binary())
    for layer in file.layer:
        del layer.blobs[:]
    rejected(lambda: convert.to_onnx(*files(V2, file.SerializeToString())), "net.caffemodel", "weights")
