"""Caffe's diffs as Caffe keeps them: never cleared, layer by layer backwards (Net(..., leftover_diffs=True)).

`Net::Backward` runs *every* layer from `start` down to the data, whether `start` depends on it or not. A branch beside
`start` thus passes on what its diff still holds from an earlier pass; an in-place ReLU masks that diff again, each
time. Where a blob has several readers, Caffe inserts a Split layer, which adds up the diffs of all its copies: those of
readers behind `start` too. And a reshaped blob keeps its memory as long as that is large enough, so that old numbers
turn up in other places. On a net that has only dreamt at one `end` without siblings, all of this makes no difference.

Correct, not fast: one small ONNX graph a layer. (Caffe: net.cpp, insert_splits.cpp, split_layer.cpp, blob.cpp Reshape.)
"""
import math
from dataclasses import dataclass, field

import numpy as np
import onnx
from onnx.utils import Extractor

from .. import convert
from ..convert.graph import sizes
from ..convert.caffe.layers import DATA_LAYERS, DROPPED, LAYERS
from ..convert.caffe.reader import read_prototxt
from ..engine.session import Session
from ..errors import DreamError


@dataclass
class _Layer:
    """bottoms, tops: whose diffs it reads and writes (blobs, or the copies of a split); reads, writes: tensors of the
    forward graph."""
    name: str
    kind: str
    bottoms: list
    tops: list
    reads: list = field(default_factory=list)
    writes: list = field(default_factory=list)
    proto: object = None


class Leftover:
    """The passes of a net whose diffs are kept. net: a `deepdream.net.Net`, as it is being made."""

    def __init__(self, net):
        self.net, self.layers = net, _layers(net)
        self.position = {layer.name: i for i, layer in enumerate(self.layers) if layer.kind != "split"}
        self.values, self.memory, self.sessions, self._extractor = {}, {}, {}, None
        # the memory that the net starts with: at the size that the prototxt declares
        declared = _shapes(net)
        for layer in self.layers:
            for diff, tensor in zip(layer.tops, layer.writes):
                self.diff(diff, declared[tensor])

    def diff(self, name, shape):
        """A blob's diff as an array of `shape`, on the memory that it has; on new, cleared memory if it needs more."""
        n = math.prod(shape)
        if n > len(self.memory.get(name, ())):
            self.memory[name] = np.zeros(n, np.float32)
        return self.memory[name][:n].reshape(shape)

    def forward(self, end):
        """Run all layers up to the layer `end`; {blob: its value}."""
        net, run = self.net, self.layers[:self.position[end] + 1]
        data = net.blobs[net.inputs[0]].data
        held = {b: t for layer in run if layer.kind != "split" for b, t in zip(layer.proto.top, layer.writes)}
        # what lies in place before its ReLU is not needed: the mask is the same after it
        needed = {t for layer in run if not _relu_in_place(layer) for t in layer.reads} | set(held.values())
        tensors = [t for t in dict.fromkeys(w for layer in run for w in layer.writes)
                   if t in needed and t != net.inputs[0]]
        self.values = dict(zip(tensors, net.run_forward(end, tensors, data))) if tensors else {}
        self.values[net.inputs[0]] = data
        for layer in run:
            for diff, tensor in zip(layer.tops, layer.writes):
                if tensor in self.values:
                    self.diff(diff, self.values[tensor].shape)
        return {b: self.values[t] for b, t in held.items()}

    def backward(self, start):
        """Run all layers from the layer `start` down to the data, on the diffs as they are."""
        for layer in self.layers[self.position[start]::-1]:
            if layer.bottoms:
                _BACKWARD.get(layer.kind, Leftover._any)(self, layer)

    # ---- layers

    def _shaped(self, name, tensor):
        return self.diff(name, self.values[tensor].shape)

    def _split(self, layer):
        total = self._shaped(layer.bottoms[0], layer.reads[0])
        copies = [self._shaped(top, layer.reads[0]) for top in layer.tops]
        total[...] = copies[0]
        for copy in copies[1:]:
            total += copy

    def _relu(self, layer):
        if layer.proto.relu_param.negative_slope:
            return self._any(layer)
        value = self.values[layer.writes[0]]
        np.multiply(self.diff(layer.tops[0], value.shape), value > 0, out=self.diff(layer.bottoms[0], value.shape))

    def _same(self, layer):
        if layer.bottoms[0] != layer.tops[0]:
            self._shaped(layer.bottoms[0], layer.reads[0])[...] = self._shaped(layer.tops[0], layer.reads[0])

    def _concat(self, layer):
        p = layer.proto.concat_param
        axis, begin = p.concat_dim if p.HasField("concat_dim") else p.axis, 0
        dy = self._shaped(layer.tops[0], layer.writes[0])
        for bottom, tensor in zip(layer.bottoms, layer.reads):
            dx = self._shaped(bottom, tensor)
            dx[...] = np.take(dy, range(begin, begin + dx.shape[axis]), axis)
            begin += dx.shape[axis]

    def _any(self, layer):
        """Any layer with one bottom and one top, by the gradient graph of that layer alone."""
        if len(layer.bottoms) != 1 or len(layer.tops) != 1:
            raise DreamError(f"leftover_diffs: layer '{layer.name}' ({layer.kind}) with {len(layer.bottoms)} bottoms "
                             f"and {len(layer.tops)} tops is not supported; make the net without leftover_diffs")
        if layer.name not in self.sessions:
            device, name = self.net.device, self.net.prototxt
            self.sessions[layer.name] = Session(device.session(self._graph(layer), self.net.threads, name=name), device)
        x, shape = self.values[layer.reads[0]], self._shape_of_top(layer)
        dx = self.sessions[layer.name].run(["data_diff"], {"data": x, "end_diff": self.diff(layer.tops[0], shape)})[0]
        self.diff(layer.bottoms[0], x.shape)[...] = dx

    def _shape_of_top(self, layer):
        tensor = layer.writes[0]
        if tensor not in self.values:      # before its ReLU: the shape is the same after it
            later = next(o for o in self.layers if tensor in o.reads and o.writes[0] in self.values)
            tensor = later.writes[0]
        return self.values[tensor].shape

    def _graph(self, layer):
        if self._extractor is None:
            self._extractor = Extractor(self.net.model)
        alone = self._extractor.extract_model(layer.reads, layer.writes)
        del alone.metadata_props[:]
        return convert.gradient_graph(alone, layer.writes[0]).SerializeToString()


