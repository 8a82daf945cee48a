"""Galleries: ends and rows, resuming, failures, Ctrl-C, workers that die; `compare`; folders of pictures."""
import json
import multiprocessing
import os
import signal
import sys
import threading
import time
from concurrent.futures import Future
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from types import SimpleNamespace

import children
import numpy as np
import pytest
import toys
from deepdream.convert import End
from deepdream.convert.errors import ConvertError
from PIL import Image

from deepdream import pictures
from deepdream.batch import gallery, jobs, rows
from deepdream.cli import main
from deepdream.cli.time_left import Lines, TimeLeft, in_words
from deepdream.errors import DreamError
from deepdream.options import Settings


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Folders of two small nets with the same layers and different weights."""
    folder = tmp_path_factory.mktemp("gallery_nets")
    return [str(toys.write_net(folder / name, toys.TOY, lambda layer, i, shape: toys.formula(name + layer, i, shape)))
            for name in ("net_a", "net_b")]


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture of 64 x 48 pixels: rings and a gradient of colours."""
    y, x = np.mgrid[:48, :64]
    rings = 127 + 120 * np.sin(np.hypot(x - 20, y - 30) / 2)
    path = tmp_path_factory.mktemp("picture") / "rings.png"
    Image.fromarray(np.uint8(np.dstack([rings, 4 * x, 5 * y]))).save(path)
    return str(path)


def command(picture, out, nets, *options):
    return ["gallery", picture, "-o", str(out), "--models", *nets, "--device", "cpu", "--threads", "1", "--iter-n", "1",
            *options]


def report(out):
    return json.loads((out / "gallery.json").read_text())


# ---- ends and rows

def net(*ends, **levels):
    """A stand-in for a Net. levels: the ends that its model card lists as low, middle and high."""
    return SimpleNamespace(ends={e: End(8, (1, 1)) for e in ("data", *ends)}, inputs=["data"],
                           card=SimpleNamespace(ends=levels))


A = net("c1", "b1/output", "b2/x", "b2/output", "b3/output", "b4/output", low=["c1", "b1/output"],
        middle=["b2/x", "b2/output", "b3/output"], high=["b4/output"])
B = net("f1", "f2", "f3", "f4", "f5", "f6")


def test_two_ends_of_each_level_are_the_default():
    for name, stand_in, ends in (("A", A, ["c1", "b1/output", "b2/x", "b3/output", "b4/output"]),
                                 ("B", B, ["f1", "f2", "f3", "f4", "f5", "f6"])):
        assert rows.ends_of(rows.table([], {name: stand_in}), {name: stand_in})[name] == ends


def test_the_default_rows_line_up():
    table = rows.table([], {"A": A, "B": B})
    assert table == [("low", {"A": "c1", "B": "f1"}), ("low", {"A": "b1/output", "B": "f2"}),
                     ("middle", {"A": "b2/x", "B": "f3"}), ("middle", {"A": "b3/output", "B": "f4"}),
                     ("high", {"A": "b4/output", "B": "f5"}), ("high", {"B": "f6"})]
    assert rows.ends_of(table, {"A": A, "B": B}) == {"A": ["c1", "b1/output", "b2/x", "b3/output", "b4/output"],
                                                     "B": ["f1", "f2", "f3", "f4", "f5", "f6"]}


def test_nets_with_the_same_layers_have_the_same_default_rows():
    """As the two small nets, whose cards list other layers."""
    other = net(*list(A.ends)[1:], low=["c1"], middle=["b1/output", "b2/output"], high=["b3/output", "b4/output"])
    table = rows.table([], {"A": A, "other": other})
    assert len(table) == 5 and all(row["A"] == row["other"] for _, row in table)
    many = net(*(f"x{i}/output" for i in range(40)))
    assert len(rows.table([], {"A": A, "many": many, "other": other, "B": B})) == 6


