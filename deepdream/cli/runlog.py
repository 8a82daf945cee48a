"""The run log of a dream: one row for each step, as CSV and as a plot."""
from __future__ import annotations

import contextlib
import csv
import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import pictures
from ..provenance import SOFTWARE

if TYPE_CHECKING:
    from ..dream import StepReport

COLUMNS = ["octave", "step", "width", "height", "objective", "mean_abs_gradient", "jitter_x", "jitter_y",
           "milliseconds"]
PANELS = {"objective": (88, 150, 214), "mean_abs_gradient": (214, 132, 60), "milliseconds": (110, 170, 96)}


def is_log(path: str | Path) -> bool:
    """Return whether a file is a run log."""
    header = ",".join(COLUMNS).encode()
    with contextlib.suppress(OSError), open(path, "rb") as file:
        return file.read(len(header)) == header
    return False


class RunLog:
    """A collection of the steps of a dream."""

    def __init__(self):
        self.rows = []

    def step(self, octave: int, i: int, vis: object, report: StepReport) -> None:
        """Add a step; an `on_step` callback of `deepdream`."""
        h, w = report.size
        self.rows.append([octave + 1, i + 1, w, h, report.objective, report.mean_abs, *report.jitter,
                          round(report.milliseconds, 3)])

    def csv(self) -> bytes:
        """Return all steps so far as the contents of a CSV file."""
        text = io.StringIO()
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows(self.rows)
        return text.getvalue().encode()

    def column(self, name: str) -> list:
        """Return the values of a column, one of COLUMNS."""
        return [row[COLUMNS.index(name)] for row in self.rows]

    def plot(self, width: int = 960, height: int = 220) -> np.ndarray:
        """Draw objective, mean |gradient| and milliseconds of all steps, each in a panel; every other octave is shaded.

        width: of the whole picture, in pixels.
        height: of each panel, in pixels.

        Returns uint8 (H, W, 3).
        """
        from PIL import Image, ImageDraw, ImageFont
        left, gap = 80, 26
        sheet = Image.new("RGB", (width, gap + len(PANELS) * (height + gap) + gap), "white")
        draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(13)
        octaves, n = self.column("octave"), len(self.rows)

        def across(i):
            return left + (i + 0.5) * (width - left - gap) / max(n, 1)

        for panel, (name, colour) in enumerate(PANELS.items()):
            top = gap + panel * (height + gap)
            for octave in range(1, max(octaves, default=0) + 1):
                steps = [i for i, o in enumerate(octaves) if o == octave]
                if octave % 2 and steps:
                    draw.rectangle([across(steps[0] - 0.5), top, across(steps[-1] + 0.5), top + height],
                                   fill=(242, 242, 242))
            draw.rectangle([left, top, width - gap, top + height], outline=(120, 120, 120))
            draw.text((left, top - 18), name.replace("_", " ").replace("mean abs gradient", "mean |gradient|"),
                      (40, 40, 40), font)
            values = [(i, v) for i, v in enumerate(self.column(name)) if v is not None]
            if not values:
                continue
            low, high = _limits([v for _, v in values])
            points = [(across(i), top + height - (v - low) / (high - low) * height) for i, v in values]
            for value, y in ((high, top), (low, top + height - 14)):
                draw.text((left - 6, y), f"{value:.4g}", (40, 40, 40), font, anchor="ra")
            for octave in sorted(set(octaves)):
                line = [p for p, (i, _) in zip(points, values) if octaves[i] == octave]
                if len(line) > 1:
                    draw.line(line, colour, 2, "curve")
                for x, y in line:
                    draw.ellipse([x - 2, y - 2, x + 2, y + 2], fill=colour)
        for octave in sorted(set(octaves)):
            steps, row = [i for i, o in enumerate(octaves) if o == octave], self.rows[octaves.index(octave)]
            text = f"octave {octave}: {len(steps)} steps at {row[2]}x{row[3]}"
            draw.text((across((steps[0] + steps[-1]) / 2), sheet.height - gap), text, (40, 40, 40), font, anchor="ma")
        return np.asarray(sheet)

    def save(self, log: str | None = None, plot: str | None = None) -> None:
        """Write the run log.

        log: path of the CSV file, or None.
        plot: path of the plot, or None.
        """
        if log:
            pictures.write(log, self.csv())
        if plot:
            pictures.save(self.plot(), plot, {"software": SOFTWARE})


def _limits(values):
    low, high = min(0.0, min(values)), max(0.0, max(values))
    return (low, high) if high > low else (low, low + 1)
