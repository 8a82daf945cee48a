"""The step graph: one whole `make_step` as one ONNX graph, so that the picture stays on the device between steps."""
import json

import numpy as np
import onnx

from ..convert.gradient import end_tensors
from ..convert.graph import Graph, Tensor, float_info, metadata
from ..goals.priors import at_place, need_unshifted, prior_feeds
from .step import Step

# operators of plain derivatives: onnxruntime runs them during the forward pass, and then frees what they compare
COMPARISONS = {"Equal", "Greater", "Where"}
SHIFT, BACK = {"rows": "H", "columns": "W"}, {"rows_back": "H", "columns_back": "W"}


def objective_graph(gradient: onnx.ModelProto, step: Step, tile: bool = False) -> onnx.ModelProto:
    """Build the graph of an objective and its gradient with respect to the picture.

    gradient: the gradient graph of all ends of the objective, from `convert.gradient_graph`.
    step: the step, of which only the objective is used.
    tile: whether the picture is a tile of a larger one. The objective then counts only the positions in the tile's
        core.

    Returns a model with the inputs `data` (1, C, H, W) and those of `Objective.feeds`, and with the outputs `objective`
    (a scalar) and `data_diff`. A tile has two more inputs for each end: `core:<end>` (int64: first row, first column,
    last row, last column of the core, the last ones excluded) and, if the objective is a mean over the positions of the
    end, `share:<end>` (a scalar: the share of all positions that are in the core).
    """
    objective = step.objective
    ends = objective.ends if tile else []
    gradient, g = _graph_around(gradient, [f"{what}:{e}" for e in ends for what in ("core", "share")])
    _append(g, gradient.graph, objective, _last(gradient), tile)
    body = gradient.graph
    _compute_objective_early(g, body, ["data_diff"])
    core = {f"core:{e}": np.zeros(4, np.int64) for e in ends}
    share = {f"share:{e}": np.ones((), np.float32) for e in ends if e in objective.mean_ends}
    return _model(g, gradient, "objective", [body.input[0], *_infos({**objective.feeds(), **core, **share})],
                  [float_info("objective", []), body.output[-1]])


def step_graph(gradient: onnx.ModelProto, step: Step, bias: np.ndarray | None = None) -> onnx.ModelProto:
    """Build the graph of a whole `make_step` around a gradient graph.

    gradient: the gradient graph of all ends of the objective, from `convert.gradient_graph`.
    step: the step.
    bias: the net's mean, (C, 1, 1). The picture is clipped to [-bias, 255 - bias] after the step; None does not clip.

    Returns a model with the inputs `picture` (1, C, H, W), `rows` and `columns` (int64: the row and the column that
    each row and column of the shifted picture is taken from), `step_size`, and those of `Objective.feeds` and
    `prior_feeds`, and with the outputs `next_picture`, `objective` (a scalar) and `mean_abs` (the mean of |gradient|).

    The next picture stays shifted, so that undoing this shift and applying the next one is a single operation. If a
    prior works on the picture itself, the picture is shifted back, with the inputs `rows_back` and `columns_back`.
    """
    objective, priors = step.objective, step.priors
    gradient, g = _graph_around(gradient, ["picture", "next_picture", "mean_abs", "step_size", *SHIFT, *BACK])
    body, index = gradient.graph, {**SHIFT, **BACK} if need_unshifted(priors) else SHIFT
    picture, step_size = g.tensor("picture"), g.tensor("step_size")

    def prior(i, p, x):
        return p.nodes(g, x, {k: g.tensor(f"prior{i}:{k}") for k in p.feeds(0, 1)})

    def shifted(x, names):
        for axis, name in enumerate(names, 2):
            x = g.op("Gather", x, g.tensor(name), axis=axis)
        return x

    data = g.rename(g.op("Identity", shifted(picture, SHIFT)), "data")
    _append(g, body, objective, _last(gradient))
    gradient_ = Tensor(g, "data_diff")
    for i, p in at_place(priors, "gradient"):
        gradient_ = prior(i, p, gradient_)
    mean = g.op("Abs", gradient_)
    for axis in (3, 2, 1):      # one axis after another, because float32 sums of a million terms lose precision
        mean = g.op("ReduceMean", mean, axes=[axis], keepdims=1)
    mean = g.rename(g.op("Reshape", mean, np.array([], np.int64)), "mean_abs")
    stepped = data + step_size / mean * gradient_
    if need_unshifted(priors):
        stepped = shifted(stepped, BACK)
    for i, p in at_place(priors, "penalty"):
        stepped = stepped - step_size * prior(i, p, picture)
    for i, p in at_place(priors, "picture"):
        stepped = prior(i, p, stepped)
    if bias is not None:
        bias = np.asarray(bias, np.float32)
        stepped = g.op("Min", g.op("Max", stepped, -bias), np.float32(255) - bias)
    for i, p in at_place(priors, "change"):
        stepped = picture + prior(i, p, stepped - picture)
    g.rename(g.op("Identity", stepped), "next_picture")
    _compute_objective_early(g, body, ["next_picture", "mean_abs"])

    shape = [1, body.input[0].type.tensor_type.shape.dim[1].dim_value or "C", "H", "W"]
    inputs = [float_info("picture", shape), float_info("step_size", []),
              *_infos({**objective.feeds(), **prior_feeds(priors)}),
              *(onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, [d]) for n, d in index.items())]
    outputs = [float_info("next_picture", shape), float_info("objective", []), float_info("mean_abs", [])]
    return _model(g, gradient, "step", inputs, outputs)


