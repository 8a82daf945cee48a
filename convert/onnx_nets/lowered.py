"""Rewrite operators whose form is newer than opset 17, or that have no derivative, as simpler ones."""
from __future__ import annotations

import math

import numpy as np
from onnx import TensorProto, helper

from ..graph.constants import computed

# operators with a shape or a list of axes as an input: the number of that input
SHAPED = {"ConstantOfShape": 0, "Expand": 1, "Reshape": 1, "Squeeze": 1, "Tile": 1, "Unsqueeze": 1}
# operators without a derivative that compute sizes, masks and tables, or unpack weights
SIZE_OPERATORS = {"And", "Ceil", "Constant", "ConstantOfShape", "DequantizeLinear", "Equal", "EyeLike", "Floor",
                  "Greater", "GreaterOrEqual", "Less", "LessOrEqual", "Mod", "Not", "OneHot", "Or", "Range", "Round",
                  "ScatterElements", "Shape", "Sign", "Size", "Trilu"}


# ---- operators to rewrite: their form is newer than opset 17, or has no derivative

def _drop(node, *names):
    """Remove attributes from a node."""
    kept = [a for a in node.attribute if a.name not in names]
    del node.attribute[:]
    node.attribute.extend(kept)


def _reduce(build, node, attr):
    """Write the axes as an attribute."""
    axes = build.value(node, 1)
    if axes is not None:
        node.attribute.append(helper.make_attribute("axes", [int(a) for a in axes]))
        del node.input[1:]
    elif attr.get("noop_with_empty_axes", 0):
        return build.graph.op("Identity", build.tensors(node)[0])
    _drop(node, "noop_with_empty_axes")


