"""The step graph: one whole `make_step` as one ONNX graph, so that the picture stays on the device between steps."""
import numpy as np
import onnx

from ..convert.gradient import end_tensors
from ..convert.graph import Graph, Tensor, float_info, metadata
from ..goals.priors import at_place, need_unshifted, prior_feeds
from .step import Step

SHIFT, BACK = {"rows": "H", "columns": "W"}, {"rows_back": "H", "columns_back": "W"}


def objective_graph(gradient: onnx.ModelProto, step: Step, tile: bool = False) -> onnx.ModelProto:
    """An objective and its gradient by the picture.

    gradient: from `convert.gradient_graph`, of all ends of the objective.
    tile: the picture is a tile of a larger one, of which only some positions count.

    Input: `data` (1, C, H, W); outputs: `objective` (a scalar) and `data_diff`. More inputs: those of
    `Objective.feeds`; for a tile also, for each end, `own:<end>` (int64: first row, first column, last row, last column,
    the last excluded) and, for what is a mean over its positions, `share:<end>`, a scalar: how many of all positions are
    the tile's own.
    """
    objective = step.objective
    ends = objective.ends if tile else []
    gradient, g = _graph(gradient, [f"{what}:{e}" for e in ends for what in ("own", "share")])
    _append(g, gradient.graph, objective, tile)
    body = gradient.graph
    own = {f"own:{e}": np.zeros(4, np.int64) for e in ends}
    share = {f"share:{e}": np.ones((), np.float32) for e in ends if e in objective.mean_ends}
    return _model(g, gradient, "objective", [body.input[0], *_infos({**objective.feeds(), **own, **share})],
                  [float_info("objective", []), body.output[-1]])


def step_graph(gradient: onnx.ModelProto, step: Step, bias: np.ndarray | None = None) -> onnx.ModelProto:
    """Put a make_step around a gradient graph.

    gradient: as of `objective_graph`.
    bias: the net's mean, (C, 1, 1), to clip the picture to [-bias, 255 - bias] after the step; None does not clip.

    The graph's inputs: `picture` (1, C, H, W); `rows`, `columns` (int64: where each row and column of the shifted
    picture comes from); `step_size`; those of `Objective.feeds` and `prior_feeds`. Its outputs: `next_picture`,
    `objective` (a scalar) and `mean_abs`, the mean of |gradient|. The next picture is left shifted, so that one move
    takes it to the next step's place; where a prior looks at the picture itself, it is put back, by `rows_back` and
    `columns_back`.
    """
    objective, priors = step.objective, step.priors
    gradient, g = _graph(gradient, ["picture", "next_picture", "mean_abs", "step_size", *SHIFT, *BACK])
    body, index = gradient.graph, {**SHIFT, **BACK} if need_unshifted(priors) else SHIFT
    picture, step_size = g.tensor("picture"), g.tensor("step_size")

    def prior(i, p, x):
        return p.nodes(g, x, {k: g.tensor(f"prior{i}:{k}") for k in p.feeds(0, 1)})

    def moved(x, places):
        for axis, place in enumerate(places, 2):
            x = g.op("Gather", x, g.tensor(place), axis=axis)
        return x

    data = g.rename(g.op("Identity", moved(picture, SHIFT)), "data")
    _append(g, body, objective)
    gradient_ = Tensor(g, "data_diff")
    for i, p in at_place(priors, "gradient"):
        gradient_ = prior(i, p, gradient_)
    mean = g.op("Abs", gradient_)
    for axis in (3, 2, 1):      # axis by axis: float32 sums of a million terms lose digits
        mean = g.op("ReduceMean", mean, axes=[axis], keepdims=1)
    mean = g.rename(g.op("Reshape", mean, np.array([], np.int64)), "mean_abs")
    stepped = data + step_size / mean * gradient_
    if need_unshifted(priors):
        stepped = moved(stepped, BACK)
    for i, p in at_place(priors, "penalty"):
        stepped = stepped - step_size * prior(i, p, picture)
    for i, p in at_place(priors, "picture"):
        stepped = prior(i, p, stepped)
    if bias is not None:
        bias = np.asarray(bias, np.float32)
        stepped = g.op("Min", g.op("Max", stepped, -bias), np.float32(255) - bias)
    g.rename(g.op("Identity", stepped), "next_picture")

    shape = [1, body.input[0].type.tensor_type.shape.dim[1].dim_value or "C", "H", "W"]
    inputs = [float_info("picture", shape), float_info("step_size", []),
              *_infos({**objective.feeds(), **prior_feeds(priors)}),
              *(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, [d]) for n, d in index.items())]
    outputs = [float_info("next_picture", shape), float_info("objective", []), float_info("mean_abs", [])]
    return _model(g, gradient, "step", inputs, outputs)


