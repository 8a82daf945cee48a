"""Build the gradient of one or several ends of an ONNX model with respect to its input, as an ONNX graph.

The graph computes what Caffe's partial forward and backward passes compute.
"""
from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np
import onnx

from .derivatives.node import Node
from .derivatives.table import VJPS, input_gradients
from .errors import ConvertError, about, no_such_end, shown
from .facts import End, Facts
from .fast.align import align_channels
from .fast.forms import TABLES, choose
from .fast.layouts import Layouts
from .graph import Graph, Tensor, described, float_info, kind, metadata
from .graph.portable import write_unambiguous_pads
from .graph.sizes import smallest_size
from .graph.source import Source
from .graph.spatial import SAME_SIZE, SpatialSizes
from .graph.symbolic import symbolic_shapes
from .refusals import refusals

DATA, END_DATA, END_DIFF, DATA_DIFF = "data", "end_data", "end_diff", "data_diff"


def valid_ends(model: onnx.ModelProto) -> dict[str, End]:
    """List the names for which a gradient graph can be built, in the net's order.

    The metadata of a converted Caffe net lists them: the names that are both a layer and a blob. For any other model
    they are the outputs of nodes that depend on the input and have a batch axis and channels.

    Returns {name: End}.
    """
    facts = Facts.read(model, whole=False)
    if facts:
        return facts.ends
    source = Source(model)
    refused, found = refusals(source), {}
    for node in source.nodes:
        for name in node.output:
            shape = source.shape(name)
            if name in source.depends_on_input and name not in refused and (shape is None or len(shape) > 1):
                found[name] = End(shape[1] if shape else None, None)
    return found


def min_size(model: onnx.ModelProto, end: str) -> tuple[int, int, bool]:
    """Find the smallest picture for which `end` has a pixel.

    Returns (height, width, exact); exact is True if no other size is possible, as after an InnerProduct. Raises
    ConvertError for an unknown end.
    """
    source = Source(model)
    if end not in source.depends_on_input:
        raise no_such_end(end, list(valid_ends(model)))
    nominal = [d or 224 for d in source.nominal]
    if len(nominal) != 4:
        return 1, 1, False
    graph = onnx.helper.make_graph(source.leading_to(end), "path", [source.input], [], source.graph.initializer)
    path = onnx.helper.make_model(graph, opset_imports=source.model.opset_import)
    return smallest_size(path, source.input.name, end, nominal)


def gradient_graph(model: onnx.ModelProto, end: str | list[str], fast: bool = True,
                   device: str = "cpu") -> onnx.ModelProto:
    """Build the gradient graph of one or several ends.

    model: the ONNX model of a convolutional net with one image input (N, C, H, W).
    end: the name of a tensor, or a list of names.
    fast: use the forms of derivatives that onnxruntime computes quickly (`convert.fast`). False uses only the plain
        derivatives of `convert.derivatives`; the results differ only by rounding.
    device: the device whose fast forms are used: "cpu", "cuda", or "cuda-fast" for results that may differ in rounding
        from run to run. Each graph runs on every device; only the speed differs.

    Returns a ModelProto with the inputs `data` and `end_diff` and the outputs `end_data` (the value of `end`) and
    `data_diff` (the gradient of sum(end_data * end_diff) with respect to data). It uses standard operators only, and H
    and W are dynamic wherever they are in the model. With several ends, each has its own `end_diff` and `end_data`
    (named by `end_tensors`), and `data_diff` is the sum of their gradients.

    Up to four entries are added to the metadata: `end` (a JSON list if there are several), `min_size` (JSON: [height,
    width, exact], the smallest size for which every end has a pixel, see `min_size`), `sizes` (JSON: the meaning of the
    names of dynamic axes, see `symbolic.resolved`) and, if ends have their channels last, `channels_last` (JSON:
    {end: the number of its axes}).

    Raises ConvertError for an unknown end, for an operator without a derivative between it and the input, and for a
    model in which the end depends on several inputs.
    """
    source = Source(model)
    facts, ends = Facts.read(model, whole=False), end_tensors(end)
    for name in ends:
        if name not in source.depends_on_input or facts and name not in facts.ends:
            if facts and name in facts.left_out:
                raise ConvertError(f"{facts.left_out[name]} is not supported, and '{shown(name)}' needs it")
            if name in source.depends_in_steps:
                raise ConvertError(f"'{shown(name)}' changes only in steps with the picture, so it has no gradient")
            raise no_such_end(name, list(valid_ends(model)))
    if device not in TABLES:
        raise ConvertError(f"device is {shown(device)}; allowed are {' and '.join(TABLES)}")
    aligned = align_channels(source, set(ends)) if fast and device == "cpu" else None
    return _Build(source if aligned is None else Source(aligned), ends, fast and device).model(metadata(model), end)


