"""Finding a model on disk, and fetching it if it is not there.

A file is written as `NAME.part`, checked, and only then moved to NAME: whatever lies under a good name is good. pooch
moves it there; what pooch does not do is done here: resuming, trying several mirrors, and one process at a time.
"""
import contextlib
import hashlib
import logging
import os
import re
import shutil
import sys
import zlib
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import urlsplit

from . import records
from .records import NEEDED, File, ModelError, Record

TIMEOUT = (10, 30)          # seconds: to connect; without a byte
TRIES = 20                  # connections to one mirror that drops them, as long as each brings the file further
LABELS = ("labels.txt", "synset_words.txt")      # where a folder without a record may have them
CHUNK = 1 << 14             # bytes; a dropped connection loses less than one

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
    record: Record | None


# --- on disk ----------------------------------------------------------------------------------------------------------

def cache_dir() -> Path:
    """The user's folder for downloaded models: $DEEPDREAM_CACHE, or what the system has for caches."""
    if chosen := os.environ.get("DEEPDREAM_CACHE"):
        return Path(chosen).expanduser()
    import platformdirs                                                 # what pooch.os_cache asks; pooch takes 0.2 s
    return Path(platformdirs.user_cache_dir("deepdream"))


def _place(rec: Record, file: File) -> Path:
    return (rec.folder if file.shipped else cache_dir() / rec.name) / file.name


def problem(path: Path, file: File) -> str:
    """What speaks against `path` being `file` (size, checksums), in a few words; '' if nothing does."""
    size = path.stat().st_size
    if file.size is not None and size != file.size:
        return f"{size:,} bytes instead of {file.size:,}"
    if size < file.min_size:
        return f"{size:,} bytes, too few (at least {file.min_size:,})"
    for kind, expected in file.checksums.items():
        with open(path, "rb") as stream:
            found = hashlib.file_digest(stream, kind).hexdigest()
        if found != expected:
            return f"wrong content ({kind} {found[:12]}... instead of {expected[:12]}...)"
    with open(path, "rb") as stream:                                    # what servers send when they have lost a file
        if stream.read(64).lower().startswith((b"<!doctype", b"<html")):
            return "a web page"
    return ""


def _model(rec: Record) -> Model:
    place = {role: _place(rec, file) for role in ("prototxt", "caffemodel", "labels") if (file := rec.role(role))}
    labels = place.get("labels")
    return Model(rec.name, place["caffemodel"].parent, place["prototxt"], place["caffemodel"],
                 labels if labels and labels.is_file() else None, rec.mean, rec.channel_swap, rec.ends,
                 rec.default_end, rec)


def status(name: str) -> str:
    """'shipped', 'cached', 'partial' or 'absent', judged by presence and size: no network, no checksum."""
    rec = records.record(name)
    needed = [rec.role(role) for role in NEEDED]

    def present(file):
        path = _place(rec, file)
        return path.is_file() and file.size in (None, path.stat().st_size)
    have = [present(file) for file in needed]
    if all(have):
        return "shipped" if all(file.shipped for file in needed) else "cached"
    begun = not all(f.shipped for f in rec.files) and (
        any((cache_dir() / name).glob("*.part")) or any(present(f) for f in rec.files if f.role == "archive"))
    return "partial" if any(have) or begun else "absent"


def find(name_or_folder) -> Model:
    """The model of that name, downloaded if it is not on disk; or the one in that folder, as it is.

    Raises ModelError, in one line, if there is no such model or folder, or its files are not to be had.
    """
    text = os.fspath(name_or_folder)
    if text in records.names():
        return _known(records.record(text))
    folder = Path(text).expanduser()
    if folder.is_dir():
        known = folder.resolve()
        if known.parent == records.ROOT.resolve() and known.name in records.names():
            return find(known.name)                                     # the record's own folder: the same model
        return _from_folder(folder)
    if folder.exists():
        raise ModelError(f"{text}: a file; give the folder that holds the .prototxt and the .caffemodel")
    raise ModelError(f"{text!r} is neither a model's name nor a folder; {records.nearest(text)}")


