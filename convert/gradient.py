"""The gradient of one or several ends of an ONNX model by its input, as an ONNX graph: Caffe's partial backward."""
import json

import numpy as np
import onnx

from .align import align_channels
from .errors import ConvertError, about, no_such_end, shown
from .facts import End, Facts
from .graph import Graph, Tensor, attributes, float_info, kind, metadata, told
from .node import Node
from .portable import unambiguous_pads
from .refusals import refusals
from .sizes import smallest_size
from .source import Source
from .symbolic import symbolic_shapes
from .vjps import FORWARD, MASK_KEEPERS, VJPS, input_gradients

# operators whose output has the height and width of their first input
SAME_SIZE = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "BatchNormalization", "LRN", "Dropout", "Identity",
             "Abs", "Exp", "Log", "Softplus", "Clip"}
DATA, END_DATA, END_DIFF, DATA_DIFF = "data", "end_data", "end_diff", "data_diff"


def valid_ends(model):
    """The names that a gradient graph can be built for, in the net's order: {name: End}.

    A converted Caffe net lists them itself (the names that are both layer and blob); of any other model they are the
    outputs of its nodes that depend on the input and have a batch axis and channels.
    """
    facts = Facts.read(model, whole=False)
    if facts:
        return facts.ends
    source = Source(model)
    refused, found = refusals(source), {}
    for node in source.nodes:
        for name in node.output:
            shape = source.shape(name)
            if name in source.moving and name not in refused and (shape is None or len(shape) > 1):
                found[name] = End(shape[1] if shape else None, None)
    return found


def min_size(model, end):
    """How small a picture may be for `end`: (h, w, exact). The smallest height and width for which it has a pixel;
    exact is true where no other size will do, behind an InnerProduct."""
    source = Source(model)
    if end not in source.moving:
        raise no_such_end(end, list(valid_ends(model)))
    nominal = [d or 224 for d in source.nominal]
    if len(nominal) != 4:
        return 1, 1, False
    graph = onnx.helper.make_graph(source.leading_to(end), "path", [source.input], [], source.graph.initializer)
    path = onnx.helper.make_model(graph, opset_imports=source.model.opset_import)
    return smallest_size(path, source.input.name, end, nominal)


def gradient_graph(model, end):
    """Build the gradient graph of one end, or of several.

    model: any ONNX ModelProto of a convolutional net with one image input (N, C, H, W). end: the name of a tensor, or a
    list of names.
    Returns a ModelProto with inputs `data` and `end_diff` and outputs `end_data` (the value of `end`) and `data_diff`
    (the gradient of sum(end_data * end_diff) by data): standard operators only, as dynamic in H and W as the model.
    Of several ends each has its `end_diff` and `end_data` (named by `end_tensors`), and `data_diff` is the sum.
    Its metadata gains `end` (of several: a JSON list), `min_size` (JSON: the smallest h and w for which every end has a
    pixel; true if no other size will do) and `sizes` (JSON: what the names of its dynamic axes stand for, see
    `symbolic.resolved`).
    Raises ConvertError for an unknown end, for an operator without a derivative on the way, for several inputs.
    """
    source = Source(model)
    facts, ends = Facts.read(model, whole=False), end_tensors(end)
    for name in ends:
        if name not in source.moving or facts and name not in facts.ends:
            if facts and name in facts.left_out:
                raise ConvertError(f"{facts.left_out[name]} is not supported, and '{shown(name)}' needs it")
            raise no_such_end(name, list(valid_ends(model)))
    aligned = align_channels(source, set(ends))
    return _Build(source if aligned is None else Source(aligned), ends).model(metadata(model), end)


def end_tensors(end):
    """What a gradient graph calls the value and the diff of each of its ends: {end: (data, diff)}."""
    ends = [end] if isinstance(end, str) else list(dict.fromkeys(end))
    if len(ends) == 1:
        return {ends[0]: (END_DATA, END_DIFF)}
    return {name: (f"{END_DATA}:{name}", f"{END_DIFF}:{name}") for name in ends}