def test_a_net_with_one_layer_has_one_row():
    tiny = net("ip", low=["ip"], middle=["ip"], high=["ip"])
    assert rows.table([], {"A": A, "tiny": tiny})[0] == ("low", {"A": "c1", "tiny": "ip"})
    assert sum("tiny" in row for _, row in rows.table([], {"A": A, "tiny": tiny})) == 1
    flat = SimpleNamespace(ends={"fc": End(8, None)}, inputs=["data"], card=None)
    with pytest.raises(DreamError, match="flat has no layer .* --ends"):
        rows.table([], {"A": A, "flat": flat})


@pytest.mark.parametrize("words, ends", [
    (["high"], ["b4/output"]), (["b2/output"], ["b2/output"]),
    (["b[23]/*", "low"], ["c1", "b1/output", "b2/x", "b2/output", "b3/output"]),
    (["all"], ["data", "c1", "b1/output", "b2/x", "b2/output", "b3/output", "b4/output"])])
def test_ends_are_names_globs_levels_or_all(words, ends):
    assert rows.chosen_ends(words, {"A": A})["A"] == ends


def test_an_end_chosen_for_one_net_is_chosen_for_all():
    other = net(*list(A.ends)[1:], low=["b2/x"], middle=["b3/output"], high=["b4/output"])
    chosen = rows.chosen_ends(["low"], {"A": A, "other": other})
    assert chosen["A"] == chosen["other"] == ["c1", "b1/output", "b2/x"]


def test_an_end_that_no_net_has():
    with pytest.raises(ConvertError, match="b4/outputs.*nearest.*b4/output"):
        rows.chosen_ends(["b4/outputs"], {"A": A, "B": B})
    with pytest.raises(DreamError, match="--ends c1: B has none of these"):
        rows.chosen_ends(["c1"], {"A": A, "B": B})


def test_rows_of_nets_with_the_same_layers():
    chosen = rows.chosen_ends(["all"], {"A": A, "same": A})
    table = rows.rows(chosen, {"A": A, "same": A})
    assert [row for _, row in table] == [{"A": e, "same": e} for e in A.ends]
    assert [level for level, _ in table] == ["low"] * 3 + ["middle"] * 3 + ["high"]


def test_rows_of_nets_without_a_common_layer_are_matched_by_depth():
    nets = {"A": A, "B": B}
    table = rows.rows({"A": ["b1/output", "b2/output", "b3/output", "b4/output"], "B": ["f1", "f3", "f5"]}, nets)
    assert table[0] == ("low", {"A": "b1/output", "B": "f1"})
    assert table[-1] == ("high", {"A": "b4/output", "B": "f5"})
    assert [e for _, row in table for m, e in row.items() if m == "B"] == ["f1", "f3", "f5"]
    assert len(table) == 4 and all(list(row) in (["A"], ["A", "B"]) for _, row in table)


def test_names_of_files_do_not_collide():
    source = gallery.Source(Path("x.jpg"), b"x", (9, 9))
    fake = SimpleNamespace(inputs=["data"], checksum="c", name="m", caffemodel="m", prototxt=Path("m/x"),
                           files=SimpleNamespace(arguments={"prototxt": "m"}), transformer=SimpleNamespace(
        mean={"data": np.zeros((3, 1, 1), np.float32)}, channel_swap={"data": (2, 1, 0)}))
    dreams = gallery.plan(source, {"m": fake}, {"m": ["a/b", "a.b", "A.B", "c"]}, [4], [], [0], Settings(iter_n=1), 95)
    names = [d.name for d in dreams]
    assert len({n.casefold() for n in names}) == 4 and names[3] == "m-c-o4-s0"
    assert all("/" not in n for n in names)


# ---- making

