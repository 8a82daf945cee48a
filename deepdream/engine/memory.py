"""How much memory a dream needs: what cannot fit is refused before anything is dreamt.

The estimate goes through the nodes of the graph that will run, at the sizes that ONNX's shape inference gives its
tensors, and adds up what is alive at a time. onnxruntime takes more than that (its arena grows in powers of two,
blocked layouts are copies), by a factor that was much the same for all nets, ends and sizes that were measured.
"""
import functools
import json

from ..convert.errors import about
from ..errors import DreamError
from ..runtime.cache import cached, graph_key
from ..runtime.free_memory import free_memory
from . import tiles
from .programs import Program
from .step import Step

ARENA = 1.55          # of what is alive at a time
PROCESS = 200e6       # bytes of Python, its libraries and a small net
HOST = 80             # bytes a pixel of the picture: the picture, its octaves, the dream so far, the encoder
TILED = 30            # and of steps in NumPy: the shifted picture, its gradient
OCTAVES = 2           # times the largest octave are all of them, which stay where steps are captured
PROBE = 1024          # pixels of the square at which a graph is gone through
SUGGESTED = (1024, 512, 256)      # tiles to offer
# operators whose output may take the place of an input that nothing else reads
IN_PLACE = {"Relu", "Add", "Mul", "Sub", "Div", "Sum", "HardSigmoid", "Sqrt", "Reciprocal", "Identity", "Min", "Max",
            "BatchNormalization", "Reshape", "Unsqueeze", "Squeeze", "Clip", "Abs"}


def check_fits(net, step: Step, size: tuple[int, int], whole_step: bool = True):
    """Raise DreamError if a dream of a picture of `size` (h, w), the largest octave, needs more memory than there is.

    whole_step: it runs as step graphs; otherwise as graphs of the objective and its gradient.
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


def _program(net, step, size, whole_step):
    """The graph that takes the memory."""
    if not step.objective.in_graph:
        return net.programs.gradient(step.ends[0])
    if step.in_tiles(*size) or not whole_step:
        return net.programs.objective(step, tile=step.in_tiles(*size))
    return net.programs.step(step)


def estimate(net, program: Program, step: Step, size: tuple[int, int]) -> float:
    """Bytes that a process needs to dream a picture of `size` (h, w)."""
    def find():
        graph = net.programs.graph(program)
        with about(net.prototxt):
            return json.dumps(_alive(graph)).encode()

    name = f"{graph_key(net.checksum, *program.key, 'memory')}.json"
    a_pixel, weights = json.loads(cached(name, find) if program.keep == "disk" else find())
    (h, w), tiled = size, step.in_tiles(*size)
    rows, columns = tiles.tile_size(h, w, step.tile, net, step.ends) if tiled else size
    if net.device.captures:
        a_pixel *= OCTAVES
    host = 0 if net.device.is_cuda else (HOST + TILED * tiled) * h * w + PROCESS
    return ARENA * a_pixel * rows * columns + 2 * weights + host


def _alive(graph: bytes) -> tuple[float, int]:
    """Bytes a pixel that are alive at a time at most, and bytes of the weights, of a serialized graph."""
    import onnx

    from ..convert.graph import metadata
    from ..convert.graph.sizes import without_weights
    from ..convert.graph.symbolic import resolved
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


def _gb(size):
    n = size / 1e9
    return f"{n:.0f}" if n >= 10 else f"{n:.1f}" if n >= 1 else f"{n:.2f}"