def _graph_around(gradient, names):
    """Return the gradient graph and an empty Graph to append it to.

    Tensors of the gradient graph that have one of these names, which the inputs and outputs of the new graph need, are
    renamed.
    """
    body, fixed = gradient.graph, {"objective", *names}
    taken = {n for node in body.node for n in (*node.input, *node.output)}
    if taken & fixed:
        renamed = {n: next(m for i in range(len(taken)) if (m := f"{n}_{i}") not in taken) for n in taken & fixed}
        gradient = onnx.ModelProto.FromString(gradient.SerializeToString())
        body = gradient.graph
        for node in body.node:
            node.name = renamed.get(node.name, node.name)
            for tensors in (node.input, node.output):
                tensors[:] = [renamed.get(n, n) for n in tensors]
        for tensor in (*body.initializer, *body.value_info):
            tensor.name = renamed.get(tensor.name, tensor.name)
        taken = (taken - fixed) | set(renamed.values())
    return gradient, Graph(reserved=taken | {"data", "data_diff"} | fixed)


def channels_first(g: Graph, x: Tensor, rank: int | None) -> Tensor:
    """Bring the channels of a layer to the second axis, where objectives expect them.

    rank: the number of axes of a layer with its channels last; None for any other layer, which stays as it is.
    """
    return x if rank is None else g.op("Transpose", x, perm=[0, rank - 1, *range(1, rank - 1)])


def channels_last(g: Graph, x: Tensor, rank: int | None) -> Tensor:
    """Undo `channels_first`."""
    return x if rank is None else g.op("Transpose", x, perm=[0, *range(2, rank), 1])


def _append(g, body, objective, last, tile=False):
    """Append the nodes of the gradient graph, with those of the objective between its forward and its backward pass.

    last: {end: the number of its axes}, for ends with their channels last.
    """
    names, nodes = end_tensors(objective.ends), list(body.node)
    values = {value for value, _ in names.values()}
    done = max(i for i, n in enumerate(nodes) if values & set(n.output)) + 1
    g.nodes += nodes[:done]
    total, diffs = [], {name: [] for name in names}
    whole = {name: channels_first(g, g.tensor(value), last.get(name)) for name, (value, _) in names.items()}
    seen = whole
    if tile:
        seen = {name: g.slice(x, [2, 3], *_corners(g, name)) for name, x in seen.items()}
    for t, (weight, term) in enumerate(objective.terms):
        name = term.end
        value, diff = term.nodes(g, seen[name], {k: g.tensor(f"term{t}:{k}") for k in term.inputs})
        scales = [f"term{t}:weight"] * (weight != 1) + [f"share:{name}"] * (tile and term.is_mean)
        for scale in map(g.tensor, scales):
            value, diff = value * scale, diff * scale
        total.append(value)
        diffs[name].append(diff)
    g.rename(g.op("Identity", g.sum(total)), "objective")
    for name, (_, diff) in names.items():
        end_diff = g.sum(diffs[name])
        if tile:      # the diff is zero outside the tile's core
            before = _corners(g, name)[0]
            after = g.op("Sub", g.shape(whole[name], start=2), g.op("Add", before, g.shape(end_diff, start=2)))
            end_diff = g.op("Pad", end_diff, g.op("Concat", [0, 0], before, [0, 0], after, axis=0))
        g.rename(g.op("Identity", channels_last(g, end_diff, last.get(name))), diff)
    g.nodes += nodes[done:]


def compares(graph: onnx.GraphProto) -> bool:
    """Return whether a graph has plain derivatives, which compare and choose."""
    return not COMPARISONS.isdisjoint(node.op_type for node in graph.node)


def _compute_objective_early(g, body, others):
    """Have the objective computed early, unless plain derivatives of the gradient graph should come even earlier."""
    if not compares(body):
        g.finish_early("objective", others)


def _last(gradient):
    return json.loads(metadata(gradient).get("channels_last", "{}"))


def _corners(g, name):
    """Return the first and the last position, each (row, column), of the tile's core at an end."""
    core = g.tensor(f"core:{name}")
    return g.slice(core, [0], [0], [2]), g.slice(core, [0], [2], [4])


def _infos(arrays):
    return [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype), [None] * v.ndim)
            for k, v in arrays.items()]


def _model(g, gradient, name, inputs, outputs):
    body = gradient.graph
    # The symbolic shapes of inner tensors are passed on, so that onnxruntime sees which tensors have equal sizes.
    outer = {i.name for i in (*inputs, *outputs)}
    inner = [i for i in (*body.value_info, *body.input, *body.output) if i.name not in outer]
    return g.model(name, inputs, outputs, inner, metadata=metadata(gradient),
                   constants={t.name: t for t in body.initializer})
