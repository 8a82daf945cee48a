"""Small Caffe nets for the tests: functions that write prototxt text, weights by formula, ways to run the graphs."""
import zlib

import numpy as np
import onnx
import onnxruntime as ort
import scipy.special
from deepdream.convert.caffe import caffe_pb2 as pb
from deepdream.convert.caffe.forward import convert_net
from deepdream.convert.caffe.reader import parse_prototxt
from deepdream.convert.graph.source import Source
from onnx import TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator
from onnx.reference.op_run import OpRun


def formula(layer, i, shape):
    """Return weight blob i of a layer: pseudo-random numbers that depend only on the layer's name, i and the shape.

    Caffe's answers in tests/data were computed with these weights.
    """
    rng = np.random.Generator(np.random.Philox(key=zlib.crc32(f"{layer}/{i}".encode())))
    if len(shape) > 1:
        return np.float32(rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:])))
    return np.float32(rng.uniform(-0.1, 0.1, shape))


# ---- prototxt text

def layer(name, kind, bottoms, tops, params=""):
    lines = [f'  bottom: "{b}"' for b in bottoms.split()] + [f'  top: "{t}"' for t in tops.split()]
    return "\n".join([f'layer {{ name: "{name}" type: "{kind}"', *lines, f"  {params} }}\n"])


def net(*layers, shape=(1, 3, 16, 16), name="data"):
    dims = " ".join(f"dim: {d}" for d in shape)
    return layer(name, "Input", "", name, f"input_param {{ shape {{ {dims} }} }}") + "".join(layers)


def conv(name, bottom, out, k=1, **fields):
    return layer(name, "Convolution", bottom, name,
                 f"convolution_param {{ num_output: {out} kernel_size: {k} {_fields(fields)}}}")


def relu(blob, name=None):
    return layer(name or f"relu_{blob}", "ReLU", blob, blob)


def pool(name, bottom, kind="MAX", k=3, s=2, **fields):
    return layer(name, "Pooling", bottom, name, f"pooling_param {{ pool: {kind} kernel_size: {k} stride: {s} "
                                                f"{_fields(fields)}}}")


def lrn(name, bottom):
    return layer(name, "LRN", bottom, name, "lrn_param { local_size: 5 alpha: 0.0001 beta: 0.75 }")


def concat(name, *bottoms):
    return layer(name, "Concat", " ".join(bottoms), name)


def product(name, bottom, out):
    return layer(name, "InnerProduct", bottom, name, f"inner_product_param {{ num_output: {out} }}")


def softmax(name, bottom):
    return layer(name, "Softmax", bottom, name)


def _fields(fields):
    return "".join(f"{k}: {v} " for k, v in fields.items())


TOY = net(conv("conv1", "data", 8, 3, pad=1, stride=2), relu("conv1"), pool("pool1", "conv1"),
          conv("left", "pool1", 6), relu("left"), conv("right", "pool1", 4, 3, pad=1), relu("right"),
          concat("both", "left", "right"), pool("pool2", "both", "AVE", 3, 1, pad=1), shape=(1, 3, 32, 32))


