"""What the command `video` does around the dream of a film: checks, metadata, progress, and the file at the end."""
from __future__ import annotations

import hashlib
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from .. import pictures
from ..errors import DreamError
from ..film.timeline import Timeline
from ..options import Settings
from ..provenance import files_of, provenance
from .ready import checked_sizes, with_seed
from .time_left import Lines, TimeLeft

if TYPE_CHECKING:
    from ..film.plan import Plan
    from ..film.shot import Recipe
    from ..film.source import Source
    from ..film.targets import Target
    from ..film.work import Work
    from ..net import Net

POLL = 0.5      # seconds between two looks into the work folder


def check_output(args: Namespace, source: Source, target: Target) -> None:
    """Raise DreamError unless the film can be written, and what it needs is installed."""
    from ..film.needed import cv2
    if args.jobs > 1 and args.dask:
        raise DreamError("--jobs and --dask exclude each other; a cluster dreams as many shots at a time as it has "
                         "workers")
    if args.flow == "dis":
        cv2()
    target.check(source)
    if not target.path.is_dir():
        pictures.refuse_inputs(target.path, args.film, args.guide, args.mask)
    for option, file in (("--guide", args.guide), ("--mask", args.mask)):
        if file and target.path.is_dir() and Path(file).resolve().parent == target.path.resolve():
            raise DreamError(f"-o {target.path}: holds the picture of {option}, which could be overwritten; give "
                             "another folder")
    if source.transparent and not target.keeps_alpha:
        print(f"{target.path}: has no alpha channel, so the film is put on a white background; .mov, .mkv, .webm, "
              ".webp and folders keep it", file=sys.stderr)


def size_of(settings: Settings, source: Source, target: Target) -> tuple[int, int]:
    """Return the size (h, w) of the dream. One that is computed from the longest side is even where movies need it."""
    from ..pictures.starts import start_size
    h, w = start_size(settings, source.size)
    if target.even and isinstance(settings.size, int):
        h, w = (max(2, n - n % 2) for n in (h, w))
    return h, w


def checked_settings(args: Namespace, net: Net, settings: Settings, size: tuple[int, int],
                     begun: dict | None) -> Settings:
    """Check that the dream is possible at all times of the film. Returns the settings, with a seed.

    begun: the metadata of the film that was begun in the work folder, whose seed is used again, or None.
    """
    from ..film.ends import Ends
    guide = pictures.load(args.guide) if args.guide else None
    if args.mask:
        pictures.load(args.mask)
    for group in Ends(net, settings, Timeline.of(settings.end, args.fade), guide).groups:
        checked_sizes(net, settings, group, size)
    if settings.seed is None and begun is not None and isinstance(begun.get("seed"), int):
        settings = settings.replace(seed=begun["seed"])
    return with_seed(settings)


def files(args: Namespace, net: Net, recipe: Recipe) -> dict:
    """Return the metadata of the film: its settings, and the files that it is made from."""
    extra = files_of(guide=args.guide) if args.guide else {}
    extra |= files_of(mask=args.mask) if args.mask else {}
    extra |= {name: value for name, value in (("from", args.start_time), ("to", args.stop_time)) if value is not None}
    extra |= {"fps": str(args.fps)} if args.fps else {}
    film = Path(args.film)
    return provenance(net, recipe.settings.to_metadata(), film=film.resolve().name, film_sha256=_checksum(film),
                      frame_size=[recipe.size[1], recipe.size[0]], steps=recipe.steps, keep=recipe.keep,
                      flow=recipe.flow, fade=recipe.fade, transparent=recipe.transparent, **extra)


