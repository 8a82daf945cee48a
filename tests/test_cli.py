"""`python -m deepdream` and `python -m convert` as users run them: a mistake of theirs is one line and exit code 2."""
import os
import signal
from concurrent.futures import ThreadPoolExecutor

import children
import numpy as np
import onnx
import pytest
import toys
from PIL import Image

from deepdream import __version__, load, pictures, settings
from deepdream.cli import COMMANDS
from deepdream.runtime.device import cuda_problem

TINY = ["--iter-n", "2", "--octave-n", "2", "--jitter", "3", "--threads", "1", "--device", "cpu"]


def command(module, *args, **options):
    return children.run("-m", module, *args, **options)


def names(folder):
    return sorted(str(p.relative_to(folder)) for p in folder.rglob("*"))


def damaged(folder, name):
    """Write a net with something wrong with it. Returns its folder."""
    weights = toys.weights(toys.TOY, toys.formula)
    text, data = toys.TOY, toys.caffemodel(weights)
    if name == "typo":
        text = text.replace("kernel_size: 3", "kernal_size: 3", 1)
    elif name == "binary prototxt":
        text = bytes(range(256)) * 10
    elif name == "no net":
        text = "<html>404</html>"
    elif name == "truncated":
        data = data[:-100]
    elif name == "picture":
        data = b"\x89PNG\r\n\x1a\n" + bytes(500)
    elif name == "empty":
        data = b""
    elif name == "nan":
        weights["left"][0][0, 0, 0, 0] = np.nan
        data = toys.caffemodel(weights)
    elif name == "missing":
        del weights["right"]
        data = toys.caffemodel(weights)
    elif name == "misshapen":
        weights["right"][0] = weights["right"][0][:, :5]
        data = toys.caffemodel(weights)
    elif name == "dead":
        data = toys.caffemodel(toys.weights(toys.TOY, lambda n, i, s: np.full(s, 0 if len(s) > 1 else -1, np.float32)))
    folder.mkdir()
    if name != "no prototxt":
        (folder / "deploy.prototxt").write_bytes(text if isinstance(text, bytes) else text.encode())
    if name != "no weights":
        (folder / "net.caffemodel").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def place(tmp_path_factory, toy):
    """A folder with pictures and nets, intact and damaged ones."""
    place = tmp_path_factory.mktemp("place")
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (30, 40, 3)).astype(np.uint8))
    picture.save(place / "cat.png")
    picture.save(place / "cat.jpg")
    picture.save(place / "cat.webp")
    picture.save(place / "whole.tif")
    picture.resize((3, 3)).save(place / "tiny.png")
    picture.resize((2, 2)).save(place / "dot.png")
    (place / "cut.jpg").write_bytes((place / "cat.jpg").read_bytes()[:400])
    (place / "cut.tif").write_bytes((place / "whole.tif").read_bytes()[:-400])
    (place / "letter.jpg").write_text("Dear cat,\n" * 30)
    for net in ("typo", "binary prototxt", "no net", "truncated", "picture", "empty", "nan", "missing", "misshapen",
                "dead", "no weights", "no prototxt"):
        damaged(place / net.replace(" ", "_"), net)
    (place / "empty_folder").mkdir()
    return place


ZOOM = ["deepdream", "zoom", "cat.png", "--model", "TOY", *TINY]
DREAM = ["deepdream", "dream", "cat.png", "-o", "out.png", "--model", "TOY", *TINY]


def but(**changes):
    """Return DREAM with some options changed or added, or with another picture."""
    args = list(DREAM)
    if "picture" in changes:
        args[2] = changes.pop("picture")
    for option, value in changes.items():
        flag = "-o" if option == "o" else "--" + option.replace("_", "-")
        if flag in args:
            args[args.index(flag) + 1] = value
        else:
            args += [flag, value]
    return args


def converted(*args):
    return ["convert", *args]


