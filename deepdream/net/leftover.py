"""The passes of Net(..., leftover_diffs=True), in which diffs are never cleared, as in Caffe.

See `deepdream.caffe.executor` for what Caffe does. It makes no difference on a net that has only dreamt at one `end`
without siblings.
"""
from __future__ import annotations

import math
from collections import OrderedDict

import numpy as np

from ..caffe.executor import Executor
from ..caffe.net_layers import NetLayer
from ..convert.caffe import caffe_pb2 as pb
from ..convert.caffe.layers import LAYERS
from ..convert.caffe.reader import read_caffemodel, read_prototxt


class Leftover:
    """The blobs and the passes of a net whose diffs are kept.

    net: the net, of Caffe's files, with its facts and its device.

    Attributes:
    executor: the `deepdream.caffe.executor.Executor` that runs the layers.
    blobs: {name: Blob}, those that the net lists.
    """

    def __init__(self, net):
        programs = net.programs      # not the net itself: a circle would keep all its blobs in memory after its end
        self.executor = Executor(read_prototxt(net.prototxt, LAYERS), read_caffemodel(net.caffemodel),
                                 (str(net.prototxt), str(net.caffemodel)), lambda: programs.device, net.threads,
                                 Surgery() if net.files.arguments["surgery"] else None)
        self.blobs = OrderedDict((name, self.executor.blobs[name]) for name in net.blobs if name in self.executor.blobs)

    def forward(self, end: str) -> None:
        """Run all layers up to the layer `end`."""
        self.executor.forward(0, self.executor.positions[end])

    def backward(self, start: str) -> None:
        """Run all layers from the layer `start` down to the data, on the diffs as they are."""
        self.executor.backward(self.executor.positions[start], 0)


class Surgery:
    """Net surgery for an Executor: each InnerProduct becomes a convolution. (`convert.to_onnx` has checked the net.)"""

    def __init__(self):
        self._maps = set()      # blobs that are maps of scores

    def __call__(self, layer: NetLayer, shapes: list, weights: list) -> tuple[NetLayer, list]:
        """Return the layer to run instead, and its weights."""
        on_map = not self._maps.isdisjoint(layer.bottoms)
        if layer.kind == "InnerProduct":
            layer, weights = _as_convolution(layer, shapes[0], weights)
        elif layer.kind == "Flatten" and on_map:
            layer.kind = "Dropout"      # the identity
        if on_map or layer.kind == "Convolution" and layer.proto.HasField("inner_product_param"):
            self._maps.update(layer.tops)
        return layer, weights


def _as_convolution(layer, shape, weights):
    p, (_, *volume) = layer.proto.inner_product_param, shape
    proto = pb.LayerParameter()
    proto.CopyFrom(layer.proto)
    proto.type = layer.kind = "Convolution"
    proto.convolution_param.num_output, proto.convolution_param.bias_term = p.num_output, p.bias_term
    proto.convolution_param.kernel_h, proto.convolution_param.kernel_w = volume[1:]
    layer.proto = proto
    if weights:
        flat = weights[0].reshape((math.prod(volume), -1) if p.transpose else (-1, math.prod(volume)))
        kernel = np.ascontiguousarray(flat.T if p.transpose else flat).reshape(-1, *volume)
        weights = [kernel, *weights[1:]]
    return layer, weights
