"""What goes into the page: for each net, the step graphs of its layers, and one file with the weights of all."""
from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import onnx

from .. import convert
from ..convert.errors import about
from ..convert.graph.small import small
from ..engine.graphs import step_graph
from ..engine.step import Step
from ..goals.objectives import objective_L2
from ..provenance import pixels_of

if TYPE_CHECKING:
    from ..net import Net

WEIGHTS = "weights"      # the name of the file with the weights, in the graphs
EXTERNAL = 1024          # bytes of a weight that is stored in that file


class Contents(NamedTuple):
    """What the page needs of the nets.

    nets: a description of each net, of plain values, for the page.
    files: {name: contents}, to which the descriptions refer.
    """
    nets: list[dict]
    files: dict[str, bytes]


def contents(nets: dict[str, Net], chosen: dict[str, list[str]], half: bool = False, plain: bool = False,
             on_layer: Callable[[str, str], None] = lambda net, end: None) -> Contents:
    """Build the step graphs of the nets.

    nets: {name: Net}.
    chosen: {name: the layers to dream at}.
    half: store the weights in half precision.
    plain: add a second graph of each layer, of plain derivatives, for WebGPU.
    on_layer: called with the net and the layer before each graph is built.

    Raises ConvertError for a layer that has no gradient.
    """
    described, files = [], {}
    for i, (name, net) in enumerate(nets.items()):
        weights, ends = Weights(), {}
        for j, end in enumerate(chosen[name]):
            on_layer(name, end)
            ends[end] = {}
            for kind in ("graph", *["plain"] * plain):
                graph = small(graph_of(net, end, fast=kind == "graph"), half)
                facts = {p.key: p.value for p in graph.metadata_props}
                ends[end] |= {kind: f"net{i}-{kind}{j}.bin", "min": json.loads(facts["min_size"])}
                weights.move(graph)
                files[ends[end][kind]] = graph.SerializeToString()
        files[f"net{i}-weights.bin"] = weights.data()
        described.append(_description(name, net, f"net{i}-weights.bin", ends))
    return Contents(described, files)


def graph_of(net: Net, end: str, fast: bool = True) -> onnx.ModelProto:
    """Build the step graph of a layer, with the notebook's objective, for pictures of any size.

    fast: use the fast forms of derivatives (see `convert.gradient_graph`). WebGPU computes that of a strided maximum
        wrongly (onnxruntime-web 1.30), and the plain ones rightly.
    """
    with about(net.prototxt):
        gradient = convert.gradient_graph(net.files.proto, end, fast, align=False)      # which is no faster here
    return step_graph(gradient, Step(objective_L2.at(end)), net.programs.bias)


def _description(name, net, weights, ends):
    data = net.inputs[0]
    card = getattr(net.card, "card", None)      # of a net with Caffe's files; that of an .onnx file has no `dreams`
    return {"name": name, "title": net.card.title if net.card else "", "dreams": card.dreams if card else "",
            "licence": card.licence if card else "", "checksum": net.checksum,
            "mean": net.transformer.mean[data].ravel().tolist(), "swap": list(net.transformer.channel_swap[data]),
            "pixels": pixels_of(net), "weights": weights, "ends": ends}


class Weights:
    """The file with the weights of several graphs, each stored once."""

    def __init__(self):
        self._pieces, self._places, self._size = [], {}, 0

    def move(self, graph: onnx.ModelProto) -> None:
        """Move the large initializers of a graph to the file, so that only references to it stay in the graph."""
        for tensor in graph.graph.initializer:
            data = onnx.numpy_helper.to_array(tensor).tobytes()
            if len(data) < EXTERNAL:
                continue
            offset = self._place(data)
            kept = onnx.TensorProto(name=tensor.name, data_type=tensor.data_type, dims=tensor.dims,
                                    data_location=onnx.TensorProto.EXTERNAL)
            for key, value in {"location": WEIGHTS, "offset": offset, "length": len(data)}.items():
                kept.external_data.add(key=key, value=str(value))
            tensor.CopyFrom(kept)

    def _place(self, data):
        digest = hashlib.sha256(data).digest()
        if digest not in self._places:
            self._places[digest] = self._size
            self._pieces.append(data)
            self._size += len(data)
        return self._places[digest]

    def data(self) -> bytes:
        """Return the contents of the file."""
        return b"".join(self._pieces)
