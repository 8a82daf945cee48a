"""Objectives: the nodes and the NumPy function of each, compared with a formula; sums of them at several layers."""
from types import SimpleNamespace

import numpy as np
import pytest
import toys
from deepdream.convert.graph import Graph, float_info

from deepdream import (
    DreamError,
    Net,
    Objective,
    convert,
    deepdream,
    make_step,
    objective_channel,
    objective_class,
    objective_guide,
    objective_L2,
    objective_match,
    objective_neuron,
)
from deepdream.engine.step import Step
from deepdream.goals import objectives
from deepdream.goals.objectives import as_objective

X = toys.noise(1, 5, 3, 4)
FLAT = toys.noise(1, 5)
Y, OTHER = toys.noise(5, 2, 3, seed=2), toys.noise(5, 3, 4, seed=3)

CASES = {   # name: (objective, x, what it maximizes, in NumPy and float64)
    "L2": (objective_L2, X, lambda x: 0.5 * (x ** 2).sum()),
    "L2 of a vector": (objective_L2, FLAT, lambda x: 0.5 * (x ** 2).sum()),
    "channels": (objective_channel([3, 1]), X, lambda x: 0.5 * (x[:, [1, 3]] ** 2).sum()),
    "channels of a vector": (objective_channel(2), FLAT, lambda x: 0.5 * x[0, 2] ** 2),
    "neuron": (objective_neuron(2), X, lambda x: x[0, 2, 1, 2]),
    "neuron at a place": (objective_neuron(4, x=0, y=1), X, lambda x: x[0, 4, 2, 0]),
    "neuron of a vector": (objective_neuron(4), FLAT, lambda x: x[0, 4]),
    "class": (objective_class(3), FLAT, lambda x: x[0, 3]),
    "class of a map": (objective_class(3), X, lambda x: x[0, 3].mean()),
    "match": (objective_match(OTHER), X, lambda x: -((x - OTHER) ** 2).sum()),
    "guide": (objective_guide(Y), X, lambda x: (x.reshape(5, -1).T @ Y.reshape(5, -1)).max(1).sum()),
    "sum": (2 * objective_L2 - objective_class(1) * 0.5, X, lambda x: (x ** 2).sum() - 0.5 * x[0, 1].mean()),
}


def in_graph(objective, x):
    """Compute (value, diff) by the nodes of the objective's terms."""
    value, total = 0.0, np.zeros_like(x)
    for weight, term in objective.terms:
        g = Graph()
        tensors = {k: g.tensor(k) for k in term.inputs}
        term_value, diff = term.nodes(g, g.tensor("x"), tensors)
        diff = g.op("Identity", diff)
        inputs = [float_info("x", x.shape)]
        for k, v in term.inputs.items():
            info = float_info(k, v.shape)
            info.type.tensor_type.elem_type = {"f": 1, "i": 7}[v.dtype.kind]
            inputs.append(info)
        model = g.model("o", inputs, [float_info(term_value.name, []), float_info(diff.name, None)])
        term_value, diff = toys.run(model, {"x": x, **term.inputs})
        value += weight * term_value
        total += np.float32(weight) * diff
    return value, total


@pytest.mark.parametrize("name", CASES)
def test_an_objective_is_its_formula(name):
    objective, x, formula = CASES[name]
    dst = SimpleNamespace(data=x, diff=np.full_like(x, 7))
    value = objective(dst)
    graph_value, diff = in_graph(objective, x)
    np.testing.assert_allclose(value, formula(np.float64(x)), rtol=1e-6)
    np.testing.assert_allclose(graph_value, value, rtol=1e-5)
    np.testing.assert_allclose(diff, dst.diff, rtol=1e-6, atol=1e-7)
    toys.check_gradient(formula, np.float64(x), 1.0, diff, tolerance=1e-4)


def test_every_objective_has_a_case():
    kinds = {k for k, v in vars(objectives).items() if isinstance(v, type) and issubclass(v, Objective)}
    assert kinds - {"Objective", "Function"} == {type(objective).__name__ for objective, _, _ in CASES.values()}


