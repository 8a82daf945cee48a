"""Misspelled arguments, `seed`, `dream_picture`, and how nets, blobs, objectives and devices print themselves."""
import numpy as np
import pytest

import deepdream as package
from deepdream import (Device, DreamError, Net, deepdream, dream_picture, load, make_step, objective_channel,
                       objective_class, objective_guide, objective_L2, objective_neuron, save, settings)
from deepdream.enhance import enhance
from deepdream.goals.objectives import Objective
from deepdream.options import Settings

IMAGE = np.float32(np.random.RandomState(0).randint(0, 256, (40, 48, 3)))
SMALL = {"iter_n": 1, "octave_n": 1, "end": "both"}


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu", threads=1)


def quiet(*_):
    pass


# ---- did you mean

@pytest.mark.parametrize("name, meant", [("octave", "octave_n"), ("octaves", "octave_n"), ("stepsize", "step_size"),
                                         ("iterations", "iter_n"), ("objectve", "objective"), ("layer", None),
                                         ("Seed", "seed"), ("guide_feature", None)])
def test_an_argument_that_deepdream_does_not_have(net, name, meant):
    with pytest.raises(TypeError) as caught:
        deepdream(net, IMAGE, **{name: 3})
    text = str(caught.value)
    assert text.startswith(f"deepdream() has no argument '{name}'; ") and "\n" not in text
    assert f"did you mean {meant}?" in text if meant else "iter_n" in text or "did you mean" in text


@pytest.mark.parametrize("call, message", [
    (lambda net: make_step(net, stepsize=1), "make_step() has no argument 'stepsize'; did you mean step_size?"),
    (lambda net: make_step(net, octave_nn=1), "make_step() has no argument 'octave_nn'; its arguments are net, "),
    (lambda net: Net("x", devices="cpu"), "Net() has no argument 'devices'; did you mean device?"),
    (lambda net: Device("cpu", quick=True), "Device() has no argument 'quick'; its arguments are choice, fast, cuda"),
    (lambda net: enhance(net, IMAGE, weigth=1), "enhance() has no argument 'weigth'; did you mean weight?"),
    (lambda net: dream_picture(ocatve_n=1), "dream_picture() has no argument 'ocatve_n'; did you mean octave_n?"),
    (lambda net: dream_picture(outputs="a.jpg"), "dream_picture() has no argument 'outputs'; did you mean output?"),
    (lambda net: deepdream(net, IMAGE, objective=objective_guide, guide_feature=1),
     "deepdream() has no argument 'guide_feature'; did you mean guide_features?")])
def test_the_nearest_argument_is_named(net, call, message):
    with pytest.raises(TypeError) as caught:
        call(net)
    assert str(caught.value).startswith(message) and "\n" not in str(caught.value)


def test_arguments_of_an_objective_that_takes_any(net):
    class Weighted(Objective):
        in_graph = False

        def __call__(self, dst):
            dst.diff[...] = self.inputs["factor"] * dst.data

    deepdream(net, IMAGE, on_step=quiet, objective=Weighted, factor=np.float32(2), **SMALL)


def test_suggestions_do_not_change_signatures():
    import inspect
    assert list(inspect.signature(Net).parameters)[:3] == ["prototxt", "caffemodel", "mean"]
    assert "base_img" in inspect.signature(deepdream).parameters


# ---- seed

def test_a_seed_is_short_for_a_random_state(net):
    options = {**SMALL, "iter_n": 3, "jitter": 9, "on_step": quiet}
    by_seed, by_rng, other = (deepdream(net, IMAGE, **options, **source) for source in (
        {"seed": 7}, {"rng": np.random.RandomState(7)}, {"seed": np.int64(8)}))
    assert np.array_equal(by_seed, by_rng) and not np.array_equal(by_seed, other)
    np.random.seed(7)
    assert np.array_equal(deepdream(net, IMAGE, **options), by_seed)      # as in the notebook


@pytest.mark.parametrize("arguments, part", [
    ({"seed": 7, "rng": np.random.RandomState(7)}, "seed and rng: both"), ({"seed": -1}, "seed is -1; allowed is"),
    ({"seed": 2 ** 32}, "allowed is a whole number"), ({"seed": 1.5}, "seed is 1.5"), ({"seed": True}, "seed is True"),
    ({"seed": "x"}, "seed is x")])
def test_seeds_that_are_not_allowed(net, arguments, part):
    with pytest.raises(DreamError, match=part):
        deepdream(net, IMAGE, **SMALL, **arguments)


