"""Finding a model on disk, and fetching it if it is not there, from one mirror after the other (see download.py)."""
import contextlib
import logging
import os
import re
import shutil
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from . import cards
from .errors import ModelError, short, shown
from .locks import locked
from .paths import expanded
from .cards import NEEDED, File, Card

MEMBERS, UNPACKED = 10_000, 1 << 32              # files and bytes of an archive
LABELS = ("labels.txt", "synset_words.txt")      # where a folder without a card may have them

log = logging.getLogger(__name__)       # unconfigured, Python prints its warnings as plain lines on stderr


@dataclass(frozen=True)
class Model:
    """A model whose files lie on disk. `mean`: B,G,R, or one number of a grey net; `ends`: low/middle/high -> names of
    layers."""
    name: str
    folder: Path
    prototxt: Path
    caffemodel: Path
    labels: Path | None
    mean: tuple[float, ...]
    channel_swap: tuple[int, int, int]
    ends: dict[str, list[str]]
    default_end: str | None
    card: Card | None

    @property
    def title(self) -> str:
        """What the card calls the model; empty without a card."""
        return self.card.title if self.card else ""

    @property
    def class_pictures(self) -> dict:
        """The settings of `deepdream class` that suit the model; empty if the card has none."""
        return self.card.class_pictures if self.card else {}


# --- on disk ----------------------------------------------------------------------------------------------------------

def cache_dir() -> Path:
    """The user's folder for downloaded models: $DEEPDREAM_CACHE, or what the system has for caches."""
    if chosen := os.environ.get("DEEPDREAM_CACHE"):
        return expanded(chosen, "DEEPDREAM_CACHE: ")
    import platformdirs
    return Path(platformdirs.user_cache_dir("deepdream"))


def _place(card: Card, file: File) -> Path:
    return (card.folder if file.shipped else cache_dir() / card.name) / file.name


def _model(card: Card) -> Model:
    place = {role: _place(card, file) for role in ("prototxt", "caffemodel", "labels") if (file := card.role(role))}
    labels = cards.shipped_labels(card.labels_from) if card.labels_from else place.get("labels")
    return Model(card.name, place["caffemodel"].parent, place["prototxt"], place["caffemodel"],
                 labels if labels and labels.is_file() else None, card.mean, card.channel_swap, card.ends,
                 card.default_end, card)


def status(name: str) -> str:
    """'shipped', 'cached', 'partial' or 'absent', judged by presence and size: no network, no checksum."""
    card = cards.card(name)
    needed = [card.role(role) for role in NEEDED]

    def present(file):
        path = _place(card, file)
        return path.is_file() and file.size in (None, path.stat().st_size)
    have = [present(file) for file in needed]
    if all(have):
        return "shipped" if all(file.shipped for file in needed) else "cached"
    begun = not all(f.shipped for f in card.files) and (
        any((cache_dir() / name).glob("*.part")) or any(present(f) for f in card.files if f.role == "archive"))
    return "partial" if any(have) or begun else "absent"


def find(name_or_folder) -> Model:
    """The model of that name, downloaded if it is not on disk; or the one in that folder, as it is.

    Raises ModelError, in one line, if there is no such model or folder, or its files are not to be had.
    """
    text = os.fspath(name_or_folder)
    if text in cards.names():
        return _known(cards.card(text))
    folder = expanded(text)
    if os.path.isdir(folder):
        known = folder.resolve()
        if known.parent == cards.ROOT.resolve() and known.name in cards.names():
            return find(known.name)                                     # the card's own folder: the same model
        return _from_folder(folder)
    if os.path.lexists(folder):
        raise ModelError(f"{text}: a file; give the folder that holds the .prototxt and the .caffemodel")
    raise ModelError(f"{shown(text)} is neither a model's name nor a folder; {cards.nearest(text)}")


def _known(card: Card) -> Model:
    for role in NEEDED:
        file = card.role(role)
        path = _place(card, file)
        wrong = file.problem(path) if path.is_file() else "missing"
        if wrong and not file.shipped:
            return fetch(card.name)
        if wrong:
            raise ModelError(f"{path}: {wrong}; it is part of this project, so get the project anew")
    return _model(card)


