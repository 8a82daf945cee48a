"""Paths as people write them, and files as they are read: what is wrong with one is told in one line."""
import os
import stat
from pathlib import Path

from .errors import ModelError


def expanded(path, option="") -> Path:
    """The path with ~ and ~user replaced. Raises ModelError, which begins with the option, if there is no such user."""
    try:
        return Path(path).expanduser()
    except RuntimeError:
        raise ModelError(f"{option}{path}: there is no such user's folder; a file of this name is ./{path}") from None


def read_bytes(path, most: int) -> bytes:
    """What a file holds. Raises ModelError for what is no regular file (it could wait for ever), for one of more than
    `most` bytes and for one that cannot be read."""
    try:
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise ModelError(f"{path}: is no regular file")
        with open(path, "rb") as file:
            data = file.read(most + 1)
    except (OSError, ValueError) as error:
        raise ModelError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if len(data) > most:
        raise ModelError(f"{path}: has {os.path.getsize(path):,} bytes; at most {most:,} are read")
    return data
