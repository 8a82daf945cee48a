"""Safe writing of files: the target is checked before the work, and a file is replaced only by a complete one."""
from __future__ import annotations

import contextlib
import errno
import os
import stat
import uuid
from collections.abc import Iterator
from itertools import count
from pathlib import Path

from .errors import ConvertError

SHARED_FOLDER = stat.S_ISVTX | stat.S_IWOTH      # permissions of a folder like /tmp, where every user may write


def write(path: str | os.PathLike, *data: bytes, sync: bool = True) -> None:
    """Write bytes to a temporary file in the same folder, then rename it to `path`.

    An existing file stays until the new one is complete, which gets its owner and its permissions. If `path` is a
    link, the file that it points to is replaced.

    path: the file to write.
    data: the contents, in one or several pieces.
    sync: wait until the bytes are on the disk, so that not even a power failure leaves an incomplete file. False is
    enough for a file that is cheap to make again.

    Raises OSError wherever opening `path` for writing would, and if it exists and is not a regular file.
    """
    try:
        real, before = _target(path)
        handle, temporary = _open_temporary(real, before)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(data)
                if sync:
                    file.flush()
                    to_disk(file.fileno())
            if before:
                _copy_permissions(before, temporary)
            os.replace(temporary, real)
        except BaseException:
            os.unlink(temporary)
            raise
    except OSError as error:      # name the file that the user knows, not the temporary one
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_new(path: str | os.PathLike, *data: bytes) -> Path:
    """Write bytes like `write`, but never over an existing file.

    If `path` exists, the first unused name of NAME-2, NAME-3 ... is taken, even if several processes write at once.

    Returns the path that was written. Raises OSError.
    """
    path = Path(path)
    complete = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        write(complete, *data)
        return next(name for name in free_names(path) if _claim(complete, name))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        complete.unlink(missing_ok=True)


def free_names(path: str | os.PathLike) -> Iterator[Path]:
    """Yield the path itself, then NAME-2, NAME-3 ..., leaving out the names that exist."""
    path = Path(path)
    names = (path if i == 1 else path.with_stem(f"{path.stem}-{i}") for i in count(1))
    return (name for name in names if not os.path.lexists(name))


def _claim(file, name):
    """Give a complete file an unused name. Returns False if the name exists."""
    try:
        os.link(file, name)      # unlike a rename, this never replaces a file
        return True
    except FileExistsError:
        return False
    except (OSError, NotImplementedError, AttributeError):      # a file system without hard links
        pass
    try:
        os.close(os.open(name, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
    except FileExistsError:
        return False
    try:
        os.replace(file, name)      # replaces the empty file created above
    except BaseException:
        os.unlink(name)
        raise
    return True


def check_target(path: str | os.PathLike, option: str = "-o", error: type[Exception] = ConvertError) -> None:
    """Check that a file can be written.

    A temporary file is created in its folder and deleted, since permissions do not show a read-only file system.

    path: the file to be written.
    option: the command-line option, with which the message begins.
    error: the type of the exception.

    Raises `error` if the file cannot be written.
    """
    try:
        for folder in (os.path.dirname(path) or ".", os.path.dirname(_real(path))):
            if not os.path.isdir(folder):
                raise error(f"{option} {path}: there is no folder {folder}")
        real, before = _target(path)
        handle, temporary = _open_temporary(real, before)
        os.close(handle)
        os.unlink(temporary)
    except OSError as reason:
        raise error(f"{option} {path}: cannot be written: {reason.strerror}") from None


def refuse_inputs(target: str | os.PathLike, *inputs: str | os.PathLike | None, option: str = "-o",
                  error: type[Exception] = ConvertError) -> None:
    """Check that the file to be written is not one of the files that are read, under any name.

    target: the file to be written.
    inputs: the files that are read; None is ignored.
    option: the command-line option, with which the message begins.
    error: the type of the exception.

    Raises `error` if the target is one of the inputs.
    """
    for path in inputs:
        if path is not None and os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise error(f"{option} {target}: would overwrite {path}")


def to_disk(handle: int) -> None:
    """Wait until an open file is on the disk."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):      # not supported by the file system
            raise


def is_strangers_link(link: os.stat_result, folder: os.stat_result, user: int) -> bool:
    """Tell whether a symbolic link may be another user's trap.

    The rule is that of Linux's fs.protected_symlinks, which is not active on every system.

    link, folder: the status of the link and of its folder.
    user: the id of the user who follows the link.
    """
    return folder.st_mode & SHARED_FOLDER == SHARED_FOLDER and link.st_uid not in (user, folder.st_uid)


def is_kept_from(user: int, file: os.stat_result, folder: os.stat_result) -> bool:
    """Tell whether the sticky bit of a folder forbids a user to replace another user's file in it.

    user: the id of the user.
    file, folder: the status of the file and of its folder.
    """
    return bool(folder.st_mode & stat.S_ISVTX) and user not in (0, file.st_uid, folder.st_uid)


def _target(path):
    """Return (the file to write, the status of the file that it replaces or None). Raises OSError if not allowed."""
    real = _real(path)
    before = os.lstat(real) if os.path.lexists(real) else None
    if before and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), real)
    if before and not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", real)
    with contextlib.suppress(FileNotFoundError):      # let the system decide whether it may be written
        os.close(os.open(path, os.O_WRONLY | (os.O_CREAT if before else 0), 0o666))
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    link = os.fspath(path)
    while os.path.islink(link):
        folder = os.path.dirname(link) or "."
        if is_strangers_link(os.lstat(link), os.stat(folder), user):
            raise PermissionError(errno.EACCES, "another user's link in a folder where everyone may write", link)
        link = os.path.join(folder, os.readlink(link))
    if before and is_kept_from(user, before, os.stat(os.path.dirname(real))):
        raise PermissionError(errno.EPERM, "another user's file in a folder with the sticky bit", real)
    return real, before


def _real(path):
    try:
        return os.path.realpath(path)
    except ValueError:      # a null character
        raise OSError(errno.EINVAL, "not the name of a file", path) from None


def _open_temporary(path, before):
    """Create a temporary file in the folder of `path`. Returns its handle and its name."""
    name = os.path.join(os.path.dirname(path), f".{os.urandom(6).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(name, flags, 0o600 if before else 0o666), name      # the system applies the umask


def _copy_permissions(before, path):
    """Give a file the permissions and, where that is allowed, the owner and group of another one."""
    if hasattr(os, "chown"):
        for owner in ((-1, before.st_gid), (before.st_uid, -1)):
            with contextlib.suppress(OSError):
                os.chown(path, *owner)
    os.chmod(path, before.st_mode & 0o777)
