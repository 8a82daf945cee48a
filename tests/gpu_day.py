"""Run everything that needs a GPU, in 25 minutes, on a machine that has one: python tests/gpu_day.py --json day.json

Each part runs in a process of its own with a time limit, and what it found is written to the file at once, so that an
interruption loses only the part in progress. With the file of an earlier run, finished parts are not run again. The
parts are ordered by importance; one for which there is no time left is left out, and the file says so.

The parts:
    machine    the GPU, the driver, the versions of the packages
    tests      tests/test_cuda.py
    dreams     from the command to a picture; then default dreams of 1024x575 in one process: plain, captured as CUDA
               graphs, channels last, TF32, half precision
    steps      seconds a step at three sizes with each of these options, next to the estimate of tests/cost_model.py
    distances  gradients at three layers from those of the CPU in float32, for TF32, half precision and channels last
    batch      gradients of 1, 2, 4 and 8 pictures at once: seconds for each picture
    benchmark  tests/benchmark.py: against PyTorch eager, channels last and compiled, if PyTorch is installed

`--device cpu --short` tries the script itself out on any machine, with small pictures. Its figures mean nothing.
"""
from __future__ import annotations

import argparse
import contextlib
import importlib.metadata
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepdream import Net, deepdream  # noqa: E402
from deepdream.convert.files import write  # noqa: E402
from deepdream.engine.step import Step  # noqa: E402
from deepdream.engine.steppers import Stepper  # noqa: E402
from deepdream.goals.objectives import objective_L2  # noqa: E402
from deepdream.pictures.sky import formula_sky  # noqa: E402
from deepdream.runtime.device import Device  # noqa: E402

ROOT = Path(__file__).resolve().parent.parent
SIZES, SHORT = ((291, 516), (575, 1024), (1162, 2066)), ((48, 64),)
VARIANTS = {      # name -> arguments of Device; those that need a GPU are left out on the CPU
    "plain": {},
    "captured": {"cuda": {"enable_cuda_graph": 1}},
    "nhwc": {"cuda": {"prefer_nhwc": 1}},
    "tf32": {"fast": True},
    "half": {"fast": "half"},
    "half captured": {"fast": "half", "cuda": {"enable_cuda_graph": 1}},
}
ENDS = ("inception_3b/output", "inception_4c/output", "inception_5b/output")


class Day:
    """What the parts need: the options of the run.

    args: model, device, short.
    """

    def __init__(self, args: argparse.Namespace):
        self.model, self.device, self.short = args.model, args.device, args.short
        self.on_gpu = args.device != "cpu"
        self.sizes = SHORT if args.short else SIZES

    def net(self, variant: str = "plain") -> Net:
        """Return the net on the device with the options of a variant."""
        return Net(self.model, device=Device(self.device, **VARIANTS[variant]))

    def variants(self) -> list[str]:
        """List the variants that the device has."""
        return list(VARIANTS) if self.on_gpu else ["plain"]

    @property
    def end(self) -> str:
        """The layer to dream at."""
        return "inception_4c/output"

    def image(self) -> np.ndarray:
        """Return the picture of the dreams."""
        sky = formula_sky()
        return sky[::10, ::10] if self.short else sky


def data(h, w, n=1):
    return np.random.default_rng(0).normal(0, 40, (n, 3, h, w)).astype(np.float32)


# ---- the parts

def machine(day: Day) -> dict:
    """Describe the machine."""
    packages = {}
    for name in ("onnxruntime-gpu", "onnxruntime", "onnx", "numpy", "torch", "nvidia-cudnn-cu13", "nvidia-cudnn-cu12"):
        with contextlib.suppress(importlib.metadata.PackageNotFoundError):
            packages[name] = importlib.metadata.version(name)
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,clocks.max.sm", "--format=csv,noheader"]
    try:
        gpu = subprocess.run(query, capture_output=True, text=True, timeout=20).stdout.strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        gpu = f"nvidia-smi: {error}"
    return {"gpu": gpu, "system": platform.platform(), "cores": os.cpu_count(), "python": platform.python_version(),
            "packages": packages, "device": Device(day.device).name}


