"""The whole way of a film: plan it, dream its shots, and write it."""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from ..batch import jobs
from ..errors import DreamError
from .plan import Plan, make_plan
from .shot import Recipe, ShotJob
from .source import Source
from .targets import Target
from .work import Work


@dataclass(frozen=True)
class Part:
    """The part of a film that is dreamt. start, stop: in seconds, or None; fps: frames a second, or None."""
    start: float | None = None
    stop: float | None = None
    fps: Fraction | None = None


def planned_film(source: Source, work: Work, part: Part, flow: str, metadata: dict,
                 on_frame: Callable[[], None] = lambda: None) -> Plan:
    """Return the plan of a film: that in the work folder, or a new one, which is saved there.

    source: the film.
    metadata: the settings; those of a film that was begun must be the same.
    on_frame: called for each frame that is read to make a plan.

    Raises DreamError if another film was begun there.
    """
    plan = work.resume(metadata)
    if plan is None:
        plan = make_plan(source, part.start, part.stop, part.fps, flow, on_frame)
        work.begin(metadata, plan)
    return plan


def dream_shots(recipe: Recipe, work: Work, plan: Plan, workers: object) -> None:
    """Dream all shots that are not finished.

    recipe: how.
    workers: from `batch.jobs.workers`.

    Raises DreamError for the first shot that fails, after the others have ended.
    """
    todo = {shot: ShotJob(recipe, shot) for shot in range(len(plan.shots))
            if work.next_frame(shot, plan) < plan.frames_of(shot).stop}
    with closing(jobs.run(todo, workers)) as finished:
        for shot, result in finished:
            if result.error:
                raise DreamError(result.error)


def frames_done(work: Work, plan: Plan) -> int:
    """Return how many frames are dreamt already and need not be dreamt again."""
    return sum(min(work.next_frame(shot, plan), plan.frames_of(shot).stop) - plan.shots[shot]
               for shot in range(len(plan.shots)))


def write_film(target: Target, source: Source, work: Work, plan: Plan, metadata: dict,
               on_frame: Callable[[], None] = lambda: None) -> None:
    """Write the dreamt frames to their target. on_frame: called for each frame. Raises DreamError if that fails."""
    def frames() -> Iterator[np.ndarray]:
        for i in range(len(plan.entries)):
            yield work.frame(i)
            on_frame()

    target.write(source, plan, frames(), metadata)
