"""Model cards: a readable `card.toml` in each model's folder, which describes the model and its files.

To add a model, add a folder with a card; no other file lists the models. README.md explains the fields of a card.
"""
from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import labels, toml
from .errors import ModelError, shown
from .toml import is_list, is_number, is_text, number, when, whole

ROOT = Path(__file__).resolve().parent
CARD, OLD_CARD = "card.toml", "record.toml"      # older versions of this project used the second name
LEVELS = ("low", "middle", "high")
CHECKSUMS = ("sha256", "sha1", "git_sha1", "md5")
ROLES = ("prototxt", "caffemodel", "labels", "mean", "archive")
NEEDED = ("prototxt", "caffemodel")             # the roles without which a model cannot be used
# Maximum size of a file, in bytes, unless its card says otherwise: by role, and for all other roles
LIMITS = {"prototxt": 16 << 20, "labels": labels.LIMIT, "mean": 1 << 28}
LIMIT = 1 << 31                                 # protobuf cannot read larger messages


@dataclass(frozen=True)
class File:
    """One file of a model, as its card describes it.

    name: the file name.
    role: one of ROLES.
    size: in bytes; None if it is not known.
    min_size: lower limit of the size, from the shapes of the weights, for a file of unknown size.
    max_size: upper limit of the size, for a file of unknown size; None: the limit for its role.
    sha1, sha256, md5: checksums, in lower-case hex digits; None if not known. An MD5 protects against damage only.
    git_sha1: the checksum by which git names the content (its blob id).
    checksum_source: addresses of the pages that published the checksums.
    mirrors: addresses from which to download it. A file with neither mirrors nor an archive is shipped: it is in the
        folder of its card.
    archive: name of the archive file that contains it, or None.
    member: its path in the archive.
    unverified: no checksum is known.
    single_source: the checksum was published in one place only.
    reason: why the file is unverified or has a single source; shown as a warning after a download.
    """
    name: str
    role: str
    size: int | None = None
    min_size: int = 1
    max_size: int | None = None
    sha1: str | None = None
    sha256: str | None = None
    git_sha1: str | None = None
    md5: str | None = None
    checksum_source: tuple[str, ...] = ()
    mirrors: tuple[str, ...] = ()
    archive: str | None = None
    member: str | None = None
    unverified: bool = False
    single_source: bool = False
    reason: str = ""

    @property
    def shipped(self) -> bool:
        """Whether the file is part of this project."""
        return not self.mirrors and self.archive is None

    @property
    def limit(self) -> int:
        """The maximum size of the file, in bytes."""
        return self.size or self.max_size or LIMITS.get(self.role, LIMIT)

    @property
    def checksums(self) -> dict[str, str]:
        """The known checksums: {kind: hex digits}, in the order of CHECKSUMS."""
        return {kind: value for kind in CHECKSUMS if (value := getattr(self, kind))}

    def problem(self, path: Path) -> str:
        """Compare a file on disk with this description. Returns what is wrong with it, or '' if nothing is."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{size:,} bytes instead of {self.size:,}"
        if size < self.min_size:
            return f"{size:,} bytes, too few (at least {self.min_size:,})"
        if size > self.limit:
            return f"{size:,} bytes, too many (at most {self.limit:,})"
        for kind, expected in self.checksums.items():
            found = _digest(path, kind)
            if found != expected:
                return f"wrong content ({kind} {found[:12]}... instead of {expected[:12]}...)"
        with open(path, "rb") as stream:                            # some servers send a page instead of a missing file
            if stream.read(64).lower().startswith((b"<!doctype", b"<html")):
                return "a web page"
        return ""


def _digest(path: Path, kind: str) -> str:
    """Compute a checksum of a file, in lower-case hex digits. kind: one of CHECKSUMS."""
    with open(path, "rb") as stream:
        if kind != "git_sha1":
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while piece := stream.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True)
class Card:
    """A model card.

    name: name of the model, which is that of its folder.
    folder: the folder with the card.
    title: one line for people.
    dreams: what it dreams of, in three words.
    source: address of a page about the model.
    licence: the terms of use, in words.
    citation: the publication to cite.
    made_from: the training data and the training.
    notes: anything else.
    labels: name of the file with the names of the classes, or None.
    labels_from: name of a model of this project that has the same classes and is shipped with their names, or None.
    mean: mean of the training pictures, 0 to 255: blue, green, red, or one number for a grey net.
    channel_swap: for each channel of the net, the number of the channel in RGB; without effect on a grey net.
    default_end: the layer to dream at if the user names none.
    class_pictures: settings of `deepdream class` that suit this net.
    ends: {level: names of layers}, for galleries.
    files: the files of the model.
    """
    name: str
    folder: Path
    title: str = ""
    dreams: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    made_from: str = ""
    notes: str = ""
    labels: str | None = None
    labels_from: str | None = None
    mean: tuple[float, ...] = (104.0, 116.0, 122.0)                 # of ImageNet, as the notebook has it
    channel_swap: tuple[int, int, int] = (2, 1, 0)
    default_end: str | None = None
    class_pictures: dict = field(default_factory=dict)
    ends: dict[str, list[str]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    files: tuple[File, ...] = ()

    def file(self, name: str) -> File | None:
        """Return the file of this name, or None."""
        return next((f for f in self.files if f.name == name), None)

    def role(self, role: str) -> File | None:
        """Return the file with this role, or None."""
        return next((f for f in self.files if f.role == role), None)


# --- checks (see toml.py): each takes a TOML value and returns the value for the dataclass ----------------------------

def _url(value):
    return when(isinstance(value, str) and re.fullmatch(r"https?://[^/\s]+\.[^\s\x00-\x1f\x7f-\x9f]+", value),
                "an http(s) address", value)


def _urls(value):
    when(is_list(value, lambda v: isinstance(v, str)) and len(set(value)) == len(value),
         "a list of different addresses", value)
    return tuple(_url(v) for v in value)


def _three_words(value):
    words = toml.text(value)
    return when(len(words.split()) == 3, "three words", words)


def _bytes(value):
    return when(type(value) is int and 0 < value < 2 ** 63, "a number of bytes", value)


def _flag(value):
    return when(value is True, "true, or left out", value)


def _hex(digits):
    def check(value):
        return when(isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value),
                    f"{digits} lower-case hex digits", value)
    return check


def _role(value):
    return when(isinstance(value, str) and value in ROLES, "one of " + ", ".join(ROLES), value)


def _mean(value):
    when(is_list(value, lambda v: is_number(v, 0, 255), (1, 3)),
         "three numbers in 0..255 (blue, green, red), or one for a grey net", value)
    return tuple(float(v) for v in value)


def _swap(value):
    when(is_list(value, lambda v: type(v) is int) and sorted(value) == [0, 1, 2], "an order of 0, 1, 2", value)
    return tuple(value)


def ends(value: object) -> dict[str, list[str]]:
    """Check a table of ends, {level: [names of layers]}. Raises ValueError."""
    when(isinstance(value, dict) and set(value) <= set(LEVELS), "a table of " + ", ".join(LEVELS), value)
    for names in value.values():
        when(is_list(names, is_text, range(1000)), "lists of layer names", names)
    return {level: list(value.get(level, [])) for level in LEVELS}


def _pair(low, high, kind, must):
    return lambda value: when(is_list(value, lambda v: type(v) in kind and low <= v <= high, (2,)), must, value)


_weight, _count = number(0, 1000), whole(1, 10 ** 6)
_CLASS_PICTURES = {     # options of `deepdream class`
    "size": _pair(1, 10 ** 6, (int,), "a width and a height"), "noise": _pair(0, 255, (int, float), "mean and spread"),
    "iter_n": _count, "octave_n": whole(1, 100), "octave_scale": number(1, 1000), "step_size": number(-1e6, 1e6),
    "jitter": whole(0, 10 ** 6), "tv": _weight, "grey": _weight, "blur": _weight, "blur_until": _weight,
    "blur_every": _count, "laplacian": whole(0, 12)}


def _class_pictures(value):
    when(isinstance(value, dict) and set(value) <= set(_CLASS_PICTURES), "a table of " + ", ".join(_CLASS_PICTURES),
         value)
    for key, setting in value.items():
        try:
            _CLASS_PICTURES[key](setting)
        except ValueError as error:
            raise ValueError(f"{key} {error}") from None
    return value


def _files(value):
    return when(is_list(value, lambda v: isinstance(v, dict), range(100)), "a list of tables, [[files]]", value)


_FILE = {"name": toml.name, "role": _role, "size": _bytes, "min_size": _bytes, "max_size": _bytes, "sha1": _hex(40),
         "sha256": _hex(64), "git_sha1": _hex(40), "md5": _hex(32), "checksum_source": _urls, "mirrors": _urls,
         "archive": toml.name, "member": toml.text, "unverified": _flag, "single_source": _flag, "reason": toml.text}
_CARD = {"title": toml.text, "dreams": _three_words, "source": _url, "licence": toml.text, "citation": toml.text,
         "made_from": toml.text, "notes": toml.text, "labels": toml.name, "labels_from": toml.name, "mean": _mean,
         "channel_swap": _swap, "default_end": toml.text, "class_pictures": _class_pictures, "ends": ends,
         "files": _files}
_COMPLETE = ("title", "dreams", "source", "licence", "citation", "mean", "channel_swap", "default_end", "ends", "files")

# Mistakes in one file's description: (whether it is made, message)
_FILE_RULES = (
    (lambda f: f.size and f.max_size, "has a size and a max_size: give one of them"),
    (lambda f: f.min_size > f.limit, "its min_size exceeds its maximum size, max_size or the limit for its role"),
    (lambda f: f.unverified and f.checksums, "has a checksum and unverified = true: give one of them"),
    (lambda f: f.mirrors and not f.checksums and not f.unverified,
     "has mirrors but no checksum: give sha256, sha1, git_sha1 or md5, or unverified = true with a reason"),
    (lambda f: (f.unverified or f.single_source) and not f.reason, "needs a reason for unverified or single_source"),
    (lambda f: f.reason and not (f.unverified or f.single_source),
     "has a reason but is neither unverified nor single_source"),
    (lambda f: f.single_source and not f.checksums, "has single_source = true but no checksum"),
    (lambda f: (f.archive is None) != (f.member is None), "needs both archive and member, or neither"),
    (lambda f: f.checksum_source and not f.checksums, "has a checksum_source but no checksum"),
    (lambda f: f.role == "archive" and not f.mirrors, "has the role archive but no mirrors"),
)
# Mistakes in one file's description, in a complete card
_COMPLETE_FILE_RULES = (
    (lambda f: f.checksums and not f.shipped and not f.checksum_source,
     "has a checksum but no checksum_source: say where it was published"),
    (lambda f: f.unverified and not f.size and not f.max_size, "is unverified: give its size, or a max_size"),
)
# Mistakes in a whole card
_RULES = (
    (lambda r: len({f.name for f in r.files}) < len(r.files), "files: two have one name"),
    (lambda r: any(sum(f.role == role for f in r.files) != 1 for role in NEEDED),
     "files: needs one prototxt, one caffemodel"),
    (lambda r: any(f.archive and getattr(r.file(f.archive), "role", "") != "archive" for f in r.files),
     "files: a member's archive is not among the files"),
    (lambda r: r.labels != getattr(r.role("labels"), "name", None), "labels must name the file whose role is labels"),
    (lambda r: r.labels and r.labels_from, "labels and labels_from: give one of them"),
    (lambda r: r.labels_from and not shipped_labels(r.labels_from),
     "labels_from must name a model whose labels are shipped with the project"),
    (lambda r: not all(r.ends.values()), "each of ends.low, ends.middle, ends.high must name at least one layer"),
    (lambda r: r.default_end not in sum(r.ends.values(), []), "default_end must be one of ends"),
)


def shipped_labels(name: str) -> Path | None:
    """Return the path of the class names that are shipped with a model of this project; None if there are none."""
    path = ROOT / name / CARD
    file = read(path, complete=False).role("labels") if path.is_file() else None
    return path.parent / file.name if file and file.shipped else None


def _checked(rules, item, where: str):
    """Return a File or Card that follows the rules. Raises ModelError; `where` begins its message."""
    for broken, complaint in rules:
        if broken(item):
            raise ModelError(f"{where}: {complaint}")
    return item


def read(path: str | Path, complete: bool = True) -> Card:
    """Read a model card.

    path: the TOML file.
    complete: require all fields of a model of this project; in a user's own folder, every field is optional.

    Raises ModelError for a card that is damaged or incomplete.
    """
    path = Path(path)
    values = toml.read(path, _CARD)
    missing = [key for key in _COMPLETE if key not in values]
    files = []
    for i, entry in enumerate(values.pop("files", [])):
        where = f"{path}: files[{i}]"
        if not {"name", "role"} <= set(entry):
            raise ModelError(f"{where}: needs a name and a role")
        files.append(_checked(_FILE_RULES, File(**toml.checked(_FILE, entry, where)), f"{where} ({entry['name']})"))
    folder = path.resolve().parent
    result = Card(name=folder.name, folder=folder, files=tuple(files), **values)
    if complete:
        if missing:
            raise ModelError(f"{path}: lacks {', '.join(missing)}")
        for i, file in enumerate(files):
            _checked(_COMPLETE_FILE_RULES, file, f"{path}: files[{i}] ({file.name})")
        _checked(_RULES, result, str(path))
    return result


def names() -> list[str]:
    """Return the names of all models, in alphabetical order."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{CARD}"))


def nearest(name: str) -> str:
    """Return a hint for a message about an unknown name: similar names, and the list of all models."""
    close = toml.near(name[:100].lower(), names(), 3)
    return (f"did you mean {' or '.join(close)}? " if close else "") + \
        f"`deepdream models` lists the {len(names())} known models"


def card(name: str) -> Card:
    """Return the card of a model. Raises ModelError, with similar names, if there is no model of this name."""
    if name not in names():
        raise ModelError(f"no model is called {shown(name)}; {nearest(name)}")
    return read(ROOT / name / CARD)
