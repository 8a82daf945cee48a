"""Galleries: what several nets dream of one picture, layer by layer, as a page that opens from disk.

A gallery is a folder: `index.html`, `gallery.json`, the source picture, and in dreams/ and thumbs/ one JPEG a dream.
The settings in a dream's own metadata decide whether it is made again, so whatever else is lost can be written anew.
"""
import functools
import hashlib
import io
import itertools
import json
import re
import time
from collections import Counter
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path

from .. import pictures
from ..errors import DreamError
from ..options import Settings
from ..provenance import SOFTWARE, differences, provenance
from . import jobs
from .page import page

THUMB = 640                  # pixels of a thumbnail's longer side
PAGE_EVERY = 2.0             # seconds between two versions of the page while dreams come in
FACTS = {                    # what a dream's metadata tells of how it went -> whether that can be
    "seconds": lambda v: _is_number(v) and 0 <= v < 1e9,
    "objective": lambda v: v is None or _is_number(v),
    "device": lambda v: isinstance(v, str),
    "threads": lambda v: v is None or type(v) is int and 0 < v < 10 ** 6,
}
# what of a dream's record may differ: names of files, and what the checksum of the net knows, too
FREE = ("model", "picture", "guide", "pixels")


# ---- dreams

@dataclass
class Source:
    """A picture file. data: its bytes; size: (h, w)."""
    path: Path
    data: bytes
    size: tuple

    @classmethod
    def read(cls, path):
        """Raises DreamError for what is no picture."""
        h, w = pictures.load(path).shape[:2]
        return cls(Path(path), Path(path).read_bytes(), (h, w))

    @functools.cached_property
    def sha256(self):
        return hashlib.sha256(self.data).hexdigest()


@dataclass
class Dream:
    """One dream of a gallery.

    model, net: the name in the gallery, and the Net. settings: with one end and a seed. guide: its Source, or None.
    record: what the picture's metadata says of its making. facts: what came of it.
    """
    model: str
    net: object
    settings: Settings
    guide: Source | None
    record: dict
    name: str = ""
    status: str = "waiting"      # or done, failed
    facts: dict = field(default_factory=dict)

    @property
    def end(self):
        return self.settings.end[0]

    @property
    def file(self):
        return f"dreams/{self.name}.jpg"

    @property
    def thumb(self):
        return f"thumbs/{self.name}.jpg"


def plan(source, nets, chosen, octave_ns, guides, seeds, settings, quality) -> list[Dream]:
    """All dreams of a gallery: models x ends x octave numbers x guides x seeds, model by model.

    source, guides: Sources (guides may be empty). chosen: from `rows.chosen_ends`. settings: what all have in common.
    """
    dreams = []
    for model, net in nets.items():
        name = net.inputs[0]
        pixels = {"mean": net.transformer.mean[name].ravel().tolist(),
                  "channel_swap": list(net.transformer.channel_swap[name])}
        for end, octave_n, guide, seed in itertools.product(chosen[model], octave_ns, guides or [None], seeds):
            one = settings.replace(end=(end,), octave_n=octave_n, seed=seed)
            record = provenance(net, one.to_metadata(), model=model, **pixels, picture=source.path.name,
                                picture_sha256=source.sha256, guide=guide and guide.path.name,
                                guide_sha256=guide and guide.sha256, quality=quality)
            dreams.append(Dream(model, net, one, guide, record))
    _name(dreams)
    return dreams


def _name(dreams):
    """File names that people can read; where two would be the same, with a checksum."""
    def slug(d):
        guide = f"-{d.guide.path.stem}" if d.guide else ""
        text = f"{d.model}-{d.end.replace('/', '.')}-o{d.settings.octave_n}{guide}-s{d.settings.seed}"
        return re.sub(r"[^\w.+-]", "_", text)[:150]
    counts = Counter(slug(d).casefold() for d in dreams)
    for d in dreams:
        d.name = slug(d)
        if counts[d.name.casefold()] > 1:
            what = f"{d.model}\n{d.end}\n{d.settings.octave_n}\n{d.record['guide_sha256']}\n{d.settings.seed}"
            d.name += "-" + hashlib.sha256(what.encode()).hexdigest()[:8]


