"""What several test files need: a cache of their own, data that the project does not carry, a GoogLeNet by formula."""
import os
from pathlib import Path

import pytest
import toys

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """No test touches the user's cache; the graphs that one test has built serve the others."""
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
    """The folder with the real nets and with what Caffe computed on them: $DEEPDREAM_SHARED, or ../shared."""
    folder = Path(os.environ.get("DEEPDREAM_SHARED") or ROOT.parent / "shared")
    if not (folder / "oracle").is_dir() or not (folder / "models").is_dir():
        pytest.skip(f"needs the folder of real nets and Caffe's answers: no oracle/ and models/ in {folder} "
                    "(set DEEPDREAM_SHARED)")
    return folder


@pytest.fixture(scope="session")
def googlenet(tmp_path_factory):
    """A folder with a GoogLeNet whose weights are made by formula."""
    return toys.write_net(tmp_path_factory.mktemp("nets") / "googlenet", toys.googlenet(), toys.formula)


@pytest.fixture(scope="session")
def toy(tmp_path_factory):
    """A folder with a net of a few kilobytes: four ends, a pooling and a branch."""
    return toys.write_net(tmp_path_factory.mktemp("nets") / "toy", toys.TOY, toys.formula)
