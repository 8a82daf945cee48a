"""Measure how fast a step and a dream are: python tests/benchmark.py [--model M] [--megapixels 0.15 0.6] [--json FILE]

For 16:9 pictures of each size, this measures one step at `end` (objective L2): seconds, and bytes per pixel (of the
host; on CUDA also of the device). In the same run, in turns (A B A B), it measures for comparison:
- the floor: matrix products with as many floating point operations as the convolutions of a step, forward and backward;
- PyTorch, if it is installed: the same forward pass with the same weights and threads, differentiated by autograd:
  eager and compiled, each also with channels_last; on CUDA with cudnn.benchmark and, like our step, without TF32;
- on CUDA our step with other options of onnxruntime's provider: captured as CUDA graphs, channels last.
From TILED_FROM megapixels on, the step runs in tiles of --tile pixels. PyTorch is left out there, since it would need
the memory of the whole picture. Then this measures how long a start takes, and prints the share of each operator in
onnxruntime's time. On a shared machine look at the ratios rather than at the times. No test runs this script.
"""
import argparse
import collections
import json
import multiprocessing
import os
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import onnx  # noqa: E402
from deepdream.convert.graph import attributes  # noqa: E402
from onnx import numpy_helper  # noqa: E402
from onnx.utils import Extractor  # noqa: E402

from deepdream import Net, deepdream  # noqa: E402
from deepdream.engine import memory  # noqa: E402
from deepdream.engine.session import Session  # noqa: E402
from deepdream.engine.step import Step  # noqa: E402
from deepdream.engine.steppers import HostStepper, Stepper  # noqa: E402
from deepdream.engine.tiles import TiledGradient  # noqa: E402
from deepdream.goals.objectives import objective_L2  # noqa: E402
from deepdream.pictures.sky import formula_sky  # noqa: E402
from deepdream.runtime.device import Device, free_gpu_memory  # noqa: E402
from deepdream.runtime.free_memory import free_memory, process_memory  # noqa: E402

TILED_FROM = 4.0      # megapixels
STEPS = 10            # per octave
FIRST_STEP = """
import os, sys
from deepdream import cli
from deepdream.cli import progress
progress.Progress.step = lambda *_: os._exit(0)
cli.main(sys.argv[1:])
"""


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini_imagenet", help="name or folder (mini_imagenet)")
    parser.add_argument("--end", default="inception_4c/output", help="layer (inception_4c/output)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda or cuda:N (cpu)")
    parser.add_argument("--threads", type=int, default=os.cpu_count(), help="of the CPU (all)")
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.15, 0.6, 2.4, 8.0],
                        help="sizes of the pictures (0.15 0.6 2.4 8)")
    parser.add_argument("--tile", type=int, default=1024,
                        help=f"width of the tiles, used from {TILED_FROM:g} megapixels on (1024)")
    parser.add_argument("--rounds", type=int, default=5, help="how often each is measured, in turns (5)")
    parser.add_argument("--dream", action="store_true", help="also time a whole default dream of 1024x575")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write all numbers to this file")
    args = parser.parse_args()
    started = time.perf_counter()
    net = Net(args.model, device=args.device, threads=args.threads)
    step = Step(objective_L2.at(args.end))
    net.programs.session(net.programs.step(step))
    report = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "model": net.name, "end": args.end,
              "device": net.device.name, "threads": args.threads, "ready": time.perf_counter() - started, "sizes": []}
    print(f"{report['machine']}, {args.threads} threads, {net.name} at {args.end} on {net.device.name}; "
          f"net and step graph ready in {report['ready']:.2f} s")
    forward = Extractor(net.model).extract_model(net.inputs, [args.end])
    rivals = {"floor": floor(net.device), **torch_steps(forward, args.end, net.device, args.threads),
              **other_options(net, args)}
    report["copy_gb_s"] = copy_rate(net.device)
    print(f"a copy in memory: {report['copy_gb_s']:.1f} GB/s")
    print(f"{'size':>11}  {'s a step':>8}  {'B/pixel':>7}  {'GFLOP':>7}  " + "  ".join(f"{n:>10}" for n in rivals)
          + "   (their time / our time)")
    for megapixels in args.megapixels:
        report["sizes"].append(measure(net, forward, rivals, megapixels, args))
    report["start"] = starts(args)
    for name, seconds in report["start"].items():
        print(f"{name}: {seconds:.2f} s")
    small = min(args.megapixels, key=lambda m: abs(m - 0.6))
    report["operators"] = operators(net, args.end, small)
    for name, share in report["operators"][:12]:
        print(f"    {name:20} {share:6.1%}")
    if args.dream:
        report["dream"] = {}
        for name, options in {"ours": {}, **(CUDA if net.device.is_cuda else {})}.items():
            report["dream"][name] = times = dreams(args, options)
            print(f"a default dream of 1024x575, {name}: {', '.join(f'{t:.2f}' for t in times)} s")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def machine():
    try:
        name = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return name