def test_a_gallery_and_its_resumption(nets, picture, tmp_path, capsys):
    out = tmp_path / "out"
    run = command(picture, out, nets, "--ends", "conv1", "both", "--octave-n", "1", "2")
    assert main(run) == 0
    assert "8 dreams made, 0 kept" in capsys.readouterr().out
    what = report(out)
    assert what["state"] == "done" and len(what["dreams"]) == 8
    assert [m["name"] for m in what["models"]] == ["net_a", "net_b"]
    times = {}
    for dream in what["dreams"]:
        path = out / dream["file"]
        saved = pictures.settings(path)
        assert all(saved[k] == v for k, v in dream["settings"].items())
        assert dream["seconds"] > 0 and dream["objective"] > 0 and dream["settings"]["seed"] == 0
        assert (out / dream["thumb"]).exists() and pictures.load(path).shape == (48, 64, 3)
        times[path] = path.stat().st_mtime_ns
    page = (out / "index.html").read_text()
    assert page.count('class="open"') == 8 and "http" not in page

    gone, first = list(times)[5], list(times)[0]
    gone.unlink()
    pictures.save(pictures.load(first), first, {**pictures.settings(first), "iter_n": 7})
    (out / what["dreams"][3]["thumb"]).unlink()
    assert main(run) == 0
    assert "2 dreams made, 6 kept" in capsys.readouterr().out
    assert (out / what["dreams"][3]["thumb"]).exists()
    for path, before in times.items():
        assert (path.stat().st_mtime_ns == before) == (path not in (gone, first))
    assert report(out)["dreams"][1] == what["dreams"][1]      # with its seconds and objective


def test_a_dream_of_a_gallery_is_that_of_the_dream_command(nets, picture, tmp_path):
    assert main(command(picture, tmp_path / "out", nets, "--ends", "both", "--seeds", "3", "5")) == 0
    assert main(["dream", picture, "-o", str(tmp_path / "one.jpg"), "--model", nets[1], "--end", "both", "--seed", "5",
                 "--iter-n", "1", "--device", "cpu", "--threads", "1"]) == 0
    one = pictures.load(tmp_path / "one.jpg")
    assert np.array_equal(one, pictures.load(tmp_path / "out/dreams/net_b-both-o4-s5.jpg"))
    assert not np.array_equal(one, pictures.load(tmp_path / "out/dreams/net_b-both-o4-s3.jpg"))


def test_the_number_of_dreams_is_printed_first(nets, picture, tmp_path, capsys):
    run = command(picture, tmp_path / "out", nets[:1], "--ends", "conv1", "both", "--octave-n", "1")
    assert main(run) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == 2 and "2 dreams of 64x48 to make; how long" in lines[0] and "2 dreams made" in lines[1]
    next((tmp_path / "out" / "dreams").iterdir()).unlink()
    assert main(run) == 0
    assert "1 dream of 64x48 to make, 1 of 2 exist already;" in capsys.readouterr().out
    assert main(run) == 0
    assert len(capsys.readouterr().out.splitlines()) == 1


class Clock:
    """A clock that a test sets."""
    now = 100.0

    def __call__(self):
        return self.now


def test_an_estimate_needs_some_work_and_some_time():
    clock = Clock()
    left = TimeLeft(100, 15, clock)
    assert left.seconds is None
    clock.now += 60
    assert left.seconds is None      # nothing is done yet
    left.advance(10)
    assert left.seconds is None      # too little
    left.advance(10)
    assert left.seconds == 240
    left.restart()
    assert left.seconds is None
    clock.now += 40
    left.advance(20)
    assert left.seconds == 120
    left.advance(60)
    assert left.seconds == 0
    soon = TimeLeft(100, clock=clock)
    clock.now += 0.5
    soon.advance(50)
    assert soon.seconds is None      # the first steps are slower than the others


def test_dreams_that_fail_at_once_do_not_count_as_fast():
    clock = Clock()
    left = TimeLeft(100, clock=clock)
    left.drop(50)
    clock.now += 10
    assert left.seconds is None
    left.advance(25)
    assert left.seconds == 10


