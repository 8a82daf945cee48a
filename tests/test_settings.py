"""Settings: objectives, priors, starts and classes on the command line; settings that are saved and used again."""
import csv

import numpy as np
import pytest
import toys
from deepdream.convert import ConvertError
from PIL import Image

from deepdream import DreamError, Net, deepdream, objective_L2, pictures, settings
from deepdream.cli import main
from deepdream.goals.text import class_index, class_name, goals
from deepdream.options import Settings
from deepdream.pictures import starts

TINY = ["--iter-n", "2", "--octave-n", "2", "--jitter", "3", "--threads", "1", "--device", "cpu"]


@pytest.fixture(scope="module")
def net(toy):
    return Net(toy, device="cpu")


@pytest.fixture(scope="module")
def digits():
    return Net("digits", device="cpu", surgery=True)


def terms_of(plan):
    """List (weight, kind, end, inputs) of the terms of a plan's objective."""
    return [(w, type(t).__name__, t.end, {k: v.tolist() for k, v in t.inputs.items()})
            for w, t in plan["objective"].terms]


@pytest.mark.parametrize("ends, terms", [
    (None, [(1, "L2", "right", {})]),
    (["both"], [(1, "L2", "both", {})]),
    (["both:0.3", "conv1", "left:-2"], [(0.3, "L2", "both", {}), (1, "L2", "conv1", {}), (-2, "L2", "left", {})]),
    (["both[7,1-3]"], [(1, "objective_channel", "both", {"channels": [1, 2, 3, 7]})]),
    (["both[2]:4"], [(4, "objective_channel", "both", {"channels": [2]})]),
    (["left[3@0.25,1]"], [(1, "objective_neuron", "left", {"channel": [3], "place": [1.0, 0.25]})]),
    (["class:4:0.5"], [(0.5, "objective_class", "pool2", {"channel": [4]})]),
])
def test_objectives_of_the_option_end(net, ends, terms):
    plan = goals(net, Settings(end=ends or ()))
    if ends is None:
        terms = [(1, "L2", net.default_end, {})]
    assert terms_of(plan) == terms and plan["end"] == terms[0][2] and plan["priors"] == []


def test_a_guide_follows_whole_layers(net):
    guide = np.abs(toys.noise(30, 34, 3)) * 50
    plan = goals(net, Settings(end=("both", "left:0.5")), guide)
    assert [term[:3] for term in terms_of(plan)] == [(1, "objective_guide", "both"), (0.5, "objective_guide", "left")]
    np.testing.assert_array_equal(plan["objective"].terms[1][1].inputs["guide"],
                                  net.features(guide, "left").reshape(6, -1))
    with pytest.raises(DreamError, match=r"a guide follows whole layers; leave out \[3\]"):
        goals(net, Settings(end=("both[3]",)), guide)


@pytest.mark.parametrize("ends, message", [
    (["both[a]"], r"both\[a\]: \[a\] is no choice of channels; allowed are \[13,17\]"),
    (["both[]"], "no choice of channels"),
    (["both[1@2]"], "no choice of channels"),
    (["both[1@0.5,7]"], "a neuron's place is 0.5,7"),
    (["both:inf"], "the weight of both is inf"),
    (["both:0", "left:0"], "every weight is 0"),
    (["class:samoyed"], "has no labels; give the number of the class"),
    (["class:99"], "has classes 0 to 9"),
])
def test_invalid_ends(net, ends, message):
    with pytest.raises(DreamError, match=message):
        goals(net, Settings(end=ends or ()))


def test_an_unknown_layer_is_named(net):
    with pytest.raises(ConvertError, match="'bith'"):
        deepdream(net, np.zeros((40, 40, 3)), **goals(net, Settings(end=("both", "bith:0.5"))))


def test_classes_by_label_and_number(digits):
    assert digits.labels[4] == "four" and digits.classifier == "ip"
    assert [class_index(digits, t) for t in ("four", " FOUR ", "4", '"four"')] == [4] * 4
    assert class_name(digits, 4) == "four"
    with pytest.raises(DreamError, match="class 'fuor': digits knows none of this name; did you mean four"):
        class_index(digits, "fuor")
    imagenet = Net("mini_imagenet", device="cpu")
    assert imagenet.classifier == "loss3/classifier"
    assert class_index(imagenet, "samoyed") == class_index(imagenet, "Samoyede") == 258
    assert class_index(imagenet, "golden retriever") == 207
    with pytest.raises(DreamError, match="did you mean .*golden retriever"):
        class_index(imagenet, "retriever")


