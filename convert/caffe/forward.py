"""Convert a Caffe net to an ONNX forward graph, in which tensors have Caffe's names."""
from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx

from ..errors import ConvertError, about, shown
from ..facts import End, Facts, Write
from ..graph import Graph, float_info
from ..graph.inference import infer_shapes
from ..graph.source import Source
from ..onnx_nets.limits import check_shape
from ..refusals import refusals
from . import caffe_pb2 as pb
from .layers import DATA_LAYERS, DROPPED, LAYERS, SUPPORTED, Layer, bottoms_allowed
from .reader import read_caffemodel, read_prototxt
from .surgery import Surgery

MAX_STRIDE = 1 << 31        # input pixels for one pixel of a blob


def to_onnx(prototxt: str | os.PathLike, caffemodel: str | os.PathLike, mean: Sequence[float] | None = None,
            channel_swap: Sequence[int] | None = None, surgery: bool = False) -> onnx.ModelProto:
    """Convert a Caffe net to an ONNX forward graph.

    A layer of an unsupported type is left out, together with all layers that depend on it.

    prototxt: the path of the deploy.prototxt.
    caffemodel: the path of the weights.
    mean, channel_swap: how pictures are prepared, the mean as (B, G, R). They are only stored in the metadata: the
    input of the graph is that of Caffe's data blob.
    surgery: turn each InnerProduct into a convolution with the same weights, so that the net runs at any picture size
    (see `caffe.surgery`).

    Returns a ModelProto with the input `data`, float32 (N, C, H, W), where N, H and W are dynamic. Each tensor is named
    after its blob; the result of a layer that works in place is named after the layer. The metadata is described by
    `Facts`: `ends` (JSON: {name: its channels and stride}), `left_out` (JSON: {blob: the unsupported layer}),
    `data_shape`, `mean`, `channel_swap` and others.

    Raises ConvertError for files that are not Caffe's, for missing weights or weights of the wrong shape, if nothing
    can be converted, and for a net that does not allow net surgery.
    """
    net = read_prototxt(prototxt, LAYERS)
    weights = read_caffemodel(caffemodel)
    return convert_net(net, weights, (str(prototxt), str(caffemodel)), mean, channel_swap, surgery)


def convert_net(net: pb.NetParameter, weights: dict[str, list[np.ndarray]],
                source: Sequence[str] = ("prototxt", "caffemodel"), mean: Sequence[float] | None = None,
                channel_swap: Sequence[int] | None = None, surgery: bool = False) -> onnx.ModelProto:
    """Convert a Caffe net like `to_onnx`, from messages in memory.

    net: the net in the current format (V2).
    weights: {layer name: its blobs}.
    source: (name of the prototxt, name of the caffemodel), for error messages.
    mean, channel_swap, surgery: see `to_onnx`.
    """
    with about(*source):
        return _converted(net, weights, source, mean, channel_swap, surgery)


def _converted(net, weights, source, mean, channel_swap, surgery):
    build = _Build(net, weights, source, Surgery() if surgery else None)
    for layer in net.layer:
        build.add(layer)
    if not build.inputs:
        raise ConvertError(f"{source[0]}: no input: neither an Input layer nor `input:` fields nor a data layer")
    if not build.graph.nodes:
        first = next(iter(build.left_out.values()), "no layer at all")
        raise ConvertError(f"{source[0]}: nothing can be converted: the net starts with {first}; supported: "
                           + ", ".join(SUPPORTED))
    return build.model(Path(source[0]).stem, mean, channel_swap)


