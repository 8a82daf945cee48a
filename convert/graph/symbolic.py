"""Name the sizes of dynamic axes, so that a runtime can see which tensors have the same shape.

onnxruntime keeps sums and products of two tensors in its blocked layout only if their shapes are provably equal, and
its own shape inference does not name the height after a convolution. Here each new size gets a name, and windows that
take the same number of steps over the same size share it.
"""
from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import onnx

from . import attributes
from .windows import Window, has_fixed_pads, windows

_UNARY = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "LRN", "Sqrt",
          "Reciprocal", "Identity", "Abs", "Exp", "Log", "Neg", "Clip", "Softplus", "Dropout", "Softmax"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Sum"}
_WINDOW = {"Conv", "MaxPool", "AveragePool"}


def symbolic_shapes(nodes: Iterable[onnx.NodeProto], data: onnx.ValueInfoProto, constants: Mapping[str, Sequence[int]],
                    like: Mapping[str, str]) -> tuple[dict[str, list], dict[str, tuple]]:
    """Find the shapes of the tensors with four axes, with names for dynamic sizes.

    nodes: the nodes of a graph, in topological order.
    data: the input.
    constants: {name: shape}.
    like: {tensor: another that is known to have the same shape}.

    Returns ({tensor: [N, channels, height, width]} of ints and names, {name: its definition}); the definitions are
    for `resolved`. Tensors of unknown shape are left out.
    """
    dims = [d.dim_value or d.dim_param for d in data.type.tensor_type.shape.dim]
    shapes = {data.name: dims} if len(dims) == 4 and all(dims) else {}
    shapes |= {k: v for k, v in constants.items()}
    found, sizes = dict(shapes), {}
    for node in nodes:
        out = node.output[0]
        twin = like.get(out)
        shape = found.get(twin) if twin in found else _shape(node, found, sizes)
        if shape is not None:
            found[out] = shape
        if node.op_type == "Split":
            for i, o in enumerate(node.output):
                if like.get(o) in found:
                    found[o] = found[like[o]]
        for name in node.input:      # an input of the graph with the shape of a tensor computed before
            if name not in found and like.get(name) in found:
                found[name] = found[like[name]]
    return ({k: v for k, v in found.items() if k not in constants and len(v) == 4},
            {name: definition for name, definition in sizes.items() if isinstance(name, str)})


def resolved(definitions: Mapping[str, Sequence], known: Mapping[str, int]) -> dict[str, int]:
    """Compute the sizes that names stand for.

    definitions: {name: (size, slack, stride)}, as returned by `symbolic_shapes`.
    known: {name: int}, the sizes of the dynamic axes of the input.

    Returns {name: int}, with the known ones; names that cannot be computed are left out.
    """
    found = dict(known)
    for name, (size, slack, stride) in definitions.items():      # each after those that it refers to
        if size in found:
            found[name] = windows(found[size], slack, stride)
    return found


def _shape(node, found, sizes):
    shapes = [found.get(i) for i in node.input if i]
    kind, first = node.op_type, shapes[0] if shapes else None
    if kind in _ELEMENTWISE:
        return _broadcast(shapes) if shapes and None not in shapes else None
    if first is None or kind in _UNARY:
        return first
    if len(first) != 4:
        return None
    if kind == "Transpose":
        return [first[i] for i in attributes(node).get("perm", [3, 2, 1, 0])]
    if kind in _WINDOW:
        attr = attributes(node)
        weights = found.get(node.input[1]) if kind == "Conv" else None
        if kind == "Conv" and weights is None:
            return None
        return _windowed(first, attr, weights, sizes)
    if kind == "Concat" and attributes(node).get("axis") == 1 and all(s is not None for s in shapes):
        return [first[0], sum(s[1] for s in shapes), *first[2:]]
    return None


def _broadcast(shapes):
    """Return the shape to which operands broadcast; None if unknown."""
    rank = max(map(len, shapes))
    total = [1] * rank
    for shape in shapes:
        for i, d in enumerate([1] * (rank - len(shape)) + list(shape)):
            if total[i] not in (1, d) and d != 1:
                return None
            total[i] = d if total[i] == 1 else total[i]
    return total


def _windowed(first, attr, weights, sizes):
    """Return the shape after a convolution or pooling. sizes: {(size, slack, stride): name} and the inverse."""
    if not has_fixed_pads(attr):
        return None
    window = Window.of(attr, weights and weights[2:])
    shape = [first[0], weights[0] if weights else first[1]]
    for size, slack, stride in zip(first[2:], window.slack, window.stride):
        if isinstance(size, int):
            shape.append(windows(size, slack, stride))
        elif stride == 1:     # this only adds windows to a size that is itself a number of windows
            size, already, step = sizes.get(size, (size, 0, 1))
            shape.append(_name_of(size, already + slack * step, step, sizes))
        else:
            shape.append(_name_of(size, slack, stride, sizes))
    return shape


def _name_of(size, slack, stride, sizes):
    key = size, slack, stride
    if key == (size, 0, 1):
        return size
    if key not in sizes:
        sizes[key] = f"size{len(sizes) // 2 + 1}"
        sizes[sizes[key]] = key
    return sizes[key]
