"""Runs a Caffe net layer by layer on blobs that stay in place, as Caffe does (Caffe: net.cpp).

`Net::Backward` runs *every* layer from `start` down to the data, whether `start` depends on it or not, and no diff is
ever cleared. A branch next to `start` therefore passes on what its diff still holds from an earlier pass; an in-place
ReLU masks that diff again each time. Where a blob has several readers, Caffe inserts a Split layer, which adds up the
diffs of all its copies, those of readers after `start` included. And a reshaped blob keeps its memory while that is
large enough, so that old numbers turn up in other places. (Caffe: net.cpp, insert_splits.cpp, split_layer.cpp,
blob.cpp.)
"""
from collections import OrderedDict

import numpy as np

from ..convert.errors import ConvertError, shown
from ..convert.onnx_nets.limits import check_shape
from ..engine.session import Session
from .blob import Blob
from .net_layers import INPUTS, input_shape, with_splits
from .operations import Unsupported, operation_of


class Executor:
    """The layers of a net with their blobs and weights.

    net: a NetParameter in V2 form, in phase TEST.
    weights: {layer: [arrays]}; what is missing is filled as the layer's fillers say.
    source: the names of the prototxt and of the caffemodel, for errors.
    device: a function that returns the Device to run on.
    threads: of the CPU; all cores if None.
    replace: a function of (layer, shapes of its bottoms, weights) that returns (layer, weights) to use instead.
    """

    def __init__(self, net, weights, source, device, threads=None, replace=None):
        self.source, self.device, self.threads = source, device, threads
        self.blobs, self.operations, self.inputs = OrderedDict(), [], []
        self._sessions, self._bindings, self._on = {}, {}, None
        for layer in with_splits(net):
            bottoms = self._bottoms(layer)
            arrays = weights.get(layer.name, [])
            if replace and bottoms is not None:
                layer, arrays = replace(layer, [b.shape for b in bottoms], arrays)
            self._add(layer, bottoms, arrays)
        if not self.inputs:
            raise ConvertError(f"{source[0]}: no input: neither an Input layer nor `input:` fields nor a data layer")
        self.data = self.blobs["data" if "data" in self.inputs else self.inputs[0]]
        self.positions = {operation.layer.name: i for i, operation in enumerate(self.operations)}

    # ---- making it

    def _bottoms(self, layer):
        """The blobs that a layer reads; None where one of them is made by a layer that is not supported."""
        if layer.kind in INPUTS:
            return []
        unsupported = {top for o in self.operations if isinstance(o, Unsupported) for top in o.layer.tops}
        for bottom in layer.bottoms:
            if bottom not in self.blobs and bottom not in unsupported:
                raise ConvertError(f"{self.source[0]}: layer '{shown(layer.name)}' ({shown(layer.kind)}): its bottom "
                                   f"'{shown(bottom)}' is no layer's top before it")
        return [self.blobs[b] for b in layer.bottoms] if unsupported.isdisjoint(layer.bottoms) else None

    def _add(self, layer, bottoms, arrays):
        kind = Unsupported if bottoms is None else operation_of(layer)
        operation = kind(layer, bottoms or [], self, arrays)
        self.operations.append(operation)
        if kind is Unsupported:
            return
        shapes = operation.shapes or self._input_shapes(layer)
        for top, shape in zip(layer.tops, shapes):
            data = next(iter(self.blobs.values())).shape if self.blobs else None
            check_shape(shape, f"{self.source[0]}: {operation.title}: its top", data)
            if top not in self.blobs:
                self.blobs[top] = Blob(top, shape)
            elif self.blobs[top].shape != tuple(shape):
                self.blobs[top].reshape(shape)
        operation.tops = [self.blobs[top] for top in layer.tops if top in self.blobs]
        operation.reshape()
        for i, weight in layer.losses.items():
            operation.tops[i].diff[...] = weight

    def _input_shapes(self, layer):
        shapes = [input_shape(layer, i) for i in range(len(layer.tops))]
        if shapes and shapes[0] is None:
            raise ConvertError(f"{self.source[0]}: layer '{shown(layer.name)}' ({layer.kind}): its input shape is not "
                               "given; a deploy.prototxt has `input_param { shape { dim: ... } }`")
        shapes = [shape for shape in shapes if shape]
        if any(min(shape, default=1) < 1 for shape in shapes):
            raise ConvertError(f"{self.source[0]}: layer '{shown(layer.name)}' ({layer.kind}): its input shape is "
                               f"{shapes[0]}; sizes of 1 and more are allowed")
        self.inputs += layer.tops[:len(shapes)]
        return shapes

    # ---- passes

    @property
    def data_shape(self):
        return self.data.shape

    def forward(self, first: int, last: int, before=(), after=()):
        """Run the layers from number `first` to number `last`. before, after: functions of each layer's number."""
        for i in range(first, last + 1):
            for hook in before:
                hook(i)
            self.operations[i].reshape()
            self.operations[i].forward()
            for hook in after:
                hook(i)

    def backward(self, first: int, last: int, before=(), after=()):
        """Run the layers from number `first` down to number `last`, on the diffs as they are."""
        for i in range(first, last - 1, -1):
            for hook in before:
                hook(i)
            self.operations[i].backward()
            for hook in after:
                hook(i)

    def reshape(self):
        """Give all blobs the shapes that follow from the inputs'."""
        for operation in self.operations:
            operation.reshape()

    # ---- graphs

    def run(self, key, build, feeds: dict, outputs: dict, h: int, w: int):
        """Run a graph of one layer on arrays.

        key: (layer, way).
        build: makes the serialized graph.
        feeds, outputs: {name: array}.
        h, w: the size of the data, for errors.
        """
        session = self._session(key, build)
        feeds = {name: np.ascontiguousarray(x) for name, x in feeds.items() if name in session.inputs}
        if session.device.is_cuda:
            for array, value in zip(outputs.values(), session.run(list(outputs), feeds)):
                array[...] = value
            return
        arrays = (*feeds.values(), *outputs.values())
        places = [(a.ctypes.data, a.shape) for a in arrays]
        known, binding = self._bindings.get(key, (None, None))
        if known != places:
            binding = session.binding()
            for name, a in feeds.items():
                binding.bind_input(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
            for name, a in outputs.items():
                binding.bind_output(name, "cpu", 0, a.dtype.type, a.shape, a.ctypes.data)
            self._bindings[key] = places, binding
        session.run_bound(binding, None, h, w)

    def drop(self, layer: str):
        """Forget the graphs of a layer."""
        for known in (self._bindings, self._sessions):
            for key in [key for key in known if key[0] == layer]:
                del known[key]

    def _session(self, key, build):
        device = self.device()
        if device is not self._on:
            device.announce()
            self._sessions, self._bindings, self._on = {}, {}, device
        if key not in self._sessions:
            session = Session(device.session(build(), self.threads, name=self.source[0], spin=False), device)
            self._sessions[key] = session
        return self._sessions[key]
