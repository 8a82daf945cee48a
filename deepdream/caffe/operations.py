"""What Caffe computes in one layer, forward and backward, on the memory of its blobs.

Layers that only move numbers are written with NumPy; the others run as an ONNX graph of that layer alone, or of its
gradient, made from the tables of `convert`.
"""
import math

import numpy as np

from ..convert.caffe import caffe_pb2 as pb
from ..convert.caffe.layers import LAYERS, bottoms_allowed
from ..convert.errors import ConvertError, about
from ..convert.graph import Graph
from ..errors import DreamError
from .blob import Parameter
from .layer_graphs import backward_graph, forward_graph, value_graph
from .net_layers import INPUTS, Filled


class Operation:
    """One layer with its blobs.

    layer: the NetLayer. bottoms, tops: its Blobs.
    net: the executor, which has `run(key, build, feeds, outputs, h, w)`, `drop(name)` and `source`.
    arrays: the weights from the caffemodel.
    """
    def __init__(self, layer, bottoms, net, arrays):
        self.layer, self.bottoms, self.net, self.tops = layer, bottoms, net, []
        self.declared = [b.shape for b in bottoms]
        self.params, self.saved, self._seen = [], None, []
        self.shapes = self._declared(arrays)
        self._shapes = {tuple(self.declared): self.shapes}

    # ---- shapes

    @property
    def title(self):
        return f"layer '{self.layer.name}' ({self.layer.kind})"

    def convert(self, graph, shapes, arrays):
        """Write the layer's nodes into a graph. Returns [(Tensor, shape)], one for each top."""
        context = Filled(graph, self.layer.proto, shapes, arrays, self.net.source)
        with about(f"{self.net.source[0]}: {self.title}"):
            results = LAYERS[self.layer.kind](context, *(graph.tensor(f"x{i}") for i in range(len(shapes))))
        results = results if isinstance(results, list) else [results]
        return [r if isinstance(r, tuple) else (r, context.shape) for r in results]

    def _declared(self, arrays):
        """The tops' shapes at the declared input, which is also when missing weights are filled."""
        least, most = bottoms_allowed(self.layer.kind)
        if not least <= len(self.bottoms) <= most:
            raise ConvertError(f"{self.net.source[0]}: {self.title}: takes {least} bottom{'s' * (least > 1)}"
                               f"{' or more' * (most > least)}, not {len(self.bottoms)}")
        arrays = list(arrays)
        shapes = self._checked(self.convert(Graph(), [b.shape for b in self.bottoms], arrays))
        self.params = [Parameter(array) for array in arrays]
        return shapes

    def _checked(self, results):
        shapes = [tuple(int(d) for d in shape) for _, shape in results]
        if len(shapes) != len(self.layer.tops):
            raise ConvertError(f"{self.net.source[0]}: {self.title}: has {len(self.layer.tops)} tops where "
                               f"{len(shapes)} are allowed")
        if any(min(shape, default=1) < 1 for shape in shapes):
            raise DreamError(f"{self.net.source[0]}: {self.title}: data of shape {self.net.data_shape} is too small "
                             "for it")
        return shapes

    def reshape(self):
        """Give the tops the shapes that follow from the bottoms' (Caffe: Layer::Reshape)."""
        key = tuple(b.shape for b in self.bottoms)
        if key not in self._shapes:
            try:
                self._shapes[key] = self._checked(self.convert(Graph(), list(key), [p.peek() for p in self.params]))
            except ConvertError:
                raise DreamError(f"{self.net.source[0]}: {self.title}: cannot take a bottom of shape {key[0]}, which "
                                 f"follows from data of shape {self.net.data_shape}; it needs the size that the "
                                 "prototxt declares") from None
        for top, shape in zip(self.tops, self._shapes[key]):
            if top.shape != shape:
                top.reshape(shape)

    # ---- running

    @property
    def in_place(self):
        return any(top is bottom for top in self.tops for bottom in self.bottoms)

    def weights(self):
        """The weights as arrays. Graphs made with older numbers are dropped."""
        arrays = [p.peek() for p in self.params]
        if any(p.exposed for p in self.params):
            if len(self._seen) != len(arrays) or not all(map(np.array_equal, self._seen, arrays)):
                self._seen = [array.copy() for array in arrays]
                self.net.drop(self.layer.name)
        return arrays

    def run(self, way, build, feeds, outputs):
        self.weights()
        shape = self.net.data_shape
        self.net.run((self.layer.name, way), build, feeds, outputs, *(shape[2:] if len(shape) == 4 else (0, 0)))

    def forward(self):
        """Compute the tops' data from the bottoms'."""
        feeds = {f"x{i}": b.data for i, b in enumerate(self.bottoms)}
        outputs = {f"y{i}": t.data for i, t in enumerate(self.tops)}
        if self.in_place:
            self.saved = {name: x.copy() for name, x in feeds.items()}
            feeds = self.saved
        self.run("forward", lambda: forward_graph(self), feeds, outputs)

    def backward(self):
        """Compute the bottoms' diffs from the tops'."""
        if len(self.bottoms) != 1 or len(self.tops) != 1:
            raise DreamError(f"{self.net.source[0]}: {self.title}: no gradient is computed through this layer with "
                             f"{len(self.bottoms)} bottoms and {len(self.tops)} tops")
        x, dy, dx = self.bottoms[0].data, self.tops[0].diff, self.bottoms[0].diff
        if self.in_place:
            x, dy = self.saved["x0"] if self.saved else x, dy.copy()
            x = x if x.shape == dx.shape else self.bottoms[0].data
        self.run("backward", lambda: backward_graph(self), {"data": x, "end_diff": dy}, {"data_diff": dx})