def tests(day: Day) -> dict:
    """Run the tests that need a GPU. On the CPU, where they are skipped, this shows that they can be collected."""
    run = subprocess.run([sys.executable, "-m", "pytest", "-q", "-rfE", "--tb=line", "-p", "no:cacheprovider",
                          str(ROOT / "tests" / "test_cuda.py")], cwd=ROOT, capture_output=True, text=True)
    lines = run.stdout.strip().splitlines()
    return {"exit code": run.returncode, "result": lines[-1] if lines else run.stderr[-300:],
            "failed": [line for line in lines if line.startswith(("FAILED", "ERROR"))][:100], "output": lines[-60:]}


def dreams(day: Day) -> dict:
    """Time dreams: twice from the command, then three in one process for each variant."""
    found = {"command": []}
    with tempfile.TemporaryDirectory() as folder:
        size = ["--size", "64x48", "--octave-n", "2"] if day.short else []
        for i in range(2):
            start = time.perf_counter()
            run = subprocess.run([sys.executable, "-m", "deepdream", "dream", "--model", day.model, "--device",
                                  day.device, "--end", day.end, *size, "-o", os.path.join(folder, f"{i}.jpg")],
                                 cwd=ROOT, capture_output=True, text=True)
            found["command"].append(time.perf_counter() - start if run.returncode == 0 else run.stderr[-300:])
    for variant in day.variants():
        found[variant] = attempt(lambda: [timed_dream(net, day) for net in [day.net(variant)] for _ in range(3)])
    return found


def timed_dream(net, day):
    start = time.perf_counter()
    deepdream(net, day.image(), end=day.end, seed=0, octave_n=2 if day.short else 4, on_step=lambda *_: None)
    return time.perf_counter() - start


def steps(day: Day) -> dict:
    """Time steps at each size in each variant, and estimate them."""
    from cost_model import graph_costs, summary
    found = {}
    for h, w in day.sizes:
        row = found[f"{w}x{h}"] = {}
        for variant in day.variants():
            net = day.net(variant)
            row[variant] = attempt(lambda: timed_steps(net, day.end, h, w))
        plain = day.net()
        graph = plain.programs.graph(plain.programs.step(Step(objective_L2.at(day.end))))
        row["estimate"] = attempt(lambda: summary(graph_costs(graph, h, w)))
    return found


