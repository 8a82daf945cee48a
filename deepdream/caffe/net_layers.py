"""A net's layers in Caffe's order, with the Split layers that Caffe inserts, and the weights that fillers make."""
import math
from dataclasses import dataclass, field

import numpy as np

from ..convert.caffe import caffe_pb2 as pb
from ..convert.caffe.layers import DATA_LAYERS, DROPPED
from ..convert.caffe.layers import Layer as Conversion

INPUTS = {"Input", *DATA_LAYERS}


@dataclass
class NetLayer:
    """A layer of a net.

    name, kind, proto: from the prototxt.
    bottoms, tops: names of blobs; a blob with several readers is read through its copies.
    losses: {number of the top: its loss_weight}, where that is not 0.
    """
    name: str
    kind: str
    proto: pb.LayerParameter
    bottoms: list[str]
    tops: list[str]
    losses: dict[int, float] = field(default_factory=dict)


def with_splits(net: pb.NetParameter) -> list[NetLayer]:
    """List the layers, with a Split layer after each blob that has several readers (Caffe: insert_splits.cpp).

    A loss_weight counts as a reader of its blob. Layers that only measure (losses, Accuracy) are left out.
    """
    layers = [layer for layer in net.layer if layer.type not in DROPPED]
    maker, readers, reads = {}, {}, []
    for i, layer in enumerate(layers):
        reads.append([maker.get(bottom) for bottom in ([] if layer.type in INPUTS else layer.bottom)])
        for top in reads[-1]:
            readers[top] = readers.get(top, 0) + 1
        for j, top in enumerate(layer.top):
            maker[top] = (i, j)
            if _loss(layer, j):
                readers[i, j] = readers.get((i, j), 0) + 1
    found, used = [], {}
    for i, layer in enumerate(layers):
        bottoms = []
        for name, top in zip(layer.bottom, reads[i]):
            if top is not None and readers[top] > 1:
                bottoms.append(_copy_name(layers, top, used.setdefault(top, 0)))
                used[top] += 1
            else:
                bottoms.append(name)
        made = NetLayer(layer.name, layer.type, layer, bottoms, list(layer.top))
        found.append(made)
        for j, top in enumerate(layer.top):
            if readers.get((i, j), 0) > 1:
                found.append(_split(layers, (i, j), readers[i, j], _loss(layer, j)))
                used[i, j] = int(bool(_loss(layer, j)))
            elif _loss(layer, j):
                made.losses[j] = _loss(layer, j)
    return found


def _loss(layer, j):
    return layer.loss_weight[j] if j < len(layer.loss_weight) else 0


def _copy_name(layers, top, k):
    return f"{_split_name(layers, top)}_{k}"


def _split_name(layers, top):
    i, j = top
    return f"{layers[i].top[j]}_{layers[i].name}_{j}_split"


def _split(layers, top, copies, loss):
    name, blob = _split_name(layers, top), layers[top[0]].top[top[1]]
    tops = [_copy_name(layers, top, k) for k in range(copies)]
    return NetLayer(name, "Split", pb.LayerParameter(name=name, type="Split", bottom=[blob], top=tops), [blob], tops,
                    {0: loss} if loss else {})


def input_shape(layer: NetLayer, i: int) -> tuple[int, ...] | None:
    """Return the declared shape of an input layer's top; None if the prototxt does not give it."""
    if layer.kind == "Input":
        shapes = layer.proto.input_param.shape
        return tuple(shapes[min(i, len(shapes) - 1)].dim) if shapes else None
    message = DATA_LAYERS[layer.kind]
    crop = layer.proto.transform_param.crop_size \
        or message and getattr(getattr(layer.proto, message), "crop_size", 0) or 0
    return (1, 3, crop, crop) if crop and i == 0 else None


# ---- weights

random = np.random.RandomState()      # of the fillers; `caffe.set_random_seed` seeds it


class Filled(Conversion):
    """A layer while it is converted, whose missing weights are filled as its fillers say.

    blobs: its weights, which gain the missing ones.
    """

    def __init__(self, graph, proto, shapes, blobs, source):
        super().__init__(graph, proto, shapes, blobs, source)
        self.blobs = blobs

    def blob(self, i, shape, what):
        shape = tuple(int(d) for d in shape)
        if i >= len(self.blobs):
            self.blobs.append(_fill(self.proto, i, shape))
        array = super().blob(i, shape, what)
        self.blobs[i] = array
        return array


def _fill(layer, i, shape):
    """Weights as the filler of blob i makes them (Caffe: filler.hpp)."""
    return _FILLERS.get((filler := _filler(layer, i)).type, _constant)(filler, shape)


def _filler(layer, i):
    kind = layer.type
    if kind in ("Convolution", "Deconvolution", "InnerProduct"):
        p = layer.inner_product_param if kind == "InnerProduct" else layer.convolution_param
        return p.bias_filler if i else p.weight_filler
    if kind == "Scale":
        p = layer.scale_param
        return p.bias_filler if i else p.filler if p.HasField("filler") else pb.FillerParameter(value=1)
    if kind == "PReLU":
        p = layer.prelu_param
        return p.filler if p.HasField("filler") else pb.FillerParameter(value=0.25)
    return layer.bias_param.filler if kind == "Bias" else pb.FillerParameter()


def _constant(filler, shape):
    return np.full(shape, filler.value, np.float32)


def _fan(filler, shape):
    inputs, outputs = math.prod(shape[1:]), math.prod(shape) // (shape[1] if len(shape) > 1 else 1)
    return {filler.FAN_IN: inputs, filler.FAN_OUT: outputs}.get(filler.variance_norm, (inputs + outputs) / 2)


def _uniform(low, high, shape):
    return np.float32(random.uniform(low, high, shape))


def _xavier(filler, shape):
    limit = math.sqrt(3 / _fan(filler, shape))
    return _uniform(-limit, limit, shape)


def _bilinear(filler, shape):
    """The weights of a Deconvolution that scales up."""
    size = shape[-1]
    factor = (size + 1) // 2
    centre = (2 * factor - 1 - factor % 2) / (2 * factor)
    line = 1 - np.abs(np.arange(size) / factor - centre)
    return np.float32(np.broadcast_to(np.outer(line, line), shape))


_FILLERS = {
    "constant": _constant,
    "uniform": lambda filler, shape: _uniform(filler.min, filler.max, shape),
    "gaussian": lambda filler, shape: np.float32(random.normal(filler.mean, filler.std, shape)),
    "xavier": _xavier,
    "msra": lambda filler, shape: np.float32(random.normal(0, math.sqrt(2 / _fan(filler, shape)), shape)),
    "bilinear": _bilinear,
}
