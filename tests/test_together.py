"""How many dreams of a gallery are made at the same time: no more than fit into the memory together."""
from types import SimpleNamespace

import pytest

from deepdream import Net
from deepdream.batch.together import at_once
from deepdream.engine import memory
from deepdream.engine.step import Step
from deepdream.goals.objectives import objective_L2
from deepdream.options import Settings

SIZE = (600, 800)


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu")


def dreams(net, *ends, model="a"):
    return [SimpleNamespace(model=model, net=net, end=end, settings=Settings(end=(end,))) for end in ends]


def test_only_as_many_as_fit(net, monkeypatch):
    todo = dreams(net, "conv1", "both", "conv1")
    one = memory.needed(net, Step(objective_L2.at("both")), SIZE)
    assert one > memory.PROCESS
    for factor, expected in ((0.5, 1), (1.5, 1), (2.5, 2), (3.5, 3), (99, 3)):
        monkeypatch.setenv("DEEPDREAM_MEMORY_GB", str(factor * one / 1e9))
        n, needed = at_once(todo, SIZE, 3)
        assert n == expected and needed == pytest.approx(n * one), factor
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", "0.001")
    assert at_once(todo, SIZE, 1)[0] == 1 and at_once([], SIZE, 4)[0] == 4


def test_the_largest_ones_count(net, monkeypatch):
    """Dreams of two nets, of which one works in small tiles: the others decide."""
    small, large = dreams(net, "both", "both"), dreams(net, "both", "both", model="b")
    for dream in small:
        dream.settings = dream.settings.replace(tile=128)
    one = memory.needed(net, Step(objective_L2.at("both")), SIZE)
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", str(2.1 * one / 1e9))
    assert at_once(small + large, SIZE, 2)[0] == 2
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", str(1.9 * one / 1e9))
    assert at_once(large + small, SIZE, 2)[0] == 1
