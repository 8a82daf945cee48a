"""Filling up channel counts to whole blocks, by channels that are always zero.

On the CPU onnxruntime runs a convolution in its fast blocked layout only if the channels come in whole blocks. A layer
of 24 or 63 channels inside a net can be given 32 or 64: filters of zeros make channels of zeros, which the next
convolution multiplies by zeros. Nothing that is computed changes but its speed.
"""
import numpy as np
import onnx
from onnx import numpy_helper

from ..graph import attributes

BLOCK = 16          # of AVX-512; whole blocks of it are whole blocks of AVX2's 8
# operators through which channels of zeros stay what they are
_THROUGH = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "LRN", "Identity", "Dropout"}


def align_channels(source, ends):
    """The model with whole blocks of channels wherever that cannot be seen at the `ends`, a set of names.

    source: the model as `gradient` reads it (nodes, constants, shapes). Returns a ModelProto of what leads to the ends,
    or None if there is nothing to fill up.
    """
    nodes = source.leading_to(*ends)
    plan = _Plan(source, ends, nodes)
    layouts, weights, aligned = {}, {}, []     # layouts: {tensor: (where each real channel stands, how many there are)}
    for node in nodes:
        if node.op_type == "Concat":
            _join(source, node, layouts)
        elif node.op_type in _THROUGH and node.input[0] in layouts:
            layouts[node.output[0]] = layouts[node.input[0]]
        elif node.op_type == "Conv" and plan.plain(node):
            node = _fill(source, node, layouts, weights, plan.may_fill(node.output[0]))
        aligned.append(node)
    if not weights:
        return None
    old = {name: tensor for name, tensor in source.initializers.items()}
    used = dict.fromkeys(i for n in aligned for i in n.input)      # in order: the same file every time
    constants = [old[k] for k in used if k in old] + [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = onnx.helper.make_graph(aligned, source.graph.name, [source.input],
                                   [onnx.helper.make_tensor_value_info(e, onnx.TensorProto.FLOAT, source.shape(e))
                                    for e in sorted(ends - {source.input.name})],
                                   constants)
    model = onnx.helper.make_model(graph, opset_imports=source.model.opset_import, ir_version=source.model.ir_version)
    onnx.helper.set_model_props(model, {p.key: p.value for p in source.model.metadata_props})
    return model


class _Plan:
    """Which tensors may carry channels of zeros: those that only ever reach convolutions."""

    def __init__(self, source, ends, nodes):
        self.source, self.ends, self.consumers, self.known = source, ends, {}, {}
        for node in nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        for node in reversed(nodes):       # from the ends on: nets are too deep to ask for the first at once
            for name in node.output:
                self.may_fill(name), self.may_fill(name, True)

    def may_fill(self, name, joined=False):
        """joined: behind a Concat, where zeros may stand between two real channels."""
        key = name, joined
        if key not in self.known:
            readers = self.consumers.get(name, ())
            self.known[key] = name not in self.ends and all(self._absorbs(n, joined) for n in readers)
        return self.known[key]

    def _absorbs(self, node, joined):
        if node.op_type == "Conv":
            return self.plain(node)
        if node.op_type == "Concat":
            return attributes(node)["axis"] == 1 and self.may_fill(node.output[0], True)
        if node.op_type == "LRN" and joined:     # its window would reach over the gap
            return False
        return node.op_type in _THROUGH and self.may_fill(node.output[0], joined)

    def plain(self, node):
        """Is it a 2-D convolution of one group, with constant weights, on the data's side?"""
        weights = self.source.value(node.input[1])
        return weights is not None and weights.ndim == 4 and attributes(node).get("group", 1) == 1 \
            and node.input[0] in self.source.moving


def _fill(source, node, layouts, weights, may_fill):
    """The convolution with filters of zeros added to make whole blocks, and blind to the zeros that come in."""
    w = source.value(node.input[1])
    b = source.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    count = -(-len(w) // BLOCK) * BLOCK if may_fill else len(w)
    places, inputs = layouts.get(node.input[0], (np.arange(w.shape[1]), w.shape[1]))
    if count == len(w) and inputs == w.shape[1]:
        return node
    filled = np.zeros((count, inputs, *w.shape[2:]), w.dtype)
    filled[:len(w), places] = w
    layouts[node.output[0]] = np.arange(len(w)), count
    new = onnx.NodeProto()
    new.CopyFrom(node)
    new.input[1] = f"{node.output[0]}/aligned weights"
    weights[new.input[1]] = filled
    if b is not None:
        new.input[2] = f"{node.output[0]}/aligned bias"
        weights[new.input[2]] = np.concatenate([b, np.zeros(count - len(b), b.dtype)])
    return new


def _join(source, node, layouts):
    """Where the channels of a Concat of filled tensors stand."""
    if not any(i in layouts for i in node.input):
        return
    places, total = [], 0
    for name in node.input:
        place, count = layouts.get(name) or (np.arange(source.shape(name)[1]), source.shape(name)[1])
        places.append(place + total)
        total += count
    layouts[node.output[0]] = np.concatenate(places), total
