"""Where a graph runs: the CPU, or a GPU by CUDA."""
import contextlib
import ctypes
import functools
import math
import re
import sys

from ..convert.errors import shown

from ..errors import DreamError
from .notices import say_once

CHOICES = "auto, cpu, cuda or cuda:N"
MUCH_WORK = 2.5e6     # pixels times steps from which on a session for this size alone pays for its making


def driver():
    """The file of the CUDA driver's library."""
    return "nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1"


@functools.lru_cache(None)
def cuda_problem(index=0):
    """Why CUDA device `index` cannot be used, in a few words; None if a graph really ran on it."""
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
    except Exception as error:   # onnxruntime raises its own kinds
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
    session = ort.InferenceSession(model.SerializeToString(), quiet, providers=_cuda(index))
    if session.get_providers()[0] != "CUDAExecutionProvider":
        raise RuntimeError("CUDA libraries missing; pip install 'onnxruntime-gpu[cuda,cudnn]'")
    session.run(None, {"x": np.ones(1, np.float32)})


def _cuda(index, tf32=False, **more):
    # EXHAUSTIVE and HEURISTIC tuning start anew at each octave's size; TF32 has 10 bits of mantissa
    return [("CUDAExecutionProvider", {"device_id": index, "use_tf32": int(tf32),
                                       "cudnn_conv_algo_search": "HEURISTIC",
                                       "arena_extend_strategy": "kSameAsRequested", **more})]


@contextlib.contextmanager
def readable(h, w):
    """Turn onnxruntime's errors during a run at h x w pixels into one line. Nothing but a session runs inside: whatever
    is raised there is onnxruntime's, in kinds of its own and in Python's."""
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
    """A place to run graphs. name: 'cpu' or 'cuda:N'; note: one line that says what was chosen, and why. fast: TF32 in
    CUDA's convolutions; on the CPU there is nothing to gain, and it is refused where the CPU was asked for.

    cuda: more options of onnxruntime's CUDA provider, {name: value}, such as prefer_nhwc. With enable_cuda_graph a step
    is recorded once for each size and then launched as a whole: for many dreams of one size, as a session with memory
    of its own stays for each octave."""
    _free_at_first = {}      # {index of a GPU: bytes}: of the whole process, as the memory is

    def __init__(self, choice="auto", fast=False, cuda=None):
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
            raise DreamError("--fast: is TF32 on CUDA; on the CPU there is nothing to gain by it")
        self.index, self.fast = index if self.is_cuda else 0, bool(fast)
        self.name = f"cuda:{index}" if self.is_cuda else "cpu"
        self._cuda = dict(cuda or {})
        self.captures = self.is_cuda and str(self._cuda.get("enable_cuda_graph", 0)) in ("1", "True")
        # the CPU adds in place where it knows the sizes; a captured graph is of one size
        self.much_work = 0 if self.captures else math.inf if self.is_cuda else MUCH_WORK
        self._note = None
        if kind == "auto":
            self._note = f"dreaming on {self.name}" + f" ({problem})" * bool(problem) \
                + ", where --fast changes nothing" * (fast and not self.is_cuda)

    def announce(self):
        """Say on stderr, once, which device was chosen, if the choice was ours."""
        if self._note:
            say_once(self._note)

    def fixes_size(self, h: int, w: int, steps: int) -> bool:
        """Are so many steps at h x w pixels enough work for a session of that size alone?"""
        return h * w * steps >= self.much_work

    @property
    def free_memory(self) -> int | None:
        """Free bytes of a GPU when it was first asked: what is taken later is mostly onnxruntime's, which takes it over
        for the next dream. None where it cannot be told."""
        if self.index not in self._free_at_first:
            self._free_at_first[self.index] = _free_bytes(self.index)
        return self._free_at_first[self.index]

    def session(self, graph, threads=None, size=None, name="the net", alone=True):
        """An onnxruntime session. graph: a serialized model. threads: of the CPU; None leaves it to onnxruntime,
        which takes one for each core. size: (h, w) of the only pictures that it will see, if that is known. name: what
        the DreamError calls the net, if onnxruntime cannot run it. alone: False for one of many sessions that take
        turns."""
        import onnxruntime as ort
        more = {k: v for k, v in self._cuda.items() if size or k != "enable_cuda_graph"}     # recorded is one size only
        cuda = _cuda(self.index, self.fast, **more) if self.is_cuda else []
        options = self.options(threads, size)
        if not alone:      # each session has threads of its own, and waiting busily they would keep each other from work
            options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            return ort.InferenceSession(graph, options, providers=[*cuda, "CPUExecutionProvider"])
        except Exception as error:      # onnxruntime raises its own kinds
            if _no_memory(error):
                raise DreamError(f"{name}: not enough memory for this net") from None
            raise DreamError(f"{name}: onnxruntime cannot run this net: {_line(error)}") from error

    @staticmethod
    def options(threads=None, size=None):
        """The SessionOptions of `session`."""
        import onnxruntime as ort
        options = ort.SessionOptions()
        options.log_severity_level = 4          # what goes wrong is raised, and told in one line
        options.enable_mem_pattern = False      # it plans memory for each octave's size anew and keeps the old: twice
        options.enable_mem_reuse = False        # what one tensor leaves to the next of its size, nothing else can take
        if threads:
            options.intra_op_num_threads = threads
        for name, n in zip("NHW", (1, *size) if size else ()):
            options.add_free_dimension_override_by_name(name, n)
        return options

    def place(self, array):
        """An array on this device, as an OrtValue."""
        import onnxruntime as ort
        return ort.OrtValue.ortvalue_from_numpy(array, "cuda" if self.is_cuda else "cpu", self.index)

def _free_bytes(index):
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
