"""Blobs and weights in memory that stays in place, as Caffe's does, so that a view of them keeps following them."""
import math

import numpy as np


class Memory:
    """A flat float32 array. It is replaced by new zeros only when a larger one is needed (Caffe: Blob::Reshape)."""

    def __init__(self):
        self._array = np.zeros(0, np.float32)

    def reserve(self, count: int):
        """Have room for `count` numbers."""
        if count > self._array.size:
            self._array = np.zeros(count, np.float32)

    def share(self, other: "Memory"):
        """Use the numbers of another memory from now on (Caffe: Blob::ShareData)."""
        self._array = other._array

    def view(self, shape) -> np.ndarray:
        """Return the first numbers as an array of `shape`."""
        return self._array[:math.prod(shape)].reshape(shape)


class Blob:
    """A blob of a net, with the attributes that pycaffe gives it.

    name: its name.
    shape: its shape at first.
    """

    def __init__(self, name: str, shape):
        self.name = name
        self.memory, self.diff_memory = Memory(), Memory()
        self._shape = ()
        self.reshape(shape)

    def reshape(self, *shape):
        """Give the blob another shape: reshape(n, c, h, w). The numbers stay as long as there is room for them."""
        shape = tuple(int(s) for s in (shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape))
        if any(size < 0 for size in shape):
            raise ValueError(f"blob '{self.name}': a shape of {shape}; sizes of 0 and more are allowed")
        if shape != self._shape:
            for memory in (self.memory, self.diff_memory):
                memory.reserve(math.prod(shape))
            self._shape = shape

    @property
    def data(self) -> np.ndarray:
        """The values, float32, which can be changed in place."""
        return self.memory.view(self._shape)

    @property
    def diff(self) -> np.ndarray:
        """The gradient by the values, float32, which can be changed in place."""
        return self.diff_memory.view(self._shape)

    def _no_assignment(self, _):
        raise AttributeError("a blob's arrays are changed in place: blob.data[...] = array (blob.reshape(n, c, h, w) "
                             "first, if it has another shape)")

    data = data.setter(_no_assignment)
    diff = diff.setter(_no_assignment)

    shape = property(lambda self: self._shape)
    count = property(lambda self: math.prod(self._shape))
    num = property(lambda self: _legacy(self._shape, 0))
    channels = property(lambda self: _legacy(self._shape, 1))
    height = property(lambda self: _legacy(self._shape, 2))
    width = property(lambda self: _legacy(self._shape, 3))

    def __repr__(self):
        return f"Blob({self.name!r}, {self._shape})"


class Parameter:
    """One weight blob of a layer. `data` can be changed in place; the next pass computes with the new numbers."""

    def __init__(self, array: np.ndarray):
        self._array = np.array(array, np.float32)
        self.exposed = False      # whether someone outside may hold the array

    @property
    def data(self) -> np.ndarray:
        """The weights, float32."""
        self.exposed = True
        return self._array

    @data.setter
    def data(self, _):
        raise AttributeError("weights are changed in place: net.params[layer][i].data[...] = array")

    @property
    def diff(self):
        """Not available: raises AttributeError."""
        raise AttributeError("gradients by the weights are not computed here, only those by the blobs, "
                             "net.blobs[name].diff")

    def reshape(self, *_):
        """Not available: raises AttributeError."""
        raise AttributeError("weights keep their shape here: change num_output, kernel_size, ... in the prototxt and "
                             "make a new net")

    def peek(self) -> np.ndarray:
        """Return the weights to read only."""
        return self._array

    shape = property(lambda self: self._array.shape)
    count = property(lambda self: self._array.size)
    num = property(lambda self: _legacy(self.shape, 0))
    channels = property(lambda self: _legacy(self.shape, 1))
    height = property(lambda self: _legacy(self.shape, 2))
    width = property(lambda self: _legacy(self.shape, 3))


def _legacy(shape, axis):
    """The size of an axis; 1 where the blob has fewer axes (Caffe: Blob::LegacyShape)."""
    if len(shape) > 4:
        raise ValueError(f"num, channels, height and width are those of a blob of at most 4 axes; use shape: {shape}")
    return shape[axis] if axis < len(shape) else 1
