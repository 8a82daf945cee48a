"""Round channel counts up to whole blocks, with channels that are always zero.

On the CPU, onnxruntime computes a convolution in its fast blocked layout only if the channels come in whole blocks. A
layer inside a net that has 24 or 63 channels therefore gets 32 or 64: additional filters of zeros produce channels of
zeros, which the next convolution multiplies by zeros. Only the speed changes.
"""
from __future__ import annotations

import numpy as np
import onnx
from onnx import numpy_helper

from ..graph import attributes
from ..graph.source import Source

BLOCK = 16          # the block of AVX-512, a multiple of AVX2's 8
# operators that keep channels of zeros
_KEEP_ZEROS = {"Relu", "LeakyRelu", "MaxPool", "AveragePool", "LRN", "Identity", "Dropout"}


def align_channels(source: Source, ends: set[str]) -> onnx.ModelProto | None:
    """Give the layers of a net whole blocks of channels, wherever the ends stay unchanged.

    source: the net.
    ends: the names of tensors that must not change.

    Returns a model of the nodes that lead to the ends, or None if there is nothing to do.
    """
    nodes = source.leading_to(*ends)
    plan = _Plan(source, ends, nodes)
    layouts, weights, aligned = {}, {}, []     # layouts: {tensor: (position of each real channel, number of channels)}
    for node in nodes:
        if node.op_type == "Concat":
            _join(source, node, layouts)
        elif node.op_type in _KEEP_ZEROS and node.input[0] in layouts:
            layouts[node.output[0]] = layouts[node.input[0]]
        elif node.op_type == "Conv" and plan.is_plain(node):
            node = _fill(source, node, layouts, weights, plan.may_fill(node.output[0]))
        aligned.append(node)
    if not weights:
        return None
    old = {name: tensor for name, tensor in source.initializers.items()}
    used = dict.fromkeys(i for n in aligned for i in n.input)      # a dict, for the same order every time
    constants = [old[k] for k in used if k in old] + [numpy_helper.from_array(v, k) for k, v in weights.items()]
    graph = onnx.helper.make_graph(aligned, source.graph.name, [source.input],
                                   [onnx.helper.make_tensor_value_info(e, onnx.TensorProto.FLOAT, source.shape(e))
                                    for e in sorted(ends - {source.input.name})],
                                   constants)
    model = onnx.helper.make_model(graph, opset_imports=source.model.opset_import, ir_version=source.model.ir_version)
    onnx.helper.set_model_props(model, {p.key: p.value for p in source.model.metadata_props})
    return model


class _Plan:
    """The tensors that may have channels of zeros: those that reach nothing but convolutions."""

    def __init__(self, source, ends, nodes):
        self.source, self.ends, self.consumers, self.known = source, ends, {}, {}
        for node in nodes:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        for node in reversed(nodes):       # from the end, since the recursion would be too deep for the first node
            for name in node.output:
                self.may_fill(name), self.may_fill(name, True)

    def may_fill(self, name, joined=False):
        """May a tensor have channels of zeros? joined: after a Concat, with zeros between real channels."""
        key = name, joined
        if key not in self.known:
            readers = self.consumers.get(name, ())
            self.known[key] = name not in self.ends and all(self._absorbs(n, joined) for n in readers)
        return self.known[key]

    def _absorbs(self, node, joined):
        if node.op_type == "Conv":
            return self.is_plain(node)
        if node.op_type == "Concat":
            return attributes(node)["axis"] == 1 and self.may_fill(node.output[0], True)
        if node.op_type == "LRN" and joined:     # its window would span the zeros
            return False
        return node.op_type in _KEEP_ZEROS and self.may_fill(node.output[0], joined)

    def is_plain(self, node):
        """Is it a 2-D convolution of the data, with constant weights and one group?"""
        weights = self.source.value(node.input[1])
        return weights is not None and weights.ndim == 4 and attributes(node).get("group", 1) == 1 \
            and node.input[0] in self.source.depends_on_input


def _fill(source, node, layouts, weights, may_fill):
    """Add filters of zeros to a convolution, and zeros to its weights for the added channels of its input."""
    w = source.value(node.input[1])
    b = source.value(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    count = -(-len(w) // BLOCK) * BLOCK if may_fill else len(w)
    positions, inputs = layouts.get(node.input[0], (np.arange(w.shape[1]), w.shape[1]))
    if count == len(w) and inputs == w.shape[1]:
        return node
    filled = np.zeros((count, inputs, *w.shape[2:]), w.dtype)
    filled[:len(w), positions] = w
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
    """Note the positions of the real channels after a Concat."""
    if not any(i in layouts for i in node.input):
        return
    positions, total = [], 0
    for name in node.input:
        position, count = layouts.get(name) or (np.arange(source.shape(name)[1]), source.shape(name)[1])
        positions.append(position + total)
        total += count
    layouts[node.output[0]] = np.concatenate(positions), total