def test_priors_of_the_command_line(net, toy, tmp_path):
    out = tmp_path / "a.png"
    image = tmp_path / "in.png"
    Image.fromarray(np.uint8(np.abs(toys.noise(37, 30, 3)) * 60)).save(image)
    assert main(["dream", str(image), "-o", str(out), "--model", str(toy), "--end", "both", "--end", "conv1:0.1", *TINY,
                 "--seed", "3", "--tv", "0.2", "--grey", "0.1", "--blur", "0.8", "--blur-every", "2", "--laplacian",
                 "--keep-colours"]) == 0
    saved = settings(out)
    assert saved["end"] == ["both", "conv1:0.1"]
    assert saved["priors"] == {"tv": 0.2, "grey": 0.1, "blur": [0.8, 2, None], "laplacian": 4, "keep_colours": True}
    net = Net(toy, device="cpu", threads=1)
    plan = goals(net, Settings.from_metadata(saved))
    assert [type(p).__name__ for p in plan["priors"]] == ["TotalVariation", "Grey", "Blur", "Laplacian", "Luminance"]
    np.random.seed(3)
    dream = deepdream(net, pictures.load(image), 2, 2, jitter=3, **plan)
    np.testing.assert_array_equal(pictures.load(out), pictures.to_uint8(dream))


def test_a_dream_is_repeated_from_its_settings(toy, tmp_path, capsys):
    """--settings repeats a dream bit for bit, except for other options; a net that is gone must be passed again."""
    first, again, other = (tmp_path / n for n in ("1.png", "2.png", "3.png"))
    assert main(["dream", "-o", str(first), "--model", str(toy), "--end", "both[1,4]", "--end", "conv1:0.2", *TINY,
                 "--start", "noise", "--noise", "100", "30", "--size", "40x36", "--blur", "0.5", "--no-clip"]) == 0
    assert main(["dream", "-o", str(again), "--model", str(toy), "--settings", str(first), "--threads", "1"]) == 0
    assert first.read_bytes() == again.read_bytes()
    assert main(["dream", "-o", str(other), "--model", str(toy), "--settings", str(first), "--iter-n", "1",
                 "--threads", "1"]) == 0
    assert settings(other) == {**settings(first), "iter_n": 1}
    assert main(["dream", "-o", str(other), "--settings", str(first), "--threads", "1"]) == 0
    assert first.read_bytes() == other.read_bytes()
    pictures.save(pictures.load(first), first, {**settings(first), "model_path": str(tmp_path / "gone")})
    assert main(["dream", "-o", str(other), "--settings", str(first)]) == 2
    Image.new("RGB", (9, 9)).save(tmp_path / "plain.png")
    assert main(["dream", "-o", str(other), "--settings", str(tmp_path / "plain.png")]) == 2
    assert main(["dream", "-o", str(other), "--settings", str(tmp_path / "none.png")]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("deepdream:")]
    assert ["give --model too" in lines[0], "holds no settings of a dream" in lines[1], "no such picture" in lines[2]] \
        == [True] * 3 and len(lines) == 3


def test_settings_of_a_dream_of_a_picture_need_the_picture(toy, tmp_path, monkeypatch, capsys):
    """It is read again where it was, if it has not changed; without it, the sky would be dreamt without a warning."""
    monkeypatch.chdir(tmp_path)
    picture("cat.png")
    base = ["dream", "--model", str(toy), "--device", "cpu", "--threads", "1"]
    small = ["--end", "both", "--iter-n", "1", "--octave-n", "1"]
    assert main([*base, *small, "cat.png", "-o", "1.png"]) == 0
    (tmp_path / "cat.png").rename("away.png")
    assert main([*base, "-o", "2.png", "--settings", "1.png"]) == 2
    assert "--settings 1.png: was dreamt from cat.png, which is not there any more; give the picture too" \
        in capsys.readouterr().err
    assert not (tmp_path / "2.png").exists()
    (tmp_path / "away.png").rename("cat.png")
    assert main([*base, "cat.png", "-o", "2.png", "--settings", "1.png"]) == 0
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    for start in (["--size", "44x40"], ["--size", "44x40", "--start", "grey"], ["--size", "44x40", "--start", "noise"]):
        assert main([*base, *small, *start, "-o", "3.png"]) == 0
        assert main([*base, "-o", "4.png", "--settings", "3.png"]) == 0
        assert (tmp_path / "3.png").read_bytes() == (tmp_path / "4.png").read_bytes()
    assert main([*base, "-o", "5.png", "--settings", "1.png", "--start", "grey", "--size", "44x40"]) == 0


