"""Fuzzing: whatever a damaged or hostile file holds, a command gives a result, or one line and exit code 2.

Usually a few hundred inputs are tried, the same ones each time. To try thousands of new ones:

    DEEPDREAM_FUZZ=20000 python -m pytest -q -s tests/test_fuzz.py

Then the first failure does not stop the run. Failures are grouped by the line of code that raised. The first input of
each group is reduced to the mutations that it needs, and saved in the folder DEEPDREAM_FUZZ_KEEP (by default a new
temporary folder, which is printed). At the end the test fails. An input is printed as a Case; to run one again:

    python tests/test_fuzz.py 'Case("onnx", 3, 1, [(4, 17, 2)])'
"""
import json
import os
import re
import shutil
import sys
import tempfile
import time
from collections import defaultdict
from dataclasses import dataclass, field, replace
from pathlib import Path

if __name__ == "__main__":
    sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]

import numpy as np
import onnx
import pytest
from PIL import Image

from fuzz_inputs import KINDS, lay_out, may_leave_files

hypothesis = pytest.importorskip("hypothesis")
pytest.importorskip("resource")      # Windows has none
from hypothesis import strategies as st      # noqa: E402

from fuzz_runner import BYTES, LONGEST, SECONDS, Outcome, Runner      # noqa: E402

MANY = int(os.environ.get("DEEPDREAM_FUZZ") or 0)      # inputs in a long run, of all kinds together
FEW = 12                                               # inputs otherwise, of a kind of weight 1
INT = st.integers(0, (1 << 20) - 1)


# ---- one input

@dataclass(frozen=True)
class Case:
    """An input of the fuzz tests.

    kind: a key of KINDS.
    start, command: which of that kind's intact files and command lines to take (taken modulo their number).
    moves: mutations (how, where, what): the number of a mutation, and its two arguments.
    ascii_only: does the terminal show ASCII only?
    """
    kind: str
    start: int = 0
    command: int = 0
    moves: list = field(default_factory=list, hash=False)
    ascii_only: bool = False

    def lay_out(self, place):
        """Write the mutated files into a folder. Returns the command line (program, words)."""
        kind = KINDS[self.kind]
        start = kind.start(self.start)
        program, words = kind.command(self.command, start)
        files, words = kind.changed(start, words, self.moves)
        lay_out(files, place)
        if self.kind in ("onnx", "words"):
            os.mkfifo(place / "pipe")
            (place / "link.bin").symlink_to("/etc/passwd")
        return program, words

    def __repr__(self):
        extra = ", ascii_only=True" * self.ascii_only
        return f"Case({self.kind!r}, {self.start}, {self.command}, {self.moves!r}{extra})"


def run(case, runner, place):
    """Run a case in the folder `place`. Returns (a few words, details, command line) of what is wrong, or None."""
    program, words = case.lay_out(place)
    before = _files(place)
    outcome = runner.run(program, words, place, case.ascii_only)
    wrong = outcome.wrong() or _wrong_files(place, before, outcome.code, words)
    return wrong and (*wrong, f"{program} {' '.join(words)}"[:500])


def _files(place):
    return {p: (p.lstat().st_size, p.lstat().st_mtime_ns) for p in place.rglob("*") if not p.is_dir()}


def _wrong_files(place, before, code, words):
    """Return (a few words, details) of what is wrong with the files that a command line has left, or None."""
    after = _files(place)
    new = [p for p in after if after[p] != before.get(p)]
    for path in new:
        name = str(path.relative_to(place))
        if path.suffix == ".part":
            return "a half-written file", name
        if code and not may_leave_files(words):
            return "exit code 2, and a file", name
        reason = _unreadable(path)
        if reason:
            return f"a damaged {path.suffix} was written", f"{name}: {reason}"
        if path in before and not name.startswith("out") and not _is_only_output(name, words):
            return "an input file was changed", name
    gone = [p for p in before if p not in after and not p.relative_to(place).parts[0] == "out"]
    return ("a file is gone", str(gone[0])) if gone else None


def _is_only_output(name, words):
    """Return whether a command line names an existing file as its output only, so that it may replace it."""
    places = [i for i, word in enumerate(words) if name in word]
    return len(places) == 1 and (words[places[0] - 1] in ("-o", "--output")
                                 or words[places[0]] in (f"-o{name}", f"-o={name}", f"--output={name}"))


def _unreadable(path):
    """Return why a file that was written cannot be read, or None if it can."""
    try:
        if path.suffix in (".png", ".jpg", ".webp", ".tif"):
            Image.open(path).load()
        elif path.suffix == ".onnx":
            assert onnx.load(path).graph.node
        elif path.suffix == ".json":
            json.loads(path.read_text())
        elif path.suffix == ".npz":
            with np.load(path) as file:
                assert set(file) == {"next", "frame", "record"}
        elif path.suffix == ".html":
            assert path.read_text().rstrip().endswith("</html>")
    except Exception as error:
        return repr(error)[:300]
    return None


# ---- the tests

@pytest.fixture(scope="module")
def runner(tmp_path_factory):
    runner = Runner(tmp_path_factory.mktemp("runner"))
    yield runner
    runner.close()


