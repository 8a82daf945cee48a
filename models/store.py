"""Finding a model's files on disk, and downloading those that are missing (see download.py for a single download)."""
from __future__ import annotations

import contextlib
import dataclasses
import logging
import os
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from . import cards
from .errors import ModelError, short, shown
from .locks import locked
from .paths import expanded
from .cards import NEEDED, File, Card

MEMBERS, UNPACKED = 10_000, 1 << 32              # maximum number of files and of bytes in an archive
LABELS = ("labels.txt", "synset_words.txt")      # names of the label file in a folder without a card

log = logging.getLogger(__name__)       # without configuration, Python prints warnings as plain lines on stderr


@dataclass(frozen=True)
class Model:
    """A model whose files are on disk.

    name: its name; for a folder, the name of the folder.
    folder: the folder with the caffemodel.
    prototxt, caffemodel: paths of the net's files.
    labels: path of the file with the names of the classes, or None.
    mean, channel_swap, ends, default_end: as in `cards.Card`.
    card: the model card; None for a folder without one.
    """
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
        """The title in the card; empty without a card."""
        return self.card.title if self.card else ""

    @property
    def class_pictures(self) -> dict:
        """The settings of `deepdream class` in the card; empty if it has none."""
        return self.card.class_pictures if self.card else {}


# --- on disk ----------------------------------------------------------------------------------------------------------

def cache_dir() -> Path:
    """Return the folder for downloaded models: $DEEPDREAM_CACHE, or `deepdream` in the system's folder for caches."""
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
    """Return where the files of a model are, by their names and sizes, without the network and without checksums.

    name: a name from `names`.

    Returns 'shipped' if they are part of this project, 'cached' if they have been downloaded, 'partial' if a download
    has begun, or 'absent'. Raises ModelError for an unknown name or a damaged card.
    """
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


def find(name_or_folder: str | Path) -> Model:
    """Find a model.

    name_or_folder: a name from `names`, whose files are checked and, if necessary, downloaded; or any folder with a
        prototxt and a caffemodel, which are used as they are.

    Raises ModelError if there is no such model or folder, if a file is missing, or if a download fails.
    """
    text = os.fspath(name_or_folder)
    if text in cards.names():
        return _known(cards.card(text))
    folder = expanded(text)
    if os.path.isdir(folder):
        known = folder.resolve()
        if known.parent == cards.ROOT.resolve() and known.name in cards.names():
            return find(known.name)                                     # the folder of a card stands for its model
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
            raise ModelError(f"{path}: {wrong}; this file is part of the project, so download or install it again")
    return _model(card)


def _from_folder(folder: Path) -> Model:
    path = next((path for name in (cards.CARD, cards.OLD_CARD) if os.path.lexists(path := folder / name)),
                folder / cards.CARD)
    card = cards.read(path, complete=False) if os.path.lexists(path) else None
    caffemodel = _the_one(folder, card, "caffemodel", ("*.caffemodel",))
    prototxt = _the_one(folder, card, "prototxt", ("*.prototxt", "*.protxt"))
    known = known_as(caffemodel) if card is None else None
    if known:
        card = dataclasses.replace(known, name=folder.resolve().name, folder=folder, labels=None, files=())
    settings = card or Card(folder.resolve().name, folder)
    labels = folder / settings.labels if settings.labels else None
    if labels and not labels.is_file():
        raise ModelError(f"{path}: labels: there is no file {labels}")
    if settings.labels_from:
        labels = cards.shipped_labels(settings.labels_from)
        if not labels:
            raise ModelError(f"{path}: labels_from: no labels are shipped with a model {shown(settings.labels_from)}")
    labels = labels or next((folder / name for name in LABELS if (folder / name).is_file()), None) \
        or (known and _model(known).labels)
    return Model(settings.name, folder, prototxt, caffemodel, labels, settings.mean, settings.channel_swap,
                 settings.ends, settings.default_end, card)


def known_as(caffemodel: Path) -> Card | None:
    """Return the card of the model that a file of weights belongs to, by its checksum; None if it is not known."""
    size = caffemodel.stat().st_size
    for name in cards.names():
        with contextlib.suppress(ModelError):      # a damaged card describes no file
            card = cards.card(name)
            weights = card.role("caffemodel")
            if weights.checksums and weights.size in (None, size) and not weights.problem(caffemodel):
                return card
    return None


def _the_one(folder: Path, card: Card | None, role: str, patterns: tuple[str, ...]) -> Path:
    """Return the file for a role: that of the card, else a prototxt called deploy*, else the only file of its kind."""
    named = [folder / f.name for f in (card.files if card else ()) if f.role == role and (folder / f.name).is_file()]
    found = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    deploy = [path for path in found if path.name.startswith("deploy")] if role == "prototxt" else []
    candidates = named or deploy or found
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ModelError(f"{folder}: holds no {' or '.join(patterns)}; a model's folder needs both a deploy .prototxt "
                         f"and a .caffemodel")
    raise ModelError(f"{folder}: several candidates ({', '.join(p.name for p in candidates)}): leave only one {role}")


# --- downloading ------------------------------------------------------------------------------------------------------

