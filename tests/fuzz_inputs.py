"""The kinds of input that tests/test_fuzz.py damages: intact files, their mutations, and command lines that read them.

Everything is small, so that a command line takes a few milliseconds.
"""
import functools
import io
import os
import re
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, PngImagePlugin

import fuzz_mutations as mutate
import toys
from deepdream.convert.caffe import caffe_pb2 as pb

W, H = 40, 32                  # of all pictures
ORIENTATION, DESCRIPTION = 0x112, 0x10E      # tags of EXIF and TIFF
LARGEST = 9 << 20              # bytes of a file: the limits on time and memory hold for files below 10 MB
END = "one of the layers"      # in a command line: replaced by a layer of the intact net
OUT = "the dream"              # in a command line: replaced by the path of the dream among the intact files
FAST = ["--iter-n", "1", "--octave-n", "1", "--jitter", "2", "--threads", "1", "--device", "cpu"]
SEED = ["--seed", "1"]


# ---- the intact files

def picture(mode="RGB", seed=0):
    y, x = np.mgrid[:H, :W]
    noise = np.random.default_rng(seed).integers(0, 60, (H, W))
    image = Image.fromarray(np.uint8(np.dstack([4 * x + noise, 6 * y + noise, 127 + 2 * x - 2 * y + noise])))
    return image if mode == "RGB" else image.convert(mode)


def encoded(image, fmt, **options):
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()


def pictures():
    """Make small pictures of all formats and modes that can be read."""
    deep = Image.fromarray(np.uint16(np.arange(W * H).reshape(H, W) * 50))
    real = Image.fromarray(np.float32(np.arange(W * H).reshape(H, W) / 6))
    exif = Image.Exif()
    exif[ORIENTATION], exif[DESCRIPTION] = 6, "a sky"
    sky, other = picture(), picture(seed=1)
    return [
        encoded(sky, "PNG"),
        encoded(picture("P"), "PNG", transparency=3),
        encoded(picture("RGBA"), "PNG", exif=exif),
        encoded(deep, "PNG"),
        encoded(picture("1"), "PNG"),
        encoded(sky, "JPEG", exif=exif, comment=b"a sky"),
        encoded(picture("L"), "JPEG"),
        encoded(picture("CMYK"), "JPEG"),
        encoded(sky, "JPEG", progressive=True),
        encoded(sky, "WEBP", exif=exif),
        encoded(picture("RGBA"), "WEBP", lossless=True),
        encoded(sky, "WEBP", save_all=True, append_images=[other]),
        encoded(sky, "TIFF"),
        encoded(sky, "TIFF", compression="tiff_lzw"),
        encoded(sky, "TIFF", compression="jpeg"),
        encoded(deep, "TIFF"),
        encoded(real, "TIFF"),
        encoded(picture("P"), "GIF", save_all=True, append_images=[picture("P", 1)]),
        encoded(sky, "BMP"),
        encoded(sky, "PPM"),
        encoded(sky, "MPO", save_all=True, append_images=[other]),
    ]


CAT = encoded(picture(), "PNG")
LABELS = b"n01440764 tench, Tinca tinca\nred fox\n/a/abbey 0\nn01443537 goldfish\nfour\nfive\nsix\nseven\n"


def chain(*layers):
    """Write the text of layers (name, type, params), each of which reads the one before it, the first one `c`."""
    names = ["c", *(name for name, _, _ in layers)]
    return "".join(toys.layer(name, kind, below, name, params) for below, (name, kind, params) in zip(names, layers))


CLASSIFIER = toys.net(toys.conv("c", "data", 4, 3, pad=1, stride=2), toys.relu("c"), toys.pool("p", "c", "AVE", 16, 1),
                      toys.product("fc", "p", 8), toys.softmax("prob", "fc"), shape=(1, 3, H, H))
