"""Everyday use: sizes by one number, forecasts, --settings of every command, Ctrl-C, new folders and subfolders."""
import hashlib
import json
import os
import shutil
import signal

import children
import numpy as np
import pytest
import toys
from PIL import Image

from deepdream import DreamError, Net, load, pictures, settings
from deepdream.cli import main, ready
from deepdream.forecast import in_words, seconds_of
from deepdream.goals.text import goals
from deepdream.options import Settings
from deepdream.pictures.starts import fitted, start_size

TINY = ["--iter-n", "2", "--octave-n", "2", "--jitter", "3", "--threads", "1", "--device", "cpu"]


def picture(path, size=(40, 44), seed=0):
    Image.fromarray(np.uint8(np.abs(toys.noise(*size, 3, seed=seed)) * 60)).save(path)
    return str(path)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a temporary folder, with a picture cat.png."""
    monkeypatch.chdir(tmp_path)
    picture("cat.png")
    return tmp_path


@pytest.fixture(scope="module")
def run(toy):
    """Return a function that runs a command with the toy net."""
    def run(*words, end=("--end", "both")):
        return main([words[0], "--model", str(toy), *words[1:], *end])
    return run


# ---- sizes

@pytest.mark.parametrize("size, chosen, expected", [
    ((575, 1024), None, (575, 1024)), ((575, 1024), 512, (288, 512)), ((1024, 575), 2048, (2048, 1150)),
    ((10, 4000), 100, (1, 100)), (None, None, (575, 1024)), (None, 512, (288, 512)), (None, (30, 40), (40, 30)),
    ((3000, 4000), (640, 480), (480, 640)), ((575, 1022), (511, 288), (288, 511)), ((40, 40), (41, 40), (40, 41))])
def test_the_size_of_a_dream(size, chosen, expected):
    assert start_size(Settings(size=chosen), size) == expected


@pytest.mark.parametrize("size, chosen, advice", [
    ((3000, 4000), (640, 640), "--size 640 for 640x480"), ((40, 40), (44, 40), "--size 44 for 44x44"),
    ((575, 1022), (511, 300), "--size 511 for 511x288")])
def test_a_size_that_squashes_is_rejected_with_advice(size, chosen, advice):
    with pytest.raises(DreamError, match=f"{advice}, or --stretch to insist"):
        start_size(Settings(size=chosen), size)
    assert start_size(Settings(size=chosen, stretch=True), size) == chosen[::-1]
    assert start_size(Settings(size=chosen, start="grey"), size) == chosen[::-1]


def test_a_size_that_is_too_large():
    with pytest.raises(DreamError, match="--size 99999: makes 99999x56152 pixels"):
        fitted((575, 1024), 99999)
    with pytest.raises(DreamError, match="one number for the longest side"):
        Settings(size=0)


def test_sizes_on_the_command_line(here, run):
    assert run("dream", "cat.png", "-o", "a.png", "--size", "30", *TINY) == 0
    assert run("dream", "cat.png", "-o", "b.png", "--size", "50x30", "--stretch", *TINY) == 0
    assert run("dream", "-o", "c.png", "--size", "64", *TINY) == 0
    assert [Image.open(name).size for name in ("a.png", "b.png", "c.png")] == [(30, 27), (50, 30), (64, 36)]
    assert [settings(name)["size"] for name in ("a.png", "b.png", "c.png")] == [30, [50, 30], 64]
    picture("wide.png", (20, 60))
    assert run("dream", "wide.png", "-o", "d.png", "--settings", "a.png") == 0      # the other picture keeps its shape
    assert Image.open("d.png").size == (30, 10)
    assert main(["class", "4", "--model", "digits", "-o", "e.png", "--size", "8", "--device", "cpu", "--iter-n", "1"]
                ) == 0 and Image.open("e.png").size == (8, 8)


def test_a_saved_size_squashes_only_the_recorded_picture(here, run, capsys):
    assert run("dream", "cat.png", "-o", "b.png", "--size", "50x30", "--stretch", *TINY) == 0
    assert run("dream", "-o", "c.png", "--settings", "b.png") == 0
    assert (here / "b.png").read_bytes() == (here / "c.png").read_bytes()
    picture("dog.png", (60, 20))
    assert run("dream", "dog.png", "-o", "d.png", "--settings", "b.png") == 2
    assert "--size 50x30: would squash the picture, which has 20x60 pixels" in capsys.readouterr().err


# ---- forecasts

def test_a_forecast_before_a_large_dream(here, run, monkeypatch, capsys):
    monkeypatch.setattr("deepdream.forecast.LARGE", 40 * 44)
    assert run("dream", "cat.png", "-o", "a.png", *TINY, "--seed", "1") == 0
    assert "megapixels" not in capsys.readouterr().err
    monkeypatch.setattr("deepdream.forecast.LARGE", 40 * 44 - 1)
    started = []
    monkeypatch.setattr("deepdream.cli.progress.Progress.__enter__", lambda self: started.append(
        "megapixels" in capsys.readouterr().err) or self)
    assert run("dream", "cat.png", "-o", "b.png", *TINY, "--seed", "1") == 0
    assert started == [True]      # before the first step
    np.testing.assert_array_equal(load("a.png"), load("b.png"))


def test_a_forecast_of_zooms_and_comparisons(here, run, toy, monkeypatch, capsys):
    """A zoom counts the frames that are missing; a comparison has a line for each net."""
    monkeypatch.setattr("deepdream.forecast.LARGE", 40 * 44 - 1)
    monkeypatch.setattr("deepdream.forecast.seconds_of", lambda *_: 100)
    assert run("zoom", "cat.png", "-o", "frames", *TINY, "--seed", "1", "--frames", "3") == 0
    assert ": 0.0 megapixels, about 5 minutes here; --size 1024 would be faster" in capsys.readouterr().err
    assert run("zoom", "cat.png", "-o", "frames", *TINY, "--seed", "1", "--frames", "4") == 0
    assert "about 2 minutes here" in capsys.readouterr().err
    assert run("zoom", "cat.png", "-o", "frames", *TINY, "--seed", "1", "--frames", "4") == 0
    assert "megapixels" not in capsys.readouterr().err
    other = toys.write_net(here / "other", toys.TOY, lambda layer, i, shape: toys.formula("x" + layer, i, shape))
    assert main(["compare", "cat.png", "-o", "c.png", "--models", str(toy), str(other), "--end", "both",
                 *TINY]) == 0
    lines = capsys.readouterr().err.splitlines()
    assert [line.split(":")[0] for line in lines] == [toy.name, "other"]
    assert all("about 2 minutes here; a smaller picture would be faster, and --tile" in line for line in lines)


def test_the_line_of_a_forecast(here, toy, monkeypatch, capsys):
    net = Net(toy, device="cpu")
    chosen = goals(net, Settings(end=("both",)))
    for seconds, time in ((130, "about 2 minutes"), (None, "a long time")):
        monkeypatch.setattr("deepdream.forecast.seconds_of", lambda *_, seconds=seconds: seconds)
        ready.announce_time(net, Settings(end=("both",)), chosen, [(2000, 3000)], "cat.png")
        assert capsys.readouterr().err == f"cat.png: 6.0 megapixels, {time} here; --size 1024 would be faster, and " \
            "--tile 1024 needs less memory\n"
    ready.announce_time(net, Settings(end=("both",)), chosen, [(2000, 2000)], "cat.png")
    assert capsys.readouterr().err == ""


def test_a_forecast_counts_pixels_steps_and_margins(toy):
    """The time of a step is measured, so only the ratios are certain."""
    net, known = Net(toy, device="cpu", threads=1), {}
    for name, tile, sizes, iter_n in (("one", None, [(600, 600)], 1), ("many", None, [(600, 600)] * 2, 30),
                                      ("tiled", 300, [(600, 600)] * 2, 30)):
        plan = Settings(end=("both",), tile=tile)
        known[name] = seconds_of(net, ready.step_of(plan, goals(net, plan)), sizes, iter_n)
    assert all(value > 0 for value in known.values()) and known["many"] > 10 * known["one"]
    from deepdream import forecast
    step = ready.step_of(plan, goals(net, plan))
    assert forecast.computed(net, step, (200, 250)) == 200 * 250 < 600 * 600 < forecast.computed(net, step, (600, 600))


@pytest.mark.parametrize("seconds, words", [(0.4, "about 1 second"), (7.4, "about 7 seconds"), (43, "about 40 seconds"),
                                            (89, "about 90 seconds"), (130, "about 2 minutes"),
                                            (5000, "about 83 minutes"), (9000, "about 2.5 hours")])
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


# ---- --settings: the recorded files

def test_a_dream_is_repeated_from_its_picture_alone(here, run, capsys):
    """Also with the guide, from another folder, and with both files next to the picture."""
    picture("guide.png", (36, 36), 7)
    assert run("dream", str(here / "cat.png"), "-o", "a.png", *TINY, "--guide", str(here / "guide.png")) == 0
    saved = settings("a.png")
    for name, file in (("picture", "cat.png"), ("guide", "guide.png")):
        assert saved[name] == file and saved[f"{name}_path"] == str(here / file)
        assert saved[f"{name}_sha256"] == hashlib.sha256((here / file).read_bytes()).hexdigest()
    (here / "other").mkdir()
    os.chdir("other")
    assert run("dream", "-o", "b.png", "--settings", "../a.png", end=()) == 0
    assert (here / "other/b.png").read_bytes() == (here / "a.png").read_bytes()
    for file in ("cat.png", "guide.png"):      # the folder is moved: the files are next to the picture
        (here / file).rename(here / "other" / file)
    (here / "a.png").rename("a.png")
    assert run("dream", "-o", "c.png", "--settings", "a.png", end=()) == 0
    np.testing.assert_array_equal(load("b.png"), load("c.png"))
    picture("guide.png", (36, 36), 8)
    assert run("dream", "-o", "d.png", "--settings", "a.png", end=()) == 2
    assert "was dreamt with the guide guide.png, which has changed since; give --guide too" in capsys.readouterr().err
    (here / "other/guide.png").unlink()
    assert run("dream", "-o", "d.png", "--settings", "a.png", end=()) == 2
    assert "the guide guide.png, which is not there any more; give --guide too" in capsys.readouterr().err
    assert run("dream", "-o", "d.png", "--settings", "a.png", "--guide", "cat.png", end=()) == 0


def with_settings(source, target, **changes):
    """Write a picture again with other settings; None removes an entry."""
    values = {k: v for k, v in (settings(source) | changes).items() if v is not None}
    with Image.open(source) as image:
        image.save(target, comment=json.dumps(values).encode())


def test_pictures_of_older_versions_are_repeated(here, run, capsys):
    """They hold the name of the picture, but no path and no checksum; and their sizes could squash a picture."""
    assert run("dream", "cat.png", "-o", "new.jpg", *TINY, "--size", "50x30", "--stretch") == 0
    with_settings("new.jpg", "old.jpg", picture_path=None, picture_sha256=None)
    assert run("dream", "-o", "a.png", "--settings", "old.jpg", end=()) == 2
    assert "--settings old.jpg: was dreamt from cat.png; give the picture too" in capsys.readouterr().err
    assert run("dream", "cat.png", "-o", "a.jpg", "--settings", "old.jpg", end=()) == 0
    np.testing.assert_array_equal(load("new.jpg"), load("a.jpg"))
    with_settings("new.jpg", "old.jpg", picture_path=None)      # as folders of dreams had it
    assert run("dream", "-o", "b.jpg", "--settings", "old.jpg", end=()) == 0
    np.testing.assert_array_equal(load("new.jpg"), load("b.jpg"))


@pytest.mark.parametrize("changes, message", [
    ({"picture_path": 5}, "its settings are damaged"), ({"picture_sha256": "ab"}, "its settings are damaged"),
    ({"picture_sha256": ["x"]}, "its settings are damaged"), ({"picture_path": "a\0b", "picture": "x"}, "not there"),
    ({"picture_path": "/dev/zero", "picture": "x"}, "not there"), ({"picture_path": "//host/cat.png", "picture": "x"},
                                                                   "not there"),
    ({"picture": "../cat.png", "picture_path": "x"}, None)])
def test_hostile_paths_are_not_read(here, run, capsys, changes, message):
    assert run("dream", "cat.png", "-o", "new.jpg", *TINY) == 0
    with_settings("new.jpg", "bad.jpg", **changes)
    assert run("dream", "-o", "a.png", "--settings", "bad.jpg", end=()) == (2 if message else 0)
    assert (message or "") in capsys.readouterr().err


# ---- --settings of the other commands

def test_a_class_picture_is_repeated(here):
    digits = ["--model", "digits", "--device", "cpu", "--threads", "1"]
    assert main(["class", "4", "one", "-o", "a.png", *digits, "--iter-n", "7", "--grey", "0.5", "--columns", "1"]) == 0
    assert main(["class", "-o", "b.png", "--settings", "a.png", "--device", "cpu"]) == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    assert main(["class", "-o", "c.png", "--settings", "a.png", "--device", "cpu", "7"]) == 0
    assert settings("c.png") == settings("a.png") | {"classes": [7]}
    assert main(["class", "4", "--strip", "3", "-o", "d.png", *digits, "--iter-n", "5", "--start", "grey"]) == 0
    assert main(["class", "-o", "e.png", "--settings", "d.png", "--device", "cpu"]) == 0
    assert (here / "d.png").read_bytes() == (here / "e.png").read_bytes()


def test_an_enhanced_picture_is_repeated(here, run):
    assert run("enhance", "cat.png", "-o", "a.png", "--k", "1.5", "--prior", "l2", "--weight", "0.01", "--iter-n", "3",
               "--no-clip", "--device", "cpu", "--threads", "1") == 0
    assert run("enhance", "-o", "b.png", "--settings", "a.png", "--device", "cpu", end=()) == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()
    assert run("enhance", "-o", "c.png", "--settings", "a.png", "--device", "cpu", "--k", "2", "--prior", "none",
               end=()) == 0      # also values that are the defaults
    saved = settings("c.png")
    assert (saved["k"], saved["prior"], saved["weight"], saved["iter_n"], saved["clip"]) == (2, "none", None, 3, False)


def test_a_comparison_is_repeated(here):
    common = ["--iter-n", "1", "--octave-n", "1", "--device", "cpu", "--threads", "1"]
    assert main(["compare", "cat.png", "-o", "a.png", "--models", "mini_places", "mini_imagenet", "--end",
                 "conv1/7x7_s2", "conv2/3x3", *common]) == 0
    assert main(["compare", "-o", "b.png", "--settings", "a.png", "--device", "cpu"]) == 0
    assert (here / "a.png").read_bytes() == (here / "b.png").read_bytes()


def test_a_zoom_has_the_settings_of_a_frame_or_of_a_dream(here, run):
    picture("guide.png", (36, 36), 7)
    assert run("zoom", "cat.png", "-o", "a", "--frames", "2", *TINY, "--scale", "0.1", "--legacy-affine",
               "--guide", "guide.png") == 0
    assert run("zoom", "-o", "b", "--frames", "2", "--settings", "a/0001.jpg", "--device", "cpu", end=()) == 0
    for frame in ("0000.jpg", "0001.jpg"):
        assert (here / "a" / frame).read_bytes() == (here / "b" / frame).read_bytes()
    assert run("dream", "cat.png", "-o", "d.png", *TINY, "--size", "30", "--tv", "0.5") == 0
    assert run("zoom", "-o", "c", "--frames", "1", "--settings", "d.png", "--device", "cpu", end=()) == 0
    saved = settings("c/0000.jpg")
    assert saved["priors"] == {"tv": 0.5} and saved["scale"] == 0.05 and Image.open("c/0000.jpg").size == (30, 27)


def test_a_zoom_of_an_older_version_goes_on(here, run, capsys):
    """Its metadata lack the paths."""
    words = ["zoom", "cat.png", "-o", "a", *TINY, "--seed", "1", "--frames"]
    assert run(*words, "1") == 0
    with np.load("a/zoom.npz") as state:
        arrays = dict(state)
    metadata = json.loads(str(arrays["record"]))
    arrays["record"] = json.dumps({k: v for k, v in metadata.items() if not k.endswith("_path")})
    np.savez("a/zoom.npz", **arrays)
    assert run(*words, "2") == 0 and "1 frames made, 1 kept" in capsys.readouterr().out


def test_a_gallery_has_the_settings_of_one_of_its_dreams(here, capsys):
    common = ["--iter-n", "1", "--device", "cpu", "--threads", "1"]
    assert main(["gallery", "cat.png", "-o", "a", "--models", "mini_places", "--ends", "conv1/7x7_s2", "conv2/3x3",
                 "--octave-n", "1", "2", "--seeds", "4", "--quality", "80", "--step-size", "2", *common]) == 0
    dream = next((here / "a/dreams").glob("*conv2*o2*"))
    capsys.readouterr()
    assert main(["gallery", "-o", "b", "--settings", str(dream), "--device", "cpu"]) == 0
    assert "1 dreams made" in capsys.readouterr().out
    again = here / "b/dreams" / dream.name
    np.testing.assert_array_equal(load(dream), load(again))
    facts = ("seconds",)
    assert {k: v for k, v in settings(dream).items() if k not in facts} == \
        {k: v for k, v in settings(again).items() if k not in facts}


@pytest.mark.parametrize("command, message", [
    (["class", "-o", "x.png", "--settings", "a.png"], "holds no settings of a class picture"),
    (["enhance", "-o", "x.png", "--settings", "a.png"], "holds no settings of an enhanced picture"),
    (["compare", "-o", "x.png", "--settings", "a.png"], "holds no settings of a comparison"),
    (["gallery", "-o", "x", "--settings", "a.png"], "which has no name in `deepdream models`; give --models too"),
    (["zoom", "-o", "x", "--settings", "a.png"], "which has no name in `deepdream models`; give --model too"),
    (["zoom", "-o", "x", "--settings", "cat.png"], "holds no settings of a frame or a dream"),
    (["gallery", "-o", "x", "--settings", "sky.png"], "was not made from a picture file; give a picture too"),
    (["enhance", "-o", "x.png"], "PICTURE: is missing; give a picture, or --settings PICTURE"),
    (["compare", "-o", "x.png"], "PICTURE: is missing"), (["gallery", "-o", "x"], "PICTURE: is missing"),
    (["class", "-o", "x.png"], "CLASS: is missing")])
def test_settings_of_another_command_are_one_line(here, run, capsys, command, message):
    assert run("dream", "cat.png", "-o", "a.png", *TINY) == 0
    pictures.save(load("a.png"), "a.png", {**settings("a.png"), "model_path": "gone"})
    assert main(["dream", "-o", "sky.png", "--model", "digits", "--end", "ip", "--size", "8x8", *TINY[:2], "--octave-n",
                 "1", "--device", "cpu"]) == 0
    before, _ = names(here), capsys.readouterr()
    assert main(command) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and names(here) == before


@pytest.mark.parametrize("command, file, changes", [
    ("enhance", "e.jpg", {"k": "2"}), ("enhance", "e.jpg", {"prior": "tvl"}), ("enhance", "e.jpg", {"clip": 1}),
    ("enhance", "e.jpg", {"iter_n": 0}), ("enhance", "e.jpg", {"weight": [1]}), ("zoom", "d.jpg", {"scale": 2}),
    ("zoom", "d.jpg", {"legacy_affine": "yes"}), ("gallery", "d.jpg", {"quality": 0}),
    ("gallery", "d.jpg", {"end": ["both", "conv1"]}), ("class", "c.jpg", {"classes": []}),
    ("class", "c.jpg", {"classes": ["-o", "evil.png"]}), ("class", "c.jpg", {"strip": 99}),
    ("class", "c.jpg", {"columns": "x"})])
def test_damaged_settings_of_other_commands_are_one_line(here, run, capsys, command, file, changes):
    base = {"model": "digits", "seed": 1, "end": "both", "iter_n": 1}
    extra = {"e.jpg": {"k": 2, "prior": "tv", "weight": 0.1, "clip": True}, "d.jpg": {"octave_n": 1},
             "c.jpg": {"classes": [4], "size": [8, 8], "start": "noise", "octave_n": 1}}
    Image.new("RGB", (9, 9)).save(file, comment=json.dumps(base | extra[file] | changes).encode())
    words = ["cat.png"] if command != "class" else []
    before = names(here)
    assert main([command, *words, "-o", "x" if command in ("zoom", "gallery") else "x.png", "--settings", file]) == 2
    error = capsys.readouterr().err
    assert f"--settings {file}: its settings are damaged" in error and error.count("\n") == 1
    assert names(here) == before


# ---- Ctrl-C

def interrupt(monkeypatch, at, place="deepdream.cli.progress.Progress.step"):
    """Press Ctrl-C, by a signal, in a certain step."""
    seen = []

    def step(*_):
        seen.append(1)
        if len(seen) == at:
            os.kill(os.getpid(), signal.SIGINT)
    monkeypatch.setattr(place, step)


def test_a_dream_that_is_stopped_leaves_the_picture_so_far(here, run, monkeypatch, capsys):
    Image.open("cat.png").convert("RGBA").putalpha(77)
    words = ["dream", "cat.png", "-o", "out.webp", *TINY, "--seed", "1", "--quality", "90"]
    interrupt(monkeypatch, 3)
    for partial in ("out.partial.webp", "out.partial-2.webp"):
        monkeypatch.undo()
        monkeypatch.chdir(here)
        interrupt(monkeypatch, 3)
        assert run(*words) == 130
        out, error = capsys.readouterr()
        assert out == f"{partial}: 44x40, the picture so far: octave 2 of 2, step 1 of 2\n"
        assert error.endswith("deepdream: interrupted\n") and "goes on" not in error
        assert settings(partial)["partial"] == [2, 1] and not (here / "out.webp").exists()
    monkeypatch.undo()
    monkeypatch.chdir(here)
    assert run("dream", "-o", "whole.webp", "--settings", "out.partial.webp", "--quality", "90", end=()) == 0
    assert run(*words) == 0
    np.testing.assert_array_equal(load("whole.webp"), load("out.webp"))      # the settings are those of the whole dream


def test_ctrl_c_before_the_first_step_leaves_nothing(here, run, monkeypatch, capsys):
    monkeypatch.setattr("deepdream.dream.deepdream", lambda *_, **__: (_ for _ in ()).throw(KeyboardInterrupt))
    assert run("dream", "cat.png", "-o", "out.png", *TINY) == 130
    assert names(here) == ["cat.png"] and capsys.readouterr().err.endswith("deepdream: interrupted\n")


@pytest.mark.parametrize("words, at, finished, size", [(["4"], 2, 0, (8, 8)), (["4", "--strip", "3"], 2, 0, None),
                                                       (["4", "5", "6"], 8, 1, None)])
def test_a_class_picture_that_is_stopped(here, monkeypatch, capsys, words, at, finished, size):
    interrupt(monkeypatch, at)
    assert main(["class", *words, "--model", "digits", "-o", "new/c.png", "--iter-n", "5", "--step-size", "20",
                 "--device", "cpu", "--threads", "1"]) == 130
    assert names(here) == ["cat.png", "new/c.partial.png"]
    out, saved = capsys.readouterr().out, settings("new/c.partial.png")
    assert f"{finished} of {3 if finished else 1} classes are finished" in out
    assert saved["classes"] == [4] and saved["partial"] == finished
    assert size in (None, Image.open("new/c.partial.png").size)


BLOCKED = """
import hashlib, sys
from deepdream import cli
from deepdream.engine import steppers
def blocked(*_):
    print("blocked", flush=True)
    hashlib.pbkdf2_hmac("sha256", b"", b"", 2 ** 31 - 1)      # minutes in C, like a step of a very large picture
