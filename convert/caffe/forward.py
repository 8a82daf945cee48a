"""A Caffe net as an ONNX forward graph, under Caffe's names."""
from dataclasses import replace
from pathlib import Path

import onnx

from ..onnx_nets.limits import check_shape
from ..errors import ConvertError, about, no_such_end, shown
from ..facts import End, Facts, Write
from ..graph import Graph, Tensor, float_info
from .layers import DATA_LAYERS, DROPPED, LAYERS, SUPPORTED, Layer, bottoms_allowed
from .reader import read_caffemodel, read_prototxt
from ..refusals import refusals
from ..graph.source import Source
from .surgery import Surgery

REACH = 1 << 31        # pixels of the input that one pixel of a blob stands for


def to_onnx(prototxt, caffemodel, end=None, mean=None, channel_swap=None, surgery=False):
    """Convert a Caffe net.

    prototxt, caffemodel: paths of the deploy.prototxt and of the weights. end: convert only what leads to this blob;
    None converts all, leaving out what lies behind an unsupported layer. mean: (B, G, R) and channel_swap: recorded
    for those who prepare pictures; the graph itself takes what Caffe's data blob takes. surgery: make each
    InnerProduct a convolution with the same numbers, so that the net runs at any size (see `surgery`).

    Returns a ModelProto: input `data` (N, C, H, W) float32, H and W dynamic; every tensor named as its blob, a layer
    that works in place names its own result. Metadata: `ends` (JSON: name -> channels, stride), `left_out` (JSON:
    blob -> the unsupported layer before it), `data_shape`, `mean`, `channel_swap`, `converter`.
    Raises ConvertError for files that are not Caffe's, missing or misshapen weights, an unsupported layer on the way,
    a net that surgery is impossible on.
    """
    net = read_prototxt(prototxt, LAYERS)
    weights = read_caffemodel(caffemodel)
    return convert_net(net, weights, (str(prototxt), str(caffemodel)), end, mean, channel_swap, surgery)


def convert_net(net, weights, source=("prototxt", "caffemodel"), end=None, mean=None, channel_swap=None,
                surgery=False):
    """As `to_onnx`, from a NetParameter in V2 form and {layer name: [arrays]}."""
    with about(*source):
        return _converted(net, weights, source, end, mean, channel_swap, surgery)


def _converted(net, weights, source, end, mean, channel_swap, surgery):
    build = _Build(net, weights, source, Surgery() if surgery else None)
    wanted = None if end is None else build.leading_to(end)
    for i, layer in enumerate(net.layer):
        if wanted is None or i in wanted:
            build.add(layer)
    if end is not None and end not in build.ends:
        raise build.bad_end(end)
    if not build.inputs:
        raise ConvertError(f"{source[0]}: no input: neither an Input layer nor `input:` fields nor a data layer")
    if not build.graph.nodes:
        first = next(iter(build.left_out.values()), "no layer at all")
        raise ConvertError(f"{source[0]}: nothing can be converted: the net starts with {first}; supported: "
                           + ", ".join(SUPPORTED))
    return build.model(Path(source[0]).stem if end is None else end, end, mean, channel_swap)


class _Build:
    def __init__(self, net, weights, source, surgery):
        self.net, self.weights, self.source, self.surgery = net, weights, source, surgery
        self.graph = Graph(reserved={n for l in net.layer for n in (l.name, *l.top)},
                           weights=sum(blob.size for blobs in weights.values() for blob in blobs))
        self.blobs, self.left_out, self.inputs, self.ends = {}, {}, {}, {}
        self.shapes, self.strides, self.writes = {}, {}, []

    def leading_to(self, end):
        """Places of the layers on the way to a blob, up to the layer of that name."""
        names = [l.name for l in self.net.layer]
        if end not in names or end not in self.net.layer[names.index(end)].top:
            raise self.bad_end(end, [l.name for l in self.net.layer if l.name in l.top])
        need, wanted = set(), set()
        for i, layer in reversed(list(enumerate(self.net.layer[:names.index(end) + 1]))):
            if layer.name == end or need & set(layer.top):
                wanted.add(i)
                need |= set(layer.bottom)
        return wanted

    def bad_end(self, end, valid=None):
        if end in self.left_out:
            return ConvertError(f"{self.source[0]}: {self.left_out[end]} is not supported, and '{shown(end)}' needs "
                                f"it; supported: {', '.join(SUPPORTED)}")
        return no_such_end(end, valid if valid is not None else list(self.ends))

    def add(self, layer):
        kind = layer.type
        if kind in DROPPED:
            return
        if kind == "Input" or kind in DATA_LAYERS:
            return self.add_input(layer)
        missing = [b for b in layer.bottom if b not in self.blobs]
        unknown = [b for b in missing if b not in self.left_out]
        if unknown:
            raise self.error(layer, f"its bottom '{shown(unknown[0])}' is no layer's top before it")
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
        least, most = bottoms_allowed(kind)
        if not least <= len(bottoms) <= most:
            raise context.error(f"takes {least} bottom{'s' * (least > 1)}{' or more' * (most > least)}, "
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
        for i, top in enumerate(layer.top[:1] if layer.type != "Input" else layer.top):
            shape = self.input_shape(layer, i)
            if not shape:
                raise self.error(layer, "its input shape is not given; a deploy.prototxt has "
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
        if layer.type == "Input":
            shapes = layer.input_param.shape
            return tuple(shapes[min(i, len(shapes) - 1)].dim) if shapes else None
        message = DATA_LAYERS[layer.type]
        crop = layer.transform_param.crop_size or getattr(getattr(layer, message), "crop_size", 0) if message else 0
        return (1, 3, crop, crop) if crop else None

    def place(self, layer, top, tensor, shape, stride):
        """Name a result: as its blob, or as its layer where the layer works in place."""
        same = [b for b in layer.bottom if self.blobs[b].name == tensor.name]
        in_place = top in layer.bottom
        if same and in_place:        # Dropout in place: nothing to compute, nothing to name
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
        """How many pixels of the input one pixel of the tops stands for, (h, w)."""
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
        if not all(1 / REACH < t < REACH for t in total):
            raise ConvertError(f"{self.source[0]}: the strides up to '{shown(bottoms[0].name)}' and behind it multiply "
                               f"to more than {REACH:,}")
        return total

    @staticmethod
    def describe(shape, stride):
        return End(shape[1] if len(shape) > 1 else 1, stride and tuple(stride))

    def model(self, name, end, mean, channel_swap):
        inputs = [float_info(n, ["N", s[1], "H", "W"] if len(s) == 4 else ["N", *s[1:]])
                  for n, s in self.inputs.items()]
        read = {i for n in self.graph.nodes for i in n.input}
        outputs = [end] if end else [t.name for t in self.blobs.values()
                                     if t.name not in read and t.name not in self.inputs]
        if outputs and outputs[0] in self.inputs:   # the end is the input itself
            outputs = [self.graph.op("Identity", Tensor(self.graph, outputs[0])).name]
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
        model = onnx.shape_inference.infer_shapes(model)
        refused = {e: why for e, why in refusals(Source(model)).items() if e in self.ends}
        if refused:
            replace(facts, ends={e: end for e, end in self.ends.items() if e not in refused},
                    left_out=self.left_out | refused).write(model)
        return model