def _from_folder(folder: Path) -> Model:
    path = next((path for name in (cards.CARD, cards.OLD_CARD) if os.path.lexists(path := folder / name)),
                folder / cards.CARD)
    card = cards.read(path, complete=False) if os.path.lexists(path) else None
    settings = card or Card(folder.resolve().name, folder)
    labels = folder / settings.labels if settings.labels else None
    if labels and not labels.is_file():
        raise ModelError(f"{path}: labels: there is no file {labels}")
    if settings.labels_from:
        labels = cards.shipped_labels(settings.labels_from)
        if not labels:
            raise ModelError(f"{path}: labels_from: no labels are shipped with a model {shown(settings.labels_from)}")
    labels = labels or next((folder / name for name in LABELS if (folder / name).is_file()), None)
    return Model(settings.name, folder, _the_one(folder, card, "prototxt", ("*.prototxt", "*.protxt")),
                 _the_one(folder, card, "caffemodel", ("*.caffemodel",)), labels, settings.mean, settings.channel_swap,
                 settings.ends, settings.default_end, card)


def _the_one(folder: Path, card: Card | None, role: str, patterns: tuple[str, ...]) -> Path:
    """The file for `role`: the one that the folder's card names, or a deploy*, or the only one there is."""
    named = [folder / f.name for f in (card.files if card else ()) if f.role == role and (folder / f.name).is_file()]
    there = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    deploy = [path for path in there if path.name.startswith("deploy")] if role == "prototxt" else []
    candidates = named or deploy or there
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ModelError(f"{folder}: holds no {' or '.join(patterns)}; a model's folder needs both a deploy .prototxt "
                         f"and a .caffemodel")
    raise ModelError(f"{folder}: several candidates ({', '.join(p.name for p in candidates)}): leave only one {role}")


# --- fetching ---------------------------------------------------------------------------------------------------------

def fetch(name: str, progress: bool = True) -> Model:
    """Downloads what is missing of the model `name` into the cache, and returns it.

    Files that lie there already, put by hand or by an earlier try, are verified and used. Labels are wanted but not
    needed. Raises ModelError, in one line: which file, why from each mirror, what to fetch by hand, where to put it.
    """
    card = cards.card(name)
    if all(file.shipped for file in card.files):
        return _known(card)
    folder = cache_dir() / name
    with _prepared(folder, name):
        failed = _fill(card, folder, progress)
    if any(file.role in NEEDED for file in failed):
        raise ModelError(_by_hand(card, failed, folder))
    for file, reasons in failed.items():
        log.warning("%s: going on without %s (%s)", name, file.name, _grouped(reasons))
    return _model(card)


def obtain(files, folder: Path, progress: bool = True) -> None:
    """Downloads what is missing of single files into `folder`. Raises ModelError, in one line: which file, and why."""
    with _prepared(folder, folder.name):
        for file in files:
            if reasons := _from_mirrors(file, folder, progress):
                raise ModelError(f"could not get {file.name} ({_grouped(reasons)}) from {file.mirrors[0]}")


