"""Net surgery: turn each InnerProduct into a convolution with the same weights.

A classifier then runs at any picture size. At the declared input shape, the kernel covers its whole bottom, like the
InnerProduct. On a larger picture it slides, and produces a map of class scores. (Caffe: examples/net_surgery.ipynb,
bvlc_caffenet_full_conv.prototxt.)
"""
from __future__ import annotations

from typing import Any

from ..graph import Tensor
from . import caffe_pb2 as pb
from .layers import LAYERS, Layer, product_blobs


class Surgery:
    """The state of net surgery during a conversion.

    maps: the names of the tensors that are maps of scores, (N, C, h, w), where Caffe's blob is (N, C).
    reshaped: {tensor: the Flatten or Reshape before it, which mixed the positions of its values}.
    """

    def __init__(self):
        self.maps, self.reshaped = set(), {}

    def convert(self, layer: Layer, *bottoms: Tensor) -> Any:
        """Convert a layer, like its entry in `LAYERS`. Raises ConvertError if net surgery is impossible."""
        kind, maps = layer.proto.type, [b.name in self.maps for b in bottoms]
        if any(maps) and not all(maps):
            raise layer.error("net surgery makes a map of scores of its bottom "
                              f"'{layer.proto.bottom[maps.index(True)]}', but not of "
                              f"'{layer.proto.bottom[maps.index(False)]}'")
        if maps[0]:
            layer.rank = 2
            if kind == "Flatten" and layer.axis(layer.proto.flatten_param.axis) == 1:
                return bottoms[0]        # the identity in Caffe, where (N, C) is flat
            if kind in ("Flatten", "Reshape"):
                raise layer.error("cannot follow an InnerProduct under net surgery: it would mix the positions of the "
                                  "map")
        if kind != "InnerProduct":
            return LAYERS[kind](layer, *bottoms)
        if bottoms[0].name in self.reshaped:
            raise layer.error(f"net surgery is not possible after {self.reshaped[bottoms[0].name]}")
        return inner_product(layer, *bottoms)

    def note(self, layer: pb.LayerParameter, bottoms: list[str], tops: list[tuple[str, tuple[int, ...]]]) -> None:
        """Update the state after a layer was converted.

        layer: the layer.
        bottoms: the names of its bottoms' tensors.
        tops: (name of the tensor, nominal shape) for each top.
        """
        reshaped = [self.reshaped[b] for b in bottoms if b in self.reshaped]
        if layer.type in ("Flatten", "Reshape") and bottoms[0] not in self.maps:
            reshaped = [f"layer '{layer.name}' ({layer.type})"]
        for name, shape in tops:
            if reshaped:
                self.reshaped[name] = reshaped[0]
            if len(shape) == 4 and (layer.type == "InnerProduct" or bottoms[0] in self.maps):
                self.maps.add(name)


def inner_product(layer: Layer, x: Tensor) -> tuple[Tensor, tuple[int, ...]]:
    """Build the convolution that, at the declared input shape, computes the same as the InnerProduct."""
    p = layer.proto.inner_product_param
    if layer.axis(p.axis) != 1:
        raise layer.error(f"net surgery needs axis 1, not {p.axis}")
    if len(layer.shape) != 4:
        raise layer.error(f"net surgery needs a bottom of 4 axes (N, C, H, W), not {layer.shape}")
    batch, *volume = layer.shape
    weights, bias = product_blobs(layer, 1)
    weights = (weights.T if p.transpose else weights).reshape(p.num_output, *volume)
    y = layer.g.op("Conv", x, layer.constant(weights, "weights"), bias, kernel_shape=volume[1:])
    return y, (batch, p.num_output, 1, 1)
