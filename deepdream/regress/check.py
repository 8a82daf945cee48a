"""The check against Google's pictures: make the notebook's dreams again, with several seeds, and compare statistics.

Google's jitter was not seeded, so its pictures cannot be reproduced pixel by pixel. The check asks whether each of them
could be one more of our dreams, with another seed (see `statistics`). It also asks whether dreams that are made wrongly
on purpose (`NEGATIVES`) are recognized as different.
"""
from __future__ import annotations

import io
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import models, pictures
from ..dream import deepdream, octave_sizes
from ..errors import DreamError
from ..goals.objectives import Objective, objective_guide, objective_L2
from ..net import Net
from ..options import Settings
from ..provenance import provenance
from ..runtime.device import Device
from ..zoom import zoomed
from . import measuring, power, statistics

if TYPE_CHECKING:
    from tqdm import tqdm

ZOOM_FRAMES = 30
OTHER_MEAN = "places205_googlenet"      # the net whose mean a mistake takes


@dataclass(frozen=True)
class Case:
    """One of Google's pictures.

    name: for the command line and for file names.
    title: for people.
    end: the layer at which it was dreamt.
    file: the picture, under the name that `originals` gives it.
    guided: whether the dream follows the guide.
    after: the end of a dream that was made on the same net just before and left its diffs behind, or None.
    frames: number of frames of the zoom; 1: a single dream.
    """
    name: str
    title: str
    end: str
    file: str
    guided: bool = False
    after: str | None = None
    frames: int = 1


CASES = [
    Case("4c", "inception_4c/output", "inception_4c/output", "google_inception_4c_output.jpg"),
    Case("3b_5x5_reduce", "inception_3b/5x5_reduce, on a fresh net", "inception_3b/5x5_reduce",
         "google_inception_3b_5x5_reduce.jpg"),
    Case("3b_5x5_reduce_leftover", "inception_3b/5x5_reduce, with the diffs that the dream before left over",
         "inception_3b/5x5_reduce", "google_inception_3b_5x5_reduce.jpg", after="inception_4c/output"),
    Case("guided_3b", "inception_3b/output, guided by the flowers", "inception_3b/output",
         "google_guided_inception_3b_output.jpg", guided=True),
]
ZOOM = Case("zoom", "frame 0029 of the endless zoom", "inception_4c/output", "google_zoom_frame_0029.jpg",
            frames=ZOOM_FRAMES)


class AfterReLU(Objective):
    """objective_L2 of the positive part only, as if the ReLU after the layer had run already."""
    formula = "1/2 sum(max(x, 0)^2)"

    def __call__(self, dst):
        dst.diff[:] = np.maximum(dst.data, 0)

    def nodes(self, g, x, inputs):
        y = g.op("Relu", x)
        return g.op("ReduceSumSquare", y, keepdims=0) * 0.5, y


@dataclass
class Run:
    """A way to make the dreams of the cases.

    net: the net.
    settings: the settings; the default ones are the notebook's.
    end: called with the net and the end of a case; returns the end at which to dream.
    objective: of dreams without a guide.
    """
    net: Net
    settings: Settings = Settings()
    end: Callable[[Net, str], str] = lambda net, end: end
    objective: Objective = objective_L2

    def again(self, **net_options) -> Run:
        """Return the same run with a new net of the same files.

        net_options: arguments of `Net` that differ.
        """
        net = self.net
        options = {"device": net.device, "threads": net.threads, "mean": net.transformer.mean[net.inputs[0]].ravel(),
                   "channel_swap": net.transformer.channel_swap[net.inputs[0]], **net_options}
        return replace(self, net=Net(**{**net.files.arguments, **options}))


def neighbour(net: Net, end: str) -> str:
    """Return the next end of the same kind (`*/output`, `*/5x5_reduce`), the wrong layer that is hardest to notice."""
    kind = end.rsplit("/", 1)[-1]
    same = [e for e in net.ends if e.rsplit("/", 1)[-1] == kind] if "/" in end else list(net.ends)
    i = same.index(end)
    return same[i + 1] if i + 1 < len(same) else same[i - 1]