PROTOTXT, WEIGHTS = "TOY/deploy.prototxt", "TOY/net.caffemodel"
BAD = {   # what is wrong: (command, parts of its one line)
    "no picture": (but(picture="no.png"), ["no.png: no such picture"]),
    "a letter": (but(picture="letter.jpg"), ["letter.jpg: not a picture"]),
    "a truncated picture": (but(picture="cut.jpg"), ["cut.jpg: cannot be read"]),
    "a truncated TIFF": (but(picture="cut.tif"), ["cut.tif: cannot be read"]),
    "too small a picture": (but(picture="tiny.png", end="pool2"), ["2x2", "too small for 'pool2'", "at least 3x3"]),
    "an unknown end": (but(end="pol2"), ["no such end: 'pol2'", "pool2"]),
    "an unknown model": (but(model="mini_imagenot"), ["mini_imagenot", "mini_imagenet"]),
    "no folder": (but(model="no/folder"), ["no/folder"]),
    "an empty folder": (but(model="empty_folder"), ["empty_folder"]),
    "a folder without weights": (but(model="no_weights"), ["no_weights", "caffemodel"]),
    "a folder without a prototxt": (but(model="no_prototxt"), ["no_prototxt", "prototxt"]),
    "a typo in the prototxt": (but(model="typo"),
                               ["deploy.prototxt: line", "'kernal_size'", "did you mean kernel_size"]),
    "a prototxt that is no text": (but(model="binary_prototxt"), ["deploy.prototxt: not a prototxt"]),
    "a prototxt that is a web page": (but(model="no_net"), ["deploy.prototxt", "not a prototxt"]),
    "truncated weights": (but(model="truncated"), ["net.caffemodel", "cut off"]),
    "weights that are a picture": (but(model="picture"), ["net.caffemodel: not a caffemodel"]),
    "empty weights": (but(model="empty"), ["net.caffemodel: not a caffemodel"]),
    "NaN weights": (but(model="nan"), ["net.caffemodel", "'left'", "NaN"]),
    "missing weights": (but(model="missing"), ["'right' (Convolution)", "(4, 8, 3, 3)"]),
    "misshapen weights": (but(model="misshapen"), ["'right' (Convolution)", "(4, 8, 3, 3)", "(4, 5, 3, 3)"]),
    "a zero gradient": (but(model="dead", end="pool2"), ["the gradient at 'pool2' is zero everywhere"]),
    "a file as the output's folder": (but(o="cat.png/out.png"), ["-o cat.png/out.png: there is no folder cat.png"]),
    "a file above the output's folder": (but(o="cat.png/new/out.png"), ["-o cat.png/new: there is no folder cat.png"]),
    "a new folder at an unknown end": (but(o="no/out.png", end="nosuch"), ["no such end: 'nosuch'"]),
    "an output that is no picture": (but(o="out.txt"), ["out.txt", "'.txt' is not a picture format"]),
    "an output that is a folder": (but(o="typo.png/"), ["typo.png"]),
    "an output over the picture": (but(o="cat.png"), ["would overwrite cat.png"]),
    "an empty end": (but(end=""), ["--end: is empty"]),
    "an empty picture": (["deepdream", "dream", "", "-o", "new.png"], ["PICTURE: is empty"]),
    "zoom: an unknown end": (ZOOM + ["-o", "new", "--end", "nosuch"], ["no such end: 'nosuch'"]),
    "zoom: an empty end": (ZOOM + ["-o", "new", "--end", ""], ["--end: is empty"]),
    "zoom: too small a picture": (ZOOM[:2] + ["tiny.png"] + ZOOM[3:] + ["-o", "new", "--end", "pool2"],
                                  ["too small for 'pool2'"]),
    "zoom: a movie over the picture": (ZOOM[:2] + ["cat.webp"] + ZOOM[3:] + ["-o", "new", "--movie", "cat.webp"],
                                       ["--movie cat.webp: would overwrite cat.webp"]),
    "a folder at an unknown end": (but(picture=".", o="new", end="nosuch"), ["no such end: 'nosuch'"]),
    "a report that is a folder": (["deepdream", "regress", "--json", "typo"], ["--json typo: cannot be written"]),
    "a report in no folder": (["deepdream", "regress", "--html", "no/x.html"],
                              ["--html no/x.html: there is no folder no"]),
    "two reports in one file": (["deepdream", "regress", "--json", "x", "--html", "./x"], ["--html ./x: is the file"]),
    "no guide": (but(guide="no.png"), ["no.png: no such picture"]),
    "too small a guide": (but(guide="dot.png", end="pool2"), ["2x2", "too small for 'pool2'"]),
    "no device": (but(device="gpu"), ["'gpu' is not a device", "cuda:N"]),
    "no such GPU": (but(device="cuda:77"), ["--device cuda:77"]),
    "no steps": (but(iter_n="0"), ["--iter-n: '0' is not a whole number from 1"]),
    "no octaves": (but(octave_n="x"), ["--octave-n: 'x' is not a whole number from 1"]),
    "octaves that do not shrink": (but(octave_scale="1"), ["--octave-scale: '1' is not a number greater than 1"]),
    "a step of nothing": (but(step_size="0"), ["--step-size: '0'"]),
    "a step without end": (but(step_size="nan"), ["--step-size: 'nan'"]),
    "negative jitter": (but(jitter="-1"), ["--jitter: '-1' is not a whole number from 0"]),
    "an endless seed": (but(seed="4294967296"), ["--seed: '4294967296'"]),
    "too good a quality": (but(quality="101"), ["--quality"]),
    "an unknown option": ([*DREAM, "--iterations", "3"], ["--iterations"]),
    "an unknown command": (["deepdream", "draem"], ["draem", "dream"]),
    "layers of no model": (["deepdream", "layers", "--model", "no/folder"], ["no/folder"]),
    "convert: no prototxt": (converted("no.prototxt", WEIGHTS, "-o", "x.onnx"), ["no.prototxt: cannot be read"]),
    "convert: no weights": (converted(PROTOTXT, "no.caffemodel", "-o", "x.onnx"), ["no.caffemodel: cannot be read"]),
    "convert: changed places": (converted(WEIGHTS, PROTOTXT, "-o", "x.onnx"), ["net.caffemodel: not a prototxt"]),
    "convert: a typo": (converted("typo/deploy.prototxt", WEIGHTS, "--list"), ["did you mean kernel_size"]),
    "convert: truncated": (converted(PROTOTXT, "truncated/net.caffemodel", "-o", "x.onnx"),
                           ["net.caffemodel", "cut off"]),
    "convert: NaN": (converted(PROTOTXT, "nan/net.caffemodel", "-o", "x.onnx"), ["'left'", "NaN"]),
    "convert: unknown end": (converted(PROTOTXT, WEIGHTS, "-o", "x.onnx", "--end", "rigth"),
                             ["no such end: 'rigth'", "right"]),
    "convert: no folder": (converted(PROTOTXT, WEIGHTS, "-o", "no/x.onnx"), ["there is no folder no"]),
    "convert: a folder": (converted(PROTOTXT, WEIGHTS, "-o", "typo"), ["-o typo: cannot be written"]),
    "convert: not .onnx": (converted(PROTOTXT, WEIGHTS, "-o", "new.prototxt"), ["must end in .onnx"]),
    "convert: nothing to do": (converted(PROTOTXT, WEIGHTS), ["nothing to do"]),
    "convert: a mean": (converted(PROTOTXT, WEIGHTS, "--list", "--mean", "a,b"), ["'a,b' is not a list of numbers"]),
    "convert: over the weights": (converted(PROTOTXT, WEIGHTS, "-o", WEIGHTS), ["net.caffemodel: would overwrite"]),
    "convert: over the prototxt": (converted(PROTOTXT, WEIGHTS, "-o", PROTOTXT), ["deploy.prototxt: would overwrite"]),
    "convert: an end for the list": (converted(PROTOTXT, WEIGHTS, "--list", "--end", "left"), ["--end"]),
    "convert: one file": (converted(PROTOTXT, "--list"), ["caffemodel"]),
}


