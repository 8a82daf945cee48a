"""`deepdream features`: the channels that it chooses, its sheet, interruption and resuming."""
import children
import numpy as np
import pytest
import toys
from PIL import Image

from deepdream import DreamError, Net, load, settings
from deepdream.cli import main
from deepdream.seeing import features
from deepdream.seeing.features import chosen_channels, strongest

QUICK = ["--iter-n", "3", "--octave-n", "2", "--size", "48x40", "--jitter", "3", "--device", "cpu", "--threads", "1"]


def command(toy, out, layer="both", *options):
    return ["features", layer, "--model", str(toy), "-o", str(out), *QUICK, *options]


def test_channels(toy):
    net = Net(toy, device="cpu", threads=1)
    assert chosen_channels(net, "both") == ("both", [])
    assert chosen_channels(net, "both[0-3,7, 2]") == ("both", [0, 1, 2, 3, 7])
    for text in ("both[10]", "both[3-1]", "both[x]", "both[]", "both[1@0.5,0.5]", "both[-1]"):
        with pytest.raises(DreamError):
            chosen_channels(net, text)


def test_each_picture_excites_its_channel(toy, tmp_path, capsys):
    plain = ["--natural", "0", "--laplacian", "0", "--blur", "0"]      # in 6 small steps priors are stronger than a toy
    assert main(command(toy, tmp_path, "both[0,3,8]", *plain)) == 0
    assert "3 channels of both, toy: 3 made, 0 kept" in capsys.readouterr().out
    net = Net(toy, device="cpu", threads=1)
    found = {c: np.square(net.features(load(tmp_path / f"toy-both-{c:04d}.png"), "both")).mean((1, 2))
             for c in (0, 3, 8)}
    for c in found:
        assert found[c][c] == max(other[c] for other in found.values())
        assert settings(tmp_path / f"toy-both-{c:04d}.png")["end"] == f"both[{c}]"
    with Image.open(tmp_path / "toy-both.png") as sheet:
        assert sheet.width > 2 * 48 and sheet.height > 2 * 40
    assert settings(tmp_path / "toy-both.png")["channels"] == [0, 3, 8]


def test_interrupted_and_continued(toy, tmp_path, monkeypatch, capsys):
    one, two, keep = tmp_path / "one", tmp_path / "two", features.deepdream
    assert main(command(toy, one, "both[0,3,6,8]")) == 0
    calls = []

    def stop(*args, **keywords):
        calls.append(1)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return keep(*args, **keywords)

    monkeypatch.setattr(features, "deepdream", stop)
    assert main(command(toy, two, "both[0,3,6,8]")) == 130
    assert "interrupted; the same command goes on" in capsys.readouterr().err
    assert sorted(p.name for p in two.iterdir()) == ["toy-both-0000.png", "toy-both-0003.png", "toy-both.png"]
    assert settings(two / "toy-both.png")["channels"] == [0, 3]
    monkeypatch.setattr(features, "deepdream", keep)
    before = (two / "toy-both-0003.png").stat().st_mtime_ns
    capsys.readouterr()
    assert main(command(toy, two, "both[0,3,6,8]")) == 0
    assert "2 made, 2 kept" in capsys.readouterr().out and (two / "toy-both-0003.png").stat().st_mtime_ns == before
    for path in one.iterdir():
        np.testing.assert_array_equal(load(path), load(two / path.name))
    (two / "toy-both-0006.png").write_bytes(b"damaged")
    assert main(command(toy, two, "both[0,3,6,8]")) == 2      # whose file it is cannot be seen any more
    assert "toy-both-0006.png, which is no picture of a feature, or a damaged one" in capsys.readouterr().err
    (two / "toy-both-0006.png").unlink()
    assert main(command(toy, two, "both[0,3,6,8]", "--step-size", "2")) == 0      # other settings: all again
    assert "4 made, 0 kept" in capsys.readouterr().out


