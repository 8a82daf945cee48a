"""deepdream(): compared step by step with Caffe's dreams, and with the notebook's loop for all of its options."""
import json
import weakref

import numpy as np
import pytest
import scipy.ndimage as nd
import toys
from caffe_answers import DATA, REAL_DREAMS, SYNTHETIC_DREAMS, check_lockstep, load, python_guide, python_L2

from deepdream import (
    DreamError,
    Net,
    Objective,
    deepdream,
    deprocess,
    make_step,
    objective_guide,
    objective_L2,
    preprocess,
    visible,
)
from deepdream.dream import octave_sizes
from deepdream.engine.steppers import Stepper
from deepdream.goals.priors import Blur, Laplacian, TotalVariation

@pytest.fixture(scope="session")
def dreamer(googlenet):
    return Net(googlenet, device="cpu")


@pytest.fixture(scope="session")
def real(shared):
    return Net(shared / "models" / "bvlc_googlenet", device="cpu")


@pytest.mark.parametrize("kind", ["graph", "python"])
@pytest.mark.parametrize("name", SYNTHETIC_DREAMS)
def test_in_lockstep_with_caffe(dreamer, name, kind):
    check_lockstep(dreamer, load(DATA / f"{name}.npz"), kind)


@pytest.mark.slow
@pytest.mark.parametrize("name, kind", [*((name, "graph") for name in REAL_DREAMS),
                                        *((name, "python") for name in REAL_DREAMS[2:])])
def test_the_real_net_in_lockstep_with_caffe(shared, real, name, kind):
    check_lockstep(real, load(shared / "oracle" / f"{name}.npz"), kind)


@pytest.mark.parametrize("name", SYNTHETIC_DREAMS)
def test_sessions_of_one_size_in_lockstep_with_caffe(dreamer, name, monkeypatch):
    monkeypatch.setattr(dreamer.device, "much_work", 0)
    check_lockstep(dreamer, load(DATA / f"{name}.npz"), "graph")


def bases(net, dream, monkeypatch):
    """Return the pictures that deepdream() starts its steps from, with steps that change nothing."""
    settings = json.loads(str(dream["settings"]))
    seen = []
    monkeypatch.setattr("deepdream.engine.steppers.HostStepper.step",
                        lambda self, *a: seen.append(self.picture()[0].copy()) or (None, 1.0))
    np.random.seed(settings["seed"])
    deepdream(net, dream["image"], settings.get("iter_n", 10), settings.get("octave_n", 4),
              settings.get("octave_scale", 1.4), settings["end"], objective=python_L2)
    return seen


@pytest.mark.parametrize("name", [*SYNTHETIC_DREAMS, *(pytest.param(n, marks=pytest.mark.shared) for n in REAL_DREAMS)])
def test_octaves_are_bit_equal(dreamer, request, name, monkeypatch):
    """If steps change nothing, each octave's picture is its base."""
    folder = DATA if name in SYNTHETIC_DREAMS else request.getfixturevalue("shared") / "oracle"
    dream = load(folder / f"{name}.npz")
    settings = json.loads(str(dream["settings"]))
    iter_n = settings.get("iter_n", 10)
    seen = bases(dreamer, dream, monkeypatch)
    for octave in range(settings.get("octave_n", 4)):
        np.testing.assert_array_equal(seen[octave * iter_n], dream[f"octave{octave}_base"])


def test_detail_is_carried_from_octave_to_octave(dreamer, monkeypatch):
    """If the steps give Caffe's pictures, each octave starts from Caffe's picture: base + zoomed detail."""
    dream = load(DATA / "dream_synthetic_l2.npz")
    steps = iter([dream[f"step{i:02}"] for i in range(10)])
    starts = []

    def caffes_step(stepper, *_):
        starts.append(stepper.picture()[0].copy())
        stepper.picture()[0] = next(steps)
        return None, 1.0
    monkeypatch.setattr("deepdream.engine.steppers.HostStepper.step", caffes_step)
    result = deepdream(dreamer, dream["image"], 5, 2, end="inception_4c/output", objective=python_L2)
    np.testing.assert_array_equal(starts[5], dream["octave1_base"] + dream["octave1_detail"])
    np.testing.assert_array_equal(result, dream["result"])


# ---- options, on the toy net

@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu", threads=1)


IMAGE = np.float32(np.random.default_rng(0).uniform(40, 200, (28, 37, 3)))
SMALL = dict(iter_n=2, octave_n=2, end="both", jitter=3)


def dream(net, seed=0, image=IMAGE, **options):
    np.random.seed(seed)
    return deepdream(net, image, **{**SMALL, **options})


