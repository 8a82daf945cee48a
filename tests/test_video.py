"""`deepdream video`: time stamps, sound, alpha, folders and animations, going on after a kill, errors."""
import json
import os
import signal
import time
from fractions import Fraction
from pathlib import Path

import children
import films
import numpy as np
import pytest
from PIL import Image, ImageSequence

from deepdream import DreamError, pictures
from deepdream.cli import main
from deepdream.film import shot
from deepdream.film.movie import Movie
from deepdream.film.stills import Folder
from deepdream.film.targets import target_of
from deepdream.film.work import Work

OPTIONS = ["--end", "both", "--iter-n", "2", "--octave-n", "2", "--jitter", "4", "--seed", "7", "--device", "cpu",
           "--threads", "1"]


@pytest.fixture
def av():
    return pytest.importorskip("av", reason="needs the package av")


@pytest.fixture
def cv2():
    return pytest.importorskip("cv2", reason="needs the package opencv-python-headless")


def command(film, toy, out, *options, flow="none"):
    return ["video", str(film), "-o", str(out), "--model", str(toy), "--flow", flow, *OPTIONS, *map(str, options)]


def decoded(path):
    return [frame.colours for frame in Movie(path).frames()]


def dreamt(frames, sources):
    """Return whether all frames are near their sources, and none is the same."""
    return len(frames) == len(sources) and all(
        0.5 < np.abs(np.float32(a) - b).mean() < 25 for a, b in zip(frames, sources))


# ---- time stamps, sound, subtitles

@pytest.mark.parametrize("suffix, stamps, base", [
    (".mp4", [0, 512, 1000, 1001, 3000, 3300], Fraction(1, 12800)),
    (".mkv", [0, 13, 40, 41, 99, 120], Fraction(1, 1000)),
    (".mov", [0, 1001, 2002, 3003, 4004, 5005], Fraction(1, 30000))])
def test_time_stamps_and_sound_stay(av, toy, tmp_path, capsys, suffix, stamps, base):
    sources = films.moving(6)
    film = films.write_movie(tmp_path / f"in{suffix}", sources, stamps, base,
                             subtitle="A dog." if suffix == ".mkv" else None)
    out = tmp_path / f"out{suffix}"
    assert main(command(film, toy, out)) == 0
    assert f"{out}: 6 frames of 64x48 in 1 shot, 6 dreamt now, toy at both, seed 7" in capsys.readouterr().out
    assert films.times(out) == films.times(film) == [stamp * base for stamp in stamps]
    assert films.packets(film, "audio") and films.packets(out, "audio") == films.packets(film, "audio")
    assert films.packets(out, "subtitle") == films.packets(film, "subtitle")
    assert len(films.packets(out, "subtitle")) == (suffix == ".mkv")
    assert dreamt(decoded(out), sources)
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != ".srt") == [f"in{suffix}", f"out{suffix}"]


def test_a_part_of_a_film(av, toy, tmp_path):
    film, out = films.write_movie(tmp_path / "in.mkv", films.moving(12)), tmp_path / "out.mkv"
    assert main(command(film, toy, out, "--from", "0.2", "--to", "0.4s")) == 0
    assert films.times(out) == [Fraction(40 * i, 1000) for i in range(5)]
    shift, whole = Fraction(1, 5), films.packets(film, "audio")
    expected = [(pts - shift, data) for pts, _, length, data in whole if shift < pts + length and pts < 2 * shift]
    assert [(pts, data) for pts, _, _, data in films.packets(out, "audio")] == expected and len(expected) > 5


def test_without_sound(av, toy, tmp_path):
    film, out = films.write_movie(tmp_path / "in.mp4", films.moving(2)), tmp_path / "out.mp4"
    assert main(command(film, toy, out, "--without", "audio")) == 0
    assert not films.packets(out, "audio")


