"""The gradient of an `end` of an ONNX model (or of several) by its input, as an ONNX graph: Caffe's partial backward."""
import json

import numpy as np
import onnx
from onnx import numpy_helper, version_converter
from onnx.reference import ReferenceEvaluator

from .align import align_channels
from .errors import ConvertError, no_such_end
from .facts import End, Facts
from .graph import OPSET, Graph, Tensor, attributes, float_info, metadata
from .node import Node
from .portable import unambiguous_pads
from .sizes import smallest_size
from .symbolic import symbolic_shapes
from .vjps import FORWARD, MASK_KEEPERS, VJPS

# operators whose output has the height and width of their first input
SAME_SIZE = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "BatchNormalization", "LRN", "Dropout", "Identity",
             "Abs", "Exp", "Log", "Softplus", "Clip"}
DATA, END_DATA, END_DIFF, DATA_DIFF = "data", "end_data", "end_diff", "data_diff"


def valid_ends(model):
    """The names that a gradient graph can be built for, in the net's order: {name: End}.

    A converted Caffe net lists them itself (the names that are both layer and blob); of any other model they are the
    outputs of its nodes that depend on the input and have a batch axis and channels.
    """
    facts = Facts.read(model)
    if facts:
        return facts.ends
    source = _Source(model)
    found = {}
    for node in source.nodes:
        for name in node.output:
            shape = source.shape(name)
            if name in source.moving and (shape is None or len(shape) > 1):
                found[name] = End(shape[1] if shape else None, None)
    return found


def min_size(model, end):
    """How small a picture may be for `end`: (h, w, exact). The smallest height and width for which it has a pixel;
    exact is true where no other size will do, behind an InnerProduct."""
    source = _Source(model)
    facts = Facts.read(model)
    if end not in source.moving:
        raise no_such_end(end, list(valid_ends(model)))
    nominal = list(facts.data_shape) if facts else [d or 224 for d in source.shape(source.input.name) or []]
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
    source = _Source(model)
    facts, ends = Facts.read(model), end_tensors(end)
    for name in ends:
        if name not in source.moving or facts and name not in facts.ends:
            if facts and name in facts.left_out:
                raise ConvertError(f"{facts.left_out[name]} is not supported, and '{name}' needs it")
            raise no_such_end(name, list(valid_ends(model)))
    aligned = align_channels(source, set(ends))
    return _Build(source if aligned is None else _Source(aligned), ends).model(metadata(model), end)


def end_tensors(end):
    """What a gradient graph calls the value and the diff of each of its ends: {end: (data, diff)}."""
    ends = [end] if isinstance(end, str) else list(dict.fromkeys(end))
    if len(ends) == 1:
        return {ends[0]: (END_DATA, END_DIFF)}
    return {name: (f"{END_DATA}:{name}", f"{END_DIFF}:{name}") for name in ends}


class _Source:
    """The model that is differentiated: its nodes, constants, shapes, and what depends on the data."""

    def __init__(self, model):
        opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), OPSET)
        if opset < 15:
            try:
                model = version_converter.convert_version(model, OPSET)
            except Exception as error:   # the converter raises its own kinds
                raise ConvertError(f"opset {opset} is too old and cannot be raised to {OPSET}: {error}") from None
            opset = OPSET
        self.model, self.opset, self.graph = model, opset, model.graph
        self.nodes = list(self.graph.node)
        self.initializers = {t.name: t for t in self.graph.initializer}
        inputs = [i for i in self.graph.input if i.name not in self.initializers]
        if not inputs:
            raise ConvertError("the model has no input")
        names, data = [i.name for i in inputs], metadata(model).get("data")
        self.input = inputs[names.index(data) if data in names else 0]
        self.others = [n for n in names if n != self.input.name]
        self.producer = {o: n for n in self.nodes for o in n.output if o}
        self.moving = {self.input.name}
        for node in self.nodes:
            # a Shape does not depend on what the data holds
            if node.op_type not in ("Shape", "Size") and any(i in self.moving for i in node.input):
                self.moving.update(o for o in node.output if o)
        self._shapes, self._values = None, {}

    def shape(self, name):
        if name in self.initializers:
            return list(self.initializers[name].dims)
        if self._shapes is None:
            graph = onnx.shape_inference.infer_shapes(self.model, data_prop=True).graph
            self._shapes = {}
            for info in [*graph.input, *graph.value_info, *graph.output]:
                if info.type.tensor_type.HasField("shape"):
                    self._shapes[info.name] = [d.dim_value if d.HasField("dim_value") else None
                                               for d in info.type.tensor_type.shape.dim]
        if name not in self._shapes and self.value(name) is not None:
            return list(self.value(name).shape)
        return self._shapes.get(name)

    def value(self, name):
        """The array behind a name that does not depend on any input, else None."""
        if name not in self._values:
            self._values[name] = self._evaluate(name)
        return self._values[name]

    def _evaluate(self, name):
        if name in self.initializers:
            return numpy_helper.to_array(self.initializers[name])
        node = self.producer.get(name)
        if node is None or name in self.moving:
            return None
        feeds = {i: self.value(i) for i in node.input if i}
        if any(v is None for v in feeds.values()):
            return None
        graph = onnx.helper.make_graph(
            [node], "constant", [onnx.helper.make_tensor_value_info(k, onnx.helper.np_dtype_to_tensor_dtype(v.dtype),
                                                                    v.shape) for k, v in feeds.items()],
            [onnx.helper.make_empty_tensor_value_info(name)])
        model = onnx.helper.make_model(graph, opset_imports=self.model.opset_import)
        return np.asarray(ReferenceEvaluator(model).run([name], feeds)[0])

    def rectified(self, name):
        """Is this what a ReLU let through, but for pooling, normalizing and joining? Then it is never negative, and
        the gradient where it is 0 reaches nothing."""
        node = self.producer.get(name)
        if node is None:
            return False
        through = {"Relu": [], "MaxPool": node.input[:1], "LRN": node.input, "Concat": node.input,
                   "Identity": node.input, "Dropout": node.input[:1]}
        return node.op_type in through and all(map(self.rectified, through[node.op_type]))

    def leading_to(self, *ends):
        """The nodes that the ends are computed from, in order."""
        need, nodes = set(ends), []
        for node in reversed(self.nodes):
            if need & set(node.output):
                nodes.append(node)
                need.update(i for i in node.input if i)
        other = [o for o in self.others if o in need]
        if other:
            raise ConvertError(f"'{ends[-1]}' also depends on the input '{other[0]}'; only one input is supported")
        return nodes[::-1]


