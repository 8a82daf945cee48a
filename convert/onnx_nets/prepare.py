"""Bring any ONNX image classifier (from PyTorch, Keras, MATLAB) into the form of a converted Caffe net.

The differences between exporters are removed here: opset, element type, layout, fixed sizes, scale of the pixels.
"""
from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnx.inliner
from onnx import TensorProto, helper, numpy_helper, version_converter

from ..derivatives.node import refusal
from ..derivatives.table import VJPS
from ..errors import ConvertError, about, shown
from ..facts import End, Facts, Write
from ..graph import OPSET, REAL, Graph, attributes, described, float_info, inner_nodes, kind, reads
from ..graph.constants import computed
from ..graph.inference import check_sizes, infer_shapes
from ..graph.shapes import shape_of, shapes_at
from ..graph.sizes import without_weights
from ..graph.source import Source
from ..refusals import refusals
from . import external
from .blocks import block_ends, block_of
from .channels import channels_last
from .limits import AXES, ROUNDS, check_model, check_shape
from .lowered import LOWERED, SHAPED, SIZE_OPERATORS
from .opened import open_shapes

OPSETS = 7, 24               # the oldest and the newest supported opset
LAYOUTS = {"nchw": (0, 1, 2, 3), "nhwc": (0, 3, 1, 2)}     # the axes of the input that are N, C, H, W
DATA = "data"
SIDE = 224                   # height and width of the declared shape, if the model has none
BIAS = "Add constant"        # what the listing calls an Add that is no sum of two branches
FAR = 20160                  # strides are measured at this and twice this size; it is divisible by 64, 9, 5 and 7


# ---- files

def read(path: str | os.PathLike) -> onnx.ModelProto:
    """Read and check an .onnx file, without the weights that are in other files.

    Raises ConvertError for a file that is not an ONNX model.
    """
    try:
        model = onnx.load_model_from_string(Path(path).read_bytes())
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
    except Exception:      # protobuf has its own exceptions
        raise ConvertError(f"{path}: not an ONNX file, or cut off") from None
    if not model.graph.node:
        raise ConvertError(f"{path}: not an ONNX file: it holds no graph")
    with about(path):
        check_model(model)
    return model


def load(path: str | os.PathLike) -> onnx.ModelProto:
    """Read and check an .onnx file, with all its weights.

    Raises ConvertError for a file that is not an ONNX model, or whose weights cannot be read.
    """
    model = read(path)
    with about(path):
        external.load(model, path)
    return model


# ---- the input

def image_input(model: onnx.ModelProto, name: str | None = None, layout: str | None = None,
                source: str = "the model") -> tuple[str, str, list[int | None], int]:
    """Find the input that takes the picture.

    model: the model.
    name: the name of the input; needed if several inputs have four axes.
    layout: 'nchw' or 'nhwc'; None for nhwc if only the last axis has a size of 1 or 3, else nchw.
    source: what error messages call the model.

    Returns (name, layout, shape, element type). The shape is in the order N, C, H, W, with None for a dynamic axis; a
    dynamic number of channels counts as 3. Raises ConvertError if there is no suitable input with 1 or 3 channels.
    """
    weights = {t.name for t in model.graph.initializer}      # old exporters list the weights among the inputs
    inputs = {i.name: i.type.tensor_type for i in model.graph.input if i.name not in weights}
    listed = shown(", ".join(f"'{n}' {_described(t)}" for n, t in inputs.items()) or "none", 300)
    if name is not None and name not in inputs:
        raise ConvertError(f"{source}: input: no input is called '{shown(name)}'; its inputs: {listed}")
    possible = [n for n, t in inputs.items() if len(t.shape.dim) == 4] if name is None else [name]
    if not possible or len(inputs[possible[0]].shape.dim) != 4:
        raise ConvertError(f"{source}: takes no picture: an input of four axes is needed; its inputs: {listed}")
    if len(possible) > 1:
        raise ConvertError(f"{source}: several inputs could take the picture, name one (input); its inputs: {listed}")
    kind = inputs[possible[0]]
    dims = [d.dim_value or None for d in kind.shape.dim]
    if layout not in (None, *LAYOUTS):
        raise ConvertError(f"{source}: layout is '{shown(layout)}'; allowed are {' and '.join(LAYOUTS)}")
    if layout is None:
        layout = "nhwc" if dims[3] in (1, 3) and dims[1] not in (1, 3) else "nchw"
    shape = [dims[axis] for axis in LAYOUTS[layout]]
    check_shape([d or 1 for d in shape], f"{source}: input '{shown(possible[0])}'")
    if shape[1] not in (None, 1, 3):
        raise ConvertError(f"{source}: input '{shown(possible[0])}' {_described(kind)} has {shape[1]} channels as "
                           f"{layout}; 1 (grey) or 3 are allowed")
    return possible[0], layout, [shape[0], shape[1] or 3, *shape[2:]], kind.elem_type