class Input(Operation):
    """A layer that holds what the caller puts into it."""

    def _declared(self, arrays):
        return []

    def reshape(self):
        pass

    def forward(self):
        pass

    def backward(self):
        pass


class Unsupported(Input):
    """A layer that cannot be run."""

    def forward(self):
        raise DreamError(f"{self.net.source[0]}: {self.title} is not supported, and this pass needs it; end the pass "
                         f"before it. Supported: {', '.join(sorted(LAYERS))}")

    reshape = backward = forward


class Split(Operation):
    """Copies of a blob: the data is shared, the diffs are added up (Caffe: split_layer.cpp)."""

    def _declared(self, arrays):
        return [self.bottoms[0].shape] * len(self.layer.tops)

    def reshape(self):
        for top in self.tops:
            top.reshape(self.bottoms[0].shape)

    def forward(self):
        for top in self.tops:
            top.memory.share(self.bottoms[0].memory)

    def backward(self):
        total, (first, *others) = self.bottoms[0].diff, [top.diff for top in self.tops]
        if not others:
            total[...] = first
            return
        np.add(first, others[0], out=total)
        for diff in others[1:]:
            total += diff


class Same(Split):
    """Dropout in phase TEST."""

    def forward(self):
        if not self.in_place:
            self.tops[0].data[...] = self.bottoms[0].data

    def backward(self):
        if not self.in_place:
            self.bottoms[0].diff[...] = self.tops[0].diff


class Flatten(Operation):
    """The same numbers in another shape (Caffe: flatten_layer.cpp)."""

    def forward(self):
        self.tops[0].memory.share(self.bottoms[0].memory)

    def backward(self):
        self.bottoms[0].diff_memory.share(self.tops[0].diff_memory)


class Reshape(Operation):
    """The same numbers in another shape (Caffe: reshape_layer.cpp)."""

    def reshape(self):
        super().reshape()
        self.tops[0].memory.share(self.bottoms[0].memory)
        self.tops[0].diff_memory.share(self.bottoms[0].diff_memory)

    def forward(self):
        pass

    def backward(self):
        pass


class ReLU(Split):
    """Caffe: relu_layer.cpp. In place, the sign of the result stands for that of the input."""

    def forward(self):
        x, y, slope = self.bottoms[0].data, self.tops[0].data, self.layer.proto.relu_param.negative_slope
        if slope:
            y[...] = np.where(x > 0, x, x * np.float32(slope))
        else:
            np.maximum(x, 0, out=y)

    def backward(self):
        x, dy, slope = self.bottoms[0].data, self.tops[0].diff, self.layer.proto.relu_param.negative_slope
        if slope:
            self.bottoms[0].diff[...] = np.where(x > 0, dy, dy * np.float32(slope))
        else:
            np.multiply(dy, (x > 0).astype(np.float32), out=self.bottoms[0].diff)