def _is_number(value):
    """Whether a page can show a value as a number: neither True nor a whole number of thousands of digits."""
    return isinstance(value, float) or type(value) is int and abs(value) < 10 ** 300


class Gallery:
    """The folder of a gallery.

    source: a Source. nets: {model: Net}, in the order of the columns. dreams, rows: from `plan` and `rows.rows`.
    options: what the user asked for, for gallery.json.
    """

    def __init__(self, folder, source, nets, dreams, rows, options=None):
        self.folder, self.source, self.dreams, self.rows = Path(folder), source, dreams, rows
        self.options, self.state, self._written = options or {}, "growing", 0.0
        self.models = [{"name": m, "title": net.card.title if net.card else "",
                        "checksum": net.checksum} for m, net in nets.items()]
        for file in self._files():
            pictures.refuse_inputs(self.folder / file, source.path, *(g.path for g in self.guides))
        try:
            for part in ("dreams", "thumbs"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            picture = pictures.load(source.path)
            pictures.save(picture, self.folder / "source.jpg")
            for guide in self.guides:
                self._thumb(pictures.load(guide.path), self.folder / self._guide_file(guide))
        except OSError as error:
            raise DreamError(f"-o {folder}: cannot be written: {error.strerror or error}") from None

    def _files(self):
        """All that is written, as paths within the folder."""
        return ["index.html", "gallery.json", "source.jpg", *map(self._guide_file, self.guides),
                *(file for d in self.dreams for file in (d.file, d.thumb))]

    def resume(self):
        """Take over the dreams that lie there, made with the same settings. Returns those still to be made."""
        for dream in self.dreams:
            path = self.folder / dream.file
            try:
                there = pictures.settings(path)
                facts = {k: there[k] for k in FACTS if k in there}
                same = not differences(there, dream.record, FREE) and all(FACTS[k](v) for k, v in facts.items())
                if same and not (self.folder / dream.thumb).exists():
                    self._thumb(pictures.load(path), self.folder / dream.thumb)
            except (OSError, DreamError):      # not there, or damaged
                same = False
            if same:
                dream.status, dream.facts = "done", facts
        return [d for d in self.dreams if d.status != "done"]

    def job(self, dream, device, threads):
        """The job of a dream."""
        return jobs.Job(dream.net.files.arguments, dream.settings, self.source.data, dream.guide and dream.guide.data,
                        device, threads)

    def keep(self, dream, result):
        """Write down a job's result: the picture first, then, now and then, the page."""
        try:
            if result.error:
                dream.status, dream.facts = "failed", {"reason": result.error}
                for file in (dream.file, dream.thumb):      # of other settings
                    (self.folder / file).unlink(missing_ok=True)
            else:
                facts = {k: getattr(result, k) for k in FACTS}
                self._thumb(result.picture, self.folder / dream.thumb)
                pictures.save(result.picture, self.folder / dream.file, {**dream.record, **facts},
                              dream.record["quality"])
                dream.status, dream.facts = "done", facts
            if time.monotonic() - self._written > PAGE_EVERY:
                self.write()
        except OSError as error:
            raise DreamError(f"-o {self.folder}: cannot be written: {error.strerror or error}") from None

    def run(self, work, workers, on_finished=lambda dream: None):
        """Make dreams. work: [(Dream, job)]; workers: from `jobs.workers`. However it ends, the page says how."""
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

    def summary(self):
        """What gallery.json says: everything that is needed to make each dream again."""
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
        there = {"file": d.file, "thumb": d.thumb} if d.status == "done" else {}
        return {"name": d.name, "status": d.status, **there, "settings": d.record,
                **{k: d.facts[k] for k in ("reason", *FACTS) if k in d.facts}}

    def write(self):
        """Write gallery.json and index.html, each whole at every moment."""
        pictures.write(self.folder / "gallery.json", json.dumps(self.summary(), indent=1).encode())
        pictures.write(self.folder / "index.html", page(self).encode(errors="backslashreplace"))
        self._written = time.monotonic()

    @property
    def guides(self):
        """The Sources of the guides, each once."""
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
