"""enhance(): objective and gradient compared with the formula in float64, its results, why it stops, its command."""
import os
import re
import signal

import children
import numpy as np
import pytest
import scipy.ndimage as nd
import toys
from PIL import Image

from deepdream import DreamError, Net, convert, deprocess, load, preprocess, settings
from deepdream import enhance as module
from deepdream.enhance import GRADIENT, INTERRUPTED, PRIORS, STOPS, Energy, EnhanceReport
from deepdream.goals.natural import COLOURS, Natural
from deepdream.goals.priors import Grey, TotalVariation

END = "both"


def enhance(net, img, end, **options):
    """Enhance at one size, unless the options say otherwise, which is quick and has one minimum."""
    plain = {"octave_n": 1, "k": 2.0, "iter_n": 60} | ({} if options.get("prior") == "none" else {"weight": 0.003})
    return module.enhance(net, img, end, **plain | options)


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu", threads=1)


@pytest.fixture(scope="module")
def image():
    y, x = np.mgrid[:36, :41]
    waves = np.dstack([128 + 60 * np.sin(x / 5), 120 + 50 * np.cos(y / 4), 110 + 70 * np.sin((x + y) / 7)])
    return np.float32(waves + 12 * toys.noise(36, 41, 3))


NATURAL = {   # prior: R of the picture less the mean, (1, C, H, W)
    "tv": lambda x: np.sqrt(np.diff(x, axis=2, append=x[:, :, -1:]) ** 2
                            + np.diff(x, axis=3, append=x[..., -1:]) ** 2 + 1).sum(),
    "l2": lambda x: (x ** 2).sum() / 256,
    "none": lambda x: 0.0,
}


def plain(forward, data, start, k, prior, weight):
    """Compute (E, its data term, R / n) by the formula, in NumPy. forward: data (1, C, H, W) -> features."""
    first, now = np.float64(forward(start)), np.float64(forward(data))
    off = ((now - k * first) ** 2).sum() / (first ** 2).sum()
    natural = NATURAL[prior](np.float64(data)) / data.size
    return off + weight * natural, off, natural


def by_net(net, end):
    def forward(data):
        blob = net.blobs["data"]
        blob.reshape(*data.shape)
        blob.data[...] = data
        return net.forward(end=end)[end].copy()
    return forward