def test_lines_about_the_time_left_come_now_and_then(capsys):
    clock = Clock()
    left = TimeLeft(1000, clock=clock)
    lines = Lines(left, None, clock)
    for i in range(100):
        clock.now += 1
        left.advance(10)
        lines.update(f"{i}/100 dreams")
    printed = capsys.readouterr().err.splitlines()
    assert printed == ["2/100 dreams, about 2 minutes left", "32/100 dreams, about 65 seconds left",
                       "62/100 dreams, about 35 seconds left", "92/100 dreams, about 5 seconds left"]


def test_one_line_next_to_a_bar():
    class Bar:
        lines = []

        def write(self, line, file):
            self.lines.append(line)

    clock = Clock()
    left = TimeLeft(1000, clock=clock)
    lines = Lines(left, Bar(), clock)
    for _ in range(90):
        clock.now += 10
        left.advance(10)
        lines.update("0/9 dreams")
    assert Bar.lines == ["0/9 dreams, about 16 minutes left"]


@pytest.mark.parametrize("seconds, words", [
    (0, "about 5 seconds"), (12, "about 10 seconds"), (89, "about 90 seconds"), (95, "about 2 minutes"),
    (3000, "about 50 minutes"), (5400, "about 2 hours"), (90000, "about 25 hours")])
def test_durations_in_words(seconds, words):
    assert in_words(seconds) == words


def test_a_known_net_in_a_folder_has_its_card(picture, tmp_path):
    """A copy of a net of this project is recognized by its checksum."""
    from deepdream import Net, models
    known = models.find("mini_places")
    folder = tmp_path / "copy"
    folder.mkdir()
    for path in (known.prototxt, known.caffemodel):
        (folder / path.name).write_bytes(path.read_bytes())
    copy = Net(folder, device="cpu")
    assert copy.name == "copy" and copy.card.title == known.title and copy.labels == Net("mini_places").labels
    assert rows.card_ends(copy) == known.ends and copy.default_end == known.default_end
    data = bytearray(known.caffemodel.read_bytes())
    data[-1] ^= 1
    (folder / known.caffemodel.name).write_bytes(data)
    changed = models.find(folder)
    assert changed.card is None and changed.title == "" and changed.labels is None


def test_guides(nets, picture, tmp_path):
    out = tmp_path / "out"
    assert main(command(picture, out, nets[:1], "--ends", "both", "--octave-n", "1", "--guides", picture)) == 0
    dream, = report(out)["dreams"]
    assert dream["settings"]["guide"] == "rings.png" and (out / report(out)["guides"][0]["file"]).exists()
    assert "guide rings.png" in (out / "index.html").read_text()


def test_a_dream_that_fails_is_shown_and_does_not_stop_the_others(nets, picture, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(picture, out, nets[:1], "--ends", "conv1", "both", "--octave-n", "12", "1")) == 0
    assert "1 failed" in capsys.readouterr().out
    status = {d["name"]: d for d in report(out)["dreams"]}
    failed = status["net_a-both-o12-s0"]
    assert failed["status"] == "failed" and "too small for 'both'" in failed["reason"] and "file" not in failed
    assert sorted(d["status"] for d in status.values()) == ["done"] * 3 + ["failed"]
    assert "too small for &#39;both&#39;" in (out / "index.html").read_text()


def test_if_all_dreams_fail_the_first_reason_is_printed(nets, picture, tmp_path, capsys):
    assert main(command(picture, tmp_path / "out", nets[:1], "--ends", "both", "pool2", "--octave-n", "12")) == 2
    error = capsys.readouterr().err.strip()
    assert "too small for 'both'" in error and "\n" not in error


def test_a_gallery_does_not_overwrite_its_pictures(nets, picture, tmp_path, capsys):
    out = tmp_path / "out"
    out.mkdir()
    source = out / "source.jpg"
    Image.open(picture).save(source)
    before = source.read_bytes()
    assert main(command(str(source), out, nets[:1])) == 2
    assert "source.jpg: would overwrite" in capsys.readouterr().err
    assert main(command(picture, out, nets[:1], "--guides", str(source))) == 2
    assert source.read_bytes() == before and [p.name for p in out.iterdir()] == ["source.jpg"]