@pytest.mark.slow
def test_the_run_log_and_its_plot(toy, tmp_path):
    log, plot = tmp_path / "run.csv", tmp_path / "run.png"
    assert main(["dream", "-o", str(tmp_path / "a.png"), "--model", str(toy), "--end", "both", *TINY, "--start", "grey",
                 "--size", "40x36", "--seed", "5", "--log", str(log), "--plot", str(plot)]) == 0
    rows = list(csv.DictReader(log.open()))
    assert [(r["octave"], r["step"], r["width"], r["height"]) for r in rows] == \
        [("1", "1", "29", "26"), ("1", "2", "29", "26"), ("2", "1", "40", "36"), ("2", "2", "40", "36")]
    np.random.seed(5)
    assert [(int(r["jitter_x"]), int(r["jitter_y"])) for r in rows] == \
        [tuple(np.random.randint(-3, 4, 2)) for _ in range(4)]
    assert all(float(r["objective"]) > 0 and float(r["mean_abs_gradient"]) > 0 and float(r["milliseconds"]) > 0
               for r in rows)
    assert float(rows[3]["objective"]) > float(rows[2]["objective"])
    drawn = pictures.load(plot)
    assert len(np.unique(drawn.reshape(-1, 3), axis=0)) > 10 and drawn.min() < 130 and drawn.max() == 255


def test_an_interrupted_run_keeps_its_log(toy, tmp_path, monkeypatch):
    log, seen = tmp_path / "run.csv", []

    def stop(self, *step):
        seen.append(step)
        if len(seen) == 3:
            raise KeyboardInterrupt
    monkeypatch.setattr("deepdream.cli.progress.Progress.step", stop)
    assert main(["dream", "-o", str(tmp_path / "a.png"), "--model", str(toy), "--end", "both", *TINY, "--size", "40x36",
                 "--log", str(log)]) == 130
    assert len(log.read_text().splitlines()) == 1 + 3
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.partial.png", "run.csv"]
    assert settings(tmp_path / "a.partial.png")["partial"] == [2, 1]


@pytest.mark.parametrize("arguments, message", [
    (["--start", "noise", "in.png"], "leave out one"),
    (["--noise", "1", "2"], "give --start noise"),
    (["--size", "40x"], "'40x' is not a size like 640x480, or one number for the longest side"),
    (["--size", "0"], "'0' is not a size"),
    (["in.png", "--size", "60x40"], "--size 60x40: would squash the picture, which has 40x40 pixels; give --size 60 "
     "for 60x60, or --stretch to insist"),
    (["--recursive", "in.png"], "--recursive: only for a folder of pictures, and in.png is none"),
    (["--size", "0x9"], "'0x9' is not a size"),
    (["--blur-every", "2"], "there is no blur; give --blur SIGMA too"),
    (["--tv", "-1"], "'-1' is not a number from 0"),
    (["--laplacian", "13"], "'13' is not a whole number from 0 to 12"),
    (["--log", "nowhere/run.csv"], "--log nowhere/run.csv: there is no folder nowhere"),
    (["--log", "a.png"], "--log a.png: another file of this run has that name"),
    (["--log", "run.png", "--plot", "run.png"], "--plot run.png: another file of this run has that name"),
    (["--plot", "plot.txt"], "--plot plot.txt: '.txt' is not a picture format"),
    (["--octave-n", "101"], "'101' is not a whole number from 1 to 100"),
    (["--tv", "nan"], "'nan' is not a number from 0 to 1000"),
    (["--iter", "3"], "unknown argument --iter; did you mean --iter-n?"),
    (["--end", "conv1[0-99999999999]"], "is no choice of channels"),
    (["--end", "conv1[5-3]"], "is no choice of channels"),
    pytest.param(["--step-size", "1e6", "--grey", "1000", "--no-clip", "--iter-n", "40"], "numbers overflow",
                 marks=pytest.mark.slow),
])
def test_bad_options_are_one_line(toy, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (40, 40)).save("in.png")
    pictures.save(np.zeros((40, 40, 3)), "a.png", {"software": "deepdream"})
    try:
        code = main(["dream", "-o", "a.png", "--model", str(toy), "--end", "both", *TINY, *arguments])
    except SystemExit as stop:
        code = stop.code
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("deepdream")]
    assert code == 2 and len(lines) == 1 and message in lines[0]