def size_of(megapixels):
    w = int(round((megapixels * 1e6 * 16 / 9) ** 0.5))
    return int(round(megapixels * 1e6 / w)), w


def stepper_of(net, end, h, w, tile):
    data = np.random.default_rng(0).normal(0, 40, (1, 3, h, w)).astype(np.float32)
    step = Step(objective_L2.at(end), tile=tile)
    if step.in_tiles(h, w):
        return HostStepper(TiledGradient(net, step), data, net.programs.bias)
    return Stepper(net.programs.session(net.programs.step(step), (h, w), STEPS), step, data)


def measure(net, forward, rivals, megapixels, args):
    h, w = size_of(megapixels)
    tile = args.tile if megapixels >= TILED_FROM else None
    stepper, flops = stepper_of(net, args.end, h, w, tile), convolution_flops(forward, h, w)
    contenders = {"ours": lambda: stepper.step(3, 5, 1.5)}
    step = Step(objective_L2.at(args.end))
    wanted = memory.estimate(net, net.programs.step(step), step, (h, w))
    room = free_memory(net.device)
    for name, make in rivals.items():
        if name == "floor" or not (tile or room and 2 * wanted > room):
            contenders[name] = make(flops, (1, 3, h, w))
    times = {name: [] for name in contenders}
    for turn in range(args.rounds + 1):
        for name, run in contenders.items():
            t = time.perf_counter()
            run()
            if turn:                                     # the first turn warms up
                times[name].append(time.perf_counter() - t)
    with multiprocessing.get_context("spawn").Pool(1) as alone:
        host, device = alone.apply(peak, (args.model, args.end, args.device, args.threads, h, w, tile))
    ratio = {n: statistics.median(b / a for a, b in zip(times["ours"], t)) for n, t in times.items()}
    cells = [f"{ratio[n]:10.2f}" if n in ratio else f"{'left out':>10}" for n in rivals]
    print(f"{w}x{h:<5}  {statistics.median(times['ours']):8.3f}  {host / (h * w):7.0f}  {flops / 1e9:7.1f}  "
          + "  ".join(cells) + (f"   in tiles of {tile}" if tile else "")
          + (f"   {device / (h * w):.0f} B/pixel on the device" if device else ""), flush=True)
    return {"width": w, "height": h, "tile": tile, "gflop": flops / 1e9, "times": times, "ratio": ratio,
            "host_bytes": host, "device_bytes": device}


def peak(model, end, device, threads, h, w, tile):
    """Measure the memory that steps take, in a separate process: bytes of the host, bytes of the device or None."""
    net = Net(model, device=device, threads=threads)
    stepper = stepper_of(net, end, h, w, tile)
    before = process_memory()
    free = net.device.is_cuda and free_gpu_memory(net.device.index)
    for _ in range(1 if tile else 2):
        stepper.step(3, 5, 1.5)
    taken = free and free - free_gpu_memory(net.device.index)
    try:      # not getrusage first: its maximum includes that of the parent process
        most = next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM"))
    except OSError:
        most = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return most * 1024 - before, taken or None


