"""Model cards: what is known of a model, in one readable `card.toml` a folder.

Adding a model is adding a folder with a card: nothing else in the project names the models.
"""
import hashlib
import re
from dataclasses import dataclass, field
from pathlib import Path

from . import labels, toml
from .errors import ModelError, shown
from .toml import is_list, is_number, is_text, number, when, whole

ROOT = Path(__file__).resolve().parent
CARD, OLD_CARD = "card.toml", "record.toml"      # folders that users made before have the old name
LEVELS = ("low", "middle", "high")
CHECKSUMS = ("sha256", "sha1", "git_sha1", "md5")
ROLES = ("prototxt", "caffemodel", "labels", "mean", "archive")
NEEDED = ("prototxt", "caffemodel")             # without these two there is no dream; labels and means may be missing
MOST = {"prototxt": 16 << 20, "labels": labels.MOST, "mean": 1 << 28}      # bytes, where a card does not say it
USUAL_MOST = 1 << 31                            # bytes: no protobuf may be larger


@dataclass(frozen=True)
class File:
    """One file of a model, as the card describes it.

    A file with neither mirrors nor an archive is *shipped*: it lies beside its card. `size` and `min_size` are in
    bytes (`min_size`: a lower bound that follows from the shapes, for files whose size nobody published; `max_size`: an
    upper bound, else there is one for each role); checksums are in lower-case hex (`git_sha1` is git's name for the
    content, its blob id; `md5` guards against damage only), and `checksum_source` holds the addresses that published
    them. `archive` names the file it is a member of, `member` its name in there.
    `unverified`: no checksum is known; `single_source`: only one place publishes it; both need a `reason`.
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
        return not self.mirrors and self.archive is None

    @property
    def most(self) -> int:
        """The most bytes that the file may have."""
        return self.size or self.max_size or MOST.get(self.role, USUAL_MOST)

    @property
    def checksums(self) -> dict[str, str]:
        """Return the known checksums, {kind: hex}, with kinds of CHECKSUMS."""
        return {kind: value for kind in CHECKSUMS if (value := getattr(self, kind))}

    def problem(self, path: Path) -> str:
        """What speaks against `path` being this file (size, checksums), in a few words; '' if nothing does."""
        size = path.stat().st_size
        if self.size is not None and size != self.size:
            return f"{size:,} bytes instead of {self.size:,}"
        if size < self.min_size:
            return f"{size:,} bytes, too few (at least {self.min_size:,})"
        if size > self.most:
            return f"{size:,} bytes, too many (at most {self.most:,})"
        for kind, expected in self.checksums.items():
            found = _digest(path, kind)
            if found != expected:
                return f"wrong content ({kind} {found[:12]}... instead of {expected[:12]}...)"
        with open(path, "rb") as stream:                            # what servers send when they have lost a file
            if stream.read(64).lower().startswith((b"<!doctype", b"<html")):
                return "a web page"
        return ""


def _digest(path: Path, kind: str) -> str:
    """Compute a checksum of a file in lower-case hex; git_sha1 is what git calls the content (its blob id)."""
    with open(path, "rb") as stream:
        if kind != "git_sha1":
            return hashlib.file_digest(stream, lambda: hashlib.new(kind, usedforsecurity=False)).hexdigest()
        digest = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        while piece := stream.read(1 << 20):
            digest.update(piece)
        return digest.hexdigest()


@dataclass(frozen=True)
class Card:
    """One model. `mean`: B,G,R in 0..255, or one number of a grey net; `channel_swap`: RGB -> the net's order, of no
    effect on a grey net; `ends`: level -> names of layers; `dreams`: what it dreams of, in three words; `labels_from`:
    the model of this project whose shipped labels it shares."""
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
    mean: tuple[float, ...] = (104.0, 116.0, 122.0)                 # the notebook's, for ImageNet
    channel_swap: tuple[int, int, int] = (2, 1, 0)
    default_end: str | None = None
    class_pictures: dict = field(default_factory=dict)      # settings of `deepdream class` that suit this net
    ends: dict[str, list[str]] = field(default_factory=lambda: {level: [] for level in LEVELS})
    files: tuple[File, ...] = ()

    def file(self, name: str) -> File | None:
        return next((f for f in self.files if f.name == name), None)

    def role(self, role: str) -> File | None:
        return next((f for f in self.files if f.role == role), None)

    @property
    def doubts(self) -> list[str]:
        """What of this model cannot be verified, one line a file."""
        return [f"{f.name}: {f.reason}" for f in self.files if f.reason]


# --- checks (see toml.py): each takes a TOML value and returns it as the dataclass wants it ---------------------------

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


def ends(value):
    """The check of a table of ends: {level: [names of layers]}."""
    when(isinstance(value, dict) and set(value) <= set(LEVELS), "a table of " + ", ".join(LEVELS), value)
    for names in value.values():
        when(is_list(names, is_text, range(1000)), "lists of layer names", names)
    return {level: list(value.get(level, [])) for level in LEVELS}


def _pair(low, high, kind, must):
    return lambda value: when(is_list(value, lambda v: type(v) in kind and low <= v <= high, (2,)), must, value)


_strength, _many = number(0, 1000), whole(1, 10 ** 6)
_CLASS_PICTURES = {     # options of `deepdream class`
    "size": _pair(1, 10 ** 6, (int,), "a width and a height"), "noise": _pair(0, 255, (int, float), "mean and spread"),
    "iter_n": _many, "octave_n": whole(1, 100), "octave_scale": number(1, 1000), "step_size": number(-1e6, 1e6),
    "jitter": whole(0, 10 ** 6), "tv": _strength, "grey": _strength, "blur": _strength, "blur_until": _strength,
    "blur_every": _many, "laplacian": whole(0, 12)}


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

# What one file may not be: (is it so?, what to say)
_FILE_RULES = (
    (lambda f: f.size and f.max_size, "has a size and a max_size: give one of them"),
    (lambda f: f.min_size > f.most, "its min_size is more than the maximum, size or max_size"),
    (lambda f: f.unverified and f.checksums, "has a checksum and unverified = true: give one of them"),
    (lambda f: f.mirrors and not f.checksums and not f.unverified,
     "has mirrors but no checksum: give sha256, sha1, git_sha1 or md5, or unverified = true with a reason"),
    (lambda f: (f.unverified or f.single_source) and not f.reason, "needs a reason for what is not verified"),
    (lambda f: f.reason and not (f.unverified or f.single_source), "has a reason, but for what?"),
    (lambda f: f.single_source and not f.checksums, "has single_source = true but no checksum"),
    (lambda f: (f.archive is None) != (f.member is None), "needs both archive and member, or neither"),
    (lambda f: f.checksum_source and not f.checksums, "has a checksum_source but no checksum"),
    (lambda f: f.role == "archive" and not f.mirrors, "has the role archive but no mirrors"),
)
# What a file of a card of this project may not be
_OUR_FILE_RULES = (
    (lambda f: f.checksums and not f.shipped and not f.checksum_source,
     "has a checksum but no checksum_source: say where it was published"),
    (lambda f: f.unverified and not f.size and not f.max_size, "is unverified: give its size, or a max_size"),
)
# What a whole card may not be
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
    """Return the path of the labels that the project ships with the model `name`; None if it ships none."""
    path = ROOT / name / CARD
    file = read(path, complete=False).role("labels") if path.is_file() else None
    return path.parent / file.name if file and file.shipped else None


def _obey(rules, thing, where: str):
    for broken, complaint in rules:
        if broken(thing):
            raise ModelError(f"{where}: {complaint}")
    return thing


def read(path, complete: bool = True) -> Card:
    """The card in the TOML file `path`; ModelError says what is wrong with it.

    `complete=False`: a user's own folder, where everything is optional (mean, labels, ends, ...).
    """
    path = Path(path)
    values = toml.read(path, _CARD)
    missing = [key for key in _COMPLETE if key not in values]
    files = []
    for i, entry in enumerate(values.pop("files", [])):
        where = f"{path}: files[{i}]"
        if not {"name", "role"} <= set(entry):
            raise ModelError(f"{where}: needs a name and a role")
        files.append(_obey(_FILE_RULES, File(**toml.checked(_FILE, entry, where)), f"{where} ({entry['name']})"))
    folder = path.resolve().parent
    result = Card(name=folder.name, folder=folder, files=tuple(files), **values)
    if complete:
        if missing:
            raise ModelError(f"{path}: lacks {', '.join(missing)}")
        for i, file in enumerate(files):
            _obey(_OUR_FILE_RULES, file, f"{path}: files[{i}] ({file.name})")
        _obey(_RULES, result, str(path))
    return result


def names() -> list[str]:
    """The names of all models that have a card, in alphabetical order."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{CARD}"))


def nearest(name: str) -> str:
    """Return 'did you mean ...? ' and where all names are listed, for a message about an unknown name."""
    close = toml.near(name[:100].lower(), names(), 3)
    return (f"did you mean {' or '.join(close)}? " if close else "") + \
        f"`deepdream models` lists the {len(names())} known models"


def card(name: str) -> Card:
    """The card of the model called `name`; ModelError names the nearest ones if there is none."""
    if name not in names():
        raise ModelError(f"no model is called {shown(name)}; {nearest(name)}")
    return read(ROOT / name / CARD)
