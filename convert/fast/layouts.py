"""The other layouts in which tensors of a graph exist, so that whatever needs one of these can use it as it is."""
from dataclasses import dataclass

from ..graph import Tensor


@dataclass(frozen=True)
class Parts:
    """A picture taken apart: grid[i][j] holds the pixels that stand at place (i, j) of each block of
    len(grid) x len(grid[0]) pixels. The first block begins `before` (two numbers) pixels before the picture."""
    grid: list[list[Tensor]]
    before: tuple[int, int]

    @property
    def stride(self) -> list[int]:
        return [len(self.grid), len(self.grid[0])]


class Layouts:
    """For tensors (N, C, H, W) of one graph: where the same numbers stand as (N, H, W, C), and where in parts."""

    def __init__(self):
        self._last, self._parts = {}, {}

    def channels_first(self, x):
        """(N, H, W, C) -> (N, C, H, W)."""
        y = x.graph.op("Transpose", x, perm=[0, 3, 1, 2])
        self._last[y.name] = x
        return y

    def channels_last(self, x):
        """(N, C, H, W) -> (N, H, W, C)."""
        return self.known_last(x) or x.graph.op("Transpose", x, perm=[0, 2, 3, 1])

    def known_last(self, x):
        """The (N, H, W, C) that x was made from, or None."""
        return self._last.get(x.name)

    def put_together(self, x, parts):
        """Remember the parts that x was put together from. Returns x."""
        self._parts[x.name] = parts
        return x

    def parts(self, x):
        """The Parts that x was put together from, or None."""
        return self._parts.get(x.name)
