"""`deepdream info`: it works without a GPU, finds GPUs through the driver, and says what to install."""
import ctypes
import json

import children
import pytest

from deepdream import __version__
from deepdream.cli import main
from deepdream.cli.commands import info
from deepdream.runtime import inventory


def test_info_without_a_gpu(cache):
    result = children.run("-m", "deepdream", "info", env=children.environment(CUDA_VISIBLE_DEVICES=""))
    assert result.returncode == 0 and not result.stderr
    rows = dict(line.split(maxsplit=1) for line in result.stdout.splitlines())
    assert rows["deepdream"].startswith(f"{__version__}, Python 3.") and "providers" in rows["onnxruntime"]
    assert "numpy 2" in rows["packages"] and "onnx 1" in rows["packages"] and "threads" in rows["cpu"]
    assert str(cache) in rows["cache"] and "mini_imagenet" in result.stdout
    assert "cpu, because CUDA is not available: " in result.stdout and "\nfor CUDA " in result.stdout


def test_info_as_json(monkeypatch, capsys, cache):
    (cache / "some.file").write_bytes(b"x" * 5000)
    assert main(["info", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    (cache / "some.file").unlink()
    assert facts["version"] == __version__ and facts["models"]["mini_places"] == "shipped" and not facts["problems"]
    assert facts["cache"]["bytes"] >= 5000 and facts["cache"]["folder"] == str(cache) and facts["cpu"]["threads"] >= 1
    assert facts["free_memory"] > 1e6 and set(facts["optional"]) == {"av", "distributed", "ipython"}
    assert facts["onnxruntime"]["providers"][-1] == "CPUExecutionProvider"


def test_info_imports_nothing_slow():
    """A second has no room for scipy, onnx or a net; onnxruntime is needed for the list of its providers."""
    code = ("import sys; from deepdream.cli import main; assert main(['info']) == 0; "
            "print([m for m in ('scipy', 'onnx', 'tqdm', 'jinja2', 'PIL.Image') if m in sys.modules])")
    result = children.run("-c", code, env=children.environment(CUDA_VISIBLE_DEVICES=""))
    assert result.stdout.splitlines()[-1] == "[]", result


@pytest.mark.parametrize("variable, value", [("DEEPDREAM_MEMORY_GB", "much"), ("DEEPDREAM_CACHE", "~no-such-user/x")])
def test_a_variable_that_is_set_wrongly_is_reported(monkeypatch, capsys, variable, value):
    monkeypatch.setenv(variable, value)
    assert main(["info"]) == 0
    problem, = (line for line in capsys.readouterr().out.splitlines() if line.startswith("problem"))
    assert variable in problem


def test_a_broken_onnxruntime_is_reported(monkeypatch, capsys):
    monkeypatch.setattr(inventory, "onnxruntime", lambda: (_ for _ in ()).throw(ImportError("no\nmodule")))
    assert main(["info"]) == 0
    text = capsys.readouterr().out
    assert "onnxruntime cannot be imported" in text and "no module" in text


class Driver:
    """A CUDA driver with two GPUs, of which the second tells nothing."""

    def cuInit(self, flags):
        return 0

    def cuDeviceGetCount(self, count):
        count._obj.value = 2
        return 0

    def cuDeviceGet(self, place, index):
        place._obj.value = index
        return 0

    def cuDeviceGetName(self, name, length, place):
        name.value = b"Tesla \xff9000"
        return place.value

    def cuDeviceTotalMem_v2(self, total, place):
        total._obj.value = 80 * 10 ** 9
        return place.value


def test_gpus(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    monkeypatch.setattr(inventory, "free_gpu_memory", lambda index: 3 * 10 ** 9)
    gpus = inventory.gpus()
    assert gpus == [{"name": "Tesla \ufffd9000", "memory": 80 * 10 ** 9, "free": 3 * 10 ** 9},
                    {"name": None, "memory": None, "free": 3 * 10 ** 9}]
    facts = {**inventory.inventory(), "gpus": gpus, "device": "cuda:0", "cuda_problem": None, "advice": None}
    text = "\n".join(info.lines(facts))
    assert "cuda:0" in text and "80.0 GB, 3.0 GB free" in text and "unknown, unknown, 3.0 GB free" in text


def test_without_a_driver_there_are_no_gpus(monkeypatch):
    def missing(name):
        raise OSError(name)
    monkeypatch.setattr(ctypes, "CDLL", missing)
    assert inventory.gpus() == []


@pytest.mark.parametrize("problem, runtimes, parts", [
    (None, {"onnxruntime-gpu": "1"}, None),
    ("no CUDA driver on this machine", {"onnxruntime": "1"}, ["driver, then pip install"]),
    ("no CUDA device on this machine", {}, ["nvidia-smi"]),
    ("this onnxruntime is built without CUDA; install onnxruntime-gpu", {"onnxruntime": "1"},
     ["pip uninstall -y onnxruntime && pip install \"onnxruntime-gpu[cuda,cudnn]\""]),
    ("this onnxruntime is built without CUDA; install onnxruntime-gpu", {"onnxruntime": "1", "onnxruntime-gpu": "1"},
     ["pip uninstall -y onnxruntime && pip install --force-reinstall"]),
    ("CUDA libraries missing", {"onnxruntime-gpu": "1"}, ["pip install \"onnxruntime-gpu[cuda,cudnn]\""])])
def test_advice(problem, runtimes, parts):
    text = inventory.advice(problem, runtimes)
    assert text is None if parts is None else all(part in text for part in parts)


def test_the_extras_are_those_of_pyproject():
    import tomllib
    project = tomllib.loads((children.ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    extras = project["optional-dependencies"]
    assert set(extras) == {"cuda", "video", "cluster"}
    for package, extra, _ in inventory.OPTIONAL.values():
        assert extra is None or extras[extra][0].startswith(package)
    assert extras["cuda"][0].split(">=")[0] in inventory.INSTALL_CUDA


def test_sizes_in_words():
    assert [info.size(n) for n in (None, 0, 999, 2500, 3.2e6, 8e9)] == \
        ["unknown", "0 bytes", "999 bytes", "2.5 KB", "3.2 MB", "8.0 GB"]
