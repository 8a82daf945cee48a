"""How much memory a dream needs, and how much there is: what cannot fit is refused before anything is dreamt.

The estimate goes through the nodes of the graph that will run, at the sizes that ONNX's shape inference gives its
tensors, and adds up what is alive at a time. onnxruntime takes more than that (its arena grows in powers of two,
blocked layouts are copies), by a factor that was much the same for all nets, ends and sizes that were measured.
"""
import ctypes
import functools
import json
import os
import sys
from pathlib import Path

from . import tiles
from .cache import cached, key
from .device import driver
from .errors import DreamError
from .objectives import Objective, shared

VARIABLE = "DEEPDREAM_MEMORY_GB"
ARENA = 1.55          # of what is alive at a time
PROCESS = 200e6       # bytes of Python, its libraries and a small net
HOST = 80             # bytes a pixel of the picture: the picture, its octaves, the dream so far, the encoder
TILED = 30            # and of steps in NumPy: the shifted picture, its gradient
OCTAVES = 2           # times the largest octave are all of them, which stay where steps are recorded
PROBE = 1024          # pixels of the square at which a graph is gone through
SUGGESTED = (1024, 512, 256)
# operators whose output may take the place of an input that nothing else reads
IN_PLACE = {"Relu", "Add", "Mul", "Sub", "Div", "Sum", "HardSigmoid", "Sqrt", "Reciprocal", "Identity", "Min", "Max",
            "BatchNormalization", "Reshape", "Unsqueeze", "Squeeze", "Clip", "Abs"}


def check(net, objective, end, clip, priors, size, tile=None, step=True):
    """Raise DreamError if a dream of a picture of `size` (h, w), the largest octave, needs more than there is. step:
    it runs as step graphs; else only the objective and its gradient do."""
    free = available(net.device)
    if free is None or net.leftover:
        return
    tiled = tiles.needed(*size, tile)
    graph = (end, None, False, (), False, False)
    if isinstance(objective, Objective):
        graph = (end, objective, clip, () if tiled else priors, step and not tiled, tiled)
    ends = tiles.ends(objective, end)
    wanted = estimate(net, graph, size, tile, ends)
    if wanted <= free:
        return
    advice = [f"--tile {t} (about {_gb(needs)} GB)" for t in SUGGESTED
              if t < (tile or max(size)) and t >= tiles.smallest(net, ends) and tiles.everywhere(objective)
              and (needs := estimate(net, graph, size, t, ends)) <= free][:1]
    h, w = size
    raise DreamError(f"the picture has {w}x{h} pixels; a dream at {' and '.join(ends)}" + f" in tiles of {tile}" * tiled
                     + f" needs about {_gb(wanted)} GB, and {_gb(free)} GB are free; give "
                     + ", or ".join([*advice, "a smaller picture"]))


def estimate(net, graph, size, tile, ends):
    """Bytes that a process needs to dream a picture of `size` (h, w). graph: arguments of `net.graph`."""
    def find():
        return json.dumps(_alive(net.graph(*graph))).encode()

    name = f"{key(net.checksum, *net._key(*graph), 'memory')}.json"
    a_pixel, weights = json.loads(cached(name, find) if shared(graph[1], graph[3]) else find())
    h, w = size
    in_tiles = tiles.needed(h, w, tile)
    rows, columns = tiles.tile_size(h, w, tile, net, ends) if in_tiles else size
    if net.device.graphs:
        a_pixel *= OCTAVES
    host = 0 if net.device.is_cuda else (HOST + TILED * in_tiles) * h * w + PROCESS
    return ARENA * a_pixel * rows * columns + 2 * weights + host


def _alive(graph):
    """(bytes a pixel that are alive at a time at most, bytes of the weights) of a serialized graph."""
    import onnx

    from convert.graph import metadata
    from convert.sizes import without_weights
    from convert.symbolic import resolved
    model = onnx.load_from_string(graph)
    weights = {t.name: t for t in model.graph.initializer}
    light = without_weights(model)
    known = resolved(json.loads(metadata(model).get("sizes", "{}")), {"N": 1, "H": PROBE, "W": PROBE})
    light.graph.value_info.extend(model.graph.value_info)
    for info in (*light.graph.input, *light.graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in known:
                dim.dim_value = known[dim.dim_param]
    found = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    size = {}
    for info in (*found.input, *found.value_info, *found.output):
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            size[info.name] = functools.reduce(lambda n, d: n * d.dim_value, dims, 4)
    size = {name: n for name, n in size.items() if name not in weights}
    last = {name: i for i, node in enumerate(model.graph.node) for name in node.input}
    last |= {info.name: len(model.graph.node) for info in (*model.graph.input, *model.graph.output)}
    alive = peak = sum(size.get(info.name, 0) for info in model.graph.input)
    for i, node in enumerate(model.graph.node):
        read = {name: size[name] for name in node.input if name in size}
        for name in node.output:      # what inference cannot tell is as large as what it is made of
            size.setdefault(name, max(read.values(), default=0))
        new, done = sum(size[o] for o in node.output), [n for name, n in read.items() if last[name] == i]
        reused = new if node.op_type in IN_PLACE and new in done else 0
        alive += new - reused
        peak = max(peak, alive)
        alive -= sum(done) - reused
    return peak / PROBE ** 2, sum(t.ByteSize() for t in weights.values())


# ---- what there is

def available(device):
    """Bytes that a dream may take: on the CPU what is free and what this process has already, on a GPU what is free.
    $DEEPDREAM_MEMORY_GB instead, if it is set. None where it cannot be told."""
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
        return _of_gpu(device.index)
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


@functools.lru_cache(None)
def _of_gpu(index):
    """Free bytes of a CUDA device when it is first asked: later, what is taken is mostly onnxruntime's, and taken
    over."""
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


def _gb(size):
    n = size / 1e9
    return f"{n:.0f}" if n >= 10 else f"{n:.1f}" if n >= 1 else f"{n:.2f}"
