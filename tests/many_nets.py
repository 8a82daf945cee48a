"""Look at many real classifiers: print how many ends each has, and compare gradients with PyTorch's in float64.

    python tests/many_nets.py export tests/many_nets.txt FOLDER      write the nets of the list as .onnx files
    python tests/many_nets.py check 5 FOLDER/*.onnx                  compare the gradients at 5 ends of each, and of
                                                                     one class; run `dream` and `class`

Needs torch, torchvision and timm. Weights are random; nothing is downloaded. A line of the list is like
`timm:NAME:SIDE old`: the library (tv for torchvision), the net, the size of the picture, and the exporter (old is
TorchScript, new is dynamo). `:s` after the size tells the net its size, which vision transformers need. The reference
is the .onnx file itself, run by PyTorch (torch_runner.py). The columns: net, ends, ends that are lost, the largest
error, the commands, the possible sizes, processor time to prepare it. A line that starts with ! reports a failure.
"""
import contextlib
import io
import os
import sys
import tempfile
import time
import warnings
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch

sys.path[:0] = [str(Path(__file__).resolve().parent.parent), str(Path(__file__).resolve().parent)]
import torch_runner  # noqa: E402
from deepdream.convert.onnx_nets.prepare import onnx_net  # noqa: E402

import deepdream.cli  # noqa: E402
from deepdream import convert  # noqa: E402

TOLERANCE = 1e-5


def build(library, name, side, told=""):
    """Build a net with random weights and, so that normalizations do something, random statistics."""
    torch.manual_seed(0)
    if library == "tv":
        import torchvision
        extra = {"init_weights": True} if name in ("googlenet", "inception_v3") else {}
        net = torchvision.models.get_model(name, weights=None, **extra)
    else:
        import timm
        net = timm.create_model(name, pretrained=False, **({"img_size": int(side)} if told else {}))
    generator = torch.Generator().manual_seed(1)
    for module in net.modules():
        if getattr(module, "running_mean", None) is not None:
            module.running_mean.normal_(0, 0.1, generator=generator)
            module.running_var.uniform_(0.5, 1.5, generator=generator)
    for weight in net.parameters():
        if weight.ndim <= 1 and (weight == 0).all():
            weight.data.normal_(0, 0.02, generator=generator)
    return net.eval(), torch.zeros(1, 3, int(side), int(side))


def export(names, folder):
    """Write the nets of a list as .onnx files; those that exist are kept."""
    for line in Path(names).read_text().splitlines():
        name, exporter = line.split()
        path = Path(folder) / f"{name.replace(':', '_')}.{exporter}.onnx"
        if path.exists():
            continue
        try:
            net, picture = build(*name.split(":"))
            kind = {"dynamo": False, "opset_version": 17} if exporter == "old" else {"dynamo": True,
                                                                                     "external_data": False}
            torch.onnx.export(net, (picture,), path, input_names=["x"], output_names=["y"], **kind)
            print(f"{path.name}: written", flush=True)
        except Exception as error:      # an exporter that does not know the net: the others are written all the same
            path.unlink(missing_ok=True)
            print(f"{path.name}: not exported: {' '.join(str(error).split())[:200]}", flush=True)


def error_of(found, expected):
    """Return the largest error, relative to the largest number."""
    return float(np.abs(found - expected).max() / max(1e-30, np.abs(expected).max()))


class Reference:
    """What PyTorch computes in float64 with the .onnx file itself, and how exact float32 is."""

    def __init__(self, path, picture):
        self.model, self.picture = onnx.load(path), picture
        self.values, self.x = torch_runner.run(self.model, picture)

    def gradient(self, end, diff, **options):
        """Return the gradient of sum(end * diff). options: signs and real, of torch_runner.run."""
        values, x = torch_runner.run(self.model, self.picture, **options) if options else (self.values, self.x)
        found, = torch.autograd.grad(values[end], x, torch.tensor(np.float64(diff)).to(values[end].dtype),
                                     retain_graph=not options)
        return found.numpy()

    def flipped(self, graph, feeds):
        """Return {output of a Relu: where a gradient graph saw an input above 0}, where float64 sees other signs."""
        model = onnx.ModelProto()
        model.CopyFrom(graph)
        inputs = {n.output[0]: n.input[0] for n in self.model.graph.node if n.op_type == "Relu"}
        made = {o for n in graph.graph.node for o in n.output}
        outputs = [o for o in inputs if o in made and o not in (i.name for i in graph.graph.output)]
        model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(o) for o in outputs)
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        # the graph may have extra channels of zeros
        signs = {o: (v > 0)[tuple(map(slice, self.values[o].shape))]
                 for o, v in zip(outputs, session.run(outputs, feeds))}
        return {o: s for o, s in signs.items() if (s != (self.values[inputs[o]].detach().numpy() > 0)).any()}


