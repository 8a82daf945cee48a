"""Which operators have fast forms, and when these apply."""
from collections.abc import Callable
from dataclasses import dataclass

from ..derivatives.node import Node, NoDerivative
from ..derivatives.table import concat
from . import convolution, lrn, pooling
from .taps import positive


@dataclass(frozen=True)
class Form:
    """A way to compute a node's gradient.

    applies(node): can it be used here?
    gradient(node, dy, y, *xs): as an entry of `derivatives.table.VJPS`.
    forward(node, *xs): what is built in place of the node itself, if its gradient uses parts of that. It returns the
    output and the function that `gradient` would be.
    masks: is the gradient 0 wherever the first input is 0?
    """
    applies: Callable
    gradient: Callable | None = None
    forward: Callable | None = None
    masks: bool = False


def _rectifier(node, dy, y, x):
    """Where dy is 0 already nothing is left to do. (Else as dy where y > 0, but without leaving float32.)"""
    return dy if node.masked else dy * positive(y)


def _split_last(node, dy, y, *xs):
    """Split where the channels are last, if dy was made from that: it is one copy less."""
    last, sizes = node.layouts.known_last(dy), [node.shape(i)[1] for i in range(len(xs))]
    if last is None or None in sizes or sum(map(node.wants, range(len(xs)))) == 1:
        return concat(node, dy, y, *xs)
    return tuple(map(node.layouts.channels_first, node.g.op("Split", last, sizes, axis=3, outputs=len(xs))))


FORMS = {
    "AveragePool": [Form(pooling.average_applies, pooling.average_gradient)],
    "Concat":      [Form(lambda node: node.inputs > 1 and len(node.shape(0)) == 4 and node.attr["axis"] in (1, -3),
                         _split_last)],
    "Conv":        [Form(convolution.applies, convolution.gradient)],
    "LRN":         [Form(lrn.applies, forward=lrn.forward)],
    "MaxPool":     [Form(pooling.in_place_applies, pooling.in_place),
                    Form(pooling.in_phases_applies, pooling.in_phases, masks=True)],
    "Relu":        [Form(lambda node: True, _rectifier)],
}
# operators that make 0 of 0 and whose gradient, where it is 0 wherever the output is 0, is so at the input, too
KEEP_MASK = {"Concat", "Dropout", "Identity", "LRN"}


def form_of(node: Node) -> Form | None:
    """The first form that applies; None if there is only the plain derivative."""
    for form in FORMS.get(node.op_type, ()):
        try:
            if form.applies(node):
                return form
        except NoDerivative:      # the plain derivative will say what is unknown
            pass
    return None


def choose(nodes: list[Node], ends: list[str]) -> None:
    """Choose the `form` of each node, and find out which gradients are `masked`.

    nodes: those that depend on the data and lead to the ends, in order.
    """
    unmasked = set(ends)       # tensors whose gradient may be other than 0 where they are 0
    for node in reversed(nodes):
        node.form, node.masked = form_of(node), unmasked.isdisjoint(node.output_names)
        if not (node.form and node.form.masks or node.masked and node.op_type in KEEP_MASK):
            unmasked.update(node.input_names)
