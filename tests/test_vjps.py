"""Every entry of convert.derivatives.table.VJPS, compared with central differences in float64.

Where a second formula is simple, the entry is compared with that, too: plain loops that do not use ONNX.
"""
import itertools
import math

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.errors import ConvertError
from deepdream.convert.derivatives.table import VJPS
from onnx import TensorProto, helper, numpy_helper

from deepdream import convert

PICTURE = (1, 4, 9, 8)
CASES = []          # (id, entry, body, options)


def case(entry, body, *, shape=PICTURE, static=False, opset=17, shift=0.0, scale=1.0, more=(), **constants):
    """Add a small net to the cases.

    body: nodes in ONNX's text form, from `data` to `y`.
    constants: arrays by name.
    shape: of data, which is noise * scale + shift. more: additional shapes to try.
    static: are axes 0, 2 and 3 fixed?
    """
    name = f"{entry}-{sum(c[1] == entry for c in CASES)}"
    CASES.append((name, entry, body, dict(shape=shape, static=static, opset=opset, shift=shift, scale=scale, more=more,
                                          constants=constants)))


def some(*shape, seed=1):
    return np.float32(np.random.default_rng(seed).standard_normal(shape))


def positive(*shape, seed=1):
    return np.float32(np.random.default_rng(seed).uniform(0.5, 1.5, shape))


def ints(*values):
    return np.array(values, np.int64)


# ---- elementwise, one operand
for op in ("Abs", "Neg", "Sin", "Cos", "Erf", "Exp", "Sigmoid", "Tanh", "Softplus", "Softsign", "Relu", "Elu",
           "LeakyRelu", "Selu", "HardSigmoid", "HardSwish", "Identity"):
    case(op, f"y = {op}(data)")
for op in ("Log", "Sqrt", "Reciprocal"):
    case(op, f"a = Abs(data); b = Add(a, half); y = {op}(b)", half=np.float32(0.5))
case("Elu", "y = Elu<alpha=0.3>(data)")
case("LeakyRelu", "y = LeakyRelu<alpha=0.55>(data)")
case("Selu", "y = Selu<alpha=1.1, gamma=0.9>(data)")
case("HardSigmoid", "y = HardSigmoid<alpha=0.4, beta=0.3>(data)")
case("HardSwish", "y = HardSwish(data)", scale=4.0)
case("Gelu", "y = Gelu(data)", opset=20)
case("Gelu", 'y = Gelu<approximate="tanh">(data)', opset=20)
for op in ("Atan", "Cosh", "Sinh"):
    case(op, f"y = {op}(data)")
case("Tan", "y = Tan(data)", scale=0.3)
case("Celu", "y = Celu<alpha=0.7>(data)")
case("ThresholdedRelu", "y = ThresholdedRelu<alpha=0.4>(data)")
case("Cast", "y = Cast<to=1>(data)")
case("Dropout", "y = Dropout(data)")
case("Dropout", "y = Dropout(data, ratio)", ratio=np.float32(0.5))
case("Clip", "y = Clip(data, low, high)", low=np.float32(-0.5), high=np.float32(0.8))
case("Clip", "y = Clip(data, low)", low=np.float32(-0.1))
case("Clip", "y = Clip(data, , high)", high=np.float32(0.1))
case("PRelu", "y = PRelu(data, slope)", slope=some(4, 1, 1))
case("PRelu", "y = PRelu(data, slope)", slope=some(1))
case("Pow", "y = Pow(data, p)", p=np.float32(2))
case("Pow", "y = Pow(data, p)", p=np.float32(3))
case("Pow", "a = Abs(data); b = Add(a, half); y = Pow(b, p)", half=np.float32(0.5), p=np.float32(-0.75))
case("Pow", "a = Abs(data); b = Add(a, half); y = Pow(b, p)", half=np.float32(0.5), p=positive(4, 1, 1))

# ---- elementwise, several operands: constants on either side, both dependent on the data, broadcasting
for op in ("Add", "Sub", "Mul", "Div", "Max", "Min"):
    away = "a = Abs(data); b = Add(a, half); " if op == "Div" else "b = Identity(data); "
    case(op, f"{away} y = {op}(b, k)", half=np.float32(0.5), k=positive(4, 1, 1))
    case(op, f"{away} y = {op}(k, b)", half=np.float32(0.5), k=positive(1, 8))
    case(op, f"{away} c = Mul(b, k); d = Sin(c); e = Add(d, two); y = {op}(b, e)", half=np.float32(0.5),
         two=np.float32(2), k=positive(4, 1, 1))
    case(op, f"{away} c = ReduceMean<axes=[2, 3], keepdims=1>(b); y = {op}(b, c)", half=np.float32(0.5))
    case(op, f"{away} c = ReduceMean<axes=[1], keepdims=1>(b); y = {op}(c, b)", half=np.float32(0.5))
    case(op, f"{away} c = ReduceMean<axes=[0, 1], keepdims=0>(b); y = {op}(c, b)", half=np.float32(0.5))
    case(op, f"{away} y = {op}(b, k)", half=np.float32(0.5), k=positive(3, 1, 4, 1, 1))
