"""Large pictures: tiles compared with the whole, and pictures that do not fit into the memory are rejected."""

import children
import numpy as np
import onnx
import pytest
import toys
from PIL import Image

from deepdream import (
    DreamError,
    Net,
    deepdream,
    make_step,
    objective_channel,
    objective_class,
    objective_guide,
    objective_L2,
    objective_match,
    objective_neuron,
    preprocess,
    settings,
)
from deepdream.engine import memory, tiles
from deepdream.engine.step import Step
from deepdream.engine.steppers import HostStepper
from deepdream.engine.tiles import TiledGradient, spans
from deepdream.goals.objectives import as_objective
from deepdream.runtime import free_memory

POINTWISE = toys.net(toys.conv("a", "data", 6, 2, stride=2), toys.relu("a"), toys.conv("b", "a", 5), toys.relu("b"),
                     toys.pool("c", "b", "MAX", 2, 2), shape=(1, 3, 32, 32))


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu", threads=1)


@pytest.fixture(scope="module")
def blind(tmp_path_factory):
    """A net whose windows do not overlap: no position sees beyond its own pixels."""
    return Net(toys.write_net(tmp_path_factory.mktemp("nets") / "blind", POINTWISE, toys.formula), device="cpu",
               threads=1)


def photograph(h, w, seed=0):
    """Make a picture with structures of all sizes, (H, W, 3)."""
    rng = np.random.default_rng(seed)
    total = 0
    for n in (1, 4, 16, 64):
        noise = Image.fromarray(np.float32(rng.normal(0, 1, (h // n + 2, w // n + 2)))).resize((w, h))
        total = total + np.asarray(noise)[..., None] * n ** 0.5 * rng.uniform(0.5, 1, 3)
    return np.float32(np.clip(128 + 14 * total, 0, 255))


def python_L2(dst):
    dst.diff[:] = dst.data


def whole(net, objective, end, x):
    step = Step(as_objective(objective, end))
    session = net.programs.session(net.programs.objective(step))
    value, gradient = session.run(["objective", "data_diff"], {"data": x, **step.objective.feeds()})
    return float(value), gradient


def tiled_gradient(net, objective, end, tile, rng=np.random):
    return TiledGradient(net, Step(as_objective(objective, end), tile=tile), rng)


def data(net, h, w, seed=0):
    return np.ascontiguousarray(preprocess(net, photograph(h, w, seed))[None])


# ---- how a picture is cut

@pytest.mark.parametrize("length", [257, 300, 511, 512, 513, 1000, 2309, 8000])
@pytest.mark.parametrize("tile, margin, stride", [(256, 64, 16), (300, 64, 16), (256, 32, 1), (128, 32, 4)])
def test_spans(length, tile, margin, stride):
    sizes = set()
    for offset in range(-margin, margin + 1, stride):
        cut = spans(length, tile, margin, stride, offset)
        assert [first for *_, first, _ in cut][0] == 0 and cut[-1][3] == length
        assert all(a[3] == b[2] for a, b in zip(cut, cut[1:]))                    # each pixel is one tile's own
        for start, stop, first, last in cut:
            assert 0 <= start <= first < last <= stop <= length and stop - start <= tile
            assert start % stride == 0 and first % stride == 0
            assert start == 0 or first - start >= margin
            assert stop == length or stop - last >= margin
        sizes |= {stop - start for start, stop, *_ in cut}
    assert len(sizes) <= 2 and max(sizes) - min(sizes) < stride


def test_one_tile_where_it_fits():
    assert spans(200, 256, 64, 16) == spans(200, 256, 64, 16, 32) == [(0, 200, 0, 200)]


def test_the_stride_and_the_margin(net, googlenet):
    assert [tiles.stride(net, [e]) for e in ("data", "conv1", "pool1", "both", "pool2")] == [1, 2, 4, 4, 4]
    dreamer = Net(googlenet, device="cpu")
    ends = ("inception_3b/output", "inception_4c/output", "inception_5b/output")
    assert [tiles.stride(dreamer, [e]) for e in ends] == [8, 16, 32]
    assert [tiles.margin(dreamer, [e]) for e in ends] == [32, 64, 128]
    assert [tiles.smallest(dreamer, [e]) for e in ends] == [128, 256, 512]
    assert tiles.stride(dreamer, ends[:2]) == 16


# ---- the gradient

@pytest.mark.parametrize("objective", [objective_L2, objective_channel([0, 3]), objective_class(2) * 3.0,
                                       objective_L2.at("a") - 0.2 * objective_channel([1])])
@pytest.mark.parametrize("size", [(200, 333), (131, 517), (128, 400)])
def test_exact_where_no_position_sees_beyond_its_own_pixels(blind, objective, size):
    x = data(blind, *size)
    value, gradient = whole(blind, objective, "c", x)
    for seed in range(3):
        mine, tiled = tiled_gradient(blind, objective, "c", 128, np.random.RandomState(seed))(x)
        average = any(term.is_mean for _, term in objective.terms)
        assert mine == pytest.approx(value, rel=0.05 if average else 1e-4)
        assert toys.off(tiled, gradient) < (0.03 if average else 1e-5)


@pytest.mark.parametrize("end, bound", [("conv1", 1e-5), ("both", 1e-5), ("pool2", 1e-5)])
def test_exact_where_the_margin_is_wider_than_what_a_position_sees(net, end, bound):
    x = data(net, 210, 341)
    value, gradient = whole(net, objective_L2, end, x)
    mine, tiled = tiled_gradient(net, objective_L2, end, 128)(x)
    assert mine == pytest.approx(value, rel=1e-4) and toys.off(tiled, gradient) < bound


def test_guide_and_python_functions(net):
    x = data(net, 200, 300)
    guide = objective_guide(net.features(photograph(60, 80, 5), "both"))
    for objective in (guide, objective_L2):
        expected = tiled_gradient(net, objective, "both", 128, np.random.RandomState(3))(x)
        assert toys.off(expected[1], whole(net, objective, "both", x)[1]) < 1e-4
    value, gradient = tiled_gradient(net, python_L2, "both", 128, np.random.RandomState(3))(x)
    assert value is None and toys.off(gradient, expected[1]) < 1e-5


@pytest.mark.slow
def test_near_the_whole_gradient_on_googlenet(googlenet):
    """The README has figures of the real net."""
    dreamer = Net(googlenet, device="cpu")
    x = data(dreamer, 272, 400)
    for end, tile, bound in (("inception_3b/output", 192, 0.03), ("inception_4c/output", 288, 0.1)):
        value, gradient = whole(dreamer, objective_L2, end, x)
        mine, tiled = tiled_gradient(dreamer, objective_L2, end, tile)(x)
        assert toys.off(tiled, gradient) < bound and mine == pytest.approx(value, rel=0.02), end


# ---- a dream

LARGE = dict(iter_n=2, octave_n=2, end="both", jitter=3)


def dream(net, image, seed=0, **options):
    np.random.seed(seed)
    return deepdream(net, image, **{**LARGE, **options})


@pytest.mark.parametrize("objective", [objective_L2, python_L2])
def test_a_dream_in_tiles_is_the_same_dream(net, objective):
    """Without jitter, whose random numbers would be others, since the offsets of the tiles are drawn in between."""
    image = photograph(170, 210)
    plain, tiled = (dream(net, image, jitter=0, objective=objective, tile=tile) for tile in (None, 128))
    assert toys.off(tiled - image, plain - image) < 1e-3 and np.abs(tiled - image).mean() > 0.5


def test_small_octaves_are_dreamt_without_tiles(net, monkeypatch):
    kinds, image = [], photograph(150, 170)
    monkeypatch.setattr("deepdream.engine.tiles.TiledGradient.__call__",
                        lambda self, x: kinds.append(x.shape[2:]) or (1.0, np.ones_like(x)))
    dream(net, image, tile=128)
    assert kinds == [(150, 170)] * 2
    np.testing.assert_array_equal(dream(net, image, tile=170), dream(net, image))      # bit for bit
    assert len(kinds) == 2


def test_offsets_come_after_the_jitter_and_in_tiled_octaves_only(net):
    seen, image = [], photograph(150, 170)
    step = HostStepper.step
    HostStepper.step = lambda self, ox, oy, *rest: seen.append((ox, oy)) or step(self, ox, oy, *rest)
    try:
        dream(net, image, 4, tile=128)
    finally:
        HostStepper.step = step
    drawn = np.random.randint(1 << 30)
    np.random.seed(4)
    for _ in range(2):
        np.random.randint(-3, 4, 2)
    for jitter in seen:
        assert jitter == tuple(np.random.randint(-3, 4, 2))
        np.random.randint(-8, 9, 2)
    assert len(seen) == 2 and np.random.randint(1 << 30) == drawn


def test_the_net_is_left_at_the_pictures_size(net):
    image = photograph(150, 170)
    for objective in (objective_L2, python_L2):
        net.blobs["data"].reshape(1, 3, 150, 170)
        held = net.blobs["data"].data
        held[0] = preprocess(net, image)
        before = held.copy()
        value, mean = make_step(net, end="both", objective=objective, tile=128)
        assert net.blobs["data"].data is held and mean > 0 and (value is None) == (objective is python_L2)
        assert 0 < np.abs(held - before).mean() <= 1.5 + 1e-4


# ---- errors

@pytest.mark.parametrize("options, parts", [
    (dict(tile=100), ["--tile 100", "'both' needs tiles of at least 128 pixels"]),
    (dict(tile=0), ["--tile 0", "128"]),
    (dict(tile=200.5), ["--tile 200.5", "whole number"]),
    (dict(tile=128, objective=objective_neuron(1)), ["--tile 128", "looks at the picture as a whole"]),
    (dict(tile=128, objective=objective_L2 + objective_neuron(1)), ["--tile 128", "as a whole"]),
    (dict(tile=128, objective=objective_match(np.zeros((10, 43, 53), np.float32))), ["--tile 128", "as a whole"])])
def test_invalid_options(net, options, parts):
    with pytest.raises(DreamError) as caught:
        dream(net, photograph(170, 210), **options)
    assert all(part in str(caught.value) for part in parts) and "\n" not in str(caught.value)


def test_an_objective_of_one_position_in_a_picture_of_one_tile(net):
    image = photograph(60, 80)
    seen = objective_neuron(int(net.features(image, "both").min((1, 2)).argmax()))
    np.testing.assert_array_equal(dream(net, image, objective=seen, tile=128), dream(net, image, objective=seen))


def test_leftover_diffs_and_ends_without_positions(toy, googlenet):
    with pytest.raises(DreamError, match="--tile: leftover_diffs"):
        dream(Net(toy, device="cpu", leftover_diffs=True), photograph(170, 210), tile=128)
    dreamer = Net(googlenet, device="cpu")
    with pytest.raises(DreamError, match="exactly 224x224"):
        deepdream(dreamer, photograph(300, 300), octave_n=1, end="prob", tile=256)
    with pytest.raises(DreamError, match="--tile: 'prob' has no positions"):
        deepdream(dreamer, photograph(224, 224), octave_n=1, end="prob", tile=256)


# ---- memory

def test_the_estimate_grows_with_the_picture_and_is_bounded_by_the_tile(net):
    def needed(h, w, tile=None):
        step = Step(objective_L2.at("both"), tile=tile)
        program = net.programs.objective(step, tile=True) if step.in_tiles(h, w) else net.programs.step(step)
        return memory.estimate(net, program, step, (h, w))
    small, large, tiled = needed(600, 800), needed(6000, 8000), needed(6000, 8000, 1024)
    assert large - memory.PROCESS == pytest.approx(100 * (small - memory.PROCESS), rel=0.05)
    assert 48e6 * memory.HOST < tiled < 0.8 * large


def test_the_peak_memory_of_a_small_graph(blind):
    """Counted by hand: the picture (3 channels), and tensors of 6 channels at half the size."""
    graph = blind.programs.graph(blind.programs.objective(Step(objective_L2.at("a"))))
    a_pixel, _ = memory.peak_memory(onnx.load_from_string(graph))
    assert 4 * (3 + 6 / 4) <= a_pixel <= 4 * (3 + 3 + 5 * 6 / 4)


def test_a_dream_that_needs_too_much_memory_is_rejected_before_its_first_step(net, monkeypatch):
    monkeypatch.setenv(free_memory.VARIABLE, "0.4")
    steps = []
    with pytest.raises(DreamError) as caught:
        dream(net, photograph(1000, 1200), on_step=lambda *a: steps.append(a))
    text = str(caught.value)
    assert text.startswith("the picture has 1200x1000 pixels; a dream at both needs about ") and not steps
    assert "0.40 GB are free; give " in text and text.endswith("a smaller picture") and "\n" not in text
    dream(net, photograph(100, 120))
    monkeypatch.setenv(free_memory.VARIABLE, "much")
    with pytest.raises(DreamError, match="DEEPDREAM_MEMORY_GB is 'much'; allowed is a number of gigabytes"):
        dream(net, photograph(100, 120))


def test_tiles_are_suggested_if_they_would_fit(net, monkeypatch):
    monkeypatch.setenv(free_memory.VARIABLE, "1.15")
    image = np.zeros((2000, 3000, 3), np.float32)
    with pytest.raises(DreamError, match=r"needs about 1\.\d GB, and 1\.\d GB are free; give --tile 1024 "
                                         r"\(about \d\.\d+ GB\), or a smaller picture"):
        dream(net, image)
    with pytest.raises(DreamError, match="free; give a smaller picture"):
        dream(net, image, objective=objective_neuron(1))
    monkeypatch.setenv(free_memory.VARIABLE, "0.5")
    with pytest.raises(DreamError, match="at both in tiles of 512 needs about .* free; give a smaller picture"):
        dream(net, image, tile=512)


def test_available_memory(net, monkeypatch):
    monkeypatch.delenv(free_memory.VARIABLE, raising=False)
    free = free_memory.free_memory(net.device)
    assert free is None or 1e8 < free < 1e14


@pytest.mark.parametrize("version", [1, 2])
def test_limits_of_control_groups(tmp_path, version):
    root = tmp_path / "memory" if version == 1 else tmp_path
    inner = root / "outer" / "inner"
    inner.mkdir(parents=True)
    names = ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file") if version == 1 else \
        ("memory.max", "memory.current", "inactive_file")
    for folder, most, used, cache in ((inner, "max" if version == 2 else "900000", 100, 0),
                                      (inner.parent, "5000", 3000, 500)):
        (folder / names[0]).write_text(f"{most}\n")
        (folder / names[1]).write_text(f"{used}\n")
        (folder / "memory.stat").write_text(f"anon 7\n{names[2]} {cache}\n")
    groups = tmp_path / "groups"
    groups.write_text("4:memory:/outer/inner\n2:cpu,cpuacct:/x\n" if version == 1 else "0::/outer/inner\n")
    assert min(free_memory.cgroup_memory(tmp_path, groups)) == 2500
    assert not list(free_memory.cgroup_memory(tmp_path, tmp_path / "nosuch"))


# ---- the command line

def command(*args, **env):
    return children.run("-m", "deepdream", *args, env=children.environment(**env))


@pytest.mark.slow
def test_the_command_line(toy, tmp_path):
    picture = tmp_path / "cat.png"
    Image.fromarray(np.uint8(photograph(150, 170))).save(picture)
    options = ["--model", toy, "--end", "both", "--iter-n", 1, "--octave-n", 2, "--jitter", 3, "--device", "cpu",
               "--seed", 1]
    large = ["dream", picture, "-o", tmp_path / "out.png", *options]
    rejected = command(*large, DEEPDREAM_MEMORY_GB="0.1")
    assert rejected.returncode == 2 and rejected.stderr.count("\n") == 1, rejected
    assert not (tmp_path / "out.png").exists()
    assert rejected.stderr.startswith("deepdream: the picture has 170x150 pixels; a dream at both needs about ")
    made = command(*large, "--tile", 128)
    assert made.returncode == 0 and settings(tmp_path / "out.png")["tile"] == 128, made
    small = command(*large, "--tile", 64)
    assert small.returncode == 2 and "--tile 64: 'both' needs tiles of at least 128" in small.stderr, small
    folder = tmp_path / "in"
    folder.mkdir()
    picture.rename(folder / "cat.png")
    for extra, summary in ((["--tile", 128], "1 dreams made, 0 kept"), (["--tile", 128], "0 dreams made, 1 kept"),
                           ([], "1 dreams made, 0 kept")):
        result = command("dream", folder, "-o", tmp_path / "dreams", *options, *extra)
        assert result.returncode == 0 and summary in result.stdout, result
    frames = ["zoom", folder / "cat.png", "-o", tmp_path / "frames", "--frames", 1, *options]
    assert command(*frames, "--tile", 128).returncode == 0
    assert "another tile" in command(*frames).stderr


@pytest.mark.parametrize("size", [(135, 263), (256, 256), (129, 135)])
def test_a_mean_over_positions_counts_each_once(tmp_path, size):
    """If no position sees beyond its own pixels, tiles change nothing, also if the borders are not whole strides."""
    text = toys.net(toys.conv("a", "data", 6, 2, stride=2), toys.relu("a"), toys.conv("b", "a", 5, 4, stride=4),
                    shape=(1, 3, 32, 32))
    net = Net(toys.write_net(tmp_path / "net", text), device="cpu", threads=1)
    objective, x = objective_class(2), toys.noise(1, 3, *size) * 50
    expected_value, expected = whole(net, objective, "b", x)
    value, gradient = tiled_gradient(net, objective, "b", 128)(x)
    assert toys.off(gradient, expected) < 1e-5
    np.testing.assert_allclose(value, expected_value, rtol=1e-4)


@pytest.mark.slow
def test_a_class_of_a_real_classifier_in_tiles():
    """The objective is the score of one class, after net surgery."""
    net = Net("mini_imagenet", device="cpu", surgery=True)
    x = toys.noise(1, 3, 300, 700) * 50
    value, gradient = tiled_gradient(net, objective_class(84), net.classifier, 512)(x)
    assert np.isfinite(value) and np.abs(gradient).mean() > 0
