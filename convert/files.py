"""Files that are written: checked before the work, never over what was read, whole at every moment."""
import errno
import os
import stat
import tempfile
import uuid
from itertools import count
from pathlib import Path

from .errors import ConvertError


def write(path, *data):
    """Write bytes (all of `data`, one behind the other) beside `path`, then rename: never half a file, and the old one
    stays until the new one is whole.

    Where `path` is a link, the file that it leads to is written. Raises OSError, also for what is there and is no
    regular file (a folder, a device).
    """
    real = os.path.realpath(path)
    try:
        _regular(real)
        handle, beside = _beside(real)
        try:
            with os.fdopen(handle, "wb") as file:
                file.writelines(data)
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(beside, 0o666 & ~umask)     # mkstemp gives 0600
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
    real = os.path.realpath(path)
    for folder in (os.path.dirname(path) or ".", os.path.dirname(real)):
        if not os.path.isdir(folder):
            raise error(f"{option} {path}: there is no folder {folder}")
    try:
        _regular(real)
        handle, beside = _beside(real)
        os.close(handle)
        os.unlink(beside)
    except OSError as reason:
        raise error(f"{option} {path}: cannot be written: {reason.strerror}") from None


def refuse_inputs(target, *inputs, option="-o", error=ConvertError):
    """Raise `error` if `target` is one of the files that are read (None: no file), whatever its name there."""
    for path in inputs:
        if path is not None and os.path.exists(target) and os.path.exists(path) and os.path.samefile(target, path):
            raise error(f"{option} {target}: would overwrite {path}")


def _regular(path):
    if os.path.isdir(path):
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), path)
    if os.path.lexists(path) and not stat.S_ISREG(os.lstat(path).st_mode):
        raise OSError(errno.EINVAL, "not a regular file", path)


def _beside(path):
    return tempfile.mkstemp(dir=os.path.dirname(path), prefix=".", suffix=".part")
