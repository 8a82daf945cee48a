"""File locks between processes. The system releases them when a process ends, even if it is killed."""
from typing import IO


def locked(handle: IO, wait: bool) -> bool:
    """Lock an open file for this process.

    handle: the open file.
    wait: wait until another process releases it. Windows gives up after 10 s.

    Returns whether the file is locked now.
    """
    try:
        import fcntl
    except ImportError:                                                 # Windows
        import msvcrt
        try:
            msvcrt.locking(handle.fileno(), msvcrt.LK_LOCK if wait else msvcrt.LK_NBLCK, 1)
        except OSError:
            return False
        return True
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:                                                     # a file system without locks: go on without
        pass
    return True