MIXED = toys.net(
    toys.conv("c", "data", 4, 3, group=1, dilation=2),
    chain(("bn", "BatchNorm", ""),
          ("scale", "Scale", "scale_param { bias_term: true axis: 1 }"),
          ("n", "LRN", "lrn_param { local_size: 3 }"),
          ("d", "Deconvolution", "convolution_param { num_output: 4 kernel_size: 2 stride: 2 }")),
    toys.layer("crop", "Crop", "d c", "crop", "crop_param { axis: 2 offset: 1 }"),
    toys.layer("sum", "Eltwise", "crop c", "sum", "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 }"),
    toys.layer("cut", "Slice", "sum", "a b", "slice_param { axis: 1 slice_point: 1 }"),
    toys.concat("back", "a", "b"),
    toys.layer("prelu", "PReLU", "back", "prelu"),
    toys.layer("power", "Power", "prelu", "power", "power_param { power: 2 scale: 0.5 shift: 1 }"),
    toys.layer("drop", "Dropout", "power", "power", "dropout_param { dropout_ratio: 0.4 }"),
    toys.layer("bias", "Bias", "power", "bias"), shape=(1, 3, 20, 20))
SMOOTH = toys.net(
    toys.conv("c", "data", 4, 3),
    chain(("elu", "ELU", "elu_param { alpha: 0.5 }"),
          ("exp", "Exp", "exp_param { base: 2 scale: 0.1 shift: 0.5 }"),
          ("log", "Log", "log_param { base: 10 shift: 2 }"),
          ("sigmoid", "Sigmoid", ""),
          ("tanh", "TanH", ""),
          ("bnll", "BNLL", ""),
          ("abs", "AbsVal", ""),
          ("swish", "Swish", "swish_param { beta: 2 }"),
          ("clip", "Clip", "clip_param { min: -1 max: 1 }"),
          ("split", "Split", ""),
          ("flat", "Flatten", "flatten_param { axis: 1 }"),
          ("shaped", "Reshape", "reshape_param { shape { dim: 0 dim: -1 dim: 2 dim: 2 } }")), shape=(1, 3, 10, 10))
V1 = """
input: "data" input_dim: 1 input_dim: 3 input_dim: 32 input_dim: 32
layers { name: "c" type: CONVOLUTION bottom: "data" top: "c" convolution_param { num_output: 4 kernel_size: 3 pad: 1 } }
layers { name: "r" type: RELU bottom: "c" top: "c" }
layers { name: "p" type: POOLING bottom: "c" top: "p" pooling_param { pool: MAX kernel_size: 3 stride: 2 } }
layers { name: "n" type: LRN bottom: "p" top: "n" lrn_param { local_size: 3 } }
"""
V0 = """
input: "data" input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }
layers { layer { name: "c" type: "conv" num_output: 4 kernelsize: 3 pad: 1 } bottom: "data" top: "c" }
layers { layer { name: "r" type: "relu" } bottom: "c" top: "c" }
layers { layer { name: "p" type: "pool" pool: AVE kernelsize: 2 stride: 1 } bottom: "c" top: "p" }
"""


def old_weights():
    """Return the weights for V1 and V0, as a caffemodel of generation V1."""
    weights = pb.NetParameter(name="old")
    c = weights.layers.add(name="c", type=pb.V1LayerParameter.CONVOLUTION)
    for i, shape in enumerate([(4, 3, 3, 3), (1, 1, 1, 4)]):
        blob = c.blobs.add(data=toys.formula("c", i, shape).ravel().tolist())
        blob.num, blob.channels, blob.height, blob.width = shape
    return weights.SerializeToString()


def in_folder(text, weights):
    return {"net/deploy.prototxt": text.encode(), "net/net.caffemodel": weights, "net/labels.txt": LABELS,
            "cat.png": CAT}


@functools.cache
def caffe_nets():
    def positive(layer, i, shape):      # since some are variances
        return np.abs(toys.formula(layer, i, shape))
    nets = [in_folder(text, toys.caffemodel(toys.weights(text, positive)))
            for text in (toys.TOY, CLASSIFIER, MIXED, SMOOTH)]
    return nets + [in_folder(text, old_weights()) for text in (V1, V0)]


def onnx_bytes(body, weights, shape=(1, 3, H, H), opset=17, output="y", functions=()):
    """Return the bytes of a model. body: its nodes in ONNX's text form, separated by `;`, from `x` to the output."""
    nodes = [onnx.parser.parse_node(line.strip()) for line in body.split(";")]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
                              [helper.make_tensor_value_info(output, TensorProto.FLOAT, None)],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()])
    imports = [helper.make_opsetid("", opset), *[helper.make_opsetid(f.domain, 1) for f in functions]]
    model = helper.make_model(graph, opset_imports=imports, ir_version=8, functions=functions)
    return model.SerializeToString()