@pytest.fixture(scope="module")
def outcomes(place, toy):
    """Run each command of BAD. Returns their results, and the files before and after."""
    (place / "typo.png").mkdir()
    before = names(place)

    def run(args):
        return command(*(a.replace("TOY", str(toy)) for a in args), cwd=place)
    with ThreadPoolExecutor(2) as pool:
        results = dict(zip(BAD, pool.map(lambda bad: run(bad[0]), BAD.values())))
    return results, before, names(place)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", BAD)
def test_bad_input_is_one_line_and_code_2(outcomes, wrong):
    result = outcomes[0][wrong]
    lines = [l for l in result.stderr.splitlines() if not l.startswith("running on ")]
    assert result.returncode == 2, result
    assert len(lines) == 1 and not result.stdout, result
    assert lines[0].startswith("convert: " if BAD[wrong][0][0] == "convert" else "deepdream"), lines
    for part in BAD[wrong][1]:
        assert part in lines[0], lines


@pytest.mark.slow
def test_bad_input_leaves_no_file(outcomes):
    _, before, after = outcomes
    assert before == after


@pytest.mark.skipif(cuda_problem() is None, reason="this machine has CUDA")
def test_cuda_where_there_is_none(place, toy):
    result = command("deepdream", "dream", "cat.png", "-o", "out.png", "--model", toy, "--device", "cuda", cwd=place)
    assert result.returncode == 2 and result.stderr.startswith("deepdream: --device cuda: ")
    assert result.stderr.count("\n") == 1