steppers.Stepper.step = blocked
sys.exit(cli.main(sys.argv[1:]))
"""


def test_a_second_ctrl_c_ends_even_in_the_middle_of_a_step(here, toy):
    process = children.start("-c", BLOCKED, "dream", "cat.png", "-o", "out.png", "--model", toy, *TINY, cwd=here)
    assert children.first_line(process) == "blocked\n"
    process.send_signal(signal.SIGINT)
    with pytest.raises(Exception, match="timed out"):
        process.wait(0.5)
    process.send_signal(signal.SIGINT)
    result = children.ended(process)
    assert result.returncode == 130 and result.stderr.endswith("deepdream: interrupted\n")
    assert names(here) == ["cat.png"]


@pytest.mark.parametrize("words, at", [
    (["dream", "in", "-o", "out", *TINY], 1), (["zoom", "cat.png", "-o", "out", *TINY, "--frames", "2"], 1),
    (["gallery", "cat.png", "-o", "out", "--models", "mini_places", "--ends", "conv1/7x7_s2", "--seeds", "1", "2",
      *TINY], 2)])      # the first picture that a gallery saves is its source
def test_where_the_same_command_goes_on_it_is_said(here, toy, monkeypatch, capsys, words, at):
    (here / "in").mkdir()
    for name in ("a.png", "b.png"):
        picture(here / "in" / name, seed=ord(name[0]))
    real, made = pictures.save, []

    def save(*args, **options):
        real(*args, **options)
        made.append(1)
        if len(made) == at:
            raise KeyboardInterrupt
    monkeypatch.setattr("deepdream.pictures.save", save)
    model = [] if words[0] == "gallery" else ["--model", str(toy), "--end", "both"]
    assert main([*words, *model]) == 130
    assert capsys.readouterr().err.endswith("deepdream: interrupted; the same command goes on\n")
    assert main([*words, *model]) == 0
    dreams = here / "out/dreams" if words[0] == "gallery" else here / "out"
    assert len([name for name in names(dreams) if name.endswith((".png", ".jpg"))]) == 2


# ---- folders

@pytest.mark.parametrize("command", [
    ["dream", "cat.png", "--iter-n", "1", "--octave-n", "1"], ["enhance", "cat.png", "--iter-n", "1"]])
def test_new_folders_are_made(here, run, command):
    assert run(*command, "-o", "new/folder/out.png", "--device", "cpu") == 0
    assert names(here) == ["cat.png", "new/folder/out.png"]


def test_new_folders_for_classes_and_comparisons(here):
    common = ["--iter-n", "1", "--octave-n", "1", "--device", "cpu", "--threads", "1"]
    assert main(["class", "4", "--model", "digits", "-o", "new/c.png", *common]) == 0
    assert main(["compare", "cat.png", "-o", "new/er/c.png", "--end", "conv1/7x7_s2", *common]) == 0
    assert names(here) == ["cat.png", "new/c.png", "new/er/c.png"]


@pytest.mark.parametrize("output, message", [
    ("new/out.txt", "'.txt' is not a picture format"), ("cat.png/new/out.png", "there is no folder cat.png"),
    ("new/out.png", "no such end: 'nosuch'")])
def test_a_mistake_makes_no_folder(here, run, capsys, output, message):
    for words in (["dream", "cat.png", *TINY], ["enhance", "cat.png", "--device", "cpu"]):
        assert run(*words, "-o", output, end=("--end", "nosuch")) == 2
        assert message in capsys.readouterr().err and names(here) == ["cat.png"] and not (here / "new").exists()


def test_subfolders(here, run, capsys):
    for name in ("in/a.png", "in/b.bmp", "in/sub/a.png", "in/sub/deep/c.png", "in/.hidden/d.png", "in/empty/notes.txt"):
        (here / name).parent.mkdir(parents=True, exist_ok=True)
        if name.endswith("txt"):
            (here / name).write_text("no picture")
        else:
            picture(here / name, seed=len(name))
    words = ["dream", "in", "-o", "in/out", *TINY, "--seed", "1"]      # the output is one of the subfolders
    assert run(*words) == 0
    assert names(here / "in/out") == ["a.png", "b.png"]
    assert "in: its 2 subfolders are left out; --recursive dreams the pictures there, too\n" in capsys.readouterr().err
    assert run(*words, "--recursive") == 0
    out, error = capsys.readouterr()
    assert names(here / "in/out") == ["a.png", "b.png", "sub/a.png", "sub/deep/c.png"]
    assert "2 dreams made, 2 kept" in out and "left out" not in error
    assert run(*words, "--recursive") == 0 and "0 dreams made, 4 kept" in capsys.readouterr().out
    assert settings("in/out/sub/a.png")["picture_path"] == "in/sub/a.png"
    assert run("dream", "in/empty", "-o", "x", *TINY) == 2
    assert "in/empty: holds no picture" in capsys.readouterr().err


def test_a_folder_with_pictures_in_subfolders_only(here, run, capsys):
    (here / "in/sub").mkdir(parents=True)
    picture(here / "in/sub/a.png")
    assert run("dream", "in", "-o", "out", *TINY) == 2
    assert "--recursive looks into its subfolders, too" in capsys.readouterr().err
    assert run("dream", "in", "-o", "out", *TINY, "--recursive") == 0 and names(here / "out") == ["sub/a.png"]


def test_pictures_that_cannot_be_read_are_mentioned(here, run, capsys):
    (here / "in").mkdir()
    picture(here / "in/a.png")
    for name in ("b.heic", "c.avif", "d.HEIC", "notes.txt"):
        (here / "in" / name).write_bytes(b"?")
    assert run("dream", "in", "-o", "out", *TINY) == 0 and names(here / "out") == ["a.png"]
    assert "in: b.heic and 2 more are left out; HEIC and AVIF pictures are not supported\n" in capsys.readouterr().err
    (here / "in/a.png").unlink()
    assert run("dream", "in", "-o", "out2", *TINY) == 2
    assert "; HEIC pictures, such as b.heic, are not supported\n" in capsys.readouterr().err
    assert run("dream", "in/b.heic", "-o", "b.png", *TINY) == 2
    assert "in/b.heic: HEIC pictures are not supported; JPEG, PNG, WebP and TIFF are\n" in capsys.readouterr().err
    (here / "film.mp4").write_bytes(b"?")
    assert run("dream", "film.mp4", "-o", "b.png", *TINY) == 2
    assert "are supported; `deepdream video` dreams films\n" in capsys.readouterr().err


# ---- nothing of the user's is lost

@pytest.mark.parametrize("option, name", [("-o", "mine.png"), ("-o", "mine.jpg"), ("--plot", "mine.png"),
                                          ("--log", "mine.csv")])
def test_files_of_somebody_else_are_not_overwritten(here, run, capsys, option, name):
    (picture if name.endswith("g") else lambda path: path.write_text("a,b"))(here / name)
    before = (here / name).read_bytes()
    words = ["dream", "cat.png", *([] if option == "-o" else ["-o", "out.png"]), option, name, *TINY]
    assert run(*words) == 2
    assert f"{option} {name}: would overwrite {name}, which was not made by deepdream" in capsys.readouterr().err
    assert (here / name).read_bytes() == before and not (here / "out.png").exists()
    (here / name).unlink()
    assert run(*words) == 0 and run(*words) == 0      # its own files are replaced


@pytest.mark.parametrize("command", ["enhance", "class", "zoom", "video"])
def test_no_command_overwrites_files_of_somebody_else(here, run, capsys, command):
    if command == "video":
        (here / "film").mkdir()
        picture(here / "film/1.png"), picture(here / "film/2.png")
    words = {"enhance": ["cat.png", "-o", "mine.png"], "class": ["0", "-o", "mine.png"],
             "zoom": ["cat.png", "-o", "frames", "--frames", "2", "--movie", "mine.gif"],
             "video": ["film", "-o", "mine.gif", "--flow", "none"]}[command]
    name = words[-1] if command == "zoom" else words[words.index("-o") + 1]
    (here / name).write_bytes(b"mine")
    options = TINY[:2] if command == "enhance" else TINY
    assert run(command, *words, *options, end=[] if command == "class" else ("--end", "both")) == 2
    assert f"would overwrite {name}, which was not made by deepdream" in capsys.readouterr().err
    assert (here / name).read_bytes() == b"mine" and not (here / "frames").exists()


@pytest.mark.parametrize("name", ["movie.gif", "movie.webp", "movie.mp4"])
def test_a_zoom_replaces_its_movie_only(here, run, capsys, name):
    if name.endswith("mp4"):
        pytest.importorskip("av")
    words = ["cat.png", *TINY, "--seed", "1", "--movie", name]
    assert run("zoom", *words, "-o", "a", "--frames", "2") == 0
    first = (here / name).read_bytes()
    assert run("zoom", *words, "-o", "a", "--frames", "3") == 0 and (here / name).read_bytes() != first
    assert run("zoom", *words, "-o", "b", "--frames", "2") == 0 and (here / name).read_bytes() == first
    (here / name).write_bytes(b"mine")
    assert run("zoom", *words, "-o", "b", "--frames", "3") == 2 and (here / name).read_bytes() == b"mine"


@pytest.mark.parametrize("first, name", [(0, "0000.jpg"), (0, "0002.jpg"), (1, "0001.jpg"), (1, "0002.jpg")])
def test_a_zoom_does_not_replace_pictures(here, run, capsys, first, name):
    words = ["zoom", "cat.png", "-o", "out", *TINY, "--seed", "1", "--frames"]
    if first:
        assert run(*words, str(first)) == 0
    (here / "out").mkdir(exist_ok=True)
    picture(here / "out" / name)
    before = (here / "out" / name).read_bytes()
    assert run(*words, "3") == 2 and (here / "out" / name).read_bytes() == before
    assert f"would overwrite out/{name}, which is no frame of a zoom" in capsys.readouterr().err \
        or (first, name) == (0, "0001.jpg")


def test_a_film_goes_on_only_with_the_same_options(here, run, capsys):
    (here / "film").mkdir()
    for i in range(4):
        picture(here / f"film/{i}.png", seed=i)
    words = ["video", "film", "-o", "out", "--work", "work", "--flow", "none", "--seed", "1", *TINY]
    for extra in (["--to", "0.05"], ["--guide", "cat.png"]):
        assert run(*words, *extra) == 0
        capsys.readouterr()
        assert run(*words) == 2
        assert f"holds a film that was begun with another {extra[0].strip('-')}" in capsys.readouterr().err
        for folder in ("work", "out"):
            shutil.rmtree(here / folder)
    assert run(*words) == 0
    assert run(*words, "--guide", "out/0.png") == 2
    assert "-o out: holds the picture of --guide, which could be overwritten" in capsys.readouterr().err
    assert run("dream", "--settings", "out/0.png", "-o", "x.png", *TINY[-4:]) == 2
    assert "was dreamt from the film film; give a picture too" in capsys.readouterr().err


def test_a_comparison_finds_its_nets_again(here, toy, capsys):
    for name in ("one", "two"):
        shutil.copytree(toy, here / "nets" / name)
    words = ["--end", "both", *TINY[:6], "--device", "cpu", "--threads", "1", "--seed", "1"]
    assert main(["compare", "cat.png", "--models", "nets/one", "nets/two", "-o", "a.png", *words]) == 0
    assert settings("a.png")["model_paths"] == ["nets/one", "nets/two"]
    assert main(["compare", "--settings", "a.png", "-o", "b.png", "--device", "cpu", "--threads", "1"]) == 0
    np.testing.assert_array_equal(load("a.png"), load("b.png"))
    shutil.rmtree(here / "nets/two")
    capsys.readouterr()
    assert main(["compare", "--settings", "a.png", "-o", "c.png", "--device", "cpu"]) == 2
    assert "'two', which has no name in `deepdream models`; give --models too" in capsys.readouterr().err


def test_a_converted_net(here, toy, capsys):
    from deepdream.convert.__main__ import main as convert
    assert convert([str(toy / "deploy.prototxt"), str(toy / "net.caffemodel"), "-o", "toy.onnx", "--mean",
                    "104,116,122"]) == 0
    assert main(["dream", "cat.png", "-o", "a.png", "--model", "toy.onnx", "--end", "both", *TINY]) == 0
    capsys.readouterr()
    assert main(["dream", "--settings", "a.png", "-o", "b.png", "--device", "cpu"]) == 0
    assert "other files" not in capsys.readouterr().err
    np.testing.assert_array_equal(load("a.png"), load("b.png"))
    assert main(["models", "--add", "toy.onnx"]) == 2 and not (here / "toy.toml").exists()
    assert "toy.onnx: was converted from Caffe's files" in capsys.readouterr().err


# ---- messages that say what to do

@pytest.mark.parametrize("words, message", [
    (["cat.png", "-o", "new/"], "-o new: is a folder; give the name of a picture in it, such as new/dream.jpg"),
    (["in"], "in is a folder, so give another folder for its dreams, such as -o dreams/"),
    (["cat.png", "-o", "a.gif"], "'.gif' is not a picture format that can be written"),
    (["cat.png", "--seed", "-1"], "'-1' is not a whole number from 0 to 4294967295"),
    (["cat.png", "--octave-n", "12"], "needs at least 3x3; --octave-n 9 fits"),
    (["tiny.png", "--octave-n", "2"], "needs at least 3x3; --octave-n 1 --size 3 fits"),
    (["tiny.png", "--size", "3x2", "--stretch"], "needs at least 3x3; --octave-n 1 --size 6 fits")])
def test_what_to_do(here, run, capsys, words, message):
    (here / "new").mkdir(), (here / "in").mkdir()
    picture(here / "in/a.png"), Image.new("RGB", (2, 2)).save("tiny.png")
    try:
        code = run("dream", *words)
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and error.count("\n") == 1


def test_a_missing_package_is_one_line(monkeypatch, capsys):
    from deepdream import __main__
    for name, code in (("PIL", 2), ("deepdream.no_module", None)):
        def missing(name=name):
            raise ModuleNotFoundError(f"No module named '{name}'", name=name)
        monkeypatch.setattr("deepdream.cli.main", missing)
        if code is None:
            with pytest.raises(ModuleNotFoundError):
                __main__.main()
        else:
            assert __main__.main() == 2
            error = capsys.readouterr().err
            assert "the package PIL is not installed for " in error and ". .venv/bin/activate" in error


# ---- what a dream keeps

@pytest.mark.parametrize("suffix", ["jpg", "png", "webp", "tif"])
def test_names_with_umlauts_stay_in_the_exif(here, run, suffix):
    exif = Image.Exif()
    exif[0x13b], exif[0x8298] = "Jürgen".encode(), "© Müller".encode()
    exif.get_ifd(0x8769)[0xa430] = "Zoë".encode()      # the owner of the camera
    Image.open("cat.png").save("a.jpg", exif=exif)
    assert run("dream", "a.jpg", "-o", f"b.{suffix}", *TINY) == 0
    data = (here / f"b.{suffix}").read_bytes()
    with Image.open(f"b.{suffix}") as image:
        kept = image.getexif()
        for value, name in ((kept[0x13b], "Jürgen"), (kept[0x8298], "© Müller"), (kept.get_ifd(0x8769)[0xa430], "Zoë")):
            assert value.encode("latin-1") == name.encode()      # as a text, which Pillow reads as Latin-1
    assert suffix == "png" or "Jürgen".encode() in data


def test_pages_and_frames_that_are_left_out(here, run, capsys):
    frames = [Image.new("RGB", (40, 40), colour) for colour in ("red", "green", "blue")]
    frames[0].save("a.gif", save_all=True, append_images=frames[1:])
    frames[0].save("a.tif", save_all=True, append_images=frames[1:])
    assert run("dream", "a.gif", "-o", "b.png", *TINY) == 0
    assert "a.gif: only the first frame is read; `deepdream video` dreams them all\n" in capsys.readouterr().err
    assert run("dream", "a.tif", "-o", "c.png", *TINY) == 0
    assert "a.tif: only the first page is read\n" in capsys.readouterr().err
