"""Estimates of the memory that a dream needs, so that one that cannot fit is rejected before it starts.

The estimate walks through the nodes of the graph that will run, with the sizes that ONNX's shape inference finds for
its tensors, and adds up the tensors that are in use at the same time. onnxruntime needs more than that, because it
orders the nodes in another way, its blocked layouts are copies, and its arena has gaps. ARENA and ARENA_COMPARING were
chosen from measurements of nets, ends and sizes, so that the estimate is a little too large for all of them. Converting
a net for the first time is not counted; for small pictures it takes more memory than the dream.
"""
from __future__ import annotations

import functools
import json
from typing import TYPE_CHECKING

from ..convert.errors import about
from ..errors import DreamError
from ..runtime.cache import cached, graph_key
from ..runtime.free_memory import free_memory
from . import tiles
from .programs import Program
from .step import Step

if TYPE_CHECKING:
    import onnx

ARENA = 1.3           # memory that onnxruntime takes, as a multiple of the tensors in use
ARENA_COMPARING = 1.55     # the same for graphs with plain derivatives, which compare and choose
PROCESS = 200e6       # bytes for Python, its libraries and a small net
HOST = 80             # bytes per pixel of the picture, for the picture, its octaves, the dream so far and the encoder
TILED = 30            # additional bytes per pixel in tiles, for the shifted picture and its gradient in NumPy
OCTAVES = 2           # all octaves together, as a multiple of the largest: captured graphs keep the memory of each
PROBE = 1024          # height and width at which the tensors of a graph are measured, in pixels
SUGGESTED = (1024, 512, 256)      # sizes of tiles to suggest in messages
# operators whose output may reuse the memory of an input that no other node reads
IN_PLACE = {"Relu", "Add", "Mul", "Sub", "Div", "Sum", "HardSigmoid", "Sqrt", "Reciprocal", "Identity", "Min", "Max",
            "BatchNormalization", "Reshape", "Unsqueeze", "Squeeze", "Clip", "Abs", "ScatterND"}


def check_fits(net, step: Step, size: tuple[int, int], whole_step: bool = True) -> None:
    """Raise DreamError if a dream needs more memory than is free.

    net: the net.
    step: the step that the dream repeats.
    size: (h, w) of the largest octave.
    whole_step: whether the dream runs step graphs. If not, it runs graphs of the objective and its gradient.
    """
    free = free_memory(net.device)
    if free is None or net.leftover:
        return
    tiled, program = step.in_tiles(*size), _program(net, step, size, whole_step)
    wanted = estimate(net, program, step, size)
    if wanted <= free:
        return
    advice = ""
    for tile in SUGGESTED:
        smaller = Step(step.objective, step.clip, step.priors, tile)
        if tiles.smallest(net, step.ends) <= tile < (step.tile or max(size)) and step.objective.tileable \
                and (needs := estimate(net, program, smaller, size)) <= free:
            advice = f"--tile {tile} (about {_gb(needs)} GB), or "
            break
    h, w = size
    raise DreamError(f"the picture has {w}x{h} pixels; a dream at {' and '.join(step.ends)}"
                     + f" in tiles of {step.tile}" * tiled
                     + f" needs about {_gb(wanted)} GB, and {_gb(free)} GB are free; give {advice}a smaller picture")


def needed(net, step: Step, size: tuple[int, int]) -> float:
    """Return the bytes that a process needs for a dream. The arguments are those of `check_fits`."""
    return estimate(net, _program(net, step, size, True), step, size)


def _program(net, step, size, whole_step):
    """Return the program that needs the most memory during the dream."""
    if not step.objective.in_graph:
        return net.programs.gradient(step.ends[0])
    if step.in_tiles(*size) or not whole_step:
        return net.programs.objective(step, tile=step.in_tiles(*size))
    return net.programs.step(step)


def estimate(net, program: Program, step: Step, size: tuple[int, int]) -> float:
    """Return the bytes that a process needs for a dream.

    net: the net.
    program: the program that needs the most memory.
    step: the step that the dream repeats.
    size: (h, w) of the largest octave.
    """
    def measure():
        import onnx

        from .graphs import compares
        graph = onnx.load_from_string(net.programs.graph(program))
        with about(net.prototxt):
            tensors, weights = peak_memory(graph)
        return json.dumps([(ARENA_COMPARING if compares(graph.graph) else ARENA) * tensors, weights]).encode()

    name = f"{graph_key(net.checksum, *program.key, 'memory')}.json"
    per_pixel, weights = json.loads(cached(name, measure) if program.keep == "disk" else measure())
    (h, w), tiled = size, step.in_tiles(*size)
    rows, columns = tiles.tile_size(h, w, step.tile, net, step.ends) if tiled else size
    if net.device.captures:
        per_pixel *= OCTAVES
    host = 0 if net.device.is_cuda else (HOST + TILED * tiled) * h * w + PROCESS
    return per_pixel * rows * columns + 2 * weights + host


def peak_memory(model: onnx.ModelProto) -> tuple[float, int]:
    """Measure the memory that a graph needs.

    Returns the maximum number of bytes of tensors that are in use at the same time, per pixel, and the bytes of the
    weights.
    """
    import onnx

    from ..convert.graph import metadata
    from ..convert.graph.inference import infer_shapes
    from ..convert.graph.sizes import without_weights
    from ..convert.graph.symbolic import resolved
    weights = {t.name: t for t in model.graph.initializer}
    light = without_weights(model)
    known = resolved(json.loads(metadata(model).get("sizes", "{}")), {"N": 1, "H": PROBE, "W": PROBE})
    light.graph.value_info.extend(model.graph.value_info)
    for info in (*light.graph.input, *light.graph.value_info):
        for dim in info.type.tensor_type.shape.dim:
            if dim.dim_param in known:
                dim.dim_value = known[dim.dim_param]
    inferred = infer_shapes(light, data_prop=True).graph
    size = {}
    for info in (*inferred.input, *inferred.value_info, *inferred.output):
        dims = info.type.tensor_type.shape.dim
        if info.type.tensor_type.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            width = onnx.helper.tensor_dtype_to_np_dtype(info.type.tensor_type.elem_type).itemsize
            size[info.name] = functools.reduce(lambda n, d: n * d.dim_value, dims, width)
    size = {name: n for name, n in size.items() if name not in weights}
    last = {name: i for i, node in enumerate(model.graph.node) for name in node.input}
    last |= {info.name: len(model.graph.node) for info in (*model.graph.input, *model.graph.output)}
    alive = peak = sum(size.get(info.name, 0) for info in model.graph.input)
    for i, node in enumerate(model.graph.node):
        read = {name: size[name] for name in node.input if name in size}
        for name in node.output:      # a tensor of unknown size is assumed to be as large as the largest input
            size.setdefault(name, max(read.values(), default=0))
        new, done = sum(size[o] for o in node.output), [n for name, n in read.items() if last[name] == i]
        reused = new if node.op_type in IN_PLACE and new in done else 0
        alive += new - reused
        peak = max(peak, alive)
        alive -= sum(done) - reused
    return peak / PROBE ** 2, sum(t.ByteSize() for t in weights.values())


def _gb(size):
    n = size / 1e9
    return f"{n:.0f}" if n >= 10 else f"{n:.1f}" if n >= 1 else f"{n:.2f}"