case("Mod", "y = Mod<fmod=1>(data, k)", k=positive(4, 1, 1))
case("Mod", "b = Mul(data, data); c = Add(b, half); y = Mod<fmod=1>(k, c)", half=np.float32(0.5), k=some(4, 1, 1))
case("Mul", "y = Mul(data, data)")
case("Sum", "a = Sin(data); y = Sum(data, a, k)", k=some(4, 1, 1))
case("Sum", "a = ReduceMean<axes=[1], keepdims=1>(data); y = Sum(a, data, a)")
case("Sum", "y = Sum(data)")
case("Max", "y = Max(data)")
case("Min", "y = Min(data)")
case("Where", "c = Greater(data, k); a = Sin(data); y = Where(c, data, a)", k=some(4, 1, 1))
case("Where", "a = ReduceMean<axes=[1], keepdims=1>(data); y = Where(c, a, data)",
     c=np.array([[True], [False], [True], [False]])[:, :, None])

# ---- convolution: kernels, strides (also larger than the kernel), pads (also asymmetric), dilations, groups
for kernel, stride, pads, dilation, group, out in [
        ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 5), ((1, 1), (1, 1), (0, 0, 0, 0), (1, 1), 1, 5),
        ((3, 2), (1, 1), (0, 1, 2, 0), (1, 1), 1, 3), ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, 5),
        ((5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 2, 4), ((3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 4, 8),
        ((1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 1, 5), ((1, 1), (3, 2), (0, 0, 0, 0), (1, 1), 2, 4),
        ((1, 1), (2, 2), (1, 1, 0, 1), (1, 1), 1, 3), ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1), 1, 3),
        ((2, 3), (3, 2), (1, 0, 0, 1), (1, 1), 1, 3), ((3, 3), (1, 1), (2, 2, 2, 2), (2, 2), 1, 3),
        ((3, 2), (2, 3), (2, 1, 1, 2), (2, 3), 2, 6), ((7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1, 3),
        ((3, 3), (1, 1), (3, 4, 3, 2), (1, 1), 1, 3), ((3, 3), (4, 4), (0, 0, 0, 0), (1, 1), 4, 4),
        ((3, 3), (2, 2), (0, 0, 3, 3), (1, 1), 1, 3), ((4, 4), (4, 4), (0, 0, 0, 0), (1, 1), 1, 3),
        ((2, 2), (2, 1), (0, 0, 4, 4), (1, 1), 1, 3)]:
    case("Conv", f"y = Conv<strides={[*stride]}, pads={[*pads]}, dilations={[*dilation]}, group={group}>(data, w, b)",
         more=[(1, 4, 10, 11), (2, 4, 11, 9)], w=some(out, 4 // group, *kernel), b=some(out))
case("Conv", "y = Conv(data, w)", w=some(2, 4, 3, 3))
case("Conv", 'y = Conv<auto_pad="SAME_UPPER">(data, w)', w=some(2, 4, 4, 2))
case("Conv", 'y = Conv<auto_pad="SAME_LOWER">(data, w)', w=some(2, 4, 2, 4))
case("Conv", 'y = Conv<auto_pad="VALID", strides=[2, 2]>(data, w)', w=some(2, 4, 3, 3))
case("Conv", "y = Conv<strides=[2], pads=[1, 1]>(data, w)", shape=(1, 4, 11), more=[(1, 4, 12)], w=some(3, 4, 3))
case("Conv", "y = Conv<strides=[2, 1, 2], pads=[1, 1, 0, 1, 0, 1]>(data, w)", shape=(1, 2, 6, 5, 7),
     w=some(3, 2, 3, 2, 3))
for kernel, stride, pads, dilation, group, out, extra in [
        ((3, 3), (1, 1), (0, 0, 0, 0), (1, 1), 1, 3, (0, 0)), ((4, 4), (2, 2), (1, 1, 1, 1), (1, 1), 1, 3, (0, 0)),
        ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), 1, 3, (1, 1)), ((3, 2), (3, 2), (0, 0, 0, 0), (1, 1), 2, 4, (2, 0)),
        ((3, 3), (2, 2), (0, 1, 1, 0), (2, 1), 4, 4, (0, 1)), ((4, 4), (2, 2), (0, 0, 0, 0), (1, 1), 4, 4, (0, 0)),
        ((2, 2), (3, 3), (0, 0, 0, 0), (1, 1), 1, 2, (2, 2)), ((5, 5), (3, 3), (1, 1, 1, 1), (1, 1), 2, 6, (0, 0))]:
    case("ConvTranspose", f"y = ConvTranspose<strides={[*stride]}, pads={[*pads]}, dilations={[*dilation]}, "
         f"group={group}, output_padding={[*extra]}>(data, w, b)", shape=(1, 4, 5, 4), w=some(4, out // group, *kernel),
         b=some(out))

# ---- pooling
POOLS = [((3, 3), (2, 2), (0, 0, 0, 0), 0), ((3, 3), (2, 2), (0, 0, 1, 1), 0), ((2, 2), (2, 2), (0, 0, 0, 0), 0),
         ((3, 3), (1, 1), (1, 1, 1, 1), 0), ((2, 3), (3, 2), (1, 0, 0, 2), 0), ((2, 2), (3, 3), (0, 0, 0, 0), 0),
         ((1, 1), (2, 2), (0, 0, 0, 0), 0), ((3, 3), (2, 2), (1, 1, 1, 1), 1), ((3, 3), (2, 2), (0, 0, 0, 0), 1),
         ((2, 2), (2, 2), (1, 1, 0, 0), 1), ((5, 5), (3, 3), (2, 2, 2, 2), 0), ((9, 8), (1, 1), (0, 0, 0, 0), 0)]
for kernel, stride, pads, ceil in POOLS:
    how = f"kernel_shape={[*kernel]}, strides={[*stride]}, pads={[*pads]}, ceil_mode={ceil}"
    case("MaxPool", f"y = MaxPool<{how}>(data)", more=[(1, 4, 10, 11), (2, 4, 12, 9)])
    case("AveragePool", f"y = AveragePool<{how}>(data)", more=[(1, 4, 10, 11), (2, 4, 12, 9)])
    case("AveragePool", f"y = AveragePool<{how}, count_include_pad=1>(data)", more=[(1, 4, 10, 11), (2, 4, 12, 9)])
case("MaxPool", "y = MaxPool<kernel_shape=[2, 3], dilations=[2, 2], strides=[1, 2], pads=[1, 0, 1, 2]>(data)")
case("MaxPool", 'y = MaxPool<kernel_shape=[3, 2], auto_pad="SAME_UPPER">(data)')
case("MaxPool", "y = MaxPool<kernel_shape=[3], strides=[2]>(data)", shape=(1, 4, 11))
case("MaxPool", "y = MaxPool<kernel_shape=[2, 2, 2], strides=[2, 2, 1]>(data)", shape=(1, 2, 5, 4, 6))
case("AveragePool", 'y = AveragePool<kernel_shape=[3, 2], auto_pad="SAME_LOWER">(data)')
case("GlobalAveragePool", "y = GlobalAveragePool(data)", more=[(2, 4, 3, 5)])
case("GlobalMaxPool", "y = GlobalMaxPool(data)", more=[(2, 4, 3, 5)])
case("GlobalMaxPool", "y = GlobalMaxPool(data)", shape=(2, 4, 7))

# ---- products
for a, b in itertools.product((0, 1), repeat=2):
    case("Gemm", f"y = Gemm<transA={a}, transB={b}, alpha=0.7, beta=0.3>(data, w, c)", shape=(3, 5), static=True,
         w=some(*[(5, 4), (3, 4), (4, 5), (4, 3)][a + 2 * b]), c=some(4))
    case("Gemm", f"y = Gemm<transA={a}, transB={b}, alpha=0.7, beta=0.3>(w, data, c)", shape=(3, 5), static=True,
         w=some(*[(4, 3), (3, 4), (4, 5), (5, 4)][a + 2 * b]), c=some(1, 1))
case("Gemm", "y = Gemm<beta=0.3>(w, v, data)", shape=(1, 5), static=True, w=some(3, 4), v=some(4, 5))
case("Gemm", "f = Flatten(data); y = Gemm<transB=1>(f, w)", shape=(2, 3, 4, 4), static=True, w=some(6, 48))
case("MatMul", "y = MatMul(data, w)", shape=(3, 5), static=True, w=some(5, 4))
case("MatMul", "y = MatMul(w, data)", shape=(2, 3, 5, 4), static=True, w=some(6, 5))
case("MatMul", "y = MatMul(data, w)", shape=(2, 1, 3, 5), static=True, w=some(4, 5, 6))
case("MatMul", "t = Transpose<perm=[0, 1, 3, 2]>(data); s = Sin(t); y = MatMul(data, s)", shape=(2, 3, 5, 4),
     static=True)

for equation, w in [("nchw,dc->ndhw", (3, 4)), ("nchw,wk->nchk", (8, 2)), ("nchw,nchv->ncwv", (1, 4, 9, 3)),
                    ("nchw,c->n", (4,)), ("nchw,k->nk", (3,)), ("nchw,nchw->nc", (1, 4, 9, 8))]:
    case("Einsum", f'y = Einsum<equation="{equation}">(data, w)', w=some(*w))
    other = ",".join(equation.split("->")[0].split(",")[::-1]) + "->" + equation.split("->")[1]
    case("Einsum", f'y = Einsum<equation="{other}">(w, data)', w=some(*w))
case("Einsum", 'a = Sin(data); y = Einsum<equation="nchw,nchv->nwv">(data, a)')
case("Einsum", 'y = Einsum<equation="nchw->whn">(data)')

# ---- normalization
case("LayerNormalization", "y = LayerNormalization(data, s, b)", s=some(8), b=some(8), more=[(2, 4, 3, 8)])
case("LayerNormalization", "y = LayerNormalization<axis=1, epsilon=0.1>(data, s)", s=some(4, 9, 8), static=True)
case("LayerNormalization", "t = Transpose<perm=[0, 2, 3, 1]>(data); y = LayerNormalization<axis=-1>(t, s, b)",
     s=some(4), b=some(4), more=[(1, 4, 5, 7)])
case("InstanceNormalization", "y = InstanceNormalization<epsilon=0.01>(data, s, b)", s=some(4), b=some(4),
     more=[(2, 4, 5, 6)])
case("InstanceNormalization", "g = Reshape(data, r); n = InstanceNormalization(g, s, b); z = Shape(data); "
     "y = Reshape(n, z)", r=ints(0, 2, -1), s=some(2), b=some(2))
case("BatchNormalization", "y = BatchNormalization<epsilon=0.01>(data, s, b, m, v)", s=some(4), b=some(4), m=some(4),
     v=positive(4))
case("BatchNormalization", "y = BatchNormalization(data, s, b, m, v)", shape=(3, 4), s=some(4), b=some(4), m=some(4),
     v=positive(4))
for size in (3, 5, 9):
    case("LRN", f"y = LRN<size={size}, alpha=0.9, beta=0.75, bias=1.5>(data)", shape=(1, 6, 3, 4))
case("LRN", "y = LRN<size=5>(data)", scale=30.0)
for op in ("Softmax", "LogSoftmax"):
    case(op, f"y = {op}<axis=1>(data)")
    case(op, f"y = {op}(data)")

# ---- shapes and sums
case("Concat", "a = Sin(data); y = Concat<axis=1>(data, a)")
case("Concat", "a = Sin(data); y = Concat<axis=1>(k, a)", shape=(1, 4, 3, 3), static=True, k=some(1, 2, 3, 3))
case("Concat", "a = Sin(data); y = Concat<axis=-1>(data, a, data)")
case("Concat", "y = Concat<axis=2>(data)")
for mode in ("DCR", "CRD"):
    case("DepthToSpace", f'y = DepthToSpace<blocksize=2, mode="{mode}">(data)', shape=(1, 12, 3, 4))
case("SpaceToDepth", "y = SpaceToDepth<blocksize=2>(data)", shape=(1, 3, 6, 8))
case("Expand", "y = Expand(data, s)", shape=(1, 4, 1, 5), static=True, s=ints(2, 1, 3, 5))
case("Expand", "y = Expand(data, s)", shape=(4, 1), static=True, s=ints(2, 4, 3))
case("Expand", "z = Shape(data); a = ReduceMean<axes=[2, 3]>(data); y = Expand(a, z)")
for taken in (2, -1, [1], [3, 0], [0, 1, 1, 3, 1], [-1, 0, -1], [[0, 2], [2, 3]], [1] * 20):
    case("Gather", "y = Gather<axis=1>(data, i)", i=np.array(taken))
case("Gather", "y = Gather<axis=3>(data, i)", i=ints(0, 3, 3))
case("Gather", "y = Gather<axis=2>(data, i)", i=ints(8, 0, 3, 3))
case("Gather", "y = Gather<axis=2>(data, i)", i=ints(0, 3).reshape(1, 2), static=True)
case("Gather", "z = Shape(data); w = Gather(z, three); i = Sub(w, three); y = Gather<axis=2>(data, i)", three=ints(3))
case("GatherElements", "y = GatherElements<axis=3>(data, i)", i=np.arange(144).reshape(1, 4, 9, 4) % 3)
case("GatherND", "y = GatherND(data, i)", i=ints(0, 1, 0, 3, 0, 1).reshape(3, 2))
case("ScatterND", "a = Sin(data); b = Gather(a, zero); c = Gather(b, i); j = Unsqueeze(i, one); "
     "d = Gather(data, zero); y = ScatterND(d, j, c)", zero=np.array(0), one=ints(1), i=ints(3, 1))
case("Flatten", "y = Flatten(data)")
case("Flatten", "y = Flatten<axis=2>(data)")
case("Reshape", "y = Reshape(data, s)", s=ints(0, 2, 2, -1))
case("Squeeze", "y = Squeeze(data, axes)", shape=(1, 4, 1, 5), static=True, axes=ints(2))
case("Squeeze", "y = Squeeze(data)", shape=(2, 1, 3, 1), static=True)
case("Unsqueeze", "y = Unsqueeze(data, axes)", axes=ints(0, 3))
case("Transpose", "y = Transpose<perm=[0, 2, 3, 1]>(data)")
case("Transpose", "y = Transpose<perm=[3, 0, 1, 2]>(data)")
case("Transpose", "y = Transpose(data)")
case("Pad", "y = Pad(data, p)", p=ints(0, 0, 1, 2, 0, 0, 0, 3))
case("Pad", "y = Pad(data, p, v)", p=ints(0, 1, 1, 2, 1, 0, 0, 3), v=np.float32(2))
case("Pad", "z = Shape(data); a = Mul(z, m); p = Concat<axis=0>(a, one, one); y = Pad(data, p)", m=ints(0, 0, 0, 1),
     one=ints(0, 0))
for mode in ("reflect", "edge"):
    case("Pad", f'y = Pad<mode="{mode}">(data, p)', p=ints(0, 0, 1, 2, 0, 0, 0, 3), more=[(2, 4, 6, 5)])
for op, axes, keep in itertools.product(("ReduceL1", "ReduceL2", "ReduceSumSquare", "ReduceLogSumExp", "ReduceMax",
                                         "ReduceMin"), ([1], [2, 3]), (0, 1)):
    case(op, f"y = {op}<axes={axes}, keepdims={keep}>(data)")
    case(op, f"y = {op}<keepdims={keep}>(data, axes)", opset=18, axes=ints(*axes))
case("ReduceLogSum", "a = Abs(data); y = ReduceLogSum<axes=[1]>(a)")
for op, axes, keep in itertools.product(("ReduceSum", "ReduceMean"), ([1], [2, 3], [-1], []), (0, 1)):
    if op == "ReduceSum":
        case(op, f"y = {op}<keepdims={keep}>(data, axes)" if axes else f"a = {op}<keepdims=1>(data); y = Mul(a, k)",
             **({"axes": ints(*axes)} if axes else {"k": some(2, 3)}))
    else:
        case(op, f"y = {op}<axes={axes}, keepdims={keep}>(data)" if axes else
             f"a = {op}<keepdims=1>(data); y = Mul(a, k)", k=some(2, 3))
        case(op, f"y = {op}<keepdims={keep}>(data, axes)" if axes else f"a = {op}<keepdims=1>(data); y = Mul(a, k)",
             opset=18, **({"axes": ints(*axes)} if axes else {"k": some(2, 3)}))
for mode, padding, corners in (("linear", "zeros", 0), ("linear", "border", 1), ("nearest", "border", 0)):
    case("GridSample", f'y = GridSample<mode="{mode}", padding_mode="{padding}", align_corners={corners}>(data, grid)',
         grid=some(1, 3, 4, 2, seed=3) * np.float32(0.6), shape=(1, 4, 5, 6), opset=20, more=[(1, 4, 6, 4)])
case("Resize", 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
     "(data, , scales)", scales=np.float32([1, 1, 2, 3]))
case("Resize", 'y = Resize<mode="nearest">(data, , scales)', scales=np.float32([1, 1, 2, 2]))
case("Upsample", 'y = Upsample<mode="nearest">(data, scales)', opset=9, scales=np.float32([1, 1, 2, 2]))
for mode, transform in itertools.product(("linear", "cubic"), ("half_pixel", "align_corners", "asymmetric",
                                                               "pytorch_half_pixel")):
    case("Resize", f'y = Resize<mode="{mode}", coordinate_transformation_mode="{transform}">(data, , scales)',
         scales=np.float32([1, 1, 2, 1.5]), more=[(2, 4, 5, 6)])
case("Resize", 'y = Resize<mode="linear">(data, , scales)', scales=np.float32([1, 1, 0.5, 0.25]))
case("Resize", 'y = Resize<mode="linear">(data, , , sizes)', sizes=ints(1, 4, 13, 17), more=[(1, 4, 6, 20)])
case("Resize", 'z = Shape(data); t = Mul(z, m); y = Resize<mode="linear">(data, , , t)', m=ints(1, 1, 2, 3))
case("Resize", 'y = Resize<mode="nearest">(data, , scales)', scales=np.float32([1, 1, 1.5, 0.5]))
case("Resize", 'y = Resize<mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor">'
     "(data, , , sizes)", sizes=ints(1, 4, 18, 20))
case("Slice", "y = Slice(data, s, e, a, t)", s=ints(1, 0), e=ints(8, 2 ** 40), a=ints(2, 3), t=ints(2, 3),
     more=[(1, 4, 10, 9), (1, 4, 8, 7)])
case("Slice", "y = Slice(data, s, e, a, t)", s=ints(-1), e=ints(-2 ** 40), a=ints(3), t=ints(-1), more=[(1, 4, 9, 5)])
case("Slice", "y = Slice(data, s, e, a, t)", s=ints(7, 2, 2), e=ints(1, 0, 7), a=ints(2, 1, 3), t=ints(-3, -1, 2),
     more=[(1, 4, 11, 8)])
case("Slice", "y = Slice(data, s, e, a, t)", s=ints(-8), e=ints(-1), a=ints(2), t=ints(4))
case("Slice", "y = Slice(data, s, e, a)", s=ints(1, 2), e=ints(8, 2 ** 40), a=ints(2, 3))
case("Slice", "y = Slice(data, s, e, a)", s=ints(-6, -3), e=ints(-1, -1), a=ints(-2, -1))
case("Slice", "y = Slice(data, s, e, a, t)", s=ints(1), e=ints(3), a=ints(1), t=ints(1))
case("Slice", "y = Slice(data, s, e)", s=ints(0, 1, 2, 0), e=ints(1, 3, 9, 5))
case("Slice", "y = Slice(data, s, e, a)", s=ints(-100), e=ints(5), a=ints(3))
case("Split", "a, b = Split<axis=1>(data, n); c = Sin(b); d = Concat<axis=1>(c, a); y = Mul(d, k)", n=ints(1, 3),
     k=some(4, 1, 1))
case("Split", "a, b, c = Split<axis=1>(data, n); y = Mul(c, k)", n=ints(1, 2, 1), k=some(1, 1, 1))
case("Split", "a, b = Split<axis=2, num_outputs=2>(data); y = Concat<axis=1>(b, b)", shape=(1, 4, 8, 8), opset=18)


def build(entry, body, shape, static, opset, constants, **_):
    nodes = [onnx.parser.parse_node(line.strip()) for line in body.split(";")]
    dims = list(shape) if static or len(shape) < 3 else ["N", shape[1], *"DHW"[-(len(shape) - 2):]]
    used = {i for n in nodes for i in n.input}
    graph = helper.make_graph(
        nodes, entry, [helper.make_tensor_value_info("data", TensorProto.FLOAT, dims)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items() if k in used])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=9)


def test_every_derivative_has_a_case():
    assert {entry for _, entry, _, _ in CASES} == set(VJPS)
    for name, entry, body, _ in CASES:
        assert f" {entry}(" in f" {body}" or f" {entry}<" in f" {body}", name


@pytest.mark.parametrize("entry, body, options", [c[1:] for c in CASES], ids=[c[0] for c in CASES])
def test_against_central_differences(entry, body, options):
    model = build(entry, body, **options)
    graph = convert.gradient_graph(model, "y")
    onnx.checker.check_model(graph, full_check=True)
    run, forward = toys.session(graph, plain=True), toys.doubled(model, "y")
    plain = toys.session(model, plain=True)
    for seed, shape in enumerate([options["shape"], *options["more"]]):
        data = toys.noise(*shape, seed=seed) * np.float32(options["scale"]) + np.float32(options["shift"])
        value = plain.run(None, {"data": data})[0]
        assert toys.off(forward(data), value) < 1e-5      # else ONNX's reference implementation differs
        diff = toys.noise(*value.shape, seed=seed + 100)
        end_data, gradient = run.run(["end_data", "data_diff"], {"data": data, "end_diff": diff})
        assert toys.off(end_data, value) < 1e-6
        toys.check_gradient(forward, data, diff, gradient, directions=3, step=1e-5)


# ---- second formulas, in plain loops

def gradient(body, data, diff, opset=17, **constants):
    """Compute data_diff by the gradient graph of `body`."""
    model = build("y", body, data.shape, True, opset, constants)
    return toys.run(convert.gradient_graph(model, "y"), {"data": data, "end_diff": diff}, ["data_diff"])[0]


def value(body, data, opset=17, **constants):
    return toys.run(build("y", body, data.shape, True, opset, constants), data)[0]


def agree(body, data, expected, **constants):
    """Compare the gradient of `body` with expected(diff, value)."""
    y = value(body, data, **constants)
    diff = some(*y.shape, seed=5)
    dx = expected(np.float64(diff), np.float64(y))
    assert np.abs(dx).max() > 0
    assert toys.off(gradient(body, data, diff, **constants), dx) < 2e-6


def windows(shape, y_shape, kernel, stride, pads, dilation):
    """Yield (output position, [(tap, input position)]) over the spatial axes, without positions in the padding."""
    n = len(kernel)
    for o in np.ndindex(*y_shape[2:]):
        taps = []
        for t in np.ndindex(*kernel):
            u = tuple(o[i] * stride[i] + t[i] * dilation[i] - pads[i] for i in range(n))
            if all(0 <= u[i] < shape[2 + i] for i in range(n)):
                taps.append((t, u))
        yield o, taps


CONVOLUTIONS = [  # size, kernel, stride, pads, dilation, group, out
    ((7, 8), (3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1, 3), ((7, 8), (3, 3), (2, 2), (0, 1, 2, 0), (1, 1), 2, 4),
    ((8, 9), (2, 2), (3, 4), (0, 0, 0, 0), (1, 1), 1, 2), ((8, 9), (1, 1), (2, 3), (0, 0, 0, 0), (1, 1), 4, 4),
    ((9, 9), (3, 2), (2, 1), (2, 1, 0, 3), (2, 3), 2, 2), ((8, 7), (5, 5), (2, 2), (2, 2, 2, 2), (1, 1), 1, 3),
    ((11, 12), (7, 7), (2, 2), (3, 3, 3, 3), (1, 1), 1, 2), ((5, 5), (3, 3), (1, 1), (4, 4, 4, 4), (1, 1), 1, 2)]


@pytest.mark.parametrize("size, kernel, stride, pads, dilation, group, out", CONVOLUTIONS)
def test_convolution_by_loops(size, kernel, stride, pads, dilation, group, out):
    data, w = some(1, 4, *size), some(out, 4 // group, *kernel, seed=2)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for o, taps in windows(data.shape, y.shape, kernel, stride, pads, dilation):
            for t, u in taps:
                for k in range(out):
                    g = k // (out // group)
                    inner = slice(g * 4 // group, (g + 1) * 4 // group)
                    dx[(0, inner, *u)] += w[(k, slice(None), *t)] * diff[(0, k, *o)]
        return dx
    agree(f"y = Conv<strides={[*stride]}, pads={[*pads]}, dilations={[*dilation]}, group={group}>(data, w)", data,
          loops, w=w)


@pytest.mark.parametrize("stride, pads, extra, group", [
    ((2, 2), (1, 0, 0, 1), (1, 0), 1), ((3, 1), (0, 0, 0, 0), (2, 0), 2), ((1, 2), (1, 1, 1, 1), (0, 1), 4)])
def test_deconvolution_by_loops(stride, pads, extra, group):
    data, w = some(1, 4, 4, 5), some(4, 2, 3, 2, seed=2)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for i, j, a, b in np.ndindex(4, 5, 3, 2):
            u, v = i * stride[0] + a - pads[0], j * stride[1] + b - pads[1]
            if 0 <= u < y.shape[2] and 0 <= v < y.shape[3]:
                for c in range(4):
                    g = c // (4 // group)
                    dx[0, c, i, j] += w[c, :, a, b] @ diff[0, 2 * g:2 * g + 2, u, v]
        return dx
    agree(f"y = ConvTranspose<strides={[*stride]}, pads={[*pads]}, output_padding={[*extra]}, group={group}>(data, w)",
          data, loops, w=w)


def plateaus(*shape, seed, low=-1, high=3):
    """Return an array of a few different numbers, so that most windows have several maxima."""
    return np.float32(np.random.default_rng(seed).integers(low, high, shape))


@pytest.mark.parametrize("before", ["", "Relu", "Neg"])
@pytest.mark.parametrize("kernel, stride, pads, dilation", [
    (k, s, p, (1, 1)) for k, s, p, ceil in POOLS if not ceil] + [((2, 3), (1, 2), (1, 0, 1, 2), (2, 2)),
                                                                 ((3, 3), (2, 2), (0, 0, 2, 2), (1, 1))])
def test_max_pool_takes_the_first_maximum(kernel, stride, pads, dilation, before):
    data = plateaus(1, 3, 11, 10, seed=6) + (0 if before else plateaus(1, 3, 1, 1, seed=7, low=-4, high=0))
    inner = {"": data, "Relu": np.maximum(data, 0), "Neg": -data}[before]

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for c in range(3):
            for o, taps in windows(data.shape, y.shape, kernel, stride, pads, dilation):
                best = None
                for _, u in taps:                  # row-major; strictly greater, as in Caffe
                    if best is None or inner[(0, c, *u)] > inner[(0, c, *best)]:
                        best = u
                assert inner[(0, c, *best)] == y[(0, c, *o)]
                dx[(0, c, *best)] += diff[(0, c, *o)]
        return dx * {"": 1, "Relu": data > 0, "Neg": -1}[before]
    body = f"a = {before or 'Identity'}(data); y = MaxPool<kernel_shape={[*kernel]}, strides={[*stride]}, " \
           f"pads={[*pads]}, dilations={[*dilation]}>(a)"
    agree(body, data, loops)


def test_global_max_pool_takes_the_first_maximum():
    data = plateaus(2, 3, 4, 5, seed=6)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for n, c in np.ndindex(2, 3):
            dx[n, c].flat[data[n, c].argmax()] = diff[n, c, 0, 0]
        return dx
    agree("y = GlobalMaxPool(data)", data, loops)


@pytest.mark.parametrize("counted", [0, 1])
@pytest.mark.parametrize("kernel, stride, pads", [(k, s, p) for k, s, p, ceil in POOLS if not ceil])
def test_average_pool_by_loops(kernel, stride, pads, counted):
    data = some(1, 2, 11, 10)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for o, taps in windows(data.shape, y.shape, kernel, stride, pads, (1, 1)):
            for _, u in taps:
                dx[(0, slice(None), *u)] += diff[(0, slice(None), *o)] / (math.prod(kernel) if counted else len(taps))
        return dx
    agree(f"y = AveragePool<kernel_shape={[*kernel]}, strides={[*stride]}, pads={[*pads]}, "
          f"count_include_pad={counted}>(data)", data, loops)


@pytest.mark.parametrize("alpha, beta, k", [(0.8, 0.6, 1.2), (0.8, 0.75, 1.2), (0.0, 0.75, 2.0), (-0.05, 0.75, 4.0),
                                            (-0.05, 0.5, 4.0), (1e-28, 0.75, 1.0), (0.5, 0.75, 0.0)])
def test_lrn_by_loops(alpha, beta, k):
    """Caffe (lrn_layer.cpp): dx_i = dy_i s_i^-b - 2ab/n x_i sum over the windows j that hold i of dy_j y_j / s_j."""
    data, n = some(1, 7, 3, 2), 5
    diff, x = some(*data.shape, seed=5), np.float64(data)
    s = np.stack([k + alpha / n * (x[:, max(0, i - 2):i + 3] ** 2).sum(1) for i in range(7)], 1)
    ratio = diff * x * s ** -beta / s
    back = np.stack([ratio[:, max(0, i - 2):i + 3].sum(1) for i in range(7)], 1)
    found = gradient(f"y = LRN<size={n}, alpha={alpha}, beta={beta}, bias={k}>(data)", data, diff)
    assert toys.off(found, diff * s ** -beta - 2 * alpha * beta / n * x * back) < 2e-6


@pytest.mark.parametrize("op, mine, other", [
    ("Add", lambda d, x, k: d, lambda d, x, k: d), ("Sub", lambda d, x, k: d, lambda d, x, k: -d),
    ("Mul", lambda d, x, k: d * k, lambda d, x, k: d * k),
    ("Div", lambda d, x, k: d / k, lambda d, x, k: -d * k / x ** 2)])
@pytest.mark.parametrize("shape, k", [
    ((2, 3, 4, 5), (3, 1, 1)), ((2, 3, 1, 1), (2, 3, 4, 5)), ((3, 1, 1), (2, 3, 4, 5)), ((1, 3, 1, 5), (2, 1, 4, 1)),
    ((2, 3, 4, 5), ())])
def test_broadcasting_by_numpy(op, mine, other, shape, k):
    data, k = positive(*shape, seed=3), positive(*k, seed=4)

    def shrunk(full):
        full = full.sum(axis=tuple(range(full.ndim - data.ndim)))
        return full.sum(axis=tuple(i for i, n in enumerate(data.shape) if n == 1 and full.shape[i] > 1), keepdims=True)
    agree(f"y = {op}(data, k)", data, lambda diff, y: shrunk(mine(diff, data, k) * np.ones_like(y)), k=k)
    agree(f"y = {op}(k, data)", data, lambda diff, y: shrunk(other(diff, data, k) * np.ones_like(y)), k=k)


@pytest.mark.parametrize("body, data, expected", [
    ("y = Relu(data)", [-1, 0, 2], [0, 0, 1]),                                # Caffe: only where the input is > 0
    ("y = LeakyRelu<alpha=0.5>(data)", [-1, 0, 2], [0.5, 0.5, 1]),
    ("y = Elu(data)", [0, 2], [1, 1]),
    ("y = Abs(data)", [-2, 0, 2], [-1, 0, 1]),                                # Caffe multiplies by the sign
    ("y = Clip(data, low, high)", [-2, -1, 0, 1, 2], [0, 1, 1, 1, 0]),        # Caffe lets the limits through
    ("y = Max(data, zero)", [-1, 0, 1], [0, 0, 1]),                           # a tie goes to the second
    ("y = Max(zero, data)", [-1, 0, 1], [0, 1, 1]),
])
def test_at_the_kinks(body, data, expected):
    data = np.float32(data).reshape(1, -1, 1, 1)
    constants = {"low": np.float32(-1), "high": np.float32(1), "zero": np.float32(0)}
    used = {k: v for k, v in constants.items() if k in body}
    np.testing.assert_array_equal(gradient(body, data, np.ones_like(data), **used).ravel(), np.float32(expected))


def test_pads_that_cut_off():
    data = some(1, 2, 5, 6)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        dx[:, :, :4, 2:] = diff[:, :, 1:, :4]
        return dx
    agree("y = Pad(data, p)", data, loops, p=ints(0, 0, 1, -2, 0, 0, -1, 3))


def test_an_output_that_nothing_reads_and_a_branch_that_is_constant():
    body = "a, b = Split<axis=1>(data, n); c = Sin(k); d = Mul(a, c); y = Add(d, c)"
    data, k = some(1, 4, 2, 2), some(1, 2, 1, 1)
    dx = gradient(body, data, np.ones((1, 2, 2, 2), np.float32), n=ints(2, 2), k=k)
    np.testing.assert_allclose(dx[:, :2], np.broadcast_to(np.sin(k), (1, 2, 2, 2)), rtol=1e-6)
    assert not dx[:, 2:].any()


@pytest.mark.parametrize("body, message", [
    ('y = Conv<auto_pad="SAME_UPPER", strides=[2, 2]>(data, w)', "depends on the size of the picture"),
    ("s = Sin(data); w = ReduceMean<axes=[2, 3]>(s); y = Conv(data, w)", "its input 1 must be constant"),
    ('y = Pad<mode="reflect">(data, p)', "two spatial axes"),
    ('y = Resize<mode="linear">(data, , scales)', "only the two spatial axes"),
    ('y = Einsum<equation="nccw->nw">(data)', "without ... and diagonals"),
    ("y = Max(data, data, data)", "only two operands"),
])
def test_nodes_without_a_derivative_are_rejected(body, message):
    constants = {"w": some(2, 4, 3, 3), "p": ints(0, 1, 1, 1, 0, 0, 1, 1), "scales": np.float32([1, 2, 2, 2])}
    if "Sin" in body:
        del constants["w"]
    with pytest.raises(ConvertError, match=message) as caught:
        convert.gradient_graph(build("y", body, PICTURE, True, 17, constants), "y")
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("start, end, step", [(-1, -2 ** 40, -1), (7, 1, -3), (4, -9, -2), (100, 2, -4)])
def test_slice_backwards_by_loops(start, end, step):
    data = some(1, 4, 9, 8)

    def loops(diff, y):
        dx = np.zeros(data.shape)
        taken = range(9)[start:None if end < -9 else end:step]
        for k, row in enumerate(taken):
            dx[:, :, row] += diff[:, :, k]
        return dx
    agree("y = Slice(data, s, e, a, t)", data, loops, s=ints(start), e=ints(end), a=ints(2), t=ints(step))


def test_grid_sample_by_loops():
    """Each result is the weighted mean of the four pixels around its place."""
    data, grid = some(1, 2, 5, 6), np.float32(np.random.default_rng(3).uniform(-0.7, 0.7, (1, 3, 4, 2)))

    def loops(diff, y):
        dx = np.zeros(data.shape)
        for i, j in np.ndindex(3, 4):
            u, v = ((grid[0, i, j, 1] + 1) * 5 - 1) / 2, ((grid[0, i, j, 0] + 1) * 6 - 1) / 2
            for a, b in itertools.product((math.floor(u), math.floor(u) + 1), (math.floor(v), math.floor(v) + 1)):
                dx[0, :, a, b] += (1 - abs(u - a)) * (1 - abs(v - b)) * diff[0, :, i, j]
        return dx
    agree("y = GridSample<align_corners=0>(data, grid)", data, loops, grid=grid)
