"""How much the check can tell apart: spreads and shares of noticed mistakes, measured on the notebook's own pictures.

The figures are for BVLC GoogLeNet and pictures of 1024x575, on the CPU. `tests/regress_power.py` computes them anew
from the dreams that `deepdream regress --negatives --keep FOLDER` leaves in a folder.
"""
from __future__ import annotations

from collections.abc import Mapping

NET, SIZE = "bvlc_googlenet", (575, 1024)

# {case: {statistic: spread}}, as in `statistics.STATISTICS`; over our dreams and those of real Caffe together
SPREADS: dict[str, dict[str, float]] = {
}

# {mistake in `check.NEGATIVES`, or None for no mistake: shares of the checks with 2, 4 and 8 seeds that notice it}
SEEDS = (2, 4, 8)
POWER: dict[str | None, tuple[float, float, float]] = {
}


def spreads_of(case: str, net: str, size: tuple[int, int]) -> Mapping[str, float] | None:
    """Return the spreads of the statistics of a case, or None if they were not measured.

    case: the name of the case.
    net: the name of the net.
    size: (height, width) of the picture.
    """
    return SPREADS.get(case) if (net, size) == (NET, SIZE) else None
