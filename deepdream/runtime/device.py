"""The device that graphs run on: the CPU, or a GPU with CUDA."""
from __future__ import annotations

import contextlib
import ctypes
import functools
import math
import re
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ..convert.errors import shown
from ..errors import DreamError
from ..keywords import suggesting
from .notices import say_once

if TYPE_CHECKING:
    import numpy as np
    import onnxruntime

CHOICES = "auto, cpu, cuda or cuda:N"
WASTE = 1 << 16       # the maximum number of bytes of a chunk of memory that a tensor may leave unused
MUCH_WORK = 2.5e6     # pixels times steps: from this on, creating a session for one size only saves time


def driver() -> str:
    """Return the name of the CUDA driver's library."""
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@functools.lru_cache(None)
def cuda_problem(index: int = 0) -> str | None:
    """Return in a few words why a GPU cannot be used; None if a graph ran on it successfully.

    index: the number of the GPU.
    """
    try:
        cuda, count = ctypes.CDLL(driver()), ctypes.c_int()
    except OSError:
        return "no CUDA driver on this machine"
    if cuda.cuInit(0) or cuda.cuDeviceGetCount(ctypes.byref(count)) or count.value == 0:
        return "no CUDA device on this machine"
    if index >= count.value:
        return f"this machine has {count.value} CUDA device(s), numbered from 0"
    import onnxruntime as ort
    if "CUDAExecutionProvider" not in ort.get_available_providers():
        return "this onnxruntime is built without CUDA; install onnxruntime-gpu"
    ort.preload_dlls()
    try:
        _try_out(ort, index)
    except Exception as error:   # onnxruntime raises exceptions of its own types
        return str(error).strip().splitlines()[0][:200]
    return None


def _try_out(ort, index):
    """Run one Relu on the device."""
    import numpy as np
    from onnx import TensorProto, helper
    value = [helper.make_tensor_value_info(n, TensorProto.FLOAT, [1]) for n in "xy"]
    graph = helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "try", value[:1], value[1:])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), quiet, providers=cuda_providers(index))
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("CUDA libraries missing; pip install 'onnxruntime-gpu[cuda,cudnn]'")
    session.run(None, {"x": np.ones(1, np.float32)})


def cuda_providers(index: int, tf32: bool = False, **extra) -> list[tuple[str, dict]]:
    """Return onnxruntime's list of providers for a GPU.

    index: the number of the GPU.
    tf32: whether convolutions may round to TF32, which has 10 bits of mantissa.
    extra: further options of the CUDA provider.
    """
    # cuDNN searches again for each new size, which is for each octave, so the quick search is used
    return [("CUDAExecutionProvider", {"device_id": index, "use_tf32": int(tf32),
                                       "cudnn_conv_algo_search": "HEURISTIC",
                                       "arena_extend_strategy": "kSameAsRequested", **extra})]


@contextlib.contextmanager
def readable(h: int, w: int) -> Iterator[None]:
    """Turn the errors of a session's run into a DreamError with one line.

    Only the session may run inside of the `with`, because onnxruntime raises exceptions of many types, Python's too.

    h, w: size of the picture, for the message.
    """
    try:
        yield
    except Exception as error:
        if _no_memory(error):
            raise DreamError(f"not enough memory for {w}x{h} pixels") from None
        raise DreamError(f"the net cannot run at {w}x{h} pixels: {_line(error)}") from error


def _no_memory(error):
    return isinstance(error, MemoryError) \
        or re.search(r"[Ff]ailed to allocate|out of memory|bad_alloc|CUDA_ERROR_OUT_OF_MEMORY", str(error))


def _line(error):
    text = re.sub(r"^.*?(Non-zero status code returned while running |: FAIL : )", "", str(error), flags=re.S)
    return shown(" ".join(text.split()), 200)


