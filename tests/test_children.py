"""tests/children.py: no child process is waited for without a limit, and Ctrl-C reaches all of them."""
import signal
import subprocess
from pathlib import Path

import children
import pytest

FOLDER = Path(__file__).resolve().parent

INNER = """
import signal, sys
sys.path.insert(0, sys.argv[1])
signal.signal(signal.SIGINT, signal.SIG_IGN)      # as nohup leaves it
import children
child = children.start("-c", "print('ready', flush=True); import time; time.sleep(100)")
assert children.first_line(child) == "ready\\n"
child.send_signal(signal.SIGINT)
print("KeyboardInterrupt" in children.ended(child).stderr)
"""


def test_ctrl_c_reaches_the_children_of_a_process_that_ignores_it():
    result = children.run("-c", INNER, FOLDER)
    assert result.stdout == "True\n", result


def test_a_child_that_hangs_is_killed(monkeypatch):
    monkeypatch.setattr(children, "LIMIT", 0.5)
    silent = children.start("-c", "import time; time.sleep(100)")
    assert children.first_line(silent) == "" and silent.wait(10) == -signal.SIGKILL
    silent.stdout.close(), silent.stderr.close()
    with pytest.raises(subprocess.TimeoutExpired):
        children.run("-c", "import time; time.sleep(100)")


def test_all_tests_start_processes_through_children():
    others = [path.name for path in FOLDER.glob("test_*.py") if path != Path(__file__).resolve()
              and any(call in path.read_text() for call in ("subprocess.run(", "subprocess.Popen(", "os.system("))]
    assert not others
