"""The height and width of values in a graph, as tensors, computed from those of the picture."""
from . import Tensor, attributes
from .windows import Window, has_fixed_pads

# operators whose output has the height and width of their first input
SAME_SIZE = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "BatchNormalization", "LRN", "Dropout", "Identity",
             "Abs", "Exp", "Log", "Softplus", "Clip"}
WINDOWED = {"Conv", "MaxPool", "AveragePool"}


class SpatialSizes:
    """`sizes(name)` is the size of a value (N, C, h, w), an int64 Tensor (h, w).

    It is computed from the picture's size wherever that can be done: to ask for a value's own shape would make a
    runtime that holds it in a layout of its own bring it back from there.

    graph: what is computed goes there. source: the `Source` of the net. names: {name in the net: name in the graph}.
    """

    def __init__(self, graph, source, names):
        self._graph, self._source, self._names, self._sizes = graph, source, names, {}

    def __call__(self, name):
        wanted, path = name, []        # of values, each of which has its size from the next
        while name not in self._sizes and self._follows_input(name):
            path.append(name)
            name = self._source.producer[name].input[0]
        if name not in self._sizes:
            self._sizes[name] = self._graph.shape(Tensor(self._graph, self._names[name]), start=2)
        for name in reversed(path):
            node = self._source.producer[name]
            self._sizes[name] = self._behind(node, self._sizes[node.input[0]])
        return self._sizes[wanted]

    def _follows_input(self, name):
        """Can the size of a value be computed from that of its node's first input?"""
        node, shape = self._source.producer.get(name), self._source.shape(name)
        if node is None or shape is None or len(shape) != 4:
            return False
        attr = attributes(node)
        return node.op_type in SAME_SIZE or node.op_type == "Concat" and attr["axis"] in (1, -3) \
            or node.op_type in WINDOWED and node.input[0] in self._source.moving and has_fixed_pads(attr)

    def _behind(self, node, size):
        """The size of the node's output. size: of its first input."""
        if node.op_type not in WINDOWED:
            return size
        g = self._graph
        window = Window.of(attributes(node), self._source.shape(node.input[1])[2:] if node.op_type == "Conv" else None)
        if max(window.stride) == 1:
            return g.op("Add", size, window.slack) if any(window.slack) else size
        return g.op("Add", g.op("Div", g.op("Add", size, [s - 1 for s in window.slack]), list(window.stride)), [1, 1])
