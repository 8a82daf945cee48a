"""Graphs that have been built once are kept in the user's cache, under a checksum of all that went into them."""
import contextlib
import functools
import hashlib
import os
import stat
import time
from pathlib import Path

from .. import convert, models
from ..convert.files import write

LIMIT = 1 << 30   # bytes; what has not been used for longest is dropped beyond it
LARGEST = 1 << 31   # bytes of one file: more no protobuf may have


def key(*parts) -> str:
    """A name for something built from these parts (bytes or what `str` shows)."""
    digest = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:40]


def graph_key(*parts) -> str:
    """A name for something that this version of the project builds from these parts."""
    return key(source_hash(), *parts)


@functools.cache
def source_hash() -> str:
    """A checksum of the source files that write graphs: whoever changes one of them gets new graphs, not kept ones."""
    package = Path(__file__).resolve().parent.parent
    folders = [Path(convert.__file__).resolve().parent, *(package / name for name in ("engine", "goals", "net"))]
    return key(*(file.read_bytes() for folder in folders for file in sorted(folder.rglob("*.py"))))


def folder() -> Path:
    """Where graphs are kept."""
    return Path(models.cache_dir()) / "graphs"


def cached(name: str, build) -> bytes:
    """The bytes kept under `name`, else `build()`, kept from now on.

    Each file ends in a checksum of what stands before it: a damaged one is built again. Files are written beside and
    renamed, so two processes may race for one. Where the cache cannot be read or written, whatever lies there, nothing
    is kept.
    """
    path = folder() / name
    data = _kept(path)
    if data is not None:
        return data
    data = build()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, len(data))
        write(path, data, hashlib.sha256(data).digest(), sync=False)
    return data


def _kept(path):
    """What a file keeps; None if it is not there, is damaged or is no file at all."""
    try:
        there = path.stat()
        if not stat.S_ISREG(there.st_mode) or there.st_size > LARGEST:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) <= 32 or hashlib.sha256(memoryview(data)[:-32]).digest() != data[-32:]:
        return None
    with contextlib.suppress(OSError):      # a cache that can only be read
        os.utime(path)
    return data[:-32]


def _make_room(where, size):
    files = []
    for path in where.iterdir():
        with contextlib.suppress(OSError):      # another process was faster
            there = path.lstat()
            if stat.S_ISREG(there.st_mode):
                files.append((there.st_mtime, there.st_size, path))
    total = size + sum(f[1] for f in files)
    for modified, length, path in sorted(files):
        stale = path.suffix == ".part" and time.time() - modified > 3600   # left by a process that was killed
        if total > LIMIT or stale:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                total -= length
