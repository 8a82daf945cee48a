"""Paths that users specify, and files of limited size; errors become a ModelError of one line."""
from __future__ import annotations

import os
import stat
from pathlib import Path

from .errors import ModelError


def expanded(path: str | Path, option: str = "") -> Path:
    """Return a path with ~ and ~user replaced.

    path: the path.
    option: where the user specified it; begins an error message.

    Raises ModelError if there is no such user.
    """
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ModelError(f"{option}{path}: there is no such user's folder; a file of this name is ./{path}") from None


def read_bytes(path: str | Path, limit: int) -> bytes:
    """Read a file.

    path: the file.
    limit: maximum size, in bytes.

    Raises ModelError for a file that is too large or cannot be read, and for a pipe or device, which might block.
    """
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelError(f"{path}: is not a regular file")
        with open(path, "rb") as file:
            data = file.read(limit + 1)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > limit:
        raise ModelError(f"{path}: has {os.path.getsize(path):,} bytes; at most {limit:,} are allowed")
    return data
