"""The memory that is free for a dream."""
import ctypes
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from ..errors import DreamError
from .device import Device

VARIABLE = "DEEPDREAM_MEMORY_GB"


def free_memory(device: Device | None = None) -> float | None:
    """Return the bytes that a dream can use; None if they are unknown.

    If $DEEPDREAM_MEMORY_GB is set, it is that. Otherwise it is the free memory of the GPU or, for a dream on the CPU,
    the free memory of the machine together with the memory that this process uses already.

    device: the device that the dream runs on; None for the CPU.

    Raises DreamError if $DEEPDREAM_MEMORY_GB is not a number above 0.
    """
    text = os.environ.get(VARIABLE)
    if text:
        try:
            value = float(text)
            if value > 0:
                return value * 1e9
        except ValueError:
            pass
        raise DreamError(f"{VARIABLE} is '{text}'; allowed is a number of gigabytes greater than 0")
    if device and device.is_cuda:
        return device.free_memory
    limits = [n for n in (_machine_memory(), *cgroup_memory()) if n is not None]
    return min(limits) + process_memory() if limits else None


def _machine_memory():
    """Return the free bytes of the machine; all of its bytes under macOS; None if they are unknown."""
    try:
        for line in open("/proc/meminfo"):
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return _windows_memory()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")      # macOS does not report the free memory
    except (AttributeError, ValueError, OSError):
        return None


def _windows_memory():
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                    *((name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free",
                                                              "virtual_total", "virtual_free", "extended"))]
    status = Status(length=ctypes.sizeof(Status))
    return status.free if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def cgroup_memory(root: Path = Path("/sys/fs/cgroup"), groups: Path = Path("/proc/self/cgroup")) -> Iterator[int]:
    """Yield the free bytes of each control group of this process that has a limit, and of the groups around it.

    root: the folder of the control groups, of version 2 or 1.
    groups: the kernel's file with the control groups of this process.
    """
    try:
        lines = Path(groups).read_text().splitlines()
    except OSError:
        return
    files = {"": ("memory.max", "memory.current", "inactive_file"),
             "memory": ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")}
    for line in lines:
        _, kinds, path = line.split(":", 2)
        kind = next((k for k in kinds.split(",") if k in files), None)
        if kind is None:
            continue
        limit, used, cache = files[kind]
        group = root / kind / path.lstrip("/")
        for folder in (group, *group.parents):
            try:
                maximum = (folder / limit).read_text().strip()
                stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                if maximum.isdigit():
                    yield max(0, int(maximum) - int((folder / used).read_text()) + int(stat.get(cache, 0)))
            except OSError:
                pass
            if folder == root:
                break


def process_memory() -> int:
    """Return the bytes that this process uses already, which a dream can reuse; 0 if they are unknown."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return 0
