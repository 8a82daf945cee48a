"""Locks of files between processes. The system frees them when a process ends, also one that is killed."""


def locked(handle, wait: bool) -> bool:
    """Lock an open file for this process; `wait`: until the one that holds it is done. Returns whether it is locked."""
    try:
        import fcntl
    except ImportError:                                                 # Windows, where waiting ends after 10 s
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
    except OSError:                                                     # a file system without locks: do without
        pass
    return True
