"""Caffe's global choice between the CPU and a GPU."""
import os
import sys

from ..runtime.device import Device, cuda_problem

_choice = {"mode": None, "index": 0}
_devices = {}


def set_mode_cpu():
    """Run all nets on the CPU from now on."""
    _choice["mode"] = "cpu"


def set_mode_gpu():
    """Run all nets on the GPU from now on. If none works, a line on stderr says so, and the CPU is used."""
    _choice["mode"] = "gpu"


def set_device(index):
    """Choose a GPU by its number; `set_mode_gpu` turns it on."""
    _choice["index"] = int(index)


def device():
    """Return the Device that was chosen; a GPU if one works, as long as nothing was."""
    key = _choice["mode"], _choice["index"]
    if key not in _devices:
        _devices[key] = _find(*key)
    return _devices[key]


def _find(mode, index):
    if mode == "cpu":
        return Device("cpu")
    problem = cuda_problem(index)
    if problem:
        asked = f"set_mode_gpu, GPU {index}: " if mode == "gpu" else ""
        print(f"running on cpu ({asked}{problem})", file=sys.stderr)
    return Device("cpu" if problem else f"cuda:{index}")


def threads():
    """Return how many CPU threads Caffe's BLAS would use, if the environment says so, otherwise None."""
    number = os.environ.get("OPENBLAS_NUM_THREADS") or os.environ.get("OMP_NUM_THREADS") or ""
    return int(number) if number.isdigit() and int(number) else None
