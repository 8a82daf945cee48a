"""Run an .onnx file with PyTorch in float64, with autograd: an independent answer for gradients at any tensor.

Needs torch. The table OPERATORS has an entry for each operator that exporters write for image classifiers.
"""
import numpy as np
import onnx
import torch
import torch.nn.functional as F
from onnx import helper, numpy_helper

TYPES = {onnx.TensorProto.FLOAT: torch.float64, onnx.TensorProto.DOUBLE: torch.float64,
         onnx.TensorProto.FLOAT16: torch.float64, onnx.TensorProto.INT64: torch.int64,
         onnx.TensorProto.INT32: torch.int32, onnx.TensorProto.BOOL: torch.bool, onnx.TensorProto.UINT8: torch.uint8}


def run(model, picture, signs=None, real=torch.float64):
    """Compute all tensors of a model. Returns ({name: tensor}, the picture as a tensor with a gradient).

    picture: (1, C, H, W), also for a model that takes (1, H, W, C).
    signs: {output of a Relu: where its input counts as above 0}, for what lies within rounding of the kink at 0.
    real: the type of the numbers; float32 shows how exact float32 can be.
    """
    x = torch.tensor(np.float64(picture), requires_grad=True)
    weights = {t.name: _tensor(t) for t in model.graph.initializer}
    first = next(i for i in model.graph.input if i.name not in weights)
    name, shape = first.name, [d.dim_value for d in first.type.tensor_type.shape.dim]
    channels_last = shape[3] in (1, 3) and shape[1] not in (1, 3)      # as Keras has it
    values = {**weights, name: x.permute(0, 2, 3, 1) if channels_last else x, "": None}
    if real != torch.float64:
        values.update((k, v.to(real)) for k, v in values.items() if v is not None and v.is_floating_point())
    for node in model.graph.node:
        attr = {a.name: helper.get_attribute_value(a) for a in node.attribute}
        if signs and node.op_type == "Relu" and node.output[0] in signs:
            values[node.output[0]] = values[node.input[0]] * torch.tensor(signs[node.output[0]])
            continue
        found = OPERATORS[node.op_type](attr, *(values[i] for i in node.input))
        found = found if isinstance(found, (tuple, list)) else [found]
        if real != torch.float64:
            found = [v.to(real) if v is not None and v.is_floating_point() else v for v in found]
        values.update((o, v) for o, v in zip(node.output, found))
    return values, x


def _tensor(proto):
    value = torch.tensor(np.array(numpy_helper.to_array(proto)))
    return value.double() if value.is_floating_point() else value


def _pairs(pads, n):
    """Return ONNX's pads as those of F.pad: the last axis first, before and after."""
    return [p for i in reversed(range(n)) for p in (pads[i], pads[n + i])]


def _ints(x):
    return [int(v) for v in x.reshape(-1)]


