"""Small nets in ONNX's text form for the tests, and a check of their gradients."""
import json

import numpy as np
import onnx
import toys
from deepdream.convert.graph import metadata
from onnx import TensorProto, helper, numpy_helper

from deepdream import convert


def some(*shape, seed=0, spread=1.0):
    """Return normally distributed float32 numbers. The same shape and seed always give the same numbers."""
    return np.float32(np.random.default_rng([seed, *shape]).standard_normal(shape) * spread)


def filters(out, inner, k=3):
    """Return the weights of a k x k convolution, scaled so that its outputs are about as large as its inputs."""
    return some(out, inner, k, k, spread=(2 / (inner * k * k)) ** 0.5)


def net(body, weights, shape=(1, 3, 32, 32), opset=17, outputs=("y",), ir=8, name="x", kind=TensorProto.FLOAT):
    """Build a ModelProto.

    body: nodes in ONNX's text form, separated by `;`.
    weights: {name: array}.
    shape, name, kind: of the input.
    """
    nodes = [onnx.parser.parse_node(line.strip()) for line in body.split(";")]
    graph = helper.make_graph(nodes, "net", [helper.make_tensor_value_info(name, kind, shape)],
                              [helper.make_tensor_value_info(o, kind if kind in (1, 10, 11) else 1, None)
                               for o in outputs],
                              [numpy_helper.from_array(np.asarray(v), k) for k, v in weights.items()])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", opset)], ir_version=ir)


def facts(model, name):
    """Return an entry of the model's metadata that holds JSON."""
    return json.loads(metadata(model)[name])


def check(model, end, size=(32, 32), channels=3):
    """Compare the gradient at `end`, for a picture of this size, with central differences in float64."""
    data = toys.noise(1, channels, *size) * 60
    graph = convert.gradient_graph(model, end)
    onnx.checker.check_model(graph, full_check=True)
    forward = toys.doubled(model, end)
    value = forward(data)
    diff = toys.noise(*value.shape, seed=4)
    end_data, gradient = toys.run(graph, {"data": data, "end_diff": diff}, ["end_data", "data_diff"])
    assert toys.off(end_data, value) < 1e-5
    toys.check_gradient(forward, data, diff, gradient, directions=3, step=1e-4)