def some(*shape):
    return toys.formula("onnx", len(shape), shape)


W4 = some(4, 3, 3, 3)      # of the first convolution
EACH = np.float32([1, 2, 3, 4])      # a number for each of its channels
MIDDLES = [   # operators to put between that convolution `c` and a ReLU, and the constants they need
    ("t = Clip(c, low, high)", {"low": np.float32(0), "high": np.float32(6)}),
    ("t = MaxPool<kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1>(c)", {}),
    ("t = AveragePool<kernel_shape=[2, 2], auto_pad=\"SAME_UPPER\">(c)", {}),
    ("t = LRN<size=3>(c)", {}),
    ("t = BatchNormalization(c, v, v, v, v)", {"v": EACH}),
    ("t = InstanceNormalization(c, v, v)", {"v": EACH}),
    ("t = ConvTranspose<strides=[2, 2], output_padding=[1, 1]>(c, k)", {"k": some(4, 4, 3, 3)}),
    ("t = Pad<mode=\"reflect\">(c, p)", {"p": np.array([0, 0, 1, 1, 0, 0, 1, 1])}),
    ("t = Resize<mode=\"nearest\">(c, e, f)", {"e": np.zeros(0, np.float32), "f": np.float32([1, 1, 2, 2])}),
    ("u = Transpose<perm=[0, 2, 3, 1]>(c); t = Transpose<perm=[0, 3, 1, 2]>(u)", {}),
    ("t = Slice(c, s, z, a)", {"s": np.array([1]), "z": np.array([9]), "a": np.array([2])}),
    ("t = Gather<axis=1>(c, i)", {"i": np.array([0, 2])}),
    ("t = Reshape(c, s)", {"s": np.array([0, 2, -1, 30])}),
    ("t = Expand(c, s)", {"s": np.array([1, 4, 1, 1])}),
    ("t = DepthToSpace<blocksize=2>(c)", {}),
    ("t = Where(b, c, o)", {"b": np.array([True]), "o": np.float32(1)}),
    ("t = PRelu(c, v)", {"v": EACH.reshape(4, 1, 1)}),
    ("t = Pow(c, o)", {"o": np.float32(2)}),
    ("t = Erf(c)", {}),
    ("t = HardSwish(c)", {}),
    ("t = HardSigmoid(c)", {}),
    ("t = Softmax<axis=1>(c)", {}),
    ("t = ReduceMean<axes=[2, 3], keepdims=1>(c)", {}),
    ("t = Einsum<equation=\"nchw->ncwh\">(c)", {}),
    ("u = QuantizeLinear(c, o, q); t = DequantizeLinear(u, o, q)", {"o": np.float32(0.1), "q": np.uint8(3)}),
    ("t = Split<axis=1>(c)", {}),
    ("u = Cast<to=10>(c); t = Cast<to=1>(u)", {}),
    ("u = Shape(c); m = ConstantOfShape(u); t = Add(c, m)", {}),
    ("t = If<then_branch = one () => (float[1, 4, 30, 30] i) {i = Identity(c)},"
     " else_branch = two () => (float[1, 4, 30, 30] j) {j = Neg(c)}>(b)", {"b": np.array(True)}),
]
SWISH = helper.make_function(
    "own", "Swish", ["a"], ["b"],
    [helper.make_node("Sigmoid", ["a"], ["s"]), helper.make_node("Mul", ["a", "s"], ["b"])],
    [helper.make_opsetid("", 17)])


