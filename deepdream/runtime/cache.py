"""Graphs that have been built once are kept in the user's cache, under a checksum of all that went into them."""
import functools
import hashlib
import os
import time
from pathlib import Path

import convert
import models
from convert.files import write

LIMIT = 1 << 30   # bytes; what has not been used for longest is dropped beyond it


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
    renamed, so two processes may race for one. Where the cache cannot be written, nothing is kept.
    """
    path = folder() / name
    try:
        data = path.read_bytes()
        if len(data) > 32 and hashlib.sha256(memoryview(data)[:-32]).digest() == data[-32:]:
            os.utime(path)
            return data[:-32]
    except OSError:
        pass
    data = build()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, len(data))
        write(path, data, hashlib.sha256(data).digest())
    except OSError:
        pass
    return data


def _make_room(where, size):
    files = []
    for path in where.iterdir():
        try:
            files.append((path.stat().st_mtime, path.stat().st_size, path))
        except OSError:      # another process was faster
            continue
    total = size + sum(f[1] for f in files)
    for modified, length, path in sorted(files):
        stale = path.suffix == ".part" and time.time() - modified > 3600   # left by a process that was killed
        if total > LIMIT or stale:
            path.unlink(missing_ok=True)
            total -= length
