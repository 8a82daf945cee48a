"""Progress bars, with the objective and the time left. They are shown only if stderr is a terminal."""
from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from tqdm import tqdm

if TYPE_CHECKING:
    from ..dream import StepReport
    from ..enhance import EnhanceReport


class Progress:
    """A bar over the steps of a dream. Steps count by their pixels, so that the time left is realistic.

    sizes: [(h, w)] of the octaves, smallest first.
    iter_n: number of steps in each octave.
    quiet: show nothing.
    """

    def __init__(self, sizes: Sequence[tuple[int, int]], iter_n: int, quiet: bool = False):
        self.sizes, self.iter_n = sizes, iter_n
        self.bar = _bar(sum(h * w for h, w in sizes) * iter_n, quiet)

    def step(self, octave: int, i: int, vis: object, report: StepReport) -> None:
        """Advance by one step; an `on_step` callback of `deepdream`."""
        h, w = self.sizes[octave]
        value = "" if report.objective is None else f"  objective {report.objective:.3g}"
        self.bar.set_description_str(f"octave {octave + 1}/{len(self.sizes)}  step {i + 1}/{self.iter_n}{value} ",
                                     refresh=False)
        self.bar.update(h * w)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


class Iterations:
    """A bar over the iterations of `enhance`.

    iter_n: the maximum number of iterations.
    prior: name of the prior, as `enhance` takes it.
    """

    def __init__(self, iter_n: int, prior: str):
        self.iter_n, self.prior, self.bar = iter_n, prior, _bar(iter_n)

    def step(self, i: int, vis: object, report: EnhanceReport) -> None:
        """Advance by one iteration; an `on_step` callback of `enhance`."""
        prior = "" if self.prior == "none" else f"  {self.prior} {report.prior:.3g}"
        self.bar.set_description_str(f"iteration {i} of at most {self.iter_n}  objective {report.objective:.4g}  data "
                                     f"{report.data:.3g}{prior}  gradient {report.gradient:.2g} ", refresh=False)
        self.bar.update(i - self.bar.n)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def _bar(total, quiet=False):
    return tqdm(total=total, file=sys.stderr, leave=False, disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True,
                bar_format="{desc}|{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")
