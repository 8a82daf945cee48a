"""How fast a step and a dream are: python tests/benchmark.py [--model M] [--megapixels 0.15 0.6 ...] [--json FILE]

One make_step of `end` (L2), at the 16:9 pictures of so many megapixels: seconds, peak memory of the process so far, and
beside it in the same run, turn by turn (A B A B):
- the floor: matrix products of as many floating point operations as the step's convolutions have, forward and back;
- PyTorch, if it is installed: the same forward pass with the same weights and threads, differentiated by autograd.
Then a table of where onnxruntime's time goes, operator by operator. Absolute times are worth little on a shared
machine; the ratios are what to look at. No test runs this, and no test asserts a time.
"""
import argparse
import collections
import json
import os
import platform
import resource
import statistics
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

import onnx                                         # noqa: E402
from onnx import numpy_helper                       # noqa: E402
from onnx.utils import Extractor                    # noqa: E402

from convert.graph import attributes                # noqa: E402
from deepdream import Net, deepdream, objective_L2  # noqa: E402
from deepdream.sky import formula_sky               # noqa: E402
from deepdream.stepper import Stepper               # noqa: E402


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini_imagenet", help="name or folder (mini_imagenet)")
    parser.add_argument("--end", default="inception_4c/output")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    parser.add_argument("--megapixels", type=float, nargs="+", default=[0.15, 0.6])
    parser.add_argument("--rounds", type=int, default=5, help="turns of A and B (5)")
    parser.add_argument("--dream", action="store_true", help="also time a whole default dream of 1024x575")
    parser.add_argument("--json", type=Path, metavar="FILE")
    args = parser.parse_args()
    started = time.perf_counter()
    net = Net(args.model, device=args.device, threads=args.threads)
    session = net.session(args.end, objective_L2, True)
    report = {"date": time.strftime("%Y-%m-%d"), "machine": machine(), "model": net.name, "end": args.end,
              "device": net.device.name, "threads": args.threads, "ready": time.perf_counter() - started, "sizes": []}
    print(f"{report['machine']}, {args.threads} threads, {net.name} at {args.end} on {net.device.name}; "
          f"net and step graph ready in {report['ready']:.2f} s")
    forward = Extractor(net.model).extract_model(net.inputs, [args.end])
    rivals = {"floor": floor(args.threads), "torch": torch_step(forward, args.end, args.threads)}
    for megapixels in args.megapixels:
        report["sizes"].append(measure(net, session, forward, rivals, megapixels, args.rounds))
    report["operators"] = operators(net, args.end, args.megapixels[-1])
    for name, share in report["operators"][:12]:
        print(f"    {name:20} {share:6.1%}")
    if args.dream:
        image, t = formula_sky(), time.perf_counter()
        np.random.seed(0)
        deepdream(net, image, end=args.end)
        report["dream"] = time.perf_counter() - t
        print(f"a default dream of 1024x575: {report['dream']:.1f} s")
    if args.json:
        args.json.write_text(json.dumps(report, indent=1) + "\n")


def machine():
    try:
        name = next(line.split(":")[1].strip() for line in open("/proc/cpuinfo") if line.startswith("model name"))
    except (OSError, StopIteration):
        name = platform.processor() or platform.machine()
    return name


def measure(net, session, forward, rivals, megapixels, rounds):
    w = int(round((megapixels * 1e6 * 16 / 9) ** 0.5))
    h = int(round(megapixels * 1e6 / w))
    data = np.random.default_rng(0).normal(0, 40, (1, 3, h, w)).astype(np.float32)
    stepper = Stepper(session, net.device, objective_L2, data)
    flops = convolution_flops(forward, h, w)
    contenders = {"ours": lambda: stepper.step(3, 5, 1.5), "floor": lambda: rivals["floor"](flops)}
    if rivals["torch"]:
        contenders["torch"] = lambda: rivals["torch"](data)
    times = {name: [] for name in contenders}
    for turn in range(rounds + 1):
        for name, run in contenders.items():
            t = time.perf_counter()
            run()
            if turn:                                     # the first turn warms up
                times[name].append(time.perf_counter() - t)
    row = {"width": w, "height": h, "gflop": flops / 1e9, "times": times,
           "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024}
    ratio = {n: statistics.median(b / a for a, b in zip(times["ours"], t)) for n, t in times.items()}
    print(f"{w}x{h}: {statistics.median(times['ours']):.3f} s a step, {flops / 1e9:.1f} GFLOP, "
          f"{ratio['floor']:.0%} of the floor's speed"
          + (f", {ratio['torch']:.2f} times as fast as PyTorch" if "torch" in ratio else "")
          + f"; peak memory so far {row['peak_mb']:.0f} MB")
    return row


def convolution_flops(forward, h, w):
    """Of all convolutions, forward and once more backward: 2 per multiplication."""
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


def floor(threads):
    """A function that multiplies matrices for a number of floating point operations."""
    n = 1536
    a = np.random.default_rng(0).random((n, n), np.float32)

    def run(flops):
        for _ in range(max(1, round(flops / (2 * n ** 3)))):
            a @ a
    return run


def torch_step(forward, end, threads):
    """The same step in PyTorch: a function of the data, or None where PyTorch is not installed."""
    try:
        import torch
        import torch.nn.functional as F
    except ImportError:
        return None
    torch.set_num_threads(threads)
    constants = {t.name: torch.from_numpy(numpy_helper.to_array(t).copy()) for t in forward.graph.initializer}

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
        "Concat": lambda x, a, *more: torch.cat([x, *more], a["axis"]),
        "Identity": lambda x, a: x,
    }
    nodes = [(table[n.op_type], attributes(n), list(n.input), n.output[0]) for n in forward.graph.node]

    def run(data):
        x = torch.from_numpy(data).requires_grad_()
        values = {**constants, forward.graph.input[0].name: x}
        for function, attr, inputs, output in nodes:
            values[output] = function(values[inputs[0]], attr, *(values[i] for i in inputs[1:]))
        y = values[end]
        g, = torch.autograd.grad(y, x, y.detach())
        return (x.detach() + 1.5 / g.abs().mean() * g).numpy()
    return run


def operators(net, end, megapixels):
    """[(operator, share of the time)] of the step graph, from onnxruntime's profile."""
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level, options.enable_mem_pattern, options.enable_profiling = 3, False, True
    with tempfile.TemporaryDirectory() as folder:
        options.profile_file_prefix = os.path.join(folder, "profile")
        options.intra_op_num_threads = net.threads
        graph = net.graph(end, objective_L2, True)
        session = ort.InferenceSession(graph, options, providers=net.device.session(graph).get_providers())
        w = int(round((megapixels * 1e6 * 16 / 9) ** 0.5))
        data = np.zeros((1, 3, int(round(megapixels * 1e6 / w)), w), np.float32)
        data += np.random.default_rng(0).normal(0, 40, data.shape).astype(np.float32)
        stepper = Stepper(session, net.device, objective_L2, data)
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