def _graph(gradient, more):
    """The gradient graph, and a Graph to put it into. The first gives up the names of the second's inputs and outputs,
    `more` among them."""
    body, fixed = gradient.graph, {"objective", *more}
    taken = {n for node in body.node for n in (*node.input, *node.output)}
    if taken & fixed:
        other = {n: next(m for i in range(len(taken)) if (m := f"{n}_{i}") not in taken) for n in taken & fixed}
        gradient = onnx.ModelProto.FromString(gradient.SerializeToString())
        body = gradient.graph
        for node in body.node:
            node.name = other.get(node.name, node.name)
            for names in (node.input, node.output):
                names[:] = [other.get(n, n) for n in names]
        for named in (*body.initializer, *body.value_info):
            named.name = other.get(named.name, named.name)
        taken = (taken - fixed) | set(other.values())
    return gradient, Graph(reserved=taken | {"data", "data_diff"} | fixed)


def _append(g, body, objective, tile=False):
    """Append the gradient graph's nodes, with the objective's in between: after the forward pass, before the backward
    one."""
    names, nodes = end_tensors(objective.ends), list(body.node)
    values = {value for value, _ in names.values()}
    done = max(i for i, n in enumerate(nodes) if values & set(n.output)) + 1
    g.nodes += nodes[:done]
    total, diffs = [], {name: [] for name in names}
    looked_at = {name: g.tensor(value) for name, (value, _) in names.items()}
    if tile:
        looked_at = {name: g.slice(x, [2, 3], *_corners(g, name)) for name, x in looked_at.items()}
    for t, (weight, term) in enumerate(objective.terms):
        name = term.end
        value, diff = term.nodes(g, looked_at[name], {k: g.tensor(f"term{t}:{k}") for k in term.inputs})
        scales = [f"term{t}:weight"] * (weight != 1) + [f"share:{name}"] * (tile and term.is_mean)
        for scale in map(g.tensor, scales):
            value, diff = value * scale, diff * scale
        total.append(value)
        diffs[name].append(diff)
    g.rename(g.op("Identity", g.sum(total)), "objective")
    for name, (value, diff) in names.items():
        whole = g.sum(diffs[name])
        if tile:      # nothing at the positions of other tiles
            before = _corners(g, name)[0]
            after = g.op("Sub", g.shape(g.tensor(value), start=2), g.op("Add", before, g.shape(whole, start=2)))
            whole = g.op("Pad", whole, g.op("Concat", [0, 0], before, [0, 0], after, axis=0))
        g.rename(g.op("Identity", whole), diff)
    g.nodes += nodes[done:]


def _corners(g, name):
    """The first and the last position, each (row, column), of the tile's own part of an end."""
    own = g.tensor(f"own:{name}")
    return g.slice(own, [0], [0], [2]), g.slice(own, [0], [2], [4])


def _infos(arrays):
    return [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim)
            for k, v in arrays.items()]


def _model(g, gradient, name, inputs, outputs):
    body = gradient.graph
    # the names of the sizes go along: by them the runtime sees which tensors are alike
    own = {i.name for i in (*inputs, *outputs)}
    known = [i for i in (*body.value_info, *body.input, *body.output) if i.name not in own]
    return g.model(name, inputs, outputs, known, metadata=metadata(gradient),
                   constants={t.name: t for t in body.initializer})