@pytest.mark.slow
@pytest.mark.parametrize("facts, kept", [
    ({"seconds": "3"}, 3), ({"seconds": None}, 3), ({"seconds": -1.0}, 3), ({"seconds": float("nan")}, 3),
    ({"seconds": 10 ** 400}, 3), ({"seconds": {"a": [1]}}, 3), ({"objective": "x"}, 3), ({"objective": 10 ** 400}, 3),
    ({"objective": True}, 3), ({"device": 5}, 3), ({"objective": None}, 4), ({"objective": float("inf")}, 4), ({}, 4),
    ({"reason": [1], "status": 7, "name": "x", "file": "http://x"}, 4)], ids=lambda value: str(value)[:40])
def test_invalid_metadata_of_a_dream_do_not_break_the_page(nets, picture, tmp_path, capsys, facts, kept):
    out = tmp_path / "out"
    run = command(picture, out, nets, "--ends", "conv1", "both", "--octave-n", "1")
    assert main(run) == 0
    before = report(out)
    path = out / before["dreams"][1]["file"]
    pictures.save(pictures.load(path), path, {**pictures.settings(path), **facts})
    capsys.readouterr()
    assert main(run) == 0
    assert f"{4 - kept} dreams made, {kept} kept" in capsys.readouterr().out
    page = (out / "index.html").read_text()
    assert page.count('class="open"') == 4 and "http" not in page
    assert set(report(out)["dreams"][1]) == set(before["dreams"][1])


def test_a_dream_without_seconds_and_objective_is_kept(nets, picture, tmp_path, capsys):
    out = tmp_path / "out"
    run = command(picture, out, nets[:1], "--ends", "both", "--octave-n", "1")
    assert main(run) == 0
    path = out / report(out)["dreams"][0]["file"]
    wanted = {k: v for k, v in pictures.settings(path).items() if k not in gallery.FACTS}
    pictures.save(pictures.load(path), path, wanted)
    assert main(run) == 0
    assert "0 dreams made, 1 kept" in capsys.readouterr().out and 'class="open"' in (out / "index.html").read_text()


@pytest.mark.skipif(sys.platform != "linux", reason="needs file names that are not valid text")
def test_a_picture_whose_name_is_not_valid_text(nets, picture, tmp_path):
    source = os.fsencode(tmp_path) + b"/\xff\n.png"
    Image.open(picture).save(os.fsdecode(source), "PNG")
    assert main(command(os.fsdecode(source), tmp_path / "out", nets[:1], "--ends", "both", "--octave-n", "1")) == 0
    assert 'class="open"' in (tmp_path / "out" / "index.html").read_text()


def test_ctrl_c_keeps_what_is_finished(nets, picture, tmp_path, monkeypatch, capsys):
    out, real, made = tmp_path / "out", jobs.maker.make, []

    def make(job, on_step=None):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(job)
        return real(job, on_step)

    run = command(picture, out, nets[:1], "--ends", "all", "--octave-n", "1")
    monkeypatch.setattr(jobs.maker, "make", make)
    assert main(run) == 130
    what = report(out)
    assert what["state"] == "interrupted"
    assert [d["status"] for d in what["dreams"]] == ["done"] * 2 + ["waiting"] * (len(what["dreams"]) - 2)
    assert "interrupted" in (out / "index.html").read_text()
    monkeypatch.setattr(jobs.maker, "make", real)
    capsys.readouterr()
    assert main(run) == 0
    assert ", 2 kept" in capsys.readouterr().out and report(out)["state"] == "done"
    assert not list(out.rglob("*.part"))


@pytest.mark.parametrize("change, part", [
    (["--models", "nosuchmodel"], "nosuchmodel"), (["--ends", "conv9"], "conv9"), (["--octave-n", "0"], "--octave-n"),
    (["--guides", "nothere.jpg"], "nothere.jpg"), (["--jobs", "2", "--dask", "tcp://127.0.0.1:9"], "--dask"),
    (["--device", "tpu"], "tpu")])