def notebook(net, base_img, iter_n, octave_n, octave_scale, end, clip, step_size, jitter, seed, objective=python_L2):
    """The notebook's loop, on the net's forward and backward."""
    np.random.seed(seed)
    mean = np.float32([104, 116, 122]).reshape(3, 1, 1)
    octaves = [np.float32(np.rollaxis(base_img, 2)[::-1]) - mean]
    for _ in range(octave_n - 1):
        octaves.append(nd.zoom(octaves[-1], (1, 1.0 / octave_scale, 1.0 / octave_scale), order=1))
    src, detail = net.blobs["data"], np.zeros_like(octaves[-1])
    for octave, base in enumerate(octaves[::-1]):
        h, w = base.shape[-2:]
        if octave > 0:
            detail = nd.zoom(detail, (1, 1.0 * h / detail.shape[-2], 1.0 * w / detail.shape[-1]), order=1)
        src.reshape(1, 3, h, w)
        x = base + detail
        for _ in range(iter_n):
            ox, oy = np.random.randint(-jitter, jitter + 1, 2)
            src.data[0] = np.roll(np.roll(x, ox, -1), oy, -2)
            net.forward(end=end)
            objective(net.blobs[end])
            net.backward(start=end)
            g = src.diff[0]
            x = src.data[0] + step_size / np.abs(g).mean() * g
            x = np.roll(np.roll(x, -ox, -1), -oy, -2)
            if clip:
                x = np.clip(x, -mean, 255 - mean)
        detail = x - base
    return np.dstack((x + mean)[::-1])


@pytest.mark.parametrize("options", [
    {}, {"clip": False}, {"step_size": -3.0}, {"jitter": 0}, {"jitter": 50}, {"octave_n": 1, "iter_n": 5},
    {"octave_scale": 1.2, "octave_n": 3}, {"end": "conv1"}, {"end": "data", "step_size": 40.0}, {"end": "left"}])
@pytest.mark.parametrize("objective", [objective_L2, python_L2])
def test_a_dream_is_the_notebooks(net, options, objective):
    settings = {**SMALL, "octave_scale": 1.4, "clip": True, "step_size": 1.5, **options}
    expected = notebook(net, IMAGE, seed=7, **settings)
    mine = dream(net, 7, objective=objective, **options)
    assert mine.shape == IMAGE.shape and mine.dtype == np.float32
    assert toys.off(mine - IMAGE, expected - IMAGE) < 1e-3
    if settings["clip"]:
        assert mine.min() >= -1e-4 and mine.max() <= 255 + 1e-4


def test_defaults_are_the_notebooks():
    import inspect
    step, dreams = inspect.signature(make_step).parameters, inspect.signature(deepdream).parameters
    assert [(n, p.default) for n, p in step.items()][1:6] == [("step_size", 1.5), ("end", "inception_4c/output"),
                                                            ("jitter", 32), ("clip", True), ("objective", objective_L2)]
    assert [(n, p.default) for n, p in dreams.items()][2:7] == [("iter_n", 10), ("octave_n", 4), ("octave_scale", 1.4),
                                                              ("end", "inception_4c/output"), ("clip", True)]
    assert list(step)[0] == "net" and list(dreams)[:2] == ["net", "base_img"]


def test_the_seed_decides(net):
    one, again, other = dream(net, 1), dream(net, 1), dream(net, 2)
    np.testing.assert_array_equal(one, again)
    assert np.abs(one - other).max() > 1e-3
    np.random.seed(1)
    state = np.random.get_state()[1].copy()
    dream(net, 1)
    drawn = np.random.get_state()[2]
    np.random.seed(1)
    for _ in range(4):
        np.random.randint(-3, 4, 2)
    assert np.random.get_state()[2] == drawn and (state == np.random.RandomState(1).get_state()[1]).all()


def test_the_picture_passed_is_not_changed(net):
    image = IMAGE.copy()
    dream(net, image=image)
    np.testing.assert_array_equal(image, IMAGE)
    ints = np.uint8(IMAGE)
    np.testing.assert_array_equal(dream(net, image=ints), dream(net, image=np.float32(ints)))


