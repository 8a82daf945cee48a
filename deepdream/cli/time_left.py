"""How long work still takes: an estimate from what is done so far, and lines on stderr where no bar can be shown."""
from __future__ import annotations

import sys
import time
from collections.abc import Callable

SETTLED = 3.0      # seconds of work before the first estimate
EVERY = 30.0       # seconds between two lines


def in_words(seconds: float) -> str:
    """Return a duration as 'about 40 seconds', 'about 3 minutes' or 'about 2 hours'."""
    if seconds < 90:
        number, unit = max(5, 5 * round(seconds / 5)), "second"
    elif seconds < 90 * 60:
        number, unit = round(seconds / 60), "minute"
    else:
        number, unit = round(seconds / 3600), "hour"
    return f"about {number} {unit}{'s' * (number != 1)}"


class TimeLeft:
    """An estimate of the time that work still takes, if the rest goes as fast as the part that is done.

    total: the amount of work, in any unit.
    first: the amount that must be done before the first estimate.
    clock: a function that returns the time in seconds.
    """

    def __init__(self, total: float, first: float = 0.0, clock: Callable[[], float] = time.monotonic):
        self.total, self.done, self._first, self._clock = total, 0.0, first, clock
        self.restart()

    def restart(self) -> None:
        """Estimate by what is done from now on, since loading a net took a part of the time before."""
        self._start, self._before = self._clock(), self.done

    def advance(self, amount: float) -> None:
        """Count an amount of work as done."""
        self.done += amount

    def drop(self, amount: float) -> None:
        """Count an amount of work as work that need not be done: it took no time."""
        self.total -= amount

    @property
    def seconds(self) -> float | None:
        """The seconds that are left; None as long as too little is done for an estimate."""
        elapsed, measured = self._clock() - self._start, self.done - self._before
        if self.done >= self.total:
            return 0.0
        if not measured or measured < self._first or elapsed < SETTLED:
            return None
        return (self.total - self.done) * elapsed / measured


class Lines:
    """Lines on stderr with the time left: the first as soon as there is an estimate, then one now and then.

    left: the TimeLeft.
    bar: shown on a terminal instead of the lines after the first; has a method `write`, as tqdm has it. None: no bar.
    clock: a function that returns the time in seconds.
    """

    def __init__(self, left: TimeLeft, bar: object = None, clock: Callable[[], float] = time.monotonic):
        self._left, self._bar, self._clock, self._last = left, bar, clock, None

    def update(self, done: str) -> None:
        """Print a line if it is time for one. done: what is done so far, in words."""
        seconds, now = self._left.seconds, self._clock()
        if seconds is None or self._left.done >= self._left.total:
            return
        if self._last is not None and (self._bar or now - self._last < EVERY):
            return
        self._last = now
        line = f"{done}, {in_words(seconds)} left"
        if self._bar:
            self._bar.write(line, file=sys.stderr)
        else:
            print(line, file=sys.stderr, flush=True)