def end_tensors(end: str | Sequence[str]) -> dict[str, tuple[str, str]]:
    """Name the tensors that hold the value and the diff of each end in a gradient graph.

    end: the name of an end, or several names.

    Returns {end: (name of its value, name of its diff)}.
    """
    ends = [end] if isinstance(end, str) else list(dict.fromkeys(end))
    if len(ends) == 1:
        return {ends[0]: (END_DATA, END_DIFF)}
    return {name: (f"{END_DATA}:{name}", f"{END_DIFF}:{name}") for name in ends}


class _Build:
    """The construction of a gradient graph.

    ends: {end: (name of its value, name of its diff)}. device: whose fast forms are used; False for plain derivatives.
    """

    def __init__(self, source, ends, device):
        self.source, self.ends = source, ends
        self.nodes = source.leading_to(*ends)
        names = {n for node in self.nodes for n in (*node.input, *node.output) if n} | {source.input.name}
        fixed = {DATA, DATA_DIFF, *(n for pair in ends.values() for n in pair)}
        self.graph = g = Graph(reserved=names | fixed, opset=source.opset, weights=source.weights,
                               one_sum=device in ("cuda", "cuda-fast"))
        # keep the model's names, except those that the inputs and outputs of this graph have
        self.names = {n: g.unique(n) if n in fixed else n for n in names}
        self.names[source.input.name] = DATA
        self.names |= {end: value for end, (value, _) in ends.items() if end != source.input.name}
        # {tensor: another of the same shape}: a gradient and its value
        self.like = {DATA_DIFF: DATA} | {diff: value for value, diff in ends.values()}
        self.entries = {}       # {first output of a node: the derivative that its fast form returned}
        self.contexts = self._contexts()
        if device:
            choose([c for c in self.contexts.values() if not source.depends_on_input.isdisjoint(c.output_names)],
                   list(ends), device)
        self.forward()
        self.backward()

    def _contexts(self):
        """Return {first output: Node}, the objects that derivatives are called with."""
        sizes, layouts, readers = SpatialSizes(self.graph, self.source, self.names), Layouts(), {}
        for node in self.nodes:
            for name in node.input:
                readers.setdefault(name, set()).add(node.op_type)
        return {node.output[0]: Node(self.graph, node, self.source, sizes, readers.get(node.output[0], ()), layouts)
                for node in self.nodes}

    def tensor(self, name):
        """Return the Tensor of a name of the model; None for the empty name of an omitted input or output."""
        return Tensor(self.graph, self.names[name]) if name else None

    def forward(self):
        """Copy the nodes of the model, or build their fast forms."""
        for node in self.nodes:
            context = self.contexts[node.output[0]]
            if context.form and context.form.forward:
                with about(described(node)):
                    y, self.entries[node.output[0]] = context.form.forward(context, *map(self.tensor, node.input))
                self.graph.rename(y, self.names[node.output[0]])
                if node.op_type in SAME_SIZE:
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
        """Walk back from the ends to data, only over nodes that depend on the data."""
        source, diffs = self.source, {end: [Tensor(self.graph, diff)] for end, (_, diff) in self.ends.items()}
        for node in reversed(self.nodes):
            dys = [self.graph.sum(diffs.pop(o)) if o in diffs else None for o in node.output]
            if source.depends_on_input.isdisjoint(node.output) or all(dy is None for dy in dys):
                continue
            if kind(node) not in VJPS:
                name = node.name or node.output[0]
                raise ConvertError(f"node '{shown(name)}': operator {shown(kind(node))} has no derivative here, and "
                                   f"'{shown(list(self.ends)[-1])}' needs it")
            context = self.contexts[node.output[0]]
            entry = self.entries.get(node.output[0]) or context.form and context.form.gradient
            with about(described(node)), np.errstate(all="ignore"):
                gradients = input_gradients(context, dys, [self.tensor(o) for o in node.output],
                                            [self.tensor(i) for i in node.input], entry)
            for name, gradient in zip(node.input, gradients):
                if gradient is not None and name in source.depends_on_input:
                    self.like[gradient.name] = self.names[name]
                    diffs.setdefault(name, []).append(gradient)
        if source.input.name not in diffs:
            raise ConvertError(f"'{shown(list(self.ends)[-1])}' has no gradient by the input "
                               f"'{shown(source.input.name)}'")
        total = self.graph.sum(diffs[source.input.name])
        self.graph.rename(self.graph.op("Identity", total), DATA_DIFF)

    def model(self, facts, end):
        """Return the finished ModelProto. facts: the metadata of the net."""
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
        known = Facts.read(source.model, whole=False)
        last = {e: len(source.shape(e)) for e in self.ends if known and e in known.ends and known.ends[e].channels_last}
        if last:
            keep["channels_last"] = json.dumps(last)
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
        declared = {DATA, DATA_DIFF, *(n for pair in self.ends.values() for n in pair)}
        info = [float_info(k, v) for k, v in info.items() if k not in declared]
        for node in self.graph.nodes:
            write_unambiguous_pads(node)
        return self.graph.model(end if isinstance(end, str) else "gradient", inputs, [*outputs, diff], info,
                                metadata=keep, constants=renamed)