# ---- Ctrl-C

SLOW = """
import sys
from deepdream import cli
from deepdream.cli import progress
step = progress.Progress.step
def stepped(*args):
    print("stepped", flush=True)
    step(*args)
progress.Progress.step = stepped
sys.exit(cli.main(sys.argv[1:]))
"""


def test_ctrl_c_in_a_dream(place, toy, tmp_path):
    pictures.save(pictures.load(place / "cat.png"), tmp_path / "old.png", {"software": "deepdream"})
    for output in ("out.jpg", "old.png"):
        before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
        process = children.start("-c", SLOW, "dream", place / "cat.png", "-o", output, "--model", toy, *TINY,
                                 "--iter-n", "1000000", cwd=tmp_path)
        assert children.first_line(process) == "stepped\n"
        process.send_signal(signal.SIGINT)
        result = children.ended(process)
        assert result.returncode == 130
        assert result.stderr == "deepdream: interrupted\n"
        partial = tmp_path / output.replace(".", ".partial.")
        assert result.stdout.splitlines()[-1].startswith(f"{partial.name}: 29x21, the picture so far: octave 1 of 2, ")
        assert np.abs(load(partial) - load(place / "cat.png")[:21, :29]).mean() > 1
        partial.unlink()
        assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


def test_ctrl_c_in_convert(monkeypatch, capsys):
    from deepdream.convert import __main__ as command
    monkeypatch.setattr(command, "_run", lambda args: (_ for _ in ()).throw(KeyboardInterrupt))
    assert command.main(["a", "b", "--list"]) == 130
    assert capsys.readouterr().err == "convert: interrupted\n"


# ---- what works

@pytest.mark.slow
def test_a_dream_holds_its_settings(place, toy, tmp_path):
    options = ["--iter-n", 1, "--octave-n", 2, "--octave-scale", 1.3, "--step-size", 2.5, "--jitter", 4, "--no-clip",
               "--seed", 5, "--end", "both", "--guide", place / "cat.jpg", "--device", "cpu", "--threads", 1]
    for name in ("a.jpg", "b.png", "c.png"):
        result = command("deepdream", "dream", place / "cat.png", "-o", name, "--model", toy, *options, cwd=tmp_path)
        assert result.returncode == 0 and result.stderr == "", result
        assert result.stdout.startswith(f"{name}: 40x30, ") and "at both, seed 5" in result.stdout
    assert names(tmp_path) == ["a.jpg", "b.png", "c.png"]
    assert (tmp_path / "b.png").read_bytes() == (tmp_path / "c.png").read_bytes()
    for name in ("a.jpg", "b.png"):
        saved = settings(tmp_path / name)
        expected = {"end": "both", "iter_n": 1, "octave_n": 2, "octave_scale": 1.3, "step_size": 2.5, "jitter": 4,
                    "clip": False, "seed": 5, "picture": "cat.png", "guide": "cat.jpg", "device": "cpu"}
        assert {k: saved[k] for k in expected} == expected
        assert saved["software"] == f"deepdream {__version__}" and len(saved["checksum"]) == 40 and saved["model"]


