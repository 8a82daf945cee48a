"""Which sessions are created, for which sizes, which are used again, and in which order they run their nodes."""
import json
from pathlib import Path

import numpy as np
import pytest
import toys

from deepdream import Net, deepdream, make_step, objective_L2
from deepdream.engine.session import Session
from deepdream.engine.step import Step
from deepdream.engine.steppers import Stepper
from deepdream.options import Settings
from deepdream.runtime.device import Device
from deepdream.zoom import Motion, zoom, zoomed

IMAGE = np.float32(np.random.default_rng(0).uniform(40, 200, (28, 37, 3)))


@pytest.fixture
def net(toy):
    return Net(toy, device="cpu")


@pytest.fixture
def made(monkeypatch):
    """The sizes of the sessions that were created, in order."""
    sizes, init = [], Session.__init__

    def noted(self, session, device, size=None):
        sizes.append(size)
        init(self, session, device, size)
    monkeypatch.setattr(Session, "__init__", noted)
    return sizes


def put(net, h=28, w=37, seed=0):
    data = net.blobs["data"]
    data.reshape(1, 3, h, w)
    data.data[...] = toys.noise(1, 3, h, w, seed=seed) * 50


def test_single_steps_get_a_session_of_their_size_after_a_few(net, made):
    net.device.much_work = 28 * 37 * 3
    results = []
    for i in range(5):
        put(net)
        make_step(net, end="both", jitter=0)
        results.append(net.blobs["data"].data.copy())
    assert made == [None, (28, 37)] and all(np.array_equal(r, results[0]) for r in results)
    put(net, 30, 31)
    make_step(net, end="both", jitter=0)
    assert made == [None, (28, 37), None]


def test_forward_and_backward_do_so_too(net, made):
    net.device.much_work = 28 * 37 * 3
    results = []
    for i in range(4):
        put(net)
        net.forward(end="both")
        net.blobs["both"].diff[...] = net.blobs["both"].data
        net.backward(start="both")
        results.append(net.blobs["data"].diff.copy())
    assert made == [None, None, (28, 37), (28, 37)] and results[0].any()
    assert all(np.array_equal(r, results[0]) for r in results)
    net.blobs["data"].reshape(2, 3, 28, 37)      # a batch needs a session for any size
    net.blobs["data"].data[...] = toys.noise(2, 3, 28, 37)
    net.forward(end="both")
    assert made[4:] == [None] and net.blobs["both"].data.shape[0] == 2


def test_a_step_after_a_dream_uses_its_session(net, made):
    net.device.much_work = 28 * 37 * 3
    deepdream(net, IMAGE, octave_n=1, iter_n=3, end="both", seed=0)
    put(net)
    make_step(net, end="both")
    assert made == [(28, 37)]


def test_a_zoom_creates_its_sessions_once(net, made, tmp_path):
    """The large octaves have sessions of their sizes, which serve all frames. Afterwards none of them is kept."""
    net.device.much_work = 20 * 26 * 3
    settings = Settings(end=("both",), octave_n=3, iter_n=3, jitter=2, seed=5)
    zoom(net, IMAGE, tmp_path, 3, settings)
    assert made == [None, (20, 26), (28, 37)] and not net.programs.sessions
    frames = sorted(tmp_path.glob("*.jpg"))
    assert len(frames) == 3

    expected = IMAGE
    for i in range(2):
        expected = deepdream(net, expected, octave_n=3, iter_n=3, jitter=2, end="both", objective=objective_L2,
                             rng=np.random.RandomState([5, i]))
        expected = zoomed(expected, Motion().scale)
    again = tmp_path / "again"
    again.mkdir()
    zoom(net, IMAGE, again, 2, settings)
    with np.load(again / "zoom.npz") as state:
        assert np.array_equal(state["frame"], expected)


def test_memory_of_a_run_is_freed_after_the_last_step(net):
    """The step after which a session frees its memory gives the same result as any other."""
    step = Step(objective_L2.at("both"))
    session, pictures = net.programs.session(net.programs.step(step), (28, 37), 10 ** 6), []
    for last in (None, 1, 3):
        stepper = Stepper(session, step, toys.noise(1, 3, 28, 37) * 50, last)
        for _ in range(4):
            stepper.step(1, 2, 1.5)
        pictures.append(stepper.picture())
    assert np.array_equal(pictures[0], pictures[1]) and np.array_equal(pictures[0], pictures[2])


def executed(graph, folder):
    """Run a step graph for 64 x 64 pixels once, and return the names of its nodes in the order of their execution."""
    import onnxruntime
    options = Device.options(1, (64, 64))
    options.enable_profiling, options.profile_file_prefix = True, str(folder / "profile")
    session = onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    session.run(None, {"picture": toys.noise(1, 3, 64, 64) * 50, "rows": np.arange(64), "columns": np.arange(64),
                       "step_size": np.float32([1.5]).reshape(())})
    events = json.loads(Path(session.end_profiling()).read_text())
    events = sorted((e for e in events if e["name"].endswith("_kernel_time")), key=lambda e: e["ts"])
    return [e["name"].removesuffix("_kernel_time") for e in events]


@pytest.mark.parametrize("end", ["inception_3b/output", "inception_4c/output"])
def test_masks_are_computed_in_the_backward_pass(end, tmp_path):
    """In the forward pass they would wait in memory for the backward pass, 160 bytes a pixel of the picture."""
    net = Net("mini_imagenet", device="cpu")
    order = executed(net.programs.graph(net.programs.step(Step(objective_L2.at(end)))), tmp_path)
    if not any(name.endswith("_nchwc") for name in order):
        pytest.skip("onnxruntime has no blocked layout on this processor, and orders the nodes in another way")
    objective = order.index("reducesumsquare")
    forward = [i for i, name in enumerate(order) if "/" in name]      # the net's own names
    backward = [i for i, name in enumerate(order) if name.startswith(("conv_", "maxpool_"))]
    assert len(forward) > 20 and len(backward) > 40 and max(forward) < objective < min(backward)