def starts(args):
    """Measure how long commands take with a warm cache: {what: seconds}, each the median of three runs."""
    with tempfile.TemporaryDirectory() as folder:
        commands = {"python -c pass": ["-c", "pass"], "deepdream --help": ["-m", "deepdream", "--help"],
                    "from command to first step": ["-c", FIRST_STEP, "dream", "--model", args.model, "--device",
                                                   args.device, "-o", os.path.join(folder, "x.jpg")]}
        env = {**os.environ, "PYTHONPATH": str(Path(__file__).resolve().parent.parent)}
        found = {}
        for name, command in commands.items():
            times = []
            for _ in range(4):                           # the first one warms up
                t = time.perf_counter()
                subprocess.run([sys.executable, *command], env=env, check=True, capture_output=True)
                times.append(time.perf_counter() - t)
            found[name] = statistics.median(times[1:])
    return found


def dreams(args, options):
    """Measure default dreams of the sky, in seconds: one on the CPU, three on CUDA (the first makes the sessions).

    options: of the CUDA provider.
    """
    net, image = Net(args.model, device=Device(args.device, cuda=options), threads=args.threads), formula_sky()
    times = []
    for _ in range(3 if net.device.is_cuda else 1):
        np.random.seed(0)
        t = time.perf_counter()
        deepdream(net, image, end=args.end)
        times.append(time.perf_counter() - t)
    return times


def convolution_flops(forward, h, w):
    """Count the floating point operations of all convolutions, forward and backward: 2 per multiplication."""
    graph = onnx.ModelProto()
    graph.CopyFrom(forward)
    for i, size in ((0, 1), (2, h), (3, w)):
        graph.graph.input[0].type.tensor_type.shape.dim[i].dim_value = size
    del graph.graph.value_info[:], graph.graph.output[0].type.tensor_type.shape.dim[:]
    graph.graph.output[0].ClearField("type")
    graph = onnx.shape_inference.infer_shapes(graph).graph
    shapes = {i.name: [d.dim_value for d in i.type.tensor_type.shape.dim] for i in [*graph.value_info, *graph.output]}
    weights = {t.name: list(t.dims) for t in graph.initializer}
    return sum(4 * np.prod(shapes[n.output[0]][2:]) * np.prod(weights[n.input[1]]) for n in graph.node
               if n.op_type == "Conv")


def floor(device):
    """Return a function make(flops, shape), whose result multiplies matrices with this many operations."""
    n = 1536
    a = np.random.default_rng(0).random((n, n), np.float32)
    wait = lambda product: product
    if device.is_cuda:
        torch = _torch(device)
        if torch is None:
            return lambda flops, shape: lambda: None
        a, wait = torch.from_numpy(a).to(device.name), lambda product: product[0, 0].item()

    def make(flops, shape):
        def run():
            for _ in range(max(1, round(flops / (2 * n ** 3)))):
                product = a @ a
            wait(product)
        return run
    return make


def copy_rate(device):
    """Measure the gigabytes per second that a copy of a quarter of a gigabyte reads and writes."""
    torch = _torch(device) if device.is_cuda else None
    x = torch.ones(1 << 26, device=device.name) if torch else np.ones(1 << 26, np.float32)
    y, times = x + 1, []
    for _ in range(5):
        t = time.perf_counter()
        y[...] = x
        if torch:
            torch.cuda.synchronize()
        times.append(time.perf_counter() - t)
    return 2 * 4 * (1 << 26) / min(times) / 1e9


def _torch(device):
    """Return PyTorch if it is installed and can use the device, else None."""
    try:
        import torch
    except ImportError:
        return None
    if device.is_cuda and not torch.cuda.is_available():
        return None
    torch.backends.cudnn.benchmark = True
    torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = False
    return torch


