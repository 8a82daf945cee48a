"""Estimate how long a step takes on a GPU, without a GPU: python tests/cost_model.py [--model M] [--end E]

Each node of the graph that onnxruntime would run is charged the time of a launch, plus the time that its bytes take
through the memory or its floating point operations through the arithmetic units, whichever is longer. That is a lower
bound for kernels that are written well, and no measurement: it compares two graphs of the same step, and says where
the time would go.

The graph is what onnxruntime's optimizer makes of it on the CPU provider, without the transformations that only the CPU
has (blocked layouts, fused activations). It was compared once with the graph of a CUDA session of onnxruntime 1.31.1:
the nodes were the same. Half precision is not estimated, since the CPU computes it in float32. PyTorch's list of
operators is recorded from its own dispatcher, on tensors without data, if PyTorch is installed.
"""
from __future__ import annotations

import argparse
import functools
import math
import os
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from deepdream.convert.graph import attributes  # noqa: E402

BANDWIDTH = 4.8e12      # bytes per second of an H200's memory
FLOPS = 50e12           # float32 operations per second that its convolutions reach
LAUNCH = 5e-6           # seconds from one kernel to the next
SIZES = ((291, 516), (575, 1024), (1162, 2066))
VIEWS = {"Reshape", "Squeeze", "Unsqueeze", "Identity", "Flatten", "Dropout"}      # share the memory of their input
HOST = {"Shape", "Size"}
READ_WHAT_THEY_WRITE = {"Slice", "Gather", "Expand", "ConstantOfShape", "Range"}


@dataclass(frozen=True)
class Cost:
    """What a node costs.

    name: the node. op: its operator. bytes: read and written. flops: of its arithmetic. launches: of kernels.
    """
    name: str
    op: str
    bytes: float
    flops: float
    launches: int = 1

    def seconds(self, launch: float = LAUNCH) -> float:
        """Return the estimated time. launch: the seconds of a launch."""
        return self.launches * launch + max(self.bytes / BANDWIDTH, self.flops / FLOPS)


@dataclass(frozen=True)
class Tensor:
    """The shape of a tensor, and the bytes of an element."""
    shape: tuple[int, ...]
    width: int

    @property
    def numbers(self) -> int:
        """The number of elements."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Its size in memory."""
        return self.numbers * self.width


# ---- ONNX

def optimized(graph: bytes, h: int, w: int) -> onnx.ModelProto:
    """Return what onnxruntime's optimizer makes of a step graph for pictures of one size, with all shapes.

    graph: a serialized model. h, w: the size of the picture, in pixels.
    """
    import onnxruntime as ort
    options = ort.SessionOptions()
    options.log_severity_level = 4
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_ENABLE_EXTENDED    # no blocked layouts
    for name, size in zip("NHW", (1, h, w)):
        options.add_free_dimension_override_by_name(name, size)
    with tempfile.TemporaryDirectory() as folder:
        options.optimized_model_filepath = os.path.join(folder, "optimized.onnx")
        ort.InferenceSession(graph, options, providers=["CPUExecutionProvider"], disabled_optimizers=CPU_ONLY)
        return onnx.shape_inference.infer_shapes(onnx.load(options.optimized_model_filepath), data_prop=True)


CPU_ONLY = ["ConvActivationFusion", "ConvAddActivationFusion"]      # optimizers that a CUDA session leaves out


def graph_costs(graph: bytes, h: int, w: int) -> list[Cost]:
    """Return the cost of each node of a step graph, after the optimizer, for pictures of h x w pixels."""
    model = optimized(graph, h, w)
    tensors = _tensors(model)
    readers = Counter(name for node in model.graph.node for name in node.input)
    constants = {t.name for t in model.graph.initializer}
    return [cost for node in model.graph.node if (cost := _cost(node, tensors, readers, constants)) is not None]


def _tensors(model):
    """Return {name: Tensor} of all tensors whose shape is known."""
    known = {t.name: Tensor(tuple(t.dims), _width(t.data_type)) for t in model.graph.initializer}
    for info in (*model.graph.input, *model.graph.value_info, *model.graph.output):
        kind = info.type.tensor_type
        dims = kind.shape.dim
        if kind.HasField("shape") and all(d.HasField("dim_value") for d in dims):
            known[info.name] = Tensor(tuple(d.dim_value for d in dims), _width(kind.elem_type))
    return known


def _width(kind):
    return onnx.helper.tensor_dtype_to_np_dtype(kind).itemsize


