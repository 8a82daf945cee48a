"""How much the check can tell apart: spreads and shares of noticed mistakes, measured on the notebook's own pictures.

The figures are for BVLC GoogLeNet and pictures of 1024x575, on the CPU. `tests/regress_power.py` computes them anew
from the dreams that `deepdream regress --negatives --keep FOLDER` leaves in a folder.
"""
from __future__ import annotations

from dataclasses import replace

from .statistics import PRIOR, Calibration

NET, SIZE = "bvlc_googlenet", (575, 1024)

# {case: Calibration}, over our dreams and those of real Caffe together
CALIBRATIONS: dict[str, Calibration] = {
    "4c": Calibration(12, {
        "change": 0.0057, "low": 0.0258, "spectrum": 0.3059, "objective": 0.056, "gradient": 0.0437,
        "channels": 0.2382, "content": 0.1389, "layers": 0.4842, "colours": 0.2052}),
    "3b_5x5_reduce_leftover": Calibration(6, {
        "change": 0.0019, "low": 0.032, "spectrum": 0.3042, "objective": 0.0243, "gradient": 0.0089,
        "channels": 0.4667, "content": 0.0857, "layers": 0.337, "colours": 0.1758}),
    "guided_3b": Calibration(12, {
        "change": 0.0057, "low": 0.042, "spectrum": 0.3558, "objective": 0.0145, "gradient": 0.0234,
        "channels": 0.3935, "content": 0.1539, "layers": 0.4027, "colours": 0.4218}),
    "zoom": Calibration(9, {
        "change": 0.0214, "low": 0.0323, "spectrum": 0.6004, "objective": 0.0509, "gradient": 0.0212,
        "channels": 0.2673, "content": 0.2657, "layers": 0.4824, "colours": 0.5525}),
}

# {mistake in `check.NEGATIVES`, or None for no mistake: shares of the checks with 2 and with 4 seeds that notice it}.
# Mistakes were made in one picture only, 4c; no mistake, in all three.
SEEDS = (2, 4)
POWER: dict[str | None, tuple[float, float]] = {
    None: (0.01, 0.0),
    "layer": (1.0, 1.0),
    "net": (0.86, 1.0),
    "step": (1.0, 1.0),
    "iterations": (1.0, 1.0),
    "mean": (1.0, 1.0),
    "mean_order": (0.47, 0.62),
    "places_mean": (0.0, 0.0),
    "swapped": (1.0, 1.0),
    "jitter": (1.0, 1.0),
}


def calibration_of(case: str, net: str, size: tuple[int, int]) -> Calibration | None:
    """Return the spreads of the statistics of a case, or None if they were not measured.

    For other nets and sizes, a zoom takes the measured ones, too, but they count less: in its last frame, the mean
    change differs four times as much from seed to seed as in a single dream.

    case: the name of the case.
    net: the name of the net.
    size: (height, width) of the picture.
    """
    measured = CALIBRATIONS.get(case)
    if (net, size) == (NET, SIZE):
        return measured
    return replace(measured, dreams=PRIOR + 1) if case == "zoom" else None
