"""Run command lines in a supervised process, and measure the outcome, the time and the memory of each.

One process runs many command lines, since a dream takes milliseconds and a start of Python a second. If a command line
takes too long or crashes the process, the process is killed and started again, and the crash is reported.
"""
import contextlib
import faulthandler
import io
import json
import os
import re
import resource
import select
import signal
import subprocess
import sys
import time
import traceback
import unicodedata
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
MODULES = {"deepdream": "deepdream.cli", "convert": "convert.__main__"}
SECONDS = 10            # of processor time that one command line may take
IDLE_SECONDS = 10       # without using the processor, after which a command line counts as hanging
BYTES = 2 << 30         # of memory that one command line may use
ADDRESSES = 6 << 30     # bytes of address space of the process, to protect the machine
LONGEST = 600           # characters of the one line that says what is wrong
RESTART_AFTER = 2000    # command lines
CACHE_FILES = 300       # above this number the cache of the process is emptied


@dataclass
class Outcome:
    """The outcome of a command line.

    code: the exit code; None if the process had to be killed or died.
    trace: the traceback of an exception that was not caught, with the exception's type as its first line.
    where: the innermost line of this project in that traceback.
    seconds: processor time used.
    peak: memory used, in bytes.
    """
    code: int | None
    stderr: str = ""
    trace: str = ""
    where: str = ""
    seconds: float = 0.0
    peak: int = 0

    def wrong(self):
        """Return (a few words, which are the same for the same mistake; details), or None if nothing is wrong."""
        if self.trace:
            return f"{self.trace.splitlines()[0]} at {self.where}", self.trace
        if self.code not in (0, 2):
            return f"exit code {self.code}", self.stderr
        if "Traceback" in self.stderr:
            return "a traceback on stderr", self.stderr
        if self.seconds > SECONDS:
            return f"{self.code}, but after more than {SECONDS} seconds", f"{self.seconds:.1f} s: {self.stderr}"
        if self.peak > BYTES or "not enough memory" in self.stderr:
            return f"{self.code}, but with more than {BYTES >> 30} GB", f"{self.peak / 1e9:.1f} GB: {self.stderr}"
        if self.code == 2:
            return _wrong_line(self.stderr)
        return None


def _wrong_line(stderr):
    """Return what is wrong with the last line on stderr, as `Outcome.wrong`."""
    last = stderr.removesuffix("\n").rpartition("\n")[2]
    last = re.sub(r"\\(x..|u.{4}|U.{8})", "?", last)      # a character that the terminal cannot show
    kind = re.sub(r"\W+", " ", re.sub(r"'.*?'|\S*\d\S*", "", last)).strip()[:40]
    if not re.match(r"(deepdream|convert)( \w+)?: .", last):
        return f"exit code 2 without one line that says why ({kind})", stderr
    if len(last) >= LONGEST:
        return f"a line of over {LONGEST} characters ({kind})", last
    if any(unicodedata.category(c) in ("Cc", "Cs", "Zl", "Zp") for c in last):
        return f"a line with control characters ({kind})", repr(last)
    return None