def timed_steps(net, end, h, w, rounds=30):
    """Return the median seconds of a step."""
    step = Step(objective_L2.at(end))
    stepper = Stepper(net.programs.session(net.programs.step(step), (h, w), rounds), step, data(h, w))
    times = []
    for i in range(rounds):
        start = time.perf_counter()
        stepper.step(3, 5, 1.5, i, rounds)
        times.append(time.perf_counter() - start)
    return statistics.median(times[rounds // 3:])


def distances(day: Day) -> dict:
    """Compare gradients with those of the CPU in float32: relative distance and cosine."""
    h, w = SHORT[0] if day.short else (256, 320)
    exact, found = Net(day.model, device="cpu"), {}
    for end in ENDS[:2] if day.short else ENDS:
        expected = gradient(exact, end, h, w)
        for variant in day.variants():
            net = day.net(variant)
            found[f"{variant} at {end}"] = attempt(lambda: apart(gradient(net, end, h, w), expected))
    return found


def gradient(net, end, h, w):
    session = net.programs.session(net.programs.objective(Step(objective_L2.at(end))))
    return np.float64(session.run(["data_diff"], {"data": data(h, w)})[0].ravel())


def apart(found, expected):
    """Return the relative L2 distance of two vectors and their cosine."""
    norm = np.linalg.norm(expected)
    return {"distance": float(np.linalg.norm(found - expected) / norm),
            "cosine": float(found @ expected / (np.linalg.norm(found) * norm))}


def batch(day: Day) -> dict:
    """Time the gradients of several pictures at once, bound to memory of the device."""
    found, (h, w) = {}, SHORT[0] if day.short else (291, 516)
    net = day.net()
    session = net.device.session(net.programs.graph(net.programs.gradient(day.end)))
    shape = net.run_forward(day.end, [net.tensor_of(day.end, day.end)], data(h, w))[0].shape[1:]
    for n in (1, 2) if day.short else (1, 2, 4, 8):
        found[str(n)] = attempt(lambda: timed_batch(net, session, n, h, w, (n, *shape)))
    return found


def timed_batch(net, session, n, h, w, shape, rounds=20):
    """Return the median seconds for each picture of a batch."""
    binding = session.io_binding()
    values = {"data": data(h, w, n), "end_diff": np.random.default_rng(1).random(shape, np.float32)}
    for name, value in values.items():
        binding.bind_ortvalue_input(name, net.device.place(value))
    for name, value in {"data_diff": values["data"], "end_data": values["end_diff"]}.items():
        binding.bind_ortvalue_output(name, net.device.place(np.zeros_like(value)))
    times = []
    for _ in range(rounds):
        start = time.perf_counter()
        session.run_with_iobinding(binding)
        binding.synchronize_outputs()
        times.append(time.perf_counter() - start)
    return statistics.median(times[rounds // 3:]) / n


def benchmark(day: Day) -> dict:
    """Run tests/benchmark.py."""
    with tempfile.TemporaryDirectory() as folder:
        file = os.path.join(folder, "benchmark.json")
        megapixels = ["0.003", "--rounds", "1"] if day.short else ["0.15", "0.588", "2.4"]
        run = subprocess.run([sys.executable, str(ROOT / "tests" / "benchmark.py"), "--model", day.model, "--device",
                              day.device, "--json", file, "--megapixels", *megapixels],
                             cwd=ROOT, capture_output=True, text=True)
        if run.returncode:
            raise RuntimeError(run.stderr[-1000:])
        return {"output": run.stdout.splitlines(), **json.loads(Path(file).read_text())}


PARTS: dict[str, tuple[Callable, int]] = {      # name -> (function, limit in seconds), the most important first
    "machine": (machine, 60),
    "tests": (tests, 300),
    "dreams": (dreams, 300),
    "steps": (steps, 240),
    "distances": (distances, 150),
    "batch": (batch, 90),
    "benchmark": (benchmark, 420),
}


def attempt(run: Callable) -> object:
    """Return what a function returns, or its error as text, so that the rest of a part still runs."""
    try:
        return run()
    except Exception as error:      # whatever fails on a new machine is a finding
        return {"error": f"{type(error).__name__}: {str(error)[:500]}"}


# ---- the run

def run_part(name: str, args: argparse.Namespace, seconds: float) -> dict:
    """Run one part in a process of its own. Returns what it found, or what went wrong."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder, "result.json")
        command = [sys.executable, __file__, "--part", name, "--json", str(result), "--model", args.model, "--device",
                   args.device, *["--short"] * args.short]
        try:
            ended = subprocess.run(command, cwd=ROOT, timeout=seconds, capture_output=True, text=True)
        except subprocess.TimeoutExpired:
            return {"error": f"not finished after {seconds:.0f} seconds"}
        if ended.returncode or not result.exists():
            return {"error": f"exit code {ended.returncode}: {ended.stderr[-1500:]}"}
        return json.loads(result.read_text())


def save(file: Path, report: dict) -> None:
    """Write the report, so that there is a whole file at all times."""
    write(file, json.dumps(report, indent=1).encode())


def main() -> int:
    """Run all parts. Returns 1 if one of them failed."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=Path, required=True, metavar="FILE", help="where the results are written")
    parser.add_argument("--device", default="cuda", help="cuda, cuda:N or cpu (cuda)")
    parser.add_argument("--model", default="mini_imagenet", help="name or folder (mini_imagenet)")
    parser.add_argument("--minutes", type=float, default=25, help="do not go beyond this (25)")
    parser.add_argument("--only", nargs="+", choices=PARTS, help="run only these parts, even if they are finished")
    parser.add_argument("--short", action="store_true", help="small pictures, to try the script out")
    parser.add_argument("--part", choices=PARTS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.part:
        save(args.json, PARTS[args.part][0](Day(args)))
        return 0
    report, end = json.loads(args.json.read_text()) if args.json.exists() else {}, time.time() + 60 * args.minutes
    for name, (_, limit) in PARTS.items():
        finished = "error" not in report.get(name, {"error": ""})
        if name not in (args.only or PARTS) or finished and not args.only:
            continue
        seconds, start = min(limit, end - time.time()), time.time()
        report[name] = run_part(name, args, seconds) if seconds > 5 else {"error": "no time was left"}
        report[name]["seconds taken"] = time.time() - start
        save(args.json, report)
        print(f"{name}: {report[name].get('error', 'done')} ({report[name]['seconds taken']:.0f} s)", flush=True)
    return int(any("error" in report.get(name, {}) for name in PARTS))


if __name__ == "__main__":
    sys.exit(main())
