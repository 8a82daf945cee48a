"""Progress bars of dreams: where they are, objective, time left. Quiet where stderr is no terminal."""
import sys

from tqdm import tqdm


class Progress:
    """A bar over the steps of a dream, each weighed by its pixels, so that the time left is true.

    sizes: [(h, w)] of the octaves, smallest first. `step` is an on_step callback of `deepdream`.
    """

    def __init__(self, sizes, iter_n, quiet=False):
        self.sizes, self.iter_n = sizes, iter_n
        self.bar = _bar(sum(h * w for h, w in sizes) * iter_n, quiet)

    def step(self, octave, i, vis, told):
        h, w = self.sizes[octave]
        value = "" if told[0] is None else f"  objective {told[0]:.3g}"
        self.bar.set_description_str(f"octave {octave + 1}/{len(self.sizes)}  step {i + 1}/{self.iter_n}{value} ",
                                     refresh=False)
        self.bar.update(h * w)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


class Iterations:
    """A bar over the iterations of `enhance`, whose on_step is `step`. prior: the word for it."""

    def __init__(self, iter_n, prior):
        self.iter_n, self.prior, self.bar = iter_n, prior, _bar(iter_n)

    def step(self, i, vis, told):
        prior = "" if self.prior == "none" else f"  {self.prior} {told.prior:.3g}"
        self.bar.set_description_str(f"iteration {i}/{self.iter_n}  objective {told.objective:.4g}  data "
                                     f"{told.data:.3g}{prior}  gradient {told.gradient:.2g} ", refresh=False)
        self.bar.update(i > 0)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


def _bar(total, quiet=False):
    return tqdm(total=total, file=sys.stderr, leave=False, disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True,
                bar_format="{desc}|{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")
