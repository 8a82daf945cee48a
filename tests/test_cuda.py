"""The same answers on a GPU. Sums are computed in another order there, so the bounds are ten times those of the CPU."""
import json
from pathlib import Path

import numpy as np
import onnxruntime as ort
import pytest
import toys
from caffe_answers import DATA, GRADIENTS, REAL_DREAMS, SYNTHETIC_DREAMS, check_lockstep, gradient_ends, load

from deepdream import (
    Net,
    convert,
    deepdream,
    objective_channel,
    objective_class,
    objective_guide,
    objective_L2,
    objective_neuron,
)
from deepdream.engine.session import Session
from deepdream.engine.step import Step
from deepdream.engine.steppers import Stepper
from deepdream.goals.priors import Blur, Grey, Laplacian, Luminance, TotalVariation
from deepdream.runtime.device import Device, cuda_problem, cuda_providers

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(cuda_problem() is not None, reason=f"needs CUDA: {cuda_problem()}")]


def gradients(folder, weights, file):
    model = convert.to_onnx(folder / "deploy.prototxt", folder / weights)
    answers = load(file)
    for end in gradient_ends(file):
        run = Device("cuda").session(convert.gradient_graph(model, end).SerializeToString())
        feeds = {"data": answers["data"], "end_diff": np.zeros(answers[f"dst_shape/{end}"], np.float32)}
        feeds["end_diff"] = run.run(["end_data"], feeds)[0]
        value, diff = run.run(["end_data", "data_diff"], feeds)
        assert toys.off(value.ravel()[answers[f"dst_index/{end}"]], answers[f"dst_value/{end}"]) < 1e-4, end
        assert toys.off(diff, answers[f"grad/{end}"]) < 1e-4, end


def test_gradients_are_caffes(googlenet):
    gradients(googlenet, "net.caffemodel", GRADIENTS)


def test_gradients_of_the_real_net_are_caffes(shared):
    gradients(shared / "models" / "bvlc_googlenet", "bvlc_googlenet.caffemodel",
              shared / "oracle" / "gradients_bvlc_googlenet.npz")


@pytest.fixture(scope="module")
def dreamer(googlenet):
    return Net(googlenet, device="cuda")


@pytest.mark.parametrize("kind", ["graph", "python"])
@pytest.mark.parametrize("name", SYNTHETIC_DREAMS)
def test_in_lockstep_with_caffe(dreamer, name, kind):
    check_lockstep(dreamer, load(DATA / f"{name}.npz"), kind, median=1e-5)


@pytest.mark.parametrize("name", REAL_DREAMS)
def test_the_real_net_in_lockstep_with_caffe(shared, name):
    net = Net(shared / "models" / "bvlc_googlenet", device="cuda")
    check_lockstep(net, load(shared / "oracle" / f"{name}.npz"), "graph", median=1e-5)


ALL_PRIORS = (TotalVariation(0.1), Grey(0.1), Laplacian(2), Luminance(), Blur(0.5))
KINDS = {   # objectives (made from the features of a guide) and priors, which a step graph may hold
    "L2": (lambda features: objective_L2, ()),
    "guide": (objective_guide, ()),
    "several": (lambda features: objective_L2 + 0.5 * objective_channel([1, 3]).at("inception_3a/output")
                + objective_neuron(2) + objective_class(4) + objective_L2.at("data"), ()),
    "priors": (lambda features: objective_L2, ALL_PRIORS),
}


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["inception_3b/5x5_reduce", "inception_4c/output"])
@pytest.mark.parametrize("size", [None, (91, 120)])
def test_a_step_stays_on_the_gpu(dreamer, end, kind, size, tmp_path):
    """onnxruntime's profile shows no copy to or from the host, and only sizes are computed there.

    In a session of one size nothing is, except sizes of the blurred pictures of priors.
    """
    picture = toys.noise(1, 3, 91, 120) * 50
    make, priors = KINDS[kind]
    objective = make(dreamer.features(np.full((60, 70, 3), 99.0), end))
    options = dreamer.device.options(size=size)
    options.enable_profiling, options.profile_file_prefix = True, str(tmp_path / "profile")
    whole = Step(objective.at(end), priors=priors)
    run = ort.InferenceSession(dreamer.programs.graph(dreamer.programs.step(whole)), options,
                               providers=[*cuda_providers(0), "CPUExecutionProvider"])
    stepper = Stepper(Session(run, dreamer.device, size), whole, picture)
    stepper.step(3, -2, 1.5)
    events = [e["args"] for e in json.loads(Path(run.end_profiling()).read_text())
              if e.get("cat") == "Node" and "provider" in e.get("args", {})]
    assert sum(e["provider"] == "CUDAExecutionProvider" for e in events) > 50
    assert not [e["op_name"] for e in events if e["op_name"].startswith("Memcpy")]
    on_host = [e for e in events if e["provider"] == "CPUExecutionProvider"]
    assert not [e["op_name"] for e in on_host if size and kind != "priors"
                or any("float" in t for t in e.get("output_type_shape", []))]


