"""Dream a picture with several nets at several layers, and show the dreams on a web page, OUT/index.html.

    deepdream gallery cat.jpg -o out/                          an ImageNet and a Places net, from low layers to high
    deepdream gallery cat.jpg -o out/ --models bvlc_googlenet places205_googlenet --ends all --octave-n 2 6
    deepdream gallery cat.jpg -o out/ --ends 'inception_4*/output' --guides flowers.jpg --seeds 0 1 2 --jobs 4

The page opens from disk; no web server is needed. Ctrl-C keeps the dreams that are finished. If you repeat the command,
it makes only the dreams that are missing or that were made with other settings.

With --dask, the dreams are computed by a running Dask cluster (pip install distributed). To start one, run
`PYTHONPATH=. dask scheduler` in this project's folder on one machine, and
`PYTHONPATH=. dask worker tcp://HOST:8786 --nworkers N` on the others. A Dask scheduler runs any code that it is sent,
so use one only in a network that you trust.
"""
from __future__ import annotations

import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from ...errors import DreamError
from ...options import END, SEED, Settings, whole
from ..nets import SHIPPED, nets_of, on_disk
from ..options import add_device, add_jobs, add_quality, add_steps, settings_of
from ..ready import require_picture
from ..saved import Entry, Form, add_settings, is_kind
from ..time_left import Lines, TimeLeft

if TYPE_CHECKING:
    from ...batch.gallery import Dream

FIRST = 0.4      # the part of a dream after which the time left is estimated; steps in small octaves tell little
SAVED = Form("a dream", ("seed", "end"), {
    "end": Entry("ends", END.accepts, lambda end: [end]),
    "octave_n": Entry("octave_n", whole(1, 100).accepts, lambda n: [n]),
    "seed": Entry("seeds", SEED.accepts, lambda seed: [seed]),
    "quality": Entry("quality", is_kind(whole(1, 100)))}, model="models", guide="guides")


def arguments(parser: ArgumentParser) -> None:
    """Add the arguments of this command."""
    parser.add_argument("picture", nargs="?", metavar="PICTURE", help="the picture: JPEG, PNG, WebP or TIFF (default: "
                        "that of --settings)")
    parser.add_argument("-o", "--output", required=True, metavar="OUT", help="the folder of the gallery")
    parser.add_argument("--models", nargs="+", default=SHIPPED, metavar="MODEL",
                        help="the nets: names from `deepdream models`, folders or .onnx files, or all for "
                        f"every named net that is on disk (default: {' '.join(SHIPPED)})")
    parser.add_argument("--ends", nargs="+", default=[], metavar="LAYER", help="the layers to dream at: names, "
                        "patterns such as 'inception_4*', or low, middle, high or all, as the model card sorts them "
                        "(default: two low, two middle and two high ones, which makes "
                        "six rows that line up between the nets)")
    parser.add_argument("--guides", nargs="+", default=[], metavar="PICTURE", help="let the dreams follow what the "
                        "nets see in these pictures, one dream for each")
    add_steps(parser, several=True)
    add_device(parser, fast=False)
    add_jobs(parser, "dreams to make")
    add_quality(parser)
    add_settings(parser, SAVED)


def run(args: Namespace) -> int:
    """Run this command. Returns its exit code."""
    from ...batch import gallery, jobs, rows, together
    from ..stopping import goes_on
    base = Settings()
    if args.settings:
        from ..replay import replay
        base = replay(args, SAVED)
    require_picture(args)
    source = gallery.Source.read(args.picture)
    guides = list({g.sha256: g for g in map(gallery.Source.read, args.guides)}.values())
    device = _device(args)
    nets = nets_of(on_disk(args.models))
    table = rows.table(args.ends, nets)
    settings, octave_ns, seeds = _settings(args, base)
    dreams = gallery.plan(source, nets, rows.ends_of(table, nets), octave_ns, guides, seeds, settings, args.quality)
    options = {"models": list(nets), "ends": args.ends, **settings.steps, "octave_n": octave_ns, "seeds": seeds,
               "guides": [g.path.name for g in guides], "quality": args.quality}
    folder = gallery.Gallery(args.output, source, nets, dreams, table, options)
    todo = folder.resume()
    n = 1 if args.dask or device.startswith("cuda") else min(args.jobs, max(1, len(todo)))
    if args.jobs > n and device.startswith("cuda"):
        print(f"--jobs {args.jobs}: on {device} dreams are made one after the other", file=sys.stderr)
    fit, needed = together.at_once(todo, source.size, n)
    if fit < n:
        print(f"--jobs {args.jobs}: only {fit} at a time, since {fit} of these dreams take about {needed / 1e9:.1f} GB",
              file=sys.stderr)
        n = fit
    threads = jobs.threads_each(args.threads, n)
    work = [(d, folder.job(d, device, threads)) for d in todo]
    _announce(args.output, todo, len(dreams), source.size)
    with goes_on(), Bar(todo, len(dreams), source.size) as bar, jobs.workers(n, args.dask, bar.step) as workers:
        folder.run(work, workers, bar.finished)
    failed = sum(d.status == "failed" for d in dreams)
    print(f"{Path(args.output) / 'index.html'}: {len(todo) - failed} dreams made, {len(dreams) - len(todo)} kept"
          + (f", {failed} failed (the page says why)" if failed else ""))
    if failed == len(dreams):
        raise DreamError(f"no dream could be made: {dreams[0].facts['reason']}")
    return 0


