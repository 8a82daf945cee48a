"""Files that are written: checked before the work, never over what was read, whole at every moment."""
import contextlib
import errno
import os
import stat
import uuid
from itertools import count
from pathlib import Path

from .errors import ConvertError

EVERYONES = stat.S_ISVTX | stat.S_IWOTH      # a folder where everyone may write, each his own files: /tmp


def write(path, *data, sync=True):
    """Write bytes (all of `data`, one behind the other) beside `path`, then rename: never half a file, and the old one
    stays until the new one is whole. The new one has its owner and its permissions.

    sync: wait until the disk has the bytes, so that not even a power cut leaves half a file; False for what is cheap
    to make again. Where `path` is a link, the file that it leads to is written. Raises OSError wherever opening `path`
    for writing would, and for what is there and is no regular file (a folder, a device).
    """
    try:
        real, before = _target(path)
        handle, beside = _beside(real, before)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(data)
                if sync:
                    file.flush()
                    to_disk(file.fileno())
            if before:
                _like(before, beside)
            os.replace(beside, real)
        except BaseException:
            os.unlink(beside)
            raise
    except OSError as error:      # the name of the file beside it would mean nothing to anyone
        raise OSError(error.errno, error.strerror, str(path)) from None


def write_new(path, *data):
    """Write bytes as `write` does, but never over what is there: to `path` or, where something has that name, to the
    first free one of NAME-2, NAME-3 ... Returns the path that was written, also where several processes write at once.
    """
    path = Path(path)
    whole = path.with_name(f".{uuid.uuid4().hex}.part")
    try:
        write(whole, *data)
        return next(name for name in free_names(path) if _named(whole, name))
    except OSError as error:
        raise OSError(error.errno, error.strerror, str(path)) from None
    finally:
        whole.unlink(missing_ok=True)


def free_names(path):
    """The path itself, then with -2, -3 ... behind its name, as far as nothing is there now."""
    path = Path(path)
    names = (path if i == 1 else path.with_stem(f"{path.stem}-{i}") for i in count(1))
    return (name for name in names if not os.path.lexists(name))


def _named(file, name):
    """Give a file that is whole another name, unless something has it. Returns whether it was free."""
    try:
        os.link(file, name)      # what only renames replaces, but on Windows
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
        os.replace(file, name)      # over the empty file that was made here
    except BaseException:
        os.unlink(name)
        raise
    return True


def check_target(path, option="-o", error=ConvertError):
    """Raise `error`, in one line that begins with the option, unless a file can be written to `path`.

    A temporary file is made beside it and deleted: permissions do not tell of a place that can only be read.
    """
    try:
        for folder in (os.path.dirname(path) or ".", os.path.dirname(_real(path))):
            if not os.path.isdir(folder):
                raise error(f"{option} {path}: there is no folder {folder}")
        real, before = _target(path)
        handle, beside = _beside(real, before)
        os.close(handle)
        os.unlink(beside)
    except OSError as reason:
        raise error(f"{option} {path}: cannot be written: {reason.strerror}") from None


def refuse_inputs(target, *inputs, option="-o", error=ConvertError):
    """Raise `error` if `target` is one of the files that are read (None: no file), whatever its name there."""
    for path in inputs:
        if path is not None and os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise error(f"{option} {target}: would overwrite {path}")


def to_disk(handle):
    """Wait until the disk has all of an open file."""
    try:
        os.fsync(handle)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):      # a file system that knows no such thing
            raise


def is_strangers_link(link, folder, user):
    """Whether a link may be another user's trap. link, folder: os.stat_result of it and of the folder that it lies in;
    user: the id of the one who follows it. The rule is Linux's fs.protected_symlinks, which not every system has on."""
    return folder.st_mode & EVERYONES == EVERYONES and link.st_uid not in (user, folder.st_uid)


def is_kept_from(user, file, folder):
    """Whether a sticky folder keeps `user` from replacing another user's file there (both: os.stat_result)."""
    return bool(folder.st_mode & stat.S_ISVTX) and user not in (0, file.st_uid, folder.st_uid)


def _target(path):
    """(the file that is to be written, os.stat_result of what it replaces or None). Raises OSError if it may not."""
    real = _real(path)
    before = os.lstat(real) if os.path.lexists(real) else None
    if before and stat.S_ISDIR(before.st_mode):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), real)
    if before and not stat.S_ISREG(before.st_mode):
        raise OSError(errno.EINVAL, "not a regular file", real)
    with contextlib.suppress(FileNotFoundError):      # the system says itself whether it may be written
        os.close(os.open(path, os.O_WRONLY | (os.O_CREAT if before else 0), 0o666))
    user = os.geteuid() if hasattr(os, "geteuid") else 0
    link = os.fspath(path)
    while os.path.islink(link):
        folder = os.path.dirname(link) or "."
        if is_strangers_link(os.lstat(link), os.stat(folder), user):
            raise PermissionError(errno.EACCES, "another user's link in a folder where everyone may write", link)
        link = os.path.join(folder, os.readlink(link))
    if before and is_kept_from(user, before, os.stat(os.path.dirname(real))):
        raise PermissionError(errno.EPERM, "another user's file in a folder that keeps each one's files", real)
    return real, before


def _real(path):
    try:
        return os.path.realpath(path)
    except ValueError:      # a null character
        raise OSError(errno.EINVAL, "not the name of a file", path) from None


def _beside(path, before):
    """An open file beside `path` and its name; the system takes the umask off a new file's permissions."""
    name = os.path.join(os.path.dirname(path), f".{os.urandom(6).hex()}.part")
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0)
    return os.open(name, flags, 0o600 if before else 0o666), name


def _like(before, path):
    """Give `path` the owner and group, where that is allowed, and the permissions of another file."""
    if hasattr(os, "chown"):
        for owner in ((-1, before.st_gid), (before.st_uid, -1)):
            with contextlib.suppress(OSError):
                os.chown(path, *owner)
    os.chmod(path, before.st_mode & 0o777)
