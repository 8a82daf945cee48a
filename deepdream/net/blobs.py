"""Blobs and the transformer, as far as dream scripts know them from pycaffe."""
import contextlib
from collections.abc import Callable, Sequence

import numpy as np


class Blob:
    """A blob: `data` and `diff` are float32 arrays that can be written in place.

    diffs: what keeps the diffs instead, where they are kept as Caffe keeps them (see `leftover`); it has
    `diff(name, shape)`. lock: of the net.
    """

    def __init__(self, name: str, shape: Sequence[int], diffs=None, lock=None):
        self.name, self.diffs, self.lock = name, diffs, lock or contextlib.nullcontext()
        self._shape = tuple(shape)
        self._data = self._diff = self._pending = None

    @property
    def data(self) -> np.ndarray:
        self._fill_in()
        if self._data is None:
            self._data = np.zeros(self._shape, np.float32)
        return self._data

    @property
    def diff(self) -> np.ndarray:
        self._fill_in()
        if self.diffs:
            return self.diffs.diff(self.name, self.shape)
        if self._diff is None or self._diff.shape != self._shape:
            self._diff = np.zeros(self._shape, np.float32)
        return self._diff

    def reshape(self, *shape):
        """Give the blob another shape: reshape(n, c, h, w). What it held is gone."""
        shape = tuple(int(s) for s in (shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape))
        if shape != self._shape:
            self._shape, self._data, self._diff, self._pending = shape, None, None, None

    @property
    def shape(self) -> tuple[int, ...]:
        self._fill_in()
        return self._shape

    num = property(lambda self: self.shape[0])
    channels = property(lambda self: self.shape[1])
    height = property(lambda self: self.shape[2])
    width = property(lambda self: self.shape[3])
    count = property(lambda self: int(np.prod(self.shape)))

    def hold(self, data: np.ndarray):
        """Take an array, as it is, for the blob's data."""
        if data.shape != self._shape:
            self._shape, self._diff = data.shape, None
        self._data, self._pending = data, None

    def hold_later(self, compute: Callable[[], np.ndarray]):
        """Take what `compute` returns for the blob's data, as soon as somebody looks at it."""
        self._pending = compute

    def _fill_in(self):
        if self._pending:
            with self.lock:
                if self._pending:      # no other thread has done it meanwhile
                    self.hold(self._pending())

    def __repr__(self):
        return f"Blob({self.name!r}, {self._shape})"


class Transformer:
    """What pycaffe's Transformer holds of interest here: `mean['data']` (C, 1, 1) and `channel_swap['data']`."""

    def __init__(self, name: str, mean, channel_swap: Sequence[int]):
        self.mean = {name: np.asarray(mean, np.float32).reshape(-1, 1, 1)}
        self.channel_swap = {name: tuple(channel_swap)}
