"""Ends over time: which layers a film dreams at, from which second on, and how one gives way to the next."""
from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from ..convert.errors import shown
from ..errors import DreamError
from ..options import Kind

LATEST = 10 ** 7      # seconds: anything above is a typing mistake
CLOCK = re.compile(r"(?:(?:(\d{1,4}):)?(\d{1,4}):)?(\d{1,8}(?:\.\d{1,9})?|\.\d{1,9})s?")
TIMED = re.compile(r"(.+)@([0-9:.]+s?)")


def seconds_of(word: str) -> float:
    """Return the seconds that a word means: 5, 5s, 2.5s, 1:30 or 1:02:30. Raises ValueError for any other word."""
    match = CLOCK.fullmatch(word.strip())
    if not match:
        raise ValueError(word)
    hours, minutes, seconds = (float(part or 0) for part in match.groups())
    return 3600 * hours + 60 * minutes + seconds


TIME = Kind("a time like 5, 2.5s, 1:30 or 1:02:30", seconds_of, lambda v: type(v) in (int, float) and 0 <= v <= LATEST)


@dataclass(frozen=True)
class Timeline:
    """The ENDs of a film.

    starts: the seconds at which the groups of ENDs begin, in order; the first is 0.
    groups: the texts of the ENDs of each group, which are dreamt at together.
    fade: how long a group takes to replace the one before, in seconds.
    """
    starts: tuple[float, ...]
    groups: tuple[tuple[str, ...], ...]
    fade: float = 1.0

    @classmethod
    def of(cls, ends: Sequence[str], fade: float = 1.0) -> Timeline:
        """Read the texts of --end, each with or without a time at its end: inception_4c/output@5s.

        Those without a time begin with the film. Raises DreamError if none does.
        """
        groups = {}
        for text in ends:
            end, start = split(text)
            groups.setdefault(start, []).append(end)
        if 0 not in groups:
            raise DreamError(f"--end {shown(ends[0])}: no END begins with the film; give one without a time, or with "
                             "@0")
        return cls(tuple(sorted(groups)), tuple(tuple(groups[start]) for start in sorted(groups)), fade)

    @property
    def ends(self) -> tuple[str, ...]:
        """The texts of all ENDs, without their times."""
        return tuple(dict.fromkeys(end for group in self.groups for end in group))

    def at(self, seconds: float) -> tuple[int, float]:
        """Return what is dreamt at a time of the film.

        Returns the number of a group and its share, above 0 to 1; the rest is that of the group before.
        """
        i = max(i for i, start in enumerate(self.starts) if start <= max(seconds, 0))
        share = 1.0 if i == 0 or not self.fade else min(1.0, (seconds - self.starts[i]) / self.fade)
        return (i, share) if share > 0 else (i - 1, 1.0)


def split(text: str) -> tuple[str, float]:
    """Split the text of an END into what it is without a time, and the seconds, 0 if it has none."""
    match = TIMED.fullmatch(text)
    if not match:
        return text, 0.0
    try:
        seconds = TIME.of_word(match[2])
    except ValueError as error:
        raise DreamError(f"--end {shown(text)}: {error}") from None
    return match[1], float(seconds)