@functools.cache
def onnx_models():
    """Return the files of small nets.

    The first one is a classifier. Of the others, one has its channels last, one a fixed size, one a function, one its
    weights in another file, and one was converted from Caffe's files.
    """
    nets = [onnx_bytes("c = Conv<pads=[1, 1, 1, 1], strides=[2, 2]>(x, w); r = Relu(c); g = GlobalAveragePool(r);"
                       "t = Flatten(g); y = Gemm<transB=1>(t, fw, fb); z = Softmax(y)",
                       {"w": W4, "fw": some(8, 4), "fb": some(8)}, ("n", 3, "h", "w"), output="z")]
    nets += [onnx_bytes(f"c = Conv(x, w); {middle}; r = Relu(t); y = Identity(r)", {"w": W4, **weights},
                        opset=(17, 17, 13, 15)[i % 4]) for i, (middle, weights) in enumerate(MIDDLES)]
    nets += [onnx_bytes("a = Transpose<perm=[0, 3, 1, 2]>(x); c = Conv(a, w); r = Relu(c);"
                        "l = Transpose<perm=[0, 2, 3, 1]>(r); m = ReduceMean<axes=[1, 2], keepdims=0>(l);"
                        "y = MatMul(m, fw)", {"w": W4, "fw": some(4, 8)}, ("batch", H, H, 3)),
             onnx_bytes("c = Conv(x, w); r = Relu(c); f = Reshape(r, s); y = Gemm(f, fw)",
                        {"w": W4, "s": np.array([1, -1]), "fw": some(4 * 30 * 30, 5)}),
             onnx_bytes("c = Conv(x, w); t = own.Swish(c); r = Relu(t); y = Identity(r)", {"w": W4}, functions=[SWISH]),
             onnx_outside(), onnx_converted()]
    return [{"net.onnx": data, "cat.png": CAT, "w.bin": W4.tobytes()} for data in nets]


def onnx_outside():
    """Return the bytes of a net whose weights are in w.bin."""
    model = onnx.load_from_string(onnx_bytes("c = Conv(x, w); r = Relu(c); y = Identity(r)", {"w": W4}))
    tensor = model.graph.initializer[0]
    tensor.ClearField("raw_data")
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", "w.bin"), ("offset", "0"), ("length", str(W4.nbytes))):
        tensor.external_data.add(key=key, value=value)
    return model.SerializeToString()


def onnx_converted():
    net = toys.parse_prototxt(CLASSIFIER)
    weights = toys.weights(CLASSIFIER, toys.formula)
    return toys.convert_net(net, weights, mean=(104, 116, 122)).SerializeToString()


NET_TOML = b"""title = "a net"
mean = [123.675, 116.28, 103.53]
scale = ["1/58", 0.01751, 0.01743]
channels = "rgb"
layout = "nchw"
input = "x"
labels = "labels.txt"
default_end = "r"

[ends]
low = ["c"]
middle = ["r"]
high = ["y"]
"""
CARD_TOML = b"""title = "a net"
source = "https://example.org/net"
licence = "MIT"
citation = "Someone, 2015"
mean = [104, 116.5, 122]
channel_swap = [2, 1, 0]
labels = "labels.txt"
default_end = "c"
class_pictures = { size = [40, 32], iter_n = 2 }
ends = { low = ["c"], middle = ["p", "prob"], high = ["fc"] }

[[files]]
name = "deploy.prototxt"
role = "prototxt"
size = 900
sha256 = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"

[[files]]
name = "net.caffemodel"
role = "caffemodel"
mirrors = ["https://example.org/net.caffemodel"]
unverified = true
reason = "nobody published one"
"""


def dreamt(*command, extra=None):
    """Run a command line on a picture and a small net. Returns all files, as {path: bytes}, and the `extra` ones."""
    from deepdream.cli import main
    with tempfile.TemporaryDirectory() as place:
        here = os.getcwd()
        lay_out(caffe_nets()[0] | {"photos/cat.png": CAT}, Path(place))
        os.chdir(place)
        try:
            assert main([*command, *FAST, *(SEED if command[0] != "gallery" else [])]) == 0
        finally:
            os.chdir(here)
        made = {str(p.relative_to(place)): p.read_bytes() for p in Path(place).rglob("*") if p.is_file()}
    return made | (extra or {})


def lay_out(files, place):
    """Write {path: bytes} into a folder."""
    for name, data in files.items():
        (place / name).parent.mkdir(parents=True, exist_ok=True)
        (place / name).write_bytes(data)


DREAM = ["dream", "cat.png", "--model", "net"]
FOLDER = ["dream", "photos", "-o", "out", "--model", "net"]
ZOOM = ["zoom", "cat.png", "-o", "out", "--model", "net"]
GALLERY = ["gallery", "cat.png", "-o", "out", "--models", "net", "--ends", "[bf]*"]
SETTINGS = [[],
            ["--size", "40x32", "--no-clip", "--end", "both[1,2]", "--tile", "1000"],
            ["--end", "both", "--end", "left:0.5", "--tv", "0.1", "--blur", "1", "--blur-every", "2", "--laplacian",
             "2", "--keep-colours"]]