def test_the_dream_is_what_python_makes_of_it(place, toy, tmp_path):
    from deepdream import Net, deepdream, load
    result = command("deepdream", "dream", place / "cat.png", "-o", tmp_path / "a.png", "--model", toy, "--seed", 9,
                     *TINY, "--end", "pool2")
    assert result.returncode == 0, result
    image = load(place / "cat.png")
    np.random.seed(9)
    dream = deepdream(Net(toy, device="cpu", threads=1), image, iter_n=2, octave_n=2, end="pool2", jitter=3)
    difference = np.abs(load(tmp_path / "a.png") - np.floor(dream))
    assert (difference > 1).mean() < 0.01 and np.abs(dream - image).mean() > 0.5


def test_a_random_seed_is_saved(place, toy, tmp_path):
    for name in ("a.png", "b.png"):
        result = command("deepdream", "dream", place / "cat.png", "-o", name, "--model", toy, *TINY, cwd=tmp_path)
        assert result.returncode == 0
    seeds = [settings(tmp_path / n)["seed"] for n in ("a.png", "b.png")]
    assert seeds[0] != seeds[1]
    again = command("deepdream", "dream", place / "cat.png", "-o", "c.png", "--model", toy, *TINY, "--seed", seeds[0],
                    cwd=tmp_path)
    assert again.returncode == 0
    assert (tmp_path / "a.png").read_bytes() == (tmp_path / "c.png").read_bytes()


def test_layers_and_list_agree(toy):
    layers = command("deepdream", "layers", "--model", toy)
    ends = command("convert", toy / "deploy.prototxt", toy / "net.caffemodel", "--list")
    assert layers.returncode == ends.returncode == 0 and layers.stdout == ends.stdout and not ends.stderr
    table = [line.split() for line in ends.stdout.splitlines()]
    assert table == [["data", "3", "1"], ["conv1", "8", "2"], ["pool1", "8", "4"], ["left", "6", "4"],
                     ["right", "4", "4"], ["both", "10", "4"], ["pool2", "10", "4"]]