@pytest.mark.parametrize("fps, used", [("50", [0, 0, 1, 1, 2, 2, 3, 3]), ("12.5", [0, 2])])
def test_another_frame_rate(av, toy, tmp_path, fps, used):
    film = films.write_movie(tmp_path / "in.mp4", films.moving(4, speed=9), sound=False)
    out = tmp_path / "frames"
    assert main(command(film, toy, tmp_path / "out.mp4", "--fps", fps)) == 0
    assert films.times(tmp_path / "out.mp4") == [i / Fraction(fps) for i in range(len(used))]
    assert main(command(film, toy, out, "--fps", fps)) == 0
    sources = decoded(film)
    for path, i in zip(sorted(out.iterdir()), used, strict=True):
        nearest = min(range(4), key=lambda k: np.abs(pictures.load(path) - sources[k]).mean())
        assert nearest == i


# ---- colours, rotation, alpha, size

def test_rotation_is_applied(av, toy, tmp_path):
    sources = films.moving(2)
    film, out = films.write_movie(tmp_path / "in.mp4", sources, rotation=270), tmp_path / "out.mp4"
    assert main(command(film, toy, out)) == 0
    movie = Movie(out)
    assert movie.size == (64, 48) and dreamt(decoded(out), [np.rot90(frame, 3) for frame in sources])
    with av.open(str(out)) as file:
        assert next(file.decode(video=0)).rotation == 0


@pytest.mark.parametrize("colour", [(1, 1, 1, False), (1, 1, 1, True), (9, 9, 16, False)])
def test_colour_tags_stay(av, toy, tmp_path, colour):
    sources = films.moving(2)
    film = films.write_movie(tmp_path / "in.mp4", sources, colour=colour, pix_fmt="yuv420p10le", shape=Fraction(4, 3))
    out = tmp_path / "out.mp4"
    assert main(command(film, toy, out, "--step-size", "0.01", "--crf", "0")) == 0      # hardly a dream
    a, b = Movie(film), Movie(out)
    assert a.deep and not b.deep and b.shape == a.shape == Fraction(4, 3)
    assert b.colour == a.colour and b.colour[:3] == colour[:3] and b.colour.full == colour[3]
    for before, after in zip(decoded(film), decoded(out)):
        assert np.abs(after - before).mean() < 1.5


def test_ten_bits_are_read(av, tmp_path):
    ramp = np.uint8(np.broadcast_to(np.arange(64)[None, :, None] + 96, (1, 48, 64, 3)))
    film = films.write_movie(tmp_path / "in.mp4", ramp, pix_fmt="yuv420p10le", sound=False)
    frame, = decoded(film)
    assert len(np.unique(frame[20, :, 1])) > 60 and np.abs(frame - ramp[0]).max() < 2
    assert np.any(frame != np.round(frame))


@pytest.mark.parametrize("suffix, codec", [(".mov", "prores"), (".mkv", "ffv1"), (".webm", "vp9"),
                                           (".webp", None), ("", None)])
def test_alpha_is_kept(av, toy, tmp_path, suffix, codec):
    alpha = np.broadcast_to(np.uint8(np.arange(64) * 4)[None, None, :, None], (2, 48, 64, 1))
    film = films.write_movie(tmp_path / "in.mov", np.concatenate([films.moving(2), alpha], 3), codec="prores_ks",
                             pix_fmt="yuva444p10le", options={"profile": "4444"})
    out = tmp_path / f"out{suffix}"
    assert main(command(film, toy, out, *["--without", "audio"] * (suffix == ".webm"))) == 0
    if codec:
        movie = Movie(out)
        assert movie.transparent and av.open(str(out)).streams.video[0].codec_context.name == codec
        frames = [(f.colours, f.alpha) for f in movie.frames()]
    elif suffix:
        with Image.open(out) as image:
            frames = [np.asarray(f.convert("RGBA")) for f in ImageSequence.Iterator(image)]
        frames = [(f[..., :3], f[..., 3]) for f in frames]
    else:
        frames = [(p.colours, p.alpha) for p in map(pictures.read, sorted(out.iterdir()))]
    assert len(frames) == 2
    for _, found in frames:
        assert np.abs(found.astype(int) - alpha[0, ..., 0]).mean() <= 2
    assert dreamt([colours for colours, _ in frames], films.moving(2))