def _cost(node, tensors, readers, constants):
    """Return the cost of a node; None for one that only changes a shape or runs on the host."""
    missing = [name for name in node.output if name and name not in tensors]
    if missing:
        raise ValueError(f"the shape of {missing[0]} is unknown")
    outputs = [tensors[name] for name in node.output if name]
    inputs = [tensors[name] for name in node.input if name in tensors]
    if node.op_type in VIEWS or node.op_type in HOST or _is_on_host(node, outputs):
        return None
    written = sum(t.bytes for t in outputs)
    read = written if node.op_type in READ_WHAT_THEY_WRITE else sum(t.bytes for t in dict.fromkeys(inputs))
    if node.op_type in ("Expand", "ConstantOfShape", "Range"):
        read = 0
    flops, launches = _flops(node, inputs, outputs), 1
    if node.op_type in ("ScatterND", "ScatterElements"):      # it reads and writes where it adds
        data, indices, updates = inputs[:3]
        in_place = node.op_type == "ScatterND" and readers[node.input[0]] == 1 and node.input[0] not in constants
        read, written = indices.bytes + 2 * updates.bytes, updates.bytes
        if not in_place:
            read, written, launches = read + data.bytes, written + data.bytes, 2
    elif node.op_type == "Conv":
        extra = _uneven_padding(node, outputs[0])
        read, written, launches = read + extra, written + extra, launches + bool(extra)
    return Cost(node.name or node.output[0], described(node, tensors), read + written, flops, launches)


def _is_on_host(node, outputs):
    """Tell whether a node computes sizes: onnxruntime runs these on the host."""
    return all(t.width == 8 and len(t.shape) <= 1 and t.numbers <= 8 for t in outputs)