def torch_value(torch, forward, end, device):
    """Return a function that computes a layer in PyTorch from a picture. device: the name of a device of PyTorch."""
    F = torch.nn.functional
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()).to(device)
                 for t in forward.graph.initializer}

    def padded(x, pads, value):
        top, left, bottom, right = pads
        return F.pad(x, (left, right, top, bottom), value=value) if any(pads) else x

    def conv(x, a, w, b=None):
        top, left, bottom, right = a.get("pads", [0] * 4)
        if (top, left) == (bottom, right):
            return F.conv2d(x, w, b, a.get("strides", 1), (top, left), a.get("dilations", 1), a.get("group", 1))
        return F.conv2d(padded(x, a["pads"], 0.0), w, b, a.get("strides", 1), 0, a.get("dilations", 1),
                        a.get("group", 1))

    table = {
        "Conv": conv,
        "Relu": lambda x, a: F.relu(x),
        "MaxPool": lambda x, a: F.max_pool2d(padded(x, a["pads"], float("-inf")), a["kernel_shape"], a["strides"]),
        "AveragePool": lambda x, a: F.avg_pool2d(padded(x, a["pads"], 0.0), a["kernel_shape"], a["strides"]),
        "LRN": lambda x, a: F.local_response_norm(x, a["size"], a["alpha"], a["beta"], a["bias"]),
        "Concat": lambda x, a, *others: torch.cat([x, *others], a["axis"]),
        "Identity": lambda x, a: x,
    }
    nodes = [(table[n.op_type], attributes(n), list(n.input), n.output[0]) for n in forward.graph.node]

    def value(x):
        values = {**constants, forward.graph.input[0].name: x}
        for function, attr, inputs, output in nodes:
            values[output] = function(values[inputs[0]], attr, *(values[i] for i in inputs[1:]))
        return values[end]
    return value


def torch_step(torch, value, picture):
    """Make a step of the picture in PyTorch, in place. Returns the mean of |gradient|, a tensor."""
    x = picture.detach().requires_grad_()
    y = value(x)
    g, = torch.autograd.grad(y, x, y.detach())
    mean = g.abs().mean()
    picture.add_(1.5 / mean * g)
    return mean


def torch_steps(forward, end, device, threads):
    """Return {name: make}, functions make(flops, shape) whose result runs the same step in PyTorch."""
    torch = _torch(device)
    if torch is None:
        return {}
    torch.set_num_threads(threads)
    value = torch_value(torch, forward, end, device.name)

    def step(function, layout):
        def make(flops, shape):
            picture = torch.from_numpy(np.random.default_rng(0).normal(0, 40, shape).astype(np.float32))
            picture = picture.to(device.name, memory_format=layout)
            return lambda: torch_step(torch, function, picture).item()      # waits for the GPU
        return make

    compiled = torch.compile(value, dynamic=False)      # for each size by itself: for any size, it takes far longer
    return {"torch": step(value, torch.contiguous_format), "torch nhwc": step(value, torch.channels_last),
            "torch comp": step(compiled, torch.contiguous_format), "comp. nhwc": step(compiled, torch.channels_last)}


CUDA = {    # name -> options of onnxruntime's CUDA provider that are not our default
    "captured": {"enable_cuda_graph": 1},
    "nhwc": {"prefer_nhwc": 1},
    "capt. nhwc": {"enable_cuda_graph": 1, "prefer_nhwc": 1},
}


def other_options(net, args):
    """Return {name: make}, functions make(flops, shape) whose result runs our step with other CUDA options."""
    def other(options):
        def make(flops, shape):
            device = Device(args.device, cuda=options)
            stepper = stepper_of(Net(args.model, device=device), args.end, *shape[2:], None)
            return lambda: stepper.step(3, 5, 1.5)
        return make
    return {name: other(options) for name, options in CUDA.items()} if net.device.is_cuda else {}


def operators(net, end, megapixels):
    """List (operator, share of the time) of the step graph, from onnxruntime's profile."""
    import onnxruntime as ort
    h, w = size_of(megapixels)
    options = net.device.options(net.threads, (h, w) if net.device.fixes_size(h, w, STEPS) else None)
    options.enable_profiling = True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "profile")
        step = Step(objective_L2.at(end))
        graph = net.programs.graph(net.programs.step(step))
        session = ort.InferenceSession(graph, options, providers=net.device.session(graph).get_providers())
        data = np.random.default_rng(0).normal(0, 40, (1, 3, h, w)).astype(np.float32)
        stepper = Stepper(Session(session, net.device), step, data)
        for _ in range(3):
            stepper.step(3, 5, 1.5)
        with open(session.end_profiling()) as file:
            events = json.load(file)
    total = collections.Counter()
    for event in events:
        if event.get("cat") == "Node" and event["name"].endswith("_kernel_time"):
            total[event["args"]["op_name"]] += event["dur"]
    return [(name, time_ / sum(total.values())) for name, time_ in total.most_common()]


if __name__ == "__main__":
    main()