@pytest.mark.parametrize("options", [{"enable_cuda_graph": 1}, {"prefer_nhwc": 1}])
def test_other_options_of_the_provider_dream_the_same(googlenet, options):
    """Compare single steps from the same pictures. One size comes back after another one, with its captured graph."""
    plain, other = Net(googlenet, device="cuda"), Net(googlenet, device=Device("cuda", cuda=options))
    for h, w, seed in ((91, 120, 0), (64, 100, 1), (91, 120, 2)):
        picture = toys.noise(1, 3, h, w, seed=seed) * 50
        for step in range(4):
            stepped = []
            for net in (plain, other):
                whole = Step(objective_L2.at("inception_4c/output"))
                stepper = Stepper(net.programs.session(net.programs.step(whole), (h, w)), whole, picture)
                results = [stepper.step(3 * step, -2, 1.5), stepper.step(-5, step, 1.5)]
                stepped.append(stepper.picture())
            assert toys.off(stepped[1] - picture, stepped[0] - picture) < 1e-2 and results[0][0] != results[1][0]
            picture = stepped[0]


@pytest.mark.parametrize("kind", [True, "half"])
@pytest.mark.parametrize("end", ["inception_3a/output", "inception_4c/output"])
def test_fast_is_near(googlenet, end, kind):
    """TF32 and half precision round, but the poolings must pass the gradient on to nearly the same maxima."""
    data, gradients = toys.noise(1, 3, 120, 160) * 50, []
    for fast in (False, kind):
        net = Net(googlenet, device="cuda", fast=fast)
        session = net.programs.session(net.programs.objective(Step(objective_L2.at(end))))
        gradients.append(session.run(["data_diff"], {"data": data})[0].ravel())
    cosine = np.dot(*gradients) / np.linalg.norm(gradients[0]) / np.linalg.norm(gradients[1])
    assert cosine > 0.99


def test_a_dream_is_repeated_exactly(googlenet):
    """The additions of the gradients of poolings do not depend on the order in which the GPU makes them."""
    image, net = np.float32(np.random.default_rng(0).uniform(40, 200, (120, 160, 3))), Net(googlenet, device="cuda")
    dreams = [deepdream(net, image, iter_n=3, octave_n=2, seed=1) for _ in range(2)]
    assert np.array_equal(*dreams) and np.abs(dreams[0] - image).mean() > 1


def test_equal_maxima_go_to_the_first_one():
    """On a flat picture all maxima are equal: the gradient must reach the pixels that it reaches on the CPU."""
    text = toys.net(toys.conv("a", "data", 4, 1), toys.relu("a"), toys.pool("p", "a"), toys.pool("y", "p", s=1, pad=1),
                    shape=(1, 3, 23, 31))
    model = toys.convert(text)
    for device in ("cpu", "cuda"):
        graph = convert.gradient_graph(model, "y", device=device)
        feeds = {"data": np.ones((1, 3, 23, 31), np.float32), "end_diff": toys.noise(1, 4, 11, 15)}
        expected = toys.run(graph, feeds)[1]
        assert expected.any()
        found = Device("cuda").session(graph.SerializeToString()).run(["data_diff"], feeds)[0]
        assert toys.off(found, expected) < 1e-5


def test_a_short_dream_is_that_of_the_cpu(toy):
    """It is so short that rounding errors cannot grow by moving maxima."""
    image = np.float32(np.random.default_rng(0).uniform(40, 200, (28, 37, 3)))
    dreams = []
    for device in ("cpu", "cuda"):
        np.random.seed(1)
        dreams.append(deepdream(Net(toy, device=device), image, iter_n=2, octave_n=2, end="both", jitter=3) - image)
    assert toys.off(*dreams) < 1e-2