def _described(kind):
    return "(" + shown(", ".join(str(d.dim_value or d.dim_param or "?") for d in kind.shape.dim)) + ")"


# ---- the model

def onnx_net(model: str | os.PathLike | onnx.ModelProto, scale: float | Sequence[float] = 1.0,
             layout: str | None = None, input: str | None = None, source: str | None = None) -> onnx.ModelProto:
    """Bring an ONNX model into the form that `convert.to_onnx` returns.

    model: the path of an .onnx file, or a ModelProto, of opset 7 to 24.
    scale: the factor from a picture minus its mean, in units of 0 to 255, to what the model expects; one number, or one
    for each channel.
    layout, input: the layout and the name of the input, see `image_input`.
    source: what error messages call the model; None for its path.

    Returns a ModelProto of opset 17 in float32, with an input `data` (N, C, H, W). The sizes are dynamic wherever the
    net allows it, and all other tensors keep their names. The metadata is that of `to_onnx`; each of the `ends` also
    has its `operator`, and `channels_last` if its last axis is that of the channels. Ends are the results with two to
    four axes; `left_out` holds those that depend on an operator without a derivative. The padding "SAME" becomes the
    explicit padding that it means at the declared size (or at a multiple of the stride). A model that `to_onnx`
    returned is returned unchanged.

    Raises ConvertError for a model that is not a net with a picture as its input.
    """
    source = source or (str(model) if isinstance(model, (str, Path)) else "the model")
    with about(source):
        if isinstance(model, (str, Path)):
            model = load(model)
        elif any(t.data_location == TensorProto.EXTERNAL for t in external.tensors(model.graph)):
            raise ConvertError(f"{source}: its weights are in other files; pass its path, or load them first")
        else:
            check_model(model)
        return model if Facts.read(model, source) else _net(model, scale, layout, input, source)


def _net(model, scale, layout, input, source):
    name, layout, shape, _ = image_input(model, input, layout, source)
    nominal = [shape[0] or 1, shape[1], shape[2] or SIDE, shape[3] or SIDE]
    model, opset = _to_opset(model, source)
    build = _Build(model.graph, opset, name, layout, nominal, np.float32(scale).ravel(), source)
    net = build.model()
    _check_sizes(build, net, nominal)
    ends, left_out = _ends(net, build.own_names, nominal)
    left_out = {name: shown(reason, 300) for name, reason in left_out.items()}
    if not ends:
        raise ConvertError(f"{source}: nothing to dream at: " + (next(iter(left_out.values())) + " is not supported"
                           if left_out else f"no result of two or four axes depends on the input '{name}'"))
    ends = {DATA: End(nominal[1], (1, 1), "input")} | ends
    Facts(DATA, tuple(nominal), ends, tuple(Write(e, e, e) for e in ends), left_out).write(net)
    return net