def test_starts():
    noise = starts.noise(60, 50, 7, 90, 10)
    assert noise.shape == (60, 50, 3) and abs(noise.mean() - 90) < 0.5 and abs(noise.std() - 10) < 0.5
    np.testing.assert_array_equal(noise, starts.noise(60, 50, 7, 90, 10))
    assert np.abs(noise - starts.noise(60, 50, 8, 90, 10)).mean() > 5
    assert np.unique(starts.grey(4, 5)) == [128] and starts.grey(4, 5).shape == (4, 5, 3)
    ramp = np.float32(np.linspace(0, 255, 64))[None, :, None].repeat(32, 0).repeat(3, 2)
    half = starts.resized(ramp, 16, 32)
    assert half.shape == (16, 32, 3) and np.abs(half - ramp[::2].reshape(16, 32, 2, 3).mean(2)).max() < 2


def test_a_folder_of_pictures_at_one_size(toy, tmp_path):
    (tmp_path / "in").mkdir()
    for name, size in (("a.png", (50, 60)), ("b.png", (45, 33))):
        Image.fromarray(np.uint8(np.abs(toys.noise(*size, 3)) * 60)).save(tmp_path / "in" / name)
    arguments = ["dream", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(toy), "--end", "both[1]",
                 "--end", "conv1:0.5", *TINY, "--seed", "1", "--size", "44x40", "--tv", "0.2", "--stretch"]
    assert main(arguments) == 0
    for name in ("a.png", "b.png"):
        assert Image.open(tmp_path / "out" / name).size == (44, 40)
    assert main(["dream", str(tmp_path / "in" / "a.png"), "-o", str(tmp_path / "alone.png"), *arguments[4:]]) == 0
    np.testing.assert_array_equal(pictures.load(tmp_path / "alone.png"), pictures.load(tmp_path / "out" / "a.png"))
    assert settings(tmp_path / "out" / "a.png")["priors"] == {"tv": 0.2}


# ---- class pictures

def test_a_class_picture_of_a_linear_net(digits, tmp_path, capsys):
    """A digit dreamt from noise looks like the weights of its class."""
    out = tmp_path / "four.png"
    assert main(["class", "four", "--model", "digits", "-o", str(out), "--seed", "1", "--device", "cpu"]) == 0
    picture = pictures.load(out)
    assert picture.shape == (8, 8, 3)
    digits.blobs["data"].reshape(1, 1, 8, 8)
    from deepdream import preprocess
    digits.blobs["data"].data[0] = preprocess(digits, picture)
    assert digits.forward()["prob"].ravel().argmax() == 4
    strip = tmp_path / "strip.png"
    assert main(["class", "four", "--model", "digits", "-o", str(strip), "--seed", "1", "--device", "cpu",
                 "--strip"]) == 0
    assert float(capsys.readouterr().out.split("correlate ")[1].split()[0]) > 0.95
    w, h = Image.open(strip).size
    assert w > 4 * h
    assert settings(strip)["classes"] == [4] and settings(strip)["priors"] == {"grey": 2.5}


def test_a_grid_of_classes(tmp_path):
    out = tmp_path / "grid.png"
    assert main(["class", "zero", "1", "two", "--model", "digits", "-o", str(out), "--seed", "1", "--device", "cpu",
                 "--iter-n", "5", "--columns", "3"]) == 0
    w, h = Image.open(out).size
    assert w > 3 * 160 and h < w and settings(out)["classes"] == [0, 1, 2] and settings(out)["iter_n"] == 5


