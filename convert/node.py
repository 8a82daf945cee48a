"""What the entries of the tables of derivatives are called with."""
import numpy as np

from .errors import ConvertError, shown


class Node:
    """One node while its derivative is written: g (the graph), attr (its attributes), inputs and outputs (how many).

    values, shapes: functions of a name, that give the constant array or the static shape behind it, or None.
    moving: the names that depend on the data. readers: the operators that read its output. masked: is dy 0 wherever y
    is 0? masks: do its gradients have this of themselves?
    """

    def __init__(self, graph, node, attr, values, shapes, moving, rectified, size, readers):
        self.g, self.op_type, self.name, self.attr = graph, node.op_type, node.name or node.output[0], attr
        self.inputs, self.outputs = len(node.input), len(node.output)
        self._names, self._values, self._shapes, self._moving = list(node.input), values, shapes, moving
        self._rectified, self._size, self.readers = rectified, size, readers
        self.masked = self.masks = False
        self.saved = None        # what the node's forward part keeps for its derivative

    def wants(self, i):
        """Does input i depend on the data?"""
        return i < self.inputs and self._names[i] in self._moving

    def size(self, i):
        """The spatial size of input i, (N, C, h, w), as an int64 Tensor (h, w)."""
        return self._size(self._names[i])

    def rectified(self):
        """Is the first input a ReLU's output, but for pooling, normalizing and joining?"""
        return self._rectified(self._names[0])

    def has(self, i):
        return i < self.inputs and bool(self._names[i])

    def error(self, message):
        return ConvertError(f"node '{shown(self.name)}' ({self.op_type}): no derivative: {message}")

    def value(self, i):
        """Input i as an array; an error if it is not constant."""
        array = self._values(self._names[i])
        if array is None:
            raise self.error(f"its input {i} must be constant")
        return array

    def shape(self, i):
        """The static shape of input i: ints, None for a dynamic axis; an error if even the rank is unknown."""
        shape = self._shapes(self._names[i])
        if shape is None:
            raise self.error(f"the number of axes of its input {i} is unknown")
        return shape

    def constant(self, array, what):
        self.g.check_room(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")
