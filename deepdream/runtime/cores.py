"""The number of CPU cores, which is the number of threads that onnxruntime uses by default.

Sums that are split among threads are rounded in another order. To repeat a dream bit for bit, the number of threads
must be the same.
"""
import ctypes
import functools
import sys
from pathlib import Path

CPUS = Path("/sys/devices/system/cpu")


@functools.lru_cache(None)
def cores() -> int | None:
    """Return the number of physical cores of the machine; None if it is unknown.

    As in onnxruntime, cores that this process may not use are counted too.
    """
    if sys.platform == "linux":
        return linux_cores()
    if sys.platform == "darwin":
        return _macos_cores()
    return None


def linux_cores(cpus: Path = CPUS) -> int | None:
    """Return the number of physical cores under Linux; None if it is unknown. cpus: the kernel's folder of CPUs."""
    try:
        return len({path.read_text() for path in cpus.glob("cpu[0-9]*/topology/thread_siblings_list")}) or None
    except OSError:
        return None


def _macos_cores():
    count = ctypes.c_int(0)
    size = ctypes.c_size_t(ctypes.sizeof(count))
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"hw.physicalcpu", ctypes.byref(count), ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return None if failed else count.value
