"""What Windows and macOS lack is not needed: the guards, and whole commands without anything that only POSIX has."""
import builtins
import ctypes
import os
import sys
from types import SimpleNamespace

import children
import numpy as np
import pytest

from deepdream import save
from deepdream.batch import jobs
from deepdream.convert import files
from deepdream.models import locks
from deepdream.runtime import cores, device, free_memory

POSIX_ONLY = ["fork", "forkpty", "killpg", "getpgid", "setsid", "sysconf", "getuid", "geteuid", "getgid", "getegid",
              "chown", "lchown", "fchown", "fchmod", "mkfifo", "mknod", "nice", "sched_getaffinity", "getloadavg",
              "statvfs", "getpriority", "posix_spawn", "wait", "O_NOFOLLOW", "O_DIRECTORY", "O_CLOEXEC", "uname"]
SIGNALS = ["SIGKILL", "SIGHUP", "SIGQUIT", "SIGUSR1", "SIGALRM", "SIGCHLD", "alarm", "setitimer", "pthread_kill"]
MODULES = ["fcntl", "resource", "pwd", "grp", "termios", "tty", "pty", "syslog"]

# Everything of the standard library and of other packages is imported first, since they may use what they find. Then
# nothing is left of POSIX, and a msvcrt is there, as on Windows.
WITHOUT_POSIX = f"""
import os, sys, signal, types
import argparse, json, multiprocessing, platform, shutil, subprocess, tempfile, threading, uuid
import concurrent.futures, concurrent.futures.process, importlib.metadata
import numpy, scipy.ndimage, scipy.optimize, onnx, onnx.utils, onnx.reference, jinja2, tqdm, requests, platformdirs
import PIL.Image, PIL.ImageOps, PIL.ImageDraw, PIL.ImageFont
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
import onnxruntime
for module, names in ((os, {POSIX_ONLY}), (signal, {SIGNALS})):
    for name in names:
        if hasattr(module, name):
            delattr(module, name)
for name in {MODULES}:
    sys.modules[name] = None
msvcrt = types.ModuleType("msvcrt")
msvcrt.LK_LOCK, msvcrt.LK_NBLCK = 1, 2
msvcrt.locking = lambda handle, mode, count: None
sys.modules["msvcrt"] = msvcrt
from deepdream.cli import main
sys.exit(main(sys.argv[1:]))
"""


@pytest.fixture
def picture(tmp_path):
    save(np.random.RandomState(0).randint(0, 256, (40, 48, 3)), tmp_path / "cat.png")
    return tmp_path / "cat.png"


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows itself is the test")
def test_commands_without_posix(picture, toy, tmp_path):
    tiny = ["--iter-n", "1", "--octave-n", "1", "--device", "cpu", "--threads", "1"]
    for i, words in enumerate((
            ["dream", picture, "-o", tmp_path / "out.jpg", "--model", toy, "--end", "both", *tiny],
            ["dream", picture, "-o", tmp_path / "out.jpg", "--model", toy, "--end", "both", *tiny],      # over the old
            ["gallery", picture, "-o", tmp_path / "page", "--models", toy, "--ends", "both", *tiny],
            ["zoom", picture, "-o", tmp_path / "frames", "--frames", "2", "--model", toy, "--end", "both", *tiny],
            ["info"], ["models"], ["layers", "--model", toy])):
        result = children.run("-c", WITHOUT_POSIX, *words, cwd=tmp_path)
        assert result.returncode == 0, (i, words, result)
    assert (tmp_path / "out.jpg").is_file() and (tmp_path / "page/index.html").is_file()
    assert not list(tmp_path.rglob("*.part"))