def _to_opset(model, source):
    """Return the model without local functions and with opset 17 or later, and that opset."""
    if model.functions:
        model = onnx.inliner.inline_local_functions(model)
    opset = next((o.version for o in model.opset_import if o.domain in ("", "ai.onnx")), 1)
    if not OPSETS[0] <= opset <= OPSETS[1]:
        raise ConvertError(f"{source}: opset {opset} is not supported; export with one of {OPSETS[0]} to {OPSETS[1]} "
                           f"(opset_version={OPSET})")
    if opset < OPSET:
        try:
            model = _with_open_sizes(model)
            check_sizes(model)
            model = version_converter.convert_version(model, OPSET)
        except Exception as error:   # the converter has its own exceptions
            raise ConvertError(f"{source}: opset {opset} cannot be converted to {OPSET}; export with "
                               f"opset_version={OPSET} ({_line(error)})") from None
    return model, max(opset, OPSET)


def _with_open_sizes(model):
    """Return the model with sizes below 1, which some exporters write for a dynamic axis of the input, left open."""
    if all(d.dim_value > 0 or not d.HasField("dim_value") for info in model.graph.input
           for d in info.type.tensor_type.shape.dim):
        return model
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    for dim in (d for info in copy.graph.input for d in info.type.tensor_type.shape.dim):
        if dim.HasField("dim_value") and dim.dim_value < 1:
            dim.Clear()
    return copy


