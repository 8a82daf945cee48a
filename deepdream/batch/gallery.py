"""Galleries: what several nets dream of one picture, layer by layer, on a page that opens from disk.

A gallery is a folder: `index.html`, `gallery.json`, the source picture, and one JPEG of each dream in dreams/ and
thumbs/. The metadata of a dream's file decide whether it must be made again, so all other files can be restored from
the dreams.
"""
from __future__ import annotations

import functools
import hashlib
import io
import itertools
import json
import re
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from .. import pictures
from ..convert.errors import shown
from ..errors import DreamError
from ..options import Settings
from ..provenance import SOFTWARE, differences, is_dream, provenance
from . import jobs
from .page import page

THUMB = 960                  # pixels of a thumbnail's longer side
PAGE_EVERY = 2.0             # seconds between two versions of the page while dreams are made
FACTS = {                    # results in a dream's metadata -> whether a value is possible
    "seconds": lambda v: _is_number(v) and 0 <= v < 1e9,
    "objective": lambda v: v is None or _is_number(v),
    "device": lambda v: isinstance(v, str),
    "threads": lambda v: v is None or type(v) is int and 0 < v < 10 ** 6,
}
# Parts of a dream's provenance that may differ: file names, and what the net's checksum covers as well
FREE = ("model", "picture", "guide", "pixels")
OURS = b'name="generator" content="deepdream gallery"'      # stands in the page, so that it may be replaced


# ---- dreams

@dataclass
class Source:
    """A picture file.

    path: its path.
    data: its contents.
    size: (h, w) of the picture.
    """
    path: Path
    data: bytes
    size: tuple[int, int]

    @classmethod
    def read(cls, path: str | Path) -> Source:
        """Read a picture file. Raises DreamError for a file that is not a picture."""
        h, w = pictures.load(path).shape[:2]
        return cls(Path(path), Path(path).read_bytes(), (h, w))

    @functools.cached_property
    def sha256(self) -> str:
        """The checksum of the file."""
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Dream:
    """One dream of a gallery.

    model: the name of the net in the gallery.
    net: the Net.
    settings: the settings, with one end and a seed.
    guide: the guide, or None.
    metadata: settings and provenance, saved in the file of the dream.
    name: the name of the dream's files, without their folder and suffix.
    status: waiting, done or failed.
    facts: the results of making it: those of FACTS, or the `reason` why it failed.
    """
    model: str
    net: object
    settings: Settings
    guide: Source | None
    metadata: dict
    name: str = ""
    status: str = "waiting"
    facts: dict = field(default_factory=dict)

    @property
    def end(self) -> str:
        """The end of the dream, as --end takes it."""
        return self.settings.end[0]

    @property
    def file(self) -> str:
        """Path of the dream's file within the gallery."""
        return f"dreams/{self.name}.jpg"

    @property
    def thumb(self) -> str:
        """Path of the dream's thumbnail within the gallery."""
        return f"thumbs/{self.name}.jpg"


def plan(source: Source, nets: dict, chosen: dict, octave_ns: Sequence[int], guides: Sequence[Source],
         seeds: Sequence[int], settings: Settings, quality: int) -> list[Dream]:
    """List all dreams of a gallery: one for each combination of model, end, number of octaves, guide and seed.

    source: the picture.
    nets: {model: Net}.
    chosen: {model: its ends}, from `rows.ends_of`.
    octave_ns: the numbers of octaves.
    guides: the guides; may be empty.
    seeds: the seeds.
    settings: the settings that all dreams share.
    quality: of the JPEG files.

    Returns the dreams, model by model.
    """
    dreams = []
    for model, net in nets.items():
        name = net.inputs[0]
        pixels = {"mean": net.transformer.mean[name].ravel().tolist(),
                  "channel_swap": list(net.transformer.channel_swap[name])}
        for end, octave_n, guide, seed in itertools.product(chosen[model], octave_ns, guides or [None], seeds):
            full = settings.replace(end=(end,), octave_n=octave_n, seed=seed)
            metadata = provenance(net, full.to_metadata(), model=model, **pixels, picture=source.path.name,
                                  picture_sha256=source.sha256, guide=guide and guide.path.name,
                                  guide_sha256=guide and guide.sha256, quality=quality,
                                  picture_path=str(source.path), guide_path=guide and str(guide.path))
            dreams.append(Dream(model, net, full, guide, metadata))
    _name(dreams)
    return dreams


