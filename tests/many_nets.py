"""Look at many real classifiers: print how many ends each has, and compare gradients with PyTorch's in float64.

    python tests/many_nets.py export tests/many_nets.txt FOLDER      write the nets of the list as .onnx files
    python tests/many_nets.py check 5 FOLDER/*.onnx                  compare the gradients at 5 ends of each, and at the
                                                                     scores of the classes

Needs torch, torchvision and timm. Weights are random; nothing is downloaded. A line of the list is like
`timm:NAME:SIDE old`: the library (tv for torchvision), the net, the size of the picture, and the exporter (old is
TorchScript, new is dynamo). `:s` after the size tells the net its size, which vision transformers need. The reference
is the .onnx file itself, run by PyTorch (torch_runner.py). A line that starts with ! reports an error above 1e-5: a
wrong derivative, or a kink.
"""
import sys
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


def check(path, count):
    """Compare a net with PyTorch; print its line of the table. Returns whether all is well."""
    began, net = time.time(), onnx_net(path)
    facts, (scores, why) = convert.Facts.read(net), convert.classifier(net)
    _, c, h, w = facts.data_shape
    picture = np.float32(np.random.default_rng(3).standard_normal((1, c, h, w)))
    values, x = torch_runner.run(onnx.load(path), picture)
    ends = [e for e in facts.ends if e != facts.data and e in values and values[e].requires_grad]
    lost = [k for k, v in values.items() if isinstance(v, torch.Tensor) and v.requires_grad and v is not x
            and v.ndim in (2, 3, 4) and len(v) == 1 and k not in facts.ends]
    spread = [ends[int(i)] for i in np.linspace(0, len(ends) - 1, count)]
    chosen = dict.fromkeys([*spread, *[scores] * (scores in ends)])
    worst, problems = 0.0, []
    for end in chosen:
        value = values[end]
        diff = np.float32(np.random.default_rng(5).standard_normal(value.shape))
        expected, = torch.autograd.grad(value, x, torch.tensor(np.float64(diff)), retain_graph=True)
        session = onnxruntime.InferenceSession(convert.gradient_graph(net, end).SerializeToString(),
                                               providers=["CPUExecutionProvider"])
        found, gradient = session.run(["end_data", "data_diff"], {"data": picture, "end_diff": diff})
        errors = error_of(found, value.detach().numpy()), error_of(gradient, expected.numpy())
        worst = max(worst, *errors)
        if max(errors) > TOLERANCE:
            problems.append(f"! {end} ({facts.ends[end].operator}): value {errors[0]:.1e}, gradient {errors[1]:.1e}")
    height, width, exact = convert.min_size(net, scores or ends[-1])
    print(f"{Path(path).stem:44} {len(ends):4} ends, {len(lost)} lost; {len(chosen)} compared, worst {worst:.1e}; "
          f"scores {scores or why}; size {'' if exact else 'from '}{width}x{height}; {time.time() - began:.0f} s",
          *problems, sep="\n    ", flush=True)
    return not problems and not lost


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