def _split(build, node, attr):
    """Replace a number of parts by their sizes, which opset 17 needs: all equal, the last one perhaps smaller."""
    parts, shape = attr.get("num_outputs"), build.declared(node.input[0])
    length = shape[attr.get("axis", 0)] if parts and shape else None
    if length:
        each = -(-length // parts)
        sizes = [min(each, length - i * each) for i in range(parts)]
        node.input[:] = [node.input[0], build.graph.constant(sizes).name]
    _drop(node, "num_outputs")


def _pad(build, node, attr):
    """Extend pads for some of the axes to all axes."""
    axes, pads = build.value(node, 3), build.value(node, 1)
    if axes is not None and pads is not None:
        full, n = np.zeros((2, len(build.declared(node.input[0]) or [0] * 4)), np.int64), len(axes)
        full[:, axes] = pads.reshape(2, n)
        node.input[1] = build.graph.constant(full.ravel()).name
        del node.input[3:]


def _resize(build, node, attr):
    if attr.get("antialias", 0):
        return _antialiased(build, node, attr)
    _without_axes(build, node, attr)


def _antialiased(build, node, attr):
    """Write a Resize that smooths, which opset 17 does not know, as a matrix for the rows and one for the columns.

    They are those of the declared size, so the net then takes pictures of this size only.
    """
    shape, result = build.declared(node.input[0]), build.declared(node.output[0])
    if not shape or not result or len(shape) != 4 or shape[:2] != result[:2] \
            or attr.get("keep_aspect_ratio_policy", b"stretch") != b"stretch":
        return None
    at = 3 if len(node.input) > 3 and node.input[3] else 2
    axes, wanted = attr.get("axes", [0, 1, 2, 3]), build.value(node, at)
    if wanted is None or len(wanted) != len(axes):
        return None
    y = build.tensors(node)[0]
    for axis in (2, 3):
        if axis in axes and shape[axis] != result[axis]:
            matrix = _matrix(build, node, shape[axis], result[axis], at, wanted[list(axes).index(axis)])
            y = build.graph.op("MatMul", matrix, y) if axis == 2 else build.graph.op("MatMul", y, matrix.T)
    return y


def _matrix(build, node, before, after, at, wanted):
    """Return what a Resize does to an axis as a matrix, (after, before): its result for the identity."""
    one = helper.make_node("Resize", ["x", "", *("" for _ in range(at - 2)), "sizes"], ["y"])
    one.attribute.extend(a for a in node.attribute if a.name != "axes")
    to = np.array([1, 1, after, before], np.int64) if at == 3 else np.float32([1, 1, wanted, 1])
    feeds = {"x": np.eye(before, dtype=np.float32)[None, None], "sizes": to}
    return computed(one, feeds, build.opsets, build.graph.budget)["y"][0, 0].astype(np.float32)


def _grid_sample(build, node, attr):
    """Use the names of the modes that opset 17 knows."""
    mode = {b"linear": "bilinear", b"cubic": "bicubic"}.get(attr.get("mode", b"linear"))
    if mode:
        _drop(node, "mode")
        node.attribute.append(helper.make_attribute("mode", mode))


def _without_axes(build, node, attr):
    axes, shape = attr.get("axes"), build.declared(node.input[0])
    at = 3 if len(node.input) > 3 and node.input[3] else 2
    given = build.value(node, at)
    if axes and shape and given is not None:      # opset 17 names factors or sizes for all axes
        full = np.array(shape, np.int64) if at == 3 else np.ones(len(shape), np.float32)
        full[list(axes)] = given
        node.input[at] = build.graph.constant(full).name
        _drop(node, "axes")
    _drop(node, *(k for k, default in (("antialias", 0), ("keep_aspect_ratio_policy", b"stretch"))
                  if attr.get(k, default) == default))


def _cast(build, node, attr):
    _drop(node, "saturate", "round_mode")


def _gelu(build, node, attr):
    x, g = build.tensors(node)[0], build.graph
    if attr.get("approximate", b"none") == b"tanh":
        return 0.5 * x * (1.0 + g.op("Tanh", math.sqrt(2 / math.pi) * (x + 0.044715 * x * x * x)))
    return 0.5 * x * (1.0 + g.op("Erf", x * math.sqrt(0.5)))


def _mish(build, node, attr):
    x = build.tensors(node)[0]
    return x * build.graph.op("Tanh", build.graph.op("Softplus", x))


def _window(build, node, attr):
    """Replace auto_pad and ceil_mode by pads, and drop the dilations of an AveragePool (opset 19) if all are 1."""
    if node.op_type == "AveragePool" and set(attr.get("dilations", [])) == {1}:
        _drop(node, "dilations")
    weights = build.value(node, 1)
    kernel = attr.get("kernel_shape") or (weights is not None and weights.shape[2:])
    if not kernel or len(kernel) != 2 or len(node.output) > 1:
        return
    stride, dilation = attr.get("strides", [1, 1]), attr.get("dilations", [1, 1])
    reach = [d * (k - 1) + 1 for k, d in zip(kernel, dilation)]
    auto, pads = attr.get("auto_pad", b"NOTSET"), attr.get("pads", [0] * 4)
    if auto in (b"SAME_UPPER", b"SAME_LOWER"):
        before = []
        for axis in range(2):      # TensorFlow: one window for each stride, the padding divided between both sides
            over = (build.side(node.input[0], axis) or 0) % stride[axis] or stride[axis]
            total = max(0, reach[axis] - over)
            before.append(total // 2 if auto == b"SAME_UPPER" else total - total // 2)
        pads = [*before, *(r - 1 - b for r, b in zip(reach, before))]
        _drop(node, "auto_pad", "pads", "ceil_mode")
    elif attr.get("ceil_mode", 0) and auto == b"NOTSET":
        if max(stride) > 1:
            # no window may start after the picture, and padding must not be counted as pixels
            if any(pads) or attr.get("count_include_pad", 0) or any(r < s for r, s in zip(reach, stride)):
                return
            pads = [0, 0, *(s - 1 for s in stride)]
        _drop(node, "pads", "ceil_mode")
    else:
        return
    node.attribute.append(helper.make_attribute("pads", list(pads)))


def _group_normalization(build, node, attr):
    """Write it as an InstanceNormalization of the groups. Up to opset 20, scale and bias are those of the groups."""
    x, scale, bias = build.tensors(node)
    g, shape = build.graph, build.declared(node.input[0])
    if shape is None:
        return None
    groups, ones = attr["num_groups"], [1] * (len(shape) - 2)
    n = g.op("InstanceNormalization", g.op("Reshape", x, [0, groups, -1]), np.ones(groups, np.float32),
             np.zeros(groups, np.float32), epsilon=attr.get("epsilon", 1e-5))
    n = g.op("Reshape", n, g.op("Shape", x))
    if build.opset < 21:
        each = shape[1] // groups
        scale, bias = (g.op("Reshape", g.op("Expand", g.op("Unsqueeze", v, [1]), [groups, each]), [-1])
                       for v in (scale, bias))
    return n * g.op("Reshape", scale, [1, -1, *ones]) + g.op("Reshape", bias, [1, -1, *ones])


def _rms_normalization(build, node, attr):
    """y = scale x / sqrt(mean(x^2) + epsilon), over the last axes."""
    (x, scale), shape = build.tensors(node), build.declared(node.input[0])
    if shape is None:
        return None
    axes = list(range(attr.get("axis", -1) % len(shape), len(shape)))
    squares = build.graph.op("ReduceMean", x * x, axes=axes)
    return x / build.graph.op("Sqrt", squares + attr.get("epsilon", 1e-5)) * scale


def _lp_normalization(build, node, attr):
    x, p = build.tensors(node)[0], attr.get("p", 2)
    return x / build.graph.op(f"ReduceL{p}", x, axes=[attr.get("axis", -1)])


def _mean_variance_normalization(build, node, attr):
    x, g, axes = build.tensors(node)[0], build.graph, list(attr.get("axes", [0, 2, 3]))
    centred = x - g.op("ReduceMean", x, axes=axes)
    return centred / (g.op("Sqrt", g.op("ReduceMean", centred * centred, axes=axes)) + 1e-9)


def _swish(build, node, attr):
    x = build.tensors(node)[0]
    return x * build.graph.op("Sigmoid", x * attr.get("alpha", 1.0))


def _attention(build, node, attr):
    """softmax(scale Q K^T + mask) V, head by head."""
    g, arms = build.graph, [*build.tensors(node), None, None, None]
    (q, k, v, mask), shapes = arms[:4], [build.declared(n) for n in node.input[:3]]
    if any(a is not None for a in arms[4:]) or len(node.output) > 1 or None in shapes \
            or attr.get("qk_matmul_output_mode", 0):
        return None      # with a cache, or unknown: it has no derivative
    heads = [attr.get("q_num_heads"), attr.get("kv_num_heads"), attr.get("kv_num_heads")]
    flat = len(shapes[0]) == 3
    if flat:
        size = shapes[0][2] // heads[0]
        q, k, v = (g.op("Transpose", g.op("Reshape", x, [0, 0, n, -1]), perm=[0, 2, 1, 3])
                   for x, n in zip((q, k, v), heads))
    else:
        heads, size = [s[1] for s in shapes], shapes[0][3]
    if heads[0] != heads[1]:      # a head of K and V for several of Q
        k, v = (g.op("Gather", x, np.repeat(np.arange(heads[1]), heads[0] // heads[1]), axis=1) for x in (k, v))
    scores = g.op("MatMul", q, g.op("Transpose", k, perm=[0, 1, 3, 2])) * float(attr.get("scale", size ** -0.5))
    if attr.get("softcap", 0.0):
        scores = attr["softcap"] * g.op("Tanh", scores / attr["softcap"])
    lowest = float(np.finfo(np.float32).min)
    if attr.get("is_causal", 0):
        rows, columns = shapes[0][-2], shapes[1][-2]
        scores = scores + np.float32(np.triu(np.full((rows, columns), lowest), 1))
    if mask is not None:
        scores = g.op("Where", mask, scores, lowest) if build.kind(node.input[3]) == TensorProto.BOOL else scores + mask
    y = g.op("MatMul", g.op("Softmax", scores, axis=-1), v)
    return g.op("Reshape", g.op("Transpose", y, perm=[0, 2, 1, 3]), [0, 0, -1]) if flat else y


LOWERED = {
    "Attention": _attention, "Cast": _cast, "GroupNormalization": _group_normalization,
    "LpNormalization": _lp_normalization, "MeanVarianceNormalization": _mean_variance_normalization,
    "RMSNormalization": _rms_normalization, "Swish": _swish,
    "Gelu": _gelu, "GridSample": _grid_sample, "Mish": _mish, "Pad": _pad, "Resize": _resize, "Split": _split,
    "AveragePool": _window, "Conv": _window, "MaxPool": _window,
    **dict.fromkeys(["ReduceL1", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceMax", "ReduceMean", "ReduceMin",
                     "ReduceProd", "ReduceSumSquare"], _reduce)}
