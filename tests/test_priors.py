"""Priors: their nodes compared with NumPy, NumPy with plain formulas, and dreams in the graph with dreams in Python."""
import numpy as np
import pytest
import scipy.ndimage as nd
import toys
from deepdream.convert.graph import Graph, float_info

from deepdream import DreamError, Net, deepdream, objective_L2
from deepdream.goals import priors
from deepdream.goals.priors import Blur, Gain, Grey, Laplacian, Luminance, Mask, TotalVariation

MASK = Mask(np.linspace(0, 1, 20 * 24).reshape(20, 24))
ALL = [MASK, Gain(np.linspace(3, 0, 20 * 24).reshape(20, 24)), TotalVariation(0.7), Grey(0.3), Blur(1.2),
       Blur(0.5, every=2, until=1.5), Laplacian(2), Luminance()]
SIZES = [(23, 30), (16, 16), (1, 9)]


def by_nodes(prior, x, feeds):
    g = Graph()
    out = g.op("Identity", prior.nodes(g, g.tensor("x"), {k: g.tensor(k) for k in feeds}))
    model = g.model("p", [float_info("x", [1, 3, "H", "W"]), *(float_info(k, np.shape(v)) for k, v in feeds.items())],
                    [float_info(out.name, None)])
    return toys.run(model, {"x": x, **{k: np.asarray(v) for k, v in feeds.items()}})[0]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prior", ALL, ids=lambda p: type(p).__name__)
def test_nodes_and_numpy_agree(prior, size):
    x, prior = toys.noise(1, 3, *size) * 40, prior.sized(*size)
    for i in range(3):
        feeds = prior.feeds(i, 3)
        np.testing.assert_allclose(by_nodes(prior, x, feeds), prior(x, feeds), rtol=1e-4, atol=2e-4)


def test_every_prior_is_tested():
    kinds = {v for v in vars(priors).values() if isinstance(v, type) and issubclass(v, priors.Prior)}
    assert kinds - {priors.Prior} == {type(p) for p in ALL}


@pytest.mark.parametrize("prior, formula", [
    (TotalVariation(0.7), lambda x: 0.7 * np.sqrt(np.diff(x, axis=2, append=x[:, :, -1:]) ** 2
                                                  + np.diff(x, axis=3, append=x[..., -1:]) ** 2 + 1).sum()),
    (Grey(0.3), lambda x: 0.3 * (x ** 2).sum() / 256),
])
def test_penalties_are_gradients(prior, formula):
    x = np.float64(toys.noise(1, 3, 9, 11)) * 30
    toys.check_gradient(formula, x, 1.0, prior(x, {"weight": np.float64(prior.inputs["weight"])}), step=1e-4)


def test_blur_is_a_gaussian():
    x, prior = toys.noise(1, 3, 20, 30), Blur(1.5)
    expected = nd.gaussian_filter(x, (0, 0, 1.5, 1.5), mode="nearest", radius=prior.radius)
    np.testing.assert_allclose(prior(x, prior.feeds(0, 1)), expected, atol=1e-5)
    every = Blur(1.0, every=3, until=2.0)
    assert [len(np.flatnonzero(every.feeds(i, 6)["kernel"])) > 1 for i in range(6)] == [False, False, True] * 2


def test_the_pyramid_scales_every_level():
    """A fine wave gets stronger relative to a coarse one, and the result does not depend on the input's strength."""
    fine, coarse = np.indices((64, 64))[0] % 2 - 0.5, np.sin(np.arange(64) / 8)[:, None] * np.ones((64, 64))
    x = np.float32(fine + 100 * coarse)[None, None].repeat(3, 1)
    out = Laplacian(3)(x, {})
    before, after = (np.vdot(a[0, 0], fine) / np.vdot(a[0, 0], coarse) for a in (x, out))
    assert after > 2 * before > 0
    np.testing.assert_allclose(Laplacian(3)(x * 1000, {}), out, rtol=1e-3, atol=1e-4)


def test_colours_stay():
    image = np.float32(np.random.default_rng(0).uniform(100, 150, (40, 50, 3)))
    net = TOY_NET()
    np.random.seed(0)
    plain = deepdream(net, image, 3, 1, end="both")
    np.random.seed(0)
    grey = deepdream(net, image, 3, 1, end="both", priors=[Luminance()])
    change = grey - image
    assert np.abs(change).mean() > 1 and np.abs(change - change.mean(2, keepdims=True)).max() < 1e-3
    assert np.abs(plain - image - (plain - image).mean(2, keepdims=True)).max() > 1


@pytest.fixture(autouse=True, scope="module")
def nets(toy):
    global TOY_NET
    net = Net(toy, device="cpu")

    def TOY_NET():
        return net


@pytest.mark.parametrize("priors_", [[p] for p in ALL] + [ALL], ids=lambda p: "+".join(type(q).__name__ for q in p))
def test_graph_and_python_dream_alike(priors_):
    """Compare the step graph with priors, and the same priors with an objective that is a Python function."""
    image, dreams = np.abs(toys.noise(33, 38, 3)) * 60, []
    for objective in (objective_L2, lambda dst: objective_L2(dst)):
        np.random.seed(3)
        dreams.append(deepdream(TOY_NET(), image, 3, 2, end="both", objective=objective, priors=priors_))
    assert toys.off(dreams[0] - image, dreams[1] - image) < 1e-3
    np.random.seed(3)
    assert toys.off(deepdream(TOY_NET(), image, 3, 2, end="both") - image, dreams[0] - image) > 1e-2


def test_other_objects_are_rejected_as_priors():
    with pytest.raises(DreamError, match="'blur' is not a prior"):
        deepdream(TOY_NET(), np.zeros((40, 40, 3)), end="both", priors=["blur"])


def test_priors_from_an_iterator():
    image = np.abs(toys.noise(40, 40, 3)) * 60
    mask = np.zeros((40, 40))
    mask[:, 20:] = 1
    dream = deepdream(TOY_NET(), image, 1, 1, end="both", seed=1, priors=(p for p in [priors.Mask(mask)]))
    assert np.array_equal(dream[:, :20], np.float32(image[:, :20])) and not np.array_equal(dream, np.float32(image))
