"""Start child processes in tests: Python on this project, with a time limit.

Ctrl-C reaches these processes even if the tests run with SIGINT ignored (as `nohup` and a shell's `&` leave it), which
child processes would otherwise inherit.
"""
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120      # seconds that a process may take; most take a few


def environment(**variables):
    """Return the environment for a child process, in which this project can be imported from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **variables}


def start(*args, **options):
    """Start Python with these arguments, its output in pipes. options: of Popen."""
    return _start([sys.executable, *map(str, args)], **options)


def _start(command, **options):
    unignore = {"preexec_fn": _unignore_ctrl_c} if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else {}
    defaults = {"env": environment(), "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{**defaults, **unignore, **options})


def _unignore_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process):
    """Wait for a process, for LIMIT seconds at most. Returns a CompletedProcess."""
    try:
        output = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, *output)


def run(*args, **options):
    """Start Python and wait until it has `ended`."""
    return ended(start(*args, **options))


def program(*command, **options):
    """Run another program than this Python and wait until it has `ended`."""
    return ended(_start([*map(str, command)], **options))


def shell(line, *args, **options):
    """Run a line of shell script and wait until it has `ended`. In it, $0 is this Python, and $1 ... are the args."""
    return ended(_start(["sh", "-c", line, sys.executable, *map(str, args)], **options))


def first_line(process):
    """Read the first line that a process prints, or less if it ends or prints no line within LIMIT."""
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        return process.stdout.readline()
    finally:
        killer.cancel()
