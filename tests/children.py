"""Processes that tests start: Python, on this project, with a time limit. Ctrl-C reaches them also where the tests run
with SIGINT ignored, as `nohup` and a shell's `&` leave it, and as their own children would inherit it."""
import os
import signal
import subprocess
import sys
import threading
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
LIMIT = 120      # seconds: of what takes a few


def environment(**more):
    """The environment of a child: this project is found from any folder."""
    return {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **more}


def start(*args, **options):
    """Start Python with these arguments, and with pipes for what it says. options: of Popen."""
    return _start([sys.executable, *map(str, args)], **options)


def _start(command, **options):
    hears = {"preexec_fn": _hear_ctrl_c} if signal.getsignal(signal.SIGINT) == signal.SIG_IGN else {}
    usual = {"env": environment(), "text": True, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(command, **{**usual, **hears, **options})


def _hear_ctrl_c():
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def ended(process):
    """Wait for a process, up to LIMIT; what became of it, as a CompletedProcess."""
    try:
        told = process.communicate(timeout=LIMIT)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()
        raise
    return subprocess.CompletedProcess(process.args, process.returncode, *told)


def run(*args, **options):
    """`start` a process and wait until it has `ended`."""
    return ended(start(*args, **options))


def program(*command, **options):
    """Run another program than this Python and wait until it has `ended`."""
    return ended(_start([*map(str, command)], **options))


def shell(line, *args, **options):
    """Run a line of the shell and wait until it has `ended`. In it, $0 is this Python, $1 ... are the arguments."""
    return ended(_start(["sh", "-c", line, sys.executable, *map(str, args)], **options))


def first_line(process):
    """What a process says first; what of it there is, where it ends or says nothing within LIMIT."""
    killer = threading.Timer(LIMIT, process.kill)
    killer.start()
    try:
        return process.stdout.readline()
    finally:
        killer.cancel()