@pytest.mark.parametrize("arguments, message", [
    (["fuor"], "did you mean four?"),
    (["10"], "digits has classes 0 to 9"),
    (["four", "--size", "4x4"], "needs at least 8x8"),
    (["four", "one", "--strip"], "--strip: shows one class, and there are 2"),
])
def test_classes_that_cannot_be_shown(tmp_path, capsys, arguments, message):
    out = tmp_path / "c.png"
    assert main(["class", *arguments, "--model", "digits", "-o", str(out), "--device", "cpu"]) == 2
    assert message in capsys.readouterr().err and not out.exists()


def test_an_octave_ends_where_on_step_returns_settled(net):
    from deepdream.dream import SETTLED
    seen = []
    deepdream(net, np.abs(toys.noise(40, 44, 3)) * 60, 5, 2, end="both", objective=objective_L2,
              on_step=lambda octave, i, vis, report: seen.append((octave, i)) or (SETTLED if i == 1 else None))
    assert seen == [(0, 0), (0, 1), (1, 0), (1, 1)]


# ---- existing files

def picture(path, size=(40, 44), seed=0):
    Image.fromarray(np.uint8(np.abs(toys.noise(*size, 3, seed=seed)) * 60)).save(path)
    return str(path)


OPTIONS = [["--tv", "0.5"], ["--size", "44"], ["--laplacian", "2"], ["--blur", "1"], ["--keep-colours"],
           ["--end", "conv1:0.5"], ["--step-size", "3"]]


@pytest.mark.slow
@pytest.mark.parametrize("options", OPTIONS, ids=lambda o: o[0])
def test_a_folder_keeps_what_was_made_with_the_same_settings_only(toy, tmp_path, capsys, options):
    (tmp_path / "in").mkdir()
    picture(tmp_path / "in" / "a.png")
    base = ["dream", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(toy), "--end", "both", *TINY,
            "--seed", "1"]
    for arguments, kept in ((options, 0), (options, 1), ([], 0), ([], 1), (options, 0)):
        assert main(base + arguments) == 0
        assert f"{1 - kept} dreams made, {kept} kept" in capsys.readouterr().out


def test_a_folder_does_not_overwrite_other_pictures(toy, tmp_path, capsys):
    for name in ("in", "mine"):
        (tmp_path / name).mkdir()
        picture(tmp_path / name / "a.png")
    before = (tmp_path / "mine" / "a.png").read_bytes()
    assert main(["dream", str(tmp_path / "in"), "-o", str(tmp_path / "mine"), "--model", str(toy), *TINY]) == 2
    assert "which is not a dream" in capsys.readouterr().err
    assert (tmp_path / "mine" / "a.png").read_bytes() == before


@pytest.mark.slow
def test_a_damaged_dream_does_not_stop_a_folder(toy, tmp_path, capsys):
    """It is reported and not overwritten, since it may not be a dream."""
    (tmp_path / "in").mkdir()
    for i, name in enumerate(("a.jpg", "b.jpg")):
        picture(tmp_path / "in" / name, seed=i)
    run = ["dream", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", str(toy), "--end", "both", *TINY,
           "--seed", "1"]
    assert main(run) == 0
    bad = tmp_path / "out" / "a.jpg"
    for comment in (b"\xff\xfe", b"[" * 60000, b'{"software": 5}', b'{"seed": ' + b"9" * 5000 + b"}"):
        Image.open(tmp_path / "in" / "a.jpg").save(bad, comment=comment)
        before = bad.read_bytes()
        picture(tmp_path / "in" / "c.png", seed=len(comment))
        capsys.readouterr()
        assert main(run) == 2
        out, error = capsys.readouterr()
        assert "1 dreams made, 1 kept, 1 failed" in out and bad.read_bytes() == before
        assert f"would overwrite {bad}, which is not a dream" in error and error.count("\n") == 1


def test_a_zoom_goes_on_with_the_same_priors_only(toy, tmp_path, capsys):
    base = ["zoom", picture(tmp_path / "a.png"), "-o", str(tmp_path / "z"), "--model", str(toy), "--end", "both", *TINY,
            "--seed", "1", "--frames"]
    assert main([*base, "1", "--tv", "0.5"]) == 0
    assert main([*base, "2"]) == 2 and "another priors" in capsys.readouterr().err
    assert main([*base, "2", "--tv", "0.5"]) == 0