def compare(reference, net, end, diff):
    """Compare value and gradient at an end. Returns (the largest error, a remark if it is too large or needs a word).

    An error above the tolerance is accepted if it is a kink, where float32 rounds to the other side of 0 and agrees
    with float64 that goes to this side, too; or if PyTorch itself is not more exact in float32.
    """
    graph = convert.gradient_graph(net, end)
    session = onnxruntime.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])
    feeds = {"data": reference.picture, "end_diff": diff}
    found, gradient = session.run(["end_data", "data_diff"], feeds)
    expected = reference.gradient(end, diff)
    errors = error_of(found, reference.values[end].detach().numpy()), error_of(gradient, expected)
    if max(errors) <= TOLERANCE:
        return max(errors), None
    text = f"{end}: value {errors[0]:.1e}, gradient {errors[1]:.1e}"
    signs = reference.flipped(graph, feeds)
    if signs:
        error = error_of(gradient, reference.gradient(end, diff, signs=signs))
        if max(error, errors[0]) <= TOLERANCE:
            return max(error, errors[0]), (f"kink: {text}; float32 rounds to the other side of 0 at "
                                           f"'{next(iter(signs))}'; with float64 on this side {error:.1e}")
    eager = error_of(reference.gradient(end, diff, real=torch.float32), expected)
    if errors[1] <= 2 * eager:
        return max(errors), f"rounding: {text}; PyTorch itself in float32: {eager:.1e}"
    return max(errors), f"! {text}; PyTorch itself in float32: {eager:.1e}"


def command(words, folder, path):
    """Run a command of deepdream. Returns (whether its exit code is 0, what it printed last)."""
    output = Path(folder) / "out.png"
    output.unlink(missing_ok=True)
    printed = io.StringIO()
    with contextlib.redirect_stdout(printed), contextlib.redirect_stderr(printed):
        code = deepdream.cli.main([*words, "--model", str(path), "--mean", "0,0,0", "--scale", "0.02",
                                   "-o", str(output), "--threads", "1", "--seed", "1"])
    return code == 0 and output.exists(), printed.getvalue().strip().splitlines()[-1:]


def commands(path, facts, scores):
    """Dream one step at a size that fits, and show a class in one. Returns (remarks, columns of the table)."""
    remarks, columns = [], []
    with tempfile.TemporaryDirectory() as folder:
        os.environ["DEEPDREAM_CACHE"] = folder
        h, w = facts.data_shape[2:]
        runs = {"dream": ["dream", "--start", "noise", "--size", f"{w}x{h}", "--octave-n", "1"]}
        if scores:
            runs["class"] = ["class", "1"]
        for name, words in runs.items():
            good, last = command([*words, "--iter-n", "1"], folder, path)
            columns.append(f"{name} {'runs' if good else 'FAILS'}")
            remarks += [] if good else [f"! {name}: {' '.join(last)}"]
    return remarks, columns


def check(path, count):
    """Compare a net with PyTorch; print its line of the table. Returns whether all is well."""
    began, net = time.process_time(), onnx_net(path)
    prepared = time.process_time() - began
    facts, (scores, why) = convert.Facts.read(net), convert.classifier(net)
    _, c, h, w = facts.data_shape
    reference = Reference(path, np.float32(np.random.default_rng(3).standard_normal((1, c, h, w))))
    values = reference.values
    ends = [e for e in facts.ends if e != facts.data and e in values and values[e].requires_grad]
    taken = {i.name for i in reference.model.graph.input}
    lost = [k for k, v in values.items() if isinstance(v, torch.Tensor) and v.requires_grad and k not in taken
            and v.ndim in (2, 3, 4) and len(v) == 1 and k not in facts.ends]
    spread = [ends[int(i)] for i in np.linspace(0, len(ends) - 1, count)]
    worst, remarks = 0.0, []
    for end in dict.fromkeys(spread):
        error, remark = compare(reference, net, end, np.float32(
            np.random.default_rng(5).standard_normal(values[end].shape)))
        worst, remarks = max(worst, error), remarks + [remark] * bool(remark)
    if scores:
        one = np.zeros(values[scores].shape, np.float32)
        one[0, 1] = 1
        error, remark = compare(reference, net, scores, one)
        worst, remarks = max(worst, error), remarks + [remark] * bool(remark)
        output = values[reference.model.graph.output[0].name].detach()
        if min(error_of(s.numpy(), output.numpy()) for s in (values[scores].detach(),
                                                             values[scores].detach().softmax(1))) > TOLERANCE:
            remarks.append(f"! '{scores}' are not the scores of the output")
    failures, columns = commands(path, facts, scores)
    remarks += failures + [f"! lost: {name}: {facts.left_out.get(name)}" for name in lost[:3]]
    height, width, exact, step = convert.sizes_of(net, scores or ends[-1])
    size = f"{width}x{height}" if exact else f"from {width}x{height}" + f" in steps of {step[0]}" * (step != (1, 1))
    print(f"{Path(path).stem} | {len(ends)} | {len(lost)} | {worst:.1e} | {', '.join(columns)} | {size} | "
          f"{prepared:.0f} s{'' if scores else '; no scores: ' + why}", *remarks, sep="\n    ", flush=True)
    return not lost and not any(remark.startswith("!") for remark in remarks)


def main():
    what, *arguments = sys.argv[1:]
    if what == "export":
        warnings.filterwarnings("ignore")
        export(*arguments)
        return 0
    good = 0
    for path in arguments[1:]:
        try:
            good += check(path, int(arguments[0]))
        except Exception as error:      # the other nets are checked all the same
            text = " ".join(str(error).split())[:200]
            print(f"{Path(path).stem:44} failed: {type(error).__name__}: {text}", flush=True)
    print(f"{good} of {len(arguments) - 1} nets without a line that starts with ! and without lost ends")
    return good < len(arguments) - 1


if __name__ == "__main__":
    sys.exit(main())