def _other_net(run):
    name = "mini_places" if run.net.name == "mini_imagenet" else "mini_imagenet"
    return replace(run, net=Net(name, device=run.net.device, threads=run.net.threads))


@dataclass(frozen=True)
class Negative:
    """A mistake that is made on purpose.

    title: what is wrong, for people.
    make: turns a run into one with the mistake.
    applies: whether the mistake can be made in a case.
    must: whether the check fails if it notices the mistake in no picture.
    """
    title: str
    make: Callable[[Run], Run]
    applies: Callable[[Run, Case], bool] = lambda run, case: not case.after and case.frames == 1
    must: bool = False


def _plain(run, case):
    return not case.after and not case.guided and case.frames == 1


def _with_mean(run, change):
    return run.again(mean=change(run.net.transformer.mean[run.net.inputs[0]].ravel()))


NEGATIVES = {
    "layer": Negative("the next layer of the same kind", lambda r: replace(r, end=neighbour), must=True),
    "net": Negative("another net of the same topology", _other_net, must=True),
    "step": Negative("step size 1.4 instead of 1.5", lambda r: replace(r, settings=r.settings.replace(step_size=1.4))),
    "iterations": Negative("one step fewer in each octave",
                           lambda r: replace(r, settings=r.settings.replace(iter_n=r.settings.iter_n - 1))),
    "mean": Negative("no mean subtracted", lambda r: r.again(mean=(0, 0, 0))),
    "mean_order": Negative("mean in the order red, green, blue", lambda r: _with_mean(r, lambda m: m[::-1])),
    "places_mean": Negative("mean of the Places net", lambda r: _with_mean(r, lambda m: models.card(OTHER_MEAN).mean)),
    "swapped": Negative("red and blue swapped", lambda r: r.again(channel_swap=(0, 1, 2))),
    "relu": Negative("features after the ReLU instead of before", lambda r: replace(r, objective=AfterReLU()),
                     lambda run, case: _plain(run, case) and not case.end.endswith(("output", "pool"))),
    "jitter": Negative("no jitter", lambda r: replace(r, settings=r.settings.replace(jitter=0))),
    "tf32": Negative("convolutions in TF32", lambda r: r.again(device=Device(r.net.device.name, fast=True)),
                     lambda run, case: run.net.device.is_cuda and not case.after and case.frames == 1),
}


# ---- dreams

def as_saved(picture: np.ndarray) -> np.ndarray:
    """Encode a picture as the notebook saved it (JPEG of Pillow's default quality), and decode it again.

    picture: (H, W, 3), 0 to 255.

    Returns float32 (H, W, 3).
    """
    return pictures.load(io.BytesIO(pictures.encode(picture)))


def dream(run: Run, case: Case, sky: np.ndarray, guide: np.ndarray, seed: int,
          on_step: Callable = lambda *_: None) -> np.ndarray:
    """Make one dream of a case.

    run: how to make it.
    case: which picture to make.
    sky, guide: the pictures to start from and to follow, float32 (H, W, 3).
    seed: of the jitter.
    on_step: as in `deepdream`.

    Returns the dream as the notebook would have saved it, float32 (H, W, 3).
    """
    net, settings, end = run.net, run.settings.steps, run.end(run.net, case.end)
    rng = np.random.RandomState(seed)
    if case.after:
        net = Net(net.prototxt, net.caffemodel, device=net.device, threads=net.threads, leftover_diffs=True,
                  mean=net.transformer.mean[net.inputs[0]].ravel(),
                  channel_swap=net.transformer.channel_swap[net.inputs[0]])
        for end in (case.after, case.end):
            picture = deepdream(net, sky, end=end, on_step=on_step, rng=rng, **settings)
        return as_saved(picture)
    if case.guided:
        objective = objective_guide(net.features(guide, end))
    else:
        objective = run.objective
    picture = sky
    for i in range(case.frames):
        picture = zoomed(picture, legacy_affine=True) if i else picture
        picture = deepdream(net, picture, end=end, objective=objective, on_step=on_step, rng=rng, **settings)
    return as_saved(picture)