def test_files_are_written_without_owners_and_hard_links(tmp_path, monkeypatch):
    for name in ("geteuid", "chown", "link"):
        monkeypatch.delattr(os, name, raising=False)
    files.check_target(tmp_path / "a")
    files.write(tmp_path / "a", b"1")
    files.write(tmp_path / "a", b"2")
    assert (tmp_path / "a").read_bytes() == b"2"
    assert [files.write_new(tmp_path / "a", b"3").name for _ in range(2)] == ["a-2", "a-3"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a", "a-2", "a-3"]


def test_a_file_system_without_fsync(tmp_path, monkeypatch):
    def unsupported(handle):
        raise OSError(22, "not supported")
    monkeypatch.setattr(os, "fsync", unsupported)
    files.write(tmp_path / "a", b"1")
    assert (tmp_path / "a").read_bytes() == b"1"


def test_locks_on_windows(tmp_path, monkeypatch):
    asked = []

    def locking(handle, mode, count):
        asked.append((mode, count))
        if len(asked) > 1:
            raise OSError("locked by another process")
    monkeypatch.setitem(sys.modules, "fcntl", None)
    monkeypatch.setitem(sys.modules, "msvcrt", SimpleNamespace(LK_LOCK=1, LK_NBLCK=2, locking=locking))
    with open(tmp_path / "lock", "a") as handle:
        assert locks.locked(handle, wait=True) and not locks.locked(handle, wait=False)
    assert asked == [(1, 1), (2, 1)]


def no_proc(path, *args, **options):
    if str(path).startswith("/proc"):
        raise FileNotFoundError(path)
    return builtins_open(path, *args, **options)


builtins_open = open


def test_memory_on_windows(monkeypatch):
    class Kernel:
        @staticmethod
        def GlobalMemoryStatusEx(status):
            status._obj.free = 7 * 10 ** 9
            return 1
    monkeypatch.setattr(builtins, "open", no_proc)
    monkeypatch.setattr(sys, "platform", "win32")
    monkeypatch.setattr(ctypes, "windll", SimpleNamespace(kernel32=Kernel), raising=False)
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(free_memory, "cgroup_memory", lambda: [])
    monkeypatch.setattr(free_memory.Path, "read_text", lambda path: no_proc(path))
    monkeypatch.delenv("DEEPDREAM_MEMORY_GB", raising=False)
    assert free_memory.free_memory(device.Device("cpu")) == 7 * 10 ** 9
    assert free_memory.process_memory() == 0


def test_memory_is_unknown_without_proc_and_sysconf(monkeypatch):
    monkeypatch.setattr(builtins, "open", no_proc)
    monkeypatch.setattr(sys, "platform", "darwin")
    monkeypatch.delattr(os, "sysconf", raising=False)
    monkeypatch.setattr(free_memory, "cgroup_memory", lambda: [])
    monkeypatch.delenv("DEEPDREAM_MEMORY_GB", raising=False)
    assert free_memory.free_memory(device.Device("cpu")) is None      # then no dream is rejected for its memory


@pytest.mark.parametrize("platform, name", [("win32", "nvcuda.dll"), ("linux", "libcuda.so.1")])
def test_the_name_of_the_driver(monkeypatch, platform, name):
    monkeypatch.setattr(sys, "platform", platform)
    assert device.driver() == name


def test_cores_on_other_systems(monkeypatch):
    class Darwin:
        @staticmethod
        def sysctlbyname(name, value, size, new, length):
            value._obj.value = 6
            return 0
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Darwin)
    for platform, count in (("darwin", 6), ("win32", None)):
        monkeypatch.setattr(sys, "platform", platform)
        assert cores.cores.__wrapped__() == count


def test_cores_for_processes_without_affinity(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 6)
    assert jobs.threads_each(None, 2) == 3


def test_no_module_of_posix_is_imported_at_the_top():
    """Only functions may import them, where they expect an ImportError."""
    import ast
    for folder in ("deepdream", "convert", "models"):
        for path in sorted((children.ROOT / folder).rglob("*.py")):
            for node in ast.parse(path.read_text(encoding="utf-8")).body:
                names = [a.name for a in node.names] if isinstance(node, ast.Import) else \
                    [node.module] if isinstance(node, ast.ImportFrom) else []
                assert not set(names) & set(MODULES), path