def test_guide(net):
    guide = np.float32(np.random.default_rng(1).uniform(0, 255, (19, 44, 3)))
    features = net.features(guide, "both")
    data = np.float32(np.rollaxis(guide, 2)[::-1]) - np.float32([104, 116, 122]).reshape(3, 1, 1)
    net.blobs["data"].reshape(1, *data.shape)
    net.blobs["data"].data[0] = data
    np.testing.assert_allclose(features, net.forward(end="both")["both"][0], rtol=1e-5, atol=1e-3)
    expected = notebook(net, IMAGE, 2, 2, 1.4, "both", True, 1.5, 3, 5, python_guide(features))
    for objective in (objective_guide(features), python_guide(features), objective_guide(features[None])):
        assert toys.off(dream(net, 5, objective=objective) - IMAGE, expected - IMAGE) < 1e-3
    assert toys.off(dream(net, 5, objective=objective_guide, guide_features=features) - IMAGE, expected - IMAGE) < 1e-3
    assert toys.off(dream(net, 5) - IMAGE, expected - IMAGE) > 0.1
    with pytest.raises(ValueError, match="guide_features"):
        objective_guide(features[0, 0])


def test_a_custom_objective_runs_in_the_graph(net):
    class EverySecond(Objective):
        def __call__(self, dst):
            dst.diff[:] = 0
            dst.diff[:, ::2] = 1

        def nodes(self, g, x, inputs):
            only = np.zeros((1, 10, 1, 1), np.float32)
            only[0, ::2] = 1
            return g.op("ReduceSum", x * only, keepdims=0), g.op("Expand", only, g.shape(x))
    graph, python = dream(net, 3, objective=EverySecond()), dream(net, 3, objective=lambda dst: EverySecond()(dst))
    assert toys.off(graph - IMAGE, python - IMAGE) < 1e-4


def test_objectives_with_the_same_name_are_kept_apart(net):
    def named_alike(sign):
        class Mine(Objective):
            def nodes(self, g, x, inputs):
                return g.op("ReduceSum", x, keepdims=0), x * float(sign)
        return Mine()
    up, down = (dream(net, 3, objective=named_alike(sign), octave_n=1, iter_n=1, clip=False) - IMAGE
                for sign in (1, -1))
    assert toys.off(up, -down) < 1e-3


@pytest.mark.parametrize("priors", [(), (TotalVariation(0.3), Laplacian(2), Blur(1))])
def test_a_session_of_one_size_dreams_the_same(net, monkeypatch, priors):
    """Sessions for fixed sizes give the same dreams bit for bit; they are not added to the net's own sessions."""
    before = dream(net, 3, priors=priors, octave_n=3)
    made, make = [], net.device.session
    monkeypatch.setattr(net.device, "session", lambda *a, **kw: made.append(a[2]) or make(*a, **kw))
    monkeypatch.setattr(net.device, "much_work", 0)
    count = len(net.programs.sessions)
    np.testing.assert_array_equal(dream(net, 3, priors=priors, octave_n=3), before)
    assert made == octave_sizes(*IMAGE.shape[:2], 3, 1.4) and len(net.programs.sessions) == count
    monkeypatch.setattr(net.device, "much_work", 2 * IMAGE.shape[0] * IMAGE.shape[1])     # of the largest octave only
    np.testing.assert_array_equal(dream(net, 3, priors=priors, octave_n=3), before)
    assert made[3:] == [None, IMAGE.shape[:2]]


class Wider(Blur):
    """A blur whose kernel gets larger from step to step, some in float64."""

    def __init__(self):
        super().__init__(1.0)

    def feeds(self, i, n):
        return {"kernel": np.ones(3 + 2 * i) / (3 + 2 * i) if i else np.ones(3, np.float32) / 3}


class Alternating(Blur):
    """A blur that alternates between two kernels, which it keeps."""

    def __init__(self):
        super().__init__(1.0)
        self.kernels = [np.float32([0, 1, 0]), np.float32([0.25, 0.5, 0.25])]

    def feeds(self, i, n):
        return {"kernel": self.kernels[i % 2]}


def test_arrays_that_a_prior_feeds_are_not_changed(net):
    prior = Alternating()
    graph, numpy = (dream(net, 3, priors=(prior,), octave_n=1, iter_n=4, objective=o)
                    for o in (objective_L2, python_L2))
    assert toys.off(graph - IMAGE, numpy - IMAGE) < 1e-3
    np.testing.assert_array_equal(prior.kernels, Alternating().kernels)


def test_a_custom_prior_may_feed_arrays_of_changing_shape(net, monkeypatch):
    """The results are those of the steps in NumPy."""
    graph, numpy = (dream(net, 3, priors=(Wider(),), octave_n=1, objective=o) for o in (objective_L2, python_L2))
    assert toys.off(graph - IMAGE, numpy - IMAGE) < 1e-3
    monkeypatch.setattr(net.device, "captures", True)
    message = "prior0:kernel: steps that are captured as CUDA graphs need inputs of one shape"
    with pytest.raises(DreamError, match=message):
        dream(net, 3, priors=(Wider(),), octave_n=1)