def googlenet(narrow=1):
    """Write GoogLeNet's deploy.prototxt. narrow: divide all numbers of channels by this (but to 8 at least)."""
    def step(name, bottom, act, out, k=1, **fields):
        return conv(name, bottom, max(8, out // narrow), k, **fields) + relu(name, act)

    text = [step("conv1/7x7_s2", "data", "conv1/relu_7x7", 64, 7, pad=3, stride=2),
            pool("pool1/3x3_s2", "conv1/7x7_s2"), lrn("pool1/norm1", "pool1/3x3_s2"),
            step("conv2/3x3_reduce", "pool1/norm1", "conv2/relu_3x3_reduce", 64),
            step("conv2/3x3", "conv2/3x3_reduce", "conv2/relu_3x3", 192, 3, pad=1),
            lrn("conv2/norm2", "conv2/3x3"), pool("pool2/3x3_s2", "conv2/norm2")]
    blocks = {"3a": (64, 96, 128, 16, 32, 32), "3b": (128, 128, 192, 32, 96, 64), "pool3": None,
              "4a": (192, 96, 208, 16, 48, 64), "4b": (160, 112, 224, 24, 64, 64), "4c": (128, 128, 256, 24, 64, 64),
              "4d": (112, 144, 288, 32, 64, 64), "4e": (256, 160, 320, 32, 128, 128), "pool4": None,
              "5a": (256, 160, 320, 32, 128, 128), "5b": (384, 192, 384, 48, 128, 128)}
    x = "pool2/3x3_s2"
    for block, channels in blocks.items():
        if channels is None:
            text.append(pool(f"{block}/3x3_s2", x))
            x = f"{block}/3x3_s2"
            continue
        p = f"inception_{block}/"
        one, reduce3, three, reduce5, five, proj = channels
        text += [step(p + "1x1", x, p + "relu_1x1", one),
                 step(p + "3x3_reduce", x, p + "relu_3x3_reduce", reduce3),
                 step(p + "3x3", p + "3x3_reduce", p + "relu_3x3", three, 3, pad=1),
                 step(p + "5x5_reduce", x, p + "relu_5x5_reduce", reduce5),
                 step(p + "5x5", p + "5x5_reduce", p + "relu_5x5", five, 5, pad=2),
                 pool(p + "pool", x, "MAX", 3, 1, pad=1),
                 step(p + "pool_proj", p + "pool", p + "relu_pool_proj", proj),
                 concat(p + "output", p + "1x1", p + "3x3", p + "5x5", p + "pool_proj")]
        x = p + "output"
    text += [pool("pool5/7x7_s1", x, "AVE", 7, 1),
             layer("pool5/drop_7x7_s1", "Dropout", "pool5/7x7_s1", "pool5/7x7_s1",
                   "dropout_param { dropout_ratio: 0.4 }"),
             product("loss3/classifier", "pool5/7x7_s1", 1000 // narrow), softmax("prob", "loss3/classifier")]
    return net(*text, shape=(10, 3, 224, 224))


# ---- weights

def weights(text, make, pixels=None):
    """Make the weights of a net: {layer: [arrays]}.

    text: the net's prototxt.
    make: a function (layer, i, shape) -> array.
    pixels: {name of an InnerProduct: height times width of its bottom}, where that is not 1.
    """
    channels, blobs = {}, {}
    for l in parse_prototxt(text).layer:
        if l.type == "Input":
            channels[l.top[0]] = l.input_param.shape[0].dim[1]
            continue
        size = channels[l.bottom[0]]
        shapes = []
        p = l.convolution_param
        kernel = [p.kernel_h, p.kernel_w] if p.HasField("kernel_h") else list(p.kernel_size) * 2
        if l.type == "Convolution":
            shapes = [(p.num_output, size // p.group, *kernel[:2])] + [(p.num_output,)] * p.bias_term
            size = p.num_output
        elif l.type == "Deconvolution":
            shapes = [(size, p.num_output // p.group, *kernel[:2])] + [(p.num_output,)] * p.bias_term
            size = p.num_output
        elif l.type == "InnerProduct":
            size, inner = l.inner_product_param.num_output, size * (pixels or {}).get(l.name, 1)
            shapes = [(size, inner), (size,)]
        elif l.type == "BatchNorm":
            shapes = [(size,), (size,), (1,)]
        elif l.type in ("Scale", "Bias"):
            shapes = [(size,)] * (1 + (l.type == "Scale" and l.scale_param.bias_term))
        elif l.type == "PReLU":
            shapes = [(size,)]
        elif l.type == "Concat" and l.concat_param.axis == 1:
            size = sum(channels[b] for b in l.bottom)
        if shapes:
            blobs[l.name] = [make(l.name, i, s) for i, s in enumerate(shapes)]
        channels.update({t: size for t in l.top})
        if l.type == "Slice":
            points = [0, *l.slice_param.slice_point, size]
            channels.update({t: b - a for t, a, b in zip(l.top, points, points[1:])})
    return blobs


def caffemodel(blobs, types=None):
    """Return the bytes of a caffemodel (generation V2). blobs: {layer: [arrays]}. types: {layer: type}."""
    file = pb.NetParameter(name="made by formula")
    for name, arrays in blobs.items():
        l = file.layer.add(name=name, type=(types or {}).get(name, "Convolution"))
        for array in arrays:
            blob = l.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(np.ravel(array).tolist())
    return file.SerializeToString()


def write_net(folder, text, make=formula, pixels=None):
    """Write deploy.prototxt and net.caffemodel into a folder. Returns the folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "deploy.prototxt").write_text(text)
    (folder / "net.caffemodel").write_bytes(caffemodel(weights(text, make, pixels)))
    return folder


# ---- running

def convert(text, blobs=None, surgery=False):
    """Convert a net's text to its forward graph. blobs: its weights; by default those of `formula`."""
    return convert_net(parse_prototxt(text), blobs if blobs is not None else weights(text, formula), surgery=surgery)


def ending_at(model, *ends):
    """Cut a net: only the nodes that lead to these tensors, which are its outputs."""
    graph = helper.make_graph(Source(model).leading_to(*ends), "cut", model.graph.input,
                              [helper.make_empty_tensor_value_info(e) for e in ends], model.graph.initializer)
    return helper.make_model(graph, opset_imports=model.opset_import, ir_version=model.ir_version)


def session(model, plain=False):
    """Make a session on the CPU. plain: without onnxruntime's optimizations, which take a second to find."""
    options = ort.SessionOptions()
    if plain:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    return ort.InferenceSession(model if isinstance(model, bytes) else model.SerializeToString(), options,
                                providers=["CPUExecutionProvider"])


def run(model, feeds, outputs=None):
    if isinstance(feeds, np.ndarray):
        feeds = {model.graph.input[0].name: feeds}
    return session(model).run(outputs, feeds)


def noise(*shape, seed=0):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def off(a, b):
    """Return the relative error |a - b| / |b|: L2 norms, in float64."""
    a, b = np.float64(a), np.float64(b)
    assert a.shape == b.shape, (a.shape, b.shape)
    return np.linalg.norm(a - b) / max(np.linalg.norm(b), 1e-30)


# ---- finite differences

class LRN(OpRun):
    """A correct LRN: ONNX's reference implementation loops over the batch where it should loop over the channels."""

    def _run(self, x, alpha=None, beta=None, bias=None, size=None):
        s = np.full_like(x, bias)
        for c in range(x.shape[1]):
            s[:, c] += alpha / size * (x[:, max(0, c - (size - 1) // 2):c + size // 2 + 1] ** 2).sum(1)
        return (x * s ** -beta,)


class Erf(OpRun):
    """Erf in float64: ONNX's reference implementation rounds to float32."""

    def _run(self, x):
        return (scipy.special.erf(x),)


class Gelu(OpRun):
    def _run(self, x, approximate=None):
        if approximate == "tanh":
            return (x * (1 + np.tanh((2 / np.pi) ** 0.5 * (x + 0.044715 * x ** 3))) / 2,)
        return (x * (1 + scipy.special.erf(x / 2 ** 0.5)) / 2,)


class GlobalMaxPool(OpRun):
    """A correct GlobalMaxPool: ONNX's reference implementation drops axes."""

    def _run(self, x):
        return (x.max(axis=tuple(range(2, x.ndim)), keepdims=True),)


class ConvTranspose(OpRun):
    """A correct ConvTranspose: ONNX's reference implementation is wrong for several groups."""

    def _run(self, x, w, b=None, auto_pad=None, dilations=None, group=None, kernel_shape=None, output_padding=None,
             output_shape=None, pads=None, strides=None):
        n = w.ndim - 2
        s, d = strides or [1] * n, dilations or [1] * n
        p, extra = pads or [0] * 2 * n, output_padding or [0] * n
        full = [s[i] * (x.shape[2 + i] - 1) + d[i] * (w.shape[2 + i] - 1) + 1 + extra[i] for i in range(n)]
        y = np.zeros((len(x), group * w.shape[1], *full), x.dtype)
        for tap in np.ndindex(*w.shape[2:]):
            at = tuple(slice(t * d[i], t * d[i] + s[i] * (x.shape[2 + i] - 1) + 1, s[i]) for i, t in enumerate(tap))
            for g in range(group):
                i = slice(g * len(w) // group, (g + 1) * len(w) // group)
                o = slice(g * w.shape[1], (g + 1) * w.shape[1])
                y[(slice(None), o, *at)] += np.einsum("ni...,io->no...", x[:, i], w[(i, slice(None), *tap)])
        y = y[(..., *(slice(p[i], full[i] - p[n + i]) for i in range(n)))]
        return (y if b is None else y + b.reshape(-1, *[1] * n),)


def doubled(model, end):
    """Return a function data -> end that runs the model in float64, by ONNX's reference implementation."""
    wide = onnx.ModelProto()
    wide.CopyFrom(model)
    for tensor in wide.graph.initializer:
        if tensor.data_type == TensorProto.FLOAT:
            tensor.CopyFrom(numpy_helper.from_array(np.float64(numpy_helper.to_array(tensor)), tensor.name))
    for info in [*wide.graph.input, *wide.graph.output, *wide.graph.value_info]:
        if info.type.tensor_type.elem_type == TensorProto.FLOAT:
            info.type.tensor_type.elem_type = TensorProto.DOUBLE
    for node in wide.graph.node:
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TensorProto.DOUBLE
    names = [i.name for i in wide.graph.input]
    evaluator = ReferenceEvaluator(wide, new_ops=[ConvTranspose, Erf, Gelu, GlobalMaxPool, LRN])
    return lambda data: evaluator.run([end], {names[0]: np.float64(data)})[0]


def check_gradient(forward, data, diff, gradient, directions=4, step=1e-5, tolerance=2e-5, seed=0):
    """Compare a gradient of sum(diff * forward(data)) with central differences, in random directions.

    forward: a function in float64.
    step: half the distance of the two points of a difference.
    tolerance: of the error relative to |direction| |gradient|.
    """
    rng = np.random.default_rng(seed)
    gradient, diff = np.float64(gradient), np.float64(diff)
    assert gradient.shape == data.shape and np.isfinite(gradient).all()
    assert np.linalg.norm(gradient) > 0
    for _ in range(directions):
        # The gradient's direction is added, so that the slope to compare is not a small number.
        direction = rng.standard_normal(data.shape)
        direction = direction / np.linalg.norm(direction) + gradient / np.linalg.norm(gradient)
        ahead, back = (np.vdot(diff, forward(data + s * step * direction)) for s in (1, -1))
        measured, slope = (ahead - back) / (2 * step), np.vdot(gradient, direction)
        bound = tolerance * np.linalg.norm(gradient) * np.linalg.norm(direction)
        assert abs(measured - slope) < bound, (measured, slope)