class Runner:
    """The supervised process. folder: for its cache, its output and the traces of its crashes."""

    def __init__(self, folder):
        self.folder, self.process, self.done = Path(folder), None, 0
        self.folder.mkdir(parents=True, exist_ok=True)

    def run(self, program, words, place, ascii_only=False):
        """Run a command line and return its Outcome.

        program: "deepdream" or "convert".
        words: its arguments.
        place: the working directory.
        ascii_only: as on a terminal that can show ASCII only.
        """
        if self.process is None or self.done >= RESTART_AFTER:
            self._start()
        self.done += 1
        order = {"program": program, "words": words, "place": str(place), "ascii": ascii_only}
        start = last_active = time.monotonic()
        used_before = used = self._used()
        try:
            self.process.stdin.write(json.dumps(order).encode() + b"\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            return self._died()
        while not select.select([self.process.stdout], [], [], 0.5)[0]:
            now, before, used = time.monotonic(), used, self._used()
            last_active = now if used > before else last_active
            if used - used_before > SECONDS + 2 or now - last_active > IDLE_SECONDS:
                return self._stuck(now - start)
        line = self.process.stdout.readline()
        if not line:
            return self._died()
        return Outcome(**json.loads(line))

    def _start(self):
        self.close()
        env = {k: v for k, v in os.environ.items() if not k.lower().endswith("_proxy")}
        env |= {"PYTHONPATH": str(ROOT), "DEEPDREAM_CACHE": str(self.folder / "cache"), "OMP_NUM_THREADS": "1",
                "DEEPDREAM_MEMORY_GB": "1.5",
                **dict.fromkeys(("http_proxy", "https_proxy"), "http://127.0.0.1:9")}     # nothing is fetched
        self.process = subprocess.Popen([sys.executable, __file__, str(self.folder)], stdin=subprocess.PIPE,
                                        stdout=subprocess.PIPE, env=env, start_new_session=True)
        self.done = 0

    def _used(self):
        """Return the processor time that the process has used, in seconds."""
        try:
            fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
            return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
        except (OSError, IndexError):
            return 0.0

    def _stuck(self, seconds):
        """Let the process write where it is (faulthandler does, on SIGUSR1), and kill it."""
        trace = self._trace()
        self.process.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
        summary, where = f"stuck, killed after {seconds:.0f} s", self._where(trace)
        self.close()
        return Outcome(None, trace=f"stuck\n{summary}\n{trace.read_text(errors='replace')}", where=where,
                       seconds=seconds)

    def _died(self):
        code = self.process.wait(10)
        trace = self._trace()
        where = self._where(trace)
        self.close()
        name = signal.Signals(-code).name if code < 0 else f"code {code}"
        return Outcome(None, trace=f"died of {name}\n{trace.read_text(errors='replace')}", where=where)

    def _trace(self):
        return self.folder / "trace"

    @staticmethod
    def _where(trace):
        """Return the innermost line of this project in what faulthandler wrote last."""
        found = re.findall(r'File "(.*?)", line (\d+) in (\w+)', trace.read_text(errors="replace"))
        return next((_place(*entry) for entry in found if _ours(entry[0])), "no line of this project")

    def close(self):
        if self.process is not None:
            self.process.kill()
            self.process.communicate()
            self.process = None


def _ours(file):
    return file.startswith(str(ROOT)) and not file.startswith(str(ROOT / "tests"))


def _place(file, line, function):
    return f"{Path(file).relative_to(ROOT)}:{line} ({function})"


# ---- inside the process

def _serve(folder):
    """Read command lines from stdin, each one line of JSON, and write their outcomes to stdout."""
    folder, orders, outcomes = Path(folder), os.fdopen(os.dup(0), "rb"), os.fdopen(os.dup(1), "wb", 0)
    trace = open(folder / "trace", "w")
    faulthandler.enable(trace)
    faulthandler.register(signal.SIGUSR1, trace)
    resource.setrlimit(resource.RLIMIT_AS, (ADDRESSES, ADDRESSES))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    nothing = os.open(os.devnull, os.O_RDWR)
    os.dup2(os.open(folder / "stdout", os.O_RDWR | os.O_CREAT), 1)
    os.dup2(os.open(folder / "stderr", os.O_RDWR | os.O_CREAT), 2)
    os.dup2(nothing, 0)
    for order in orders:
        trace.seek(0)
        trace.truncate()
        outcomes.write(json.dumps(vars(_run(json.loads(order)))).encode() + b"\n")
        _make_room(folder / "cache")


def _run(order):
    import importlib
    main = importlib.import_module(MODULES[order["program"]]).main
    for stream in (1, 2):
        os.ftruncate(stream, 0)
        os.lseek(stream, 0, os.SEEK_SET)
    encoding = "ascii" if order["ascii"] else "utf-8"
    os.chdir(order["place"])
    peak, start, trace, where = _Peak(), _processor(), "", ""
    out = io.TextIOWrapper(open(1, "wb", 0, closefd=False), encoding, "strict", write_through=True)
    err = io.TextIOWrapper(open(2, "wb", 0, closefd=False), encoding, "backslashreplace", write_through=True)
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        try:
            code = main(order["words"])
        except SystemExit as end:
            code = end.code
        except BaseException as error:
            code, trace = 1, traceback.format_exc()
            where = next((_place(f.filename, f.lineno,
                                 f.name) for f in reversed(traceback.extract_tb(error.__traceback__))
                          if _ours(f.filename)), "no line of this project")
            trace = f"{type(error).__name__}\n{trace[-6000:]}"
    return Outcome(code, os.pread(2, 100000, 0).decode("utf-8", "replace"), trace, where, _processor() - start, peak())


def _processor():
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


class _Peak:
    """The maximum of the memory used since this object was made (on other systems than Linux: ever)."""

    def __init__(self):
        with contextlib.suppress(OSError):
            Path("/proc/self/clear_refs").write_text("5")

    def __call__(self):
        try:
            status = Path("/proc/self/status").read_text()
            return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024
        except (OSError, TypeError):
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def _make_room(cache):
    files = list(cache.glob("graphs/*"))
    for path in files if len(files) > CACHE_FILES else ():
        path.unlink(missing_ok=True)


if __name__ == "__main__":
    _serve(sys.argv[1])
