"""How much memory a dream may take."""
import ctypes
import os
import sys
from pathlib import Path

from ..errors import DreamError
from .device import Device

VARIABLE = "DEEPDREAM_MEMORY_GB"


def free_memory(device: Device) -> float | None:
    """Bytes that a dream may take: on the CPU what is free and what this process has already, on a GPU what is free.
    $DEEPDREAM_MEMORY_GB says it instead, if it is set. None where it cannot be told."""
    text = os.environ.get(VARIABLE)
    if text:
        try:
            value = float(text)
            if value > 0:
                return value * 1e9
        except ValueError:
            pass
        raise DreamError(f"{VARIABLE} is '{text}'; allowed is a number of gigabytes greater than 0")
    if device.is_cuda:
        return device.free_memory
    found = [n for n in (_of_machine(), *_of_cgroups()) if n is not None]
    return min(found) + _own() if found else None


def _of_machine():
    try:
        for line in open("/proc/meminfo"):
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    if sys.platform == "win32":
        return _of_windows()
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")      # macOS: what is free is told nowhere
    except (AttributeError, ValueError, OSError):
        return None


def _of_windows():
    class Status(ctypes.Structure):
        _fields_ = [("length", ctypes.c_ulong), ("load", ctypes.c_ulong),
                    *((name, ctypes.c_ulonglong) for name in ("total", "free", "page_total", "page_free",
                                                              "virtual_total", "virtual_free", "extended"))]
    status = Status(length=ctypes.sizeof(Status))
    return status.free if ctypes.windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status)) else None


def _of_cgroups(root=Path("/sys/fs/cgroup"), told="/proc/self/cgroup"):
    """What the limits of this process's control groups, version 2 or 1, and of those around them leave."""
    try:
        lines = Path(told).read_text().splitlines()
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
                most = (folder / limit).read_text().strip()
                stat = dict(row.split() for row in (folder / "memory.stat").read_text().splitlines())
                if most.isdigit():
                    yield max(0, int(most) - int((folder / used).read_text()) + int(stat.get(cache, 0)))
            except OSError:
                pass
            if folder == root:
                break


def _own():
    """Bytes that this process has already: a dream takes them over from the one before."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, AttributeError, ValueError):
        return 0