def test_alpha_without_a_place_for_it(av, toy, tmp_path, capsys):
    clear = np.concatenate([films.moving(1), np.zeros((1, 48, 64, 1), np.uint8)], 3)
    film = films.write_movie(tmp_path / "in.mov", clear, codec="prores_ks", pix_fmt="yuva444p10le",
                             options={"profile": "4444"})
    assert main(command(film, toy, tmp_path / "out.mp4", "--step-size", "0.1")) == 0
    assert "out.mp4: has no alpha channel, so the film is put on a white background" in capsys.readouterr().err
    assert decoded(tmp_path / "out.mp4")[0].mean() > 240


def test_size(av, toy, tmp_path):
    film = films.write_movie(tmp_path / "in.mp4", films.moving(2), sound=False)
    assert main(command(film, toy, tmp_path / "a.mp4", "--size", "51")) == 0
    assert Movie(tmp_path / "a.mp4").size == (38, 50)      # even
    assert main(command(film, toy, tmp_path / "b.mp4", "--size", "51x38", "--stretch")) == 0
    assert Movie(tmp_path / "b.mp4").size == (38, 51)
    assert main(command(film, toy, tmp_path / "c.mp4", "--size", "50x48")) == 2


# ---- folders and animations

def test_folders_in_natural_order(toy, tmp_path):
    sources, numbers = films.moving(4, speed=9), [2, 10, 999, 1000]
    folder = films.write_frames(tmp_path / "in", sources, [f"frame {n}.png" for n in numbers])
    assert [path.name for path in Folder(folder).files] == [f"frame {n}.png" for n in numbers]
    out = tmp_path / "out"
    assert main(command(folder, toy, out)) == 0
    assert sorted(p.name for p in out.iterdir()) == sorted(f"frame {n}.png" for n in numbers)
    assert dreamt([pictures.load(out / f"frame {n}.png") for n in numbers], sources)
    metadata = pictures.settings(out / "frame 999.png")
    assert metadata["film"] == "in" and metadata["seed"] == 7 and metadata["steps"] == 1
    assert main(command(folder, toy, out)) == 0      # dreams may be replaced


def test_folders_and_movies(av, toy, tmp_path):
    sources = films.moving(3)
    folder = films.write_frames(tmp_path / "in", sources, ["1.png", "2.png", "3.png"])
    assert main(command(folder, toy, tmp_path / "out.mp4", "--fps", "30000/1001")) == 0
    assert films.times(tmp_path / "out.mp4") == [Fraction(1001 * i, 30000) for i in range(3)]
    assert main(command(tmp_path / "out.mp4", toy, tmp_path / "new" / "frames")) == 0
    assert sorted(p.name for p in (tmp_path / "new" / "frames").iterdir()) == [f"{i:06d}.png" for i in range(3)]


@pytest.mark.parametrize("before, after", [(".gif", ".webp"), (".webp", ".gif"), (".gif", ".gif")])
def test_animations(toy, tmp_path, before, after):
    sources, lengths = films.moving(3, speed=9), [100, 250, 40]
    film = films.write_animation(tmp_path / f"in{before}", sources, lengths, loop=3,
                                 **{"lossless": True} if before == ".webp" else {})
    out = tmp_path / f"out{after}"
    assert main(command(film, toy, out)) == 0
    with Image.open(out) as image:
        found = [(np.asarray(f.convert("RGB")), f.info["duration"]) for f in ImageSequence.Iterator(image)]
        assert image.info["loop"] == 3
    assert [length for _, length in found] == lengths and dreamt([frame for frame, _ in found], sources)


# ---- cuts, jobs, going on

def test_cuts(av, cv2, toy, tmp_path, capsys):
    sources = films.with_cut(3)
    film = films.write_movie(tmp_path / "in.mp4", sources, sound=False)
    for flow in ("dis", "none"):
        one, two, alone = (tmp_path / f"{name} {flow}" for name in ("one", "two", "alone"))
        assert main(command(film, toy, one, flow=flow)) == 0
        assert "6 frames of 64x48 in 2 shots" in capsys.readouterr().out
        assert main(command(film, toy, two, "--jobs", "2", "--threads", "2", flow=flow)) == 0
        names = [f"{i:06d}.png" for i in range(6)]
        for name in names:
            assert np.array_equal(pictures.load(one / name), pictures.load(two / name))
        frames = films.write_frames(tmp_path / f"s {flow}", [np.uint8(f) for f in decoded(film)[3:]], names[3:])
        assert main(command(frames, toy, alone, flow=flow)) == 0      # the second shot begins as if it were alone
        for name in names[3:]:
            assert np.array_equal(pictures.load(one / name), pictures.load(alone / name))


