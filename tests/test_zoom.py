"""The endless zoom: its geometry, going on where it stopped, movies."""
import numpy as np
import pytest
import scipy.ndimage as nd
from PIL import Image, ImageSequence

from deepdream import pictures, zoom
from deepdream.cli import main


@pytest.fixture
def picture(tmp_path):
    """A picture of 45 x 40 pixels (an odd width)."""
    y, x = np.mgrid[:40, :45]
    path = tmp_path / "slope.png"
    Image.fromarray(np.uint8(np.dstack([5 * x, 6 * y, 127 + 100 * np.sin(x * y / 60)]))).save(path)
    return str(path)


def command(picture, toy, out, frames, *more):
    return ["zoom", picture, "-o", str(out), "--frames", str(frames), "--model", str(toy), "--end", "both",
            "--iter-n", "1", "--octave-n", "2", "--device", "cpu", "--threads", "1", *more]


def test_zooming_is_the_notebooks_affine_transform():
    frame = np.float32(np.random.default_rng(0).uniform(0, 255, (30, 41, 3)))
    h, w, s = 30, 41, 0.05
    expected = nd.affine_transform(frame, np.diag([1 - s, 1 - s, 1]), [h * s / 2, w * s / 2, 0], order=1)
    got = zoom.zoomed(frame)
    assert got.dtype == np.float32 and got.shape == frame.shape
    np.testing.assert_allclose(got, expected, atol=1e-3)


@pytest.mark.parametrize("legacy, fixed", [(False, 0.5), (True, 0.475)])
def test_the_vanishing_point(legacy, fixed):
    """On slopes, the value says where a pixel came from; the one that did not move is the vanishing point."""
    y, x = np.mgrid[:80, :200]
    came = zoom.zoomed(np.float32(np.dstack([x, y, x])), 0.05, legacy)
    for channel, size, axis in ((0, 200, 1), (1, 80, 0)):
        line = came[40, :, 0] if axis else came[:, 100, 1]
        moved = line - np.arange(size)
        assert np.interp(0, -moved, np.arange(size)) == pytest.approx(fixed * size, abs=0.01)


def test_going_on_gives_what_one_run_gives(picture, toy, tmp_path, capsys):
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(picture, toy, one, 4, "--seed", "7")) == 0
    assert main(command(picture, toy, two, 2, "--seed", "7")) == 0
    capsys.readouterr()
    assert main(command(picture, toy, two, 4)) == 0      # the seed is taken up again
    assert "2 frames made, 2 kept" in capsys.readouterr().out
    names = ["0000.jpg", "0001.jpg", "0002.jpg", "0003.jpg"]
    assert sorted(p.name for p in one.glob("*.jpg")) == sorted(p.name for p in two.glob("*.jpg")) == names
    for name in names:
        assert (one / name).read_bytes() == (two / name).read_bytes()
    assert pictures.settings(two / "0003.jpg")["frame"] == 3
    assert len({(one / name).read_bytes() for name in names}) == 4


def test_stopped_between_a_frame_and_its_state(picture, toy, tmp_path, monkeypatch):
    """The state is one behind: the frame is made again, the same."""
    out, keep = tmp_path / "out", zoom._keep

    def stop(folder, i, *more):
        if i == 2:
            raise KeyboardInterrupt
        keep(folder, i, *more)

    monkeypatch.setattr(zoom, "_keep", stop)
    assert main(command(picture, toy, out, 3, "--seed", "1")) == 130
    before = (out / "0001.jpg").read_bytes()
    monkeypatch.setattr(zoom, "_keep", keep)
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


def test_the_pictures_it_starts_from_stay(picture, toy, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    own = out / "0000.jpg"
    Image.open(picture).save(own)
    before = own.read_bytes()
    assert main(command(str(own), toy, out, 2)) == 2
    assert "0000.jpg: would overwrite" in capsys.readouterr().err
    assert main(command(picture, toy, out, 2)) == 2      # someone else's
    assert "0000.jpg, which is no frame of a zoom" in capsys.readouterr().err
    assert main(command(picture, toy, tmp_path / "new", 2, "--guide", str(own), "--movie", str(tmp_path / "no/a.gif"))) == 2
    assert "there is no folder" in capsys.readouterr().err
    assert own.read_bytes() == before and [p.name for p in out.iterdir()] == ["0000.jpg"]
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
