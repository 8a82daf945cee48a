"""onnxruntime's telemetry is switched off: no device id or database is left in the user's folders."""
import children
import pytest

VARIABLE = "ORT_DISABLE_TELEMETRY"
DREAM = ["-m", "deepdream", "dream", "--size", "40x36", "--iter-n", "1", "--octave-n", "1", "--end", "both", "--device",
         "cpu", "--model"]
IN_A_WORKER = """
from deepdream.batch import jobs
if __name__ == "__main__":
    with jobs.Processes(1) as workers:
        workers.pool.submit(exec, "import onnxruntime").result(60)
"""


def left_by(folder, *args):
    """Run Python for a user with an empty home folder, without the variable. Lists the files there afterwards."""
    home = folder / "home"
    home.mkdir()
    env = children.environment(HOME=str(home), XDG_CACHE_HOME=str(home / "cache"), USERPROFILE=str(home),
                               LOCALAPPDATA=str(home / "local"))
    env.pop(VARIABLE, None)
    result = children.run(*args, env=env, cwd=folder)
    assert result.returncode == 0, result
    return [str(path.relative_to(home)) for path in home.rglob("*")]


@pytest.fixture(scope="module", autouse=True)
def otherwise(tmp_path_factory):
    """Skip these tests if onnxruntime leaves no files even with telemetry on."""
    if not left_by(tmp_path_factory.mktemp("otherwise"), "-c", "import onnxruntime"):
        pytest.skip("this onnxruntime leaves nothing in a user's folders")


def test_after_a_dream(toy, tmp_path):
    assert left_by(tmp_path, *DREAM, toy) == []


def test_after_a_worker(tmp_path):
    (tmp_path / "worker.py").write_text(IN_A_WORKER)
    assert left_by(tmp_path, "worker.py") == []


def test_a_value_that_the_user_has_set_stays():
    env = children.environment(**{VARIABLE: "0"})
    assert children.run("-c", f"import os, deepdream; print(os.environ['{VARIABLE}'])", env=env).stdout == "0\n"