def measure(run: Run, case: Case, sky: np.ndarray, guide: np.ndarray, picture: np.ndarray) -> dict[str, np.ndarray]:
    """Compute the statistics of a dream, as the net of a run sees it.

    run, case: whose net and layer to use.
    sky, guide: as in `dream`.
    picture: the dream, (H, W, 3).

    Returns {statistic: array}, as `statistics.measure` does.
    """
    objective = objective_guide(run.net.features(guide, case.end)) if case.guided else objective_L2
    return measuring.measure(run.net, case.end, objective, sky, picture)


class Dreams:
    """A collection that makes each dream once.

    sky, guide: as in `dream`.
    folder: where the dreams are saved; those that it holds already are used, if their settings are the same. None
        saves none.
    bar: a progress bar with the total that `work` computes, or None.
    """

    def __init__(self, sky: np.ndarray, guide: np.ndarray, folder: Path | None = None, bar: tqdm | None = None):
        self.sky, self.guide, self.folder, self.bar, self.made = sky, guide, folder, bar, {}

    def get(self, run: Run, case: Case, seed: int, label: str = "") -> np.ndarray:
        """Return a dream, as `dream` makes it.

        run, case, seed: as in `dream`.
        label: distinguishes the dreams of different runs in file names.
        """
        name = f"{case.name}{label and '_' + label}_seed{seed}"
        if name not in self.made:
            self.made[name] = self._from_folder(run, case, seed, name)
        return self.made[name]

    def _from_folder(self, run, case, seed, name):
        if self.folder is None:
            return self._make(run, case, seed, name)
        path, metadata = self.folder / f"{name}.png", self._metadata(run, case, seed)
        if pictures.settings_if_any(path) == metadata:
            self._advance(name, steps_of(run, case, self.sky))
            return pictures.load(path)
        picture = self._make(run, case, seed, name)
        pictures.save(picture, path, metadata)
        return picture

    def _metadata(self, run, case, seed):
        net, settings = run.net, run.settings.replace(end=(run.end(run.net, case.end),), seed=seed)
        return provenance(net, settings.to_metadata(), case=case.name, objective=type(run.objective).__name__,
                          mean=net.transformer.mean[net.inputs[0]].ravel().tolist(),
                          channel_swap=list(net.transformer.channel_swap[net.inputs[0]]), fast=net.device.fast)

    def _make(self, run, case, seed, name):
        self._advance(name, 0)
        return dream(run, case, self.sky, self.guide, seed, self._step(run))

    def _step(self, run):
        sizes = _sizes(run, self.sky)

        def step(octave, *_):
            self._advance(None, sizes[octave][0] * sizes[octave][1])
        return step

    def _advance(self, name, n):
        if self.bar is not None:
            if name:
                self.bar.set_description_str(name, refresh=False)
            self.bar.update(n)


def _sizes(run, sky):
    return octave_sizes(*sky.shape[:2], run.settings.octave_n, run.settings.octave_scale)


def steps_of(run: Run, case: Case, sky: np.ndarray) -> int:
    """Return how many pixels all steps of a case's dream change, as a measure of the time that it takes."""
    return sum(h * w for h, w in _sizes(run, sky)) * run.settings.iter_n * (case.frames + bool(case.after))


# ---- the check

