"""The space of natural colours and frequencies: against NumPy's FFT, against finite differences, and in dreams."""
import numpy as np
import pytest
import toys
from test_priors import by_nodes

from deepdream import Net, deepdream, load, objective_L2, settings
from deepdream.cli import main
from deepdream.goals.natural import COLOURS, DEVIATIONS, EXPONENTS, Natural

SIZES = [(23, 30), (16, 16), (1, 9), (40, 7)]


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("prior", [Natural(), Natural(0.5, (0, 1, 2)), Natural(1.5, (0,))])
def test_nodes_and_numpy_agree(prior, size):
    prior = prior.sized(*size)
    x = toys.noise(1, len(prior.channel_swap), *size) * 40
    if x.shape[1] == 3:
        assert toys.off(by_nodes(prior, x, prior.feeds(0, 1)), prior(x, prior.feeds(0, 1))) < 1e-5
    else:
        from deepdream.convert.graph import Graph, float_info
        g, feeds = Graph(), prior.feeds(0, 1)
        out = g.op("Identity", prior.nodes(g, g.tensor("x"), {k: g.tensor(k) for k in feeds}))
        model = g.model("p", [float_info("x", [1, 1, "H", "W"]), *(float_info(k, v.shape) for k, v in feeds.items())],
                        [float_info(out.name, None)])
        assert toys.off(toys.run(model, {"x": x, **feeds})[0], prior(x, feeds)) < 1e-5


def test_the_colours_are_a_basis_and_waves_grow_as_in_photographs():
    np.testing.assert_allclose(COLOURS @ COLOURS.T, np.eye(3), atol=2e-3)
    prior = Natural(1.0, (0, 1, 2)).sized(64, 64)
    for colour, deviation, exponent in zip(COLOURS, DEVIATIONS, EXPONENTS):
        factors = []
        for waves in (2, 8):
            wave = np.sin(2 * np.pi * waves * np.arange(64) / 64)
            x = np.float32(colour[None, :, None, None] * wave[:, None] * np.ones(64))
            grown = np.float64(prior(x, prior.feeds(0, 1)))
            factor = np.vdot(grown, x) / np.vdot(x, x)
            factors.append(factor)
            assert toys.off(grown, factor * x) < 0.02      # no other colour, no other wave
        assert factors[0] / factors[1] == pytest.approx(4 ** exponent, rel=0.01)
    noise = toys.noise(1, 3, 256, 256)
    grown = np.einsum("kc,nchw->nkhw", COLOURS, prior.sized(256, 256)(noise, prior.sized(256, 256).feeds(0, 1)))
    spread = grown.std((0, 2, 3))      # at a strength of 0 all frequencies are alike
    assert spread[0] > 2 * spread[1] > spread[2] > 0
    flat = Natural(0.0, (0, 1, 2)).sized(256, 256)
    spread = np.einsum("kc,nchw->nkhw", COLOURS, flat(noise, flat.feeds(0, 1))).std((0, 2, 3))
    np.testing.assert_allclose(spread, np.divide(DEVIATIONS, DEVIATIONS[0]), rtol=0.02)


def test_a_shift_and_the_space_commute():
    """So the jitter makes no difference."""
    x = toys.noise(1, 3, 20, 27)
    prior = Natural().sized(20, 27)
    rolled = prior(np.roll(x, (5, 8), (2, 3)), prior.feeds(0, 1))
    np.testing.assert_allclose(rolled, np.roll(prior(x, prior.feeds(0, 1)), (5, 8), (2, 3)), rtol=1e-3, atol=1e-2)


def test_it_is_gradient_ascent_on_the_coefficients(toy):
    """The change of the picture is that of its coefficients z, whose gradient finite differences give.

    picture = colours . F^-1(sqrt(amplitude) . z), so a step along dE/dz changes the picture by what the prior makes of
    dE/dpicture.
    """
    net, h, w = Net(toy, device="cpu"), 21, 26
    prior = Natural(1.0, (2, 1, 0)).sized(h, w)
    root, colours = np.sqrt(np.float64(prior.inputs["amplitudes"])), np.float64(prior.inputs["colours"])
    forward = toys.doubled(net.model, "both")

    def picture(z):      # z: real coefficients, by Hartley's transform, which is orthonormal and its own inverse
        rows, columns = (np.float64(prior.inputs[name]) for name in ("rows", "columns"))
        return np.einsum("kc,nkhw->nchw", colours, rows @ (root * z) @ columns)

    def energy(z):
        return np.square(forward(picture(z))).sum() / 2

    z = np.float64(toys.noise(1, 3, h, w)) * 20
    net.blobs["data"].reshape(1, 3, h, w)
    net.blobs["data"].data[...] = picture(z)
    net.forward(end="both")
    net.blobs["both"].diff[...] = net.blobs["both"].data
    net.backward(start="both")
    gradient = np.float64(net.blobs["data"].diff)
    # dE/dz by the chain rule of the same linear map, checked against finite differences of E(z)
    rows, columns = (np.float64(prior.inputs[name]) for name in ("rows", "columns"))
    along = root * (rows @ np.einsum("kc,nchw->nkhw", colours, gradient) @ columns)
    toys.check_gradient(energy, z, 1.0, along, step=1e-5, tolerance=1e-3)
    assert toys.off(prior(np.float32(gradient), prior.feeds(0, 1)), picture(along)) < 1e-5


@pytest.mark.parametrize("octave_n", [1, 3])
def test_graph_and_python_dream_alike(toy, octave_n):
    net, image, dreams = Net(toy, device="cpu"), np.abs(toys.noise(43, 58, 3)) * 60, []
    for objective in (objective_L2, lambda dst: objective_L2(dst)):
        dreams.append(deepdream(net, image, 3, octave_n, end="both", objective=objective, priors=[Natural()],
                                rng=np.random.RandomState(3)))
    assert toys.off(dreams[0] - image, dreams[1] - image) < 1e-3
    plain = deepdream(net, image, 3, octave_n, end="both", rng=np.random.RandomState(3))
    assert toys.off(plain - image, dreams[0] - image) > 0.1


def test_it_is_an_option_of_dreams_and_classes(toy, tmp_path):
    fine = {}
    for name, options in {"plain": [], "natural": ["--natural"], "half": ["--natural", "0.5"]}.items():
        path = tmp_path / f"{name}.png"
        assert main(["dream", "--start", "noise", "--noise", "128", "1", "--size", "60x50", "-o", str(path), "--model",
                     str(toy), "--end", "both", "--iter-n", "4", "--octave-n", "2", "--jitter", "4", "--seed", "1",
                     "--device", "cpu", "--threads", "1", *options]) == 0
        change = load(path) - load(path).mean((0, 1))
        fine[name] = np.abs(np.diff(change, axis=0)).mean() / np.abs(change).mean()
    assert settings(tmp_path / "natural.png")["priors"] == {"natural": 1.0}
    assert settings(tmp_path / "half.png")["priors"] == {"natural": 0.5}
    assert fine["natural"] < fine["half"] < fine["plain"]
    assert main(["class", "four", "--model", "digits", "-o", str(tmp_path / "4.png"), "--natural", "0.3", "--seed", "1",
                 "--device", "cpu"]) == 0