def fetch(name: str, progress: bool = True) -> Model:
    """Download the missing files of a model into the cache folder.

    name: a name from `names`.
    progress: show a progress bar, if stderr is a terminal.

    Files that are in the folder already are checked and used, no matter who put them there. If only the labels cannot
    be downloaded, a warning is shown. Raises ModelError if another file cannot; the message says why each mirror
    failed, and which file to put where by hand.
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


def obtain(files: Iterable[File], folder: Path, progress: bool = True) -> None:
    """Download single files that do not belong to a model, unless they are in the folder already.

    files: their descriptions.
    folder: where they are written.
    progress: show a progress bar, if stderr is a terminal.

    Raises ModelError if a file cannot be downloaded.
    """
    with _prepared(folder, folder.name):
        for file in files:
            if reasons := _from_mirrors(file, folder, progress):
                raise ModelError(f"could not get {file.name} ({_grouped(reasons)}) from {file.mirrors[0]}")


@contextlib.contextmanager
def _prepared(folder: Path, name: str):
    """Create and lock a folder (see `_alone`). Raises ModelError if it cannot be written."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, name):
            for old in folder.glob("tmp????????"):                      # left by pooch, which an older version used
                if re.fullmatch("tmp[a-z0-9_]{8}", old.name) and old.is_file():
                    old.unlink()
            yield
    except OSError as error:                                            # disk full, no permission, ...
        raise ModelError(f"{folder}: {error.strerror or error}; DEEPDREAM_CACHE can name another folder") from None


def _fill(card: Card, folder: Path, progress: bool) -> dict[File, list]:
    """Get all files that the folder lacks, from archives, then from mirrors.

    Returns {file: [(mirror, reason), ...]} of the files that could not be downloaded.
    """
    failed = {}
    for archive in (file for file in card.files if file.role == "archive"):
        if all(_is_valid(folder, file) for file in card.files if file.archive == archive.name and file.role in NEEDED):
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
            if _is_valid(folder, file):
                del failed[file]
    return failed


def _by_hand(card: Card, failed: dict[File, list], folder: Path) -> str:
    """Return the error message that says which files to download by hand, and where to put them."""
    needed = {file: reasons for file, reasons in failed.items() if file.role in NEEDED}
    downloads = []
    for file in needed:
        source = card.file(file.archive) if file.archive else file        # of a file in an archive: the archive
        known = [f"{kind} {checksum}" for kind, checksum in source.checksums.items()][:1]
        known += [f"{source.size:,} bytes"] if source.size else []
        downloads.append(source.name + (f" ({', '.join(known)})" if known else "") + f" from {source.mirrors[0]}")
    lost = ", ".join(f"{file.name} ({_grouped(reasons)})" for file, reasons in needed.items())
    return (f"{card.name}: could not get {lost}; download by hand {' and '.join(dict.fromkeys(downloads))}, or from "
            f"elsewhere, and put it into {folder}")


def _grouped(reasons: list) -> str:
    """Turn [(mirror, reason), ...] into a text, 'reason: mirror, mirror; reason: mirror'."""
    mirrors = {}
    for mirror, reason in reasons:
        mirrors.setdefault(reason, []).append(mirror)
    return "; ".join(f"{reason}: {', '.join(dict.fromkeys(names))}" for reason, names in mirrors.items())


def _from_mirrors(file: File, folder: Path, progress: bool) -> list:
    """Try the mirrors one after the other. Returns [] if the folder has the file now, else [(mirror, reason), ...]."""
    if _is_valid(folder, file):
        return []
    from .download import from_mirror
    reasons = []
    for url in file.mirrors:
        why = from_mirror(url, file, folder, progress)
        if not why:
            for part in folder.glob(f"{file.name}*.part"):
                part.unlink()
            if file.reason:
                log.warning("%s: %s", file.name, file.reason)
            return []
        reasons.append((short(urlsplit(url).netloc), why))
    return reasons


def _is_valid(folder: Path, file: File) -> bool:
    """Return whether the folder has a file with the right content. A file with another content is renamed."""
    path = folder / file.name
    if not path.is_file():
        return False
    wrong = file.problem(path)
    if wrong:
        os.replace(path, folder / f"{file.name}.bad")                   # not deleted: it may be the user's
        log.warning("%s: %s; moved aside to %s.bad", path, wrong, file.name)
    return not wrong


def _unpack(card: Card, archive: File, folder: Path) -> None:
    """Extract the missing files from a verified archive, and delete the archive.

    Only the contents of regular files are extracted, under the names in the card, so that paths, links and permissions
    in the archive have no effect.
    """
    import tarfile

    from .download import settle
    missing = [file for file in card.files if file.archive == archive.name and not _is_valid(folder, file)]
    with _readable(archive.name), tarfile.open(folder / archive.name) as tar:
        members = {PurePosixPath(m.name).name: m for m in _within(archive.name, tar) if m.isreg()}
        for file in missing:
            member = members.get(PurePosixPath(file.member).name)
            if member is None:
                if file.role not in NEEDED:
                    continue
                raise ModelError(f"{archive.name} holds no {file.member}")
            if member.size > file.limit:
                raise ModelError(f"{file.name} in {archive.name}: {member.size:,} bytes, too many (at most "
                                 f"{file.limit:,})")
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
    """Yield the members of an archive. Raises ModelError if they are too many or too large for any model."""
    for i, member in enumerate(tar):
        if i >= MEMBERS or member.offset_data + member.size > UNPACKED:
            raise ModelError(f"{name}: holds more than {MEMBERS:,} files or {UNPACKED:,} bytes")
        yield member


@contextlib.contextmanager
def _readable(name: str):
    """Turn any exception that a damaged archive raises into a ModelError, except the system's errors about the disk."""
    try:
        yield
    except ModelError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno:
            raise
        raise ModelError(f"{name}: not readable as an archive: {short(error)}") from None


@contextlib.contextmanager
def _alone(folder: Path, name: str):
    """Lock the folder, so that a second process waits and then finds the files. The lock ends with the process."""
    with open(folder / ".lock", "a") as handle:
        if not locked(handle, wait=False):
            log.warning("%s: another process is downloading it; waiting", name)
            while not locked(handle, wait=True):
                pass
        yield