@pytest.mark.parametrize("end", ["both", "conv1", "pool2", "data"])
@pytest.mark.parametrize("prior", PRIORS)
def test_the_objective_decreases_and_is_its_formula(net, image, prior, end):
    """Every iteration lowers the objective. Its first and last value are those of the formula, by net.forward."""
    weight = None if prior == "none" else 0.02
    found = enhance(net, image, end=end, k=2, prior=prior, weight=weight, iter_n=15)
    energy = [report.objective for report in found.history]
    assert np.all(np.diff(energy) < 1e-6) and energy[-1] < 0.6 * energy[0]
    assert found.picture.shape == image.shape and found.picture.dtype == np.float32
    assert found.picture.min() >= 0 and found.picture.max() <= 255
    start = preprocess(net, image.clip(0, 255))[None]
    for img, report in ((image, found.history[0]), (found.picture, found.history[-1])):
        expected = plain(by_net(net, end), preprocess(net, img.clip(0, 255))[None], start, 2, prior, weight or 0)
        np.testing.assert_allclose(report[:3], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("k, prior, weight", [(2, "none", 0), (0, "tv", 0.5), (1.5, "l2", 0.1)])
def test_the_gradient_of_the_objective(net, toy, image, k, prior, weight):
    """Compare it with differences of the formula in float64, with the objective in other units."""
    model = convert.to_onnx(toy / "deploy.prototxt", toy / "net.caffemodel")
    forward = toys.doubled(model, END)
    start = preprocess(net, image)[None]
    energy = Energy(net, image, END, k, prior, weight, clip=False)
    energy.unit = 1e-3
    at = energy.start + 8 * toys.noise(energy.start.size, seed=3)
    value, gradient = energy(at)
    data = (at.reshape(energy.shape) - energy.mean)[None]
    toys.check_gradient(lambda x: plain(forward, x, start, k, prior, weight)[0] / 1e-3, data, 1.0,
                        gradient.reshape(data.shape), tolerance=1e-4)
    np.testing.assert_allclose(value, energy.last.objective / 1e-3)
    np.testing.assert_allclose(energy.last.gradient, np.abs(gradient).sum() * 1e-3)


@pytest.mark.parametrize("prior", [TotalVariation(0.7), Grey(0.3)])
def test_the_values_of_priors_have_their_gradients(prior):
    x = np.float64(toys.noise(1, 3, 9, 11)) * 30
    toys.check_gradient(lambda x: prior.value(x, prior.inputs), x, 1.0, prior(x, prior.inputs), step=1e-4)


def test_k_is_how_strong_the_features_are(net, image):
    """k 1.5 makes them stronger and 0 removes them; 1, without a prior, does not change the picture."""
    before = np.linalg.norm(net.features(image, END))
    strength = {k: np.linalg.norm(net.features(enhance(net, image, end=END, k=k, prior="none").picture, END)) / before
                for k in (0, 0.5, 1.5)}
    assert strength[0] < 0.2 and strength[0.5] == pytest.approx(0.5, abs=0.1)
    assert strength[1.5] == pytest.approx(1.5, abs=0.15)
    same = enhance(net, image, end=END, k=1, prior="none")
    np.testing.assert_allclose(same.picture, image.clip(0, 255), atol=1e-3)
    assert len(same.history) == 1 and same.history[0].objective < 1e-10


def test_the_weight_keeps_it_smooth(net, image):
    smooth = [enhance(net, image, end=END, weight=w, iter_n=30).history[-1] for w in (0.0, 0.01, 0.1)]
    assert smooth[0].prior > smooth[1].prior > smooth[2].prior
    assert smooth[0].data < smooth[1].data < smooth[2].data


def test_a_weight_means_the_same_at_every_size(net, image):
    """The terms of four copies of a picture are those of one copy, except at the seams."""
    one = enhance(net, image, end=END, iter_n=1).history[0]
    four = enhance(net, np.tile(image, (2, 2, 1)), end=END, iter_n=1).history[0]
    np.testing.assert_allclose(four[:3], one[:3], rtol=0.1)


def test_bounds(net, image):
    bright = image + 90
    assert bright.max() > 255
    inside = enhance(net, bright, end=END, k=3, prior="none", iter_n=20).picture
    assert inside.min() >= 0 and inside.max() <= 255 and (inside == 255).sum() > 10
    free = enhance(net, bright, end=END, k=3, prior="none", iter_n=20, clip=False)
    assert free.picture.max() > 255 and free.history[-1].objective < 0.5 * free.history[0].objective


def test_a_grey_net(image, tmp_path):
    text = toys.net(toys.conv("conv", "data", 4, 3), toys.relu("conv"), shape=(1, 1, 20, 20))
    found = enhance(Net(toys.write_net(tmp_path / "grey", text), device="cpu"), image, end="conv", iter_n=10)
    assert found.picture.shape == image.shape and found.history[-1].objective < found.history[0].objective


class Wrong:
    """A session whose gradient points the wrong way."""

    def __init__(self, session):
        self.session = session

    def run(self, names, feeds):
        value, *diffs = self.session.run(names, feeds)
        return [value, *(-diff for diff in diffs)]


def test_why_it_stops(net, image, monkeypatch):
    def stopped(**options):
        found = enhance(net, image, end=END, **options)
        return found.stopped, len(found.history) - 1

    assert stopped(iter_n=3) == (STOPS["ITERATIONS"], 3)
    assert stopped(k=1, prior="none") == (STOPS["GRADIENT"], 0)
    why, iterations = stopped(prior="l2", weight=1, iter_n=10000)
    assert why == STOPS["REDUCTION"] and 3 < iterations < 2000
    monkeypatch.setattr(module, "REDUCTION", 0)
    smooth = enhance(net, image, end="data", k=0.9, prior="l2", weight=0.1)        # a problem without kinks
    assert smooth.stopped == STOPS["GRADIENT"] and len(smooth.history) > 2 and smooth.history[-1].gradient < GRADIENT
    monkeypatch.undo()
    session = net.programs.session
    monkeypatch.setattr(net.programs, "session", lambda *args, **options: Wrong(session(*args, **options)))
    assert stopped(prior="none") == (STOPS["ABNORMAL"], 0)


def test_ctrl_c_keeps_the_last_iteration(net, image):
    seen = []

    def on_step(i, vis, report):
        assert isinstance(report, EnhanceReport) and len(seen) == i
        seen.append((vis(), report))
        if i == 3:
            raise KeyboardInterrupt

    found = enhance(net, image, end=END, on_step=on_step)
    assert found.stopped == INTERRUPTED and found.history == [report for _, report in seen] and len(seen) == 4
    np.testing.assert_array_equal(found.picture, seen[-1][0])
    np.testing.assert_allclose(seen[0][0], image.clip(0, 255), atol=1e-3)
    assert not np.array_equal(seen[0][0], seen[-1][0])


@pytest.mark.parametrize("options, message", [
    ({"k": -1}, "k is -1; allowed is a number from 0"),
    ({"k": "2"}, "k is 2; allowed"),
    ({"weight": float("nan")}, "weight is nan; allowed"),
    ({"iter_n": 1.5}, "iter_n is 1.5; allowed is a whole number from 1"),
    ({"prior": "TV"}, "prior is 'TV'; allowed are tv, l2, none"),
    ({"prior": "none", "weight": 1}, "no prior to weigh"),
    ({"img": np.zeros((40, 40))}, r"\(H, W, 3\), not \(40, 40\)"),
    ({"img": np.zeros((2, 2, 3)), "end": "pool2"}, "too small for 'pool2'"),
    ({"end": "bth"}, "no such end: 'bth'"),
    ({"img": np.full((40, 40, 3), np.nan)}, "not numbers"),
])
def test_bad_arguments(net, image, options, message):
    with pytest.raises((DreamError, convert.ConvertError), match=message):
        enhance(net, **{"img": image, "end": END, **options})


def test_a_layer_that_sees_nothing(image, tmp_path):
    def dead(name, i, shape):
        return np.full(shape, 0 if len(shape) > 1 else -1, np.float32)

    with pytest.raises(DreamError, match="'pool2' sees nothing in this picture: all of its values are zero"):
        enhance(Net(toys.write_net(tmp_path / "dead", toys.TOY, dead), device="cpu"), image, end="pool2")


def test_leftover_diffs_are_rejected(toy, image):
    with pytest.raises(DreamError, match="leftover_diffs"):
        enhance(Net(toy, device="cpu", leftover_diffs=True), image, end=END)


# ---- the command

def command(*args, code=("-m", "deepdream")):
    return children.start(*code, "enhance", *args)


@pytest.fixture
def cat(image, tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(np.uint8(image.clip(0, 255))).save(path)
    return path


@pytest.mark.slow
def test_the_command_writes_what_python_makes(net, toy, cat, tmp_path):
    out = tmp_path / "out.png"
    process = command(cat, "-o", out, "--model", toy, "--end", END, "--k", "1.5", "--prior", "l2", "--weight", "0.01",
                      "--iter-n", "5", "--octave-n", "1", "--device", "cpu", "--threads", "1")
    result = children.ended(process)
    text = result.stdout
    assert result.returncode == 0 and not result.stderr, result
    assert text.startswith(f"{out}: 41x36, ") and "at both, k 1.5: objective " in text and ", l2 " in text
    assert f"\n{STOPS['ITERATIONS']} after 5 iterations, " in text
    options = {"end": END, "k": 1.5, "prior": "l2", "weight": 0.01, "iter_n": 5, "clip": True}
    found = enhance(net, load(cat), **options)
    assert np.abs(load(out) - np.rint(found.picture)).mean() < 0.05
    record = settings(out)
    assert {k: record[k] for k in options} == options and record["picture"] == "cat.png" and record["checksum"]
    assert record["iterations"] == 5 and record["stopped"] == found.stopped


@pytest.mark.slow
def test_nothing_to_do_leaves_every_pixel(toy, cat, tmp_path):
    out = tmp_path / "out.png"
    process = command(cat, "-o", out, "--model", toy, "--end", END, "--k", "1", "--prior", "none", "--device", "cpu")
    assert children.ended(process).returncode == 0
    np.testing.assert_array_equal(load(out), load(cat))


def test_the_commands_defaults_are_those_of_python():
    import inspect

    from deepdream.convert.arguments import Parser

    from deepdream.cli.commands import enhance as cli
    parser = Parser()
    cli.arguments(parser)
    args = parser.parse_args(["cat.jpg", "-o", "out.jpg"])
    python = {name: p.default for name, p in inspect.signature(module.enhance).parameters.items()}
    assert all(getattr(args, name) == python[name]
               for name in ("k", "prior", "weight", "iter_n", "octave_n", "octave_scale"))
    assert cli.PRIORS == tuple(PRIORS) == tuple(module.WEIGHTS)
    assert cli.WEIGHTS == module.WEIGHTS | {"none": None}


BAD = {   # what is wrong: (options, a part of the one line)
    "k": (["--k", "-1"], "--k: '-1' is not a number from 0"),
    "prior": (["--prior", "tvl"], "--prior"),
    "weight": (["--weight", "heavy"], "--weight: 'heavy' is not a number from 0"),
    "nothing to weigh": (["--prior", "none", "--weight", "1"], "--weight: with --prior none there is nothing to weigh"),
    "iterations": (["--iter-n", "0"], "--iter-n: '0' is not a whole number from 1"),
    "end": (["--end", "bth"], "no such end: 'bth'"),
    "over the picture": (["-o", "cat.png"], "would overwrite"),
    "no picture format": (["-o", "cat.txt"], "'.txt' is not a picture format"),
    "too small": (["--end", "pool2", "PICTURE"], "too small for 'pool2'"),
}


def test_bad_options_are_one_line_and_code_2(toy, cat, tmp_path, monkeypatch, capsys):
    from deepdream.cli import main
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (2, 2)).save("dot.png")
    before = sorted(os.listdir())
    for options, message in BAD.values():
        picture = "dot.png" if "PICTURE" in options else "cat.png"
        args = ["enhance", picture, "-o", "out.png", "--model", str(toy), "--device", "cpu",
                *(o for o in options if o != "PICTURE")]
        try:
            code = main(args)
        except SystemExit as stop:
            code = stop.code
        error = capsys.readouterr().err
        assert code == 2 and error.count("\n") == 1 and message in error, error
    process = command("cat.png", "-o", "out.png", "--model", toy, "--k", "x")
    result = children.ended(process)
    assert result.stderr.startswith("deepdream enhance: argument --k: 'x' is not") and result.returncode == 2
    assert sorted(os.listdir()) == before


SLOW = """
import sys, time
from deepdream import cli
from deepdream.cli import progress
step = progress.Iterations.step
def stepped(self, i, *args):
    step(self, i, *args)
    if i == 2:
        print("stepped", flush=True)
        time.sleep(100)
progress.Iterations.step = stepped
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_ctrl_c_writes_the_last_iteration(toy, cat, tmp_path):
    out = tmp_path / "out.png"
    process = command(cat, "-o", out, "--model", toy, "--end", END, "--device", "cpu", code=("-c", SLOW))
    assert children.first_line(process) == "stepped\n"
    process.send_signal(signal.SIGINT)
    result = children.ended(process)
    assert result.returncode == 130 and result.stderr == "deepdream: interrupted\n"
    partial = tmp_path / "out.partial.png"
    assert result.stdout.startswith(f"{partial}: 41x36, ") and "interrupted after 2 iterations" in result.stdout
    assert settings(partial)["iterations"] == 2 and not np.array_equal(load(partial), load(cat))
    assert not out.exists()


def test_a_net_whose_input_has_another_name(tmp_path):
    text = toys.TOY.replace('"data"', '"image"')
    net = Net(toys.write_net(tmp_path / "net", text), device="cpu")
    image = np.abs(toys.noise(40, 44, 3)) * 60
    assert enhance(net, image, end="both", iter_n=2).picture.shape == image.shape


def test_a_picture_that_needs_too_much_memory_is_rejected(toy, monkeypatch):
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", "0.01")
    with pytest.raises(DreamError, match="needs about"):
        enhance(Net(toy, device="cpu"), np.full((40, 44, 3), 99.0), end="both")


# ---- octaves

def test_octaves_find_large_strokes(toy):
    """Over several octaves, more of the change is in large structures."""
    net, img, shares = Net(toy, device="cpu", threads=1), np.float32(nd.gaussian_filter(
        np.random.default_rng(0).uniform(0, 255, (64, 72, 3)), (2, 2, 0)) * 3 - 255).clip(0, 255), {}
    for octave_n in (1, 3):
        result = enhance(net, img, "both", k=3, weight=0.05, iter_n=8, octave_n=octave_n)
        change = result.picture - img
        assert np.abs(change).mean() > 1 and result.picture.min() >= 0 and result.picture.max() <= 255
        shares[octave_n] = np.square(nd.gaussian_filter(change, (3, 3, 0))).sum() / np.square(change).sum()
        assert result.history[-1].objective < result.history[0].objective
        assert result.iterations == 8 * octave_n or octave_n == 3 and 8 < result.iterations <= 24
    assert shares[3] > 1.2 * shares[1]


def test_iterations_are_counted_over_octaves(toy):
    seen = []
    img = np.float32(np.random.default_rng(0).uniform(0, 255, (50, 60, 3)))
    result = enhance(Net(toy, device="cpu", threads=1), img, "both", iter_n=3, octave_n=3,
                     on_step=lambda i, vis, report: seen.append((i, vis().shape[:2])))
    assert [i for i, _ in seen] == [0, 1, 2, 3, 3, 4, 5, 6, 6, 7, 8, 9] and result.iterations == 9
    assert len(result.history) == 4
    assert [size for _, size in seen][::4] == [(26, 31), (36, 43), (50, 60)]


def test_interrupted_in_a_smaller_octave(toy):
    """What was found so far is added to the picture at its full size."""
    img = np.float32(np.random.default_rng(0).uniform(60, 190, (50, 60, 3)))

    def stop(i, vis, report):
        if i == 5:
            raise KeyboardInterrupt

    result = enhance(Net(toy, device="cpu", threads=1), img, "both", iter_n=3, octave_n=3, on_step=stop)
    assert result.stopped == INTERRUPTED and result.iterations == 5 and result.picture.shape == img.shape
    assert np.abs(result.picture - img).mean() > 0.5


# ---- natural colours and frequencies

def test_the_gradient_in_the_natural_space(net, toy, image):
    """Compare it with differences of the formula in float64; the filter is A, computed here by a Fourier transform."""
    forward = toys.doubled(convert.to_onnx(toy / "deploy.prototxt", toy / "net.caffemodel"), END)
    start, colours = preprocess(net, image)[None], COLOURS[:, [2, 1, 0]]
    energy = module.NaturalEnergy(Energy(net, image, END, 2, "tv", 0.2, clip=False), preprocess(net, image).ravel()
                                  + energy_mean(net, image), 0.7)
    amplitudes = np.sqrt(np.float64(Natural(0.7).sized(*image.shape[:2]).inputs["amplitudes"]))

    def filtered(z):
        parts = np.fft.fft2(np.einsum("kc,nchw->nkhw", colours, z)) * amplitudes
        return np.einsum("kc,nkhw->nchw", colours, np.fft.ifft2(parts).real)

    at = 5 * np.float64(toys.noise(*start.shape, seed=3))
    value, gradient = energy(at.ravel())
    formula = lambda z: plain(forward, start + filtered(z), start, 2, "tv", 0.2)[0]      # noqa: E731
    np.testing.assert_allclose(value, formula(at), rtol=1e-5)
    toys.check_gradient(formula, at, 1.0, gradient.reshape(at.shape), tolerance=1e-4)
    np.testing.assert_allclose(energy.picture(at.ravel()), deprocess(net, (start + filtered(at))[0]), atol=1e-3)


def energy_mean(net, image):
    return np.broadcast_to(net.transformer.mean["data"], preprocess(net, image).shape).ravel()


def test_natural_changes_are_smooth(net, image):
    """The objective goes down, inside of the bounds, and more of the change is in large structures."""
    shares = {}
    for natural in (None, 1.0):
        result = enhance(net, image, END, k=3, iter_n=12, octave_n=2, natural=natural)
        change = result.picture - image.clip(0, 255)
        assert result.history[-1].objective < 0.8 * result.history[0].objective
        assert result.picture.min() >= 0 and result.picture.max() <= 255 and np.abs(change).mean() > 1
        shares[natural] = np.square(nd.gaussian_filter(change, (3, 3, 0))).sum() / np.square(change).sum()
    assert shares[1.0] > 1.3 * shares[None]
    with pytest.raises(DreamError, match="natural is -1; allowed is a number from 0"):
        enhance(net, image, END, natural=-1)


def test_settings_of_another_prior_and_of_older_pictures(toy, cat, tmp_path, capsys):
    """A saved weight belongs to its prior. Older pictures, without octaves in their metadata, were made at one size."""
    from deepdream import save
    from deepdream.cli import main
    first, other = tmp_path / "first.png", tmp_path / "other.png"
    quick = ["--model", str(toy), "--device", "cpu", "--iter-n", "1"]
    assert main(["enhance", str(cat), "-o", str(first), "--end", END, "--octave-n", "2", "--natural", *quick,
                 "--weight", "0.07"]) == 0
    assert settings(first)["natural"] == 1.0

    def again(*options):
        assert main(["enhance", "-o", str(other), "--settings", str(first), *quick, *options]) == 0, capsys.readouterr()
        return settings(other)

    assert again()["weight"] == again("--prior", "tv")["weight"] == 0.07
    assert again("--prior", "l2")["weight"] == module.WEIGHTS["l2"] and again("--prior", "none")["weight"] is None
    assert again("--prior", "l2", "--weight", "0.2")["weight"] == 0.2
    assert again()["octave_n"] == 2 and again()["natural"] == 1.0 and again("--natural", "0").get("natural") is None
    older = {name: value for name, value in settings(first).items() if not name.startswith("octave") and
             name != "natural"}
    save(load(first), first, older)
    assert again()["octave_n"] == 1


@pytest.mark.parametrize("options, message", [
    ({"octave_n": 0}, "octave_n is 0; allowed is a whole number from 1"),
    ({"octave_scale": 1}, "octave_scale is 1; allowed is a number greater than 1"),
    ({"octave_n": 12}, "too small for 'pool2'"),
])
def test_octaves_that_are_not_possible(toy, options, message):
    with pytest.raises(DreamError, match=re.escape(message)):
        enhance(Net(toy, device="cpu"), np.full((40, 40, 3), 100.0), "pool2", **options)
