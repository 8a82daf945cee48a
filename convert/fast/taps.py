"""Compare and move pixels with operators that onnxruntime keeps in its blocked layout on the CPU.

These are convolutions, sums, products and HardSigmoid.
"""
from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ..derivatives.node import Node
from ..graph import Tensor

# HardSigmoid, max(0, min(1, HUGE x + TINY)), compares x with 0 and returns float32. TINY vanishes next to HUGE times
# the smallest x that occurs (4e-7); it is not 0 because OpenVINO takes a beta of 0 for a missing one, which means 0.5.
HUGE, TINY = 3e38, -1e-30


def positive(x: Tensor) -> Tensor:
    """Return 1 where x > 0, else 0."""
    return x.graph.op("HardSigmoid", x, alpha=HUGE, beta=TINY)


def depthwise(node: Node, x: Tensor, values: Mapping[tuple[int, int], float], kernel: tuple[int, int] = (1, 1),
              stride: tuple[int, int] = (1, 1), before: tuple[int, int] = (0, 0),
              after: tuple[int, int] = (0, 0)) -> Tensor:
    """Convolve each channel with the same sparse kernel.

    Borders of the kernel that hold only zeros are cut off together with their padding.

    node: the node that is differentiated; its first input has as many channels as x.
    x: the picture.
    values: {(i, j): number}, the elements of the kernel that are not 0.
    kernel, stride: the size of the kernel and its stride.
    before, after: the padding with zeros.
    """
    window = np.zeros(kernel, np.float32)
    for position, value in values.items():
        window[position] = value
    before, after = list(before), list(after)
    for axis in range(2):
        used = np.flatnonzero(window.any(axis=1 - axis))
        front, back = min(used[0], before[axis]), min(kernel[axis] - 1 - used[-1], after[axis])
        before[axis], after[axis] = before[axis] - int(front), after[axis] - int(back)
        window = window.take(range(front, kernel[axis] - back), axis)
    channels = node.shape(0)[1]
    w = np.broadcast_to(window, (channels, 1, *window.shape))
    return node.g.op("Conv", x, node.constant(w, "taps"), group=channels, strides=list(stride), pads=before + after)


def along(axis: int, value: Any, other: Any = 0) -> tuple[Any, Any]:
    """Return a pair with `value` for one of the two spatial axes, and `other` for the other one."""
    return (value, other) if axis == 0 else (other, value)
