"""Derivatives for CUDA, where each node is a kernel that reads and writes the whole memory of its tensors.

So few nodes and few bytes matter here. The blocked layout that the forms for the CPU keep to does not exist, and
convolutions of each channel by itself are slow.
"""
from __future__ import annotations

import numpy as np

from ..derivatives.node import Node
from ..derivatives.table import concat
from ..graph import Tensor
from . import convolution, pooling

TINY = 1e-30                    # far below all numbers that a net computes
LEAST_BIAS, LEAST_BETA = 1e-5, 0.01     # the least that cuDNN allows


# ---- masks of ReLUs

def relu(node: Node, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Build dy where y > 0, else 0. Nothing to do if dy is 0 there already."""
    return dy if node.masked else node.g.where(y > 0.0, dy)


def joins_relus(node: Node) -> bool:
    """Tell whether a Concat joins several outputs of ReLUs."""
    return node.inputs > 1 and all(map(node.input_is_non_negative, range(node.inputs)))


def concat_of_relus(node: Node, dy: Tensor, y: Tensor, *xs: Tensor) -> tuple:
    """Apply the masks of all the ReLUs at once, before the gradient is split."""
    return concat(node, relu(node, dy, y, y), y, *xs)


# ---- convolution and average pooling

def conv(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of a convolution as another one, with even pads wherever that is possible."""
    weights = node.value(1)
    return convolution.convolved_back(node, dy, x, weights, node.window(weights.shape[2:]), node.attr.get("group", 1),
                                      even=True)


def average_applies(node: Node) -> bool:
    """Tell whether it is an average pooling with stride 1 whose padding is counted, or absent."""
    window = node.window()
    return set(window.stride) | set(window.dilation) == {1} and len(window.kernel) in (2, 3) \
        and (node.attr.get("count_include_pad", 0) or not any(window.pads))


def average(node: Node, dy: Tensor, *_) -> Tensor:
    """Build the gradient of an average pooling with stride 1: an average pooling of dy."""
    window = node.window()
    pads = [r - p for r, p in zip(window.reach * 2, window.pads)]
    return node.g.op("AveragePool", dy, kernel_shape=window.kernel, pads=pads, strides=window.stride,
                     count_include_pad=1)


def average_by_convolution(node: Node, dy: Tensor, y: Tensor, x: Tensor, *_) -> Tensor:
    """Build the gradient of any other average pooling."""
    return pooling.average_gradient(node, dy, y, x)


# ---- local response normalization

def lrn_applies(node: Node) -> bool:
    """Tell whether cuDNN can normalize so, and the number of channels is known."""
    return len(node.shape(0)) == 4 and node.shape(0)[1] is not None and node.attr.get("bias", 1.0) >= LEAST_BIAS \
        and node.attr.get("beta", 0.75) >= LEAST_BETA and node.attr.get("alpha", 1e-4) >= 0 and node.attr["size"] <= 16


def lrn_applies_after_relu(node: Node) -> bool:
    """Tell the same for the normalization of the output of a ReLU, where gradients of zeros do not matter."""
    return node.input_is_non_negative() and lrn_applies(node)


def lrn_after_relu(node: Node, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Build the gradient of y = x s^-b for x >= 0, with s^-b = y / x. It is 0 where x is 0."""
    return _lrn(node, dy, x, y / node.g.op("Max", x, TINY))


def lrn(node: Node, dy: Tensor, y: Tensor, x: Tensor) -> Tensor:
    """Build the gradient of y = x s^-b, with s = k + a/n sum x^2 from a convolution."""
    n, alpha = node.attr["size"], node.attr.get("alpha", 1e-4)
    square = node.g.op("Mul", x, x, name="exact square")      # see `convert.half`
    s = _band(node, square, (n - 1) // 2, n // 2, alpha / n, node.attr.get("bias", 1.0))
    return _lrn(node, dy, x, s ** -node.attr.get("beta", 0.75))


def _lrn(node, dy, x, power):
    """dx = dy s^-b - 2ab/n x sum(dy x s^-(b+1)). The last factor is a normalization, too, with the exponent b + 1."""
    n, alpha, beta, k = (node.attr.get(name, default) for name, default in
                         (("size", None), ("alpha", 1e-4), ("beta", 0.75), ("bias", 1.0)))
    share = dy * node.g.op("LRN", x, size=n, alpha=alpha, beta=beta + 1, bias=k)
    return dy * power + x * _band(node, share, n // 2, (n - 1) // 2, -2 * alpha * beta / n)


def _band(node, x, before, after, factor, offset=None):
    """Sum each channel with those `before` and `after` it, times a factor, plus an offset: one 1x1 convolution."""
    channel = np.arange(node.shape(0)[1])
    distance = channel - channel[:, None]
    band = np.float32(factor) * np.float32((distance >= -before) & (distance <= after))
    inputs = [x, node.constant(band[:, :, None, None], "band")]
    if offset is not None:
        inputs.append(node.constant(np.full(len(channel), offset, np.float32), "offset"))
    return node.g.op("Conv", *inputs, kernel_shape=[1, 1], name="exact band")
