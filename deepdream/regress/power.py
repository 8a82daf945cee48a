"""How much the check can tell apart: spreads and shares of noticed mistakes, measured on the notebook's own pictures.

The figures are for BVLC GoogLeNet and pictures of 1024x575, on the CPU. `tests/regress_power.py` computes them anew
from the dreams that `deepdream regress --negatives --keep FOLDER` leaves in a folder.
"""
from __future__ import annotations

from .statistics import Calibration

NET, SIZE = "bvlc_googlenet", (575, 1024)

# {case: Calibration}, over our dreams and those of real Caffe together
CALIBRATIONS: dict[str, Calibration] = {
}

# {mistake in `check.NEGATIVES`, or None for no mistake: shares of the checks with 2 and 4 seeds that notice it}
SEEDS = (2, 4)
POWER: dict[str | None, tuple[float, float]] = {
}


def calibration_of(case: str, net: str, size: tuple[int, int]) -> Calibration | None:
    """Return the spreads of the statistics of a case, or None if they were not measured.

    case: the name of the case.
    net: the name of the net.
    size: (height, width) of the picture.
    """
    return CALIBRATIONS.get(case) if (net, size) == (NET, SIZE) else None
