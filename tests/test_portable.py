"""Gradient and step graphs give the same results in other runtimes: ONNX's reference evaluator and OpenVINO."""
import json
import sys

import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.graph import Graph, attributes, float_info
from deepdream.convert.graph.portable import write_unambiguous_pads
from deepdream.convert.fast.taps import positive
from onnx import helper
from onnx.reference import ReferenceEvaluator
from toys import concat, conv, lrn, net, off, pool, product, relu, softmax

from deepdream import convert
from deepdream.engine.graphs import step_graph
from deepdream.engine.step import Step
from deepdream.goals.objectives import objective_L2

SAME = 1e-5      # relative L2 error, since sums are computed in another order
SMALL = dict(shape=(1, 3, 13, 15))
FIRST = conv("a", "data", 16, 3, pad=1) + relu("a")
NETS = {
    "LRN and strided maxima": net(FIRST, lrn("n", "a"), pool("y", "n"), **SMALL),
    "maxima in place": net(FIRST, pool("y", "a", s=1, pad=1), **SMALL),
    "maxima in place, of a part of the picture": net(FIRST, pool("y", "a", k=5, s=1, pad=1), **SMALL),
    "maxima of what may be negative": net(conv("a", "data", 8, 3, pad=1), pool("p", "a"), pool("y", "p", s=1, pad=1),
                                          **SMALL),
    "maxima in parts": net(conv("a", "data", 16, 7, stride=2, pad=3), relu("a"), pool("p", "a"), lrn("n", "p"),
                           conv("y", "n", 8), shape=(1, 3, 29, 31)),
    "averages": net(FIRST, pool("p", "a", "AVE"), pool("y", "p", "AVE", 3, 1, pad=1), **SMALL),
    "joined": toys.TOY,
    "inception": net(FIRST, conv("b", "a", 5), pool("p", "a", s=1, pad=1), conv("c", "p", 3), concat("j", "b", "c"),
                     pool("y", "j"), **SMALL),
    "groups and dilations": net(conv("a", "data", 6, 3, pad=2, dilation=2), relu("a"),
                                conv("y", "a", 8, 5, pad=2, stride=2, group=2), **SMALL),
    "a classifier": net(FIRST, pool("p", "a", "AVE", 13, 1), product("f", "p", 5), softmax("y", "f"),
                        shape=(1, 3, 13, 13)),
}