def _uneven_padding(node, output):
    """Return the bytes of the larger result that onnxruntime's CUDA provider computes for uneven pads, and cuts."""
    pads = attributes(node).get("pads", [])
    n = len(pads) // 2
    uneven = [abs(a - b) for a, b in zip(pads[:n], pads[n:])]
    if not any(uneven):
        return 0
    strides = attributes(node).get("strides", [1] * n)
    return output.width * math.prod(output.shape[:2]) * math.prod(
        size + -(-u // s) for size, u, s in zip(output.shape[2:], uneven, strides))


def _flops(node, inputs, outputs):
    if node.op_type in ("Conv", "FusedConv"):
        return 2 * outputs[0].numbers * math.prod(inputs[1].shape[1:])
    if node.op_type == "ConvTranspose":
        return 2 * inputs[0].numbers * math.prod(inputs[1].shape[1:])
    if node.op_type in ("MatMul", "Gemm"):
        return 2 * outputs[0].numbers * inputs[0].shape[-1]
    return outputs[0].numbers


def described(node: onnx.NodeProto, tensors: dict[str, Tensor]) -> str:
    """Return the operator of a node, with its kind if it is a convolution of each channel by itself."""
    group = attributes(node).get("group", 1)
    return f"{node.op_type} (depthwise)" if group > 1 and tensors[node.input[1]].shape[1] == 1 else node.op_type


# ---- PyTorch

def torch_costs(make: Callable, h: int, w: int) -> list[Cost] | None:
    """Return the cost of each operator that PyTorch's dispatcher sees during a step; None without PyTorch.

    make: called with (torch); returns a function that makes a step of a tensor without data, of h x w pixels.
    """
    try:
        import torch
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        return None
    costs = []

    class Recorder(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            result = function(*args, **(kwargs or {}))
            cost = _torch_cost(torch, function, args, result)
            if cost is not None:
                costs.append(cost)
            return result

    step, picture = make(torch), torch.empty((1, 3, h, w), device="meta")
    with Recorder():
        step(picture)
    return costs


def _torch_cost(torch, function, args, result):
    """Return the cost of one call of an operator; None if it only returns a view."""
    name = function._schema.name.removeprefix("aten::")
    aliases = [returned.alias_info for returned in function._schema.returns]
    if any(alias is not None and not alias.is_write for alias in aliases) or name in ("empty", "empty_like"):
        return None
    read, written = list(_torch_tensors(torch, args)), list(_torch_tensors(torch, [result]))
    flops = sum(t.numel() for t in written)
    if name == "convolution":
        flops = 2 * written[0].numel() * math.prod(read[1].shape[1:])
    elif name == "convolution_backward":        # with respect to the input only
        flops = 2 * read[0].numel() * math.prod(read[2].shape[1:])
    return Cost(name, name, sum(t.numel() * t.element_size() for t in (*read, *written)), flops)


def _torch_tensors(torch, values):
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, (list, tuple)):
            yield from _torch_tensors(torch, value)


# ---- the report

def by_operator(costs: list[Cost], launch: float = LAUNCH) -> list[tuple[str, int, float]]:
    """List (operator, number of nodes, estimated seconds), the most expensive first. launch: seconds of a launch."""
    seconds = Counter()
    for cost in costs:
        seconds[cost.op] += cost.seconds(launch)
    counts = Counter(cost.op for cost in costs)
    return [(op, counts[op], time) for op, time in seconds.most_common()]


def summary(costs: list[Cost], launch: float = LAUNCH, largest: int = 10) -> dict:
    """Return the figures of a step as plain values.

    costs: the cost of each node. launch: the seconds of a launch. largest: how many expensive nodes to list.
    """
    order = sorted(costs, key=lambda cost: -cost.seconds(launch))[:largest]
    return {"milliseconds": 1e3 * sum(c.seconds(launch) for c in costs), "launches": sum(c.launches for c in costs),
            "gigabytes": sum(c.bytes for c in costs) / 1e9, "gflop": sum(c.flops for c in costs) / 1e9,
            "operators": [[op, n, 1e3 * time] for op, n, time in by_operator(costs, launch)],
            "largest": [[c.name, c.op, c.bytes / 1e6, c.flops / 1e9, 1e6 * c.seconds(launch)] for c in order]}


def show(label: str, figures: dict) -> None:
    """Print the figures of `summary`."""
    print(f"{label}: {figures['milliseconds']:.2f} ms a step; {figures['launches']} launches, "
          f"{figures['gigabytes']:.2f} GB, {figures['gflop']:.1f} GFLOP")
    print("    " + ", ".join(f"{n} {op} {time:.2f}" for op, n, time in figures["operators"][:10]) + " (ms)")


def show_largest(figures: dict) -> None:
    """Print the most expensive nodes."""
    for name, op, megabytes, gflop, microseconds in figures["largest"]:
        print(f"    {microseconds:8.1f} us  {megabytes:8.1f} MB  {gflop:7.2f} GFLOP  {op:16} {name}")


def main() -> None:
    """Print the estimates of a net's step in all forms, next to PyTorch's."""
    from benchmark import torch_step, torch_value
    from deepdream.engine.graphs import step_graph
    from onnx.utils import Extractor

    from deepdream import Net, convert
    from deepdream.engine.step import Step
    from deepdream.goals.objectives import objective_L2
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="mini_imagenet", help="name or folder (mini_imagenet)")
    parser.add_argument("--end", default="inception_4c/output", help="layer (inception_4c/output)")
    parser.add_argument("--launch", type=float, default=1e6 * LAUNCH, help="microseconds a launch (5); about 1 where "
                        "the launches are captured as a CUDA graph")
    args = parser.parse_args()
    net = Net(args.model, device="cpu")
    launch = args.launch / 1e6
    step, bias = Step(objective_L2.at(args.end)), np.asarray(net.programs.bias)
    forms = {"CUDA forms": {"device": "cuda"}, "CUDA forms of --fast": {"device": "cuda-fast"}, "CPU forms": {},
             "plain derivatives": {"fast": False}}
    gradients = {name: convert.gradient_graph(net.model, args.end, **form) for name, form in forms.items()}
    graphs = {name: step_graph(graph, step, bias).SerializeToString() for name, graph in gradients.items()}
    forward = Extractor(net.model).extract_model(net.inputs, [args.end])
    print(f"{net.name} at {args.end}; {BANDWIDTH / 1e12} TB/s, {FLOPS / 1e12:g} TFLOP/s, {args.launch:g} us a launch")
    for h, w in SIZES:
        print(f"\n{w}x{h}")
        for name, graph in graphs.items():
            figures = summary(graph_costs(graph, h, w), launch)
            show(name, figures)
            if name == "CUDA forms":
                show_largest(figures)
        costs = torch_costs(lambda torch: functools.partial(
            torch_step, torch, torch_value(torch, forward, args.end, "meta")), h, w)
        if costs is None:
            print("PyTorch: not installed")
        else:
            show("PyTorch eager", summary(costs, launch))


if __name__ == "__main__":
    main()
