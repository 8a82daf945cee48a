"""What is installed and what the machine has: versions, devices, memory, the cache, the models on disk."""
from __future__ import annotations

import contextlib
import ctypes
import os
import platform
import sys
from importlib import metadata, util
from pathlib import Path

from .. import __version__, models
from ..errors import DreamError
from .cores import cores
from .device import Device, cuda_problem, driver, free_gpu_memory
from .free_memory import free_memory

PACKAGES = ("numpy", "onnx", "scipy", "Pillow", "protobuf")
RUNTIMES = ("onnxruntime", "onnxruntime-gpu", "onnxruntime-directml", "onnxruntime-openvino", "onnxruntime-silicon",
            "onnxruntime-qnn")      # packages that contain the module onnxruntime
OPTIONAL = {   # module -> (package, the extra of this package that installs it, purpose)
    "av": ("av", "video", "movies as .mp4"),
    "distributed": ("distributed", "cluster", "gallery --dask"),
    "IPython": ("ipython", None, "pictures in notebooks"),
}
INSTALL_CUDA = 'pip install "onnxruntime-gpu[cuda,cudnn]"'


def inventory() -> dict:
    """Collect what `deepdream info` prints, as plain values. Nothing is downloaded, and no net is loaded.

    What cannot be found out is None. What is set wrongly (an environment variable) is reported in `problems`.
    """
    problems = []
    ort = _tried(problems, onnxruntime)
    cuda = cuda_problem() if ort else "onnxruntime cannot be imported"
    device = Device("cuda" if cuda is None else "cpu")
    return {"version": __version__, "python": platform.python_version(), "platform": platform.platform(),
            "packages": {name: version_of(name) for name in PACKAGES}, "onnxruntime": ort,
            "device": device.name, "cuda_problem": cuda, "advice": advice(cuda, installed_runtimes()),
            "gpus": gpus(), "cpu": {"name": cpu_name(), "cores": cores(), "logical": os.cpu_count(),
                                    "threads": cores() or os.cpu_count()},
            "free_memory": _tried(problems, free_memory, device), "cache": _tried(problems, cache),
            "models": _tried(problems, models_on_disk),
            "optional": {package: {"found": found(module), "extra": extra, "purpose": purpose}
                         for module, (package, extra, purpose) in OPTIONAL.items()},
            "problems": problems}


def _tried(problems, function, *arguments):
    try:
        return function(*arguments)
    except (DreamError, models.ModelError, OSError, ImportError) as error:
        problems.append(" ".join(str(error).split()))
        return None


# ---- packages

def version_of(package: str) -> str | None:
    """Return the version of an installed package; None if it is not installed."""
    try:
        return metadata.version(package)
    except metadata.PackageNotFoundError:
        return None


def found(module: str) -> bool:
    """Return whether a module can be imported. It is not imported."""
    try:
        return util.find_spec(module) is not None
    except (ImportError, ValueError):
        return False


def installed_runtimes() -> dict[str, str]:
    """Return {package: version} of the packages on this machine that contain the module onnxruntime."""
    return {name: version for name in RUNTIMES if (version := version_of(name))}


def onnxruntime() -> dict:
    """Return the version of onnxruntime, the packages that it came from, and its execution providers."""
    import onnxruntime as ort
    return {"version": ort.__version__, "packages": installed_runtimes(), "providers": ort.get_available_providers()}


def advice(problem: str | None, runtimes: dict[str, str]) -> str | None:
    """Say in a sentence how to use an NVIDIA GPU; None if one works.

    problem: why CUDA does not work, from `device.cuda_problem`; None if it works.
    runtimes: from `installed_runtimes`.
    """
    if problem is None:
        return None
    if problem.startswith("no CUDA driver"):
        return f"with an NVIDIA GPU: install NVIDIA's driver, then {INSTALL_CUDA}"
    if problem.startswith("no CUDA device"):
        return "the driver is installed but finds no GPU: `nvidia-smi` says more; is CUDA_VISIBLE_DEVICES set?"
    others = " ".join(name for name in runtimes if name != "onnxruntime-gpu")
    if not others:
        return INSTALL_CUDA
    # both packages write the same files, so that removing one damages the other
    install = INSTALL_CUDA.replace("install", "install --force-reinstall") if len(runtimes) > 1 else INSTALL_CUDA
    return f"pip uninstall -y {others} && {install}"


# ---- the machine

def cpu_name() -> str | None:
    """Return the name of the processor; None if it is unknown."""
    with contextlib.suppress(OSError, UnicodeDecodeError):
        for line in Path("/proc/cpuinfo").read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return (_macos_cpu() if sys.platform == "darwin" else None) or platform.processor() or platform.machine() or None


def _macos_cpu():
    name, size = ctypes.create_string_buffer(256), ctypes.c_size_t(256)
    try:
        failed = ctypes.CDLL(None).sysctlbyname(b"machdep.cpu.brand_string", name, ctypes.byref(size), None, 0)
    except (OSError, AttributeError):
        return None
    return None if failed else name.value.decode(errors="replace")


def gpus() -> list[dict]:
    """List the GPUs that the CUDA driver finds: name, memory and free memory, in bytes; None if unknown."""
    count = ctypes.c_int()
    try:
        cuda = ctypes.CDLL(driver())
        if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)):
            return []
        return [_gpu(cuda, i) for i in range(count.value)]
    except (OSError, AttributeError):
        return []


def _gpu(cuda, index):
    place, name, total = ctypes.c_int(), ctypes.create_string_buffer(256), ctypes.c_size_t()
    known = not cuda.cuDeviceGet(ctypes.byref(place), index)
    named = known and not cuda.cuDeviceGetName(name, len(name), place)
    sized = known and not cuda.cuDeviceTotalMem_v2(ctypes.byref(total), place)
    return {"name": name.value.decode(errors="replace") if named else None, "memory": total.value if sized else None,
            "free": free_gpu_memory(index) if known else None}


# ---- files

def cache() -> dict:
    """Return the folder of the cache (graphs and downloaded models), the number of its files and their bytes."""
    folder, count, size = models.cache_dir(), 0, 0
    for parent, _, names in os.walk(folder):
        for name in names:
            with contextlib.suppress(OSError):      # another process may have deleted the file
                size += os.lstat(os.path.join(parent, name)).st_size
                count += 1
    return {"folder": str(folder), "files": count, "bytes": size}


def models_on_disk() -> dict[str, str]:
    """Return {name: status} of all models that have a name; see `models.status`."""
    def status(name):
        try:
            return models.status(name)
        except models.ModelError:
            return "damaged"
    return {name: status(name) for name in models.names()}
