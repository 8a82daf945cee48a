"""Blobs and the transformer, with the part of pycaffe's interface that dream scripts use."""
from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence

import numpy as np


class Blob:
    """A blob of a net. Its `data` and `diff` are float32 arrays that can be changed in place.

    name: the name of the blob.
    shape: the shape to start with.
    lock: the lock of the net, or None.
    """

    def __init__(self, name: str, shape: Sequence[int],
                 lock: contextlib.AbstractContextManager | None = None):
        self.name, self.lock = name, lock or contextlib.nullcontext()
        self._shape = tuple(shape)
        self._data = self._diff = self._pending = None

    @property
    def data(self) -> np.ndarray:
        """The values of the blob, float32."""
        self._compute_pending()
        if self._data is None:
            self._data = np.zeros(self._shape, np.float32)
        return self._data

    @property
    def diff(self) -> np.ndarray:
        """The gradient with respect to the values, float32, in the same shape."""
        self._compute_pending()
        if self._diff is None or self._diff.shape != self._shape:
            self._diff = np.zeros(self._shape, np.float32)
        return self._diff

    def reshape(self, *shape: int | Sequence[int]) -> None:
        """Change the shape, as reshape(n, c, h, w) or reshape((n, c, h, w)). A new shape sets all values to zero."""
        shape = tuple(int(s) for s in (shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape))
        if shape != self._shape:
            self._shape, self._data, self._diff, self._pending = shape, None, None, None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of `data` and `diff`."""
        self._compute_pending()
        return self._shape

    num = property(lambda self: self.shape[0])
    channels = property(lambda self: self.shape[1])
    height = property(lambda self: self.shape[2])
    width = property(lambda self: self.shape[3])
    count = property(lambda self: int(np.prod(self.shape)))

    def hold(self, data: np.ndarray) -> None:
        """Use an array as the blob's data, without a copy."""
        if data.shape != self._shape:
            self._shape, self._diff = data.shape, None
        self._data, self._pending = data, None

    def hold_later(self, compute: Callable[[], np.ndarray]) -> None:
        """Use the result of `compute` as the blob's data. It is called when the blob is read for the first time."""
        self._pending = compute

    def _compute_pending(self):
        if self._pending:
            with self.lock:
                if self._pending:      # another thread may have done it in the meantime
                    self.hold(self._pending())

    def __repr__(self):
        empty = self._pending is not None or self._shape == (0,)      # a repr must not start a forward pass
        return f"<Blob {self.name}: {'not computed yet' if empty else 'x'.join(map(str, self._shape))}>"


class Transformer:
    """The part of pycaffe's Transformer that is used here.

    The attributes `mean` and `channel_swap` are dicts, as in pycaffe: `mean['data']`, (C, 1, 1), and
    `channel_swap['data']`.

    name: the name of the net's input, mostly 'data'.
    mean: one number for each channel, in the net's order.
    channel_swap: for each channel of the net, the number of the picture's channel (0 red, 1 green, 2 blue).
    """

    def __init__(self, name: str, mean: np.ndarray, channel_swap: Sequence[int]):
        self.mean = {name: np.asarray(mean, np.float32).reshape(-1, 1, 1)}
        self.channel_swap = {name: tuple(channel_swap)}
