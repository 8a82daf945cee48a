"""Does this installation dream what Google's did? The notebook's cases again, with several seeds, and their statistics.

Google's jitter was not seeded, so its pictures cannot be made again pixel by pixel. What can be asked is whether each
could be one more seed of ours (see `statistics`), and whether the same question, asked of a net that is run wrongly,
is answered with no (`NEGATIVES`).
"""
import io
from dataclasses import dataclass, replace
from typing import Callable

import numpy as np

from .. import pictures
from ..dream import deepdream, octave_sizes
from ..errors import DreamError
from ..goals.objectives import Objective, objective_guide, objective_L2
from ..net import Net
from ..options import Settings
from ..provenance import provenance
from ..runtime.device import Device
from ..zoom import zoomed
from . import statistics

LAYERS = ["conv2/3x3", "inception_3a/output", "inception_3b/5x5_reduce", "inception_3b/output", "inception_4a/output",
          "inception_4b/output", "inception_4c/output", "inception_4d/output", "inception_4e/output"]
ZOOM_FRAMES = 30


@dataclass(frozen=True)
class Case:
    """One of the pictures. file: Google's, by the name that `originals` gives it. guided: dreamt towards the guide.
    after: the end of a dream made on the same net just before, without clearing its diffs. frames: of the zoom."""
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
    """As objective_L2, of the positive part alone: what a net dreams whose ReLU has run too early."""
    formula = "1/2 sum(max(x, 0)^2)"

    def __call__(self, dst):
        dst.diff[:] = np.maximum(dst.data, 0)

    def nodes(self, g, x, inputs):
        y = g.op("Relu", x)
        return g.op("ReduceSumSquare", y, keepdims=0) * 0.5, y


@dataclass
class Run:
    """How dreams are made: a net, and what of the notebook's settings is to be changed. end: {the case's: another};
    objective: instead of objective_L2."""
    net: Net
    settings: Settings = Settings()
    end: Callable = lambda net, end: end
    objective: Objective = objective_L2

    def again(self, **net_options):
        """The same with another net of the same files. The Net is made when it is needed."""
        net = self.net
        options = {"device": net.device, "threads": net.threads, "mean": net.transformer.mean[net.inputs[0]].ravel(),
                   "channel_swap": net.transformer.channel_swap[net.inputs[0]], **net_options}
        return replace(self, net=Net(**{**net.files.arguments, **options}))


def neighbour(net, end):
    """The next end of the same kind (`*/output`, `*/5x5_reduce`): the mildest wrong layer."""
    kind = end.rsplit("/", 1)[-1]
    same = [e for e in net.ends if e.rsplit("/", 1)[-1] == kind] if "/" in end else list(net.ends)
    i = same.index(end)
    return same[i + 1] if i + 1 < len(same) else same[i - 1]


def _other_net(run):
    name = "mini_places" if run.net.name == "mini_imagenet" else "mini_imagenet"
    return replace(run, net=Net(name, device=run.net.device, threads=run.net.threads))


@dataclass(frozen=True)
class Negative:
    """A way to do it wrong. make: Run -> Run; applies: (Run, Case) -> bool; must: the check is worth nothing if no
    picture shows it."""
    title: str
    make: Callable
    applies: Callable = lambda run, case: not case.after and case.frames == 1
    must: bool = False


def _plain(run, case):
    return not case.after and not case.guided and case.frames == 1


NEGATIVES = {
    "layer": Negative("the next layer of the same kind", lambda r: replace(r, end=neighbour), must=True),
    "net": Negative("another net of the same topology", _other_net, must=True),
    "step": Negative("step size 1.4 instead of 1.5", lambda r: replace(r, settings=r.settings.replace(step_size=1.4))),
    "iterations": Negative("one step less in each octave",
                           lambda r: replace(r, settings=r.settings.replace(iter_n=r.settings.iter_n - 1))),
    "mean": Negative("no mean subtracted", lambda r: r.again(mean=(0, 0, 0))),
    "swapped": Negative("red and blue swapped", lambda r: r.again(channel_swap=(0, 1, 2))),
    "relu": Negative("features after the ReLU instead of before", lambda r: replace(r, objective=AfterReLU()),
                     lambda run, case: _plain(run, case) and not case.end.endswith(("output", "pool"))),
    "jitter": Negative("no jitter", lambda r: replace(r, settings=r.settings.replace(jitter=0))),
    "tf32": Negative("products in TF32", lambda r: r.again(device=Device(r.net.device.name, fast=True)),
                     lambda run, case: run.net.device.is_cuda and not case.after and case.frames == 1),
}


# ---- dreams

def as_saved(picture):
    """A picture as the original wrote it and as it is read again: JPEG, Pillow's default quality."""
    return pictures.load(io.BytesIO(pictures.encode(picture)))


def dream(run, case, sky, guide, seed, on_step=lambda *_: None):
    """One dream of a case, as saved: (H, W, 3) float32."""
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


def measure(run, case, sky, guide, picture):
    """The statistics of a dream, as the net of a run sees it."""
    ends = sorted({*layers_of(run.net), case.end}, key=list(run.net.ends).index)
    seen = dict(zip(ends, run.net.features(picture, ends)))
    objective = objective_guide(run.net.features(guide, case.end)) if case.guided else objective_L2
    return statistics.measure(statistics.Dream(picture, sky, seen, case.end, objective))