def test_the_picture_can_be_read_between_octaves(net, monkeypatch):
    seen, make = [], net.device.session
    monkeypatch.setattr(net.device, "much_work", 0)

    def read_and_make(*args):
        if seen:
            seen.append(seen[0]())       # while the next octave's session is made
        return make(*args)
    monkeypatch.setattr(net.device, "session", read_and_make)
    result = dream(net, 3, octave_n=2, on_step=lambda octave, i, vis, report: seen or seen.append(vis))
    assert len(seen) == 2 and seen[1].shape == result.shape and np.ptp(seen[1]) > 10


def test_the_graph_of_a_custom_objective_is_built_once_per_dream(net, monkeypatch):
    from deepdream.engine import graphs
    built, build = [], graphs.step_graph
    monkeypatch.setattr(graphs, "step_graph", lambda *a: built.append(1) or build(*a))
    monkeypatch.setattr(net.device, "much_work", 0)

    class Mine(type(objective_L2)):
        pass
    dream(net, 3, octave_n=3, objective=Mine())
    assert built == [1]


def test_captured_steps_use_the_same_memory(net, monkeypatch):
    """What CUDA graphs need, tested on the CPU: the same dreams, and the same arrays for all pictures of one size."""
    images = [IMAGE, IMAGE[::-1].copy(), IMAGE]
    features = [net.features(image, "both") for image in (IMAGE, IMAGE[:20], IMAGE[::-1])]
    objectives = [objective_guide(f) for f in features]
    plain = [dream(net, 3, image, objective=o) for image, o in zip(images, objectives)]
    seen, run = [], Stepper._run
    monkeypatch.setattr(Stepper, "_run", lambda self, inputs, outputs, before, after, number: seen.append(
        (number, before, after)) or run(self, inputs, outputs, before, after, number))
    monkeypatch.setattr(net.device, "captures", True)
    monkeypatch.setattr(net.device, "much_work", 0)
    for image, o, expected in zip(images, objectives, plain):
        np.testing.assert_array_equal(dream(net, 3, image, objective=o), expected)
    # There are two octaves, each with a session, and two directions. The second guide has another shape.
    first, second, third = seen[:4], seen[4:8], seen[8:]
    assert [number for number, *_ in seen] == [1, 2, 1, 2, 3, 4, 3, 4, 1, 2, 1, 2]
    assert all(a is b for x, y in zip(first, third) for a, b in zip(x[1:], y[1:]))
    assert not any(a is b for x, y in zip(first, second) for a, b in zip(x[1:], y[1:]))
    # With more octaves than sessions are usually kept, none is made again.
    made, make = [], net.device.session
    monkeypatch.setattr(net.device, "session", lambda *a: made.append(a[2]) or make(*a))
    for _ in range(2):
        dream(net, 3, octave_n=5, octave_scale=1.1)
    assert made == octave_sizes(*IMAGE.shape[:2], 5, 1.1)


def test_make_step_changes_the_data_in_place(net):
    for objective, kind in ((objective_L2, float), (python_L2, type(None))):
        net.blobs["data"].reshape(1, 3, 20, 24)
        data = net.blobs["data"].data
        data[0] = preprocess(net, IMAGE[:20, :24])
        before = data.copy()
        np.random.seed(0)
        value, mean = make_step(net, end="both", objective=objective)
        assert net.blobs["data"].data is data and mean > 0 and isinstance(value, kind)
        assert 0 < np.abs(data - before).mean() <= 1.5 + 1e-4


def test_on_step_gets_a_report_of_each_step(net):
    seen = []
    result = dream(net, on_step=lambda octave, i, vis, report: seen.append((octave, i, vis(), report)))
    assert [s[:2] for s in seen] == [(0, 0), (0, 1), (1, 0), (1, 1)]
    assert [s[2].shape[:2] for s in seen] == [(20, 26), (20, 26), (28, 37), (28, 37)]
    np.testing.assert_allclose(seen[-1][2], result, atol=1e-4)
    assert all(report.objective > 0 and report.mean_abs > 0 for *_, report in seen)
    assert [report.size for *_, report in seen] == [(20, 26)] * 2 + [(28, 37)] * 2


def test_preprocess_and_deprocess(net):
    data = preprocess(net, IMAGE)
    assert data.shape == (3, 28, 37) and data.dtype == np.float32
    np.testing.assert_array_equal(data[0], IMAGE[..., 2] - 104)
    np.testing.assert_array_equal(data[2], IMAGE[..., 0] - 122)
    np.testing.assert_allclose(deprocess(net, data), IMAGE, atol=1e-4)