def test_killed_at_any_moment(av, cv2, toy, tmp_path):
    """A process that is killed while it dreams, and again while it dreams the rest, leaves what gives the same film."""
    film = films.write_movie(tmp_path / "in.mp4", films.with_cut(8), sound=True)
    whole, out = tmp_path / "whole.mp4", tmp_path / "out.mp4"
    assert main(command(film, toy, whole, flow="dis")) == 0
    script = "import sys, deepdream.film.shot as s; s.SAVE = 0.0; from deepdream.cli import main; main(sys.argv[1:])"
    for frames in (3, 11):
        process = children.start("-c", script, *command(film, toy, out, flow="dis"))
        while process.poll() is None and len(list(tmp_path.glob("out.mp4.work/frames/0*.png"))) < frames:
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        children.ended(process)
        assert not out.exists() and list(tmp_path.glob("out.mp4.work/shots/0*.npz"))
    assert main(command(film, toy, out, flow="dis")) == 0
    assert out.read_bytes() == whole.read_bytes()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4", "out.mp4", "whole.mp4"]


def test_ctrl_c_keeps_what_is_finished(toy, tmp_path, monkeypatch, capsys):
    folder = films.write_frames(tmp_path / "in", films.moving(5), [f"{i}.png" for i in range(5)])
    whole, out, work = tmp_path / "whole", tmp_path / "out", tmp_path / "work"
    assert main(command(folder, toy, whole)) == 0
    keep = shot.Steady.dream
    calls = []

    def stop(*args, **kwargs):
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return keep(*args, **kwargs)

    monkeypatch.setattr(shot.Steady, "dream", stop)
    assert main(command(folder, toy, out, "--work", work)) == 130
    assert "the same command goes on" in capsys.readouterr().err and not out.exists()
    monkeypatch.setattr(shot.Steady, "dream", keep)
    assert (work / "preview.jpg").exists()
    assert main(command(folder, toy, out, "--work", work)) == 0
    assert "5 frames of 64x48 in 1 shot, 2 dreamt now" in capsys.readouterr().out
    for i in range(5):
        assert (out / f"{i}.png").read_bytes() == (whole / f"{i}.png").read_bytes()
    assert main(command(folder, toy, out, "--work", work)) == 0      # a folder that is named stays
    assert "0 dreamt now" in capsys.readouterr().out
    assert main(command(folder, toy, out, "--work", work, "--steps", "2", "--keep", "0.2")) == 2
    assert "holds a film that was begun with another steps, keep" in capsys.readouterr().err


def test_the_seed_of_a_film_that_was_begun(toy, tmp_path, capsys):
    folder = films.write_frames(tmp_path / "in", films.moving(2), ["0.png", "1.png"])
    words = [w for w in command(folder, toy, tmp_path / "out", "--work", tmp_path / "work")]
    at = words.index("--seed")
    del words[at:at + 2]
    assert main(words) == 0
    seed = json.loads((tmp_path / "work" / "film.json").read_text())["metadata"]["seed"]
    assert main(words) == 0
    assert f"0 dreamt now, toy at both, seed {seed}" in capsys.readouterr().out


def test_ends_over_time(toy, tmp_path, monkeypatch):
    folder = films.write_frames(tmp_path / "in", films.moving(6), [f"{i}.png" for i in range(6)])
    seen, keep = [], shot.Steady.dream

    def watch(self, frame, motion, **params):
        seen.append({term.end: weight for weight, term in params["objective"].terms})
        return keep(self, frame, motion, **params)

    monkeypatch.setattr(shot.Steady, "dream", watch)
    words = command(folder, toy, tmp_path / "out", "--end", "pool1@0.08", "--fade", "0.08")
    assert main(words) == 0
    assert [sorted(ends) for ends in seen] == [["both"], ["both"], ["both"], ["both", "pool1"], ["pool1"], ["pool1"]]
    assert seen[0] == {"both": 1.0} and sum(seen[3].values()) == pytest.approx(1)


