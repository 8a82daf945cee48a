"""The package as people install it: a wheel in an environment of its own, used from another folder."""
import os
import sys
import zipfile
from pathlib import Path

import children
import pytest

from deepdream import __version__

ROOT = children.ROOT
pytestmark = pytest.mark.slow


def pip(*args):
    """Run pip, and fail with what it printed."""
    result = children.run("-m", "pip", "--disable-pip-version-check", *args)
    assert result.returncode == 0, result.stdout + result.stderr


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    """Build the wheel from a copy of the tracked files, so that no build folder is left in the checkout."""
    pytest.importorskip("setuptools", reason="needs setuptools to build a wheel")
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("deepdream", "convert", "models", "pyproject.toml", "requirements.txt", "README.md", "LICENSE"):
        os.symlink(ROOT / name, source / name)
    pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", out, source)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="module")
def installed(wheel, tmp_path_factory):
    """The `bin` folder of a new environment that holds the wheel. The packages it depends on are those of this one."""
    place = tmp_path_factory.mktemp("venv")
    made = children.run("-m", "venv", "--without-pip", place)
    assert made.returncode == 0, made.stderr
    programs = place / ("Scripts" if sys.platform == "win32" else "bin")
    pip("--python", programs / "python", "install", "--no-deps", "--no-index", wheel)
    folder = "import site; print(site.getsitepackages()[0])"
    here, there = children.run("-c", folder), children.program(programs / "python", "-c", folder)
    Path(there.stdout.strip(), "dependencies.pth").write_text(here.stdout)
    return programs


def ran(installed, place, *words):
    """What a program of that environment did, started in the folder `place`."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    return children.program(installed / words[0], *words[1:], cwd=place, env=env)


def test_nothing_general_is_installed(wheel):
    """`convert` and `models` are parts of the package there, with the small nets and without the tests."""
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0].partition("-")[0] for name in names} == {"deepdream"}
    for wanted in ("convert/caffe/layers.py", "convert/fast/forms.py", "models/mini_places/mini_places.caffemodel",
                   "models/mini_imagenet/card.toml", "models/digits/labels.txt", "batch/templates/gallery.html",
                   "web/page/page.html", "web/page/style.css", "web/page/js/worker.js"):
        assert f"deepdream/{wanted}" in names
    packages = {name.rpartition("/")[0] for name in names if name.endswith("/__init__.py")}
    here = {f"deepdream/{path.parent.relative_to(ROOT)}" if path.parts[len(ROOT.parts)] != "deepdream"
            else str(path.parent.relative_to(ROOT))
            for folder in ("deepdream", "convert", "models") for path in (ROOT / folder).rglob("__init__.py")}
    assert packages == here


def test_the_command_dreams_from_another_folder(installed, tmp_path):
    result = ran(installed, tmp_path, "deepdream", "dream", "-o", "sky.png", "--size", "96x64", "--octave-n", 1,
                 "--iter-n", 1, "--device", "cpu")
    assert result.returncode == 0 and (tmp_path / "sky.png").is_file(), result.stderr
    result = ran(installed, tmp_path, "deepdream", "--version")
    assert result.stdout == f"deepdream {__version__}\n"


def test_the_command_converts(installed, tmp_path):
    files = [ROOT / "models" / "digits" / name for name in ("deploy.prototxt", "digits.caffemodel")]
    result = ran(installed, tmp_path, "deepdream", "convert", *files, "-o", "digits.onnx")
    assert result.returncode == 0 and (tmp_path / "digits.onnx").is_file(), result.stderr
    result = ran(installed, tmp_path, "deepdream", "convert", "no.prototxt", "no.caffemodel", "-o", "no.onnx")
    assert result.returncode == 2 and result.stderr.count("\n") == 1
    assert result.stderr.startswith("deepdream convert: no.prototxt: ")


def test_names_of_the_package(installed, tmp_path):
    code = ("import deepdream, sys; from deepdream import convert, models; import deepdream.convert.fast.forms;"
            "assert 'venv' in deepdream.__file__ and 'venv' in convert.__file__ and 'venv' in models.__file__;"
            "import importlib.util; print(importlib.util.find_spec('convert'), len(models.names()) > 3)")
    result = ran(installed, tmp_path, "python", "-c", code)
    assert result.stdout == "None True\n", result.stderr
