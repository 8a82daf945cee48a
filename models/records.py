"""Records: what is known of a model, in one readable `record.toml` a folder.

Adding a model is adding a folder with a record: nothing else in the project names the models.
"""
import re
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

ROOT = Path(__file__).resolve().parent
RECORD = "record.toml"
LEVELS = ("low", "middle", "high")
ROLES = ("prototxt", "caffemodel", "labels", "mean", "archive")
NEEDED = ("prototxt", "caffemodel")             # without these two there is no dream; labels and means may be missing


class ModelError(Exception):
    """One line for people: the file, the model or the option, what is wrong with it, what is allowed."""


@dataclass(frozen=True)
class File:
    """One file of a model, as the record describes it.

    A file with neither mirrors nor an archive is *shipped*: it lies beside its record. `size` and `min_size` are in
    bytes (`min_size`: a lower bound that follows from the shapes, for files whose size nobody published); `sha1` and
    `sha256` in lower-case hex. `archive` names the file it is a member of, `member` its name in there.
    `unverified`: no checksum is known; `single_source`: only one place publishes it; both need a `reason`.
    """
    name: str
    role: str
    size: int | None = None
    min_size: int = 1
    sha1: str | None = None
    sha256: str | None = None
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
    def checksums(self) -> dict[str, str]:
        """{'sha256': hex, 'sha1': hex}, as far as known."""
        return {kind: value for kind in ("sha256", "sha1") if (value := getattr(self, kind))}


@dataclass(frozen=True)
class Record:
    """One model. `mean`: B,G,R in 0..255, or one number of a grey net; `channel_swap`: RGB -> the net's order, of no
    effect on a grey net; `ends`: level -> names of layers."""
    name: str
    folder: Path
    title: str = ""
    source: str = ""
    licence: str = ""
    citation: str = ""
    made_from: str = ""
    notes: str = ""
    labels: str | None = None
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


# --- checks: each takes a TOML value and returns it as the dataclass wants it, or raises ValueError("must be ...") ---

def _when(condition, must, value):
    if not condition:
        raise ValueError(f"must be {must}, not {value!r}")
    return value


def _text(value):
    return " ".join(_when(isinstance(value, str) and value.strip(), "a text", value).split())


def _name(value):
    return _when(isinstance(value, str) and re.fullmatch(r"\w[\w.+-]*", value), "a plain file name", value)


def _url(value):
    return _when(isinstance(value, str) and re.fullmatch(r"https?://[^/\s]+\.\S+", value), "an http(s) address", value)


def _urls(value):
    _when(isinstance(value, list) and value and len(set(value)) == len(value), "a list of different addresses", value)
    return tuple(_url(v) for v in value)


def _bytes(value):
    return _when(type(value) is int and value > 0, "a number of bytes", value)


def _flag(value):
    return _when(value is True, "true, or left out", value)


def _hex(digits):
    def check(value):
        return _when(isinstance(value, str) and re.fullmatch(f"[0-9a-f]{{{digits}}}", value),
                     f"{digits} lower-case hex digits", value)
    return check


def _role(value):
    return _when(value in ROLES, "one of " + ", ".join(ROLES), value)


def _mean(value):
    _when(isinstance(value, list) and len(value) in (1, 3)
          and all(type(v) in (int, float) and 0 <= v <= 255 for v in value),
          "three numbers in 0..255 (blue, green, red), or one for a grey net", value)
    return tuple(float(v) for v in value)


def _swap(value):
    _when(isinstance(value, list) and sorted(map(str, value)) == ["0", "1", "2"], "an order of 0, 1, 2", value)
    return tuple(value)


def _settings(value):
    numbers = (int, float)
    _when(isinstance(value, dict) and all(type(v) in numbers or isinstance(v, list) and v and
                                          all(type(n) in numbers for n in v) for v in value.values()),
          "a table of options and their numbers", value)
    return value


def _ends(value):
    _when(isinstance(value, dict) and set(value) <= set(LEVELS), "a table of " + ", ".join(LEVELS), value)
    for names in value.values():
        _when(isinstance(names, list) and all(isinstance(n, str) and n for n in names), "lists of layer names", names)
    return {level: list(value.get(level, [])) for level in LEVELS}


_FILE = {"name": _name, "role": _role, "size": _bytes, "min_size": _bytes, "sha1": _hex(40), "sha256": _hex(64),
         "mirrors": _urls, "archive": _name, "member": _text, "unverified": _flag, "single_source": _flag,
         "reason": _text}