# ---- errors

@pytest.mark.parametrize("options, message", [
    (["--codec", "nothing"], "--codec nothing: PyAV has no video encoder of this name"),
    (["--codec", "libvpx-vp9"], None),
    (["--codec", "gif"], "--codec gif: .mp4 cannot hold it"),
    (["--crf", "60"], "--crf 60: libx264 takes 0 to 51"),
    (["--codec", "prores_ks", "--crf", "9"], "--crf 9: prores_ks has no such quality"),
    (["--from", "2", "--to", "1"], "--to 1: is not after --from 2"),
    (["--from", "5"], "in.mp4: has no frame from 5 s"),
    (["--to", "soon"], "--to: 'soon' is not a time like 5"),
    (["--steps", "3"], "steps is 3; allowed is a whole number from 1 to iter_n, 2"),
    (["--keep", "2"], "--keep: '2' is not a number from 0 to 1"),
    (["--fps", "0"], "--fps: '0' is not a number like 25"),
    (["--end", "pool1@1:2:3:4"], "'1:2:3:4' is not a time like 5"),
    (["--size", "2"], "too small"),
    (["--mask-edge", "3"], "--mask-edge: there is no mask"),
    (["--jobs", "2", "--dask", "tcp://a:1"], "--jobs and --dask exclude each other"),
    (["--work", "."], "--work .: holds other files; give an empty folder"),
])
def test_errors(av, toy, tmp_path, capsys, monkeypatch, options, message):
    monkeypatch.chdir(tmp_path)
    films.write_movie(tmp_path / "in.mp4", films.moving(2))
    code = _run(command("in.mp4", toy, "out.mp4", *options))
    if message is None:
        return _check(code == 0)
    error = capsys.readouterr().err
    assert code == 2 and message in error and len(error.strip().splitlines()) == 1
    assert sorted(p.name for p in tmp_path.iterdir()) == ["in.mp4"]


def _run(words):
    try:
        return main(words)
    except SystemExit as error:      # of argparse
        return error.code


def _check(good):
    assert good


def test_films_that_cannot_be_read(av, toy, tmp_path, capsys):
    (tmp_path / "text.mp4").write_text("no film")
    (tmp_path / "empty").mkdir()
    films.write_movie(tmp_path / "in.mp4", films.moving(2))
    odd = films.write_frames(tmp_path / "odd", [films.scene(1), films.scene(1, 40, 40)], ["1.png", "2.png"])
    for film, message in (("missing.mp4", "no such film"), ("text.mp4", "cannot be read as a film"),
                          ("empty", "holds no picture"), (odd, "2.png: has 40x40 pixels, and the frames before it")):
        assert main(command(tmp_path / film, toy, tmp_path / "out.mp4")) == 2
        error = capsys.readouterr().err
        assert message in error and len(error.strip().splitlines()) == 1
    for out, message in (("out.xyz", "is not a format for films"), ("in.mp4", "would overwrite"),
                         ("no/out.mp4", "there is no folder"), ("odd", "which is not a dream")):
        assert main(command(tmp_path / "in.mp4", toy, tmp_path / out)) == 2
        assert message in capsys.readouterr().err
    assert sorted(p.name for p in tmp_path.iterdir()) == ["empty", "in.mp4", "odd", "text.mp4"]


