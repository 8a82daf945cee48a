"""Galleries: what several nets dream of one picture, layer by layer, as a page that opens from disk.

A gallery is a folder: `index.html`, `gallery.json`, the source picture, and in dreams/ and thumbs/ one JPEG a dream.
The settings in a dream's own metadata decide whether it is made again, so whatever else is lost can be written anew.
"""
import fnmatch
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

from .. import __version__, convert, pictures
from ..errors import DreamError
from ..models.records import LEVELS
from . import jobs

THUMB = 640                  # pixels of a thumbnail's longer side
PAGE_EVERY = 2.0             # seconds between two versions of the page while dreams come in
FACTS = {                    # what a dream's metadata tells of how it went -> whether that can be
    "seconds": lambda v: _is_number(v) and 0 <= v < 1e9,
    "objective": lambda v: v is None or _is_number(v),
    "device": lambda v: isinstance(v, str),
    "threads": lambda v: v is None or type(v) is int and 0 < v < 10 ** 6,
}
NAMES_ONLY = ("model", "picture", "guide")     # of a dream's settings: a renamed file does not change a dream


# ---- which ends, in which rows

def levels(net):
    """{end: 'low', 'middle' or 'high'} for all ends of a net, in net order.

    A level reaches up to the last end that the model's record has for it; without a record it is a third of the net.
    """
    names = list(net.ends)
    known = record_ends(net)
    low, middle = (max((names.index(e) for e in known[level]), default=-1) for level in LEVELS[:2])
    if not (known["low"] and known["middle"]):
        low, middle = len(names) // 3, 2 * len(names) // 3
    return {name: LEVELS[(i > low) + (i > middle)] for i, name in enumerate(names)}


def record_ends(net):
    """{level: ends} from the model's record; without one, the outputs of the net's blocks, else all that have a place,
    in thirds."""
    given = net.record.ends if net.record else {}
    given = {level: [e for e in given.get(level, []) if e in net.ends] for level in LEVELS}
    if any(given.values()):
        return given
    flat = [e for e, facts in net.ends.items() if facts.stride is not None and e not in net.inputs]
    blocks = [e for e in flat if e.endswith(("/output", "/concat"))]
    names = blocks if len(blocks) >= 6 else flat
    cuts = [round(i * len(names) / 3) for i in range(4)]
    return {level: names[a:b] for level, a, b in zip(LEVELS, cuts, cuts[1:])}


def chosen_ends(words, nets):
    """What `--ends` means: {model: its ends, in net order}.

    words: names of layers, globs, 'low', 'middle', 'high', 'all'; none: two of each level. nets: {model: Net}. What one
    net is asked for, every other net that has it dreams at too, so that rows can be compared.
    """
    wanted = set()
    for word in words or [None]:
        found = {end for net in nets.values() for end in _matching(word, net)}
        if not found:
            raise convert.no_such_end(word, list(dict.fromkeys(e for net in nets.values() for e in net.ends)))
        wanted |= found
    chosen = {model: [e for e in net.ends if e in wanted] for model, net in nets.items()}
    for model, ends in chosen.items():
        if not ends:
            raise DreamError(f"--ends {' '.join(words)}: {model} has none of these layers; "
                             "low, middle, high and all mean something for every model")
    return chosen


def _matching(word, net):
    if word is None:      # the first and the last of each level
        return {ends[i] for ends in record_ends(net).values() if ends for i in (0, -1)}
    if word in LEVELS:
        return record_ends(net)[word]
    return [e for e in net.ends if word == "all" or fnmatch.fnmatchcase(e, word)]


def rows(chosen, nets):
    """The rows of a gallery, from low to high: [(level, {model: end})].

    An end that several models share is a row. What only one model has stands beside what only the others have, by its
    place within the level: nets that share no layer names are compared by depth.
    """
    counts = Counter(e for ends in chosen.values() for e in ends)
    of = {model: levels(net) for model, net in nets.items()}
    depth = {(m, e): i / len(net.ends) for m, net in nets.items() for i, e in enumerate(net.ends)}
    made = []
    for end in dict.fromkeys(e for ends in chosen.values() for e in ends if counts[e] > 1):
        row = {m: end for m, ends in chosen.items() if end in ends}
        made.append((of[next(iter(row))][end], row))
    for level in LEVELS:
        lone = {m: [e for e in ends if counts[e] == 1 and of[m][e] == level] for m, ends in chosen.items()}
        longest = max(lone, key=lambda m: len(lone[m]))
        beside = [{longest: e} for e in lone[longest]]
        for model, ends in lone.items():
            for i, end in enumerate(ends):
                beside[int((i + 0.5) * len(beside) / len(ends))][model] = end
        made += [(level, row) for row in beside]
    order = list(chosen)

    def place(row):
        level, ends = row
        return LEVELS.index(level), sum(depth[item] for item in ends.items()) / len(ends)
    return [(level, {m: row[m] for m in order if m in row}) for level, row in sorted(made, key=place)]


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
    """One dream of a gallery. wanted: the settings it must have been made with; facts: what came of it."""
    model: str
    end: str
    octave_n: int
    guide: Source | None
    seed: int
    wanted: dict
    name: str = ""
    status: str = "waiting"      # or done, failed
    facts: dict = field(default_factory=dict)

    @property
    def file(self):
        return f"dreams/{self.name}.jpg"

    @property
    def thumb(self):
        return f"thumbs/{self.name}.jpg"