def dreams():
    """Make dreams with different settings, as .png, .jpg, .webp and .tif."""
    return [dreamt(*DREAM, "-o", f"out.{suffix}", *options)
            for options in SETTINGS for suffix in ("png", "jpg", "webp", "tif")]


def folders():
    """Make a folder of two pictures, of which only the first has been dreamt."""
    return [dreamt(*FOLDER, extra={"photos/dog.png": CAT})]


def zooms():
    return [dreamt(*ZOOM, "--frames", "1")]


def zooms_without_state():
    return [{name: data for name, data in zoom.items() if name != "out/zoom.npz"} for zoom in zooms()]


def galleries():
    return [dreamt(*GALLERY)]


def settings_in(start, name):
    """Return the JSON with the settings that a picture among the files of `start` holds."""
    with Image.open(io.BytesIO(start[name])) as image:
        text = image.info.get("comment") or getattr(image, "text", {}).get("deepdream") \
            or image.getexif().get(DESCRIPTION)
    return text if isinstance(text, bytes) else text.encode()


def with_settings(start, name, text):
    """Return the bytes of a picture among the files of `start`, with other settings. text: any bytes."""
    with Image.open(io.BytesIO(start[name])) as image:
        image.load()
        fmt, latin = image.format, text.decode("latin-1")
        if fmt == "JPEG":
            return encoded(image, fmt, comment=text[:65000])
        if fmt == "PNG":
            info = PngImagePlugin.PngInfo()
            if len(text) % 2:
                info.add_itxt("deepdream", text.decode("utf-8", "replace"))
            else:
                info.add(b"tEXt", b"deepdream\0" + text)
            return encoded(image, fmt, pnginfo=info)
        exif = Image.Exif()
        exif[DESCRIPTION] = latin[:60000]
        return encoded(image, fmt, exif=exif)


# ---- what is done with them