def layers_of(net):
    """The layers whose energy is looked at: GoogLeNet's, or nine from low to high."""
    known = [e for e in LAYERS if e in net.ends]
    if len(known) > 3:
        return known
    flat = [e for e, facts in net.ends.items() if facts.stride and e not in net.inputs]
    return [flat[round(i)] for i in np.linspace(0, len(flat) - 1, min(9, len(flat)))]


class Dreams:
    """Makes dreams and keeps them: in memory, and in a folder if there is one (made again with other settings only).

    bar: of tqdm, counting dreams.
    """

    def __init__(self, sky, guide, folder=None, bar=None):
        self.sky, self.guide, self.folder, self.bar, self.kept = sky, guide, folder, bar, {}

    def get(self, run, case, seed, label=""):
        name = f"{case.name}{label and '_' + label}_seed{seed}"
        if name not in self.kept:
            self.kept[name] = self._from_folder(run, case, seed, name)
        return self.kept[name]

    def _from_folder(self, run, case, seed, name):
        if self.folder is None:
            return self._make(run, case, seed, name)
        path, record = self.folder / f"{name}.png", self._record(run, case, seed)
        if pictures.settings_if_any(path) == record:
            self._tell(name, steps_of(run, case, self.sky))
            return pictures.load(path)
        made = self._make(run, case, seed, name)
        pictures.save(made, path, record)
        return made

    def _record(self, run, case, seed):
        net, settings = run.net, run.settings.replace(end=(run.end(run.net, case.end),), seed=seed)
        return provenance(net, settings.to_metadata(), case=case.name, objective=type(run.objective).__name__,
                          mean=net.transformer.mean[net.inputs[0]].ravel().tolist(),
                          channel_swap=list(net.transformer.channel_swap[net.inputs[0]]), fast=net.device.fast)

    def _make(self, run, case, seed, name):
        self._tell(name, 0)
        return dream(run, case, self.sky, self.guide, seed, self._step(run))

    def _step(self, run):
        sizes = _sizes(run, self.sky)

        def step(octave, *_):
            self._tell(None, sizes[octave][0] * sizes[octave][1])
        return step

    def _tell(self, name, n):
        if self.bar is not None:
            if name:
                self.bar.set_description_str(name, refresh=False)
            self.bar.update(n)


def _sizes(run, sky):
    return octave_sizes(*sky.shape[:2], run.settings.octave_n, run.settings.octave_scale)


def steps_of(run, case, sky):
    """Pixels that all the steps of a case's dream move: the measure of its time."""
    return sum(h * w for h, w in _sizes(run, sky)) * run.settings.iter_n * (case.frames + bool(case.after))


# ---- the check

@dataclass
class Checked:
    """A case and what became of it. results: [statistics.Result]; negative: key in NEGATIVES, for a wrong run."""
    case: Case
    results: list
    reference: np.ndarray
    ours: list
    negative: str | None = None

    @property
    def verdict(self):
        return statistics.verdict(self.results)

    @property
    def together(self):
        return statistics.together(self.results)

    @property
    def out(self):
        """Names of the statistics that say no by themselves."""
        return [r.statistic for r in self.results if not r.fits]


def check(run, case, reference, dreams, seeds, negative=None):
    """Could `reference` (H, W, 3) be one more of the dreams that `run` makes of a case?"""
    ours = [dreams.get(run, case, seed, negative or "") for seed in seeds]
    if reference.shape != dreams.sky.shape:
        raise DreamError(f"the reference for {case.title} has {reference.shape[1]}x{reference.shape[0]} pixels, "
                         f"the sky {dreams.sky.shape[1]}x{dreams.sky.shape[0]}")
    measured = [measure(run, case, dreams.sky, dreams.guide, p) for p in [reference, *ours]]
    return Checked(case, statistics.compare(measured[0], measured[1:]), reference, ours, negative)


def usable(net, cases):
    """The cases whose ends a net has."""
    return [c for c in cases if c.end in net.ends and (not c.after or c.after in net.ends)]


def regress(run, references, cases, dreams, seeds, negatives=()):
    """Check cases. references: {file: (H, W, 3) or None}. negatives: keys of NEGATIVES. Yields Checked ones."""
    cases = [c for c in cases if references.get(c.file) is not None]
    for case in cases:
        yield check(run, case, references[case.file], dreams, seeds)
    for key in negatives:
        fitting = [c for c in cases if NEGATIVES[key].applies(run, c)]
        wrong = NEGATIVES[key].make(run) if fitting else None
        for case in fitting:
            yield check(wrong, case, references[case.file], dreams, seeds, key)


def work(run, sky, cases, seeds, negatives=()):
    """How much `regress` has to do, for a progress bar."""
    total = sum(steps_of(run, c, sky) for c in cases) * len(seeds)
    return total + sum(steps_of(run, c, sky) * len(seeds) for key in negatives for c in cases
                       if NEGATIVES[key].applies(run, c))


def self_test(run, sky, guide, cases, seeds, negatives, bar=None):
    """The same check without Google: a dream of our own with another seed is the reference. Returns [Checked]."""
    cases = [c for c in cases if not c.after and c.frames == 1]
    dreams = Dreams(sky, guide, bar=bar)
    references = {c.file: dreams.get(run, c, max(seeds) + 1, "reference") for c in cases}
    return list(regress(run, references, cases, dreams, seeds, negatives))