def test_mistakes_of_users_are_one_line(nets, picture, tmp_path, change, part, capsys):
    try:
        code = main(command(picture, tmp_path / "out", nets[:1], *change))
    except SystemExit as exit_:      # argparse's own
        code = exit_.code
    error = capsys.readouterr().err.strip()
    assert code == 2 and part in error and "\n" not in error


# ---- processes

@pytest.mark.slow
def test_a_worker_that_is_killed_loses_no_dream(nets, picture, tmp_path, monkeypatch):
    out, killed = tmp_path / "out", []
    keep = gallery.Gallery.keep

    def keep_and_kill(self, dream, result):
        keep(self, dream, result)
        if not killed:
            child = multiprocessing.active_children()[0]
            os.kill(child.pid, signal.SIGKILL)
            killed.append(child.pid)

    monkeypatch.setattr(gallery.Gallery, "keep", keep_and_kill)
    assert main(command(picture, out, nets[:1], "--ends", "all", "--octave-n", "1", "--jobs", "2")) == 0
    assert killed and {d["status"] for d in report(out)["dreams"]} == {"done"}
    for dream in report(out)["dreams"]:
        assert pictures.load(out / dream["file"]).shape == (48, 64, 3)


def test_stopping_kills_only_the_pools_processes():
    other = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    other.start()
    try:
        workers = jobs.Processes(1)
        workers.submit({}).result(timeout=60)
        pool = [p for p in multiprocessing.active_children() if p.pid != other.pid]
        workers.stop([])
        until = time.monotonic() + 30      # not by join, since a thread of the pool may already wait for the process
        while any(p.is_alive() for p in pool) and time.monotonic() < until:
            time.sleep(0.02)
        assert len(pool) == 1 and not pool[0].is_alive() and other.is_alive()
    finally:
        other.kill()
        other.join(children.LIMIT)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "killpg"), reason="needs process groups")
def test_ctrl_c_with_processes(nets, picture, tmp_path):
    out = tmp_path / "out"
    seeds = map(str, range(500))
    run = command(picture, out, nets, "--ends", "all", "--octave-n", "1", "--seeds", *seeds, "--jobs", "2")
    process = children.start("-m", "deepdream", *run, start_new_session=True)
    end = time.monotonic() + 120
    while not list(out.glob("dreams/*.jpg")) and process.poll() is None and time.monotonic() < end:
        time.sleep(0.05)
    os.killpg(process.pid, signal.SIGINT)      # as a terminal does
    result = children.ended(process)
    assert result.returncode == 130 and "interrupted" in result.stderr and "Traceback" not in result.stderr
    assert report(out)["state"] == "interrupted"
    with pytest.raises(ProcessLookupError):      # none of its processes is left
        for _ in range(100):
            os.killpg(process.pid, 0)
            time.sleep(0.1)


class Breaking:
    """Workers that all die whenever the job 'poison' runs. Any other job takes a while."""
    lost, all_break = (BrokenProcessPool,), True

    def __init__(self):
        self.log, self.renewed, self.running = [], 0, []

    def width(self):
        return 3

    def submit(self, job):
        future = Future()
        self.log.append(job)
        self.running.append(future)
        if job == "poison":
            for future_ in self.running:
                if not future_.done():
                    future_.set_exception(BrokenProcessPool())
        else:
            threading.Timer(0.2, lambda: future.done() or future.set_result({"of": job})).start()
        return future

    def renew(self):
        self.renewed += 1

    def stop(self, running):
        pass


def test_a_dream_that_kills_its_worker_fails_alone():
    workers = Breaking()
    results = dict(jobs.run({k: k for k in ("a", "b", "poison", "c", "d")}, workers))
    assert "died 3 times" in results.pop("poison").error
    assert results == {k: {"of": k} for k in "abcd"}
    assert workers.renewed == 3 and workers.log.count("poison") == 3 and workers.log.count("c") == 1