@pytest.mark.parametrize("options, wanted", [
    (["--end", "conv1"], {"end": "conv1"}), (["--clip"], {"clip": True}), (["--blur", "0"], {"priors": {"tv": 0.5}}),
    (["--no-keep-colours", "--tv", "0"], {"priors": {"blur": [1.0, 2, 0.5]}}), (["--start", "grey"], {"start": "grey"}),
    (["a.png"], {"picture": "a.png"}),
])
def test_options_override_saved_settings(toy, tmp_path, monkeypatch, options, wanted):
    monkeypatch.chdir(tmp_path)
    picture(tmp_path / "a.png")
    assert main(["dream", "-o", "1.png", "--model", str(toy), "--end", "both", *TINY, "--start", "noise", "--noise",
                 "99", "9", "--size", "40x36", "--no-clip", "--tv", "0.5", "--blur", "1", "--blur-until", "0.5",
                 "--blur-every", "2", "--keep-colours"]) == 0
    assert main(["dream", *options, "-o", "2.png", "--settings", "1.png", "--model", str(toy), "--threads", "1"]) == 0
    saved = settings("2.png")
    for name, value in wanted.items():
        got = saved[name]
        assert all(got[k] == v for k, v in value.items()) if isinstance(value, dict) else got == value
    assert saved["seed"] == settings("1.png")["seed"]


DEEP = "[" * 900 + "]" * 900


DAMAGED = {   # setting: JSON values that it cannot have
    "seed": ["true", "[1, 2]", '"x"', "-1", "1e400", "9" * 4000, DEEP], "iter_n": ["0", "1.5"], "octave_n": ["101"],
    "end": ["5", "[[1]]", '{"a": 1}', '["--"]', '"a\\u0000b"', "null"], "octave_scale": ["NaN"], "step_size": ["1e7"],
    "jitter": ["-1"], "clip": ["5"], "tile": ["-1"], "fast": ['"x"'], "start": ['"skies"'],
    "size": ['["40", "36", "1"]', "[99999, 99999]"],
    "noise": ['["1", "--output=evil.png"]', '["-o", "evil.png"]', "[1, 2, 3]", "[NaN, 1]"],
    "priors": ["[1]", '{"tv": -1}', '{"blur": 3}', '{"laplacian": 13}'],
    "pixels": ["[1]", '{"mean": [[1]]}', '{"scale": "x"}', '{"channel_swap": [[1], 2, 3]}'],
    "model": ["[1]", DEEP], "picture": ["{}"], "guide": ["7"],
}