def _name(dreams):
    """Give dreams readable file names, with a checksum where two would be the same."""
    def slug(d):
        guide = f"-{d.guide.path.stem}" if d.guide else ""
        text = f"{d.model}-{d.end.replace('/', '.')}-o{d.settings.octave_n}{guide}-s{d.settings.seed}"
        return re.sub(r"[^\w.+-]", "_", text)[:150]
    counts = Counter(slug(d).casefold() for d in dreams)
    for d in dreams:
        d.name = slug(d)
        if counts[d.name.casefold()] > 1:
            identity = f"{d.model}\n{d.end}\n{d.settings.octave_n}\n{d.metadata['guide_sha256']}\n{d.settings.seed}"
            d.name += "-" + hashlib.sha256(identity.encode()).hexdigest()[:8]


def _is_number(value):
    """Return whether the page can show a value as a number: not True, and not an int of hundreds of digits."""
    return isinstance(value, float) or type(value) is int and abs(value) < 10 ** 300


def _is_picture(path):
    """Return whether a file is an undamaged picture."""
    try:
        pictures.load(path)
        return True
    except DreamError:
        return False


def _is_page(path):
    """Return whether a file is the page of a gallery."""
    try:
        return OURS in path.read_bytes()[:4096]
    except OSError:
        return False