def _known(rec: Record) -> Model:
    for role in NEEDED:
        file = rec.role(role)
        path = _place(rec, file)
        wrong = problem(path, file) if path.is_file() else "missing"
        if wrong and not file.shipped:
            return fetch(rec.name)
        if wrong:
            raise ModelError(f"{path}: {wrong}; it is part of this project, so get the project anew")
    return _model(rec)


def _from_folder(folder: Path) -> Model:
    path = folder / records.RECORD
    rec = records.read(path, complete=False) if path.is_file() else None
    settings = rec or Record(folder.resolve().name, folder)
    labels = folder / settings.labels if settings.labels else None
    if labels and not labels.is_file():
        raise ModelError(f"{path}: labels: there is no {labels}")
    labels = labels or next((folder / name for name in LABELS if (folder / name).is_file()), None)
    return Model(settings.name, folder, _the_one(folder, rec, "prototxt", ("*.prototxt", "*.protxt")),
                 _the_one(folder, rec, "caffemodel", ("*.caffemodel",)), labels, settings.mean, settings.channel_swap,
                 settings.ends, settings.default_end, rec)


def _the_one(folder: Path, rec: Record | None, role: str, patterns: tuple[str, ...]) -> Path:
    """The file for `role`: the one that the folder's record names, or a deploy*, or the only one there is."""
    named = [folder / f.name for f in (rec.files if rec else ()) if f.role == role and (folder / f.name).is_file()]
    there = sorted(path for pattern in patterns for path in folder.glob(pattern) if path.is_file())
    deploy = [path for path in there if path.name.startswith("deploy")] if role == "prototxt" else []
    candidates = named or deploy or there
    if len(candidates) == 1:
        return candidates[0]
    if not candidates:
        raise ModelError(f"{folder}: holds no {' or '.join(patterns)}; a model's folder needs both a deploy .prototxt "
                         f"and a .caffemodel")
    raise ModelError(f"{folder}: several candidates ({', '.join(p.name for p in candidates)}): leave only one {role}")


def read_labels(path) -> list[str]:
    """The names of the classes, one a line; `n01440764 tench, ...` and `/a/abbey 0` become `tench, ...` and `abbey`."""
    lines = Path(path).read_text(encoding="utf-8").splitlines()
    lines = [re.sub(r"^n\d{8}\s+", "", line.strip()) for line in lines if line.strip()]
    scenes = [re.fullmatch(r"/\w/(\S+) \d+", line) for line in lines]
    return [m[1].replace("/", ", ").replace("_", " ") if m else line for m, line in zip(scenes, lines)]


# --- fetching ---------------------------------------------------------------------------------------------------------

def fetch(name: str, progress: bool = True) -> Model:
    """Downloads what is missing of the model `name` into the cache, and returns it.

    Files that lie there already, put by hand or by an earlier try, are verified and used. Labels are wanted but not
    needed. Raises ModelError, in one line: which file, why from each mirror, what to fetch by hand, where to put it.
    """
    rec = records.record(name)
    if all(file.shipped for file in rec.files):
        return _known(rec)
    folder = cache_dir() / name
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder, name):
            failed = _fill(rec, folder, progress)
    except OSError as error:                                            # disk full, no permission, ...
        raise ModelError(f"{folder}: {error.strerror or error}; DEEPDREAM_CACHE can name another folder") from None
    if any(file.role in NEEDED for file in failed):
        raise ModelError(_by_hand(rec, failed, folder))
    for file, reasons in failed.items():
        log.warning("%s: going on without %s (%s)", name, file.name, _grouped(reasons))
    return _model(rec)