@dataclass
class Checked:
    """The result of checking one case.

    case: the case.
    results: one for each statistic.
    reference: the reference picture, (H, W, 3).
    ours: our dreams, one for each seed.
    negative: key in NEGATIVES of the mistake with which our dreams were made, or None.
    """
    case: Case
    results: list[statistics.Result]
    reference: np.ndarray
    ours: list[np.ndarray]
    negative: str | None = None

    @property
    def verdict(self) -> str:
        """'fits', 'doubtful' or 'no'."""
        return statistics.verdict(self.results)

    @property
    def together(self) -> float:
        """All statistics combined, as `statistics.together` does."""
        return statistics.together(self.results)

    @property
    def out(self) -> list[str]:
        """Names of the statistics that are too far out by themselves."""
        return [r.statistic for r in self.results if not r.fits]


def check(run: Run, case: Case, reference: np.ndarray, dreams: Dreams, seeds: Sequence[int],
          negative: str | None = None) -> Checked:
    """Check whether a reference picture could be one more dream of ours.

    run: how to make our dreams.
    case: which picture to make.
    reference: the picture to check, (H, W, 3).
    dreams: makes our dreams.
    seeds: at least two; one dream is made with each.
    negative: key in NEGATIVES, if the run makes that mistake.

    Raises DreamError for a reference that has not the size of the sky.
    """
    ours = [dreams.get(run, case, seed, negative or "") for seed in seeds]
    if reference.shape != dreams.sky.shape:
        raise DreamError(f"the reference for {case.title} has {reference.shape[1]}x{reference.shape[0]} pixels, but "
                         f"the sky has {dreams.sky.shape[1]}x{dreams.sky.shape[0]}")
    measured = [measure(run, case, dreams.sky, dreams.guide, p) for p in [reference, *ours]]
    calibration = power.calibration_of(case.name, run.net.name, reference.shape[:2])
    return Checked(case, statistics.compare(measured[0], measured[1:], calibration), reference, ours, negative)


def usable(net: Net, cases: Sequence[Case]) -> list[Case]:
    """Return the cases whose ends a net has."""
    return [c for c in cases if c.end in net.ends and (not c.after or c.after in net.ends)]


def regress(run: Run, references: dict[str, np.ndarray | None], cases: Sequence[Case], dreams: Dreams,
            seeds: Sequence[int], negatives: Sequence[str] = ()) -> Iterator[Checked]:
    """Check several cases, and then mistakes, and yield the results.

    run: how to make our dreams.
    references: {file of a case: the picture (H, W, 3), or None if it is missing}.
    cases: those without a reference are skipped.
    dreams, seeds: as in `check`.
    negatives: keys of NEGATIVES; each is checked in all cases to which it applies.
    """
    cases = [c for c in cases if references.get(c.file) is not None]
    for case in cases:
        yield check(run, case, references[case.file], dreams, seeds)
    for key in negatives:
        fitting = [c for c in cases if NEGATIVES[key].applies(run, c)]
        wrong = NEGATIVES[key].make(run) if fitting else None
        for case in fitting:
            yield check(wrong, case, references[case.file], dreams, seeds, key)


def work(run: Run, sky: np.ndarray, cases: Sequence[Case], seeds: Sequence[int], negatives: Sequence[str] = ()) -> int:
    """Return how much `regress` has to do, in the unit of `steps_of`, as the total of a progress bar."""
    total = sum(steps_of(run, c, sky) for c in cases) * len(seeds)
    return total + sum(steps_of(run, c, sky) * len(seeds) for key in negatives for c in cases
                       if NEGATIVES[key].applies(run, c))


def self_test(run: Run, sky: np.ndarray, guide: np.ndarray, cases: Sequence[Case], seeds: Sequence[int],
              negatives: Sequence[str], bar: tqdm | None = None) -> list[Checked]:
    """Do the same check without Google's pictures. The references are dreams of the same run with another seed.

    The arguments are those of `regress` and `Dreams`. Cases with leftover diffs and the zoom are skipped.
    """
    cases = [c for c in cases if not c.after and c.frames == 1]
    dreams = Dreams(sky, guide, bar=bar)
    references = {c.file: dreams.get(run, c, max(seeds) + 1, "reference") for c in cases}
    return list(regress(run, references, cases, dreams, seeds, negatives))