@dataclass
class Kind:
    """A kind of input.

    starts: a function that makes the intact inputs: a list of {path: bytes}.
    target: the path of the file to mutate, or a function start -> path; None: mutate the command line.
    mutations: functions as in `fuzz_mutations`.
    commands: command lines (program, words), one of which is run.
    inside: (read, write), to mutate only a part of the file: read(start) returns its bytes, and write(start, bytes)
        the file with other ones.
    weight: its share of all inputs, in proportion to the other weights.
    """
    starts: object
    target: object
    mutations: list
    commands: list
    inside: tuple | None = None
    weight: float = 1
    made: list = field(default_factory=list)

    def start(self, i):
        """Return one of the intact inputs."""
        if not self.made:
            self.made = self.starts()
        return mutate.pick(self.made, i)

    def command(self, i, start):
        """Return one of the command lines, with its placeholders replaced."""
        program, words = mutate.pick(self.commands, i)
        if END in words:
            end = mutate.pick(layers(start, "net.onnx" in words), i // len(self.commands))
            words = [end if w == END else w for w in words]
        return program, [out_of(start) if w == OUT else w for w in words]

    def changed(self, start, words, moves):
        """Apply moves (how, where, what). Returns the mutated (files, words)."""
        if self.target is None:
            for how, where, what in moves:
                words = mutate.pick(self.mutations, how)(words, where, what)
            return start, words
        target = self.target(start) if callable(self.target) else self.target
        data = self.inside[0](start) if self.inside else start[target]
        for how, where, what in moves:
            data = mutate.pick(self.mutations, how)(data, where, what)
        data = data[:LARGEST]
        return start | {target: self.inside[1](start, data) if self.inside else data}, words


def layers(start, is_onnx):
    """List the names of the layers of a net."""
    if is_onnx:
        return [o for node in onnx.load_from_string(start["net.onnx"]).graph.node for o in node.output]
    return re.findall(r'top: "(.*?)"', start["net/deploy.prototxt"].decode())


def may_leave_files(words):
    """Return whether a command may write files and still end with exit code 2.

    Some do: those that go on after a failure, or keep what is finished, as `deepdream COMMAND --help` explains.
    """
    return words[:1] in (["gallery"], ["zoom"]) or "photos" in words


def deepdream(*words):
    return ["deepdream", [*words]]


def convert(*words):
    return ["convert", ["net/deploy.prototxt", "net/net.caffemodel", *words]]


def dreaming(model, *options, picture="cat.png"):
    return deepdream("dream", picture, "-o", "out.png", "--model", model, *options, *FAST, *SEED)


def dreaming_class(label, model, *options):
    return deepdream("class", label, "-o", "out.png", "--model", model, *options, *FAST, *SEED)


def listing(model, *options):
    return deepdream("layers", "--model", model, *options)


def enhancing(picture):
    return deepdream("enhance", picture, "-o", "out.png", "--model", "net", "--iter-n", "1", "--threads", "1",
                     "--device", "cpu")


CAFFE = [convert("-o", "out.onnx"), convert("--list"), convert("-o", "out.onnx", "--surgery"),
         convert("-o", "out.onnx", "--end", END), convert("-o", "out.onnx", "--end", END, "--mean", "1,2,3"),
         listing("net"), dreaming("net"), *[dreaming("net", "--end", END)] * 3,
         dreaming_class("1", "net", "--size", "40x40")]
ONNX = [listing("net.onnx"), dreaming("net.onnx"), *[dreaming("net.onnx", "--end", END)] * 2,
        dreaming("net.onnx", "--end", END, "--size", "32x32"), dreaming_class("1", "net.onnx", "--size", "32x32")]


@functools.cache
def classifiers():
    """Return a classifier as Caffe's files and one as .onnx, with a card, a .toml file and labels."""
    return [caffe_nets()[1] | onnx_models()[0] | {"net/card.toml": CARD_TOML, "net.toml": NET_TOML,
                                                  "labels.txt": LABELS}]


def settings_of(name):
    """Return `Kind.inside` for the settings in a picture. name: its path, or a function start -> path."""
    def path(start):
        return name if isinstance(name, str) else name(start)
    return lambda start: settings_in(start, path(start)), lambda start, text: with_settings(start, path(start), text)


def out_of(start):
    return next(path for path in start if path.startswith("out."))


def dream_of_gallery(start):
    return next(path for path in start if path.startswith("out/dreams/"))


# ---- the words of a command line

OPTIONS = ["--end", "--model", "--guide", "--settings", "--size", "--mean", "--scale", "--channels", "--layout",
           "--input", "--start", "--noise", "--tv", "--blur", "--laplacian", "--quality", "--step-size",
           "--octave-scale", "--log", "--plot", "--device", "-o", "--seed", "--jitter", "--output", "--surgery",
           "--list", "--labels", "--fetch", "--k", "--weight", "--prior", "--ends"]
WORDS = [*(t for t in mutate.TEXTS if "\0" not in t and t != "/"), "-1", "nan", "inf", "1e400", "9" * 5000, "1/0",
         "cat.png", "net", "net.onnx", "both", "class:", "class:" + "9" * 20, "both[0-65536]", "both[-1]",
         "both[1@nan,inf]", "both:1e999", "a:b:c", "=", "--end=--", "--model=~nobody/x", "40x32", "0x0", "٣x٣", "cpu",
         "cuda:" + "9" * 30, "1,2", "1,2,3,4,5", "1e-320", "no/such/folder/x.png", "out.xyz", "pipe", "/dev/full",
         "cat.png/x"]
ARGUMENTS = [dreaming("net"), dreaming("net.onnx"), listing("net.onnx"), dreaming_class("1", "net"),
             enhancing("cat.png"), deepdream(*GALLERY, *FAST), convert("-o", "out.onnx", "--end", "c")]
FIXED = {"--iter-n", "--octave-n", "--threads", "--size"}      # not mutated: larger numbers would only take longer


def _word(change):
    """Make a mutation of a list of words from a function (words, place, what). The command itself is not mutated."""
    def mutation(words, where, what):
        words = list(words)
        i = 1 + where % max(1, len(words) - 1)
        if i < len(words) and not FIXED & set(words[i - 1:i + 1]):
            change(words, i, what)
        return words
    return mutation


@_word
def odd_word(words, i, what):
    words[i] = mutate.pick(WORDS, what)


@_word
def option_and_word(words, i, what):
    words[i:i] = [mutate.pick(OPTIONS, what), mutate.pick(WORDS, what // 64)]


@_word
def option_with_word(words, i, what):
    words[i:i] = [f"{mutate.pick(OPTIONS, what)}={mutate.pick(WORDS, what // 64)}"]


@_word
def drop_word(words, i, what):
    del words[i]


# ---- the kinds

NET_KEYS = ["mean", "scale", "channels", "layout", "input", "labels", "default_end", "title", "ends"]
CARD_KEYS = ["mean", "channel_swap", "labels", "default_end", "class_pictures", "ends", "files", "size", "mirrors",
             "low", "name"]

KINDS = {
    "prototxt": Kind(
        caffe_nets, "net/deploy.prototxt", mutate.PROTOTXT * 2 + mutate.BYTES, CAFFE, weight=3),
    "caffemodel": Kind(
        caffe_nets, "net/net.caffemodel", mutate.protobuf(pb.NetParameter) * 2 + mutate.BYTES, CAFFE, weight=2),
    "onnx": Kind(
        onnx_models, "net.onnx", mutate.ONNX * 2 + mutate.BYTES, ONNX, weight=5),
    "net.toml": Kind(
        classifiers, "net.toml", [*mutate.TEXT * 2, *mutate.BYTES, mutate.words(NET_KEYS)],
        [*ONNX, listing("net.onnx", "--labels")]),
    "card.toml": Kind(
        classifiers, "net/card.toml", [*mutate.TEXT * 2, *mutate.BYTES, mutate.words(CARD_KEYS)],
        [listing("net"), listing("net", "--labels"), dreaming("net"), dreaming_class("1", "net"),
         deepdream(*GALLERY, *FAST)]),
    "labels": Kind(
        classifiers, "net/labels.txt", mutate.TEXT + mutate.BYTES * 2,
        [listing("net", "--labels"), dreaming("net", "--end", "class:red fox"), dreaming_class("goldfish", "net")]),
    "picture": Kind(
        lambda: [caffe_nets()[0] | {"cat.jpg": data} for data in pictures()], "cat.jpg",
        [*mutate.PIECES * 4, *mutate.BYTES * 3, mutate.huge_picture, mutate.spliced(pictures())],
        [dreaming("net", picture="cat.jpg"), dreaming("net", "--guide", "cat.jpg"),
         dreaming("net", "--settings", "cat.jpg"), enhancing("cat.jpg")], weight=3),
    "settings": Kind(
        dreams, out_of, mutate.JSON, [deepdream(*DREAM, "-o", "again.png", "--settings", OUT, *FAST)],
        inside=settings_of(out_of), weight=2),
    "folder": Kind(
        folders, "out/cat.png", mutate.JSON, [deepdream(*FOLDER, *FAST, *SEED), deepdream(*FOLDER, *FAST)],
        inside=settings_of("out/cat.png")),
    "folder's dreams": Kind(
        folders, "out/cat.png", mutate.PIECES * 2 + mutate.BYTES, [deepdream(*FOLDER, *FAST, *SEED)]),
    "folder's pictures": Kind(
        folders, "photos/dog.png", mutate.PIECES * 2 + mutate.BYTES, [deepdream(*FOLDER, *FAST, *SEED)]),
    "zoom": Kind(
        zooms, "out/zoom.npz", mutate.NPZ * 2 + mutate.BYTES,
        [deepdream(*ZOOM, "--frames", "2", *FAST), deepdream(*ZOOM, "--frames", "2", *FAST, *SEED),
         deepdream(*ZOOM, "--frames", "2", "--movie", "movie.webp", *FAST)], weight=2),
    "zoom's settings": Kind(
        zooms_without_state, "out/0000.jpg", mutate.JSON, [deepdream(*ZOOM, "--frames", "1", *FAST, *SEED)],
        inside=settings_of("out/0000.jpg")),
    "zoom's frames": Kind(
        zooms, "out/0000.jpg", mutate.PIECES + mutate.BYTES,
        [deepdream(*ZOOM, "--frames", "1", "--movie", "movie.webp", *FAST, *SEED)]),
    "gallery": Kind(
        galleries, dream_of_gallery, mutate.JSON, [deepdream(*GALLERY, *FAST)],
        inside=settings_of(dream_of_gallery), weight=0.5),
    "gallery.json": Kind(
        galleries, "out/gallery.json", mutate.JSON, [deepdream(*GALLERY, *FAST)], weight=0.3),
    "gallery's dreams": Kind(
        galleries, dream_of_gallery, mutate.PIECES + mutate.BYTES, [deepdream(*GALLERY, *FAST)], weight=0.3),
    "words": Kind(
        classifiers, None, [odd_word, option_and_word, option_with_word, drop_word], ARGUMENTS),
}