class Device:
    """A device that graphs run on.

    choice: 'auto' (CUDA if it works, otherwise the CPU), 'cpu', 'cuda' (the first GPU) or 'cuda:N'.
    fast: whether convolutions on CUDA may round to TF32; or 'half', for gradients in half precision. Not allowed with
        'cpu'.
    cuda: further options of onnxruntime's CUDA provider, {name: value}, such as prefer_nhwc. With enable_cuda_graph, a
        step is captured once for each size and then launched as a whole. This is meant for many dreams of one size,
        because the session of each octave keeps its own memory.

    Raises DreamError for a device that does not exist or does not work.

    Attributes:
    name: 'cpu' or 'cuda:N'.
    is_cuda: whether it is a GPU.
    index: the number of the GPU.
    captures: whether steps are captured as CUDA graphs.
    forms: the forms of derivatives that are fast on it (see `convert.gradient_graph`).
    half: whether gradients are computed in half precision (see `convert.half_precision`).
    much_work: pixels times steps from which on a session is created for one size only.
    """

    @suggesting
    def __init__(self, choice: str = "auto", fast: bool | str = False, cuda: dict | None = None):
        if fast not in (True, False, "half"):
            raise DreamError(f"fast: {shown(fast)} is not allowed; allowed are True, False and 'half'")
        kind, _, number = str(choice).partition(":")
        numbered = kind == "cuda" and re.fullmatch(r"[0-9]{1,4}", number)
        if kind not in ("auto", "cpu", "cuda") or number and not numbered:
            raise DreamError(f"--device: '{shown(choice)}' is not a device; allowed are {CHOICES}")
        index = int(number or 0)
        problem = None if kind == "cpu" else cuda_problem(index)
        if kind == "cuda" and problem:
            raise DreamError(f"--device {choice}: {problem}")
        self.is_cuda = kind != "cpu" and problem is None
        if fast and kind == "cpu":
            raise DreamError("--fast: only CUDA has TF32, and the device is the CPU; leave it out")
        self.index, self.fast = index if self.is_cuda else 0, bool(fast)
        self.name = f"cuda:{index}" if self.is_cuda else "cpu"
        self.forms = "cpu" if not self.is_cuda else "cuda-fast" if fast else "cuda"
        self.half = self.is_cuda and fast == "half"
        self._cuda = dict(cuda or {})
        self.captures = self.is_cuda and str(self._cuda.get("enable_cuda_graph", 0)) in ("1", "True")
        # With fixed sizes, onnxruntime adds in place on the CPU. A captured CUDA graph always has one size.
        self.much_work = 0 if self.captures else math.inf if self.is_cuda else MUCH_WORK
        self._note = None
        if kind == "auto":
            self._note = f"running on {self.name}" + f" ({problem})" * bool(problem) \
                + ", where --fast changes nothing" * (fast and not self.is_cuda)

    def __repr__(self):
        fast = ", fast='half'" if self.half else ", fast=True" if self.fast else ""
        return f"Device({self.name!r}{fast}{f', cuda={self._cuda}' if self._cuda else ''})"

    def announce(self) -> None:
        """Print on stderr, once per process, which device 'auto' chose."""
        if self._note:
            say_once(self._note)

    def fixes_size(self, h: int, w: int, steps: int) -> bool:
        """Return whether a session is worth creating for h x w pixels only, to run that many steps."""
        return h * w * steps >= self.much_work

    @property
    def free_memory(self) -> int | None:
        """The bytes of a GPU that were free when this was first read; None if they are unknown.

        Most of what is taken later is onnxruntime's, which reuses it for the next dream.
        """
        return _free_at_first(self.index)

    def session(self, graph: bytes, threads: int | None = None, size: tuple[int, int] | None = None,
                name: object = "the net", spin: bool = True) -> onnxruntime.InferenceSession:
        """Create an onnxruntime session.

        graph: a serialized model.
        threads: the number of CPU threads; None leaves it to onnxruntime, which uses one per core.
        size: (h, w) of the only pictures that it will see; None if their sizes differ.
        name: what error messages call the net.
        spin: whether its threads wait busily for work; False for one of many sessions that take turns.

        Raises DreamError if onnxruntime cannot run the model.
        """
        import onnxruntime as ort
        # a CUDA graph can be captured for one size only
        extra = {k: v for k, v in self._cuda.items() if size or k != "enable_cuda_graph"}
        cuda = cuda_providers(self.index, self.fast, **extra) if self.is_cuda else []
        options = self.options(threads, size)
        if not self.is_cuda and _tight_arena():
            options.add_session_config_entry("session.use_env_allocators", "1")
            options.add_session_config_entry("session.use_device_allocator_for_initializers", "1")
        if not spin:
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(graph, options, providers=[*cuda, "CPUExecutionProvider"])
        except Exception as error:      # onnxruntime raises exceptions of its own types
            if _no_memory(error):
                raise DreamError(f"{name}: not enough memory for this net") from None
            raise DreamError(f"{name}: onnxruntime cannot run this net: {_line(error)}") from error

    @staticmethod
    def options(threads: int | None = None, size: tuple[int, int] | None = None) -> onnxruntime.SessionOptions:
        """Return the options of a session. The arguments are those of `session`."""
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.log_severity_level = 4          # no log: errors are raised
        options.enable_mem_pattern = False      # it would keep the memory of each octave's size
        options.enable_mem_reuse = False        # it would reserve a tensor's memory for others of the same size
        if threads:
            options.intra_op_num_threads = threads
        for name, n in zip("NHW", (1, *size) if size else ()):
            options.add_free_dimension_override_by_name(name, n)
        return options

    def place(self, array: np.ndarray) -> onnxruntime.OrtValue:
        """Copy an array to this device."""
        import onnxruntime as ort
        return ort.OrtValue.ortvalue_from_numpy(array, "cuda" if self.is_cuda else "cpu", self.index)


@functools.cache
def _tight_arena():
    """Give all sessions of this process an arena that cuts its chunks to size. Returns whether that was possible.

    By default, onnxruntime hands out chunks of up to twice the size of a tensor. Weights are kept outside of the arena,
    so that `memory.enable_memory_arena_shrinkage` can free it.
    """
    import onnxruntime as ort
    place = ort.OrtMemoryInfo("Cpu", ort.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, ort.OrtMemType.DEFAULT)
    try:
        ort.create_and_register_allocator(place, ort.OrtArenaCfg({"max_dead_bytes_per_chunk": WASTE}))
    except Exception:      # the process has an arena already, or this onnxruntime has no such option
        return False
    return True


@functools.cache
def _free_at_first(index):
    return free_gpu_memory(index)


def free_gpu_memory(index: int) -> int | None:
    """Return the free bytes of a GPU now; None if they are unknown. index: the number of the GPU."""
    context, free, total = ctypes.c_void_p(), ctypes.c_size_t(), ctypes.c_size_t()
    try:
        cuda, place = ctypes.CDLL(driver()), ctypes.c_int()
        if cuda.cuInit(0) or cuda.cuDeviceGet(ctypes.byref(place), index) \
                or cuda.cuDevicePrimaryCtxRetain(ctypes.byref(context), place):
            return None
        try:
            if cuda.cuCtxPushCurrent_v2(context):
                return None
            failed = cuda.cuMemGetInfo_v2(ctypes.byref(free), ctypes.byref(total))
            cuda.cuCtxPopCurrent_v2(ctypes.byref(ctypes.c_void_p()))
            return None if failed else free.value
        finally:
            cuda.cuDevicePrimaryCtxRelease_v2(place)
    except (OSError, AttributeError):
        return None