@contextlib.contextmanager
def _prepared(folder: Path, name: str):
    """The folder, made and held (see `_alone`); what the system has against writing there becomes one line."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, name):
            for left in folder.glob("tmp????????"):                     # of pooch, which an older version asked
                if re.fullmatch("tmp[a-z0-9_]{8}", left.name) and left.is_file():
                    left.unlink()
            yield
    except OSError as error:                                            # disk full, no permission, ...
        raise ModelError(f"{folder}: {error.strerror or error}; DEEPDREAM_CACHE can name another folder") from None


def _fill(card: Card, folder: Path, progress: bool) -> dict[File, list]:
    """Gets all files that `folder` lacks, from archives, then from mirrors; returns those that are not to be had, as
    file -> [(where, why), ...]."""
    failed = {}
    for archive in (file for file in card.files if file.role == "archive"):
        if all(_there(folder, file) for file in card.files if file.archive == archive.name and file.role in NEEDED):
            continue
        reasons = _from_mirrors(archive, folder, progress)
        if not reasons:
            try:
                _unpack(card, archive, folder)
            except ModelError as error:
                reasons = [(archive.name, str(error))]
        failed |= {file: reasons for file in card.files if file.archive == archive.name}
    for file in card.files:
        if not file.shipped and file.role != "archive":
            failed[file] = failed.get(file, []) + _from_mirrors(file, folder, progress)
            if _there(folder, file):
                del failed[file]
    return failed


def _by_hand(card: Card, failed: dict[File, list], folder: Path) -> str:
    """The one line for people who have to fetch something themselves."""
    needed = {file: reasons for file, reasons in failed.items() if file.role in NEEDED}
    things = []
    for file in needed:
        thing = card.file(file.archive) if file.archive else file        # an archive stands for its members
        known = [f"sha1 {thing.sha1}"] if thing.sha1 else [f"sha256 {thing.sha256}"] if thing.sha256 else []
        known += [f"{thing.size:,} bytes"] if thing.size else []
        things.append(thing.name + (f" ({', '.join(known)})" if known else "") + f" from {thing.mirrors[0]}")
    lost = ", ".join(f"{file.name} ({_grouped(reasons)})" for file, reasons in needed.items())
    return (f"{card.name}: could not get {lost}; fetch by hand {' and '.join(dict.fromkeys(things))}, or elsewhere, "
            f"and put that into {folder}")


def _grouped(reasons: list) -> str:
    """[(where, why), ...] -> 'why: where, where; why: where'."""
    where = {}
    for place, why in reasons:
        where.setdefault(why, []).append(place)
    return "; ".join(f"{why}: {', '.join(dict.fromkeys(places))}" for why, places in where.items())


def _from_mirrors(file: File, folder: Path, progress: bool) -> list:
    """Tries the mirrors in turn; [] once `file` lies right under its name, else (where, why) of each."""
    if _there(folder, file):
        return []
    from .download import from_mirror
    reasons = []
    for url in file.mirrors:
        why = from_mirror(url, file, folder, progress)
        if not why:
            for left in folder.glob(f"{file.name}*.part"):
                left.unlink()
            if file.reason:
                log.warning("%s: %s", file.name, file.reason)
            return []
        reasons.append((short(urlsplit(url).netloc), why))
    return reasons


def _there(folder: Path, file: File) -> bool:
    path = folder / file.name
    if not path.is_file():
        return False
    wrong = file.problem(path)
    if wrong:
        os.replace(path, folder / f"{file.name}.bad")                   # it may be a person's: aside, not away
        log.warning("%s: %s; moved aside to %s.bad", path, wrong, file.name)
    return not wrong


def _unpack(card: Card, archive: File, folder: Path) -> None:
    """Takes all wanted members out of the (verified) archive, each to its own name in `folder`; drops the archive.

    Only the content of plain files is read, into names that the card chose: no path, link or mode of the archive's
    own has any effect.
    """
    import tarfile

    from .download import settle
    wanted = [file for file in card.files if file.archive == archive.name and not _there(folder, file)]
    with _readable(archive.name), tarfile.open(folder / archive.name) as tar:
        members = {PurePosixPath(m.name).name: m for m in _within(archive.name, tar) if m.isreg()}
        for file in wanted:
            member = members.get(PurePosixPath(file.member).name)
            if member is None:
                if file.role not in NEEDED:
                    continue
                raise ModelError(f"{archive.name} holds no {file.member}")
            if member.size > file.most:
                raise ModelError(f"{file.name} in {archive.name}: {member.size:,} bytes, too many (at most "
                                 f"{file.most:,})")
            part = folder / f"{file.name}.part"
            with tar.extractfile(member) as source, open(part, "wb") as out:
                shutil.copyfileobj(source, out)
            wrong = file.problem(part)
            if wrong:
                part.unlink()
                raise ModelError(f"{file.name} in {archive.name}: {wrong}")
            settle(part, folder / file.name)
    (folder / archive.name).unlink()


def _within(name: str, tar):
    """The members of an archive, as long as they are not more than any model has."""
    for i, member in enumerate(tar):
        if i >= MEMBERS or member.offset_data + member.size > UNPACKED:
            raise ModelError(f"{name}: holds more than {MEMBERS:,} files or {UNPACKED:,} bytes")
        yield member


@contextlib.contextmanager
def _readable(name: str):
    """What a damaged archive raises (each library its own) becomes one line; what the system says of the disk stays."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ModelError(f"{name}: no readable archive: {short(error)}") from None


@contextlib.contextmanager
def _alone(folder: Path, name: str):
    """Holds the folder's lock: a second process waits and then finds the work done. The system frees it at any exit."""
    with open(folder / ".lock", "a") as handle:
        if not locked(handle, wait=False):
            log.warning("%s: another process is fetching it; waiting", name)
            while not locked(handle, wait=True):
                pass
        yield
