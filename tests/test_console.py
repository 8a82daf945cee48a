"""Command lines on limited terminals, with closed pipes and streams, and with absurd arguments."""
import os

import children
import numpy as np
import pytest
import toys
from deepdream.convert.console import one_line
from PIL import Image

from deepdream import load
from deepdream.cli import main

DREAM = '"$0" -m deepdream dream --size 40x36 --iter-n 1 --octave-n 1 --end both --device cpu --model "$1" -o'


@pytest.fixture
def labelled(tmp_path):
    """A net with labels that are not ASCII."""
    folder = toys.write_net(tmp_path / "net", toys.TOY, toys.formula)
    (folder / "labels.txt").write_text("Kätzchen\n猫\n", encoding="utf-8")
    return folder


def test_characters_that_the_terminal_cannot_show(labelled):
    env = children.environment(PYTHONIOENCODING="ascii")
    result = children.run("-m", "deepdream", "layers", "--labels", "--model", labelled, env=env)
    assert result.returncode == 0 and not result.stderr
    assert result.stdout == "    0  K\\xe4tzchen\n    1  \\u732b\n"
    result = children.run("-m", "deepdream", "class", "Kätzchn", "--model", labelled, env=env)
    assert result.returncode == 2 and result.stderr.count("\n") == 1 and "K\\xe4tzchen" in result.stderr


@pytest.mark.parametrize("command", [
    '-m deepdream layers --model "$1"', "-m deepdream --help", "-m deepdream layers --help",
    '-m convert "$1/deploy.prototxt" "$1/net.caffemodel" --list'])
def test_a_pipe_that_nobody_reads(command, toy):
    result = children.shell(f'{{ "$0" {command}; echo $? >&2; }} | true', toy)
    assert result.stderr == "0\n"


@pytest.mark.slow
def test_streams_that_are_closed(toy, tmp_path):
    closed = {"a.png": ">&-", "b.png": "2>&-", "c.png": "<&- >&- 2>&-"}
    script = "".join(f"{DREAM} {name} {how}; echo $?\n" for name, how in closed.items())
    result = children.shell(script, toy, cwd=tmp_path)
    assert [line for line in result.stdout.splitlines() if line.isdigit()] == ["0", "0", "0"], result
    for name in closed:
        assert load(tmp_path / name).shape == (36, 40, 3)
    result = children.shell('"$0" -m deepdream layers --model nosuch >&- 2>&-', toy)
    assert result.returncode == 2


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="needs /dev/full")
def test_a_disk_that_is_full(toy):
    result = children.shell('"$0" -m deepdream layers --model "$1" >/dev/full', toy)
    assert result.returncode == 2 and result.stderr == "deepdream: No space left on device\n"


def test_messages_are_one_printable_line():
    assert one_line("no such end: 'a\x1b[2J\nb'") == r"no such end: 'a\x1b[2J\nb'"
    path = "/home/" + "/".join(["a_folder"] * 20) + "/cat.jpg"
    assert one_line(f"{path}: no such picture") == f"{path}: no such picture"
    assert len(one_line("x" * 10 ** 6 + ": no such picture")) < 110 and len(one_line("x " * 10 ** 6)) == 2000


LONG, DIGITS = "x" * 5000, "9" * 5000
ODD = [   # arguments to add to the dream of an existing picture
    ["--end=--"], ["-o--"], ["--end", ""], ["--end="], ["--end", "a\0b"], ["--end", LONG], ["--end", f"both[{DIGITS}]"],
    ["--end", "both[" + "1, " * 3000 + "x]"], ["--end", f"both[1@{DIGITS},0]"], ["--end", f"class:{DIGITS}"],
    ["--end", "class:²"], ["--end", "pool2\x1b[2J\n"], ["--iter-n", DIGITS], ["--jitter", "1" + "0" * 30],
    ["--jitter", "²"], ["--seed", DIGITS], ["--size", f"{DIGITS}x9"], ["--size", "999999x999999"],
    ["--size", "1000x100000"], ["--size", "10000x10000"], ["--size", "²x²"], ["--step-size", "1e400"],
    ["--octave-scale", "nan"], ["--tile", DIGITS], ["--model", ""],
    ["--device", "cuda:²"], ["--device", f"cuda:{DIGITS}"], ["--model", "~nouser"], ["--model", "~nouser/net.onnx"],
    ["--model", LONG], ["--guide", LONG], ["--settings", LONG], ["--log", "no\0"], [LONG], ["\0"], ["--" + LONG],
    ["--start", LONG],
]


@pytest.mark.parametrize("odd", ODD, ids=lambda odd: ascii(" ".join(odd))[1:30])
def test_odd_arguments_are_one_short_line(odd, toy, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", "4")
    Image.fromarray(np.uint8(np.abs(toys.noise(40, 44, 3)) * 60)).save("cat.png")
    try:
        code = main(["dream", "cat.png", "--model", str(toy), "--end", "both", "--iter-n", "1", "--device", "cpu",
                     *odd])
    except SystemExit as end:
        code = end.code
    out, error = capsys.readouterr()
    assert code == 2 and not out and len(error) < 700 and error.count("\n") == 1 and error[:-1].isprintable(), error
    assert os.listdir() == ["cat.png"]


def test_odd_commands_are_one_short_line(capsys):
    for command in (LONG, "a\x1b[2J\nb", "\0", ""):
        assert main([command]) == 2
        error = capsys.readouterr().err
        assert len(error) < 300 and error.count("\n") == 1 and error[:-1].isprintable()


def test_a_huge_start_is_rejected_before_it_is_made(toy, tmp_path, monkeypatch, capsys):
    """The size alone decides: NumPy could reserve the memory without an error."""
    from deepdream.pictures import starts
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", "4")
    monkeypatch.setattr(starts, "noise", None)
    monkeypatch.setattr(starts, "cached_scene", None)
    for start in ([], ["--start", "noise"], ["--start", "lake"]):
        assert main(["dream", "-o", str(tmp_path / "a.png"), "--model", str(toy), "--end", "both", "--device", "cpu",
                     "--size", "13000x13000", *start]) == 2
        assert "needs about" in capsys.readouterr().err


def test_a_size_that_the_format_cannot_hold_is_rejected_at_once(toy, tmp_path, capsys):
    for name, size in (("a.webp", "16384x20"), ("a.jpg", "20x65501")):
        assert main(["dream", "-o", str(tmp_path / name), "--model", str(toy), "--end", "both", "--device", "cpu",
                     "--octave-n", "1", "--size", size]) == 2
        assert "holds at most" in capsys.readouterr().err
    Image.new("RGB", (16384, 20)).save(tmp_path / "wide.png")
    assert main(["enhance", str(tmp_path / "wide.png"), "-o", str(tmp_path / "a.webp"), "--model", str(toy), "--end",
                 "both"]) == 2
    assert "holds at most" in capsys.readouterr().err


def test_convert_prints_one_line_too(tmp_path):
    for odd in (["a\nb", "c", "--list"], [LONG, "b", "--list"], ["a", "b", "--end=--"]):
        result = children.run("-m", "convert", *odd)
        assert result.returncode == 2 and result.stderr.count("\n") == 1 and len(result.stderr) < 300, result
