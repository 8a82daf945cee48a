"""Remember the other layouts in which tensors of a graph exist, so that they can be used without a conversion."""
from __future__ import annotations

from dataclasses import dataclass

from ..graph import Tensor


@dataclass(frozen=True)
class Parts:
    """A picture that is divided into blocks of len(grid) x len(grid[0]) pixels, and regrouped.

    grid: grid[i][j] holds the pixels at position (i, j) of each block.
    before: the numbers of rows and columns by which the first block starts before the picture.
    """
    grid: list[list[Tensor]]
    before: tuple[int, int]

    @property
    def stride(self) -> list[int]:
        """The height and width of a block."""
        return [len(self.grid), len(self.grid[0])]


class Layouts:
    """The tensors of one graph that also exist with the channels last, or in parts."""

    def __init__(self):
        self._last, self._parts = {}, {}

    def channels_first(self, x: Tensor) -> Tensor:
        """Transpose (N, H, W, C) to (N, C, H, W)."""
        y = x.graph.op("Transpose", x, perm=[0, 3, 1, 2])
        self._last[y.name] = x
        return y

    def channels_last(self, x: Tensor) -> Tensor:
        """Transpose (N, C, H, W) to (N, H, W, C), unless that exists already."""
        return self.known_last(x) or x.graph.op("Transpose", x, perm=[0, 2, 3, 1])

    def known_last(self, x: Tensor) -> Tensor | None:
        """Return the (N, H, W, C) from which x was transposed, or None."""
        return self._last.get(x.name)

    def put_together(self, x: Tensor, parts: Parts) -> Tensor:
        """Remember the parts from which x was assembled. Returns x."""
        self._parts[x.name] = parts
        return x

    def parts(self, x: Tensor) -> Parts | None:
        """Return the parts from which x was assembled, or None."""
        return self._parts.get(x.name)
