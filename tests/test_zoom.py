"""The endless zoom: its geometry, resuming, movies, and damaged states."""
import io
import json
import os
import random
import zipfile

import children
import numpy as np
import pytest
import scipy.ndimage as nd
from PIL import Image, ImageSequence

from deepdream import DreamError, pictures, zoom
from deepdream.cli import main


@pytest.fixture
def picture(tmp_path):
    """A picture of 45 x 40 pixels (an odd width)."""
    y, x = np.mgrid[:40, :45]
    path = tmp_path / "slope.png"
    Image.fromarray(np.uint8(np.dstack([5 * x, 6 * y, 127 + 100 * np.sin(x * y / 60)]))).save(path)
    return str(path)


def command(picture, toy, out, frames, *options):
    return ["zoom", picture, "-o", str(out), "--frames", str(frames), "--model", str(toy), "--end", "both",
            "--iter-n", "1", "--octave-n", "2", "--device", "cpu", "--threads", "1", *options]


def test_zooming_is_the_notebooks_affine_transform():
    frame = np.float32(np.random.default_rng(0).uniform(0, 255, (30, 41, 3)))
    h, w, s = 30, 41, 0.05
    expected = nd.affine_transform(frame, np.diag([1 - s, 1 - s, 1]), [h * s / 2, w * s / 2, 0], order=1)
    got = zoom.zoomed(frame)
    assert got.dtype == np.float32 and got.shape == frame.shape
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("legacy, fixed", [(False, 0.5), (True, 0.475)])
def test_the_vanishing_point(legacy, fixed):
    """On ramps a pixel's value is the place it came from. The vanishing point is the place that did not move."""
    y, x = np.mgrid[:80, :200]
    came = zoom.zoomed(np.float32(np.dstack([x, y, x])), 0.05, legacy)
    for channel, size, axis in ((0, 200, 1), (1, 80, 0)):
        line = came[40, :, 0] if axis else came[:, 100, 1]
        moved = line - np.arange(size)
        assert np.interp(0, -moved, np.arange(size)) == pytest.approx(fixed * size, abs=0.01)


def test_resuming_gives_what_one_run_gives(picture, toy, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(picture, toy, one, 4, "--seed", "7")) == 0
    assert main(command(picture, toy, two, 2, "--seed", "7")) == 0
    capsys.readouterr()
    assert main(command(picture, toy, two, 4)) == 0      # with the same seed
    assert "2 frames made, 2 kept" in capsys.readouterr().out
    names = ["0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"]
    assert sorted(p.name for p in one.glob("*.jpg")) == sorted(p.name for p in two.glob("*.jpg")) == names
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert pictures.settings(two / "0003.jpg")["frame"] == 3
    assert len({(one / name).read_bytes() for name in names}) == 4


def test_stopped_between_a_frame_and_its_state(picture, toy, tmp_path, monkeypatch):
    """The state is one frame older, so the frame is made again, and is the same."""
    out, keep = tmp_path / "out", zoom.save_state

    def stop(folder, i, *args):
        if i == 2:
            raise KeyboardInterrupt
        keep(folder, i, *args)

    monkeypatch.setattr(zoom, "save_state", stop)
    assert main(command(picture, toy, out, 3, "--seed", "1")) == 130
    before = (out / "0001.jpg").read_bytes()
    monkeypatch.setattr(zoom, "save_state", keep)
    assert main(command(picture, toy, out, 3, "--seed", "1")) == 0
    assert (out / "0001.jpg").read_bytes() == before and (out / "0002.jpg").exists()


def test_other_settings_do_not_mix(picture, toy, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(picture, toy, out, 2)) == 0
    assert main(command(picture, toy, out, 3, "--legacy-affine", "--step-size", "2")) == 2
    assert "another step size, legacy affine" in capsys.readouterr().err
    (out / "zoom.npz").write_bytes(b"damaged")
    assert main(command(picture, toy, out, 3)) == 2
    assert "zoom.npz: cannot be read" in capsys.readouterr().err
    (out / "zoom.npz").unlink()
    assert main(command(picture, toy, out, 3)) == 2
    assert "holds frames but no zoom.npz" in capsys.readouterr().err