class _Build:
    """The construction of the prepared model: scale and layout after `data`, then all nodes in float32 and opset 17."""

    def __init__(self, graph, opset, name, layout, nominal, scale, source):
        self.old, self.opset, self.name, self.nominal, self.source = graph, opset, name, nominal, source
        self.opsets = [helper.make_opsetid("", opset)]
        names = {n for node in self.old.node for n in (*node.input, *node.output)}
        self.constants, self.values = {}, {}
        for tensor in self.old.initializer:
            self.add_weights(tensor)
        self.graph = Graph(reserved=names | {i.name for i in self.old.input} | {DATA},
                           weights=sum(v.size for v in self.values.values()))
        self.sizes = None
        self.names = {DATA: self.graph.unique(DATA)} if DATA in names and name != DATA else {}
        self.names[name] = self.prepare_input(layout, scale)
        self.own_names = {self.names.get(o, o) for node in self.old.node for o in node.output if o}
        for node in self.old.node:
            with about(described(node)):
                self.add(node)

    def prepare_input(self, layout, scale):
        """Convert `data` to what the model expects. Returns the name of the result."""
        x = self.graph.tensor(DATA)
        if len(scale) not in (1, self.nominal[1]):
            raise ConvertError(f"{self.source}: scale has {len(scale)} numbers for {self.nominal[1]} channel(s); give "
                               "one, or one for each channel")
        if not (scale == 1).all():
            x = x * (scale.reshape(1, -1, 1, 1) if len(scale) > 1 else scale[0])
        self.first = x.name                              # before a transposition that the model may undo
        return x.name if layout == "nchw" else self.graph.op("Transpose", x, perm=[0, 2, 3, 1]).name

    def add_weights(self, tensor):
        """Add an initializer of the model."""
        what = f"the weights '{shown(tensor.name)}'"
        check_shape(tensor.dims, what)
        with about(what):
            self.constants[tensor.name] = _float32(tensor)
            self.values[tensor.name] = numpy_helper.to_array(self.constants[tensor.name])

    def add(self, old):
        """Add a node of the model, rewritten where necessary, unless it is constant."""
        node = onnx.NodeProto()
        node.CopyFrom(old)
        self.rename(node)
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR:
                attribute.t.CopyFrom(_float32(attribute.t))
            if attribute.name == "to" and node.op_type == "Cast" and attribute.i in REAL:
                attribute.i = TensorProto.FLOAT
        shape = self.value(node, SHAPED[node.op_type]) if node.op_type in SHAPED else None
        if shape is not None and shape.size > AXES:
            raise ConvertError(f"{described(node)}: {shape.size:,} axes; {AXES} are allowed")
        if self.folded(node):
            return
        attr = attributes(node)
        if node.op_type == "Transpose" and old.input[0] == self.name and node.input[0] != self.first \
                and list(attr.get("perm", [])) == [0, 3, 1, 2]:      # Keras transposes and transposes back
            node = helper.make_node("Identity", [self.first], node.output, node.name)
        if node.op_type in LOWERED and node.domain in ("", "ai.onnx"):
            y = LOWERED[node.op_type](self, node, attr)
            if y is not None:
                self.graph.rename(y, node.output[0])
                return
        self.graph.nodes.append(node)

    def rename(self, node):
        """Rename the inputs and outputs of a node, also in its subgraphs."""
        for names in (node.input, node.output):
            names[:] = [self.names.get(n, n) for n in names]
        for inner in inner_nodes(node):
            self.rename(inner)

    def folded(self, node):
        """Compute a node whose inputs are constant, such as the ten that PyTorch exports for the pads of F.pad.

        Returns whether the node was computed; its outputs then are constants.
        """
        if node.op_type not in VJPS and node.op_type not in SIZE_OPERATORS or node.domain not in ("", "ai.onnx") \
                or any(n and n not in self.values for n in node.input):
            return False
        opsets = self.opsets
        if node.op_type == "DequantizeLinear" and self.opset < 19:      # the same, for ONNX's reference implementation
            opsets = [helper.make_opsetid("", 19)]
        found = computed(node, {n: self.values[n] for n in node.input if n}, opsets, self.graph.budget)
        self.constants |= found
        self.values |= found
        return True

    def tensors(self, node):
        """Return the inputs of a node as Tensors, None for an omitted one."""
        return [self.graph.tensor(n) if n else None for n in node.input]

    def value(self, node, i):
        """Return the value of input i of a node; None if it is omitted or not constant."""
        return self.values.get(node.input[i]) if i < len(node.input) else None

    def declared(self, name):
        """Return the shape of a tensor at the declared size of the input; None if unknown."""
        return self._inferred(name)[0]

    def kind(self, name):
        """Return the element type of a tensor; None if unknown."""
        return self._inferred(name)[1]

    def _inferred(self, name):
        if self.sizes is None:
            model = helper.make_model(self.old, opset_imports=self.opsets)
            self.sizes = _shapes(without_weights(model))
        return self.sizes.get(next((old for old, new in self.names.items() if new == name), name), (None, None))

    def side(self, name, axis):
        """Return the size of a spatial axis (0 or 1) of a tensor at the declared size; None if unknown."""
        shape = self.declared(name)
        return shape[2 + axis] if shape and len(shape) == 4 else None

    def model(self):
        """Return the prepared ModelProto, without its metadata."""
        used = {i for n in self.graph.nodes for i in n.input}
        needed = self.own_names | used
        self.graph.nodes = [n for n in self.graph.nodes if n.output and n.output[0] in needed]
        computed_names = {o for n in self.graph.nodes for o in n.output}
        kinds = {self.names.get(o.name, o.name): o.type.tensor_type.elem_type for o in self.old.output}
        outputs = [helper.make_tensor_value_info(o, TensorProto.FLOAT if kind in REAL else kind, None)
                   for o, kind in kinds.items() if o in computed_names]
        shape = ["N", self.nominal[1], "H", "W"]
        model = self.graph.model(self.old.name or "net", [float_info(DATA, shape)], outputs, constants=self.constants)
        # other inputs than the picture stay, so that an end that depends on one can be rejected with its name
        for info in self.old.input:
            name = self.names.get(info.name, info.name)
            if name in used and info.name != self.name and name not in self.constants:
                model.graph.input.add().CopyFrom(info)
                model.graph.input[-1].name = name
        model.opset_import.extend(helper.make_opsetid(d, 1)
                                  for d in sorted({n.domain for n in model.graph.node} - {"", "ai.onnx"}))
        open_shapes(model, self.nominal)
        return infer_shapes(model)