@pytest.fixture(scope="module")
def openvino():
    """Return a function (graph, feeds, outputs) -> [arrays] that runs a graph in OpenVINO."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "openvino_telemetry", None)      # else it would report its use over the network
        core = pytest.importorskip("openvino", reason="needs the package openvino").Core()

    def run(graph, feeds, outputs):
        compiled = core.compile_model(core.read_model(graph.SerializeToString()), "CPU",
                                      {"INFERENCE_PRECISION_HINT": "f32"})
        found = compiled([next(v for k, v in feeds.items() if k in i.names) for i in compiled.inputs])
        return [np.asarray(found[name]) for name in outputs]
    return run


def reference(graph, feeds, outputs):
    with np.errstate(over="ignore"):      # in HardSigmoid, which then clips to 1
        return ReferenceEvaluator(graph).run(outputs, feeds)


def gradient(text):
    """Return (gradient graph of the last end, feeds)."""
    model = toys.convert(text)
    end = list(convert.valid_ends(model))[-1]
    data = 5 * toys.noise(*json.loads({p.key: p.value for p in model.metadata_props}["data_shape"]))
    diff = toys.noise(*toys.run(model, data, [end])[0].shape, seed=3)
    return convert.gradient_graph(model, end), {"data": data, "end_diff": diff}


def step(end="both"):
    """Return (a step graph, feeds)."""
    objective, (h, w) = objective_L2.at(end), (33, 40)
    graph = step_graph(convert.gradient_graph(toys.convert(toys.TOY), end), Step(objective),
                       np.float32([104, 116, 122]).reshape(3, 1, 1))
    return graph, {"picture": 40 * toys.noise(1, 3, h, w), "step_size": np.array(1.5, np.float32),
                   "rows": np.roll(np.arange(h), 3), "columns": np.roll(np.arange(w), 5), **objective.feeds()}


def agree(run, graph, feeds):
    outputs = [o.name for o in graph.graph.output]
    for name, mine, theirs in zip(outputs, run(graph, feeds, outputs), toys.run(graph, feeds, outputs)):
        assert np.linalg.norm(theirs) > 0 and off(mine.reshape(theirs.shape), theirs) < SAME, name


@pytest.mark.parametrize("name", NETS)
def test_gradients_in_onnxs_reference_evaluator(name):
    agree(reference, *gradient(NETS[name]))


@pytest.mark.parametrize("name", NETS)
def test_gradients_in_openvino(openvino, name):
    agree(openvino, *gradient(NETS[name]))


def test_a_step_in_onnxs_reference_evaluator():
    agree(reference, *step())


def test_a_step_in_openvino(openvino):
    agree(openvino, *step())


def test_every_convolution_has_all_its_attributes():
    everything = {"dilations", "group", "kernel_shape", "pads", "strides"}
    for text in NETS.values():
        model = toys.convert(text)
        for graph in (model, convert.gradient_graph(model, list(convert.valid_ends(model))[-1])):
            found = [set(attributes(n)) for n in graph.graph.node if n.op_type == "Conv"]
            assert found and all(f == everything for f in found)


def test_a_convolution_of_another_exporter_gets_its_attributes():
    """Its weights come from a Constant node, and its padding is given by `auto_pad`."""
    nodes = [helper.make_node("Constant", [], ["w"], value=onnx.numpy_helper.from_array(toys.noise(4, 3, 3, 2))),
             helper.make_node("Conv", ["x", "w"], ["a"]), helper.make_node("Conv", ["x", "w"], ["b"], auto_pad="VALID"),
             helper.make_node("Add", ["a", "b"], ["y"])]
    graph = helper.make_graph(nodes, "net", [float_info("x", ["N", 3, "H", "W"])], [float_info("y", None)])
    made = convert.gradient_graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8),
                                  "y")
    onnx.checker.check_model(made, full_check=True)
    plain, valid, *_ = (attributes(n) for n in made.graph.node if n.op_type == "Conv")
    rest = {"kernel_shape": [3, 2], "strides": [1, 1], "dilations": [1, 1], "group": 1}
    assert plain == {**rest, "pads": [0] * 4} and valid == {**rest, "auto_pad": b"VALID"}


@pytest.mark.parametrize("kernel, pads", [((1, 3), (0, 1, 0, 1)), ((1, 2), (0, 0, 0, 1)), ((1, 4), (0, 2, 0, 1)),
                                          ((1, 5), (0, 1, 0, 1)), ((3, 1), (0, 0, 2, 0)), ((2, 2), (0, 0, 1, 1)),
                                          ((3, 3), (1, 1, 1, 1))])
def test_pads_of_poolings(kernel, pads):
    graph = helper.make_graph([helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=kernel, pads=pads)], "pool",
                              [float_info("x", [1, 2, 6, 7])], [float_info("y", [None] * 4)])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    feeds = {"x": toys.noise(1, 2, 6, 7)}
    before = toys.run(model, feeds)[0]
    write_unambiguous_pads(model.graph.node[0])
    onnx.checker.check_model(model, full_check=True)
    for run in (reference, lambda model, feeds, outputs: toys.run(model, feeds)):
        np.testing.assert_array_equal(run(model, feeds, ["y"])[0], before)


def test_comparing_with_0():
    """`positive` is exactly 1 for all numbers above 4e-39, and its `beta` is not 0."""
    g = Graph(reserved=["x", "y"])
    g.rename(positive(g.tensor("x")), "y")
    model = g.model("mask", [float_info("x", [None])], [float_info("y", [None])])
    assert attributes(model.graph.node[0])["beta"] != 0
    x = np.float32([0, 1e-38, 1e-30, 1e-3, 1, 3e38])
    np.testing.assert_array_equal(toys.run(model, {"x": x})[0], x > 0)
    below = np.float32([1e-45, 1e-42, 3e-39])      # 3e38 x is less than 1, as it would be without a beta
    np.testing.assert_array_equal(toys.run(model, {"x": below})[0], np.minimum(1, below * np.float32(3e38)))