def _fill(rec: Record, folder: Path, progress: bool) -> dict[File, list]:
    """Gets all files that `folder` lacks, from archives, then from mirrors; returns those that are not to be had, as
    file -> [(where, why), ...]."""
    failed = {}
    for archive in (file for file in rec.files if file.role == "archive"):
        if all(_there(folder, file) for file in rec.files if file.archive == archive.name and file.role in NEEDED):
            continue
        reasons = _from_mirrors(archive, folder, progress)
        if not reasons:
            try:
                _unpack(rec, archive, folder)
            except ModelError as error:
                reasons = [(archive.name, str(error))]
        failed |= {file: reasons for file in rec.files if file.archive == archive.name}
    for file in rec.files:
        if not file.shipped and file.role != "archive":
            failed[file] = failed.get(file, []) + _from_mirrors(file, folder, progress)
            if _there(folder, file):
                del failed[file]
    return failed


def _by_hand(rec: Record, failed: dict[File, list], folder: Path) -> str:
    """The one line for people who have to fetch something themselves."""
    needed = {file: reasons for file, reasons in failed.items() if file.role in NEEDED}
    things = []
    for file in needed:
        thing = rec.file(file.archive) if file.archive else file        # an archive stands for its members
        known = [f"sha1 {thing.sha1}"] if thing.sha1 else [f"sha256 {thing.sha256}"] if thing.sha256 else []
        known += [f"{thing.size:,} bytes"] if thing.size else []
        things.append(thing.name + (f" ({', '.join(known)})" if known else "") + f" from {thing.mirrors[0]}")
    lost = ", ".join(f"{file.name} ({_grouped(reasons)})" for file, reasons in needed.items())
    return (f"{rec.name}: could not get {lost}; fetch by hand {' and '.join(dict.fromkeys(things))}, or elsewhere, "
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
    reasons = []
    for url in file.mirrors:
        why = _from_mirror(url, file, folder, progress)
        if not why:
            for left in folder.glob(f"{file.name}*.part"):
                left.unlink()
            if file.reason:
                log.warning("%s: %s", file.name, file.reason)
            return []
        reasons.append((urlsplit(url).netloc, why))
    return reasons


def _there(folder: Path, file: File) -> bool:
    path = folder / file.name
    if not path.is_file():
        return False
    wrong = problem(path, file)
    if wrong:
        os.replace(path, folder / f"{file.name}.bad")                   # it may be a person's: aside, not away
        log.warning("%s: %s; moved aside to %s.bad", path, wrong, file.name)
    return not wrong


class _Wrong(ValueError):
    """The mirror's content is not the file's: what came is thrown away."""


class _Refused(ValueError):
    """The mirror offers something else: nothing was written, an older partial file stays."""


def _from_mirror(url: str, file: File, folder: Path, progress: bool) -> str:
    """Downloads `file` from one mirror, resuming a partial one; returns '' or why it could not."""
    import pooch
    import requests
    # without a checksum, never join the halves of two mirrors
    part = folder / (f"{file.name}.{zlib.crc32(url.encode()):08x}.part" if file.unverified else f"{file.name}.part")
    known = next((f"{kind}:{value}" for kind, value in file.checksums.items()), None)

    def size():
        return part.stat().st_size if part.exists() else 0

    def download(url, output_file, _):
        if not (file.size and size() == file.size):
            _receive(url, file, part, size(), progress)
        wrong = problem(part, file)
        if wrong:
            part.unlink()
            raise _Wrong(wrong)
        os.replace(part, output_file)

    why = ""
    for _ in range(TRIES):
        before = size()
        try:
            with _quiet(pooch.get_logger()):
                pooch.retrieve(url, known, fname=file.name, path=folder, downloader=download)
            return ""
        except _Refused as error:
            return str(error)
        except _Wrong as error:
            why = str(error)
            if not before:                                              # else blame the older half, and try anew
                return why
        except requests.RequestException as error:
            why = _in_words(error)
            if size() <= before or why == "timed out":                  # who hangs once hangs again: the next mirror
                return why
    return why


def _receive(url: str, file: File, part: Path, start: int, progress: bool) -> None:
    """Appends to `part` what is missing from byte `start` on; from the beginning if the server cannot resume."""
    import requests
    from tqdm import tqdm
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={start}-"} if start else {})
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT) as answer:
        reach = re.match(r"bytes (?:(\d+)-\d+|\*)/(\d+|\*)", answer.headers.get("Content-Range", ""))
        if answer.status_code == 416 and start:
            if reach and reach[2] == str(start):                        # nothing is missing
                return
            if file.size and start < file.size:
                raise _Refused("its file is shorter")
            part.unlink()
            raise _Wrong("its file is shorter than what is here")
        answer.raise_for_status()
        if answer.status_code == 206 and not (reach and reach[1] == str(start)):
            raise _Refused("answers with another range than asked for")
        start = start if answer.status_code == 206 else 0               # 200: it ignores ranges
        length = answer.headers.get("Content-Length", "")
        total = start + int(length) if length.isdigit() else file.size
        if file.size and total != file.size:
            raise _Refused(f"offers {total:,} bytes instead of {file.size:,}")
        have = start
        with open(part, "ab" if start else "wb") as out, \
                tqdm(total=total, initial=start, unit="B", unit_scale=True, desc=file.name, file=sys.stderr,
                     disable=None if progress else True) as bar:        # None: quiet unless stderr is a terminal
            for chunk in answer.iter_content(CHUNK):
                out.write(chunk)
                have += len(chunk)
                bar.update(len(chunk))
                if total and have > total:
                    break                                               # problem() will say so
    if total and have < total:
        raise requests.ConnectionError(f"lost after {have:,} of {total:,} bytes")


