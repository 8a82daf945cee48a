"""Names for the sizes of dynamic axes, so that a runtime can see which tensors are alike.

onnxruntime keeps sums and products of two tensors in its blocked layout only if their shapes are provably equal. Its
own inference gives no name to the height behind a convolution; here each size that is new gets one, and windows that
take the same number of steps over the same size share it.
"""
from . import attributes
from .windows import Window, has_fixed_pads, windows

_UNARY = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "LRN", "Sqrt",
          "Reciprocal", "Identity", "Abs", "Exp", "Log", "Neg", "Clip", "Softplus", "Dropout", "Softmax"}
_ELEMENTWISE = {"Add", "Sub", "Mul", "Div", "Pow", "Sum"}
_WINDOW = {"Conv", "MaxPool", "AveragePool"}


def symbolic_shapes(nodes, data, constants, like):
    """({tensor: [N, channels, height, width]} with ints and names, of the 4-D tensors where that can be told;
    {name: what it is made of} for `resolved`).

    nodes: in topological order. data: the input's ValueInfoProto. constants: {name: shape}. like: {tensor: another of
    the same shape}, known beforehand.
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
        for name in node.input:      # an input of the graph that is like a tensor computed before
            if name not in found and like.get(name) in found:
                found[name] = found[like[name]]
    return ({k: v for k, v in found.items() if k not in constants and len(v) == 4},
            {name: made_of for name, made_of in sizes.items() if isinstance(name, str)})


def resolved(made_of, known):
    """The sizes behind the names. known: {name: int} of the data's axes. Returns {name: int}, those among them."""
    found = dict(known)
    for name, (size, slack, stride) in made_of.items():      # in the order in which they were made
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
    """The common shape of operands, None where it cannot be told."""
    rank = max(map(len, shapes))
    total = [1] * rank
    for shape in shapes:
        for i, d in enumerate([1] * (rank - len(shape)) + list(shape)):
            if total[i] not in (1, d) and d != 1:
                return None
            total[i] = d if total[i] == 1 else total[i]
    return total


def _windowed(first, attr, weights, sizes):
    """The shape behind a convolution or pooling. sizes: {(size, slack, stride): name} and back."""
    if not has_fixed_pads(attr):
        return None
    window = Window.of(attr, weights and weights[2:])
    shape = [first[0], weights[0] if weights else first[1]]
    for size, slack, stride in zip(first[2:], window.slack, window.stride):
        if isinstance(size, int):
            shape.append(windows(size, slack, stride))
        elif stride == 1:     # so many windows more of a size that counts windows itself
            size, already, step = sizes.get(size, (size, 0, 1))
            shape.append(_named(size, already + slack * step, step, sizes))
        else:
            shape.append(_named(size, slack, stride, sizes))
    return shape


def _named(size, slack, stride, sizes):
    key = size, slack, stride
    if key == (size, 0, 1):
        return size
    if key not in sizes:
        sizes[key] = f"size{len(sizes) // 2 + 1}"
        sizes[sizes[key]] = key
    return sizes[key]