_RECORD = {"title": _text, "source": _url, "licence": _text, "citation": _text, "made_from": _text, "notes": _text,
           "labels": _name, "mean": _mean, "channel_swap": _swap, "default_end": _text, "class_pictures": _settings, "ends": _ends,
           "files": list}
_COMPLETE = ("title", "source", "licence", "citation", "mean", "channel_swap", "default_end", "ends", "files")

# What one file may not be: (is it so?, what to say)
_FILE_RULES = (
    (lambda f: f.unverified and f.checksums, "is called unverified although it has a checksum"),
    (lambda f: f.mirrors and not f.checksums and not f.unverified,
     "has mirrors but no checksum: give sha1 or sha256, or unverified = true with a reason"),
    (lambda f: (f.unverified or f.single_source) and not f.reason, "needs a reason for what is not verified"),
    (lambda f: f.reason and not (f.unverified or f.single_source), "has a reason, but for what?"),
    (lambda f: f.single_source and not f.checksums, "has no checksum that could have a single source"),
    (lambda f: (f.archive is None) != (f.member is None), "needs both archive and member, or neither"),
    (lambda f: f.role == "archive" and not f.mirrors, "is an archive without mirrors"),
)
# What a whole record may not be
_RULES = (
    (lambda r: len({f.name for f in r.files}) < len(r.files), "two files have one name"),
    (lambda r: any(sum(f.role == role for f in r.files) != 1 for role in NEEDED), "needs one prototxt, one caffemodel"),
    (lambda r: any(f.archive and getattr(r.file(f.archive), "role", "") != "archive" for f in r.files),
     "a member's archive is not among the files"),
    (lambda r: r.labels != getattr(r.role("labels"), "name", None), "labels must name the file whose role is labels"),
    (lambda r: not all(r.ends.values()), "each of ends.low, ends.middle, ends.high must name at least one layer"),
    (lambda r: r.default_end not in sum(r.ends.values(), []), "default_end must be one of ends"),
)


def _near(word: str, words, n: int) -> list[str]:
    import difflib                              # slow to import, and only errors need it
    return difflib.get_close_matches(word, list(words), n=n, cutoff=0.5)


def _checked(table: dict, given: dict, where: str) -> dict:
    for key in given:
        if key not in table:
            near = _near(key, table, 1)
            raise ModelError(f"{where}: unknown key {key!r}" + (f", did you mean {near[0]!r}?" if near else "")
                             + f" (allowed: {', '.join(table)})")
    out = {}
    for key, value in given.items():
        try:
            out[key] = table[key](value)
        except (ValueError, TypeError) as error:
            raise ModelError(f"{where}: {key} {error}") from None
    return out


def _obey(rules, thing, where: str):
    for broken, complaint in rules:
        if broken(thing):
            raise ModelError(f"{where}: {complaint}")
    return thing


def read(path, complete: bool = True) -> Record:
    """The record in the TOML file `path`; ModelError says what is wrong with it.

    `complete=False`: a user's own folder, where everything is optional (mean, labels, ends, ...).
    """
    path = Path(path)
    try:
        given = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ModelError(f"{path}: no readable TOML: {error}") from None
    values = _checked(_RECORD, given, str(path))
    files = []
    for i, entry in enumerate(values.pop("files", [])):
        where = f"{path}: files[{i}]"
        if not isinstance(entry, dict) or not {"name", "role"} <= set(entry):
            raise ModelError(f"{where}: needs a name and a role")
        files.append(_obey(_FILE_RULES, File(**_checked(_FILE, entry, where)), f"{where} ({entry['name']})"))
    folder = path.resolve().parent
    result = Record(name=folder.name, folder=folder, files=tuple(files), **values)
    if complete:
        missing = [key for key in _COMPLETE if key not in given]
        if missing:
            raise ModelError(f"{path}: lacks {', '.join(missing)}")
        _obey(_RULES, result, str(path))
    return result


def names() -> list[str]:
    """The names of all models that have a record, in alphabetical order."""
    return sorted(path.parent.name for path in ROOT.glob(f"*/{RECORD}"))


def nearest(name: str) -> str:
    """'did you mean ...? ' and the full list, for a message about a name that nobody knows."""
    near = _near(name.lower(), names(), 3)
    return (f"did you mean {' or '.join(near)}? " if near else "") + f"known models: {', '.join(names())}"


def record(name: str) -> Record:
    """The record of the model called `name`; ModelError names the nearest ones if there is none."""
    if name not in names():
        raise ModelError(f"no model is called {name!r}; {nearest(name)}")
    return read(ROOT / name / RECORD)
