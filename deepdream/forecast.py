"""A forecast of how long a dream will take, from the time of one step at a small size."""
from __future__ import annotations

import time
from collections.abc import Sequence

import numpy as np

from .engine import tiles
from .engine.step import Step
from .engine.steppers import stepper_of
from .errors import DreamError
from .net import Net
from .net.lock import exclusive

LARGE = 4_000_000      # pixels: larger pictures take minutes on a CPU
PROBE = 512            # height and width of the picture that is timed, in pixels
STEPS = 4              # steps to time: the median of all but the first counts, which also allocates memory


@exclusive
def seconds_of(net: Net, step: Step, sizes: Sequence[tuple[int, int]], iter_n: int) -> float | None:
    """Estimate how long a dream takes, in seconds.

    net: the net.
    step: the step that the dream repeats.
    sizes: (h, w) of the octaves.
    iter_n: the number of steps in each octave.

    A step is timed on noise of at most PROBE pixels in each direction; the time of the others is assumed to grow with
    the number of their pixels, which in tiles includes the margins. Returns None if no step can be timed, because the
    objective needs something that only the picture has.
    """
    side = min(PROBE, step.tile or PROBE)
    low = max((net.sizes.of(end)[:2] for end in step.ends))
    h, w = (min(n, max(side, least)) for n, least in zip(sizes[-1], low))
    h, w = net.sizes.nearest(step.ends, h, w)
    src, rng = net.blobs[net.inputs[0]], np.random.RandomState(0)
    src.reshape(1, src.channels, h, w)
    src.data[...] = rng.uniform(-20, 20, src.data.shape)
    try:
        stepper, times = stepper_of(net, step, rng, 1), []
        for i in range(STEPS):
            start = time.perf_counter()
            stepper.step(0, 0, 1.0, i, STEPS)
            times.append(time.perf_counter() - start)
    except DreamError:
        return None
    return float(np.median(times[1:])) / (h * w) * iter_n * sum(computed(net, step, size) for size in sizes)


def computed(net: Net, step: Step, size: tuple[int, int]) -> int:
    """Return the number of pixels that a step at this size (h, w) computes: in tiles, the margins count again."""
    if not step.in_tiles(*size):
        return size[0] * size[1]
    margin, stride = tiles.margin(net, step.ends), tiles.stride(net, step.ends)
    rows, columns = (sum(stop - start for start, stop, _, _ in tiles.spans(n, step.tile, margin, stride)) for n in size)
    return rows * columns


def in_words(seconds: float) -> str:
    """Return a duration in words: 'about 40 seconds', 'about 3 minutes', 'about 2.5 hours'."""
    if seconds < 90:
        n = max(1, round(seconds, -1 if seconds > 15 else 0))
        return f"about {n:.0f} second{'s' * (n != 1)}"
    if seconds < 5400:
        return f"about {seconds / 60:.0f} minutes"
    return f"about {seconds / 3600:.1f} hours"
