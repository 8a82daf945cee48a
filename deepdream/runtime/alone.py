"""A lock on a folder, so that no two processes write the same files there."""
from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from ..errors import DreamError
from ..models.locks import locked

LOCK = ".lock"


@contextlib.contextmanager
def alone(folder: str | Path, option: str, busy: str) -> Iterator[None]:
    """Lock a folder inside of the `with`.

    folder: an existing folder.
    option: the option that specifies it, for messages.
    busy: what the message says if another process has locked it.

    Raises DreamError if another process has, or if the folder cannot be written.
    """
    path = Path(folder) / LOCK
    try:
        handle = open(path, "a")
    except OSError as error:
        raise DreamError(f"{option} {folder}: cannot be written: {error.strerror}") from None
    with handle:
        if not locked(handle, wait=False) or not _is_file_of(handle, path):
            raise DreamError(f"{option} {folder}: {busy}")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):      # Windows does not delete an open file
                path.unlink()


def _is_file_of(handle: BinaryIO, path: Path) -> bool:
    """Return whether an open file still has its name. The process that held the lock before deletes the file."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False