class _Build:
    """The construction of a forward graph.

    blobs: {blob: the Tensor that holds it now}. shapes, strides: {tensor: its nominal shape, its stride}.
    """

    def __init__(self, net, weights, source, surgery):
        self.net, self.weights, self.source, self.surgery = net, weights, source, surgery
        self.graph = Graph(reserved={n for l in net.layer for n in (l.name, *l.top)},
                           weights=sum(blob.size for blobs in weights.values() for blob in blobs))
        self.blobs, self.left_out, self.inputs, self.ends = {}, {}, {}, {}
        self.shapes, self.strides, self.writes = {}, {}, []

    def add(self, layer):
        """Convert a layer, or leave it out."""
        kind = layer.type
        if kind in DROPPED:
            return
        if kind == "Input" or kind in DATA_LAYERS:
            return self.add_input(layer)
        missing = [b for b in layer.bottom if b not in self.blobs]
        unknown = [b for b in missing if b not in self.left_out]
        if unknown:
            raise self.error(layer, f"its bottom '{shown(unknown[0])}' is not a top of any layer before it")
        if missing or kind not in LAYERS:
            reason = self.left_out[missing[0]] if missing \
                else f"layer '{shown(layer.name)}' of type {shown(kind) or 'unnamed'}"
            for top in layer.top:
                self.left_out[top] = self.left_out[layer.name] = reason
                self.blobs.pop(top, None)
            return
        bottoms = [self.blobs[b] for b in layer.bottom]
        context = Layer(self.graph, layer, [self.shapes[b.name] for b in bottoms],
                        self.weights.get(layer.name, []), self.source)
        if not bottoms:
            raise context.error("has no bottom")
        minimum, maximum = bottoms_allowed(kind)
        if not minimum <= len(bottoms) <= maximum:
            raise context.error(f"takes {minimum} bottom{'s' * (minimum > 1)}{' or more' * (maximum > minimum)}, "
                                f"not {len(bottoms)}")
        if not layer.top:
            raise context.error("has no top")
        first = len(self.graph.nodes)
        with about(context.title):
            results = (self.surgery.convert if self.surgery else LAYERS[kind])(context, *bottoms)
        results = results if isinstance(results, list) else [results]
        if len(results) != len(layer.top):
            raise context.error(f"has {len(layer.top)} tops where {len(results)} are allowed")
        stride = self.stride(bottoms, first)
        for top, result in zip(layer.top, results):
            tensor, shape = result if isinstance(result, tuple) else (result, context.shape)
            if min(shape, default=1) < 1:
                raise context.error(f"its top would have the shape {tuple(shape)}: the declared input is too small")
            check_shape(shape, f"{context.title}: its top", next(iter(self.inputs.values())))
            self.place(layer, top, tensor, tuple(shape), stride if len(shape) == 4 else None)
        if self.surgery:
            tops = [self.blobs[top].name for top in layer.top]
            self.surgery.note(layer, [b.name for b in bottoms], [(t, self.shapes[t]) for t in tops])

    def add_input(self, layer):
        """Make an Input or data layer an input of the graph."""
        for i, top in enumerate(layer.top[:1] if layer.type != "Input" else layer.top):
            shape = self.input_shape(layer, i)
            if not shape:
                raise self.error(layer, "its input shape is missing; a deploy.prototxt has "
                                        "`input_param { shape { dim: ... } }`")
            if min(shape) < 1:
                raise self.error(layer, f"its input shape is {shape}; sizes of 1 and more are allowed")
            check_shape(shape, f"layer '{shown(layer.name)}' ({layer.type}): its input")
            tensor = self.graph.tensor(top)
            self.inputs[top] = shape
            self.blobs[top], self.shapes[top], self.strides[top] = tensor, shape, (1, 1)
            self.writes.append(Write(layer.name, top, top))
            if layer.name == top:
                self.ends[top] = self.describe(shape, (1, 1))

    def error(self, layer, message):
        return ConvertError(f"{self.source[0]}: layer '{shown(layer.name)}' ({shown(layer.type)}): {message}")

    def input_shape(self, layer, i):
        """Return the declared shape of top i of an input layer; None if there is none."""
        if layer.type == "Input":
            shapes = layer.input_param.shape
            return tuple(shapes[min(i, len(shapes) - 1)].dim) if shapes else None
        message = DATA_LAYERS[layer.type]
        crop = layer.transform_param.crop_size or getattr(getattr(layer, message), "crop_size", 0) if message else 0
        return (1, 3, crop, crop) if crop else None

    def place(self, layer, top, tensor, shape, stride):
        """Name a result after its blob, or after its layer if that works in place, and make it the blob's tensor."""
        same = [b for b in layer.bottom if self.blobs[b].name == tensor.name]
        in_place = top in layer.bottom
        if same and in_place:        # Dropout in place: the blob's tensor stays
            self.writes.append(Write(layer.name, top, tensor.name))
            return
        if same:
            tensor = self.graph.op("Identity", tensor)
        name = layer.name if in_place or top in self.blobs else top
        tensor = self.graph.rename(tensor, name)
        self.blobs[top], self.shapes[tensor.name], self.strides[tensor.name] = tensor, shape, stride
        self.writes.append(Write(layer.name, top, tensor.name))
        if layer.name == top and not in_place and tensor.name == top:
            self.ends[top] = self.describe(shape, stride)

    def stride(self, bottoms, first):
        """Return the stride (h, w) of a layer's tops in input pixels. first: the number of its first node."""
        total = self.strides[bottoms[0].name]
        if total is None:
            return None
        layer_op = {"Conv": 1, "MaxPool": 1, "AveragePool": 1, "ConvTranspose": -1}
        for node in self.graph.nodes[first:]:
            sign = layer_op.get(node.op_type)
            if node.op_type.startswith("Global"):
                return None
            if sign and bottoms[0].name in node.input:
                step = next((tuple(a.ints) for a in node.attribute if a.name == "strides"), (1, 1))
                total = tuple(t * s if sign > 0 else t / s for t, s in zip(total, step))
        if not all(1 / MAX_STRIDE < t < MAX_STRIDE for t in total):
            raise ConvertError(f"{self.source[0]}: the strides up to '{shown(bottoms[0].name)}' and after it multiply "
                               f"to more than {MAX_STRIDE:,}")
        return total

    @staticmethod
    def describe(shape, stride):
        return End(shape[1] if len(shape) > 1 else 1, stride and tuple(stride))

    def model(self, name, mean, channel_swap):
        """Return the finished ModelProto, without the ends that have no gradient."""
        inputs = [float_info(n, ["N", s[1], "H", "W"] if len(s) == 4 else ["N", *s[1:]])
                  for n, s in self.inputs.items()]
        read = {i for n in self.graph.nodes for i in n.input}
        outputs = [t.name for t in self.blobs.values() if t.name not in read and t.name not in self.inputs]
        data = "data" if "data" in self.inputs else next(iter(self.inputs))
        bottoms = {b for l in self.net.layer for b in l.bottom}
        lost = {t: l.type for l in self.net.layer for t in l.top if t in self.left_out and t not in bottoms}
        outputs = [float_info(o, [None] * len(self.shapes[o]) if o in self.shapes else None)
                   for o in dict.fromkeys(outputs)]
        facts = Facts(data, tuple(self.inputs[data]), self.ends, tuple(self.writes), self.left_out, lost,
                      mean=None if mean is None else tuple(map(float, mean)),
                      channel_swap=None if channel_swap is None else tuple(map(int, channel_swap)))
        model = self.graph.model(name, inputs, outputs)
        facts.write(model)
        model = infer_shapes(model)
        refused = {e: why for e, why in refusals(Source(model)).items() if e in self.ends}
        if refused:
            replace(facts, ends={e: end for e, end in self.ends.items() if e not in refused},
                    left_out=self.left_out | refused).write(model)
        return model
