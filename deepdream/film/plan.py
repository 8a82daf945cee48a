"""The plan of a dreamt film: which frames it has, at what times, and where its shots begin."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

from ..errors import DreamError
from . import cuts
from .source import Frame, Source


class Entry(NamedTuple):
    """A frame of the dreamt film.

    source: the time stamp of the film's frame that it is a dream of.
    stamp, length: its time stamp, and how long it is shown, in units of the plan's time base.
    seconds: the time of the film's frame since its beginning.
    """
    source: int
    stamp: int
    length: int
    seconds: float


@dataclass(frozen=True)
class Plan:
    """The frames and the shots of a dreamt film.

    entries: the frames, in order.
    shots: the number of the first frame of each shot.
    time_base: the unit of their time stamps, in seconds.
    shift: the seconds by which its time stamps are less than those of the film, for the sound.
    until: the time at which it ends, in seconds of the film's time stamps; None: where the film ends.
    """
    entries: tuple[Entry, ...]
    shots: tuple[int, ...]
    time_base: Fraction
    shift: Fraction = Fraction(0)
    until: Fraction | None = None

    def frames_of(self, shot: int) -> range:
        """Return the numbers of the frames of a shot."""
        return range(self.shots[shot], [*self.shots, len(self.entries)][shot + 1])

    def to_json(self) -> dict:
        """Return the plan as plain values."""
        return {"entries": [list(e) for e in self.entries], "shots": list(self.shots),
                "time_base": str(self.time_base), "shift": str(self.shift),
                "until": None if self.until is None else str(self.until)}

    @classmethod
    def from_json(cls, values: dict) -> Plan:
        """Read what `to_json` returned. Raises an exception of some type for anything else."""
        entries = tuple(Entry(int(a), int(b), int(c), float(d)) for a, b, c, d in values["entries"])
        shots = tuple(int(n) for n in values["shots"])
        if not entries or shots[0] != 0 or list(shots) != sorted(set(shots)) or shots[-1] >= len(entries):
            raise ValueError("shots")
        until = values["until"]
        return cls(entries, shots, Fraction(values["time_base"]), Fraction(values["shift"]),
                   None if until is None else Fraction(until))


def make_plan(source: Source, start: float | None = None, stop: float | None = None, fps: Fraction | None = None,
              flow: str = "dis", on_frame: Callable[[], None] = lambda: None) -> Plan:
    """Read a film once and plan its dream.

    source: the film.
    start, stop: the part to dream, in seconds since its first frame; None: from its beginning, to its end.
    fps: frames a second of the dream: frames are repeated or left out. None: the film's frames at their times.
    flow: how cuts are found; see `cuts.is_cut`.
    on_frame: called after each frame that is read.

    Raises DreamError if there is no frame between start and stop, and if the film cannot be read.
    """
    used, shots, last, unit = [], [], None, source.time_base
    begin, end = (None if t is None else Fraction(t).limit_denominator(10 ** 6) for t in (start, stop))
    for frame, entries in _used(source, begin, end, fps, on_frame):
        now = cuts.thumbnail(frame.colours)
        if last is None or cuts.is_cut(last, now, flow):
            shots.append(len(used))
        last = now
        used += entries
    if not used:
        raise DreamError(f"{source.path}: has no frame {_between(start, stop)}")
    zero = used[0].source * unit - Fraction(used[0].seconds).limit_denominator(10 ** 9)      # of the film's first frame
    shift = (zero + begin if fps else _ticks(zero + begin, unit) * unit) if begin else Fraction(0)
    return Plan(tuple(used), tuple(shots), 1 / fps if fps else unit, shift, None if end is None else zero + end)


def _used(source, start, stop, fps, on_frame) -> Iterator[tuple[Frame, list[Entry]]]:
    """Yield each frame that is used, with its entries: several if frames are repeated."""
    origin, unit, before, tick, begin = None, source.time_base, None, 0, start or Fraction(0)

    def entries(frame, end):
        """Return the entries of a frame that is shown until `end`, in seconds since the beginning of the film."""
        nonlocal tick
        at, result = (frame.stamp - origin) * unit, []
        if not fps:
            stamp = frame.stamp - (_ticks(origin * unit + begin, unit) if start else 0)
            return [Entry(frame.stamp, stamp, round((end - at) / unit), float(at))]
        offset = 0 if start else round(origin * unit * fps)
        while begin + tick / fps < end and (stop is None or begin + tick / fps < stop):
            result.append(Entry(frame.stamp, tick + offset, 1, float(at)))
            tick += 1
        return result

    for frame in source.frames():
        on_frame()
        origin = frame.stamp if origin is None else origin
        at = (frame.stamp - origin) * unit
        if before is not None and (found := entries(before, at)):
            yield before, found
        before = None
        if stop is not None and at >= stop:
            return
        if at >= begin:
            before = frame
    if before is not None and (found := entries(before, (before.stamp + before.length - origin) * unit)):
        yield before, found


def _ticks(seconds, unit):
    return int(seconds / unit)


def _between(start, stop):
    return " and ".join(f"{words} {t:g} s" for words, t in (("from", start), ("before", stop)) if t is not None) \
        or "at all"


def planned(source: Source, plan: Plan, numbers: range) -> Iterator[tuple[int, Frame]]:
    """Yield (number, frame of the film) for some frames of a plan, one after another.

    Raises DreamError if the film has other frames than when it was planned.
    """
    wanted = [plan.entries[i].source for i in numbers]
    frames = source.frames(wanted[0])
    frame = next(frames, None)
    for number, stamp in zip(numbers, wanted):
        while frame is not None and frame.stamp < stamp:
            frame = next(frames, None)
        if frame is None or frame.stamp != stamp:
            raise DreamError(f"{source.path}: has changed, or cannot be read at {plan.entries[number].seconds:.2f} s")
        yield number, frame