def plan(source, nets, chosen, octave_ns, guides, seeds, settings, quality):
    """All dreams of a gallery: models x ends x octave numbers x guides x seeds, model by model.

    source, guides: Sources (guides may be empty). settings: keywords of `deepdream` but octave_n.
    """
    dreams = []
    for model, net in nets.items():
        name = net.inputs[0]
        mean, swap = net.transformer.mean[name].ravel().tolist(), list(net.transformer.channel_swap[name])
        for end, octave_n, guide, seed in itertools.product(chosen[model], octave_ns, guides or [None], seeds):
            wanted = {"model": model, "checksum": net.checksum, "mean": mean, "channel_swap": swap, "end": end,
                      **settings, "octave_n": octave_n, "seed": seed, "picture": source.path.name,
                      "picture_sha256": source.sha256, "guide": guide and guide.path.name,
                      "guide_sha256": guide and guide.sha256, "quality": quality}
            dreams.append(Dream(model, end, octave_n, guide, seed, wanted))
    _name(dreams)
    return dreams


def _name(dreams):
    """File names that people can read; where two would be the same, with a checksum."""
    def slug(d):
        guide = f"-{d.guide.path.stem}" if d.guide else ""
        text = f"{d.model}-{d.end.replace('/', '.')}-o{d.octave_n}{guide}-s{d.seed}"
        return re.sub(r"[^\w.+-]", "_", text)[:150]
    counts = Counter(slug(d).casefold() for d in dreams)
    for d in dreams:
        d.name = slug(d)
        if counts[d.name.casefold()] > 1:
            what = f"{d.model}\n{d.end}\n{d.octave_n}\n{d.wanted['guide_sha256']}\n{d.seed}"
            d.name += "-" + hashlib.sha256(what.encode()).hexdigest()[:8]


def _is_number(value):
    """Whether a page can show a value as a number: neither True nor a whole number of thousands of digits."""
    return isinstance(value, float) or type(value) is int and abs(value) < 10 ** 300


def _breakable(name):
    """A model's or layer's name as HTML that may break after _ and /."""
    import markupsafe
    text = str(markupsafe.escape(name))
    return markupsafe.Markup(text.replace("_", "_<wbr>").replace("/", "/<wbr>"))