class Concat(Operation):
    """Caffe: concat_layer.cpp."""

    def _parts(self, whole, parts):
        p = self.layer.proto.concat_param
        axis = p.concat_dim if p.HasField("concat_dim") else p.axis
        return _cut(whole, axis, [part.shape[axis] for part in parts])

    def forward(self):
        for piece, bottom in zip(self._parts(self.tops[0].data, self.bottoms), self.bottoms):
            piece[...] = bottom.data

    def backward(self):
        for piece, bottom in zip(self._parts(self.tops[0].diff, self.bottoms), self.bottoms):
            bottom.diff[...] = piece


class Slice(Operation):
    """Caffe: slice_layer.cpp."""

    def _parts(self, whole):
        p = self.layer.proto.slice_param
        axis = p.slice_dim if p.HasField("slice_dim") else p.axis
        return _cut(whole, axis, [top.shape[axis] for top in self.tops])

    def forward(self):
        for piece, top in zip(self._parts(self.bottoms[0].data), self.tops):
            top.data[...] = piece

    def backward(self):
        for piece, top in zip(self._parts(self.bottoms[0].diff), self.tops):
            piece[...] = top.diff


def _cut(whole, axis, sizes):
    """Views of an array, one after the other along an axis."""
    return np.split(whole, np.cumsum(sizes)[:-1], axis)


class Eltwise(Operation):
    """Caffe: eltwise_layer.cpp."""

    def backward(self):
        p, dy = self.layer.proto.eltwise_param, self.tops[0].diff
        values = [b.data for b in self.bottoms]
        if p.operation == pb.EltwiseParameter.SUM:
            gradients = [dy * np.float32(k) for k in p.coeff or [1] * len(values)]
        elif p.operation == pb.EltwiseParameter.PROD:
            gradients = [dy * math.prod(values[:i] + values[i + 1:]) for i in range(len(values))]
        else:
            first, best = np.zeros(dy.shape, np.int64), values[0]      # the second wins a tie, those after it do not
            for i, value in enumerate(values[1:], 1):
                wins = value >= best if i == 1 else value > best
                first, best = np.where(wins, i, first), np.maximum(best, value)
            gradients = [dy * (first == i) for i in range(len(values))]
        for bottom, gradient in zip(self.bottoms, gradients):
            bottom.diff[...] = gradient


class Softmax(Operation):
    """Caffe: softmax_layer.cpp, whose gradient is computed from the scores that the forward pass left."""

    def forward(self):
        axis, x = self.layer.proto.softmax_param.axis, self.bottoms[0].data
        e = np.exp(x - x.max(axis, keepdims=True))
        np.divide(e, e.sum(axis, keepdims=True), out=self.tops[0].data)

    def backward(self):
        axis, y, dy = self.layer.proto.softmax_param.axis, self.tops[0].data, self.tops[0].diff
        self.bottoms[0].diff[...] = (dy - (dy * y).sum(axis, keepdims=True)) * y


class LRN(Operation):
    """Caffe: lrn_layer.cpp."""

    def forward(self):
        self.run("forward", lambda: value_graph(self), {"data": self.bottoms[0].data}, {"end_data": self.tops[0].data})


class GlobalMaxPooling(Operation):
    """Max pooling over all of the picture."""

    def backward(self):
        (n, c), dx = self.bottoms[0].shape[:2], self.bottoms[0].diff
        first = self.bottoms[0].data.reshape(n, c, -1).argmax(2)
        dx[...] = 0
        np.put_along_axis(dx.reshape(n, c, -1), first[..., None], self.tops[0].diff.reshape(n, c, 1), 2)


_KINDS = {"Split": Split, "Dropout": Same, "Flatten": Flatten, "Reshape": Reshape, "Softmax": Softmax, "ReLU": ReLU,
          "Concat": Concat, "Slice": Slice, "Eltwise": Eltwise, "LRN": LRN}


def operation_of(layer):
    """Choose the class for a layer."""
    if layer.kind in INPUTS:
        return Input
    if layer.kind not in LAYERS:
        return Unsupported
    p = layer.proto.pooling_param
    if layer.kind == "Pooling" and p.pool == p.MAX and p.global_pooling:
        return GlobalMaxPooling
    return _KINDS.get(layer.kind, Operation)