def test_the_algebra():
    total = sum([objective_L2.at("a"), 0.3 * objective_L2, -objective_class(3).at("b")])
    assert [(w, t.end) for w, t in total.terms] == [(1, "a"), (0.3, None), (-1, "b")]
    assert [(w, t.end) for w, t in (2 * (total * 3)).terms] == [(6, "a"), (0.3 * 3 * 2, None), (-6, "b")]
    assert objective_L2.end is None and total.bound("c").ends == ["a", "c", "b"]
    assert "1/2 sum(x^2) at a" in repr(total)
    with pytest.raises(TypeError):
        objective_L2 + 1
    with pytest.raises(TypeError):
        objective_L2 * objective_L2


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu")


def data_gradient(net, objective, end, data):
    step = Step(as_objective(objective, end))
    run = net.programs.session(net.programs.objective(step))
    return run.run(["objective", "data_diff"], {"data": data, **step.objective.feeds()})


def test_several_ends_in_one_graph(net):
    """The gradient of a sum is the sum of the gradients of separate graphs."""
    data = toys.noise(1, 3, 33, 38) * 50
    weights = {"both": 1.0, "conv1": 0.25, "pool2": -2.0, "data": 0.5, "left": 0.5}
    value, gradient = data_gradient(net, sum(w * objective_L2.at(e) for e, w in weights.items()), None, data)
    expected = weights["data"] * data
    total = weights.pop("data") * 0.5 * (data ** 2).sum()
    for end, weight in weights.items():
        end_value, end_gradient = data_gradient(net, objective_L2, end, data)
        total, expected = total + weight * end_value, expected + weight * end_gradient
    assert toys.off(gradient, expected) < 1e-5
    np.testing.assert_allclose(value, total, rtol=1e-5)


def test_the_gradient_graph_of_several_ends(toy):
    model = convert.to_onnx(toy / "deploy.prototxt", toy / "net.caffemodel")
    ends = ["left", "pool2"]
    graph = convert.gradient_graph(model, ends)
    names = convert.end_tensors(ends)
    assert [i.name for i in graph.graph.input] == ["data", *(diff for _, diff in names.values())]
    assert [o.name for o in graph.graph.output] == [*(value for value, _ in names.values()), "data_diff"]
    data, run = toys.noise(1, 3, 21, 26), toys.session(graph)
    values = [convert.gradient_graph(model, e) for e in ends]
    forward = toys.run(toys.ending_at(model, *ends), data)
    diffs = [toys.noise(*v.shape, seed=i) for i, v in enumerate(forward)]
    *end_values, both = run.run(None, {"data": data, **{names[e][1]: d for e, d in zip(ends, diffs)}})
    alone = [toys.run(g, {"data": data, "end_diff": d}) for g, d in zip(values, diffs)]
    for value, (single, _) in zip(end_values, alone):
        np.testing.assert_allclose(value, single, rtol=1e-5, atol=1e-6)
    assert toys.off(both, alone[0][1] + alone[1][1]) < 1e-6


def test_weights_change_without_a_new_graph(net):
    before = len(net.programs.sessions)
    image = np.full((40, 40, 3), 100, np.float32) + np.abs(toys.noise(40, 40, 3)) * 20
    dreams = []
    for weight in (0.1, 30.0):
        np.random.seed(0)
        objective = objective_L2 + weight * objective_L2.at("conv1")
        dreams.append(deepdream(net, image, 2, 1, end="both", objective=objective))
    assert toys.off(dreams[0] - image, dreams[1] - image) > 1e-2
    assert len(net.programs.sessions) <= before + 1


