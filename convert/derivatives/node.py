"""What the entries of the tables of derivatives are called with."""
import numpy as np

from ..errors import ConvertError, shown
from ..graph import attributes, kind, described
from ..graph.windows import MOST, Window


def refusal(node, why=None):
    """A node in words, and why there is no gradient through it: what `left_out` and the errors name."""
    return f"operator {shown(kind(node))} (node '{shown(_name(node))}'" + (f": {why})" if why else ")")


class NoDerivative(ConvertError):
    """A node that has no derivative in this form. reason: as of `refusal`."""

    def __init__(self, node, why):
        super().__init__(f"{described(node)}: no derivative: {why}")
        self.reason = refusal(node, why)


def _name(node):
    return node.name or node.output[0]


class Node:
    """One node of a net while its derivative is written.

    g: the graph that it is written into. attr: the node's attributes. inputs: how many it has; input_names and
    output_names: what the net calls them. readers: the operators that read its output.

    Only the fast forms use these: layouts (`fast.layouts.Layouts`); form, the one that was chosen, or None; masked, is
    the gradient by its output 0 wherever the output is 0?
    """

    def __init__(self, graph, node, source, size, readers=(), layouts=None):
        self.g, self.op_type, self.name, self.attr = graph, kind(node), _name(node), attributes(node)
        self.input_names, self.output_names, self.inputs = list(node.input), list(node.output), len(node.input)
        self.readers, self.layouts, self.form, self.masked = readers, layouts, None, False
        self._node, self._source, self._size = node, source, size

    def wants(self, i):
        """Does input i depend on the data?"""
        return i < self.inputs and self.input_names[i] in self._source.moving

    def size(self, i):
        """The spatial size of input i, (N, C, h, w), as an int64 Tensor (h, w)."""
        return self._size(self.input_names[i])

    def rectified(self):
        """Is the first input a ReLU's output, perhaps pooled, normalized or joined since?"""
        return self._source.rectified(self.input_names[0])

    def has(self, i):
        return i < self.inputs and bool(self.input_names[i])

    def error(self, message):
        return NoDerivative(self._node, message)

    def is_constant(self, i):
        """Is input i known beforehand?"""
        return self.has(i) and self._source.value(self.input_names[i]) is not None

    def value(self, i):
        """Input i as an array; an error if it is not constant."""
        if not self.is_constant(i):
            name = self.input_names[i] if self.has(i) else None
            made = None if name in self._source.moving else self._source.producer.get(name)
            raise self.error(f"its input {i} must be constant"
                             + (f", and {kind(made)} is not computed here" if made is not None else ""))
        return self._source.value(self.input_names[i])

    def shape(self, i):
        """The static shape of input i: ints, None for a dynamic axis; an error if even the rank is unknown."""
        shape = self._source.shape(self.input_names[i]) if self.has(i) else None
        if shape is None:
            raise self.error(f"the number of axes of its input {i} is unknown")
        return shape

    def usual_shape(self, i):
        """As `shape`, but an axis that is open has its size in a picture of the declared shape, where that is known."""
        return self._source.usual_shape(self.input_names[i]) or self.shape(i)

    def window(self, kernel=None):
        """The Window of a convolution or pooling. kernel: of a convolution, the shape of its weights has it."""
        try:
            window = Window.of(self.attr, kernel)
        except ValueError as error:
            raise self.error(error) from None
        if not all(1 <= size <= MOST for size in (*window.kernel, *window.stride, *window.dilation)):
            raise self.error(f"windows, strides and dilations must be 1 to {MOST}")
        return window

    def constant(self, array, what):
        self.g.room.check(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")
