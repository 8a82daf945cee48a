"""Caffe's layers as ONNX nodes: one short entry a layer type, in `LAYERS`.

An entry is called as `entry(c, x, *more)`: `c` is the layer (its parameters, its weights, the nominal shapes of its
bottoms), `x, *more` are the bottoms' Tensors. It returns the top, or a list of tops, each a Tensor or a pair
(Tensor, nominal shape) where the shape differs from the first bottom's. *Nominal* shapes are those at the input size
that the prototxt declares; nothing but the channel count and the size of an InnerProduct is taken from them.
"""
import inspect
import math

import numpy as np

from . import caffe_pb2 as pb
from ..errors import ConvertError, shown

WINDOW = 65_535     # the largest kernel, stride, pad, dilation
FLOAT = float(np.finfo(np.float32).max)


class Layer:
    """One layer during conversion: what its entry may ask for.

    p: its parameter message. shape, shapes: nominal shapes of the first bottom, of all. tops: how many tops.
    rank: how many axes Caffe's first bottom has; after net surgery that may be fewer than `shape` has.
    """

    def __init__(self, graph, layer, shapes, blobs, source):
        self.g, self.layer, self.name, self.shapes, self.tops = graph, layer, layer.name, shapes, len(layer.top)
        self.shape = shapes[0] if shapes else None
        self.rank = len(self.shape) if shapes else None
        self._blobs, self._source = blobs, source

    def error(self, message):
        return ConvertError(f"{self._source[0]}: {self.title}: {message}")

    @property
    def title(self):
        """What messages call it."""
        return f"layer '{shown(self.name)}' ({shown(self.layer.type)})"

    def blob(self, i, shape, what):
        """Weight blob i in the given shape; leading ones may be missing or too many, as in files before BlobShape."""
        shape = tuple(int(d) for d in shape)
        if i >= len(self._blobs):
            have = f"has {len(self._blobs)} blob(s)" if self._blobs else "has none"
            raise ConvertError(f"{self.title} needs {what} of shape {shape}, {self._source[1]} {have} for it")
        blob = self._blobs[i]
        if _without_ones(blob.shape) != _without_ones(shape):
            raise ConvertError(f"{self.title} needs {what} of shape {shape}, {self._source[1]} has "
                               f"{tuple(blob.shape)}")
        return blob.reshape(shape)

    def constant(self, array, what):
        self.g.room.check(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")

    def axis(self, axis):
        if not -self.rank <= axis < self.rank:
            raise self.error(f"axis {axis} is out of range for a blob of {self.rank} axes")
        return axis % self.rank

    def spatial(self, message, name, default=None):
        """(h, w) of a size that Caffe writes as `name_h`/`name_w`, once, or once for each axis."""
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
        least = 0 if name == "pad" else 1
        if len(pair) != 2 or min(pair) < least or max(pair) > WINDOW:
            raise self.error(f"{name} must be at least {least} and at most {WINDOW:,}, not {tuple(pair)}")
        return pair

    def need_4d(self):
        if self.rank != 4:
            raise self.error(f"needs a bottom of 4 axes (N, C, H, W), not {self.shape[:self.rank]}")


def _without_ones(shape):
    shape = list(shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return shape


# ---- convolution and pooling

def convolution(c, x):
    c.need_4d()
    p = c.layer.convolution_param
    kernel, stride = c.spatial(p, "kernel_size"), c.spatial(p, "stride", (1, 1))
    pad = c.spatial(p, "pad", (0, 0))
    dilation = c.spatial(p, "dilation", (1, 1))
    n, channels, *size = c.shape
    if p.group < 1 or channels % p.group or p.num_output % p.group:
        raise c.error(f"group {p.group} does not divide {channels} channels and {p.num_output} outputs")
    extent = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    common = dict(kernel_shape=kernel, strides=stride, pads=(*pad, *pad), dilations=dilation, group=p.group)
    if c.layer.type == "Deconvolution":   # weights (in, out / group, kh, kw) in both worlds
        weights = c.blob(0, (channels, p.num_output // p.group, *kernel), "weights")
        op, size = "ConvTranspose", [s * (h - 1) + e - 2 * q for h, s, e, q in zip(size, stride, extent, pad)]
    else:
        weights = c.blob(0, (p.num_output, channels // p.group, *kernel), "weights")
        op, size = "Conv", [(h + 2 * q - e) // s + 1 for h, s, e, q in zip(size, stride, extent, pad)]
    bias = c.constant(c.blob(1, (p.num_output,), "a bias"), "bias") if p.bias_term else None
    return c.g.op(op, x, c.constant(weights, "weights"), bias, **common), (n, p.num_output, *size)


def pool_pads(kernel, stride, pad):
    """Padding (begin..., end...) with which rounding down gives Caffe's size, which rounds up.

    Caffe (pooling_layer.cpp): ceil((H + 2p - k) / s) + 1 windows, less one if the last would start in the padding,
    that is floor((H + min(2p - k + s - 1, p - 1)) / s) + 1: an end padding of min(p + s - 1, k - 1).
    """
    return *pad, *(min(p + s - 1, k - 1) for k, s, p in zip(kernel, stride, pad))


def pooling(c, x):
    c.need_4d()
    p, g = c.layer.pooling_param, c.g
    n, channels, *size = c.shape
    if p.pool == pb.PoolingParameter.STOCHASTIC:
        raise c.error("STOCHASTIC pooling is not supported; MAX and AVE are")
    maximum = p.pool == pb.PoolingParameter.MAX
    if p.global_pooling:
        return g.op("GlobalMaxPool" if maximum else "GlobalAveragePool", x), (n, channels, 1, 1)
    kernel, stride = c.spatial(p, "kernel_size"), c.spatial(p, "stride", (1, 1))
    pad = c.spatial(p, "pad", (0, 0))
    if any(q >= k for q, k in zip(pad, kernel)):
        raise c.error(f"pad {pad} must be smaller than the kernel {kernel}")
    pads = (*pad, *pad) if p.round_mode == pb.PoolingParameter.FLOOR else pool_pads(kernel, stride, pad)
    size = [(h + b + e - k) // s + 1 for h, k, s, b, e in zip(size, kernel, stride, pads[:2], pads[2:])]
    y = (_max_pool if maximum else _ave_pool)(g, x, kernel, stride, pads)
    return y, (n, channels, *size)


def _max_pool(g, x, kernel, stride, pads):
    return g.op("MaxPool", x, kernel_shape=kernel, strides=stride, pads=pads)


def _ave_pool(g, x, kernel, stride, pads):
    """AVE divides by the part of the window inside the *padded* picture (Caffe: pooling_layer.cpp)."""
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


def product_blobs(c, axis):
    """An InnerProduct's weights, an array (outputs, inputs) or transposed as in the file, and its bias, a constant."""
    p = c.layer.inner_product_param
    k, n = math.prod(c.shape[axis:]), p.num_output
    weights = c.blob(0, (k, n) if p.transpose else (n, k), "weights")
    return weights, c.constant(c.blob(1, (n,), "a bias"), "bias") if p.bias_term else None


def inner_product(c, x):
    p = c.layer.inner_product_param
    axis, n = c.axis(p.axis), p.num_output
    weights, bias = product_blobs(c, axis)
    if axis == 1:
        flat = x if len(c.shape) == 2 else c.g.op("Flatten", x, axis=1)
        y = c.g.op("Gemm", flat, c.constant(weights, "weights"), bias, transB=int(not p.transpose))
    else:
        flat = c.g.op("Reshape", x, [0] * axis + [-1])
        y = c.g.op("MatMul", flat, c.constant(weights if p.transpose else weights.T, "weights"))
        y = y + bias if bias is not None else y
    return y, (*c.shape[:axis], n)


# ---- normalization

def lrn(c, x):
    p, g = c.layer.lrn_param, c.g
    if p.local_size % 2 == 0 or p.local_size > WINDOW:
        raise c.error(f"local_size must be odd and not above {WINDOW:,}, not {p.local_size}")
    if p.norm_region == pb.LRNParameter.ACROSS_CHANNELS:
        return g.op("LRN", x, size=p.local_size, alpha=p.alpha, beta=p.beta, bias=p.k)
    # WITHIN_CHANNEL ignores k (Caffe: lrn_layer.cpp builds it of an AVE pooling and a Power layer with shift 1)
    kernel, pad = (p.local_size,) * 2, (p.local_size // 2,) * 2
    mean = _ave_pool(g, x * x, kernel, (1, 1), pool_pads(kernel, (1, 1), pad))
    return x * (mean * p.alpha + 1.0) ** -p.beta


def batch_norm(c, x):
    p, channels = c.layer.batch_norm_param, (c.shape[c.axis(1)],)
    if p.HasField("use_global_stats") and not p.use_global_stats:
        raise c.error("use_global_stats: false (statistics of the batch) is not supported")
    factor = float(c.blob(2, (1,), "a moving-average factor")[0])
    factor = 0.0 if factor == 0 else 1 / factor
    if abs(factor) > FLOAT:
        raise c.error(f"its moving-average factor, {1 / factor:g}, is too near to 0")
    mean, variance = (c.blob(i, channels, what) * np.float32(factor) for i, what in ((0, "a mean"), (1, "a variance")))
    return c.g.op("BatchNormalization", x, np.ones(channels, np.float32), np.zeros(channels, np.float32),
                  c.constant(mean, "mean"), c.constant(variance, "variance"), epsilon=p.eps)


def _along(c, message, bottoms, what):
    """The second operand of Scale or Bias, from a blob or a bottom, shaped to broadcast; and its plain shape."""
    if len(bottoms) > 1:
        rank = len(c.shapes[1])
        axis = c.axis(message.axis) if rank else 0
        trailing = len(c.shape) - axis - rank
        if trailing < 0 or any(a != b for a, b in zip(c.shapes[1], c.shape[axis:])):
            raise c.error(f"a second bottom of shape {c.shapes[1]} does not fit {c.shape} from axis {axis}")
        if not trailing:
            return bottoms[1], c.shapes[1]
        return c.g.op("Unsqueeze", bottoms[1], list(range(rank, rank + trailing))), c.shapes[1]
    axis = c.axis(message.axis)
    end = c.rank if message.num_axes == -1 else axis + message.num_axes
    if not axis <= end <= c.rank:
        raise c.error(f"num_axes {message.num_axes} from axis {axis} is out of range for a blob of {c.rank} axes")
    shape = tuple(c.shape[axis:end])
    array = c.blob(0, shape, what).reshape(shape + (1,) * (len(c.shape) - end))
    return c.constant(array, what.split()[-1]), shape


def scale(c, x, *more):
    p = c.layer.scale_param
    factor, shape = _along(c, p, (x, *more), "a scale")
    y = x * factor
    if p.bias_term:
        axis = c.axis(p.axis)
        bias = c.blob(0 if more else 1, shape, "a bias")
        y = y + c.constant(bias.reshape(shape + (1,) * (len(c.shape) - axis - len(shape))), "bias")
    return y


def bias(c, x, *more):
    return x + _along(c, c.layer.bias_param, (x, *more), "a bias")[0]


# ---- elementwise

def relu(c, x):
    slope = c.layer.relu_param.negative_slope
    return c.g.op("LeakyRelu", x, alpha=slope) if slope else c.g.op("Relu", x)


def prelu(c, x):
    n = 1 if c.layer.prelu_param.channel_shared else c.shape[c.axis(1)]
    slope = c.blob(0, (n,), "slopes").reshape((n,) + (1,) * (len(c.shape) - 2))
    return c.g.op("PRelu", x, c.constant(slope, "slopes"))


def _affine(x, p):
    """shift + scale * x, without what changes nothing."""
    x = x * p.scale if p.scale != 1 else x
    return x + p.shift if p.shift != 0 else x


def power(c, x):
    p = c.layer.power_param
    y = _affine(x, p)
    return y if p.power == 1 else y * y if p.power == 2 else y ** p.power


def exp(c, x):
    p = c.layer.exp_param
    y = _affine(x, p)
    return c.g.op("Exp", y if p.base == -1 else y * _log_of_base(c, p))


def log(c, x):
    p = c.layer.log_param
    if p.base == 1:
        raise c.error("base must not be 1: there is no such logarithm")
    y = c.g.op("Log", _affine(x, p))
    return y if p.base == -1 else y / _log_of_base(c, p)


def _log_of_base(c, p):
    if not 0 < p.base < math.inf:
        raise c.error(f"base must be above 0, or -1 for e, not {p.base:g}")
    return math.log(p.base)


def eltwise(c, *xs):
    p, g = c.layer.eltwise_param, c.g
    if p.coeff and len(p.coeff) != len(xs):
        raise c.error(f"{len(p.coeff)} coefficients for {len(xs)} bottoms")
    if any(tuple(s) != tuple(c.shape) for s in c.shapes):
        raise c.error("bottoms of different shapes: " + ", ".join(map(str, map(tuple, c.shapes))))
    y = xs[0]
    if p.operation == pb.EltwiseParameter.SUM:
        terms = [x if k == 1 else x * k for x, k in zip(xs, p.coeff or [1] * len(xs))]
        return g.sum(terms)
    for i, x in enumerate(xs[1:]):
        if p.operation == pb.EltwiseParameter.PROD:
            y = y * x
        else:   # the operand that wins only if it is greater stands first: a tie goes where Caffe sends it
            y = g.op("Max", y, x) if i == 0 else g.op("Max", x, y)
    return y


# ---- shapes

def concat(c, *xs):
    p = c.layer.concat_param
    axis = c.axis(p.concat_dim if p.HasField("concat_dim") else p.axis)
    if any(len(s) != len(c.shape) for s in c.shapes):
        raise c.error("bottoms of different numbers of axes: " + ", ".join(map(str, map(tuple, c.shapes))))
    shape = list(c.shape)
    shape[axis] = sum(s[axis] for s in c.shapes)
    return c.g.op("Concat", *xs, axis=axis), tuple(shape)


def slice_(c, x):
    p = c.layer.slice_param
    axis = c.axis(p.slice_dim if p.HasField("slice_dim") else p.axis)
    total = c.shape[axis]
    points = list(p.slice_point) or [total * i // c.tops for i in range(1, c.tops)]
    sizes = [b - a for a, b in zip([0, *points], [*points, total])]
    if len(sizes) != c.tops or min(sizes) < 1 or (not p.slice_point and total % c.tops):
        raise c.error(f"cannot slice {total} into {c.tops} tops at {points}")
    tops = c.g.op("Split", x, sizes, axis=axis, outputs=c.tops) if c.tops > 1 else [x]
    return [(t, (*c.shape[:axis], n, *c.shape[axis + 1:])) for t, n in zip(tops, sizes)]


def flatten(c, x):
    p = c.layer.flatten_param
    axis, end = c.axis(p.axis), c.axis(p.end_axis)
    if axis > end:
        raise c.error(f"axis {p.axis} must not stand behind end_axis {p.end_axis}")
    shape = (*c.shape[:axis], math.prod(c.shape[axis:end + 1]), *c.shape[end + 1:])
    if end == len(c.shape) - 1:
        return c.g.op("Reshape", x, [0] * axis + [-1]), shape
    return c.g.op("Reshape", x, c.g.op("Concat", [0] * axis + [-1], c.g.shape(x, start=end + 1), axis=0)), shape


def reshape(c, x):
    p = c.layer.reshape_param
    rank, dims = len(c.shape), list(p.shape.dim)
    start = p.axis if p.axis >= 0 else p.axis + rank + 1
    end = rank if p.num_axes == -1 else start + p.num_axes
    if not 0 <= start <= end <= rank or dims.count(-1) > 1 \
            or any(start + i >= rank for i, d in enumerate(dims) if d == 0):
        raise c.error(f"cannot reshape {c.shape} to {dims} from axis {p.axis}")
    shape = [*c.shape[:start], *(c.shape[start + i] if d == 0 else d for i, d in enumerate(dims)), *c.shape[end:]]
    if -1 in shape:
        shape[shape.index(-1)] = math.prod(c.shape) // max(1, -math.prod(shape))
    if math.prod(shape) != math.prod(c.shape):
        raise c.error(f"cannot reshape {c.shape} to {tuple(shape)}")
    target = [0] * start + dims   # a 0 copies the axis in the same place, in both worlds
    if end == rank:
        return c.g.op("Reshape", x, target), tuple(shape)
    return c.g.op("Reshape", x, c.g.op("Concat", target, c.g.shape(x, start=end), axis=0)), tuple(shape)


def crop(c, x, reference):
    p, g, rank = c.layer.crop_param, c.g, len(c.shape)
    axis = c.axis(p.axis)
    if len(c.shapes[1]) != rank:
        raise c.error(f"bottoms of different numbers of axes: {tuple(c.shape)}, {tuple(c.shapes[1])}")
    offsets = list(p.offset) or [0]
    offsets = offsets * (rank - axis) if len(offsets) == 1 else offsets
    if len(offsets) != rank - axis:
        raise c.error(f"{len(offsets)} offsets for {rank - axis} axes")
    ends = g.op("Add", g.shape(reference, start=axis), offsets)
    return g.slice(x, range(axis, rank), offsets, ends), (*c.shape[:axis], *c.shapes[1][axis:])


def softmax(c, x):
    return c.g.op("Softmax", x, axis=c.axis(c.layer.softmax_param.axis))


def simple(op_type, **fixed):
    return lambda c, x: c.g.op(op_type, x, **fixed)


LAYERS = {
    "AbsVal": simple("Abs"),
    "BNLL": simple("Softplus"),                                             # log(1 + exp(x))
    "BatchNorm": batch_norm,
    "Bias": bias,
    "Clip": lambda c, x: c.g.op("Clip", x, c.layer.clip_param.min, c.layer.clip_param.max),
    "Concat": concat,
    "Convolution": convolution,
    "Crop": crop,
    "Deconvolution": convolution,
    "Dropout": lambda c, x: x,                                              # the identity when testing
    "ELU": lambda c, x: c.g.op("Elu", x, alpha=c.layer.elu_param.alpha),    # x or alpha (exp(x) - 1)
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
    "Split": lambda c, x: [x] * c.tops,
    "Swish": lambda c, x: x * c.g.op("Sigmoid", x * c.layer.swish_param.beta),
    "TanH": simple("Tanh"),
}



def bottoms_allowed(kind):
    """(the least number of bottoms that a layer of this type takes, the greatest), by its entry's arguments."""
    kinds = [p.kind for p in list(inspect.signature(LAYERS[kind]).parameters.values())[1:]]
    named = kinds.count(inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return (named, named) if len(kinds) == named else (max(named, 1), math.inf)


# layers that only feed training or testing: an input with a size of its own, or nothing at all
DATA_LAYERS = {"Data": "data_param", "ImageData": "image_data_param", "HDF5Data": None, "MemoryData":
               "memory_data_param", "DummyData": "dummy_data_param", "WindowData": "window_data_param"}
DROPPED = {"Accuracy", "ContrastiveLoss", "EuclideanLoss", "HDF5Output", "HingeLoss", "InfogainLoss",
           "MultinomialLogisticLoss", "SigmoidCrossEntropyLoss", "Silence", "SoftmaxWithLoss"}
SUPPORTED = sorted({"Input", *LAYERS})
