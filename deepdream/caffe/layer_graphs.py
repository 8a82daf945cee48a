"""The ONNX graphs of single layers and of their gradients."""
import numpy as np
from onnx.utils import Extractor

from .. import convert
from ..convert.errors import about
from ..convert.graph import Graph, float_info
from ..convert.graph.windows import Window

AXES = "NCHW"


def forward_graph(operation) -> bytes:
    """Build the graph of a layer: inputs x0, x1, ..., outputs y0, y1, ... Returns a serialized ModelProto."""
    return _forward_model(operation).SerializeToString()


def _forward_model(operation):
    graph, shapes = Graph(), operation.declared
    results = operation.convert(graph, shapes, [p.peek() for p in operation.params])
    outputs = []
    for i, (tensor, shape) in enumerate(results):
        if tensor.name.startswith("x"):      # nothing to compute
            tensor = graph.op("Identity", tensor)
        outputs.append(float_info(graph.rename(tensor, f"y{i}").name, [None] * len(shape)))
    return graph.model("layer", _inputs(shapes), outputs)


def _inputs(shapes):
    return [float_info(f"x{i}", ["N", *shape[1:2], *AXES[2:len(shape)]] if len(shape) in (2, 4) else ["N", *shape[1:]])
            for i, shape in enumerate(shapes)]


def value_graph(operation) -> bytes:
    """Build the graph of a layer's value in the form that its gradient uses: input data, output end_data."""
    with about(operation.title):
        return _pruned(convert.gradient_graph(_forward_model(operation), "y0"), "end_data").SerializeToString()


def backward_graph(operation) -> bytes:
    """Build the graph of a layer's gradient: inputs data and end_diff, output data_diff."""
    model = _forward_model(operation)
    with about(operation.title):
        # the fast form for max pooling drops what Caffe gives to zeros, since a ReLU would drop it
        fast = operation.layer.kind != "Pooling"
        graph = _convolution_back(model) or _pruned(convert.gradient_graph(model, "y0", fast), "data_diff")
    return graph.SerializeToString()


def _pruned(model, output):
    """Keep one of the outputs and what it needs."""
    used = {i for node in model.graph.node for i in node.input}
    return Extractor(model).extract_model([i.name for i in model.graph.input if i.name in used], [output])


def _convolution_back(model):
    """The gradient of a convolution of stride 1 as one with the kernel turned round; None for any other graph."""
    from onnx import numpy_helper

    from ..convert.graph import attributes
    if [n.op_type for n in model.graph.node] != ["Conv"]:
        return None
    node, values = model.graph.node[0], {t.name: t for t in model.graph.initializer}
    weights, attr = numpy_helper.to_array(values[node.input[1]]), attributes(node)
    window, group = Window.of(attr, weights.shape[2:]), attr.get("group", 1)
    pads = [r - p for r, p in zip(window.reach * 2, window.pads)]
    if max(window.stride) > 1 or min(pads) < 0:
        return None
    out, inner, *kernel = weights.shape
    turned = np.flip(weights.reshape(group, out // group, inner, *kernel).swapaxes(1, 2), (-2, -1))
    graph = Graph()
    turned = graph.constant(np.ascontiguousarray(turned.reshape(group * inner, -1, *kernel)), "weights back")
    result = graph.op("Conv", graph.tensor("end_diff"), turned, group=group, pads=pads, dilations=window.dilation,
                      kernel_shape=kernel, name="data_diff")
    return graph.model("back", [float_info("end_diff", ["N", out, "H", "W"])],
                       [float_info(result.name, ["N", group * inner, None, None])])