class _Build:
    """ends: {end: (name of its value, name of its diff)}."""

    def __init__(self, source, ends):
        self.source, self.ends = source, ends
        self.nodes = source.leading_to(*ends)
        names = {n for node in self.nodes for n in (*node.input, *node.output) if n} | {source.input.name}
        fixed = {DATA, DATA_DIFF, *(n for pair in ends.values() for n in pair)}
        self.graph = g = Graph(reserved=names | fixed, opset=source.opset, weights=source.weights)
        # the model's own names stay, but for those that this graph gives to its inputs and outputs
        self.names = {n: g.unique(n) if n in fixed else n for n in names}
        self.names[source.input.name] = DATA
        self.contexts, self.sizes, self.readers = {}, {}, {}
        for node in self.nodes:
            for name in node.input:
                self.readers.setdefault(name, set()).add(node.op_type)
        # tensors of equal shape: a gradient and its value
        self.like = {DATA_DIFF: DATA} | {diff: value for value, diff in ends.values()}
        self.names |= {end: value for end, (value, _) in ends.items() if end != source.input.name}
        self.forward()
        self.backward()

    def tensor(self, name):
        return Tensor(self.graph, self.names[name]) if name else None

    def size(self, name):
        """The spatial size of a value as an int64 Tensor (h, w), by arithmetic from the size of the data: asking a
        value itself would make a runtime that keeps it in a layout of its own bring it back from there."""
        first, path = name, []        # of values, each of which has its size from the next
        while name not in self.sizes and self._sized_by_input(name):
            path.append(name)
            name = self.source.producer[name].input[0]
        if name not in self.sizes:
            self.sizes[name] = self.graph.shape(self.tensor(name), start=2)
        for name in reversed(path):
            node = self.source.producer[name]
            self.sizes[name] = self._size(node, self.sizes[node.input[0]])
        return self.sizes[first]

    def _sized_by_input(self, name):
        """Is the size of a value known by arithmetic from that of its node's first input?"""
        node, shape = self.source.producer.get(name), self.source.shape(name)
        if node is None or shape is None or len(shape) != 4:
            return False
        attr = attributes(node)
        return node.op_type in SAME_SIZE or node.op_type == "Concat" and attr["axis"] in (1, -3) \
            or node.op_type in ("Conv", "MaxPool", "AveragePool") and node.input[0] in self.source.moving \
            and not attr.get("ceil_mode", 0) and attr.get("auto_pad", b"NOTSET") == b"NOTSET"

    def _size(self, node, size):
        """That size. size: of the node's first input."""
        if node.op_type not in ("Conv", "MaxPool", "AveragePool"):
            return size
        g, attr = self.graph, attributes(node)
        kernel = attr.get("kernel_shape") or self.source.shape(node.input[1])[2:]
        stride, dilation = attr.get("strides", [1, 1]), attr.get("dilations", [1, 1])
        pads = attr.get("pads", [0] * 4)
        more = [pads[i] + pads[2 + i] - dilation[i] * (kernel[i] - 1) for i in range(2)]
        if max(stride) == 1:
            return g.op("Add", size, more) if any(more) else size
        return g.op("Add", g.op("Div", g.op("Add", size, [m - 1 for m in more]), list(stride)), [1, 1])

    def context(self, node):
        """The Node that the entries of the tables are called with, one for both directions."""
        key = node.output[0]
        if key not in self.contexts:
            self.contexts[key] = Node(self.graph, node, self.source, self.size, self.readers.get(key, ()))
        return self.contexts[key]

    def forward(self):
        for node in self.nodes:
            if node.op_type in FORWARD and node.input[0] in self.source.moving:
                with about(told(node)):
                    y = FORWARD[node.op_type](self.context(node), *(self.tensor(i) for i in node.input))
                self.graph.rename(y, self.names[node.output[0]])
                self.like[self.names[node.output[0]]] = self.names[node.input[0]]
                continue
            copy = onnx.NodeProto()
            copy.CopyFrom(node)
            for names in (copy.input, copy.output):
                names[:] = [self.names[n] if n else "" for n in names]
            self.graph.nodes.append(copy)
        if self.source.input.name in self.ends:
            self.graph.rename(self.graph.op("Identity", Tensor(self.graph, DATA)), self.ends[self.source.input.name][0])

    def backward(self):
        """Walk from the ends to data, only over nodes that depend on the data."""
        source, diffs = self.source, {end: [Tensor(self.graph, diff)] for end, (_, diff) in self.ends.items()}
        unmasked = set(self.ends)       # the values whose gradient may be other than 0 where they are 0
        for node in reversed(self.nodes):
            dys = [self.graph.sum(diffs.pop(o)) if o in diffs else None for o in node.output]
            if source.moving.isdisjoint(node.output) or all(dy is None for dy in dys):
                continue
            if kind(node) not in VJPS:
                name, known = node.name or node.output[0], ", ".join(sorted(VJPS))
                raise ConvertError(f"node '{shown(name)}': operator {shown(kind(node))} has no derivative here, and "
                                   f"'{shown(list(self.ends)[-1])}' needs it; those with one: {known}")
            context = self.context(node)
            context.masked = node.output[0] not in unmasked
            with about(told(node)), np.errstate(all="ignore"):
                gradients = input_gradients(context, dys, [self.tensor(o) for o in node.output],
                                            [self.tensor(i) for i in node.input])
            for name, gradient in zip(node.input, gradients):
                if gradient is not None and name in source.moving:
                    self.like[gradient.name] = self.names[name]
                    diffs.setdefault(name, []).append(gradient)
                    if not (context.masks or context.masked and node.op_type in MASK_KEEPERS):
                        unmasked.add(name)
        if source.input.name not in diffs:
            raise ConvertError(f"'{shown(list(self.ends)[-1])}' has no gradient by the input "
                               f"'{shown(source.input.name)}'")
        total = self.graph.sum(diffs[source.input.name])
        self.graph.rename(self.graph.op("Identity", total), DATA_DIFF)

    def model(self, facts, end):
        source = self.source
        data = onnx.ValueInfoProto()
        data.CopyFrom(source.input)
        data.name = DATA
        diff = onnx.ValueInfoProto()
        diff.CopyFrom(data)
        diff.name = DATA_DIFF
        constants = {self.names.get(k, k): t for k, t in source.initializers.items()}
        renamed = {}
        for name, tensor in constants.items():
            if tensor.name != name:
                copy = onnx.TensorProto()
                copy.CopyFrom(tensor)
                copy.name = name
                tensor = copy
            renamed[name] = tensor
        keep = {k: v for k, v in facts.items() if k not in ("ends", "writes", "left_out", "lost", "data")}
        smallest = [min_size(source.model, e) for e in self.ends]
        keep |= {"end": end if isinstance(end, str) else json.dumps(list(self.ends)),
                 "min_size": json.dumps([max(s[0] for s in smallest), max(s[1] for s in smallest),
                                         any(s[2] for s in smallest)])}
        self.graph.drop_unused([DATA_DIFF, *(value for value, _ in self.ends.values())])
        weights = {**self.graph.constants, **{k: t.dims for k, t in renamed.items()}}
        shapes = {k: list(getattr(v, "shape", v)) for k, v in weights.items()}
        info, sizes = symbolic_shapes(self.graph.nodes, data, shapes, self.like)
        inputs, outputs = [data], []
        for name, (value, diff_) in self.ends.items():
            shape = source.shape(name)
            dims = info.get(value) or (None if shape is None else
                                       [d if d is not None else f"{diff_}_{i}" for i, d in enumerate(shape)])
            inputs.append(float_info(diff_, dims))
            outputs.append(float_info(value, dims))
        keep["sizes"] = json.dumps(sizes)
        told = {DATA, DATA_DIFF, *(n for pair in self.ends.values() for n in pair)}
        info = [float_info(k, v) for k, v in info.items() if k not in told]
        for node in self.graph.nodes:
            unambiguous_pads(node)
        return self.graph.model(end if isinstance(end, str) else "gradient", inputs, [*outputs, diff], info,
                                metadata=keep, constants=renamed)