def test_convert_writes_graphs(toy, tmp_path):
    files = toy / "deploy.prototxt", toy / "net.caffemodel"
    result = command("convert", *files, "-o", "net.onnx", "--mean", "1,2,3", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith("net.onnx: forward graph, ") and not result.stderr
    result = command("convert", *files, "-o", "left.onnx", "--end", "left", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith("left.onnx: gradient graph of left, ")
    assert names(tmp_path) == ["left.onnx", "net.onnx"]
    net, left = (onnx.load(tmp_path / n) for n in ("net.onnx", "left.onnx"))
    for model in (net, left):
        onnx.checker.check_model(model, full_check=True)
    assert {p.key: p.value for p in net.metadata_props}["mean"] == "[1.0, 2.0, 3.0]"
    assert [i.name for i in left.graph.input] == ["data", "end_diff"]
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "net.onnx").stat().st_mode & 0o777 == 0o666 & ~umask


def test_convert_writes_the_gradient_of_several_layers(toy, tmp_path):
    result = command("convert", toy / "deploy.prototxt", toy / "net.caffemodel", "-o", "two.onnx", "--end", "left",
                     "--end", "pool1", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith("two.onnx: gradient graph of left and pool1, ")
    assert [i.name for i in onnx.load(tmp_path / "two.onnx").graph.input] == ["data", "end_diff:left", "end_diff:pool1"]


def test_convert_takes_an_onnx_file(tmp_path):
    from onnx_toys import filters
    from onnx_toys import net as model
    onnx.save(model("y = Conv(x, w); z = Relu(y)", {"w": filters(4, 3)}, (1, 8, 9, 3)), tmp_path / "net.onnx")
    result = command("convert", "net.onnx", "--list", "--layout", "nchw", cwd=tmp_path)
    assert result.returncode == 2 and "has 8 channels as nchw" in result.stderr
    onnx.save(model("y = Conv(x, w); z = Relu(y)", {"w": filters(4, 3)}), tmp_path / "net.onnx")
    result = command("convert", "net.onnx", "--list", cwd=tmp_path)
    assert result.returncode == 0 and [line.split()[0] for line in result.stdout.splitlines()] == ["data", "y", "z"]
    result = command("convert", "net.onnx", "-o", "z.onnx", "--end", "z", "--scale", "1,2,3", cwd=tmp_path)
    assert result.returncode == 0 and result.stdout.startswith("z.onnx: gradient graph of z, ")
    assert [i.name for i in onnx.load(tmp_path / "z.onnx").graph.input] == ["data", "end_diff"]
    for words, message in ((["net.onnx", "net.caffemodel"], "caffemodel: only for a Caffe net, and net.onnx is"),
                           (["net.onnx", "--surgery"], "--surgery: only for a Caffe net"),
                           (["a.prototxt", "b", "--scale", "1"], "--scale: only for an .onnx file, and a.prototxt is"),
                           (["net.onnx", "--scale", "1,x"], "'1,x' is not a list of numbers"),
                           (["a.prototxt"], "the following arguments are required: caffemodel")):
        result = command("convert", *words, "--list", cwd=tmp_path)
        assert result.returncode == 2 and message in result.stderr and result.stderr.count("\n") == 1


def test_help_of_every_command():
    general = command("deepdream", "--help")
    assert general.returncode == 0 and not general.stderr
    for name in COMMANDS:
        assert f"\n    {name} " in general.stdout
        result = command("deepdream", name, "--help")
        assert result.returncode == 0 and not result.stderr
        assert f"deepdream {name}" in result.stdout and len(result.stdout.splitlines()) > 5
    dream = " ".join(command("deepdream", "dream", "--help").stdout.split())
    for option, default in {"--iter-n": "10", "--octave-n": "4", "--octave-scale": "1.4", "--step-size": "1.5",
                            "--jitter": "32", "--device": "auto", "--model": "mini_imagenet"}.items():
        assert option in dream and f"(default: {default})" in dream
    assert all(option in dream for option in ("--no-clip", "--guide", "--seed", "--end", "--output"))
    converter = command("convert", "--help")
    assert converter.returncode == 0 and "--end" in converter.stdout and "--list" in converter.stdout
    assert command("deepdream", "--version").stdout == f"deepdream {__version__}\n"


def test_a_pipe_that_closes(toy):
    result = children.shell('"$0" -m deepdream layers --model "$1" | head -n 1', toy)
    assert result.stdout.startswith("data") and not result.stderr


# ---- default names of files

def test_two_dreams_at_once_lose_nothing(place, toy, tmp_path):
    dreams = [children.start("-m", "deepdream", "dream", place / "cat.png", "--model", toy, *TINY, "--seed", seed,
                             cwd=tmp_path) for seed in (1, 2)]
    results = [children.ended(dream) for dream in dreams]
    assert [result.returncode for result in results] == [0, 0], results
    assert names(tmp_path) == ["dream-2.jpg", "dream.jpg"]
    seeds = {result.stdout.split(":")[0]: int(result.stdout.split("seed ")[1].split()[0]) for result in results}
    assert seeds == {name: settings(tmp_path / name)["seed"] for name in names(tmp_path)}
    assert set(seeds.values()) == {1, 2}


@pytest.mark.parametrize("name, args", [
    ("dream.jpg", ["dream", "CAT"]), ("class.png", ["class", "4"]),
    ("compare.jpg", ["compare", "CAT", "--models", "digits", "TOY", "--end", "data"])])
def test_a_file_of_another_program_is_not_overwritten(place, toy, tmp_path, monkeypatch, capsys, name, args):
    from deepdream.cli import main
    from deepdream.cli.progress import Progress
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(Progress, "step", lambda *_: (tmp_path / name).write_bytes(b"another program's"))
    model = ["--model", "digits"] if args[0] != "compare" else []
    args = [{"CAT": str(place / "cat.png"), "TOY": str(toy)}.get(arg, arg) for arg in args]
    assert main([*args, *model, "--iter-n", "1", "--octave-n", "1", "--device", "cpu"]
                + ["--end", "ip", "--size", "8x8", "--stretch"] * (args[0] == "dream")) == 0
    other = name.replace(".", "-2.")
    assert names(tmp_path) == [other, name] and (tmp_path / name).read_bytes() == b"another program's"
    assert capsys.readouterr().out.startswith(f"{other}: ") and settings(tmp_path / other)["seed"] >= 0