# ---- one function for a whole dream

@pytest.fixture
def cat(tmp_path):
    save(IMAGE, tmp_path / "cat.png")
    return tmp_path / "cat.png"


def test_dream_picture_is_the_dream_command(toy, cat, tmp_path):
    from deepdream.cli import main
    words = {"end": "both", "iter_n": 2, "octave_n": 2, "jitter": 4, "seed": 5, "tv": 0.3}
    result = dream_picture(cat, tmp_path / "a.png", Net(toy, device="cpu", threads=1), **words)
    options = [word for name, value in words.items() for word in (f"--{name.replace('_', '-')}", str(value))]
    assert main(["dream", str(cat), "-o", str(tmp_path / "b.png"), "--model", str(toy), "--device", "cpu", "--threads",
                 "1", *options]) == 0
    assert result.dtype == np.uint8 and np.array_equal(result, load(tmp_path / "a.png"))
    assert np.array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))
    assert settings(tmp_path / "a.png") == settings(tmp_path / "b.png")


def test_dream_picture_of_arrays_and_without_an_output(net, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    result = dream_picture(IMAGE, model=net, guide=IMAGE[:30], seed=1, on_step=quiet, **SMALL)
    assert result.shape == IMAGE.shape and not np.array_equal(result, np.uint8(IMAGE)) and not list(tmp_path.iterdir())
    assert dream_picture(model=net, size=(40, 30), start="grey", end=["both", "left:0.5"], iter_n=1,
                         octave_n=1).shape == (30, 40, 3)


def test_dream_picture_with_a_mask_is_the_dream_command(toy, cat, tmp_path):
    from deepdream.cli import main
    mask = np.zeros((40, 48, 3), np.float32)
    mask[:, 24:] = 255
    save(mask, tmp_path / "mask.png")
    made = Net(toy, device="cpu", threads=1)
    result = dream_picture(cat, tmp_path / "a.png", made, mask=tmp_path / "mask.png", mask_edge=0, seed=5, **SMALL)
    assert main(["dream", str(cat), "-o", str(tmp_path / "b.png"), "--model", str(toy), "--device", "cpu", "--threads",
                 "1", "--mask", str(tmp_path / "mask.png"), "--mask-edge", "0", "--seed", "5", "--iter-n", "1",
                 "--octave-n", "1", "--end", "both"]) == 0
    assert np.array_equal(load(tmp_path / "a.png"), load(tmp_path / "b.png"))
    assert settings(tmp_path / "a.png") == settings(tmp_path / "b.png")
    assert np.array_equal(result[:, :24], np.uint8(IMAGE[:, :24])) and not np.array_equal(result, np.uint8(IMAGE))
    assert np.array_equal(result, dream_picture(cat, None, made, mask=mask, mask_edge=0, seed=5, **SMALL))


def test_numbers_of_numpy(net):
    words = {"size": (np.int64(40), np.int32(30)), "start": "grey", "end": "both", "iter_n": np.int64(1), "octave_n": 1,
             "step_size": np.float64(1.5), "seed": np.uint32(3)}
    plain = {"size": (40, 30), "start": "grey", "end": "both", "iter_n": 1, "octave_n": 1, "step_size": 1.5, "seed": 3}
    assert np.array_equal(dream_picture(model=net, **words), dream_picture(model=net, **plain))
    assert Settings(step_size=np.float32(0.5)) == Settings(step_size=0.5)
    assert np.array_equal(deepdream(net, IMAGE, iter_n=1.0, octave_n=np.float64(1), end="both", seed=1, on_step=quiet),
                          deepdream(net, IMAGE, iter_n=1, octave_n=1, end="both", seed=1, on_step=quiet))


@pytest.mark.parametrize("call, message", [
    (lambda net: make_step(net, end="both", step_size=float("nan")), "step_size is nan; allowed is a number other"),
    (lambda net: make_step(net, end="both", jitter=-1), "jitter is -1; allowed is a whole number from 0"),
    (lambda net: make_step(net, end="both", jitter=1.5), "jitter is 1.5; allowed is a whole number from 0"),
    (lambda net: deepdream(net, IMAGE, iter_n="1"), "iter_n is '1'; allowed is a whole number from 1"),
    (lambda net: deepdream(net, IMAGE * np.nan, end="both"), "the picture holds infinities, or values that are not"),
    (lambda net: net.features(IMAGE[..., 0], "both"), r"array of shape \(H, W, 3\), not \(40, 48\)"),
    (lambda net: dream_picture(IMAGE, model=net, mask_edge=3, end="both"), "mask_edge: there is no mask; give mask"),
    (lambda net: dream_picture(IMAGE, model=net, mask=IMAGE[0], end="both"), "the mask must be an array of shape")])
def test_numbers_and_arrays_that_are_not_allowed(net, call, message):
    with pytest.raises(DreamError, match=message):
        call(net)


@pytest.mark.parametrize("arguments, message", [
    ({"channel_swap": "rgb"}, "channel_swap is rgb; allowed is 0, 1 and 2 in any order"),
    ({"channel_swap": (0, 1)}, r"channel_swap is \(0, 1\)"), ({"channel_swap": (1, 2, 3)}, "channel_swap"),
    ({"channel_swap": (0, 0, 0)}, "channel_swap"),
    ({"threads": 0}, "threads is 0; allowed is a whole number from 1"), ({"threads": "2"}, "threads is 2")])
def test_arguments_that_a_net_does_not_take(toy, arguments, message):
    with pytest.raises(DreamError, match=message):
        Net(toy, device="cpu", **arguments)


def test_dream_picture_draws_a_seed_and_saves_it(net, cat, tmp_path):
    seeds = []
    for name in ("a.png", "b.png"):
        dream_picture(cat, tmp_path / name, net, **SMALL)
        seeds.append(settings(tmp_path / name)["seed"])
    assert seeds[0] != seeds[1]
    dream_picture(cat, tmp_path / "c.png", net, seed=seeds[0], **SMALL)
    assert np.array_equal(load(tmp_path / "a.png"), load(tmp_path / "c.png"))


@pytest.mark.parametrize("change, part", [
    ({"output": "x.txt"}, "output x.txt: '.txt' is not a picture format"), ({"output": "no/x.jpg"}, "no folder"),
    ({"output": "CAT"}, "would overwrite"), ({"start": "sky"}, "leave out one"), ({"picture": "no.jpg"}, "no.jpg"),
    ({"tv": -1}, "--tv"), ({"end": "nowhere"}, "no such end"), ({"size": (60, 20)}, "would squash"),
    ({"output": "x.webp", "size": (17000, 20), "stretch": True}, "holds at"),
    ({"picture": IMAGE[:2, :2]}, "too small")])
def test_mistakes_in_dream_picture(net, cat, change, part):
    arguments = {"picture": cat, "model": net, **SMALL, **change}
    if arguments.get("output") == "CAT":
        arguments["output"] = cat
    with pytest.raises(ValueError, match=part) as caught:
        dream_picture(**arguments)
    assert "\n" not in str(caught.value)
    assert [p.name for p in cat.parent.iterdir()] == ["cat.png"]


def test_every_setting_is_an_argument_of_dream_picture(net):
    from dataclasses import fields
    for field in fields(Settings):      # an unknown one would be a TypeError
        with pytest.raises(DreamError):
            dream_picture(IMAGE, model=net, **{field.name: object()})
    assert "dream_picture" in package.__all__


# ---- repr

def test_reprs_are_short(toy, net):
    assert repr(net).startswith(f"<Net {net.name}: {len(net.ends)} ends, input data 1x3x")
    assert repr(net).endswith(", on cpu>") and len(repr(net)) < 80
    assert repr(Device("cpu")) == "Device('cpu')" and repr(Device("auto", fast=True)).endswith("fast=True)")
    fresh = Net(toy, device="cpu", threads=1)
    assert repr(fresh.blobs["both"]) == "<Blob both: not computed yet>"
    fresh.forward(end="pool2")
    assert repr(fresh.blobs["both"]) == "<Blob both: not computed yet>"      # and does not start a forward pass
    fresh.blobs["both"].data
    assert repr(fresh.blobs["both"]).startswith("<Blob both: 1x10x")


@pytest.mark.parametrize("objective, text", [
    (objective_L2, "1/2 sum(x^2)"), (objective_L2.at("a"), "1/2 sum(x^2) at a"),
    (objective_channel([17, 13]).at("a"), "1/2 sum(x[13, 17]^2) at a"),
    (objective_channel(range(99)), "1/2 sum(x[0, 1, 2, 3, 4, 5, ...]^2)"), (objective_class(3), "mean(x[3])"),
    (objective_neuron(4), "x[4] at one position"),
    (objective_L2 - 0.5 * objective_class(1).at("b"), "1 * (1/2 sum(x^2)) + -0.5 * (mean(x[1]) at b)")])
def test_reprs_of_objectives(objective, text):
    assert repr(objective) == text