class Gallery:
    """The folder of a gallery.

    source: a Source. nets: {model: Net}, in the order of the columns. dreams, rows: from `plan` and `rows`. options:
    what the user asked for, told in gallery.json.
    """

    def __init__(self, folder, source, nets, dreams, rows, options=None):
        self.folder, self.source, self.dreams, self.rows = Path(folder), source, dreams, rows
        self.options, self.state, self._written = options or {}, "growing", 0.0
        self.models = [{"name": m, "title": getattr(getattr(net.record, "record", None), "title", "") or "",
                        "checksum": net.checksum} for m, net in nets.items()]
        for file in self._files():
            pictures.refuse_inputs(self.folder / file, source.path, *(g.path for g in self._guides()))
        try:
            for part in ("dreams", "thumbs"):
                (self.folder / part).mkdir(parents=True, exist_ok=True)
            picture = pictures.load(source.path)
            pictures.save(picture, self.folder / "source.jpg")
            for guide in self._guides():
                self._thumb(pictures.load(guide.path), self.folder / self._guide_file(guide))
        except OSError as error:
            raise DreamError(f"-o {folder}: cannot be written: {error.strerror or error}") from None

    def _files(self):
        """All that is written, as paths within the folder."""
        return ["index.html", "gallery.json", "source.jpg", *map(self._guide_file, self._guides()),
                *(file for d in self.dreams for file in (d.file, d.thumb))]

    def resume(self):
        """Take over the dreams that lie there, made with the same settings. Returns those still to be made."""
        for dream in self.dreams:
            path = self.folder / dream.file
            try:
                told = {"tile": None, **pictures.settings(path)}
                facts = {k: told[k] for k in FACTS if k in told}
                same = all(told.get(k, "?") == v for k, v in {"tile": None, **dream.wanted}.items()
                           if k not in NAMES_ONLY) and all(FACTS[k](v) for k, v in facts.items())
                if same and not (self.folder / dream.thumb).exists():
                    self._thumb(pictures.load(path), self.folder / dream.thumb)
            except (OSError, DreamError):      # not there, or damaged
                same = False
            if same:
                dream.status, dream.facts = "done", facts
        return [d for d in self.dreams if d.status != "done"]

    def job(self, dream, model, device, threads):
        """The job (see `jobs`) of a dream. model: as `Net` takes it."""
        keys = ("iter_n", "octave_n", "octave_scale", "step_size", "jitter", "clip", "tile")
        return {"model": model, "end": dream.end, "seed": dream.seed,
                "settings": {k: dream.wanted[k] for k in keys if k in dream.wanted},
                "picture": self.source.data, "guide": dream.guide and dream.guide.data, "device": device,
                "threads": threads}

    def keep(self, dream, result):
        """Write down a job's result: the picture first, then, now and then, the page."""
        try:
            if "error" in result:
                dream.status, dream.facts = "failed", {"reason": result["error"]}
                for file in (dream.file, dream.thumb):      # of other settings
                    (self.folder / file).unlink(missing_ok=True)
            else:
                facts = {k: result[k] for k in FACTS}
                self._thumb(result["picture"], self.folder / dream.thumb)
                record = {"software": f"deepdream {__version__}", **dream.wanted, **facts}
                pictures.save(result["picture"], self.folder / dream.file, record, dream.wanted["quality"])
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

    def told(self):
        """What gallery.json says: everything that is needed to make each dream again."""
        h, w = self.source.size
        return {"software": f"deepdream {__version__}", "state": self.state, "options": self.options,
                "source": {"picture": self.source.path.name, "sha256": self.source.sha256, "width": w, "height": h,
                           "file": "source.jpg"},
                "guides": [{"picture": g.path.name, "sha256": g.sha256, "file": self._guide_file(g)}
                           for g in self._guides()],
                "models": self.models,
                "rows": [{"level": level, "ends": ends} for level, ends in self.rows],
                "dreams": [self._told(d) for d in self.dreams]}

    def _told(self, d):
        there = {"file": d.file, "thumb": d.thumb} if d.status == "done" else {}
        return {"name": d.name, "status": d.status, **there, "settings": d.wanted,
                **{k: d.facts[k] for k in ("reason", *FACTS) if k in d.facts}}

    def write(self):
        """Write gallery.json and index.html, each whole at every moment."""
        told = self.told()
        pictures.write(self.folder / "gallery.json", json.dumps(told, indent=1).encode())
        pictures.write(self.folder / "index.html", self.page(told).encode(errors="backslashreplace"))
        self._written = time.monotonic()

    def page(self, told):
        """index.html. told: what gallery.json says."""
        import jinja2
        env = jinja2.Environment(loader=jinja2.PackageLoader(__package__), autoescape=True, trim_blocks=True, lstrip_blocks=True,
                                 undefined=jinja2.StrictUndefined)
        env.filters["breakable"] = _breakable
        cells = {(d.model, d.end, d.octave_n, d.wanted["guide_sha256"], d.seed): d for d in self.dreams}
        variants = list(dict.fromkeys(key[2:] for key in cells))
        table = [{"level": level, "ends": ends, "title": " · ".join(dict.fromkeys(ends.values())),
                  "variants": [{"octave_n": v[0], "label": self._label(v, variants),
                                "cells": [cells.get((m["name"], ends.get(m["name"]), *v)) for m in self.models]}
                               for v in variants]} for level, ends in self.rows]
        groups = [(level, list(part)) for level, part in itertools.groupby(table, lambda row: row["level"])]
        return env.get_template("gallery.html").render(
            told=told, groups=groups, models=self.models, octave_ns=sorted({v[0] for v in variants}),
            counts=Counter(d.status for d in self.dreams), total=len(self.dreams))

    def _label(self, variant, variants):
        """What tells a variant from the others, in words."""
        octave_n, guide, seed = variant
        names = {g.sha256: g.path.name for g in self._guides()}
        parts = [f"{octave_n} octave{'s' * (octave_n > 1)}", guide and f"guide {names[guide]}", f"seed {seed}"]
        varies = [True, True, len({v[2] for v in variants}) > 1]
        return ", ".join(part for part, shown in zip(parts, varies) if part and shown)

    def _guides(self):
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
