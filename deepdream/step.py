"""The step graph: one whole `make_step` as one ONNX graph, so that the picture stays on the device between steps."""
import numpy as np
import onnx

from convert.graph import Graph, Tensor, float_info, metadata


def step_graph(gradient, objective, bias=None):
    """Put a make_step around a gradient graph.

    gradient: ModelProto from convert.gradient_graph. objective: an Objective. bias: the net's mean, (C, 1, 1), to clip
    the picture to [-bias, 255 - bias] after the step; None does not clip.

    The graph's inputs: `picture` (1, C, H, W); `rows`, `columns` (int64: where each row and column of the shifted
    picture comes from) and `rows_back`, `columns_back` (the way back); `step_size`; the objective's. Its outputs:
    `next_picture`, `objective` (a scalar) and `mean_abs`, the mean of |gradient|.
    """
    body = gradient.graph
    names = {n for node in body.node for n in (*node.input, *node.output)}
    fixed = ["picture", "next_picture", "objective", "mean_abs", "step_size", "rows", "columns", "rows_back",
             "columns_back", *objective.inputs]
    g = Graph(reserved=names | set(fixed))
    picture, step_size = g.tensor("picture"), g.tensor("step_size")
    rows, columns, rows_back, columns_back = (g.tensor(n) for n in fixed[5:9])
    shifted = g.op("Gather", g.op("Gather", picture, rows, axis=2), columns, axis=3)
    data = g.rename(g.op("Identity", shifted), "data")

    # forward nodes stand before the first that needs end_diff: the objective goes in between
    nodes = list(body.node)
    done = max(i for i, n in enumerate(nodes) if "end_data" in n.output) + 1
    g.nodes += nodes[:done]
    value, diff = objective.nodes(g, g.tensor("end_data"), {k: g.tensor(k) for k in objective.inputs})
    g.rename(g.op("Identity", value), "objective")
    g.rename(g.op("Identity", diff), "end_diff")
    g.nodes += nodes[done:]

    gradient_ = Tensor(g, "data_diff")
    mean = g.op("Abs", gradient_)
    for axis in (3, 2, 1):      # axis by axis: float32 sums of a million terms lose digits
        mean = g.op("ReduceMean", mean, axes=[axis], keepdims=1)
    mean = g.rename(g.op("Reshape", mean, np.array([], np.int64)), "mean_abs")
    moved = data + step_size / mean * gradient_
    back = g.op("Gather", g.op("Gather", moved, rows_back, axis=2), columns_back, axis=3)
    if bias is not None:
        bias = np.asarray(bias, np.float32)
        back = g.op("Min", g.op("Max", back, -bias), np.float32(255) - bias)
    g.rename(g.op("Identity", back), "next_picture")

    shape = [1, body.input[0].type.tensor_type.shape.dim[1].dim_value or "C", "H", "W"]
    index = [onnx.helper.make_tensor_value_info(n, onnx.TensorProto.INT64, [d])
             for n, d in zip(fixed[5:9], ("H", "W", "H", "W"))]
    inputs = [float_info("picture", shape), *index, float_info("step_size", []),
              *(float_info(k, [None] * v.ndim) for k, v in objective.inputs.items())]
    outputs = [float_info("next_picture", shape), float_info("objective", []), float_info("mean_abs", [])]
    # the names of the sizes go along: by them the runtime sees which tensors are alike
    known = [*body.value_info, *body.input, *body.output]
    return g.model("step", inputs, outputs, known, metadata=metadata(gradient),
                   constants={t.name: t for t in body.initializer})