def _window(attr, x, kernel, value=0.0):
    """Return the padded input, and the stride and dilation of a window."""
    n = len(kernel)
    stride, dilation = attr.get("strides", [1] * n), attr.get("dilations", [1] * n)
    pads = list(attr.get("pads", [0] * 2 * n))
    auto = attr.get("auto_pad", b"NOTSET")
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        for i in range(n):
            size, reach = x.shape[2 + i], dilation[i] * (kernel[i] - 1) + 1
            total = max(0, (-(-size // stride[i]) - 1) * stride[i] + reach - size)
            pads[i], pads[n + i] = (total // 2, total - total // 2)[:: 1 if auto == b"SAME_UPPER" else -1]
    if attr.get("ceil_mode", 0):
        for i in range(n):
            size = x.shape[2 + i] + pads[i] + pads[n + i]
            reach = dilation[i] * (kernel[i] - 1) + 1
            count = -(-(size - reach) // stride[i]) + 1
            if (count - 1) * stride[i] >= x.shape[2 + i] + pads[i]:
                count -= 1
            pads[n + i] += max(0, (count - 1) * stride[i] + reach - size)
    return F.pad(x, _pairs(pads, n), value=value), stride, dilation


def conv(attr, x, w, b=None):
    x, stride, dilation = _window(attr, x, w.shape[2:])
    return (F.conv1d, F.conv2d, F.conv3d)[w.ndim - 3](x, w, b, stride, 0, dilation, attr.get("group", 1))


def max_pool(attr, x):
    padded, stride, dilation = _window(attr, x, attr["kernel_shape"], float("-inf"))
    return (F.max_pool1d, F.max_pool2d)[x.ndim - 3](padded, attr["kernel_shape"], stride, 0, dilation)


def average_pool(attr, x):
    pool = (F.avg_pool1d, F.avg_pool2d)[x.ndim - 3]
    padded, stride, _ = _window(attr, x, attr["kernel_shape"])
    ones = torch.ones_like(x[:1, :1])
    if attr.get("count_include_pad", 0):
        n = x.ndim - 2
        ones = F.pad(ones, _pairs(attr.get("pads", [0] * 2 * n), n), value=1.0)
        counted, _, _ = _window({**attr, "pads": [0] * 2 * n}, ones, attr["kernel_shape"])
    else:
        counted, _, _ = _window(attr, ones, attr["kernel_shape"])
    size = [min(a, b) for a, b in zip(padded.shape[2:], counted.shape[2:])]
    cut = (slice(None), slice(None), *(slice(0, s) for s in size))
    return pool(padded[cut], attr["kernel_shape"], stride) / pool(counted[cut], attr["kernel_shape"], stride)


def gemm(attr, a, b, c=None):
    a, b = a.T if attr.get("transA") else a, b.T if attr.get("transB") else b
    y = attr.get("alpha", 1.0) * (a @ b)
    return y if c is None else y + attr.get("beta", 1.0) * c


def reshape(attr, x, shape):
    return x.reshape([x.shape[i] if d == 0 and not attr.get("allowzero") else d for i, d in enumerate(_ints(shape))])


def slice_(attr, x, starts, ends, axes=None, steps=None):
    axes = range(len(starts)) if axes is None else _ints(axes)
    steps = [1] * len(starts) if steps is None else _ints(steps)
    for axis, start, end, step in zip(axes, _ints(starts), _ints(ends), steps):
        if step < 0:
            x, start, end, step = x.flip(axis), -1 - start, -1 - max(end, -x.shape[axis] - 1), -step
            start, end = start % x.shape[axis], end if end > 0 else end + x.shape[axis] + 1
        index = [slice(None)] * x.ndim
        index[axis] = slice(start, end, step)
        x = x[tuple(index)]
    return x


def split(attr, x, sizes=None):
    axis = attr.get("axis", 0)
    if sizes is None:
        return x.split(-(-x.shape[axis] // attr["num_outputs"]), axis)
    return x.split(_ints(sizes), axis)


def gather(attr, x, index):
    axis = attr.get("axis", 0) % x.ndim
    index = torch.where(index < 0, index + x.shape[axis], index).long()
    return x.index_select(axis, index.reshape(-1)).reshape([*x.shape[:axis], *index.shape, *x.shape[axis + 1:]])


def reduction(function):
    def run_(attr, x, axes=None):
        axes = attr.get("axes") or (_ints(axes) if axes is not None else list(range(x.ndim)))
        return function(x, axes, bool(attr.get("keepdims", 1)))
    return run_


def pad(attr, x, pads, value=None, axes=None):
    pads, n = _ints(pads), x.ndim
    if axes is not None:
        full = [0] * 2 * n
        for k, axis in enumerate(_ints(axes)):
            full[axis], full[n + axis] = pads[k], pads[len(pads) // 2 + k]
        pads = full
    mode = attr.get("mode", b"constant").decode()
    if mode != "constant":
        return F.pad(x, _pairs(pads, n)[:2 * (n - 2)], {"edge": "replicate"}.get(mode, mode))
    return F.pad(x, _pairs(pads, n), value=0.0 if value is None else float(value))


def resize(attr, x, roi=None, scales=None, sizes=None):
    mode, how = attr.get("mode", b"nearest").decode(), attr.get("coordinate_transformation_mode", b"half_pixel")
    size = _ints(sizes)[2:] if sizes is not None else [int(n * s) for n, s in zip(x.shape, scales.tolist())][2:]
    if mode == "nearest":
        return F.interpolate(x, size, mode="nearest")
    return F.interpolate(x, size, mode={"linear": "bilinear", "cubic": "bicubic"}[mode],
                         align_corners=how == b"align_corners")


def batch_norm(attr, x, w, b, m, v):
    """By its formula: PyTorch's own derivative is wrong for gradients that are not contiguous (2.13, CPU)."""
    w, b, m, v = (t.reshape(-1, *[1] * (x.ndim - 2)) for t in (w, b, m, v))
    return (x - m) / torch.sqrt(v + attr.get("epsilon", 1e-5)) * w + b


def layer_norm(attr, x, w, b=None):
    return F.layer_norm(x, x.shape[attr.get("axis", -1):], w, b, attr.get("epsilon", 1e-5))


def group_norm(attr, x, w, b):
    return F.group_norm(x, attr["num_groups"], w, b, attr.get("epsilon", 1e-5))


def constant(attr):
    (name, value), = attr.items()
    return _tensor(value) if name == "value" else torch.tensor(value, dtype=torch.float64 if "float" in name else None)


def constant_of_shape(attr, shape):
    return torch.full(_ints(shape), _tensor(attr["value"]).item() if "value" in attr else 0.0,
                      dtype=_tensor(attr["value"]).dtype if "value" in attr else torch.float64)


def hard_sigmoid(attr, x):
    return (attr.get("alpha", 0.2) * x + attr.get("beta", 0.5)).clamp(0, 1)


def expand(attr, x, shape):
    return x * torch.ones(_ints(shape), dtype=x.dtype) if x.dtype != torch.bool else x.expand(_ints(shape))


def shape_(attr, x):
    return torch.tensor(x.shape[attr.get("start", 0):attr.get("end")])


def div(attr, a, b):
    return a / b if a.is_floating_point() else torch.div(a, b, rounding_mode="trunc")


def scatter_nd(attr, x, index, updates):
    return x.index_put(tuple(index.long().unbind(-1)), updates)


def where(attr, c, a, b):
    return torch.where(c, a, b)


def attention(attr, q, k, v, mask=None):
    return F.scaled_dot_product_attention(q, k, v, mask, is_causal=bool(attr.get("is_causal", 0)),
                                          scale=attr.get("scale"))


def _simple(function):
    return lambda attr, *xs: function(*xs)


OPERATORS = {
    **{name: _simple(f) for name, f in {
        "Abs": torch.abs, "Add": torch.add, "And": torch.logical_and, "Ceil": torch.ceil, "Cos": torch.cos,
        "CumSum": lambda x, axis: x.cumsum(int(axis)),
        "Equal": torch.eq, "Erf": torch.erf, "Exp": torch.exp, "Floor": torch.floor, "Greater": torch.gt,
        "GreaterOrEqual": torch.ge, "HardSwish": F.hardswish, "Identity": lambda x: x, "Less": torch.lt,
        "LessOrEqual": torch.le, "Log": torch.log, "MatMul": torch.matmul, "Mish": F.mish, "Mul": torch.mul,
        "Neg": torch.neg, "Not": torch.logical_not, "Or": torch.logical_or, "Pow": torch.pow, "Relu": F.relu,
        "PRelu": lambda x, s: torch.where(x > 0, x, x * s), "Reciprocal": torch.reciprocal, "Round": torch.round,
        "Sigmoid": torch.sigmoid, "Sign": torch.sign, "Sin": torch.sin, "Softplus": F.softplus, "Sqrt": torch.sqrt,
        "Sub": torch.sub, "Tanh": torch.tanh, "Dropout": lambda x, *_: x,
        "Max": lambda *xs: xs[0] if len(xs) == 1 else torch.maximum(*xs),
        "Min": lambda *xs: xs[0] if len(xs) == 1 else torch.minimum(*xs),
        "Mod": torch.remainder, "Range": lambda a, b, c: torch.arange(a.item(), b.item(), c.item()),
        "Tile": lambda x, n: x.repeat(_ints(n)), "Sum": lambda *xs: sum(xs),
        "GlobalAveragePool": lambda x: x.mean(tuple(range(2, x.ndim)), keepdim=True),
        "GlobalMaxPool": lambda x: x.amax(tuple(range(2, x.ndim)), keepdim=True)}.items()},
    "Attention": attention, "AveragePool": average_pool,
    "BatchNormalization": batch_norm,
    "Cast": lambda a, x: x.to(TYPES[a["to"]]), "Clip": lambda a, x, low=None, high=None: x.clamp(low, high),
    "Concat": lambda a, *xs: torch.cat(xs, a["axis"]), "Constant": constant, "ConstantOfShape": constant_of_shape,
    "Conv": conv, "Div": div, "Einsum": lambda a, *xs: torch.einsum(a["equation"].decode(), *xs),
    "Elu": lambda a, x: F.elu(x, a.get("alpha", 1.0)), "Expand": expand,
    "Flatten": lambda a, x: x.reshape(int(np.prod(x.shape[:a.get("axis", 1)])), -1), "Gather": gather, "Gemm": gemm,
    "Gelu": lambda a, x: F.gelu(x, approximate=a.get("approximate", b"none").decode()),
    "GroupNormalization": group_norm, "HardSigmoid": hard_sigmoid,
    "InstanceNormalization": lambda a, x, w, b: F.instance_norm(x, weight=w, bias=b, eps=a.get("epsilon", 1e-5)),
    "LayerNormalization": layer_norm, "LeakyRelu": lambda a, x: F.leaky_relu(x, a.get("alpha", 0.01)),
    "LRN": lambda a, x: F.local_response_norm(x, a["size"], a["alpha"], a["beta"], a["bias"]),
    "MaxPool": max_pool, "Pad": pad,
    "ReduceL2": reduction(lambda x, a, k: x.norm(dim=a, keepdim=k)), "ReduceMax": reduction(torch.amax),
    "ReduceMean": reduction(torch.mean), "ReduceMin": reduction(torch.amin), "ReduceSum": reduction(torch.sum),
    "ReduceProd": reduction(lambda x, a, k: x.prod(a[0], keepdim=k)),
    "ReduceSumSquare": reduction(lambda x, a, k: (x * x).sum(a, k)),
    "Reshape": reshape, "Resize": resize, "ScatterND": scatter_nd, "Shape": shape_, "Slice": slice_,
    "Softmax": lambda a, x: torch.softmax(x, a.get("axis", -1)), "Split": split,
    "Squeeze": lambda a, x, axes=None: x.squeeze() if axes is None else x.squeeze(tuple(_ints(axes))),
    "Transpose": lambda a, x: x.permute(a.get("perm", list(range(x.ndim))[::-1])),
    "Trilu": lambda a, x, k=None: (torch.triu if a.get("upper", 1) else torch.tril)(x, int(k or 0)),
    "Unsqueeze": lambda a, x, axes: _unsqueezed(x, _ints(axes)), "Where": where,
}


def _unsqueezed(x, axes):
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x
