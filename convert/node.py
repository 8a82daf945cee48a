"""What the entries of the tables of derivatives are called with."""
import numpy as np

from .errors import ConvertError, shown
from .graph import attributes, kind, told


def refusal(node, why=None):
    """A node in words, and why there is no gradient through it: what `left_out` and the errors name."""
    return f"operator {shown(kind(node))} (node '{shown(_name(node))}'" + (f": {why})" if why else ")")


class NoDerivative(ConvertError):
    """A node that has no derivative in this form. reason: as of `refusal`."""

    def __init__(self, node, why):
        super().__init__(f"{told(node)}: no derivative: {why}")
        self.reason = refusal(node, why)


def _name(node):
    return node.name or node.output[0]


class Node:
    """One node while its derivative is written: g (the graph), attr (its attributes), inputs and outputs (how many).

    source: the model. size: a function of a name, that gives the spatial size behind it. readers: the operators that
    read its output. masked: is dy 0 wherever y is 0? masks: do its gradients have this of themselves?
    """

    def __init__(self, graph, node, source, size, readers=()):
        self.g, self.op_type, self.name, self.attr = graph, kind(node), _name(node), attributes(node)
        self._node, self._source, self._size, self.readers = node, source, size, readers
        self.inputs, self.outputs, self._names = len(node.input), len(node.output), list(node.input)
        self.masked = self.masks = False
        self.saved = None        # what the node's forward part keeps for its derivative

    def wants(self, i):
        """Does input i depend on the data?"""
        return i < self.inputs and self._names[i] in self._source.moving

    def size(self, i):
        """The spatial size of input i, (N, C, h, w), as an int64 Tensor (h, w)."""
        return self._size(self._names[i])

    def rectified(self):
        """Is the first input a ReLU's output, but for pooling, normalizing and joining?"""
        return self._source.rectified(self._names[0])

    def has(self, i):
        return i < self.inputs and bool(self._names[i])

    def error(self, message):
        return NoDerivative(self._node, message)

    def value(self, i):
        """Input i as an array; an error if it is not constant."""
        name = self._names[i] if self.has(i) else None
        array = self._source.value(name) if name else None
        if array is None:
            made = None if name in self._source.moving else self._source.producer.get(name)
            raise self.error(f"its input {i} must be constant"
                             + (f", and {kind(made)} is not computed here" if made is not None else ""))
        return array

    def shape(self, i):
        """The static shape of input i: ints, None for a dynamic axis; an error if even the rank is unknown."""
        shape = self._source.shape(self._names[i]) if self.has(i) else None
        if shape is None:
            raise self.error(f"the number of axes of its input {i} is unknown")
        return shape

    def usual_shape(self, i):
        """As `shape`, but an axis that is open has its size in a picture of the declared shape, where that is known."""
        return self._source.usual_shape(self._names[i]) or self.shape(i)

    def constant(self, array, what):
        self.g.room.check(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")