def _check_sizes(build, net, nominal):
    """Raise ConvertError for implausibly large results, and for long computations that do not depend on the picture.

    All at the declared size.
    """
    depending = {DATA}
    sizes = {name: shape for name, (shape, _) in _shapes(without_weights(net), nominal).items()}
    for node in net.graph.node:
        depends = not depending.isdisjoint(reads(node))
        if node.op_type == "Loop" and not depends:
            rounds = build.value(node, 0)
            if rounds is None or rounds.size != 1 or rounds.item() > ROUNDS:
                raise ConvertError(f"{described(node)}: a loop that does not depend on the picture may have at most "
                                   f"{ROUNDS:,} rounds")
        for name in node.output:
            check_shape(sizes.get(name) or (), described(node), nominal)
            if depends:
                depending.add(name)
            else:
                with about(described(node)):
                    build.graph.budget.take(math.prod(sizes.get(name) or ()))


def _float32(tensor):
    if tensor.data_type not in REAL or tensor.data_type == TensorProto.FLOAT:
        return tensor
    return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _line(error):
    return shown(" ".join(str(error).split()), 160)


# ---- ends

def _ends(net, names, nominal):
    """Return ({end: End}, {name: why it cannot be an end}), in the net's order. names: those of the original net."""
    light, source = without_weights(net), Source(net, nominal)
    n, c, *size = nominal
    declared, near, far = (_shapes(light, (n, c, *s)) for s in (size, (FAR, FAR), (2 * FAR, 2 * FAR)))
    reasons, ends, left_out = refusals(source), {}, {}

    def shape_of_end(name):
        return declared.get(name, (None,))[0]

    last = channels_last(net.graph.node, shape_of_end, DATA)
    good = block_ends(net.graph.node, shape_of_end, source.depends_on_input, last)
    for node in net.graph.node:
        bias = node.op_type == "Add" and not source.depends_on_input.issuperset(node.input)
        operator = BIAS if bias else kind(node)
        for name in node.output:
            shape, element = declared.get(name, (None, None))
            depends = name in source.depends_on_input or name in source.depends_in_steps
            if name not in names or not depends or element not in (None, TensorProto.FLOAT) \
                    or shape and len(shape) not in (2, 3, 4):
                continue
            # a net of fixed size has no shapes at other sizes
            sizes = [shapes.get(name, (None,))[0] or shape for shapes in (near, far)]
            if name in source.depends_in_steps:
                left_out[name] = refusal(node, "it changes with the picture only in steps; its gradient is 0")
            elif name in reasons or not shape:
                left_out[name] = reasons.get(name, "a result whose size cannot be told")
            elif len(shape) > 2 and shape[0] != n:
                left_out[name] = "a result whose first axis is not that of the batch"
            elif name in last or len(shape) == 4 and sizes[0][1] != sizes[1][1]:
                ends[name] = End(shape[-1], _stride(*map(_channels_first, (shape, *sizes)), size), operator, True,
                                 block_of(node), name in good)
            else:
                ends[name] = End(shape[1], _stride(shape, *sizes, size), operator, False, block_of(node), name in good)
    return ends, left_out


def _channels_first(shape):
    return [shape[0], shape[-1], *shape[1:-1]]


def _stride(shape, near, far, size):
    """Return (h, w), the number of input pixels for one position of a tensor; None if it has a single position.

    shape: its shape at the declared `size`. near, far: its shapes at FAR and twice FAR; if these are equal, since the
    net has a fixed size, the declared size counts.
    """
    if len(shape) != 4 or list(shape[2:]) == [1, 1]:
        return None
    return tuple(round(FAR / (b - a), 2) or 0.01 if b > a else round(s / d) or round(s / d, 2) or 0.01 for a, b, s, d in
                 zip(near[2:], far[2:], size, shape[2:]))


def _shapes(light, shape=None):
    """Return {tensor: (shape or None, element type)}, by shape inference. shape: that of `data`, if not its own."""
    if shape is not None:
        found = shapes_at(light, DATA, shape)
    else:
        graph = infer_shapes(light, data_prop=True).graph
        found = {info.name: shape_of(info.type.tensor_type) for infos in (graph.input, graph.value_info, graph.output)
                 for info in infos}
    return {name: (dims if dims and all(d and d > 0 for d in dims) else None, element)
            for name, (dims, element) in found.items()}
