"""The table of Caffe's layer types, `LAYERS`: one short entry for each type, which builds its ONNX nodes.

An entry is called as `entry(layer, *bottoms)`:

    layer: the `Layer` that is converted: its parameters, its weights, the nominal shapes of its bottoms.
    bottoms: Tensors, one for each bottom. The entry's signature declares how many it takes (see `bottoms_allowed`).

It returns the top, or a list of tops. A top is a Tensor if it has the shape of the first bottom, else a pair (Tensor,
nominal shape). *Nominal* shapes are those at the input size that the prototxt declares. The graph uses only channel
counts, numbers of axes and the sizes before an InnerProduct of them, so that it runs at other sizes too.
"""
from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from ..errors import ConvertError, shown
from ..graph import Graph, Tensor
from . import caffe_pb2 as pb

WINDOW = 65_535     # the maximum kernel, stride, pad, dilation
FLOAT = float(np.finfo(np.float32).max)


class Layer:
    """One layer that is converted.

    g: the graph to which its nodes are added.
    proto: its LayerParameter, with fields like `convolution_param`.
    name: its name.
    shape, shapes: the nominal shape of the first bottom (None without bottoms), and of all bottoms.
    tops: the number of tops.
    rank: the number of axes of the first bottom in Caffe; after net surgery, `shape` may have more.
    """

    def __init__(self, graph: Graph, proto: pb.LayerParameter, shapes: list[Sequence[int]], blobs: list[np.ndarray],
                 source: Sequence[str]):
        """blobs: the layer's weights. source: (name of the prototxt, name of the caffemodel), for error messages."""
        self.g, self.proto, self.name, self.shapes, self.tops = graph, proto, proto.name, shapes, len(proto.top)
        self.shape = shapes[0] if shapes else None
        self.rank = len(self.shape) if shapes else None
        self._blobs, self._source = blobs, source

    def error(self, message: str) -> ConvertError:
        """Return an error that names the file and the layer."""
        return ConvertError(f"{self._source[0]}: {self.title}: {message}")

    @property
    def title(self) -> str:
        """Its name and type, for messages."""
        return f"layer '{shown(self.name)}' ({shown(self.proto.type)})"

    def blob(self, i: int, shape: Sequence[int], what: str) -> np.ndarray:
        """Return a weight blob of the layer.

        i: its number.
        shape: the shape it must have, except for leading axes of size 1 (files before BlobShape have four axes).
        what: how messages call it.

        Raises ConvertError if it is missing or has another shape.
        """
        shape = tuple(int(d) for d in shape)
        if i >= len(self._blobs):
            have = f"has {len(self._blobs)} blob(s)" if self._blobs else "has none"
            raise ConvertError(f"{self.title} needs {what} of shape {shape}, {self._source[1]} {have} for it")
        blob = self._blobs[i]
        if _without_ones(blob.shape) != _without_ones(shape):
            raise ConvertError(f"{self.title} needs {what} of shape {shape}, {self._source[1]} has "
                               f"{tuple(blob.shape)}")
        return blob.reshape(shape)

    def constant(self, array: np.ndarray, what: str) -> Tensor:
        """Add a constant to the graph. what: the last part of its name, after that of the layer."""
        self.g.budget.check(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")

    def axis(self, axis: int) -> int:
        """Return the number of an axis of the first bottom, counted from the first one. Raises ConvertError."""
        if not -self.rank <= axis < self.rank:
            raise self.error(f"axis {axis} is out of range for a blob of {self.rank} axes")
        return axis % self.rank

    def spatial(self, message: Any, name: str, default: tuple[int, int] | None = None) -> tuple[int, int]:
        """Read a spatial parameter, which is written as `name_h` and `name_w`, once, or once for each axis.

        message: the layer's parameter message.
        name: 'kernel_size', 'stride', 'pad' or 'dilation'.
        default: its value if it is missing; None if it is required.

        Returns (h, w). Raises ConvertError if it is missing or out of range.
        """
        short = {"kernel_size": "kernel"}.get(name, name)
        if any(field in message.DESCRIPTOR.fields_by_name and message.HasField(field)
               for field in (f"{short}_h", f"{short}_w")):
            pair = getattr(message, f"{short}_h"), getattr(message, f"{short}_w")
        else:
            values = getattr(message, name)
            values = list(values) if not isinstance(values, int) else [values] if message.HasField(name) else []
            if len(values) > 2:
                raise self.error(f"{name} has {len(values)} values; only 2-D nets are supported")
            pair = tuple(values * 2 if len(values) == 1 else values) or default
        if pair is None:
            raise self.error(f"{name} is missing")
        minimum = 0 if name == "pad" else 1
        if len(pair) != 2 or min(pair) < minimum or max(pair) > WINDOW:
            raise self.error(f"{name} must be at least {minimum} and at most {WINDOW:,}, not {tuple(pair)}")
        return pair

    def need_4d(self) -> None:
        """Raise ConvertError unless the first bottom has four axes."""
        if self.rank != 4:
            raise self.error(f"needs a bottom of 4 axes (N, C, H, W), not {self.shape[:self.rank]}")


def _without_ones(shape):
    shape = list(shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return shape


# ---- convolution and pooling

def convolution(layer, x):
    layer.need_4d()
    p = layer.proto.convolution_param
    kernel, stride = layer.spatial(p, "kernel_size"), layer.spatial(p, "stride", (1, 1))
    pad = layer.spatial(p, "pad", (0, 0))
    dilation = layer.spatial(p, "dilation", (1, 1))
    n, channels, *size = layer.shape
    if p.group < 1 or channels % p.group or p.num_output % p.group:
        raise layer.error(f"group {p.group} does not divide {channels} channels and {p.num_output} outputs")
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    common = dict(kernel_shape=kernel, strides=stride, pads=(*pad, *pad), dilations=dilation, group=p.group)
    if layer.proto.type == "Deconvolution":   # weights (in, out / group, kh, kw), in ONNX too
        weights = layer.blob(0, (channels, p.num_output // p.group, *kernel), "weights")
        op, size = "ConvTranspose", [s * (h - 1) + e - 2 * q for h, s, e, q in zip(size, stride, extent, pad)]
    else:
        weights = layer.blob(0, (p.num_output, channels // p.group, *kernel), "weights")
        op, size = "Conv", [(h + 2 * q - e) // s + 1 for h, s, e, q in zip(size, stride, extent, pad)]
    bias = layer.constant(layer.blob(1, (p.num_output,), "a bias"), "bias") if p.bias_term else None
    return layer.g.op(op, x, layer.constant(weights, "weights"), bias, **common), (n, p.num_output, *size)


def pool_pads(kernel: Sequence[int], stride: Sequence[int], pad: Sequence[int]) -> tuple[int, ...]:
    """Return the padding (begin..., end...) with which rounding down gives the size of Caffe, which rounds up.

    Caffe (pooling_layer.cpp) has ceil((H + 2p - k) / s) + 1 windows, one less if the last one would start in the
    padding. That is floor((H + min(2p - k + s - 1, p - 1)) / s) + 1, hence an end padding of min(p + s - 1, k - 1).
    """
    return *pad, *(min(p + s - 1, k - 1) for k, s, p in zip(kernel, stride, pad))


def pooling(layer, x):
    layer.need_4d()
    p, g = layer.proto.pooling_param, layer.g
    n, channels, *size = layer.shape
    if p.pool == pb.PoolingParameter.STOCHASTIC:
        raise layer.error("STOCHASTIC pooling is not supported; MAX and AVE are")
    maximum = p.pool == pb.PoolingParameter.MAX
    if p.global_pooling:
        return g.op("GlobalMaxPool" if maximum else "GlobalAveragePool", x), (n, channels, 1, 1)
    kernel, stride = layer.spatial(p, "kernel_size"), layer.spatial(p, "stride", (1, 1))
    pad = layer.spatial(p, "pad", (0, 0))
    if any(q >= k for q, k in zip(pad, kernel)):
        raise layer.error(f"pad {pad} must be smaller than the kernel {kernel}")
    pads = (*pad, *pad) if p.round_mode == pb.PoolingParameter.FLOOR else pool_pads(kernel, stride, pad)
    size = [(h + b + e - k) // s + 1 for h, k, s, b, e in zip(size, kernel, stride, pads[:2], pads[2:])]
    y = (_max_pool if maximum else _ave_pool)(g, x, kernel, stride, pads)
    return y, (n, channels, *size)


def _max_pool(g, x, kernel, stride, pads):
    return g.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=pads)


def _ave_pool(g, x, kernel, stride, pads):
    """AVE divides by the size of the window inside the *padded* picture (Caffe: pooling_layer.cpp)."""
    pad, end = pads[:2], pads[2:]
    common = dict(kernel_shape=kernel, strides=stride)
    if pad == (0, 0):
        return g.op("AveragePool", x, pads=pads, **common)
    y = g.op("AveragePool", x, pads=pads, count_include_pad=1, **common)
    if end == pad:
        return y
    ones = g.op("Expand", 1.0, g.op("Concat", [1, 1], g.shape(x, start=2), axis=0))
    padded = g.op("Pad", ones, [0, 0, *pad, 0, 0, *pad], 1.0)
    share = g.op("AveragePool", padded, pads=(0, 0, *(e - p for e, p in zip(end, pad))), count_include_pad=1, **common)
    return y / share


def product_blobs(layer: Layer, axis: int) -> tuple[np.ndarray, Tensor | None]:
    """Return the weights and the bias of an InnerProduct.

    layer: the layer.
    axis: the first axis that it multiplies.

    Returns (weights, bias). The weights have the shape (outputs, inputs), or (inputs, outputs) if its parameter
    `transpose` is set. The bias is a Tensor, or None if it has none.
    """
    p = layer.proto.inner_product_param
    k, n = math.prod(layer.shape[axis:]), p.num_output
    weights = layer.blob(0, (k, n) if p.transpose else (n, k), "weights")
    return weights, layer.constant(layer.blob(1, (n,), "a bias"), "bias") if p.bias_term else None


def inner_product(layer, x):
    p = layer.proto.inner_product_param
    axis, n = layer.axis(p.axis), p.num_output
    weights, bias = product_blobs(layer, axis)
    if axis == 1:
        flat = x if len(layer.shape) == 2 else layer.g.op("Flatten", x, axis=1)
        y = layer.g.op("Gemm", flat, layer.constant(weights, "weights"), bias, transB=int(not p.transpose))
    else:
        flat = layer.g.op("Reshape", x, [0] * axis + [-1])
        y = layer.g.op("MatMul", flat, layer.constant(weights if p.transpose else weights.T, "weights"))
        y = y + bias if bias is not None else y
    return y, (*layer.shape[:axis], n)


# ---- normalization

def lrn(layer, x):
    p, g = layer.proto.lrn_param, layer.g
    if p.local_size % 2 == 0 or p.local_size > WINDOW:
        raise layer.error(f"local_size must be odd and not above {WINDOW:,}, not {p.local_size}")
    if p.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        return g.op("LRN", x, size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)
    # WITHIN_CHANNEL ignores k: lrn_layer.cpp in Caffe combines an AVE pooling and a Power layer with shift 1
    kernel, pad = (p.local_size,) * 2, (p.local_size // 2,) * 2
    mean = _ave_pool(g, x * x, kernel, (1, 1), pool_pads(kernel, (1, 1), pad))
    return x * (mean * p.alpha + 1.0) ** -p.beta


def batch_norm(layer, x):
    p, channels = layer.proto.batch_norm_param, (layer.shape[layer.axis(1)],)
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise layer.error("use_global_stats: false (statistics of the batch) is not supported")
    factor = float(layer.blob(2, (1,), "a moving-average factor")[0])
    factor = 0.0 if factor == 0 else 1 / factor
    if abs(factor) > FLOAT:
        raise layer.error(f"its moving-average factor, {1 / factor:g}, is too near to 0")
    mean, variance = (layer.blob(i, channels, what) * np.float32(factor)
                      for i, what in ((0, "a mean"), (1, "a variance")))
    return layer.g.op("BatchNormalization", x, np.ones(channels, np.float32), np.zeros(channels, np.float32),
                      layer.constant(mean, "mean"), layer.constant(variance, "variance"), epsilon=p.eps)


def _second_operand(layer, message, bottoms, what):
    """Return the second operand of Scale or Bias, shaped for broadcasting, and its original shape.

    It comes from a second bottom or, if there is none, from blob 0.
    """
    if len(bottoms) > 1:
        rank = len(layer.shapes[1])
        axis = layer.axis(message.axis) if rank else 0
        trailing = len(layer.shape) - axis - rank
        if trailing < 0 or any(a != b for a, b in zip(layer.shapes[1], layer.shape[axis:])):
            raise layer.error(f"a second bottom of shape {layer.shapes[1]} does not fit {layer.shape} from axis {axis}")
        if not trailing:
            return bottoms[1], layer.shapes[1]
        return layer.g.op("Unsqueeze", bottoms[1], list(range(rank, rank + trailing))), layer.shapes[1]
    axis = layer.axis(message.axis)
    end = layer.rank if message.num_axes == -1 else axis + message.num_axes
    if not axis <= end <= layer.rank:
        raise layer.error(f"num_axes {message.num_axes} from axis {axis} is out of range for a blob of "
                          f"{layer.rank} axes")
    shape = tuple(layer.shape[axis:end])
    array = layer.blob(0, shape, what).reshape(shape + (1,) * (len(layer.shape) - end))
    return layer.constant(array, what.split()[-1]), shape


def scale(layer, x, *factors):
    p = layer.proto.scale_param
    factor, shape = _second_operand(layer, p, (x, *factors), "a scale")
    y = x * factor
    if p.bias_term:
        axis = layer.axis(p.axis)
        bias = layer.blob(0 if factors else 1, shape, "a bias")
        y = y + layer.constant(bias.reshape(shape + (1,) * (len(layer.shape) - axis - len(shape))), "bias")
    return y


def bias(layer, x, *offsets):
    return x + _second_operand(layer, layer.proto.bias_param, (x, *offsets), "a bias")[0]


# ---- elementwise

def relu(layer, x):
    slope = layer.proto.relu_param.negative_slope
    return layer.g.op("LeakyRelu", x, alpha=slope) if slope else layer.g.op("Relu", x)


def prelu(layer, x):
    n = 1 if layer.proto.prelu_param.channel_shared else layer.shape[layer.axis(1)]
    slope = layer.blob(0, (n,), "slopes").reshape((n,) + (1,) * (len(layer.shape) - 2))
    return layer.g.op("PRelu", x, layer.constant(slope, "slopes"))


def _affine(x, p):
    """shift + scale * x, without a scale of 1 or a shift of 0."""
    x = x * p.scale if p.scale != 1 else x
    return x + p.shift if p.shift != 0 else x


def power(layer, x):
    p = layer.proto.power_param
    y = _affine(x, p)
    return y if p.power == 1 else y * y if p.power == 2 else y ** p.power


def exp(layer, x):
    p = layer.proto.exp_param
    y = _affine(x, p)
    return layer.g.op("Exp", y if p.base == -1 else y * _log_of_base(layer, p))


def log(layer, x):
    p = layer.proto.log_param
    if p.base == 1:
        raise layer.error("base must not be 1, for which there is no logarithm")
    y = layer.g.op("Log", _affine(x, p))
    return y if p.base == -1 else y / _log_of_base(layer, p)


def _log_of_base(layer, p):
    if not 0 < p.base < math.inf:
        raise layer.error(f"base must be above 0, or -1 for e, not {p.base:g}")
    return math.log(p.base)


def eltwise(layer, *xs):
    p, g = layer.proto.eltwise_param, layer.g
    if p.coeff and len(p.coeff) != len(xs):
        raise layer.error(f"{len(p.coeff)} coefficients for {len(xs)} bottoms")
    if any(tuple(s) != tuple(layer.shape) for s in layer.shapes):
        raise layer.error("bottoms of different shapes: " + ", ".join(map(str, map(tuple, layer.shapes))))
    y = xs[0]
    if p.operation == pb.EltwiseParameter.SUM:
        terms = [x if k == 1 else x * k for x, k in zip(xs, p.coeff or [1] * len(xs))]
        return g.sum(terms)
    for i, x in enumerate(xs[1:]):
        if p.operation == pb.EltwiseParameter.PROD:
            y = y * x
        else:   # the gradient of a tie goes to the second operand, which must be the one that Caffe chooses
            y = g.op("Max", y, x) if i == 0 else g.op("Max", x, y)
    return y


# ---- shapes

def concat(layer, *xs):
    p = layer.proto.concat_param
    axis = layer.axis(p.concat_dim if p.HasField("concat_dim") else p.axis)
    if any(len(s) != len(layer.shape) for s in layer.shapes):
        raise layer.error("bottoms of different numbers of axes: " + ", ".join(map(str, map(tuple, layer.shapes))))
    shape = list(layer.shape)
    shape[axis] = sum(s[axis] for s in layer.shapes)
    return layer.g.op("Concat", *xs, axis=axis), tuple(shape)


def slice_(layer, x):
    p = layer.proto.slice_param
    axis = layer.axis(p.slice_dim if p.HasField("slice_dim") else p.axis)
    total = layer.shape[axis]
    points = list(p.slice_point) or [total * i // layer.tops for i in range(1, layer.tops)]
    sizes = [b - a for a, b in zip([0, *points], [*points, total])]
    if len(sizes) != layer.tops or min(sizes) < 1 or (not p.slice_point and total % layer.tops):
        raise layer.error(f"cannot slice {total} into {layer.tops} tops at {points}")
    tops = layer.g.op("Split", x, sizes, axis=axis, outputs=layer.tops) if layer.tops > 1 else [x]
    return [(t, (*layer.shape[:axis], n, *layer.shape[axis + 1:])) for t, n in zip(tops, sizes)]


def flatten(layer, x):
    p = layer.proto.flatten_param
    axis, end = layer.axis(p.axis), layer.axis(p.end_axis)
    if axis > end:
        raise layer.error(f"axis {p.axis} must not be after end_axis {p.end_axis}")
    shape = (*layer.shape[:axis], math.prod(layer.shape[axis:end + 1]), *layer.shape[end + 1:])
    if end == len(layer.shape) - 1:
        return layer.g.op("Reshape", x, [0] * axis + [-1]), shape
    target = layer.g.op("Concat", [0] * axis + [-1], layer.g.shape(x, start=end + 1), axis=0)
    return layer.g.op("Reshape", x, target), shape


def reshape(layer, x):
    p = layer.proto.reshape_param
    rank, dims = len(layer.shape), list(p.shape.dim)
    start = p.axis if p.axis >= 0 else p.axis + rank + 1
    end = rank if p.num_axes == -1 else start + p.num_axes
    if not 0 <= start <= end <= rank or dims.count(-1) > 1 \
            or any(start + i >= rank for i, d in enumerate(dims) if d == 0):
        raise layer.error(f"cannot reshape {layer.shape} to {dims} from axis {p.axis}")
    shape = [*layer.shape[:start], *(layer.shape[start + i] if d == 0 else d for i, d in enumerate(dims)),
             *layer.shape[end:]]
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(layer.shape) // max(1, -math.prod(shape))
    if math.prod(shape) != math.prod(layer.shape):
        raise layer.error(f"cannot reshape {layer.shape} to {tuple(shape)}")
    target = [0] * start + dims   # a 0 copies the axis at the same place, in ONNX too
    if end == rank:
        return layer.g.op("Reshape", x, target), tuple(shape)
    return layer.g.op("Reshape", x, layer.g.op("Concat", target, layer.g.shape(x, start=end), axis=0)), tuple(shape)


def crop(layer, x, reference):
    p, g, rank = layer.proto.crop_param, layer.g, len(layer.shape)
    axis = layer.axis(p.axis)
    if len(layer.shapes[1]) != rank:
        raise layer.error(f"bottoms of different numbers of axes: {tuple(layer.shape)}, {tuple(layer.shapes[1])}")
    offsets = list(p.offset) or [0]
    offsets = offsets * (rank - axis) if len(offsets) == 1 else offsets
    if len(offsets) != rank - axis:
        raise layer.error(f"{len(offsets)} offsets for {rank - axis} axes")
    ends = g.op("Add", g.shape(reference, start=axis), offsets)
    return g.slice(x, range(axis, rank), offsets, ends), (*layer.shape[:axis], *layer.shapes[1][axis:])


def softmax(layer, x):
    return layer.g.op("Softmax", x, axis=layer.axis(layer.proto.softmax_param.axis))


def simple(op_type: str) -> Callable:
    """Make the entry of a layer type that is a single ONNX operator without parameters."""
    return lambda layer, x: layer.g.op(op_type, x)


LAYERS = {
    "AbsVal": simple("Abs"),
    "BNLL": simple("Softplus"),                                             # log(1 + exp(x))
    "BatchNorm": batch_norm,
    "Bias": bias,
    "Clip": lambda layer, x: layer.g.op("Clip", x, layer.proto.clip_param.min, layer.proto.clip_param.max),
    "Concat": concat,
    "Convolution": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "Dropout": lambda layer, x: x,                                          # the identity at inference
    "ELU": lambda layer, x: layer.g.op("Elu", x, alpha=layer.proto.elu_param.alpha),    # x or alpha (exp(x) - 1)
    "Eltwise": eltwise,
    "Exp": exp,                                                             # base ^ (shift + scale x)
    "Flatten": flatten,
    "InnerProduct": inner_product,
    "LRN": lrn,
    "Log": log,                                                             # log_base(shift + scale x)
    "PReLU": prelu,
    "Pooling": pooling,
    "Power": power,                                                         # (shift + scale x) ^ power
    "ReLU": relu,
    "Reshape": reshape,
    "Scale": scale,
    "Sigmoid": simple("Sigmoid"),
    "Slice": slice_,
    "Softmax": softmax,
    "Split": lambda layer, x: [x] * layer.tops,
    "Swish": lambda layer, x: x * layer.g.op("Sigmoid", x * layer.proto.swish_param.beta),
    "TanH": simple("Tanh"),
}


def bottoms_allowed(kind: str) -> tuple[int, float]:
    """Return the minimum and maximum number of bottoms of a layer type, as the signature of its entry declares.

    `entry(layer, x, reference)` takes two; `entry(layer, x, *factors)` and `entry(layer, *xs)` take one or more.
    """
    kinds = [p.kind for p in list(inspect.signature(LAYERS[kind]).parameters.values())[1:]]
    named = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (named, named) if len(kinds) == named else (max(named, 1), math.inf)


# layers that are inputs; the message that holds their crop size
DATA_LAYERS = {"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": None, "MemoryData":
               "memory_data_param", "DummyData": "dummy_data_param", "WindowData": "window_data_param"}
# layers that only training or testing needs: they are left out
DROPPED = {"Accuracy", "ContrastiveLoss", "EuclideanLoss", "HDF5Output", "HingeLoss", "InfogainLoss",
           "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "Silence", "SoftmaxWithLoss"}
SUPPORTED = sorted({"Input", *LAYERS})