STUCK = """
import sys, time
from deepdream.cli import main
from deepdream.seeing import features
dream, calls = features.deepdream, []
def stuck(*args, **keywords):
    calls.append(1)
    if len(calls) == 3:
        print("third", flush=True)
        time.sleep(100)
    return dream(*args, **keywords)
features.deepdream = stuck
sys.exit(main(sys.argv[1:]))
"""


@pytest.mark.slow
def test_killed_and_continued(toy, tmp_path, capsys):
    """What a killed process has finished is not made again, and the sheet is that of one uninterrupted run."""
    one, two = tmp_path / "one", tmp_path / "two"
    assert main(command(toy, one, "both[0,3,6,8]")) == 0
    process = children.start("-c", STUCK, *command(toy, two, "both[0,3,6,8]"))
    assert children.first_line(process) == "third\n"
    process.kill()
    children.ended(process)
    assert sorted(p.name for p in two.iterdir()) == ["toy-both-0000.png", "toy-both-0003.png"]      # nothing half
    capsys.readouterr()
    assert main(command(toy, two, "both[0,3,6,8]")) == 0
    assert "2 made, 2 kept" in capsys.readouterr().out
    for path in one.iterdir():
        np.testing.assert_array_equal(load(path), load(two / path.name))


def test_the_strongest_channels_of_a_picture(toy, tmp_path, capsys):
    net = Net(toy, device="cpu", threads=1)
    path = tmp_path / "dream.png"
    assert main(["dream", "--start", "noise", "--size", "64x64", "-o", str(path), "--model", str(toy), "--end",
                 "both[8]", "--iter-n", "20", "--octave-n", "1", "--seed", "1", "--device", "cpu"]) == 0
    assert strongest(net, "both", load(path), 3)[0] == 8
    assert main(command(toy, tmp_path / "out", "both", "--strongest", str(path), "--count", "2")) == 0
    assert settings(tmp_path / "out" / "toy-both.png")["channels"] == strongest(net, "both", load(path), 2)


def test_silent_channels(tmp_path, capsys):
    """Channel 1 sees only strong contrast, which the plain noise lacks. Channel 2 sees nothing at all."""
    def make(layer, i, shape):
        weights = toys.formula(layer, i, shape)
        if layer == "left":
            weights[1], weights[2] = (weights[0], 0) if len(shape) > 1 else (-150, -1)
        return weights

    folder, out = toys.write_net(tmp_path / "net", toys.TOY, make), tmp_path / "out"
    assert main(command(folder, out, "both[0-2]", "--noise", "128", "5", "--iter-n", "8")) == 0
    assert "2 made, 0 kept, 1 silent" in capsys.readouterr().out
    seen = Net(folder, device="cpu", threads=1).features(load(out / "net-both-0001.png"), "both")
    assert seen[1].max() > 0 and not (out / "net-both-0002.png").exists()
    assert settings(out / "net-both.png")["channels"] == [0, 1, 2]
    words = ["dream", "-o", str(tmp_path / "again.png"), "--device", "cpu", "--threads", "1", "--settings"]
    assert main([*words, str(out / "net-both-0000.png")]) == 0
    assert np.array_equal(load(tmp_path / "again.png"), load(out / "net-both-0000.png"))
    assert main([*words, str(out / "net-both-0001.png")]) == 2
    assert "only `deepdream features` makes it again" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["both[0-99]"], "'both' has no channel 10; allowed are 0 to 9"),
    (["both[3]", "--count", "3"], "both[3]: names its channels"),
    (["nowhere"], "nowhere"),
    (["both[1@0.5,0.5]"], "is one neuron; give channels, as in both[13,17]"),
    (["both", "--strongest", "missing.png"], "missing.png: no such picture"),
    (["both", "--size", "2x2"], "too small"),
])
def test_mistakes_are_one_line(toy, tmp_path, capsys, arguments, message):
    assert main(command(toy, tmp_path / "out", *arguments)) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1 and not (tmp_path / "out").exists()