def _in_words(error) -> str:
    """A requests exception in a few words."""
    import requests
    if isinstance(error, requests.HTTPError):
        return f"{error.response.status_code} {error.response.reason}"
    if str(error).startswith("lost after"):
        return str(error)
    words = ((requests.exceptions.SSLError, "certificate refused"), (requests.Timeout, "timed out"),
             (requests.exceptions.ChunkedEncodingError, "connection lost"))
    said = next((text for kind, text in words if isinstance(error, kind)), "no connection")
    return "timed out" if "timed out" in str(error) else said


def _unpack(rec: Record, archive: File, folder: Path) -> None:
    """Takes all wanted members out of the (verified) archive, each to its own name in `folder`; drops the archive.

    Only the content of plain files is read, into names that the record chose: no path, link or mode of the archive's
    own has any effect.
    """
    import tarfile
    wanted = [file for file in rec.files if file.archive == archive.name and not _there(folder, file)]
    try:
        with tarfile.open(folder / archive.name) as tar:
            members = {PurePosixPath(m.name).name: m for m in tar if m.isreg()}
            for file in wanted:
                member = members.get(PurePosixPath(file.member).name)
                if member is None:
                    if file.role not in NEEDED:
                        continue
                    raise ModelError(f"{archive.name} holds no {file.member}")
                part = folder / f"{file.name}.part"
                with tar.extractfile(member) as source, open(part, "wb") as out:
                    shutil.copyfileobj(source, out)
                wrong = problem(part, file)
                if wrong:
                    part.unlink()
                    raise ModelError(f"{file.name} in {archive.name}: {wrong}")
                os.replace(part, folder / file.name)
    except (tarfile.TarError, EOFError, zlib.error) as error:
        raise ModelError(f"{archive.name}: no readable archive: {error}") from None
    (folder / archive.name).unlink()


@contextlib.contextmanager
def _alone(folder: Path, name: str):
    """Holds the folder's lock: a second process waits and then finds the work done. The system frees it at any exit."""
    with open(folder / ".lock", "a") as handle:
        if not _locked(handle, wait=False):
            log.warning("%s: another process is fetching it; waiting", name)
            while not _locked(handle, wait=True):
                pass
        yield


def _locked(handle, wait: bool) -> bool:
    try:
        import fcntl
    except ImportError:                                                 # Windows, where waiting ends after 10 s
        import msvcrt
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:                                                     # a file system without locks: do without,
        pass                                                            # the checksums still hold
    return True


@contextlib.contextmanager
def _quiet(logger):
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        yield
    finally:
        logger.setLevel(level)
