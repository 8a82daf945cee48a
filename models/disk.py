"""The disk space that models take, and how to free it."""
import contextlib
import re
import stat
from pathlib import Path

from . import cards, store
from .cards import Card
from .errors import ModelError
from .locks import locked


def size(card: Card) -> tuple[int, bool]:
    """Compute the disk space that the files of a model need.

    Returns (bytes, exact). A file of unknown size counts with its minimum size; exact is False if that is the weights.
    """
    files = [file for file in card.files if file.role != "archive"]
    return (sum(file.size or _shipped_size(card, file) or file.min_size for file in files),
            all(file.size or file.shipped or file.role != "caffemodel" for file in files))


def _shipped_size(card: Card, file) -> int:
    path = card.folder / file.name
    return path.stat().st_size if file.shipped and path.is_file() else 0


def downloaded(name: str) -> dict[Path, int]:
    """List the downloaded files of a model in the cache, with partial ones and those that were set aside as wrong.

    Returns {path: bytes}. Raises ModelError for an unknown name.
    """
    card = cards.card(name)
    folder = store.cache_dir() / name
    wanted = "|".join(re.escape(file.name) for file in card.files if not file.shipped)
    pattern = re.compile(rf"({wanted})(\.bad|(\.[0-9a-f]{{8}})?\.part)?") if wanted else None
    found = {}
    if pattern:
        with contextlib.suppress(OSError):                          # there is no such folder
            for path in sorted(folder.iterdir()):
                status = path.lstat()
                if pattern.fullmatch(path.name) and (stat.S_ISREG(status.st_mode) or stat.S_ISLNK(status.st_mode)):
                    found[path] = status.st_size
    return found


def remove(name: str) -> int:
    """Delete the downloaded files of a model from the cache, and nothing else. An empty folder is deleted, too.

    Returns the number of bytes that were freed. Raises ModelError for an unknown name, for a model that is shipped with
    this project, if its folder is a link, if another process is downloading it, and if a file cannot be deleted.
    """
    card = cards.card(name)
    if all(file.shipped for file in card.files):
        raise ModelError(f"{name}: is part of this project; only downloaded models can be removed")
    folder = store.cache_dir() / name
    if folder.is_symlink():
        raise ModelError(f"{folder}: is a link that leads out of the cache; remove its files by hand")
    files = downloaded(name)
    if not files:
        return 0
    try:
        with open(folder / ".lock", "a") as handle:
            if not locked(handle, wait=False):
                raise ModelError(f"{name}: is being downloaded by another process; nothing was removed")
            for path in files:
                path.unlink()
    except OSError as error:
        raise ModelError(f"{error.filename or folder}: cannot be removed: {error.strerror or error}") from None
    with contextlib.suppress(OSError):                              # the folder holds files of the user
        if {path.name for path in folder.iterdir()} == {".lock"}:
            (folder / ".lock").unlink()
            folder.rmdir()
    return sum(files.values())
