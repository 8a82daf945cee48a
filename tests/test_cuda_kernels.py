"""Every node of the graphs for CUDA has a kernel in onnxruntime's CUDA provider. No GPU is needed.

`data/cuda_kernels.json` lists the kernels, from onnxruntime-gpu 1.31.1. A node without one would run on the CPU, with
copies to the host and back in each step.
"""
import json

import numpy as np
import onnx
import pytest
import toys
from caffe_answers import DATA
from deepdream.convert.graph import attributes
from onnx import TensorProto, defs, parser
from test_cuda import KINDS
from toys import concat, conv, lrn, net, pool, product, relu, softmax

from deepdream import Net, convert
from deepdream.engine.graphs import step_graph
from deepdream.engine.step import Step

KERNELS = json.loads((DATA / "cuda_kernels.json").read_text())["kernels"]
LETTERS = {TensorProto.FLOAT: "f", TensorProto.FLOAT16: "h", TensorProto.DOUBLE: "d", TensorProto.INT64: "l",
           TensorProto.INT32: "i", TensorProto.BOOL: "b", TensorProto.UINT8: "u"}


def uneven_pads(node):
    attr = attributes(node)
    pads = attr.get("pads", [])
    n = len(pads) // 2
    return pads[:n] != pads[n:] or attr.get("auto_pad", b"NOTSET") != b"NOTSET"


# what onnxruntime 1.31.1 was seen to place on the CPU although there is a kernel
RESTRICTIONS = {"ConvTranspose": uneven_pads}


def without_kernel(model):
    """List the nodes of a model that would not run on CUDA: (operator, its version, types of its tensors).

    Nodes that compute sizes, integers of at most one axis, belong on the host and do not count.
    """
    inferred = onnx.shape_inference.infer_shapes(model, data_prop=True)
    infos = {i.name: i.type.tensor_type for g in [inferred.graph] for i in (*g.input, *g.value_info, *g.output)}
    kinds = {name: info.elem_type for name, info in infos.items()} \
        | {t.name: t.data_type for t in model.graph.initializer}
    opset = next(o.version for o in model.opset_import if o.domain in ("", "ai.onnx"))
    found = []
    for node in model.graph.node:
        if all(kinds[o] == TensorProto.INT64 and len(infos[o].shape.dim) <= 1 for o in node.output if o):
            continue
        schema = defs.get_schema(node.op_type, opset, node.domain)
        types = constrained_types(node, schema, kinds)
        rows = KERNELS.get(node.op_type, [])
        if not any(first <= schema.since_version <= (last or first)
                   and all(types.get(name, kind) in kind for name, kind in allowed.items())
                   for first, last, allowed in rows) or RESTRICTIONS.get(node.op_type, lambda _: False)(node):
            found.append((node.op_type, schema.since_version, types))
    return found


def constrained_types(node, schema, kinds):
    """Return {type constraint of the schema: the letter of the type that the node has there}."""
    types = {}
    for names, formal in ((node.input, schema.inputs), (node.output, schema.outputs)):
        for i, name in enumerate(names):
            if name:      # the last parameter may stand for any number of tensors
                types[formal[min(i, len(formal) - 1)].type_str] = LETTERS.get(kinds[name], "?")
    return types


SMALL = dict(shape=(1, 3, 13, 15))
FIRST = conv("a", "data", 16, 3, pad=1) + relu("a")
NETS = {
    "maxima and LRN": net(FIRST, lrn("n", "a"), pool("y", "n"), **SMALL),
    "maxima in place": net(FIRST, pool("y", "a", k=5, s=1, pad=1), **SMALL),
    "LRN of what may be negative": net(conv("a", "data", 8), lrn("n", "a"), conv("y", "n", 3), **SMALL),
    "wide strides": net(conv("a", "data", 8, 5, stride=3, pad=1), pool("y", "a", k=5, s=2), shape=(1, 3, 49, 45)),
    "averages": net(FIRST, pool("p", "a", "AVE"), pool("y", "p", "AVE", 3, 1, pad=1), **SMALL),
    "inception": net(FIRST, conv("b", "a", 5), relu("b"), pool("p", "a", s=1, pad=1), concat("j", "b", "p"),
                     pool("y", "j"), **SMALL),
    "groups and dilations": net(conv("a", "data", 6, 3, pad=2, dilation=2), relu("a"),
                                conv("y", "a", 8, 5, pad=2, stride=2, group=2), **SMALL),
    "a classifier": net(FIRST, pool("p", "a", "AVE", 13, 1), product("f", "p", 5), softmax("y", "f"),
                        shape=(1, 3, 13, 13)),
}


@pytest.mark.parametrize("device", ["cuda", "cuda-fast"])
@pytest.mark.parametrize("name", NETS)
def test_gradient_graphs_have_kernels(name, device):
    assert without_kernel(convert.gradient_graph(toys.convert(NETS[name]), "y", device=device)) == []


@pytest.fixture(scope="module")
def dreamer(googlenet):
    return Net(googlenet, device="cpu")


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("end", ["inception_3b/5x5_reduce", "inception_4c/output"])
def test_step_graphs_have_kernels(dreamer, end, kind):
    make, priors = KINDS[kind]
    channels = dreamer.ends[end].channels
    step = Step(make(np.ones((channels, 5, 5), np.float32)).at(end), priors=priors)
    ends = step.ends[0] if len(step.ends) == 1 else step.ends
    for device in ("cuda", "cuda-fast"):
        graph = convert.gradient_graph(dreamer.model, ends, device=device)
        assert without_kernel(step_graph(graph, step, np.asarray(dreamer.programs.bias))) == []


def test_forms_for_cuda_avoid_what_is_slow_there(dreamer):
    """No convolutions of each channel by itself, no uneven pads of convolutions, no other layouts."""
    graph = convert.gradient_graph(dreamer.model, "inception_4c/output", device="cuda").graph
    convolutions = [n for n in graph.node if n.op_type == "Conv"]
    assert len(convolutions) > 60 and not [n.name for n in convolutions if attributes(n).get("group", 1) > 1]
    assert not [n.name for n in convolutions if uneven_pads(n)]
    assert not {n.op_type for n in graph.node} & {"Transpose", "HardSigmoid", "ConvTranspose"}


def test_a_missing_kernel_is_found():
    """MaxPool of opset 22 has none, nor have uneven pads of a transposed convolution, nor integers in a convolution."""
    def found(text, opset=17, kind="float"):
        return [op for op, _, _ in without_kernel(parser.parse_model(
            f'<ir_version: 9, opset_import: ["" : {opset}]> g ({kind}[1, 8, 9, 9] x, {kind}[8, 8, 3, 3] w) '
            f'=> ({kind}[N, C, H, W] y) {{ {text} }}'))]

    assert found("y = MaxPool<kernel_shape = [3, 3]>(x)", 22) == ["MaxPool"]
    assert found("y = MaxPool<kernel_shape = [3, 3]>(x)", 21) == []
    assert found("y = ConvTranspose<pads = [0, 0, 1, 1]>(x, w)") == ["ConvTranspose"]
    assert found("y = ConvTranspose<pads = [1, 1, 1, 1]>(x, w)") == []
    assert found("y = Add(x, x)", kind="uint16") == ["Add"]