def test_threads_are_divided():
    assert jobs.threads_each(None, 1) is None and jobs.threads_each(5, 1) == 5
    assert jobs.threads_each(8, 4) == 2 and jobs.threads_each(2, 4) == 1 and jobs.threads_each(None, 10 ** 6) == 1


@pytest.mark.slow
def test_a_dask_cluster_with_a_worker_that_is_killed(nets, picture, tmp_path, monkeypatch):
    distributed = pytest.importorskip("distributed", reason="needs the package distributed")
    out, killed = tmp_path / "out", []
    keep = gallery.Gallery.keep
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None) as cluster:
        pids = distributed.Client(cluster).run(os.getpid)
        assert len(set(pids.values())) == 2

        def keep_and_kill(self, dream, result):
            keep(self, dream, result)
            if not killed:
                killed.append(next(iter(pids.values())))
                os.kill(killed[0], signal.SIGKILL)

        monkeypatch.setattr(gallery.Gallery, "keep", keep_and_kill)
        run = command(picture, out, nets, "--ends", "all", "--octave-n", "1", "--dask", cluster.scheduler_address)
        assert main(run) == 0
    what = report(out)
    assert killed and len(what["dreams"]) == 14 and {d["status"] for d in what["dreams"]} == {"done"}
    for dream in what["dreams"]:
        assert pictures.load(out / dream["file"]).shape == (48, 64, 3)


def test_a_dask_scheduler_that_does_not_exist(nets, picture, tmp_path, capsys):
    pytest.importorskip("distributed", reason="needs the package distributed")
    assert main(command(picture, tmp_path / "out", nets, "--dask", "nonsense")) == 2
    assert "--dask nonsense" in capsys.readouterr().err


# ---- compare and folders of pictures

@pytest.mark.parametrize("size, sheet", [((64, 48), "small"), ((48, 64), "row")])
def test_compare(nets, picture, tmp_path, size, sheet):
    source = tmp_path / "source.png"
    Image.open(picture).resize(size).save(source)
    out = tmp_path / "compare.png"
    assert main(["compare", str(source), "-o", str(out), "--models", *nets, "--end", "both", "--iter-n", "1",
                 "--octave-n", "1", "--device", "cpu", "--threads", "1", "--seed", "4"]) == 0
    w, h = Image.open(out).size
    assert (w > 3 * size[0]) == (sheet == "row")
    saved = pictures.settings(out)
    assert saved["models"] == ["net_a", "net_b"] and saved["ends"] == ["both", "both"] and saved["seed"] == 4
    at = np.asarray(Image.open(out))
    found = [(x, y) for y in range(20) for x in range(w - size[0] + 1)
             if np.array_equal(at[y:y + size[1], x:x + size[0]], np.asarray(Image.open(source)))]
    assert len(found) == (sheet == "row")      # between the dreams' captions it is smaller


def test_compare_needs_an_end_of_each_net(nets, picture, tmp_path, capsys):
    run = ["compare", picture, "-o", str(tmp_path / "c.jpg"), "--device", "cpu", "--models"]
    assert main([*run, *nets, "--end", "both", "nope"]) == 2
    assert "net_b: no such end: 'nope'" in capsys.readouterr().err
    assert main([*run, nets[0], nets[0]]) == 2
    assert "two different models" in capsys.readouterr().err