@pytest.mark.parametrize("key, value", [(key, value) for key, values in DAMAGED.items() for value in values])
def test_a_damaged_setting_is_one_line_that_names_the_picture(tmp_path, monkeypatch, capsys, key, value):
    monkeypatch.chdir(tmp_path)
    whole = {"seed": "1", "end": '"ip"', "model": '"digits"', "size": "[8, 8]", "start": '"noise"', "octave_n": "1"}
    text = ", ".join(f'"{k}": {v}' for k, v in {**whole, key: value}.items())
    Image.new("RGB", (9, 9)).save("bad.jpg", comment=f"{{{text}}}".encode())
    assert main(["dream", "-o", "out.png", "--settings", "bad.jpg", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("deepdream: --settings bad.jpg: ") and error.count("\n") == 1 and len(error) < 500
    assert "its settings are damaged" in error or "holds no settings" in error
    assert [p.name for p in tmp_path.iterdir()] == ["bad.jpg"]


def test_settings_cannot_set_other_options(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    text = b'{"seed": 1, "end": "ip", "model": "digits", "size": [8, 8], "octave_n": 1, "iter_n": 1, ' \
           b'"output": "evil.png", "priors": {"output": "evil.png", "log": "evil.csv"}, "pixels": {"prototxt": "evil"}}'
    Image.new("RGB", (9, 9)).save("odd.jpg", comment=text)
    assert main(["dream", "-o", "out.png", "--settings", "odd.jpg", "--device", "cpu"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == ["odd.jpg", "out.png"]


@pytest.mark.parametrize("settings_", ['{"seed": 1, "end": "both", "priors": 5, "model": "digits"}',
                                       '{"seed": 1, "end": "both", "size": [0, 0], "model": "digits"}',
                                       '{"seed": 1, "end": "ip", "size": -3, "model": "digits"}',
                                       '{"seed": 1, "end": "ip", "frame": 3, "model": "digits"}',
                                       '{"seed": 1, "end": "ip"}'])
def test_invalid_settings_are_one_line(tmp_path, capsys, settings_):
    Image.new("RGB", (9, 9)).save(tmp_path / "bad.jpg", comment=settings_.encode())
    try:
        code = main(["dream", "-o", str(tmp_path / "out.png"), "--settings", str(tmp_path / "bad.jpg")])
    except SystemExit as stop:
        code = stop.code
    lines = capsys.readouterr().err.strip().splitlines()
    assert code == 2 and len(lines) == 1 and not (tmp_path / "out.png").exists()


def test_a_strip_has_as_many_pictures_as_requested(tmp_path):
    widths = []
    for n in (3, 6):
        assert main(["class", "four", "--model", "digits", "-o", str(tmp_path / "s.png"), "--seed", "1", "--device",
                     "cpu", "--strip", str(n)]) == 0
        widths.append(Image.open(tmp_path / "s.png").size[0])
    assert 1.5 < widths[1] / widths[0] < 2       # 7 pictures and 4, with the one of the weights


def test_classes_that_are_finished_survive_ctrl_c(tmp_path, monkeypatch):
    import deepdream.cli.commands.class_ as command
    made, dream_one = [], command._dream

    def one(*arguments):
        made.append(1)
        if len(made) == 3:
            raise KeyboardInterrupt
        return dream_one(*arguments)
    monkeypatch.setattr(command, "_dream", one)
    out = tmp_path / "c.png"
    assert main(["class", "0", "1", "2", "3", "--model", "digits", "-o", str(out), "--device", "cpu",
                 "--iter-n", "3"]) == 130
    assert not out.exists() and settings(tmp_path / "c.partial.png")["classes"] == [0, 1]


def test_a_gallery_dreams_in_tiles(tmp_path, capsys):
    arguments = ["gallery", picture(tmp_path / "a.png", (200, 300)), "-o", str(tmp_path / "g"), "--models",
                 "mini_imagenet", "--ends", "inception_3a/output", "--iter-n", "1", "--octave-n", "1", "--device",
                 "cpu"]
    assert main([*arguments, "--tile", "17"]) == 2 and "needs tiles of at least 128" in \
        (tmp_path / "g" / "gallery.json").read_text() + capsys.readouterr().err


# ---- nets and pictures that only Python or more options describe

@pytest.fixture
def onnx_file(tmp_path, monkeypatch):
    """An .onnx file with two inputs of four axes, in the folder of the test."""
    import onnx
    from onnx_toys import filters, some
    from onnx_toys import net as model
    monkeypatch.chdir(tmp_path)
    onnx.save(model("y = Conv(x, w); z = Relu(y)", {"w": filters(4, 3)}), "net.onnx")
    pictures.save(np.abs(some(20, 24, 3)) * 60, "cat.png")
    return "net.onnx"


def test_the_dream_of_a_net_in_an_onnx_file_again(onnx_file, tmp_path, capsys):
    pixels = ["--mean", "50", "--scale", "0.01"]
    small = ["--octave-n", "1", "--iter-n", "2", "--device", "cpu", "--end", "z"]
    assert main(["dream", "cat.png", "-o", "a.png", "--model", onnx_file, *pixels, *small]) == 0
    for words in ([], ["--model", onnx_file]):
        assert main(["dream", "--settings", "a.png", "-o", "b.png", "--device", "cpu", *words]) == 0
        assert "other files" not in capsys.readouterr().err
        assert settings("a.png") == settings("b.png")
        assert np.array_equal(pictures.load("a.png"), pictures.load("b.png"))
    (tmp_path / onnx_file).rename(tmp_path / "moved.onnx")
    assert main(["dream", "--settings", "a.png", "-o", "c.png", "--device", "cpu"]) == 2
    assert "was dreamt with 'net', which has no name in `deepdream models`; give --model too" in capsys.readouterr().err
    (tmp_path / "moved.onnx").rename(tmp_path / onnx_file)
    assert main(["dream", "--settings", "a.png", "-o", "c.png", "--model", onnx_file, "--mean", "1", "--device",
                 "cpu"]) == 0
    assert settings("c.png")["pixels"] == {**settings("a.png")["pixels"], "mean": [1.0]}


def test_another_onnx_file_keeps_its_own_pixels(onnx_file, tmp_path):
    import onnx
    from onnx_toys import filters
    from onnx_toys import net as model
    small = ["--octave-n", "1", "--iter-n", "1", "--device", "cpu", "--end", "z"]
    assert main(["dream", "cat.png", "-o", "a.png", "--model", onnx_file, "--mean", "50", *small]) == 0
    onnx.save(model("y = Conv(x, w); z = Relu(y)", {"w": filters(4, 3) * 2}), "other.onnx")
    assert main(["dream", "--settings", "a.png", "-o", "b.png", "--model", "other.onnx", "--device", "cpu"]) == 0
    assert settings("b.png")["pixels"]["mean"] != [50.0]


@pytest.mark.parametrize("given, was", [("picture", "from an array; give the picture too"),
                                        ("guide", "with the guide an array; give --guide")])
def test_a_dream_of_an_array_is_not_replayed_without_it(toy, tmp_path, monkeypatch, capsys, given, was):
    from deepdream import dream_picture
    monkeypatch.chdir(tmp_path)
    dream_picture(output="a.png", model=Net(toy, device="cpu"), end="both", iter_n=1, octave_n=1, seed=1, size=64,
                  **{given: np.full((60, 70, 3), 90.0)})
    assert main(["dream", "--settings", "a.png", "-o", "b.png", "--model", str(toy)]) == 2
    assert was in capsys.readouterr().err and not (tmp_path / "b.png").exists()


@pytest.mark.parametrize("pixels", [{"channel_swap": [7, 8, 9]}, {"channel_swap": [0, 1, 2, 3]}, {"mean": [10 ** 400]},
                                    {"mean": [float("nan")]}, {"input": 3}])
def test_hostile_pixels(onnx_file, capsys, pixels):
    full = {"mean": [0.0], "scale": [1.0], "layout": "nchw", "input": None, "channel_swap": [0, 1, 2], **pixels}
    pictures.save(np.zeros((20, 24, 3)), "a.png", {"seed": 1, "end": "z", "model": "net", "pixels": full})
    code = main(["dream", "--settings", "a.png", "cat.png", "-o", "b.png", "--model", onnx_file, "--iter-n", "1",
                 "--octave-n", "1", "--device", "cpu"])
    lines = [line for line in capsys.readouterr().err.splitlines() if not line.startswith(("running on", "net.onnx:"))]
    assert (code, len(lines)) in ((2, 1), (0, 1)) and "a.png: " in lines[0]      # damaged, or another net


def test_a_mean_that_is_the_nets_own(tmp_path):
    from deepdream import dream_picture
    for net in (Net("digits", mean=78, channel_swap=np.array([2, 1, 0]), threads=np.int64(1), device="cpu"),
                Net("digits", mean=np.float32([78]), device="cpu")):
        dream_picture(np.full((8, 8, 3), 90.0), tmp_path / "a.png", net, end="ip", iter_n=1, octave_n=1, seed=1)
        assert "pixels" not in settings(tmp_path / "a.png")


def test_a_mean_that_only_python_can_give(tmp_path, capsys):
    from deepdream import dream_picture
    net = Net("digits", device="cpu", mean=50)
    dream_picture(np.full((8, 8, 3), 90.0), tmp_path / "a.png", net, end="ip", iter_n=1, octave_n=1, seed=1)
    assert settings(tmp_path / "a.png")["pixels"] == {"mean": [50.0]}
    pictures.save(np.full((8, 8, 3), 90.0), tmp_path / "cat.png")
    words = ["dream", str(tmp_path / "cat.png"), "--settings", str(tmp_path / "a.png"), "-o", str(tmp_path / "b.png")]
    assert main([*words, "--device", "cpu"]) == 2
    assert "in Python with another mean or channel_swap than the net's own" in capsys.readouterr().err
    assert main([*words, "--device", "cpu", "--model", "digits"]) == 0
    assert "another mean or channel_swap" in capsys.readouterr().err
    assert Net(**net.files.arguments, device="cpu").transformer.mean["data"].ravel() == [50]
