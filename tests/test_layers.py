"""Every entry of convert.caffe.layers.LAYERS, compared with a NumPy formula of what Caffe's layer computes."""
import math

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert import gradient_graph, valid_ends
from deepdream.convert.errors import ConvertError
from deepdream.convert.caffe.layers import LAYERS, pool_pads
from deepdream.convert.caffe.reader import parse_prototxt
from toys import layer, net

X = (2, 6, 7, 9)     # the shape of most bottoms
CASES = []


def case(kind, params, formula, *, shapes=(X,), blobs=(), tops=1, positive=False):
    """Add a layer to the cases.

    kind: its type.
    params: its parameter message, as prototxt text.
    formula: a function (*bottoms, *blobs) -> the top, or a list of tops.
    shapes: of the bottoms.
    tops: how many there are.
    positive: must the bottoms be positive?
    """
    CASES.append((f"{kind}-{sum(c[1] == kind for c in CASES)}", kind, params, formula, shapes, blobs, tops, positive))


def some(*shape, seed=1):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


# ---- what Caffe computes, in NumPy, float64

def convolve(x, w, b=None, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    n, c, h, wd = x.shape
    out, inner, kh, kw = w.shape
    padded = np.zeros((n, c, h + 2 * pad[0], wd + 2 * pad[1]))
    padded[:, :, pad[0]:pad[0] + h, pad[1]:pad[1] + wd] = x
    oh = (h + 2 * pad[0] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    ow = (wd + 2 * pad[1] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((n, out, oh, ow))
    for o in range(out):
        first = o // (out // group) * inner
        for i, j, c in np.ndindex(kh, kw, inner):
            y[:, o] += w[o, c, i, j] * padded[:, first + c, i * dilation[0]:i * dilation[0] + oh * stride[0]:stride[0],
                                              j * dilation[1]:j * dilation[1] + ow * stride[1]:stride[1]][:, :oh, :ow]
    return y if b is None else y + b[:, None, None]


def deconvolve(x, w, b=None, stride=(1, 1), pad=(0, 0), dilation=(1, 1), group=1):
    n, c, h, wd = x.shape
    _, outer, kh, kw = w.shape
    size = [s * (m - 1) + d * (k - 1) + 1 for s, m, d, k in zip(stride, (h, wd), dilation, (kh, kw))]
    y = np.zeros((n, outer * group, *size))
    for c_, o, i, j, u, v in np.ndindex(c, outer, h, wd, kh, kw):
        y[:, c_ // (c // group) * outer + o, i * stride[0] + u * dilation[0], j * stride[1] + v * dilation[1]] += \
            x[:, c_, i, j] * w[c_, o, u, v]
    y = y[:, :, pad[0]:size[0] - pad[0], pad[1]:size[1] - pad[1]]
    return y if b is None else y + b[:, None, None]


def pooled(size, kernel, stride, pad, up=True):
    n = math.ceil((size + 2 * pad - kernel) / stride) + 1 if up else (size + 2 * pad - kernel) // stride + 1
    return n - bool(pad and (n - 1) * stride >= size + pad)


def pooling(x, kind, kernel, stride=(1, 1), pad=(0, 0), up=True):
    size = x.shape[2:]
    out = [pooled(*a, up) for a in zip(size, kernel, stride, pad)]
    y = np.zeros((*x.shape[:2], *out))
    for o in np.ndindex(*out):
        start = [o[i] * stride[i] - pad[i] for i in range(2)]
        end = [min(start[i] + kernel[i], size[i] + pad[i]) for i in range(2)]     # AVE divides by this window
        area = math.prod(e - s for s, e in zip(start, end))
        part = x[:, :, max(start[0], 0):min(end[0], size[0]), max(start[1], 0):min(end[1], size[1])]
        y[(..., *o)] = part.max((2, 3)) if kind == "MAX" else part.sum((2, 3)) / area
    return y


def lrn_across(x, n, alpha, beta, k=1.0):
    s = np.stack([(x[:, max(0, c - n // 2):c + n // 2 + 1] ** 2).sum(1) for c in range(x.shape[1])], 1)
    return x * (k + alpha / n * s) ** -beta


def lrn_within(x, n, alpha, beta):
    return x * (1 + alpha * pooling(x ** 2, "AVE", (n, n), (1, 1), (n // 2, n // 2))) ** -beta


def softmax(x, axis=1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)


# ---- convolution
for params, w, how in [
        ("num_output: 4 kernel_size: 3", (4, 6, 3, 3), {}),
        ("num_output: 4 kernel_size: 3 pad: 1 stride: 2", (4, 6, 3, 3), dict(pad=(1, 1), stride=(2, 2))),
        ("num_output: 4 kernel_h: 2 kernel_w: 3 pad_h: 1 stride_h: 1 stride_w: 2", (4, 6, 2, 3),
         dict(pad=(1, 0), stride=(1, 2))),
        ("num_output: 4 kernel_size: 2 kernel_size: 3 stride: 2 stride: 1 pad: 0 pad: 2", (4, 6, 2, 3),
         dict(pad=(0, 2), stride=(2, 1))),
        ("num_output: 4 kernel_size: 3 group: 2", (4, 3, 3, 3), dict(group=2)),
        ("num_output: 12 kernel_size: 3 group: 6 pad: 1", (12, 1, 3, 3), dict(group=6, pad=(1, 1))),
        ("num_output: 4 kernel_size: 3 dilation: 2 pad: 2", (4, 6, 3, 3), dict(dilation=(2, 2), pad=(2, 2))),
        ("num_output: 2 kernel_size: 2 dilation: 3 dilation: 2 group: 2 stride: 2", (2, 3, 2, 2),
         dict(dilation=(3, 2), group=2, stride=(2, 2)))]:
    out = w[0]
    case("Convolution", f"convolution_param {{ {params} }}", lambda x, w, b, how=how: convolve(x, w, b, **how),
         blobs=[some(*w), some(out)])
    case("Convolution", f"convolution_param {{ {params} bias_term: false }}",
         lambda x, w, how=how: convolve(x, w, **how), blobs=[some(*w)])
for params, w, how in [
        ("num_output: 4 kernel_size: 3", (6, 4, 3, 3), {}),
        ("num_output: 4 kernel_size: 4 stride: 2 pad: 1", (6, 4, 4, 4), dict(pad=(1, 1), stride=(2, 2))),
        ("num_output: 6 kernel_size: 4 stride: 2 group: 6", (6, 1, 4, 4), dict(stride=(2, 2), group=6)),
        ("num_output: 4 kernel_h: 2 kernel_w: 3 stride_h: 3 stride_w: 1 pad_h: 0 pad_w: 2 group: 2", (6, 2, 2, 3),
         dict(stride=(3, 1), pad=(0, 2), group=2)),
        ("num_output: 2 kernel_size: 3 dilation: 2", (6, 2, 3, 3), dict(dilation=(2, 2)))]:
    out = w[1] * how.get("group", 1)
    case("Deconvolution", f"convolution_param {{ {params} }}", lambda x, w, b, how=how: deconvolve(x, w, b, **how),
         shapes=[(2, 6, 4, 3)], blobs=[some(*w), some(out)])
case("Deconvolution", "convolution_param { num_output: 6 kernel_size: 4 stride: 2 group: 6 bias_term: false }",
     lambda x, w: deconvolve(x, w, stride=(2, 2), group=6), shapes=[(1, 6, 4, 3)], blobs=[some(6, 1, 4, 4)])
case("InnerProduct", "inner_product_param { num_output: 5 }", lambda x, w, b: x.reshape(2, -1) @ w.T + b,
     blobs=[some(5, 378), some(5)])
case("InnerProduct", "inner_product_param { num_output: 5 bias_term: false transpose: true }",
     lambda x, w: x.reshape(2, -1) @ w, blobs=[some(378, 5)])
case("InnerProduct", "inner_product_param { num_output: 5 axis: 2 }", lambda x, w, b: x.reshape(2, 6, -1) @ w.T + b,
     blobs=[some(5, 63), some(5)])
case("InnerProduct", "inner_product_param { num_output: 5 axis: -1 transpose: true }", lambda x, w, b: x @ w + b,
     blobs=[some(9, 5), some(5)])
case("InnerProduct", "inner_product_param { num_output: 3 }", lambda x, w, b: x @ w.T + b, shapes=[(4, 8)],
     blobs=[some(3, 8), some(3)])

# ---- pooling (all sizes: see `sweep`)
for kind in ("MAX", "AVE"):
    case("Pooling", f"pooling_param {{ pool: {kind} kernel_size: 3 stride: 2 }}",
         lambda x, kind=kind: pooling(x, kind, (3, 3), (2, 2)))
    case("Pooling",
         f"pooling_param {{ pool: {kind} kernel_h: 2 kernel_w: 3 stride_h: 1 stride_w: 2 pad_h: 1 pad_w: 0 }}",
         lambda x, kind=kind: pooling(x, kind, (2, 3), (1, 2), (1, 0)))
    case("Pooling", f"pooling_param {{ pool: {kind} kernel_size: 3 stride: 2 pad: 1 round_mode: FLOOR }}",
         lambda x, kind=kind: pooling(x, kind, (3, 3), (2, 2), (1, 1), up=False))
    case("Pooling", f"pooling_param {{ pool: {kind} global_pooling: true }}",
         lambda x, kind=kind: (x.max if kind == "MAX" else x.mean)((2, 3), keepdims=True))
case("Pooling", "pooling_param { kernel_size: 2 }", lambda x: pooling(x, "MAX", (2, 2)))

# ---- normalization
case("LRN", "", lambda x: lrn_across(x, 5, 1, 0.75))
case("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 k: 2 }", lambda x: lrn_across(x, 3, 0.5, 0.6, 2))
case("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 3 alpha: 0.5 beta: 0.6 }",
     lambda x: lrn_within(x, 3, 0.5, 0.6))
case("LRN", "lrn_param { norm_region: WITHIN_CHANNEL local_size: 5 alpha: 2 k: 7 }",
     lambda x: lrn_within(x, 5, 2, 0.75))
for factor in (0.0, 1.0, 999.98):
    case("BatchNorm", "batch_norm_param { eps: 0.01 }",
         lambda x, m, v, f: (x - m[:, None, None] * (1 / f[0] if f[0] else 0))
         / np.sqrt(v[:, None, None] * (1 / f[0] if f[0] else 0) + 0.01),
         blobs=[some(6) * 100, np.abs(some(6, seed=2)) * 100, np.float32([factor])])
case("BatchNorm", "batch_norm_param { use_global_stats: true }",
     lambda x, m, v, f: (x - m[:, None, None]) / np.sqrt(v[:, None, None] + 1e-5),
     blobs=[some(6), np.abs(some(6, seed=2)) + 0.5, np.float32([1])])
case("Scale", "", lambda x, s: x * s[:, None, None], blobs=[some(6)])
case("Scale", "scale_param { bias_term: true }", lambda x, s, b: x * s[:, None, None] + b[:, None, None],
     blobs=[some(6), some(6, seed=2)])
case("Scale", "scale_param { axis: 2 num_axes: 2 bias_term: true }", lambda x, s, b: x * s + b,
     blobs=[some(7, 9), some(7, 9, seed=2)])
case("Scale", "scale_param { axis: -1 }", lambda x, s: x * s, blobs=[some(9)])
case("Scale", "scale_param { axis: 1 num_axes: -1 }", lambda x, s: x * s, blobs=[some(6, 7, 9)])
case("Scale", "scale_param { num_axes: 0 }", lambda x, s: x * s, blobs=[np.float32(1.5)])
case("Scale", "", lambda x, z: x * z[..., None], shapes=[X, (6, 7)])
case("Scale", "", lambda x, z: x * z[:, None, None], shapes=[X, (6,)])
case("Scale", "scale_param { axis: 0 }", lambda x, z: x * z[:, :, None, None], shapes=[X, (2, 6)])
case("Scale", "scale_param { axis: 0 bias_term: true }", lambda x, z, b: x * z + b, shapes=[X, X], blobs=[some(*X)])
case("Bias", "", lambda x, b: x + b[:, None, None], blobs=[some(6)])
case("Bias", "bias_param { axis: 2 }", lambda x, b: x + b[:, None], blobs=[some(7)])
case("Bias", "bias_param { axis: 0 }", lambda x, z: x + z[:, :, None, None], shapes=[X, (2, 6)])

# ---- elementwise
case("AbsVal", "", np.abs)
case("BNLL", "", lambda x: np.log1p(np.exp(x)))
case("Clip", "clip_param { min: -0.5 max: 0.25 }", lambda x: np.clip(x, -0.5, 0.25))
case("Dropout", "dropout_param { dropout_ratio: 0.9 }", lambda x: x)
case("ELU", "", lambda x: np.where(x > 0, x, np.expm1(x)))
case("ELU", "elu_param { alpha: 0.3 }", lambda x: np.where(x > 0, x, 0.3 * np.expm1(x)))
case("Exp", "", np.exp)
case("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }", lambda x: 2 ** (1 + 0.5 * x))
case("Log", "", np.log, positive=True)
case("Log", "log_param { base: 10 scale: 2 shift: 0.5 }", lambda x: np.log10(0.5 + 2 * x), positive=True)
case("PReLU", "", lambda x, s: np.where(x > 0, x, x * s[:, None, None]), blobs=[some(6)])
case("PReLU", "prelu_param { channel_shared: true }", lambda x, s: np.where(x > 0, x, x * s), blobs=[some(1)])
case("Power", "", lambda x: x)
case("Power", "power_param { power: 2 scale: 0.5 shift: 1 }", lambda x: (1 + 0.5 * x) ** 2)
case("Power", "power_param { power: 3 }", lambda x: x ** 3)
case("Power", "power_param { power: -0.75 shift: 1 }", lambda x: (1 + x) ** -0.75, positive=True)
case("Power", "power_param { scale: -2 }", lambda x: -2 * x)
case("ReLU", "", lambda x: np.maximum(x, 0))
case("ReLU", "relu_param { negative_slope: 0.55 }", lambda x: np.where(x > 0, x, 0.55 * x))
case("Sigmoid", "", lambda x: 1 / (1 + np.exp(-x)))
case("Swish", "", lambda x: x / (1 + np.exp(-x)))
case("Swish", "swish_param { beta: 1.7 }", lambda x: x / (1 + np.exp(-1.7 * x)))
case("TanH", "", np.tanh)
case("Eltwise", "", lambda *x: sum(x), shapes=[X, X, X])
case("Eltwise", "eltwise_param { operation: SUM coeff: 1 coeff: -0.5 coeff: 2 }", lambda a, b, c: a - b / 2 + 2 * c,
     shapes=[X, X, X])
case("Eltwise", "eltwise_param { operation: PROD }", lambda a, b, c: a * b * c, shapes=[X, X, X])
case("Eltwise", "eltwise_param { operation: MAX }", lambda a, b, c: np.maximum(np.maximum(a, b), c), shapes=[X, X, X])
case("Softmax", "", softmax)
case("Softmax", "softmax_param { axis: 2 }", lambda x: softmax(x, 2))
case("Softmax", "", softmax, shapes=[(3, 11)])

# ---- shapes
case("Concat", "", lambda a, b: np.concatenate([a, b], 1), shapes=[X, (2, 3, 7, 9)])
case("Concat", "concat_param { axis: 2 }", lambda a, b: np.concatenate([a, b], 2), shapes=[X, (2, 6, 4, 9)])
case("Concat", "concat_param { axis: -1 }", lambda a, b: np.concatenate([a, b], 3), shapes=[X, (2, 6, 7, 4)])
case("Concat", "concat_param { concat_dim: 1 }", lambda a: a)
case("Slice", "slice_param { slice_point: 1 slice_point: 4 }", lambda x: np.split(x, [1, 4], 1), tops=3)
case("Slice", "", lambda x: np.split(x, 3, 1), tops=3)
case("Slice", "slice_param { slice_dim: 1 slice_point: 2 }", lambda x: np.split(x, [2], 1), tops=2)
case("Slice", "slice_param { axis: 1 }", lambda x: [x], tops=1)
case("Split", "", lambda x: [x, x, x], tops=3)
case("Flatten", "", lambda x: x.reshape(2, -1))
case("Flatten", "flatten_param { axis: 1 end_axis: 2 }", lambda x: x.reshape(2, -1, 9))
case("Flatten", "flatten_param { axis: 2 }", lambda x: x.reshape(2, 6, -1))
case("Flatten", "flatten_param { axis: -2 end_axis: -1 }", lambda x: x.reshape(2, 6, -1))
for dims, axes, shape in [((0, 2, 3, 0, 9), "", None), ((0, -1), "", (2, 378)), ((0, 3, 2, -1), "", (2, 3, 2, 63)),
                          ((-1, 3), "axis: 1 num_axes: 1", (2, 2, 3, 7, 9)), ((0, 1, -1), "", (2, 1, 378)),
                          ((3, 2), "axis: 1 num_axes: 1", (2, 3, 2, 7, 9)),
                          ((1,), "axis: 2 num_axes: 0", (2, 6, 1, 7, 9)),
                          ((1,), "axis: -1 num_axes: 0", (2, 6, 7, 9, 1)), ((-1,), "axis: 2", (2, 6, 63)),
                          ((0, 0, 63), "", (2, 6, 63))]:
    if shape:
        case("Reshape", "reshape_param { shape { " + " ".join(f"dim: {d}" for d in dims) + f" }} {axes} }}",
             lambda x, shape=shape: x.reshape(shape))
case("Crop", "", lambda x, r: x[:, :, :4, :5], shapes=[X, (2, 6, 4, 5)])
case("Crop", "crop_param { offset: 2 }", lambda x, r: x[:, :, 2:6, 2:7], shapes=[X, (2, 6, 4, 5)])
case("Crop", "crop_param { axis: 1 offset: 1 offset: 0 offset: 3 }", lambda x, r: x[:, 1:4, 0:4, 3:8],
     shapes=[X, (2, 3, 4, 5)])
case("Crop", "crop_param { axis: -1 offset: 3 }", lambda x, r: x[..., 3:5], shapes=[X, (1, 1, 1, 2)])


def build(kind, params, shapes, blobs, tops):
    bottoms = [f"in{i}" for i in range(len(shapes))]
    inputs = "".join(layer(b, "Input", "", b, f"input_param {{ shape {{ {' '.join(f'dim: {d}' for d in s)} }} }}")
                     for b, s in zip(bottoms, shapes))
    text = inputs + layer("it", kind, " ".join(bottoms), " ".join(f"out{i}" for i in range(tops)), params)
    return toys.convert(text, {"it": list(blobs)})


def test_every_layer_has_a_case():
    assert {c[1] for c in CASES} == set(LAYERS)


@pytest.mark.parametrize("kind, params, formula, shapes, blobs, tops, positive", [c[1:] for c in CASES],
                         ids=[c[0] for c in CASES])
def test_layer(kind, params, formula, shapes, blobs, tops, positive):
    model = build(kind, params, shapes, blobs, tops)
    onnx.checker.check_model(model, full_check=True)
    assert [(o.domain, o.version) for o in model.opset_import] == [("", 17)]
    bottoms = [some(*s, seed=10 + i) for i, s in enumerate(shapes)]
    if positive:
        bottoms = [np.abs(b) + np.float32(0.1) for b in bottoms]
    names = [f"out{i}" for i in range(tops)]
    inputs = {x.name for x in model.graph.input}
    got = toys.run(model, {f"in{i}": b for i, b in enumerate(bottoms) if f"in{i}" in inputs}, names)
    expected = formula(*map(np.float64, bottoms), *map(np.float64, blobs))
    for mine, theirs in zip(got, expected if isinstance(expected, list) else [expected], strict=True):
        assert mine.dtype == np.float32
        assert toys.off(mine, theirs) < 2e-6


def sweep():
    """Yield all small windows (kernel, stride, pad) that Caffe allows: pad < kernel.

    The tests skip sizes for which Caffe's last window would be outside the picture, where it reads nothing. (That
    happens without pad, for a stride larger than the kernel.)
    """
    for kernel in (1, 2, 3, 5):
        for stride in (1, 2, 3, 4):
            for pad in range(kernel):
                yield kernel, stride, pad


@pytest.mark.parametrize("kernel, stride, pad", list(sweep()))
def test_pooling_has_caffes_sizes(kernel, stride, pad):
    _, _, *end = *([0] * 2), *pool_pads((kernel,), (stride,), (pad,))[1:]
    for size in range(max(1, kernel - 2 * pad), 40):
        n = pooled(size, kernel, stride, pad)
        if not pad and (n - 1) * stride >= size:
            continue
        assert (size + pad + end[0] - kernel) // stride + 1 == n, size


@pytest.mark.parametrize("kind", ["MAX", "AVE"])
@pytest.mark.parametrize("kernel, stride, pad", [k for k in sweep() if k[1] <= 3])
def test_pooling_has_caffes_values(kind, kernel, stride, pad):
    model = build("Pooling", f"pooling_param {{ pool: {kind} kernel_size: {kernel} stride: {stride} pad: {pad} }}",
                  [(1, 2, 12, 12)], [], 1)
    run = toys.session(model, plain=True)
    for size in ((7, 8), (9, 10), (11, 5)):
        if not pad and any((pooled(s, kernel, stride, 0) - 1) * stride >= s for s in size):
            continue
        x = some(1, 2, *size) - 2        # mostly negative, so that a MAX would show padding with zeros
        assert toys.off(run.run(None, {"in0": x})[0], pooling(np.float64(x), kind, (kernel,) * 2, (stride,) * 2,
                                                              (pad,) * 2)) < 2e-6


def test_old_shapes_of_blobs():
    """In old files the weights of an InnerProduct have the shape (1, 1, out, in), and a bias has (1, 1, 1, out)."""
    w, b = some(5, 378), some(5)
    new = build("InnerProduct", "inner_product_param { num_output: 5 }", [X], [w, b], 1)
    old = build("InnerProduct", "inner_product_param { num_output: 5 }", [X],
                [w.reshape(1, 1, 5, 378), b.reshape(1, 1, 1, 5)], 1)
    assert new.graph.initializer == old.graph.initializer


# ---- errors

@pytest.mark.parametrize("kind, params, shapes, blobs, message", [
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", [X], [],
     r"\(4, 6, 3, 3\), caffemodel has none"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", [X], [some(4, 5, 3, 3)],
     r"'it'.*\(4, 6, 3, 3\), caffemodel has \(4, 5, 3, 3\)"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", [X], [some(4, 6, 3, 3)],
     r"a bias of shape \(4,\), caffemodel has 1 blob"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 group: 4 }", [X], [], "group 4 does not divide"),
    ("Convolution", "convolution_param { num_output: 4 }", [X], [], "kernel_size is missing"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 kernel_size: 3 kernel_size: 3 }", [X], [],
     "only 2-D"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 0 }", [X], [],
     "stride must be at least 1"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 3 }", [(2, 6)], [], "4 axes"),
    ("Convolution", "convolution_param { num_output: 4 kernel_size: 9 }", [X], [some(4, 6, 9, 9), some(4)],
     "too small"),
    ("Pooling", "pooling_param { kernel_size: 2 pad: 2 }", [X], [], "pad .* smaller than the kernel"),
    ("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }", [X], [], "STOCHASTIC"),
    ("LRN", "lrn_param { local_size: 4 }", [X], [], "local_size must be odd"),
    ("BatchNorm", "batch_norm_param { use_global_stats: false }", [X], [], "use_global_stats"),
    ("Scale", "", [X, (2, 6)], [], "does not fit"),
    ("Eltwise", "", [X, (2, 6, 7, 8)], [], "different shapes"),
    ("Eltwise", "eltwise_param { coeff: 1 }", [X, X], [], "1 coefficients for 2 bottoms"),
    ("Slice", "slice_param { slice_point: 7 }", [X], [], "cannot slice"),
    ("Reshape", "reshape_param { shape { dim: 0 dim: 5 } }", [X], [], "cannot reshape"),
    ("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }", [X], [], "cannot reshape"),
    ("Softmax", "softmax_param { axis: 4 }", [X], [], "axis 4 is out of range"),
    ("Crop", "crop_param { axis: 2 offset: 1 offset: 1 offset: 1 }", [X, X], [], "3 offsets for 2 axes"),
    ("Crop", "", [X], [], "takes 2 bottoms, not 1"),
    ("ReLU", "", [X, X], [], "takes 1 bottom, not 2"),
])
def test_bad_parameters(kind, params, shapes, blobs, message):
    with pytest.raises(ConvertError, match=message) as caught:
        build(kind, params, shapes, blobs, 2 if kind == "Slice" else 1)
    assert "'it'" in str(caught.value) and kind in str(caught.value) and "\n" not in str(caught.value)


UNSUPPORTED = (net(toys.conv("a", "data", 4), layer("odd", "Wobble", "a", "odd"), toys.conv("after", "odd", 4),
                   toys.conv("b", "a", 4)))


def test_an_unsupported_layer_matters_only_for_ends_that_need_it():
    blobs = {n: [some(4, 3 if n == "a" else 4, 1, 1), some(4)] for n in ("a", "b", "after")}
    model = toys.convert(UNSUPPORTED, blobs)
    assert {"data", "a", "b"} == set(valid_ends(model))
    for end in ("odd", "after"):
        with pytest.raises(ConvertError, match=f"'odd' of type Wobble is not supported, and '{end}' needs it"):
            gradient_graph(model, end)


def test_training_layers_are_dropped():
    text = net(toys.conv("a", "data", 4)) + layer("loss", "SoftmaxWithLoss", "a label", "loss") + \
        layer("accuracy", "Accuracy", "a label", "accuracy") + layer("quiet", "Silence", "a", "")
    assert parse_prototxt(text).layer[2].type == "SoftmaxWithLoss"
    model = toys.convert(text, {"a": [some(4, 3, 1, 1), some(4)]})
    assert [o.name for o in model.graph.output] == ["a"]


def test_names_and_dynamic_axes():
    model = toys.convert(toys.TOY)
    dims = [d.dim_param or d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    assert dims == ["N", 3, "H", "W"]
    made = {o for n in model.graph.node for o in n.output}
    assert {"conv1", "relu_conv1", "pool1", "left", "right", "both", "pool2"} <= made
    run = toys.session(model)
    for n, h, w in ((1, 9, 12), (3, 32, 17)):
        assert run.run(None, {"data": toys.noise(n, 3, h, w)})[0].shape[:2] == (n, 10)
