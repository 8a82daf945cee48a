"""The cache on disk: graphs are built once and then read from files, named by a checksum of what they depend on."""
import contextlib
import functools
import hashlib
import os
import stat
import time
from collections.abc import Callable
from pathlib import Path

from .. import convert, models
from ..convert.files import write

LIMIT = 1 << 30     # the maximum size of the cache in bytes: beyond it, the files that were used least recently go
LARGEST = 1 << 31   # the maximum size of a file in bytes, which is that of a protobuf


def key(*parts: object) -> str:
    """Return the name of something that depends on these parts, bytes or objects with a `str`: their checksum."""
    digest = hashlib.sha256()
    for part in parts:
        part = part if isinstance(part, bytes) else str(part).encode()
        digest.update(len(part).to_bytes(8, "little"))
        digest.update(part)
    return digest.hexdigest()[:40]


def graph_key(*parts: object) -> str:
    """Return the name of something that depends on these parts and on this version of the source code."""
    return key(source_hash(), *parts)


@functools.cache
def source_hash() -> str:
    """Return the checksum of the source files that build graphs, so that a change to one of them gives new graphs."""
    package = Path(__file__).resolve().parent.parent
    folders = [Path(convert.__file__).resolve().parent, *(package / name for name in ("engine", "goals", "net"))]
    return key(*(file.read_bytes() for folder in folders for file in sorted(folder.rglob("*.py"))))


def folder() -> Path:
    """Return the folder of the cached files."""
    return Path(models.cache_dir()) / "graphs"


def cached(name: str, build: Callable[[], bytes]) -> bytes:
    """Return data from the cache, or build it and write it into the cache.

    Each file ends with a checksum of its data, so that a damaged file is noticed and built again. Several processes can
    write the same file at once, because it is written under another name and then renamed. If the cache cannot be read
    or written, the data is built each time.

    name: the name of the file.
    build: returns the data.
    """
    path = folder() / name
    data = _read(path)
    if data is not None:
        return data
    data = build()
    with contextlib.suppress(OSError):
        path.parent.mkdir(parents=True, exist_ok=True)
        _make_room(path.parent, len(data))
        write(path, data, hashlib.sha256(data).digest(), sync=False)
    return data


def _read(path):
    """Return the data of a cached file; None if the file does not exist, is damaged or is not a regular file."""
    try:
        info = path.stat()
        if not stat.S_ISREG(info.st_mode) or info.st_size > LARGEST:
            return None
        data = path.read_bytes()
    except OSError:
        return None
    if len(data) <= 32 or hashlib.sha256(memoryview(data)[:-32]).digest() != data[-32:]:
        return None
    with contextlib.suppress(OSError):      # the cache may be read-only
        os.utime(path)
    return data[:-32]


def _make_room(where, size):
    """Delete the files that were used least recently, until a file of `size` bytes fits."""
    files = []
    for path in where.iterdir():
        with contextlib.suppress(OSError):      # another process may have deleted the file
            info = path.lstat()
            if stat.S_ISREG(info.st_mode):
                files.append((info.st_mtime, info.st_size, path))
    total = size + sum(f[1] for f in files)
    for modified, length, path in sorted(files):
        stale = path.suffix == ".part" and time.time() - modified > 3600   # a process was killed while it wrote
        if total > LIMIT or stale:
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)
                total -= length
