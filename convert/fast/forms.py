"""The tables of fast forms, one for each device: which operators have them, and when they apply."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ..derivatives.node import Node, NoDerivative
from ..derivatives.table import concat
from . import convolution, cuda, lrn, pooling, scattered
from .taps import positive


@dataclass(frozen=True)
class Form:
    """A fast way to compute a node's gradient.

    applies(node): whether it can be used for this node.
    gradient(node, dy, y, *xs): the gradient, like an entry of `derivatives.table.VJPS`.
    forward(node, *xs): builds the node itself in another way, for a gradient that shares parts of it. It returns
    (output, gradient), where gradient is such a function. Only one of `gradient` and `forward` is set.
    masks: whether the gradient is 0 wherever the first input is 0.
    """
    applies: Callable
    gradient: Callable | None = None
    forward: Callable | None = None
    masks: bool = False


def _rectifier(node, dy, y, x):
    """dy where y > 0, else 0, without leaving float32. Nothing to do if dy is 0 there already."""
    return dy if node.masked else dy * positive(y)


def _split_last(node, dy, y, *xs):
    """Split along the last axis if dy exists with the channels last, which saves a copy."""
    last, sizes = node.layouts.known_last(dy), [node.shape(i)[1] for i in range(len(xs))]
    if last is None or None in sizes or sum(map(node.needs_gradient, range(len(xs)))) == 1:
        return concat(node, dy, y, *xs)
    return tuple(map(node.layouts.channels_first, node.g.op("Split", last, sizes, axis=3, outputs=len(xs))))


FORMS = {
    "AveragePool": [Form(pooling.average_applies, pooling.average_gradient)],
    "Concat":      [Form(lambda node: node.inputs > 1 and len(node.shape(0)) == 4 and node.attr["axis"] in (1, -3),
                         _split_last)],
    "Conv":        [Form(convolution.applies, convolution.gradient)],
    "LRN":         [Form(lrn.applies, forward=lrn.forward)],
    "MaxPool":     [Form(pooling.max_stride_1_applies, pooling.max_stride_1_gradient),
                    Form(pooling.max_strided_applies, pooling.max_strided_gradient, masks=True)],
    "Relu":        [Form(lambda node: True, _rectifier)],
}
CUDA_FORMS = {
    "AveragePool": [Form(cuda.average_applies, cuda.average),
                    Form(pooling.average_applies, cuda.average_by_convolution)],
    "Concat":      [Form(cuda.joins_relus, cuda.concat_of_relus, masks=True)],
    "Conv":        [Form(convolution.applies, cuda.conv)],
    "LRN":         [Form(cuda.lrn_applies_after_relu, cuda.lrn_after_relu, masks=True),
                    Form(cuda.lrn_applies, cuda.lrn)],
    "MaxPool":     [Form(scattered.applies_after_relu, forward=scattered.forward_after_relu, masks=True),
                    Form(scattered.applies, forward=scattered.forward)],
    "Relu":        [Form(lambda node: True, cuda.relu)],
}
# the same for dreams that need not follow Caffe's step by step
CUDA_FAST_FORMS = CUDA_FORMS | {
    "MaxPool": [Form(scattered.applies_after_relu, forward=scattered.forward_at_once, masks=True),
                *CUDA_FORMS["MaxPool"][1:]],
}
TABLES = {"cpu": FORMS, "cuda": CUDA_FORMS, "cuda-fast": CUDA_FAST_FORMS}
# operators that map 0 to 0, and whose gradient is 0 wherever the input is 0 if that holds for the output
KEEP_MASK = {"Concat", "Dropout", "Identity", "LRN"}


def form_of(node: Node, device: str = "cpu") -> Form | None:
    """Return the first form that applies to a node on a device; None for the plain derivative."""
    for form in TABLES[device].get(node.op_type, ()):
        try:
            if form.applies(node):
                return form
        except NoDerivative:      # the plain derivative reports what is unknown
            pass
    return None


def choose(nodes: list[Node], ends: list[str], device: str = "cpu") -> None:
    """Set `form` and `masked` of each node.

    nodes: the nodes that depend on the data and lead to the ends, in order.
    ends: the names of the ends.
    device: whose forms are used, a key of TABLES.
    """
    unmasked = set(ends)       # tensors whose gradient may differ from 0 where they are 0
    for node in reversed(nodes):
        node.form, node.masked = form_of(node, device), unmasked.isdisjoint(node.output_names)
        if not (node.form and node.form.masks or node.masked and node.op_type in KEEP_MASK):
            unmasked.update(node.input_names)