@pytest.mark.parametrize("kind", ["gif", "webp", "mp4"])
def test_movies(picture, toy, tmp_path, kind):
    if kind == "mp4":
        av = pytest.importorskip("av", reason="needs the package av for mp4")
    path = tmp_path / f"movie.{kind}"
    assert main(command(picture, toy, tmp_path / "out", 3, "--movie", str(path), "--fps", "12.5")) == 0
    if kind == "mp4":
        with av.open(str(path)) as movie:
            frames = [f.to_ndarray(format="rgb24") for f in movie.decode(video=0)]
            assert movie.streams.video[0].average_rate == 12.5
        assert len(frames) == 3 and frames[0].shape == (40, 44, 3)      # even sizes
    else:
        with Image.open(path) as movie:
            frames = [np.asarray(f.convert("RGB")) for f in ImageSequence.Iterator(movie)]
            assert movie.n_frames == 3 and movie.info["duration"] == 80 and movie.info["loop"] == 0
    last = pictures.load(tmp_path / "out" / "0002.jpg")[:40, :44]
    assert np.abs(frames[2][:40, :44] - last).mean() < 20


def test_a_movie_of_another_kind(picture, toy, tmp_path, capsys):
    assert main(command(picture, toy, tmp_path / "out", 1, "--movie", str(tmp_path / "m.avi"))) == 2
    assert "--movie" in capsys.readouterr().err and not (tmp_path / "out").exists()


