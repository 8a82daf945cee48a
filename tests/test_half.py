"""Gradients in half precision: near those in float32, whatever the size of the objective. No GPU is needed."""
import numpy as np
import onnx
import pytest
import toys
from onnx import TensorProto
from test_cuda_kernels import without_kernel
from toys import concat, conv, lrn, net, pool, relu

from deepdream import DreamError, convert
from deepdream.engine.graphs import objective_graph, step_graph
from deepdream.engine.step import Step
from deepdream.goals.objectives import objective_L2
from deepdream.runtime.device import Device

FIRST = conv("a", "data", 16, 7, stride=2, pad=3) + relu("a")
NETS = {
    "GoogLeNet's beginning": net(FIRST, pool("p", "a"), lrn("n", "p"), conv("b", "n", 12, 3, pad=1), relu("b"),
                                 conv("y", "b", 8), shape=(1, 3, 45, 51)),
    "inception": net(FIRST, conv("b", "a", 5), relu("b"), pool("p", "a", s=1, pad=1), conv("c", "p", 7), relu("c"),
                     concat("y", "b", "c"), shape=(1, 3, 31, 37)),
    "LRN of what may be negative": net(conv("a", "data", 8), lrn("n", "a"), conv("y", "n", 3), shape=(1, 3, 13, 15)),
}


def graphs(name, ends="y"):
    exact = convert.gradient_graph(toys.convert(NETS[name]), ends, device="cuda-fast")
    return exact, convert.half_precision(exact)


@pytest.mark.parametrize("scale", [1.0, 1e9, 1e-9])
@pytest.mark.parametrize("name", NETS)
def test_half_precision_is_near(name, scale):
    exact, half = graphs(name)
    data = toys.noise(1, 3, 45, 51) * 60
    diff = toys.run(toys.convert(NETS[name]), data, ["y"])[0]
    feeds = {"data": data, "end_diff": diff * np.float32(scale)}
    (value, gradient), (expected_value, expected) = toys.run(half, feeds), toys.run(exact, feeds)
    assert gradient.dtype == value.dtype == np.float32 and np.isfinite(gradient).all()
    assert toys.off(value, expected_value) < 2e-3
    assert 1e-6 < toys.off(gradient, expected) < 0.02


@pytest.mark.parametrize("name", NETS)
def test_convolutions_run_in_half_precision_on_cuda(name):
    _, half = graphs(name)
    assert without_kernel(half) == []
    inferred = onnx.shape_inference.infer_shapes(half).graph
    kinds = {i.name: i.type.tensor_type.elem_type for i in inferred.value_info}
    kinds |= {t.name: t.data_type for t in inferred.initializer}
    found = {op: {kinds[n.output[0]] for n in inferred.node if n.op_type == op} for op in ("Conv", "MaxPool", "LRN")}
    assert TensorProto.FLOAT16 in found["Conv"] and found["MaxPool"] | found["LRN"] <= {TensorProto.FLOAT}


def test_graphs_around_it_run():
    """A step and an objective of two ends: the values are needed before the gradients."""
    exact, half = graphs("GoogLeNet's beginning", ["n", "y"])
    step = Step(objective_L2.at("n") + 0.5 * objective_L2.at("y"))
    feeds = {**step.objective.feeds(), "data": toys.noise(1, 3, 45, 51) * 60}
    results = [toys.run(objective_graph(graph, step), feeds) for graph in (half, exact)]
    assert abs(results[0][0] / results[1][0] - 1) < 2e-3 and toys.off(results[0][1], results[1][1]) < 0.02
    onnx.checker.check_model(step_graph(half, step, np.zeros((3, 1, 1))))


def test_only_allowed_with_a_gpu():
    for choice, kind in (("cpu", "half"), ("auto", "quarter")):
        with pytest.raises(DreamError, match="fast"):
            Device(choice, fast=kind)
    assert not Device("cpu").half and Device("cpu").forms == "cpu"
