"""Comparing and moving pixels by operators that onnxruntime keeps in its blocked layout on the CPU: convolutions, sums,
products and HardSigmoid."""
import numpy as np

# HardSigmoid, max(0, min(1, HUGE x + NOTHING)), compares x with 0 and answers in float32. NOTHING is lost in HUGE times
# the smallest x there is (4e-7); OpenVINO would take a beta of 0 for a missing one, which means 0.5.
HUGE, NOTHING = 3e38, -1e-30


def positive(x):
    """1 where x > 0, else 0. x must not be negative."""
    return x.graph.op("HardSigmoid", x, alpha=HUGE, beta=NOTHING)


def tapped(node, x, values, kernel=(1, 1), stride=(1, 1), before=(0, 0), after=(0, 0)):
    """A convolution of each channel with the same kernel of few numbers.

    values: {(i, j): number} of the kernel, which is 0 elsewhere. before, after: padding with zeros. Borders of the
    kernel that hold only zeros are cut off together with their padding.
    """
    window = np.zeros(kernel, np.float32)
    for place, value in values.items():
        window[place] = value
    before, after = list(before), list(after)
    for axis in range(2):
        used = np.flatnonzero(window.any(axis=1 - axis))
        front, back = min(used[0], before[axis]), min(kernel[axis] - 1 - used[-1], after[axis])
        before[axis], after[axis] = before[axis] - int(front), after[axis] - int(back)
        window = window.take(range(front, kernel[axis] - back), axis)
    channels = node.shape(0)[1]
    w = np.broadcast_to(window, (channels, 1, *window.shape))
    return node.g.op("Conv", x, node.constant(w, "taps"), group=channels, strides=list(stride), pads=before + after)


def on(axis, value, other=0):
    """`value` for one of the two spatial axes, `other` for the other one."""
    return (value, other) if axis == 0 else (other, value)