def test_input_pictures_are_not_overwritten(picture, toy, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    source = out / "0000.jpg"
    Image.open(picture).save(source)
    before = source.read_bytes()
    assert main(command(str(source), toy, out, 2)) == 2
    assert "0000.jpg: would overwrite" in capsys.readouterr().err
    assert main(command(picture, toy, out, 2)) == 2      # another picture
    assert "0000.jpg, which is no frame of a zoom" in capsys.readouterr().err
    assert main(command(picture, toy, tmp_path / "new", 2, "--guide", str(source), "--movie",
                        str(tmp_path / "no/a.gif"))) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert source.read_bytes() == before and [p.name for p in out.iterdir()] == ["0000.jpg"]
    assert not (tmp_path / "new").exists()


def test_stopped_before_the_first_state(picture, toy, tmp_path):
    out = tmp_path / "out"
    assert main(command(picture, toy, out, 1)) == 0
    (out / "zoom.npz").unlink()
    assert main(command(picture, toy, out, 1)) == 0


def test_the_seed_is_that_of_the_state(picture, toy, tmp_path):
    out = tmp_path / "out"
    assert main(command(picture, toy, out, 1, "--seed", "7")) == 0
    (out / "0000.jpg").unlink()
    assert main(command(picture, toy, out, 2)) == 0
    assert pictures.settings(out / "0001.jpg")["seed"] == 7


# ---- a damaged state

def npy(array, header=None):
    """Return the bytes of an .npy file. header: the shape to declare instead of the true one."""
    file = io.BytesIO()
    np.lib.format.write_array(file, np.asarray(array), allow_pickle=True)
    data = file.getvalue()
    if header:
        before = str(np.shape(array)).encode()
        data = data.replace(before + b", }" + b" " * (len(header) - len(before)), header + b", }", 1)
        assert header in data
    return data


RECORD = json.dumps({"seed": 1})
FRAME = np.zeros((40, 45, 3), np.float32)
BAD = {   # what is wrong: {entry of the archive: its bytes, or None if it is missing}
    "no frame": {"frame": None}, "no record": {"record": None}, "an empty entry": {"frame": b""},
    "another shape": {"frame": npy(FRAME[1:])}, "another kind of numbers": {"frame": npy(FRAME.astype(complex))},
    "whole numbers": {"frame": npy(FRAME.astype(np.int32))}, "NaN": {"frame": npy(FRAME * np.nan)},
    "objects": {"frame": npy(np.array([print, 1], object))},
    "10^12 numbers": {"frame": npy(FRAME, b"(10000, 10000, 10000)")},
    "10^20 numbers": {"frame": npy(FRAME, b"(9999999999, 9999999999)")},
    "negative": {"frame": npy(FRAME, b"(-40, -45, 3)")},
    "a cut frame": {"frame": npy(FRAME)[:-1]}, "a bomb": {"frame": npy(np.zeros(10 ** 8, np.uint8))},
    "a bomb of words": {"record": npy(np.array("x" * 10 ** 7))},
    "frame 0": {"next": npy(0)}, "half a frame": {"next": npy(1.5)}, "several": {"next": npy([1, 2])},
    "a text": {"next": npy("2")},
    "no JSON": {"record": npy("{")}, "a list": {"record": npy("[1]")}, "several records": {"record": npy([RECORD])},
    "numbers for words": {"record": npy(5)}, "nested": {"record": npy("[" * 50000)},
    "no settings": {"record": npy("{}")},
    "digits": {"record": npy('{"seed": ' + "9" * 5000 + "}")}, "no seed": {"record": npy('{"seed": "x"}')},
    "a seed of half": {"record": npy('{"seed": 1.5}')}, "too large a seed": {"record": npy('{"seed": 4294967296}')},
    "a true seed": {"record": npy('{"seed": true}')},
    "bytes that are not text": {"record": npy(RECORD).replace(b"s", b"\xff")},
}


def state(path, changes, kind=zipfile.ZIP_DEFLATED):
    whole = {"next": npy(1), "frame": npy(FRAME), "record": npy(RECORD)} | changes
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, data in whole.items():
            if data is not None:
                file.writestr(f"{name}.npy", data)


@pytest.mark.parametrize("wrong", BAD)
def test_a_damaged_state_is_one_line(tmp_path, wrong):
    state(tmp_path / "zoom.npz", BAD[wrong])
    with pytest.raises(DreamError) as caught:
        zoom.resume(tmp_path, {"seed": 1}, FRAME.shape)
    message = str(caught.value)
    assert message.startswith(f"{tmp_path / 'zoom.npz'}: cannot be read (") and message.isprintable()
    assert len(message) < len(str(tmp_path)) + 300


def test_an_intact_state(tmp_path):
    state(tmp_path / "zoom.npz", {})
    i, frame = zoom.resume(tmp_path, {"seed": 1}, FRAME.shape)
    assert i == 1 and np.array_equal(frame, FRAME)
    with pytest.raises(DreamError, match="another seed"):
        zoom.resume(tmp_path, {"seed": 2}, (1, 1, 3))


def test_a_state_that_declares_a_wrong_size(tmp_path):
    state(tmp_path / "zoom.npz", {"frame": npy(np.zeros(10 ** 8, np.uint8))})
    data = (tmp_path / "zoom.npz").read_bytes()
    size = len(npy(np.zeros(10 ** 8, np.uint8))).to_bytes(4, "little")
    assert data.count(size) == 2      # before the entry, and in the central directory
    (tmp_path / "zoom.npz").write_bytes(data.replace(size, len(npy(FRAME)).to_bytes(4, "little")))
    with pytest.raises(DreamError, match="cannot be read"):
        zoom.resume(tmp_path, {"seed": 1}, FRAME.shape)


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_STORED])
def test_a_state_with_any_damage_is_read_or_rejected(tmp_path, kind):
    path, dice = tmp_path / "zoom.npz", random.Random(kind)
    state(path, {}, kind)
    whole = path.read_bytes()
    for _ in range(200):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 3, 10))):
            at = dice.choice((dice.randrange(len(data)), dice.randrange(300), len(data) - 1 - dice.randrange(250)))
            data[at] = dice.choice((0, 1, 255, dice.randrange(256)))
        path.write_bytes(data[:dice.choice((len(data), dice.randrange(len(data))))])
        try:
            zoom.resume(tmp_path, {"seed": 1}, FRAME.shape)
        except DreamError as error:
            assert str(error).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_state_that_is_not_a_regular_file(picture, toy, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    for make, unmake in ((os.mkdir, os.rmdir), (os.mkfifo, os.unlink), (lambda p: os.symlink("nowhere", p), os.unlink)):
        make(out / "zoom.npz")
        assert main(command(picture, toy, out, 1)) == 2
        error = capsys.readouterr().err
        assert "zoom.npz: cannot be read (not a regular file)" in error and error.count("\n") == 1
        unmake(out / "zoom.npz")


def test_frames_that_do_not_fit_a_movie(picture, toy, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(picture, toy, out, 2)) == 0
    pictures.save(np.zeros((9, 9, 3)), out / "0001.jpg")
    for name in ("a.webp", "a.gif"):
        assert main(command(picture, toy, out, 2, "--movie", str(tmp_path / name))) == 2
        assert "0001.jpg: has another size than the frames before it" in capsys.readouterr().err
    (out / "0001.jpg").write_bytes(b"damaged")
    assert main(command(picture, toy, out, 2, "--movie", str(tmp_path / "a.webp"))) == 2
    assert "0001.jpg: not a picture" in capsys.readouterr().err and not list(tmp_path.glob("a.*"))


# ---- two zooms at the same time

ENDLESS = """
import sys
from deepdream import cli, zoom
dream = zoom.deepdream
def endless(*args, **options):
    print("started", flush=True)
    return dream(*args, **{**options, "iter_n": 10 ** 9})
zoom.deepdream = endless
sys.exit(cli.main(sys.argv[1:]))
"""


def test_of_two_zooms_in_one_folder_the_second_is_rejected(picture, toy, tmp_path, capsys):
    """Also before the first has written a frame. A zoom that was killed does not block the next one."""
    out = tmp_path / "out"
    first = children.start("-c", ENDLESS, *command(picture, toy, out, 2, "--seed", "1"))
    assert children.first_line(first) == "started\n"
    for seed in ("2", "1"):
        assert main(command(picture, toy, out, 1, "--seed", seed)) == 2
        error = capsys.readouterr().err
        assert f"-o {out}: another zoom is being dreamt there" in error and error.count("\n") == 1
    assert [p.name for p in out.iterdir()] == [".lock"]
    first.kill()
    children.ended(first)
    assert main(command(picture, toy, out, 1, "--seed", "2")) == 0
    assert sorted(p.name for p in out.iterdir()) == ["0000.jpg", "zoom.npz"]


# ---- turning, moving, and several layers

def test_turning_and_moving():
    """A bright spot moves as the angle and the shares say."""
    frame = np.zeros((101, 121, 3), np.float32)
    frame[48:53, 88:93] = 255      # 30 pixels to the right of the middle
    frame = nd.gaussian_filter(frame, (2, 2, 0))

    def spot(**motion):
        turned = zoom.zoomed(frame, **{"scale": 1e-9, **motion})
        assert turned.shape == frame.shape and turned.dtype == np.float32
        y, x = nd.center_of_mass(turned[..., 1])
        return pytest.approx((x - 60, 50 - y), abs=0.3)      # to the right, and upwards

    assert spot(rotate=90) == (0, 30) and spot(rotate=-90) == (0, -30)
    assert spot(rotate=30) == (30 * np.cos(np.pi / 6), 15)
    assert spot(rotate=90, scale=0.25) == (0, 40)
    assert spot(pan=(0.1, 0)) == (30 - 12.1, 0) and spot(pan=(0, 0.1)) == (30, 10.1)
    still = zoom.zoomed(frame, 1e-9, pan=(1e-9, 0))
    np.testing.assert_allclose(still, frame, atol=1e-3)


def test_from_noise_through_layers_with_a_break(toy, tmp_path, capsys):
    def run(out, frames, *more):
        return main(["zoom", "-o", str(out), "--frames", str(frames), "--model", str(toy), "--start", "noise", "--size",
                     "45x40", "--through", "both", "left", "--hold", "2", "--rotate", "5", "--pan", "0.01", "-0.02",
                     "--iter-n", "1", "--octave-n", "2", "--device", "cpu", "--threads", "1", *more])

    one, two = tmp_path / "one", tmp_path / "two"
    assert run(one, 5, "--seed", "7") == 0
    assert run(two, 3, "--seed", "7") == 0 and run(two, 5) == 0
    assert "2 frames made, 3 kept" in capsys.readouterr().out
    for i in range(5):
        name = f"{i:04d}.jpg"
        assert (one / name).read_bytes() == (two / name).read_bytes()
        saved = pictures.settings(one / name)
        assert {"rotate": 5, "pan": [0.01, -0.02], "through": ["both", "left"], "hold": 2}.items() <= saved.items()
        assert saved["end"] == ["both", "both", "left", "left", "both"][i] and saved["start"] == "noise"
    assert run(two, 6, "--hold", "3", "--rotate", "4") == 2
    assert "holds a zoom with another rotate, hold" in capsys.readouterr().err


def test_the_settings_of_a_frame_make_the_same_zoom(toy, tmp_path):
    """No picture is needed, because it began with noise. --end replaces the layers of --through."""
    out = tmp_path / "out"
    assert main(["zoom", "-o", str(out), "--frames", "2", "--model", str(toy), "--start", "noise", "--size", "45x40",
                 "--through", "both", "left", "--hold", "1", "--rotate", "5", "--pan", "0.01", "-0.02", "--iter-n", "1",
                 "--octave-n", "2", "--device", "cpu", "--threads", "1"]) == 0
    again = ["zoom", "--settings", str(out / "0001.jpg"), "--frames", "2", "--model", str(toy), "--device", "cpu"]
    assert main([*again, "-o", str(tmp_path / "again")]) == 0
    assert main([*again, "-o", str(tmp_path / "other"), "--end", "left"]) == 0
    for name in ("0000.jpg", "0001.jpg"):
        assert (out / name).read_bytes() == (tmp_path / "again" / name).read_bytes()
        other = pictures.settings(tmp_path / "other" / name)
        assert other["end"] == "left" and other["rotate"] == 5 and not {"through", "hold"} & set(other)


def test_a_zoom_of_an_older_version_goes_on(picture, toy, tmp_path, capsys):
    """Its metadata lack what is new."""
    out = tmp_path / "out"
    assert main(command(picture, toy, out, 1)) == 0
    assert not {"rotate", "pan", "through", "hold"} & set(pictures.settings(out / "0000.jpg"))
    assert main(command(picture, toy, out, 2)) == 0
    assert main(command(picture, toy, out, 3, "--rotate", "1")) == 2
    assert "another rotate" in capsys.readouterr().err


@pytest.mark.parametrize("options, message", [
    (["--legacy-affine", "--rotate", "2"], "--legacy-affine: zooms as the notebook did"),
    (["--hold", "3"], "--hold: there is one layer only"),
    (["--through", "both", "nowhere"], "nowhere"),
    (["--start", "grey"], "--start grey: there is a picture to start from"),
])
def test_contradictions_are_one_line(picture, toy, tmp_path, capsys, options, message):
    arguments = [a for a in command(picture, toy, tmp_path / "out", 2, *options)]
    if "--through" in options:
        del arguments[arguments.index("--end"):arguments.index("--end") + 2]
    assert main(arguments) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
