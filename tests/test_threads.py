"""The number of threads: saved in every picture, used again by --settings, ignored when resuming.

Also nets that are used by several threads at the same time.
"""
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import children
import numpy as np
import pytest
import toys
from PIL import Image

from deepdream import Net, deepdream, pictures, settings
from deepdream.cli import main
from deepdream.enhance import enhance
from deepdream.runtime import cores as module
from deepdream.runtime.cores import cores

TINY = ["--iter-n", "1", "--octave-n", "1", "--device", "cpu"]
COUNT = """
import os
import onnxruntime
from onnx import TensorProto, helper
x, y = (helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy")
model = helper.make_model(helper.make_graph([helper.make_node("Relu", ["x"], ["y"])], "relu", [x], [y]),
                          opset_imports=[helper.make_opsetid("", 17)], ir_version=9).SerializeToString()
before = len(os.listdir("/proc/self/task"))
session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
print(1 + len(os.listdir("/proc/self/task")) - before)
"""


@pytest.fixture
def cat(tmp_path):
    path = tmp_path / "cat.png"
    Image.fromarray(np.uint8(np.abs(toys.noise(40, 44, 3)) * 60)).save(path)
    return str(path)


# ---- the default

@pytest.mark.skipif(sys.platform != "linux" or cores() is None, reason="needs Linux's lists of cores and of threads")
def test_onnxruntime_uses_one_thread_per_core():
    assert int(children.run("-c", COUNT).stdout) == cores()


def test_cores_of_linux(tmp_path):
    for i, siblings in enumerate(("0,4", "1,5", "2", "3", "0,4", "1,5")):
        (tmp_path / f"cpu{i}" / "topology").mkdir(parents=True)
        (tmp_path / f"cpu{i}" / "topology" / "thread_siblings_list").write_text(f"{siblings}\n")
    assert module.linux_cores(tmp_path) == 4
    assert module.linux_cores(tmp_path / "none") is None


def test_thread_count_of_a_net(toy):
    assert Net(toy, device="cpu").thread_count == cores()
    assert Net(toy, device="cpu", threads=3).thread_count == 3


# ---- in pictures

@pytest.mark.parametrize("args", [["dream", "CAT"], ["class", "4", "--model", "digits"], ["enhance", "CAT"],
                                  ["compare", "CAT", "--models", "TOY", "digits", "--end", "data"]])
def test_every_picture_holds_the_number_of_threads(toy, cat, tmp_path, args):
    model = [] if "digits" in args else ["--model", str(toy), "--end", "both"]
    options = TINY[:2] + TINY[4:] if args[0] == "enhance" else TINY
    args = [{"CAT": cat, "TOY": str(toy)}.get(arg, arg) for arg in args]
    for threads, expected in (([], cores()), (["--threads", "3"], 3)):
        assert main([*args, *model, *options, *threads, "-o", str(tmp_path / "out.png")]) == 0
        assert settings(tmp_path / "out.png")["threads"] == expected