class _Build:
    """ends: {end: (name of its value, name of its diff)}."""

    def __init__(self, source, ends):
        self.source, self.ends = source, ends
        self.nodes = source.leading_to(*ends)
        names = {n for node in self.nodes for n in (*node.input, *node.output) if n} | {source.input.name}
        fixed = {DATA, DATA_DIFF, *(n for pair in ends.values() for n in pair)}
        self.graph = g = Graph(reserved=names | fixed, opset=source.opset)
        # the model's own names stay, but for those that this graph gives to its inputs and outputs
        self.names = {n: g.unique(n) if n in fixed else n for n in names}
        self.names[source.input.name] = DATA
        self.contexts, self.sizes = {}, {}
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
        if name not in self.sizes:
            node = self.source.producer.get(name)
            self.sizes[name] = self._size(name, node) if node is not None else \
                self.graph.shape(self.tensor(name), start=2)
        return self.sizes[name]

    def _size(self, name, node):
        g, shape = self.graph, self.source.shape(name)
        if shape is None or len(shape) != 4:
            return g.shape(self.tensor(name), start=2)
        if node.op_type in SAME_SIZE:
            return self.size(node.input[0])
        attr = attributes(node)
        if node.op_type == "Concat" and attr["axis"] in (1, -3):
            return self.size(node.input[0])
        if node.op_type in ("Conv", "MaxPool", "AveragePool") and node.input[0] in self.source.moving \
                and not attr.get("ceil_mode", 0) and attr.get("auto_pad", b"NOTSET") == b"NOTSET":
            kernel = attr.get("kernel_shape") or self.source.shape(node.input[1])[2:]
            stride, dilation = attr.get("strides", [1, 1]), attr.get("dilations", [1, 1])
            pads = attr.get("pads", [0] * 4)
            more = [pads[i] + pads[2 + i] - dilation[i] * (kernel[i] - 1) for i in range(2)]
            size = self.size(node.input[0])
            if max(stride) == 1:
                return g.op("Add", size, more) if any(more) else size
            return g.op("Add", g.op("Div", g.op("Add", size, [m - 1 for m in more]), list(stride)), [1, 1])
        return g.shape(self.tensor(name), start=2)

    def context(self, node):
        """The Node that the entries of the tables are called with, one for both directions."""
        key = node.output[0]
        if key not in self.contexts:
            source = self.source
            self.contexts[key] = Node(self.graph, node, attributes(node), source.value, source.shape, source.moving,
                                      source.rectified, self.size, {n.op_type for n in self.nodes if key in n.input})
        return self.contexts[key]

    def forward(self):
        for node in self.nodes:
            if node.op_type in FORWARD and node.input[0] in self.source.moving:
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
            if not any(i in source.moving for i in node.input) or all(dy is None for dy in dys):
                continue
            if node.op_type not in VJPS:
                raise ConvertError(f"node '{node.name or node.output[0]}': operator {node.op_type} has no derivative "
                                   f"here, and '{list(self.ends)[-1]}' needs it; those with one: {', '.join(sorted(VJPS))}")
            context = self.context(node)
            context.masked = node.output[0] not in unmasked
            ys, xs = [self.tensor(o) for o in node.output], [self.tensor(i) for i in node.input]
            gradients = VJPS[node.op_type](context, dys, ys, *xs) if node.op_type == "Split" \
                else VJPS[node.op_type](context, dys[0], ys[0], *xs)
            gradients = gradients if isinstance(gradients, tuple) else (gradients,)
            for name, gradient in zip(node.input, gradients):
                if gradient is not None and name in source.moving:
                    self.like[gradient.name] = self.names[name]
                    diffs.setdefault(name, []).append(gradient)
                    if not (context.masks or context.masked and node.op_type in MASK_KEEPERS):
                        unmasked.add(name)
        if source.input.name not in diffs:
            raise ConvertError(f"'{list(self.ends)[-1]}' has no gradient by the input '{source.input.name}'")
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
        keep = {k: v for k, v in facts.items() if k not in ("ends", "writes", "left_out", "data")}
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