class Gallery:
    """The folder of a gallery; it is created, with the source picture and the thumbnails of the guides.

    folder: path of the folder.
    source: the picture.
    nets: {model: Net}, in the order of the columns.
    dreams: from `plan`.
    rows: from `rows.table`.
    options: the options that the user specified, for gallery.json.

    Raises DreamError if a file cannot be written, or would overwrite the picture, a guide, files that belong to no
    gallery, or the gallery of another picture.
    """

    def __init__(self, folder: str | Path, source: Source, nets: dict, dreams: list[Dream], rows: list,
                 options: dict | None = None):
        self.folder, self.source, self.dreams, self.rows = Path(folder), source, dreams, rows
        self.options, self.state, self._written = options or {}, "growing", 0.0
        self.models = [{"name": m, "title": net.card.title if net.card else "",
                        "checksum": net.checksum} for m, net in nets.items()]
        for file in self._files():
            pictures.refuse_inputs(self.folder / file, source.path, *(g.path for g in self.guides))
        self._check_folder()
        try:
            for part in ("dreams", "thumbs"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            picture = pictures.load(source.path)
            pictures.save(picture, self.folder / "source.jpg")
            for guide in self.guides:
                self._thumb(pictures.load(guide.path), self.folder / self._guide_file(guide))
        except OSError as error:
            raise DreamError(f"-o {folder}: cannot be written: {error.strerror or error}") from None

    def _check_folder(self):
        """Raise DreamError if the gallery would replace files of somebody else, or the gallery of another picture."""
        dreams = {path: is_dream(path) for d in self.dreams if (path := self.folder / d.file).exists()}
        for path, ours in dreams.items():
            if not ours and _is_picture(path):
                raise DreamError(f"-o {self.folder}: would overwrite {path}, which is not a dream; give another folder")
        before = self._known()
        if before.get("sha256", self.source.sha256) != self.source.sha256:
            raise DreamError(f"-o {self.folder}: holds the gallery of another picture, {shown(before.get('picture'))}, "
                             "which would be replaced; give another folder")
        if before or _is_page(self.folder / "index.html") or any(dreams.values()):
            return
        for path in (self.folder / file for file in self._files()):
            if path.exists():
                raise DreamError(f"-o {self.folder}: {path} belongs to no gallery, and would be replaced; give another "
                                 "folder")

    def _known(self):
        """Return what gallery.json says of the source picture of a gallery that the folder holds; {} without one."""
        try:
            summary = json.loads((self.folder / "gallery.json").read_bytes())
            ours = str(summary["software"]).startswith("deepdream") and isinstance(summary["source"], dict)
            return summary["source"] if ours else {}
        except (OSError, ValueError, TypeError, KeyError):      # missing, or damaged
            return {}

    def _files(self):
        """List all files of the gallery, as paths within the folder."""
        return ["index.html", "gallery.json", "source.jpg", *map(self._guide_file, self.guides),
                *(file for d in self.dreams for file in (d.file, d.thumb))]

    def resume(self) -> list[Dream]:
        """Mark the dreams that exist on disk, and were made with the same settings, as done. Returns the other ones."""
        for dream in self.dreams:
            path = self.folder / dream.file
            try:
                saved = pictures.settings(path)
                facts = {k: saved[k] for k in FACTS if k in saved}
                same = not differences(saved, dream.metadata, FREE) and all(FACTS[k](v) for k, v in facts.items())
                if same and not (self.folder / dream.thumb).exists():
                    self._thumb(pictures.load(path), self.folder / dream.thumb)
            except (OSError, DreamError):      # the file is missing or damaged
                same = False
            if same:
                dream.status, dream.facts = "done", facts
        return [d for d in self.dreams if d.status != "done"]

    def job(self, dream: Dream, device: str, threads: int | None) -> jobs.Job:
        """Return the job that makes a dream.

        dream: the dream.
        device, threads: as in `jobs.Job`.
        """
        return jobs.Job(dream.net.files.arguments, dream.settings, self.source.data, dream.guide and dream.guide.data,
                        device, threads)

    def keep(self, dream: Dream, result: jobs.Result) -> None:
        """Save the result of a dream's job, and update the page if the last update was some time ago.

        Raises DreamError if a file cannot be written.
        """
        try:
            if result.error:
                dream.status, dream.facts = "failed", {"reason": result.error}
                for file in (dream.file, dream.thumb):      # files that were made with other settings
                    (self.folder / file).unlink(missing_ok=True)
            else:
                facts = {k: getattr(result, k) for k in FACTS}
                self._thumb(result.picture, self.folder / dream.thumb)
                pictures.save(result.picture, self.folder / dream.file, {**dream.metadata, **facts},
                              dream.metadata["quality"])
                dream.status, dream.facts = "done", facts
            if time.monotonic() - self._written > PAGE_EVERY:
                self.write()
        except OSError as error:
            raise DreamError(f"-o {self.folder}: cannot be written: {error.strerror or error}") from None

    def run(self, work: list[tuple[Dream, jobs.Job]], workers: object,
            on_finished: Callable[[Dream], None] = lambda dream: None) -> None:
        """Make dreams, and save them with the page. If it is interrupted, the page says so.

        work: the dreams and their jobs.
        workers: from `jobs.workers`.
        on_finished: called after each dream.
        """
        self.state = "growing"
        try:
            self.write()
            with closing(jobs.run({i: job for i, (_, job) in enumerate(work)}, workers)) as finished:
                for i, result in finished:
                    self.keep(work[i][0], result)
                    on_finished(work[i][0])
            self.state = "done"
        finally:
            if self.state != "done":
                self.state = "interrupted"
            self.write()

    # ---- gallery.json and index.html

    def summary(self) -> dict:
        """Return the contents of gallery.json: everything that is needed to make each dream again."""
        h, w = self.source.size
        return {"software": SOFTWARE, "state": self.state, "options": self.options,
                "source": {"picture": self.source.path.name, "sha256": self.source.sha256, "width": w, "height": h,
                           "file": "source.jpg"},
                "guides": [{"picture": g.path.name, "sha256": g.sha256, "file": self._guide_file(g)}
                           for g in self.guides],
                "models": self.models,
                "rows": [{"level": level, "ends": ends} for level, ends in self.rows],
                "dreams": [self._summary_of(d) for d in self.dreams]}

    def _summary_of(self, d):
        files = {"file": d.file, "thumb": d.thumb} if d.status == "done" else {}
        return {"name": d.name, "status": d.status, **files, "settings": d.metadata,
                **{k: d.facts[k] for k in ("reason", *FACTS) if k in d.facts}}

    def write(self) -> None:
        """Write gallery.json and index.html. Each file is replaced at once, so that a reader never sees half of it."""
        pictures.write(self.folder / "gallery.json", json.dumps(self.summary(), indent=1).encode())
        pictures.write(self.folder / "index.html", page(self).encode(errors="backslashreplace"))
        self._written = time.monotonic()

    @property
    def guides(self) -> list[Source]:
        """The guides, without duplicates."""
        return list({d.guide.sha256: d.guide for d in self.dreams if d.guide}.values())

    def _guide_file(self, guide):
        return f"thumbs/guide-{guide.sha256[:12]}.jpg"

    def _thumb(self, picture, path):
        from PIL import Image
        image = Image.fromarray(pictures.to_uint8(picture))
        image.thumbnail((THUMB, THUMB), Image.Resampling.LANCZOS)
        file = io.BytesIO()
        image.save(file, "JPEG", quality=85)
        pictures.write(path, file.getvalue())