def test_settings_use_it_again(toy, cat, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    base = ["dream", cat, "--model", str(toy), "--device", "cpu"]
    assert main([*base, "--end", "both", *TINY, "--threads", "3", "-o", "1.png"]) == 0
    monkeypatch.setattr(module, "cores", lambda: 2)
    capsys.readouterr()
    assert main([*base, "--settings", "1.png", "-o", "2.png"]) == 0
    warned = [line for line in capsys.readouterr().err.splitlines() if line.startswith("--settings")]
    assert len(warned) == 1 and "3 threads" in warned[0] and "2 cores" in warned[0]
    assert (tmp_path / "1.png").read_bytes() == (tmp_path / "2.png").read_bytes()
    assert main([*base, "--settings", "1.png", "--threads", "1", "-o", "3.png"]) == 0
    assert settings("3.png")["threads"] == 1 and "threads" not in capsys.readouterr().err


def test_settings_of_older_versions_without_it(toy, cat, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    base = ["dream", cat, "--model", str(toy), "--device", "cpu"]
    assert main([*base, "--end", "both", *TINY, "-o", "1.png"]) == 0
    old = {k: v for k, v in settings("1.png").items() if k != "threads"}
    pictures.save(pictures.load("1.png"), "old.png", old)
    assert main([*base, "--settings", "old.png", "-o", "2.png"]) == 0
    assert np.array_equal(pictures.load("1.png"), pictures.load("2.png"))


@pytest.mark.slow
def test_runs_are_resumed_with_any_number_of_threads(toy, cat, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    Image.open(cat).save(tmp_path / "in" / "a.png")
    model = ["--model", str(toy), "--end", "both", *TINY]
    for run in (["dream", str(tmp_path / "in"), "-o", str(tmp_path / "folder"), *model],
                ["zoom", cat, "-o", str(tmp_path / "zoom"), "--frames", "1", *model],
                ["gallery", cat, "-o", str(tmp_path / "gallery"), "--models", str(toy), "--ends", "both", *TINY]):
        assert main([*run, "--threads", "1"]) == 0
        capsys.readouterr()
        assert main([*run, "--threads", "2"]) == 0
        assert " 1 kept" in capsys.readouterr().out
    made = [tmp_path / "folder" / "a.png", tmp_path / "zoom" / "0000.jpg", *(tmp_path / "gallery" / "dreams").iterdir()]
    assert [settings(path)["threads"] for path in made] == [1, 1, 1]


# ---- a net that several threads use

def at_once(*calls):
    """Run calls at the same time, each in a thread, and return their results."""
    together = threading.Barrier(len(calls))

    def run(call):
        together.wait(30)
        return call()
    with ThreadPoolExecutor(len(calls)) as pool:
        return [future.result(60) for future in [pool.submit(run, call) for call in calls]]


def picture_of(size, seed):
    return np.abs(toys.noise(*size, 3, seed=seed)) * 60


SIZES = [(40, 44), (52, 36), (45, 45), (60, 41)]


@pytest.mark.parametrize("options", [{}, {"objective": lambda dst: dst.diff.__setitem__(slice(None), dst.data)}],
                         ids=["graphs", "a function of dst"])
def test_dreams_of_one_net_in_several_threads(toy, options):
    net = Net(toy, device="cpu", threads=1)

    def dream(i, net=net):
        return deepdream(net, picture_of(SIZES[i], i), 3, 2, end="both", jitter=3, rng=np.random.RandomState(i),
                         **options)

    together = at_once(*(lambda i=i: dream(i) for i in range(4)))
    for i, made in enumerate(together):
        np.testing.assert_array_equal(made, dream(i, Net(toy, device="cpu", threads=1)))


def test_passes_of_one_net_in_several_threads(toy):
    net, alone = (Net(toy, device="cpu", threads=1) for _ in range(2))

    def passes(net, i):
        with net.lock:      # so that no other thread changes the blobs in between
            net.blobs["data"].reshape(1, 3, *SIZES[i])
            net.blobs["data"].data[0] = picture_of(SIZES[i], i).transpose(2, 0, 1)
            net.forward(end="both")
            net.blobs["both"].diff[...] = net.blobs["both"].data
            net.backward(start="both")
            return net.blobs["conv1"].data.copy(), net.blobs["data"].diff.copy()

    def again_and_again(function):
        return lambda: [function() for _ in range(10)]

    wanted = [passes(alone, 0), passes(alone, 1)]
    features = alone.features(picture_of(SIZES[2], 2), "pool2")
    enhanced = enhance(alone, picture_of(SIZES[3], 3), "both", iter_n=2).picture
    found = at_once(again_and_again(lambda: passes(net, 0)), again_and_again(lambda: passes(net, 1)),
                    again_and_again(lambda: net.features(picture_of(SIZES[2], 2), "pool2")),
                    lambda: [enhance(net, picture_of(SIZES[3], 3), "both", iter_n=2).picture])
    for results, expected in zip(found, [*wanted, features, enhanced]):
        for result in results:
            for one, other in zip(result, expected):
                np.testing.assert_array_equal(one, other)


def test_a_blob_that_several_threads_read(toy):
    """Its values are computed when they are first read, and only once."""
    net = Net(toy, device="cpu", threads=1)
    net.blobs["data"].reshape(1, 3, 40, 44)
    net.blobs["data"].data[...] = 7
    net.forward(end="pool2")
    seen = at_once(*[lambda: net.blobs["conv1"].data] * 6)
    assert all(data is seen[0] for data in seen) and seen[0].shape[1] == 8
