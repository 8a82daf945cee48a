"""Compute the height and width of tensors from those of the picture, inside a graph."""
from __future__ import annotations

from collections.abc import Mapping

from . import Graph, Tensor, attributes
from .source import Source
from .windows import Window, has_fixed_pads

# operators whose output has the height and width of their first input
SAME_SIZE = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "BatchNormalization", "LRN", "Dropout", "Identity",
             "Abs", "Exp", "Log", "Softplus", "Clip"}
WINDOWED = {"Conv", "MaxPool", "AveragePool"}


class SpatialSizes:
    """The spatial sizes of a net's tensors: `sizes(name)` returns the size (h, w) of a tensor (N, C, h, w).

    A size is computed from that of the picture wherever possible. A Shape node at the tensor itself would force a
    runtime to convert it from the blocked layout in which it may be stored.

    graph: the graph to which the nodes are added.
    source: the net.
    names: {name in the net: name in the graph}.
    """

    def __init__(self, graph: Graph, source: Source, names: Mapping[str, str]):
        self._graph, self._source, self._names, self._sizes = graph, source, names, {}

    def __call__(self, name: str) -> Tensor:
        """Return the size of a tensor of the net, an int64 Tensor (h, w)."""
        wanted, path = name, []        # path: tensors whose size follows from that of the next one
        while name not in self._sizes and self._follows_input(name):
            path.append(name)
            name = self._source.producer[name].input[0]
        if name not in self._sizes:
            self._sizes[name] = self._graph.shape(Tensor(self._graph, self._names[name]), start=2)
        for name in reversed(path):
            node = self._source.producer[name]
            self._sizes[name] = self._output_size(node, self._sizes[node.input[0]])
        return self._sizes[wanted]

    def _follows_input(self, name):
        """Does the size of a tensor follow from that of the first input of its node?"""
        node, shape = self._source.producer.get(name), self._source.shape(name)
        if node is None or shape is None or len(shape) != 4:
            return False
        attr = attributes(node)
        return node.op_type in SAME_SIZE or node.op_type == "Concat" and attr["axis"] in (1, -3) \
            or node.op_type in WINDOWED and node.input[0] in self._source.depends_on_input and has_fixed_pads(attr)

    def _output_size(self, node, size):
        """Return the size of a node's output. size: that of its first input."""
        if node.op_type not in WINDOWED:
            return size
        g = self._graph
        window = Window.of(attributes(node), self._source.shape(node.input[1])[2:] if node.op_type == "Conv" else None)
        if max(window.stride) == 1:
            return g.op("Add", size, window.slack) if any(window.slack) else size
        return g.op("Add", g.op("Div", g.op("Add", size, [s - 1 for s in window.slack]), list(window.stride)), [1, 1])