def _checksum(film):
    """Return the SHA-256 of a film; of a folder, that of the names and contents of its files."""
    digest = hashlib.sha256()
    for path in sorted(film.iterdir()) if film.is_dir() else [film]:
        if film.is_dir() and not path.is_file():
            continue
        if film.is_dir():
            digest.update(path.name.encode(errors="surrogateescape") + b"\0")
        with open(path, "rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest() if film.is_dir() else b"")
            while not film.is_dir() and (data := file.read(1 << 22)):
                digest.update(data)
    return digest.hexdigest()


def dream_and_write(args: Namespace, recipe: Recipe, metadata: dict, net: Net, source: Source, target: Target,
                    work: Work, plan: Plan) -> None:
    """Dream what is not dreamt yet, write the film, and delete the work folder if it was not asked for."""
    from dataclasses import replace

    from ..batch import jobs
    from ..film.making import dream_shots, frames_done, write_film
    from ..provenance import machine
    done, total = frames_done(work, plan), len(plan.entries)
    n = 1 if args.dask or net.device.is_cuda else min(args.jobs, len(plan.shots))
    if args.jobs > 1 and net.device.is_cuda:
        print(f"--jobs {args.jobs}: on {net.device.name} shots are dreamt one after the other", file=sys.stderr)
    recipe = replace(recipe, device=args.device if args.dask else net.device.name,
                     threads=jobs.threads_each(args.threads, n))
    with Dreaming(work, plan, done), jobs.workers(n, args.dask) as workers:
        dream_shots(recipe, work, plan, workers)
    with Bar(total, "writing ") as bar:
        write_film(target, source, work, plan, metadata | machine(net), bar.frame)
    if not args.work:
        work.delete()
    h, w = recipe.size
    shots = f"{len(plan.shots)} shot{'s' * (len(plan.shots) > 1)}"
    print(f"{target.path}: {total} frames of {w}x{h} in {shots}, {total - done} dreamt now, {net.name} at "
          f"{' + '.join(recipe.settings.end)}, seed {recipe.settings.seed}")
    if damaged := getattr(source, "damaged", 0):
        print(f"{args.film}: {damaged} packets of it are damaged and were left out", file=sys.stderr)


# ---- progress

class Bar:
    """A progress bar over frames, shown only if stderr is a terminal.

    total: the number of frames; 0 if it is unknown.
    what: what is done.
    done: frames that need not be done again.
    """

    def __init__(self, total: int, what: str, done: int = 0):
        from tqdm import tqdm
        left = "{n_fmt}/{total_fmt} frames, {rate_inv_fmt}, {elapsed}, {remaining} left"
        self.bar = tqdm(total=total or None, initial=done, desc=what, unit="frame", file=sys.stderr, leave=False,
                        disable=not sys.stderr.isatty(), dynamic_ncols=True,
                        bar_format="{desc}|{bar}| " + left if total else None)

    def frame(self) -> None:
        """Count a frame."""
        self.bar.update(1)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.bar.close()


class Planning(Bar):
    """A progress bar over the frames of a film that is read to find its cuts."""

    def __init__(self, source: Source):
        super().__init__(source.count, "looking for cuts ")


class Dreaming(Bar):
    """A progress bar over the frames that appear in a work folder, whichever process dreams them; else lines.

    work, plan: those of the film.
    done: frames that need not be dreamt again.
    """

    def __init__(self, work: Work, plan: Plan, done: int):
        super().__init__(len(plan.entries), "dreaming ", done)
        self.work, self.total, self.first, self.count = work, len(plan.entries), done, done
        work.forget_unsaved(plan)
        self.left = TimeLeft(self.total)
        self.left.advance(done)
        self.left.restart()
        self.lines = Lines(self.left, self.bar if sys.stderr.isatty() else None)
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def _watch(self):
        import time
        start = time.monotonic()
        while not self._ended.wait(POLL):
            count = self.work.count()
            if count > self.count:
                self.bar.update(count - self.count)
                self.left.advance(count - self.count)
                self.count = count
                each = (time.monotonic() - start) / (count - self.first)
                self.lines.update(f"{count}/{self.total} frames, {each:.2f} s a frame")

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._ended.set()
        self._thread.join()
        super().__exit__()
