"""The progress bar of a dream: octave, step, objective, time left. Quiet where stderr is no terminal."""
import sys

from tqdm import tqdm


class Progress:
    """A bar over the steps of a dream, each weighed by its pixels, so that the time left is true.

    sizes: [(h, w)] of the octaves, smallest first. `step` is an on_step callback of `deepdream`.
    """

    def __init__(self, sizes, iter_n, quiet=False):
        self.sizes, self.iter_n = sizes, iter_n
        self.bar = tqdm(total=sum(h * w for h, w in sizes) * iter_n, file=sys.stderr, leave=False,
                        disable=quiet or not sys.stderr.isatty(), dynamic_ncols=True,
                        bar_format="{desc}|{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")

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