_BACKWARD = {"split": Leftover._split, "ReLU": Leftover._relu, "Dropout": Leftover._same, "Split": Leftover._split,
             "Concat": Leftover._concat}


def _relu_in_place(layer):
    return layer.kind == "ReLU" and layer.bottoms == layer.tops and not layer.proto.relu_param.negative_slope


def _layers(net):
    """The net's layers in order, with Caffe's Split layers put in."""
    writes = {}
    for layer, blob, tensor in net.facts.writes:
        writes.setdefault(layer, {})[blob] = tensor
    layers, held, maker, readers = [], {}, {}, {}
    for proto in read_prototxt(net.prototxt, LAYERS).layer:
        if proto.type in DROPPED or proto.name not in writes:
            continue
        bottoms = [] if proto.type in DATA_LAYERS else list(proto.bottom)
        layer = _Layer(proto.name, proto.type, bottoms, list(proto.top), [held[b] for b in bottoms],
                       [writes[proto.name][t] for t in proto.top], proto)
        for i, b in enumerate(bottoms):
            readers.setdefault((maker[b], b), []).append((layer, i))
        layers.append(layer)
        for top, tensor in zip(layer.tops, layer.writes):
            held[top], maker[top] = tensor, len(layers) - 1
    found = []
    for i, layer in enumerate(layers):
        found.append(layer)
        for top, tensor in zip(list(dict.fromkeys(layer.proto.top)), layer.writes):
            several = readers.get((i, top), [])
            if len(several) > 1:
                copies = [f"{top}_{layer.name}_split_{k}" for k in range(len(several))]
                for (reader, k), copy in zip(several, copies):
                    reader.bottoms[k] = copy
                found.append(_Layer(f"{top}_{layer.name}_split", "split", [top], copies, [tensor],
                                    [tensor] * len(copies)))
    return found


def _shapes(net):
    """{tensor: shape} at the size that the prototxt declares."""
    light = sizes.without_weights(net.model)
    for info in light.graph.input:
        if info.name == net.inputs[0]:
            info.CopyFrom(onnx.helper.make_tensor_value_info(info.name, 1, net.facts.data_shape))
    graph = onnx.shape_inference.infer_shapes(light, data_prop=True).graph
    return {info.name: [d.dim_value for d in info.type.tensor_type.shape.dim]
            for info in [*graph.input, *graph.value_info, *graph.output]}
