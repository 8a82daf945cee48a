"""The script for a machine with a GPU runs, tried out on the CPU; so does the model of what a step costs."""
import json

import children
import numpy as np
import pytest
import toys
from cost_model import graph_costs, summary
from gpu_day import PARTS, attempt

from deepdream import convert
from deepdream.engine.graphs import step_graph
from deepdream.engine.step import Step
from deepdream.goals.objectives import objective_L2

SCRIPT = children.ROOT / "tests" / "gpu_day.py"


def day(file, *options):
    return children.run(SCRIPT, "--device", "cpu", "--short", "--json", file, *options)


@pytest.mark.slow
def test_parts_run_and_are_saved(tmp_path):
    file = tmp_path / "day.json"
    assert day(file, "--only", "machine", "distances", "batch").returncode == 0
    report = json.loads(file.read_text())
    assert list(report) == ["machine", "distances", "batch"] and report["machine"]["device"] == "cpu"
    assert report["distances"]["plain at inception_4c/output"] == {"distance": 0.0, "cosine": pytest.approx(1)}
    assert 0 < report["batch"]["1"] and 0 < report["batch"]["2"]
    again = day(file, "--minutes", "0")      # finished parts stay as they are, and there is no time for the others
    assert again.returncode == 1 and "batch" not in again.stdout
    rest = json.loads(file.read_text())
    assert rest["batch"] == report["batch"] and set(rest) == set(PARTS)
    assert rest["benchmark"]["error"] == rest["tests"]["error"] == "no time was left"


def test_an_error_is_a_finding():
    assert attempt(lambda: 1 / 0) == {"error": "ZeroDivisionError: division by zero"}


NET = toys.net(toys.conv("a", "data", 16, 3, pad=1), toys.relu("a"), toys.pool("p", "a"), toys.conv("y", "p", 8),
               shape=(1, 3, 16, 16))


def costs(h, w, device):
    step = Step(objective_L2.at("y"))
    graph = step_graph(convert.gradient_graph(toys.convert(NET), "y", device=device), step, np.zeros((3, 1, 1)))
    return graph_costs(graph.SerializeToString(), h, w)


def test_costs_are_those_of_the_nodes():
    h, w = 32, 48
    found = {cost.name: cost for cost in costs(h, w, "cuda")}
    first, relu = found["a"], found["relu_a" if "relu_a" in found else next(k for k in found if "relu" in k)]
    assert first.flops == 2 * 16 * 27 * h * w
    assert first.bytes == 4 * (3 * h * w + 16 * h * w + 16 * 27 + 16) and first.launches == 1
    assert relu.bytes == 2 * 4 * 16 * h * w
    assert sum(cost.op == "ScatterND" for cost in found.values()) == 2
    figures = summary(list(found.values()))
    assert figures["launches"] >= len(found) and figures["milliseconds"] > 5e-3 * figures["launches"]


def test_forms_for_cuda_cost_less_there():
    figures = {device: summary(costs(256, 320, device)) for device in ("cpu", "cuda", "cuda-fast")}
    assert figures["cuda-fast"]["milliseconds"] < figures["cuda"]["milliseconds"] < figures["cpu"]["milliseconds"]
    assert any(op == "Conv (depthwise)" for op, _, _ in figures["cpu"]["operators"])
    assert not any(op == "Conv (depthwise)" for op, _, _ in figures["cuda"]["operators"])