def cases(kind):
    return st.builds(Case, st.just(kind), INT, INT, st.lists(st.tuples(INT, INT, INT), min_size=1, max_size=4),
                     st.sampled_from([False, False, False, True]))


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_bad_input_is_one_line(kind, runner, tmp_path_factory):
    hypothesis.configuration.set_hypothesis_home_dir(tmp_path_factory.getbasetemp() / "hypothesis")
    share = KINDS[kind].weight / sum(k.weight for k in KINDS.values())
    n = round(MANY * share if MANY else FEW * KINDS[kind].weight)
    found = Findings(runner, tmp_path_factory.mktemp("fuzz")) if MANY else None

    @hypothesis.settings(max_examples=n, deadline=None, database=None, derandomize=not MANY, print_blob=False,
                         phases=[hypothesis.Phase.generate] + [hypothesis.Phase.shrink] * (not MANY),
                         suppress_health_check=list(hypothesis.HealthCheck))
    @hypothesis.given(cases(kind))
    def try_out(case):
        if found:
            return found.add(case)
        with tempfile.TemporaryDirectory(dir=tmp_path_factory.getbasetemp()) as place:
            wrong = run(case, runner, Path(place))
        assert wrong is None, "\n".join(wrong)

    try_out()
    if found:
        found.report(kind)


@pytest.mark.parametrize("outcome, words", [
    (Outcome(0, "running on cpu\n"), None),
    (Outcome(2, "running on cpu\ndeepdream: cat.png: no such picture\n"), None),
    (Outcome(2, "deepdream dream: argument --end: expected one argument\n"), None),
    (Outcome(2, ""), "without one line"),
    (Outcome(2, "deepdream: cat.png: two\nlines\n"), "without one line"),
    (Outcome(2, "deepdream: \x1b[31mred\n"), "control characters"),
    (Outcome(2, f"convert: {'x' * LONGEST}\n"), "a line of over"),
    (Outcome(1, ""), "exit code 1"),
    (Outcome(0, "Traceback (most recent call last):\n"), "a traceback"),
    (Outcome(1, trace="KeyError\nTraceback ...", where="convert/forward.py:1 (f)"), "KeyError at convert/forward.py:1"),
    (Outcome(None, trace="stuck\n", where="convert/graph.py:1 (f)"), "stuck at convert/graph.py:1"),
    (Outcome(0, seconds=SECONDS + 1), "seconds"),
    (Outcome(0, peak=BYTES + 1), "GB"),
    (Outcome(2, "deepdream: not enough memory for a picture of this size\n"), "GB"),
])
def test_wrong_outcomes_are_recognized(outcome, words):
    wrong = outcome.wrong()
    assert wrong is None if words is None else words in wrong[0]


# ---- many inputs

class Findings:
    """The failures of a long run, in groups. The first input of each group is reduced and saved."""

    def __init__(self, runner, scratch):
        self.runner, self.scratch, self.tried, self.start = runner, scratch, 0, time.monotonic()
        self.groups = defaultdict(list)
        self.keep = Path(os.environ.get("DEEPDREAM_FUZZ_KEEP") or tempfile.mkdtemp(prefix="deepdream_fuzz_"))

    def add(self, case):
        self.tried += 1
        wrong = self._try(case)
        if wrong:
            key = wrong[0]
            if key not in self.groups:
                case, wrong = self._reduced(case, wrong)
                self._save(case, wrong)
                print(f"\n{key}\n    {case}", flush=True)
            self.groups[key].append(case)

    def _try(self, case):
        place = self.scratch / "case"
        place.mkdir()
        try:
            return run(case, self.runner, place)
        finally:
            shutil.rmtree(place)

    def _reduced(self, case, wrong):
        """Drop the mutations that are not needed for the failure."""
        if wrong[1].startswith("stuck"):
            return case, wrong
        for i in reversed(range(len(case.moves))):
            less = replace(case, moves=case.moves[:i] + case.moves[i + 1:])
            again = self._try(less)
            if again and again[0] == wrong[0]:
                case, wrong = less, again
        return case, wrong

    def _save(self, case, wrong):
        place = self.keep / re.sub(r"\W+", "_", f"{case.kind} {wrong[0]}")[:100]
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        case.lay_out(place)
        (place / "case.txt").write_text(f"{case!r}\n{wrong[2]}\n{wrong[0]}\n\n{wrong[1]}\n")

    def report(self, kind):
        minutes = (time.monotonic() - self.start) / 60
        failures = sum(map(len, self.groups.values()))
        print(f"\n{kind}: {self.tried} inputs, {self.tried / minutes:.0f} a minute, {failures} failed")
        for key, failed in sorted(self.groups.items(), key=lambda item: -len(item[1])):
            print(f"  {len(failed):5}  {key}    {failed[0]}")
        if self.groups:
            pytest.fail(f"{len(self.groups)} kinds of failures, saved in {self.keep}", pytrace=False)


def main(text):
    """Run one Case again, print its folder and what is wrong, and return whether anything is."""
    case = eval(text, {"Case": Case})
    place = Path(tempfile.mkdtemp(prefix="deepdream_fuzz_"))
    runner = Runner(place / "runner")
    (place / "case").mkdir()
    wrong = run(case, runner, place / "case")
    print(f"{place}/case\n" + ("\n".join(wrong) if wrong else "nothing is wrong"))
    runner.close()
    return bool(wrong)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