def test_a_folder_of_pictures(nets, picture, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    for name in ("a.jpg", "c.png"):
        Image.open(picture).save(photos / name)
    (photos / "b.jpg").write_text("no picture")
    (photos / "notes.txt").write_text("not a picture by name")
    run = ["dream", str(photos), "-o", str(out), "--model", nets[0], "--end", "both", "--iter-n", "1",
           "--octave-n", "1", "--device", "cpu", "--threads", "1"]
    assert main(run) == 2      # one picture failed
    text = capsys.readouterr()
    assert "b.jpg: not a picture" in text.err and "2 dreams made, 0 kept, 1 failed" in text.out
    assert sorted(p.name for p in out.iterdir()) == ["a.jpg", "c.png"]
    (photos / "b.jpg").unlink()
    assert main(run) == 0
    assert "0 dreams made, 2 kept" in capsys.readouterr().out
    assert main([*run, "--jitter", "3"]) == 0
    assert "2 dreams made, 0 kept" in capsys.readouterr().out
    assert main([*run[:3], str(photos), *run[4:]]) == 2      # output into the same folder


def test_a_folder_of_pictures_in_formats_that_are_not_written(nets, picture, tmp_path):
    photos, out = tmp_path / "photos", tmp_path / "new" / "out"
    photos.mkdir()
    for name in ("a.bmp", "b.png", "b.GIF", "c.ppm"):
        Image.open(picture).save(photos / name)
    assert main(["dream", str(photos), "-o", str(out), "--model", nets[0], "--end", "both", "--iter-n", "1",
                 "--octave-n", "1", "--device", "cpu", "--threads", "1"]) == 0
    assert sorted(p.name for p in out.iterdir()) == ["a.png", "b.GIF.png", "b.png", "c.png"]
    assert pictures.settings(out / "a.png")["picture"] == "a.bmp"


def test_a_folder_of_pictures_too_small_leaves_none(nets, picture, tmp_path, capsys):
    photos, out = tmp_path / "photos", tmp_path / "out"
    photos.mkdir()
    Image.open(picture).resize((3, 3)).save(photos / "a.png")
    assert main(["dream", str(photos), "-o", str(out), "--model", nets[0], "--end", "pool2", "--device", "cpu"]) == 2
    error = capsys.readouterr().err
    assert "a.png: " in error and "too small for 'pool2'" in error and not out.exists()


@pytest.mark.parametrize("file", ["index.html", "source.jpg", "gallery.json", "dreams/net_a-both-o4-s0.jpg"])
def test_a_gallery_does_not_replace_the_files_of_somebody_else(nets, picture, tmp_path, capsys, file):
    out = tmp_path / "out"
    path = out / file
    path.parent.mkdir(parents=True)
    path.write_bytes(b"mine")
    assert main(command(picture, out, nets[:1])) == 2
    assert f"{path} belongs to no gallery, and would be replaced; give another folder" in capsys.readouterr().err
    assert path.read_bytes() == b"mine"


def test_a_gallery_that_goes_on_does_not_replace_a_picture(nets, picture, tmp_path, capsys):
    out = tmp_path / "out"
    assert main(command(picture, out, nets[:1])) == 0
    path = next((out / "dreams").iterdir())
    Image.new("RGB", (9, 9)).save(path)
    before = path.read_bytes()
    assert main(command(picture, out, nets[:1])) == 2
    assert f"would overwrite {path}, which is not a dream" in capsys.readouterr().err and path.read_bytes() == before
    path.write_bytes(before[:100])      # damaged: made again
    assert main(command(picture, out, nets[:1])) == 0 and pictures.load(path).shape == pictures.load(picture).shape


def test_a_gallery_does_not_replace_that_of_another_picture(nets, picture, tmp_path, capsys):
    out, other = tmp_path / "out", tmp_path / "other.png"
    assert main(command(picture, out, nets[:1])) == 0
    page = (out / "index.html").read_bytes()
    Image.open(picture).rotate(180).save(other)
    assert main(command(str(other), out, nets[:1])) == 2
    assert f"holds the gallery of another picture, {os.path.basename(picture)}, which would" in capsys.readouterr().err
    assert (out / "index.html").read_bytes() == page
    (out / "index.html").unlink()
    for damaged in ("{", '{"software": "deepdream", "source": null}'):      # is written anew, like a missing page
        (out / "gallery.json").write_text(damaged)
        assert main(command(picture, out, nets[:1])) == 0
    assert json.loads((out / "gallery.json").read_text())["state"] == "done"
