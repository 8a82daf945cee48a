"""Fixtures for all tests: a cache in a temporary folder, the folder of real nets, small nets with made-up weights."""
import os
import shutil
import subprocess
import tarfile
from pathlib import Path

import pytest

pytest.register_assert_rewrite("toys", "onnx_toys", "caffe_answers")      # their failed asserts show values, too

import toys  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent


@pytest.hookimpl(tryfirst=True)      # before pytest applies -m
def pytest_collection_modifyitems(items):
    """Mark the tests that use the fixture `shared`."""
    for item in items:
        if "shared" in getattr(item, "fixturenames", ()):
            item.add_marker("shared")


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """Use a temporary cache for all tests: none touches the user's, and they share the graphs that they build."""
    folder = tmp_path_factory.mktemp("cache")
    before = os.environ.get("DEEPDREAM_CACHE")
    os.environ["DEEPDREAM_CACHE"] = str(folder)
    yield folder
    if before is None:
        del os.environ["DEEPDREAM_CACHE"]
    else:
        os.environ["DEEPDREAM_CACHE"] = before


@pytest.fixture(scope="session")
def shared():
    """Return the folder of real nets and of Caffe's answers for them: $DEEPDREAM_SHARED, or ../shared."""
    folder = Path(os.environ.get("DEEPDREAM_SHARED") or ROOT.parent / "shared")
    if not (folder / "oracle").is_dir() or not (folder / "models").is_dir():
        pytest.skip(f"needs the folder of real nets and Caffe's answers: no oracle/ and models/ in {folder} "
                    "(set DEEPDREAM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def googlenet(tmp_path_factory):
    """Return a folder with a GoogLeNet whose weights come from `toys.formula`."""
    return toys.write_net(tmp_path_factory.mktemp("nets") / "googlenet", toys.googlenet(), toys.formula)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """Return a folder with the net `toys.TOY`: a few kilobytes, with two branches and two poolings."""
    return toys.write_net(tmp_path_factory.mktemp("nets") / "toy", toys.TOY, toys.formula)


@pytest.fixture(scope="session")
def web_runtime(tmp_path_factory):
    """Return a folder with onnxruntime-web: $DEEPDREAM_WEB_RUNTIME, by npm, or downloaded as users do."""
    from deepdream.web.runtime import VERSION, runtime_files
    if folder := os.environ.get("DEEPDREAM_WEB_RUNTIME"):
        return Path(folder)
    folder = tmp_path_factory.mktemp("runtime")
    if shutil.which("npm"):
        made = subprocess.run(["npm", "pack", "--silent", "--fetch-retries=0", f"onnxruntime-web@{VERSION}"],
                              cwd=folder, capture_output=True, timeout=200)
        if made.returncode == 0:
            with tarfile.open(next(folder.glob("*.tgz"))) as archive:
                archive.extractall(folder, filter="data")
            return folder
    from deepdream.errors import DreamError
    try:
        return runtime_files(progress=False)[0].parent
    except DreamError as error:
        pytest.skip(f"needs onnxruntime-web {VERSION} ({error})")