@pytest.mark.parametrize("objective, message", [
    (objective_channel([2, 10]), "'both' has no channel 10; allowed are 0 to 9"),
    (objective_channel([]), "allowed are 0 to 9"),
    (objective_neuron(-1), "'both' has no channel -1"),
    (objective_class(99), "'both' has no channel 99"),
    (objective_L2 + objective_L2.at("lift"), "did you mean.*left|'lift'"),
    (objective_guide(Y), "the guide's features have 5 channels, 'both' has 10"),
])
def test_channels_and_layers_that_the_net_does_not_have(net, objective, message):
    image = np.zeros((40, 40, 3), np.float32)
    net.blobs["data"].reshape(1, 3, 40, 40)
    for call in (lambda: deepdream(net, image, end="both", objective=objective),
                 lambda: make_step(net, end="both", objective=objective)):
        with pytest.raises((DreamError, convert.ConvertError), match=message):
            call()


def test_a_neuron_outside_the_picture():
    with pytest.raises(DreamError, match="2,0.5"):
        objective_neuron(1, x=2)


def test_a_sum_in_python_and_in_the_graph_agree(net):
    image = np.abs(toys.noise(40, 44, 3)) * 60
    objective, dreams = objective_L2 + 3 * objective_channel([1, 4]), []
    for what in (objective, lambda dst: objective(dst)):
        np.random.seed(0)
        dreams.append(deepdream(net, image, 2, 2, end="both", objective=what))
    assert toys.off(dreams[0] - image, dreams[1] - image) < 1e-4


def test_a_net_that_uses_the_names_of_the_step_graph(tmp_path):
    """Blobs may have any names."""
    text = toys.net(toys.conv("picture", "data", 4, 3, pad=1), toys.relu("picture"), toys.conv("rows", "picture", 4, 3),
                    toys.relu("rows"), toys.conv("objective", "rows", 4, 1), toys.conv("step_size", "objective", 3, 1))
    other = text
    for name in ("picture", "rows", "objective", "step_size"):
        other = other.replace(f'"{name}"', f'"my_{name}"')
    image, dreams = np.abs(toys.noise(20, 24, 3)) * 60, []
    weights = toys.weights(text, toys.formula)
    for folder, words, end in (("a", text, "step_size"), ("b", other, "my_step_size")):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "deploy.prototxt").write_text(words)
        blobs = weights if folder == "a" else {f"my_{k}": v for k, v in weights.items()}
        (tmp_path / folder / "net.caffemodel").write_bytes(toys.caffemodel(blobs))
        np.random.seed(0)
        dreams.append(deepdream(Net(tmp_path / folder, device="cpu"), image, 2, 1, end=end))
    np.testing.assert_array_equal(*dreams)


def test_arrays_passed_to_an_objective_are_copied():
    features = np.ones((5, 2, 3), np.float32)
    for kind in (objective_guide, objective_match):
        objective = kind(features)
        features[...] = 7
        assert (list(objective.inputs.values())[0] == 1).all()
        features[...] = 1


class Power(Objective):
    """The sum of the absolute values, to a power."""
    formula = "sum(|x|^power)"

    def __init__(self, power):
        super().__init__(power=power)

    def nodes(self, g, x, inputs):
        value = g.op("Pow", g.op("Abs", x) + 1e-3, inputs["power"])
        return g.op("ReduceSum", value, keepdims=0), g.op("Sign", x) * inputs["power"] * value


def test_graphs_of_a_custom_objective(net, monkeypatch):
    """One that is put at its layer has one graph; any other one is asked for its nodes in each step: it may change."""
    built = []
    monkeypatch.setattr(Power, "nodes", lambda *args, nodes=Power.nodes: built.append(1) or nodes(*args))
    power = Power(1.5)      # Python's number, which NumPy calls float64
    for objective, graphs in ((power.at("both"), 1), (power.at("both") + 0.5 * Power(2.0).at("left"), 2), (power, 3)):
        net.blobs["data"].reshape(1, 3, 33, 41)
        net.blobs["data"].data[...] = toys.noise(1, 3, 33, 41) * 10
        built.clear()
        for _ in range(3):
            make_step(net, end="both", objective=objective)
        assert len(built) == graphs
