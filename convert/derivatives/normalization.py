"""The derivatives of normalizations: of layers, of instances, over neighbouring channels, of scores."""
from __future__ import annotations

import numpy as np

from ..graph import Tensor
from .common import mean, reduce_sum
from .node import Node


def lrn(node, dy, y, x):
    """y = x s^-b, where s = k + a/n sum x^2 over a window of channels.

    dx = dy s^-b - 2ab/n x sum(dy y / s), summed over the windows that contain the channel.
    """
    n, alpha, beta = node.attr["size"], node.attr.get("alpha", 1e-4), node.attr.get("beta", 0.75)
    s = _over_channels(node, x * x, (n - 1) // 2, n // 2) * (alpha / n) + node.attr.get("bias", 1.0)
    return dy * s ** -beta - x * _over_channels(node, dy * y / s, n // 2, (n - 1) // 2) * (2 * alpha * beta / n)


def _over_channels(node, x, before, after):
    """Sum each channel with those `before` and `after` it, by a convolution with a band matrix of ones."""
    if len(node.shape(0)) != 4 or node.shape(0)[1] is None:
        raise node.error("only for (N, C, H, W) with a known number of channels")
    channel = np.arange(node.shape(0)[1])
    distance = channel - channel[:, None]
    band = np.float32((distance >= -before) & (distance <= after))
    return node.g.op("Conv", x, node.constant(band[:, :, None, None], "band"), kernel_shape=[1, 1])


def batch_normalization(node, dy, y, x, *_):
    """At inference, y is x times a factor for each channel, plus an offset."""
    if node.attr.get("training_mode", 0):
        raise node.error("training_mode is not supported")
    scale, variance = node.value(1), node.value(4)
    factor = scale / np.sqrt(variance.astype(np.float64) + node.attr.get("epsilon", 1e-5))
    return dy * node.constant(factor.astype(np.float32).reshape(-1, *[1] * (len(node.shape(0)) - 2)), "factor")


def layer_normalization(node, dy, y, x, scale, *_):
    """y = scale n + bias, where n is x without its mean, divided by its deviation, over the last axes."""
    rank = len(node.shape(0))
    return normalized(node, dy * scale, x, range(node.attr.get("axis", -1) % rank, rank))


def instance_normalization(node, dy, y, x, scale, *_):
    """y = scale n + bias, with the mean and the deviation of each channel by itself."""
    rank = len(node.shape(0))
    return normalized(node, dy * node.g.op("Reshape", scale, [-1] + [1] * (rank - 2)), x, range(2, rank))


def normalized(node: Node, dn: Tensor, x: Tensor, axes: range) -> Tensor:
    """Build the gradient of n = (x - mean) / s, where s = sqrt(variance + epsilon) over some axes.

    dx = (dn - mean(dn) - n mean(dn n)) / s
    """
    axes = list(axes)
    sizes = [node.shape(0)[a] for a in axes]
    centred = x - mean(node, x, axes, sizes)
    s = node.g.op("Sqrt", mean(node, centred * centred, axes, sizes) + node.attr.get("epsilon", 1e-5))
    n = centred / s
    return (dn - mean(node, dn, axes, sizes) - n * mean(node, dn * n, axes, sizes)) / s


def softmax(node, dy, y, x):
    axis = node.attr.get("axis", -1)
    return y * (dy - reduce_sum(node, dy * y, [axis]))


def log_softmax(node, dy, y, x):
    axis = node.attr.get("axis", -1)
    return dy - node.g.op("Exp", y) * reduce_sum(node, dy, [axis])
