"""A shot of a film as a job: it can be dreamt in this process, in another one, or on a cluster."""
from __future__ import annotations

import io
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .. import pictures
from ..batch.jobs import Maker, Result
from ..options import Settings
from ..pictures.mask import load_mask
from ..pictures.starts import resized
from .ahead import ahead
from .ends import Ends
from .flow import FLOWS, Motion, grey
from .opening import open_film
from .plan import planned
from .steady import State, Steady
from .timeline import Timeline
from .work import Work

if TYPE_CHECKING:
    from ..net import Net

SAVE = 10.0      # seconds between two states of a shot
SHOW = 2.0       # seconds between two previews
BRIGHTEST = 99.98      # without clipping, this percentile becomes 255, as in `dream.visible`


@dataclass(frozen=True)
class Recipe:
    """How a film is dreamt.

    net: arguments of `Net` that name its files.
    settings: the settings, with a seed; `end` may have times.
    film: the path of the film.
    work: the path of the work folder.
    size: (h, w) of the dream, in pixels.
    steps, keep, flow: see `steady.dream_frames`.
    fade: seconds that one END takes to replace another.
    rate: frames a second of a folder of pictures; None: the default.
    transparent: keep the alpha channel. Otherwise, the film is put on a white background.
    guide, mask: contents of these pictures' files, or None.
    device, threads: as in `batch.jobs.Job`.
    """
    net: dict
    settings: Settings
    film: str
    work: str
    size: tuple[int, int]
    steps: int = 1
    keep: float | None = None
    flow: str = "dis"
    fade: float = 1.0
    rate: Fraction | None = None
    transparent: bool = False
    guide: bytes | None = None
    mask: bytes | None = None
    device: str = "auto"
    threads: int | None = None


@dataclass(frozen=True)
class ShotJob:
    """A shot to dream, for `batch.jobs.run`. Its frames and its state are written to the work folder.

    recipe: how.
    shot: its number.
    """
    recipe: Recipe
    shot: int

    def made_by(self, maker: Maker, on_step: Callable | None = None) -> Result:
        """Dream the shot. on_step: called without arguments after each frame."""
        recipe = self.recipe
        net = maker.net(recipe.net, recipe.settings, recipe.device, recipe.threads)
        start = time.monotonic()
        dream_shot(net, recipe, self.shot, on_step or (lambda: None))
        return Result(seconds=round(time.monotonic() - start, 3), device=net.device.name, threads=net.thread_count)


def dream_shot(net: Net, recipe: Recipe, shot: int, on_frame: Callable[[], None] = lambda: None) -> None:
    """Dream the frames of a shot that are not dreamt yet, and save them in the work folder.

    net: the net.
    recipe, shot: as in `ShotJob`.
    on_frame: called after each frame.

    The state is saved now and then, and if the work is interrupted. Raises what `deepdream` raises, and DreamError if
    the film cannot be read.
    """
    work, settings = Work(recipe.work), recipe.settings
    plan, source = work.plan(), open_film(recipe.film, recipe.rate)
    ends = Ends(net, settings, Timeline.of(settings.end or (net.default_end,), recipe.fade),
                pictures.load(io.BytesIO(recipe.guide)) if recipe.guide else None)
    mask = load_mask(io.BytesIO(recipe.mask), *recipe.size, settings.mask_edge) if recipe.mask else None
    steady = Steady(net, settings.iter_n, recipe.steps, recipe.keep, settings.seed, mask)
    numbers, scale, state = plan.frames_of(shot), None, work.state(shot)
    if state:
        first, arrays, facts = state
        steady.state = State(**arrays)
        ends.strengths, scale = facts["strengths"], facts["scale"]
        numbers = range(first, numbers.stop)
    if not len(numbers):
        return
    params = {k: v for k, v in settings.steps.items() if k != "iter_n"}
    last, saved, shown = None, time.monotonic(), 0.0      # last: the state after the frame that was saved last

    def save():
        number, state, facts = last
        work.save_state(shot, number, state._asdict(), facts)

    frames = tracked(source, plan, numbers, recipe, first=plan.shots[shot])
    try:
        for frame in ahead(frames) if net.device.is_cuda else frames:
            dream = steady.dream(frame.colours, frame.motion,
                                 **params | ends.at(plan.entries[frame.number].seconds, frame.colours))
            if scale is None:      # one for all frames of the shot, so that they do not flicker
                scale = 1.0 if settings.clip else float(255 / np.percentile(dream, BRIGHTEST))
            picture = pictures.to_uint8(dream * np.float32(scale))
            work.save_frame(frame.number, picture, frame.alpha)
            last = frame.number + 1, steady.state, {"strengths": dict(ends.strengths), "scale": scale}
            now = time.monotonic()
            if now - saved > SAVE:
                save()
                saved = time.monotonic()
            if now - shown > SHOW:
                work.show(picture)
                shown = now
            on_frame()
    finally:
        if last:
            save()


class Tracked(NamedTuple):
    """A frame to dream: its number, its colours, float32 (H, W, 3), its alpha channel, and the motion to it."""
    number: int
    colours: np.ndarray
    alpha: np.ndarray | None
    motion: Motion | None


def tracked(source, plan, numbers: range, recipe: Recipe, first: int) -> Iterator[Tracked]:
    """Yield frames of a shot at the size of the dream, each with the motion from the frame before.

    numbers: the numbers of the frames.
    first: the number of the first frame of the shot, which has no motion.
    """
    before, flow = None, FLOWS[recipe.flow] if recipe.keep != 0 else lambda before, now: None
    for number, frame in planned(source, plan, range(max(first, numbers.start - 1), numbers.stop)):
        colours, alpha = _fitted(frame, recipe)
        now = grey(colours)
        if number >= numbers.start:
            yield Tracked(number, colours, alpha, None if before is None else flow(before, now))
        before = now


def _fitted(frame, recipe):
    """Return the colours and the alpha channel of a frame, as they are dreamt: at the size of the dream."""
    colours, alpha = frame.colours, frame.alpha
    if alpha is not None and not recipe.transparent:
        share = np.float32(alpha)[..., None] / 255
        colours, alpha = colours * share + 255 * (1 - share), None
    if colours.shape[:2] != tuple(recipe.size):
        colours = resized(colours, *recipe.size)
        if alpha is not None:
            alpha = np.uint8(resized(np.dstack([alpha] * 3), *recipe.size)[..., 0].round())
    return np.float32(colours), alpha
