"""How many threads onnxruntime computes with where nobody says: one for each core.

Sums that are divided among threads are rounded otherwise, so the same dream, bit for bit, needs the same number.
"""
import ctypes
import functools
import sys
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")


@functools.lru_cache(None)
def cores() -> int | None:
    """The machine's cores; two threads of one count once, and cores that this process may not use count, too, as they
    do for onnxruntime. None where that cannot be told."""
    if sys.platform == "linux":
        return _of_linux()
    if sys.platform == "darwin":
        return _of_macos()
    return None


def _of_linux(cpus=CPUS):
    try:
        return len({path.read_text() for path in cpus.glob("cpu[0-9]*/topology/thread_siblings_list")}) or None
    except OSError:
        return None


def _of_macos():
    count = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(count))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"hw.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return None if failed else count.value
