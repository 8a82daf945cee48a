"""The description of one step of a dream, which the modules of the engine pass to each other."""
from __future__ import annotations

from dataclasses import dataclass, replace

from ..goals.objectives import Objective
from ..goals.priors import Prior, as_priors, sized


@dataclass(frozen=True, eq=False)
class Step:
    """What a step does to a picture of any size.

    objective: what to maximize, with a layer for each of its terms (see `goals.objectives.as_objective`).
    clip: whether the picture is kept within 0 to 255.
    priors: the priors, in the order in which they are applied.
    tile: pictures larger than this, in pixels, are dreamt in tiles of at most this size; None for no tiles.
    """
    objective: Objective
    clip: bool = True
    priors: tuple[Prior, ...] = ()
    tile: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "priors", as_priors(self.priors))

    def sized(self, h: int, w: int) -> Step:
        """Return the same step for pictures of h x w pixels only."""
        return replace(self, priors=sized(self.priors, h, w))

    @property
    def ends(self) -> list[str]:
        """The layers that the objective looks at."""
        return self.objective.ends

    def in_tiles(self, h: int, w: int) -> bool:
        """Return whether a picture of h x w pixels is dreamt in tiles."""
        return self.tile is not None and max(h, w) > self.tile

    def is_graph(self, net, h: int, w: int) -> bool:
        """Return whether the whole step runs as one graph for a picture of h x w pixels.

        If not, the step is done in NumPy and only the gradient by graphs: for a function of dst, for a net with
        leftover diffs, and in tiles.
        """
        return self.objective.in_graph and not net.leftover and not self.in_tiles(h, w)