def test_visible():
    a = np.float32(np.arange(30000).reshape(100, 100, 3)) / 100
    np.testing.assert_array_equal(visible(a), a)
    np.testing.assert_allclose(visible(a, clip=False), a * (255 / np.percentile(a, 99.98)))


def test_octave_sizes_are_scipys():
    for h, w, scale in ((575, 1024, 1.4), (90, 160, 1.3), (33, 58, 1.4), (101, 77, 1.25)):
        image, sizes = np.zeros((h, w)), octave_sizes(h, w, 4, scale)
        for size in sizes[::-1]:
            assert image.shape == size
            image = nd.zoom(image, 1 / scale, order=0)


# ---- errors

@pytest.mark.parametrize("option, value", [
    ("iter_n", 0), ("iter_n", 1.5), ("octave_n", 0), ("octave_n", -1), ("octave_scale", 1.0), ("octave_scale", 0.5),
    ("octave_scale", float("inf")), ("octave_scale", float("nan")), ("step_size", 0), ("step_size", float("nan")),
    ("step_size", float("inf")), ("jitter", -1), ("jitter", 0.5)])
def test_bad_options(net, option, value):
    with pytest.raises(DreamError, match=f"{option} is .*; allowed is") as caught:
        dream(net, **{option: value})
    assert "\n" not in str(caught.value)


def test_unknown_arguments(net):
    with pytest.raises(TypeError, match="stepsize"):
        dream(net, stepsize=1)


def test_too_small_a_picture(net, dreamer):
    message = "smallest of 4 octaves has 2x2 pixels, too small for 'pool2', which needs at least 3x3"
    with pytest.raises(DreamError, match=message):
        dream(net, image=IMAGE[:6, :6], octave_n=4, end="pool2")
    with pytest.raises(DreamError, match="the picture has 12x9 pixels, too small for 'inception_4c/output'"):
        deepdream(dreamer, IMAGE[:9, :12], octave_n=1)
    with pytest.raises(DreamError, match="comes after an InnerProduct and needs a picture of exactly 224x224"):
        deepdream(dreamer, np.zeros((300, 300, 3)), octave_n=1, end="prob")


def test_a_zero_gradient(tmp_path):
    """The ReLU's output is zero everywhere. Caffe would go on with NaN."""
    text = toys.net(toys.conv("a", "data", 4, 3), toys.relu("a"), toys.pool("p", "a"), shape=(1, 3, 20, 20))
    folder = toys.write_net(tmp_path / "dead", text, lambda n, i, s: np.full(s, 0 if len(s) > 1 else -1, np.float32))
    net = Net(folder, device="cpu")
    for objective in (objective_L2, python_L2):
        with pytest.raises(DreamError, match="the gradient at 'p' is zero everywhere"):
            dream(net, end="p", objective=objective)


def test_a_gradient_that_is_not_finite(net):
    def objective(dst):
        dst.diff[:] = np.nan
    with pytest.raises(DreamError, match="not a finite number"):
        dream(net, objective=objective)


def test_unknown_end(net):
    with pytest.raises(ValueError, match="no such end: 'bth'; the nearest are both"):
        dream(net, end="bth")


def test_inputs_are_kept_alive_until_the_step_is_over(net, monkeypatch):
    """onnxruntime need not do so: on the CPU a bound value only points at memory."""
    import onnxruntime as ort
    bound = []
    real = ort.IOBinding.bind_ortvalue_input

    def bind(self, name, value):
        bound.append(weakref.ref(value))
        real(self, name, value)

    def run(self, binding, *args):
        assert bound and all(ref() is not None for ref in bound)
        return finish(self, binding, *args)

    finish = ort.InferenceSession.run_with_iobinding
    monkeypatch.setattr(ort.IOBinding, "bind_ortvalue_input", bind)
    monkeypatch.setattr(ort.InferenceSession, "run_with_iobinding", run)
    net.blobs["data"].reshape(1, 3, 32, 40)
    make_step(net, end="both")


def test_the_diff_is_zero_before_each_objective(net):
    """An objective that sets some channels only does not keep what another one left in the other channels."""
    end = "both"
    net.blobs["data"].reshape(1, 3, 32, 40)
    net.blobs["data"].data[...] = np.random.default_rng(0).normal(0, 40, (1, 3, 32, 40))

    def first(dst):
        dst.diff[0, 0] = dst.data[0, 0]
    make_step(net, end=end, objective=python_L2)
    make_step(net, end=end, objective=first)
    assert not net.blobs[end].diff[0, 1:].any() and net.blobs[end].diff[0, 0].any()
