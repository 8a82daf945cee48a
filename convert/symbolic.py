"""Names for the sizes of dynamic axes, so that a runtime can see which tensors are alike.

onnxruntime keeps sums and products of two tensors in its blocked layout only if their shapes are provably equal. Its
own inference gives no name to the height behind a convolution; here each size that is new gets one, and what keeps
the size keeps the name.
"""
from .graph import attributes

_SAME = {"Relu", "LeakyRelu", "PRelu", "Elu", "Sigmoid", "Tanh", "HardSigmoid", "BatchNormalization", "LRN", "Sqrt",
         "Reciprocal", "Identity", "Abs", "Exp", "Log", "Neg", "Clip", "Softplus", "Add", "Sub", "Mul", "Div", "Pow",
         "Dropout", "Softmax", "Sum"}
_WINDOW = {"Conv", "MaxPool", "AveragePool"}


def symbolic_shapes(nodes, data, constants, like):
    """{tensor: [N, channels, height, width]} with ints and names, of the 4-D tensors where that can be told.

    nodes: in topological order. data: the input's ValueInfoProto. constants: {name: shape}. like: {tensor: another of
    the same shape}, known beforehand.
    """
    dims = [d.dim_value or d.dim_param for d in data.type.tensor_type.shape.dim]
    shapes = {data.name: dims} if len(dims) == 4 and all(dims) else {}
    shapes |= {k: v for k, v in constants.items()}
    found = dict(shapes)
    for node in nodes:
        out = node.output[0]
        twin = like.get(out)
        shape = found.get(twin) if twin in found else _shape(node, found)
        if shape is not None:
            found[out] = shape
        if node.op_type == "Split":
            for i, o in enumerate(node.output):
                if like.get(o) in found:
                    found[o] = found[like[o]]
        for name in node.input:      # an input of the graph that is like a tensor computed before
            if name not in found and like.get(name) in found:
                found[name] = found[like[name]]
    return {k: v for k, v in found.items() if k not in constants and len(v) == 4}


def _shape(node, found):
    shapes = [found.get(i) for i in node.input if i]
    if not shapes or shapes[0] is None:
        shapes = [s for s in shapes if s is not None and len(s) == 4] if node.op_type in ("Add", "Mul", "Sub") else []
        if not shapes:
            return None
    kind, first = node.op_type, shapes[0]
    if kind in _SAME:
        full = [s for s in shapes if s is not None and len(s) == 4]
        return max(full, key=lambda s: sum(d != 1 for d in s)) if full else None
    if len(first) != 4:
        return None
    if kind in _WINDOW:
        attr = attributes(node)
        weights = found.get(node.input[1]) if kind == "Conv" else None
        if kind == "Conv" and weights is None:
            return None
        return _windowed(node, first, attr, weights)
    if kind == "Concat" and attributes(node).get("axis") == 1 and all(s is not None for s in shapes):
        return [first[0], sum(s[1] for s in shapes), *first[2:]]
    return None


def _windowed(node, first, attr, weights):
    kernel = attr.get("kernel_shape") or weights[2:]
    stride, dilation = attr.get("strides", [1, 1]), attr.get("dilations", [1, 1])
    pads = attr.get("pads", [0] * 4)
    if attr.get("auto_pad", b"NOTSET") != b"NOTSET":
        return None
    size = []
    for i, name in enumerate("hw"):
        kept = stride[i] == 1 and pads[i] + pads[2 + i] == dilation[i] * (kernel[i] - 1)
        size.append(first[2 + i] if kept else f"{name}:{node.output[0]}")
    return [first[0], weights[0] if weights else first[1], *size]
