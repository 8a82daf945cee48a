"""One step of a dream, as a record: what the engine's modules hand to each other."""
from dataclasses import dataclass

from ..goals.objectives import Objective
from ..goals.priors import Prior, as_priors


@dataclass(frozen=True, eq=False)
class Step:
    """What a step does to a picture, whatever its size.

    objective: what grows, with a layer for each of its terms (see `goals.objectives.as_objective`).
    clip: keep the picture within 0 to 255.
    priors: what keeps the picture natural, in their order.
    tile: dream pictures that are larger than so many pixels in tiles of at most so many in each direction.
    """
    objective: Objective
    clip: bool = True
    priors: tuple[Prior, ...] = ()
    tile: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "priors", as_priors(self.priors))

    @property
    def ends(self) -> list[str]:
        """The layers that the objective looks at."""
        return self.objective.ends

    def in_tiles(self, h: int, w: int) -> bool:
        """Is a picture of h x w pixels dreamt in tiles?"""
        return self.tile is not None and max(h, w) > self.tile

    def is_graph(self, net, h: int, w: int) -> bool:
        """Does the whole step run as one graph? If not, NumPy steps around the gradient: for a function of dst, where
        diffs are kept layer by layer, and in tiles."""
        return self.objective.in_graph and not net.leftover and not self.in_tiles(h, w)