def _announce(output, todo, total, size):
    """Print how many dreams will be made; how long they take is printed as soon as a few steps show it."""
    if todo:
        h, w = size
        kept = f", {total - len(todo)} of {total} exist already" if len(todo) < total else ""
        print(f"{output}: {len(todo)} dream{'s' * (len(todo) > 1)} of {w}x{h} to make{kept}; how long it takes is "
              "printed after the first steps", flush=True)


def _settings(args, base):
    """Return the settings that all dreams share, the numbers of octaves, and the seeds."""
    octave_ns, seeds = list(dict.fromkeys(args.octave_n or [4])), list(dict.fromkeys(args.seeds))
    args.octave_n = None
    return settings_of(args, base.replace(end=())), octave_ns, seeds


def _device(args):
    """Return the name of the device for the jobs; with --dask, the option itself, which each worker interprets."""
    if args.dask:
        if args.jobs > 1:
            raise DreamError("--jobs and --dask exclude each other; a cluster makes as many dreams at a time as it has "
                             "workers")
        return args.device
    from ...runtime.device import Device
    device = Device(args.device)
    device.announce()
    return device.name


class Bar:
    """A progress bar over all dreams. Dreams count by their pixels, so that the time left is realistic.

    todo: the dreams that are still to be made.
    total: number of all dreams of the gallery.
    size: (h, w) of the picture.
    """

    def __init__(self, todo: Sequence[Dream], total: int, size: tuple[int, int]):
        from tqdm import tqdm

        from ...dream import octave_sizes
        self.sizes = {id(d): octave_sizes(*size, d.settings.octave_n, d.settings.octave_scale) for d in todo}
        self.weight = {id(d): sum(h * w for h, w in self.sizes[id(d)]) * d.settings.iter_n for d in todo}
        self.todo, self.total, self.done, self.at, self.failed = todo, total, total - len(todo), 0, 0
        terminal = sys.stderr.isatty()
        self.bar = tqdm(total=sum(self.weight.values()), file=sys.stderr, leave=False, disable=not terminal,
                        dynamic_ncols=True, bar_format="{desc}|{bar}| {percentage:3.0f}%  {elapsed}, {remaining} left")
        self.left = TimeLeft(self.bar.total, FIRST * min(self.weight.values(), default=0))
        self.lines = Lines(self.left, self.bar if terminal else None)
        self._describe()

    def step(self, octave: int, i: int, vis: object, report: object) -> None:
        """Advance by one step of the first unfinished dream; an `on_step` callback of dreams made in this process."""
        dream = self.todo[self.done - (self.total - len(self.todo))]
        h, w = self.sizes[id(dream)][octave]
        self._advance(h * w)
        if not self.at and octave == i == 0:
            self.left.restart()

    def finished(self, dream: Dream) -> None:
        """Count a dream as finished, whether it is done or failed."""
        self.done += 1
        self.failed += dream.status == "failed"
        self.at += self.weight[id(dream)]
        self._describe()
        rest = self.at - (self.bar.total - self.left.total) - self.left.done
        self._advance(rest, dream.status == "failed")      # the steps that a failed dream did not make

    def _advance(self, work, failed=False):
        (self.left.drop if failed else self.left.advance)(work)
        self.bar.update(work)
        self.lines.update(self._done())

    def _done(self):
        return f"{self.done}/{self.total} dreams" + (f", {self.failed} failed" if self.failed else "")

    def _describe(self):
        self.bar.set_description_str(self._done() + " ")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()