def test_a_damaged_film(av, toy, tmp_path, capsys):
    film = films.write_movie(tmp_path / "in.mkv", films.moving(10), sound=False)
    data = bytearray(film.read_bytes())
    film.write_bytes(data[:len(data) * 3 // 4])
    assert main(command(film, toy, tmp_path / "out.mkv")) == 0
    assert 2 <= len(films.times(tmp_path / "out.mkv")) < 10


def test_what_the_container_cannot_hold(av, toy, tmp_path, capsys):
    film = films.write_movie(tmp_path / "in.mkv", films.moving(2), subtitle="A dog.")
    assert main(command(film, toy, tmp_path / "out.mp4")) == 2
    assert "out.mp4: .mp4 cannot hold the film's subtitle, which is subrip; give a .mkv, or --without subtitle" \
        in capsys.readouterr().err
    assert main(command(film, toy, tmp_path / "out.mp4", "--without", "subtitle")) == 0


@pytest.mark.parametrize("package, name", [("av", "av"), ("cv2", "opencv-python-headless")])
def test_missing_packages(toy, tmp_path, monkeypatch, capsys, package, name):
    film = tmp_path / "in.mp4"
    if package == "cv2":
        film = films.write_frames(tmp_path / "in", films.moving(2), ["0.png", "1.png"])
    else:
        film.write_bytes(b"")
    monkeypatch.setitem(__import__("sys").modules, package, None)
    assert main(command(film, toy, tmp_path / "out", flow="dis")) == 2
    error = capsys.readouterr().err
    assert 'pip install "deepdream[video]"' in error and name in error and len(error.strip().splitlines()) == 1


def test_opencv_is_not_imported_without_flow(toy, tmp_path):
    folder = films.write_frames(tmp_path / "in", films.moving(2), ["0.png", "1.png"])
    script = "import sys; from deepdream.cli import main; main(sys.argv[1:]); sys.exit('cv2' in sys.modules)"
    done = children.run("-c", script, *command(folder, toy, tmp_path / "out"))
    assert done.returncode == 0 and "2 frames" in done.stdout


def test_targets():
    assert target_of("a.MP4").even and not target_of("frames").even
    with pytest.raises(DreamError, match="--codec x: only for a movie"):
        target_of("a.gif", codec="x")


def test_settings_of_a_film(av, toy, tmp_path):
    film = films.write_movie(tmp_path / "in.mkv", films.moving(6), sound=False)
    for suffix in (".mp4", ".mkv"):
        one, two = tmp_path / f"one{suffix}", tmp_path / f"two{suffix}"
        assert main(command(film, toy, one, "--keep", "0.3", "--to", "0.12", "--fps", "12.5", "--size", "50")) == 0
        assert main(["video", str(film), "-o", str(two), "--model", str(toy), "--settings", str(one), "--device",
                     "cpu"]) == 0
        assert len(films.times(one)) == 2 and one.read_bytes() == two.read_bytes()


def test_two_processes_at_one_film(toy, tmp_path, capsys):
    folder = films.write_frames(tmp_path / "in", films.moving(2), ["0.png", "1.png"])
    with Work(tmp_path / "work").alone():
        assert main(command(folder, toy, tmp_path / "out", "--work", tmp_path / "work")) == 2
    assert "another film is being dreamt there" in capsys.readouterr().err
    assert not (tmp_path / "work").exists() and not (tmp_path / "out").exists()


@pytest.mark.slow
def test_shots_on_a_dask_cluster(av, toy, tmp_path):
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    film = films.write_movie(tmp_path / "in.mp4", films.with_cut(3))
    one, two = tmp_path / "one.mp4", tmp_path / "two.mp4"
    dark = films.with_cut(3)
    dark[3:] //= 3
    films.write_movie(film, dark)
    assert main(command(film, toy, one)) == 0
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        assert main(command(film, toy, two, "--dask", cluster.scheduler_address)) == 0
    assert one.read_bytes() == two.read_bytes()


def test_settings_of_a_dream(toy, tmp_path, capsys):
    folder = films.write_frames(tmp_path / "in", films.moving(2), ["0.png", "1.png"])
    assert main(command(folder, toy, tmp_path / "out", "--keep", "0.25", "--tv", "0.1")) == 0
    words = ["video", str(folder), "-o", str(tmp_path / "again"), "--model", str(toy), "--settings",
             str(tmp_path / "out" / "1.png"), "--device", "cpu"]
    assert main(words) == 0
    for name in ("0.png", "1.png"):
        assert (Path(tmp_path / "out" / name)).read_bytes() == (tmp_path / "again" / name).read_bytes()
