"""Known Caffe nets for the tests: their deploy files with fewer channels, random weights of the shapes that follow."""
import math

import toys
from deepdream.convert.caffe.reader import parse_prototxt

SPATIAL = ("Convolution", "Pooling")


def shrunk(text, divisor, size=None):
    """Read a deploy file and reduce its channels.

    text: of the prototxt. divisor: what the numbers of channels are divided by; at least four a group stay.
    size: (height, width) of the declared input; None keeps the file's.

    Returns a NetParameter in V2 form.
    """
    net = parse_prototxt(text)
    for layer in net.layer:
        if layer.type == "Convolution":
            p = layer.convolution_param
            p.num_output = p.group * max(4, p.num_output // p.group // divisor)
        elif layer.type == "InnerProduct":
            p = layer.inner_product_param
            p.num_output = max(4, p.num_output // divisor)
        elif layer.type == "Input" and size:
            layer.input_param.shape[0].dim[2:] = size
    return net


def weights(net, seed=0):
    """Make random weights for a NetParameter in V2 form.

    Returns {layer: [arrays]}: normal with He's spread for convolutions and products, near one for scales and variances.
    """
    shapes, blobs = {}, {}
    for layer in net.layer:
        if layer.type in ("Input", "Data"):
            dims = layer.input_param.shape[0].dim if layer.type == "Input" else \
                [1, 3] + [layer.transform_param.crop_size or layer.data_param.crop_size] * 2
            shapes[layer.top[0]] = list(dims[1:])
            continue
        if any(b not in shapes for b in layer.bottom):
            continue                                                # after the labels: accuracy and loss
        inner = [shapes[b] for b in layer.bottom]
        shape, wanted = _shapes(layer, inner)
        if wanted:
            blobs[layer.name] = [_array(layer, i, s, seed) for i, s in enumerate(wanted)]
        shapes.update({top: shape for top in layer.top})
    return blobs


def _shapes(layer, inner):
    """The shape of the tops, without the batch, and the shapes of the weights."""
    channels, *pixels = inner[0]
    if layer.type in SPATIAL:
        p = layer.convolution_param if layer.type == "Convolution" else layer.pooling_param
        if layer.type == "Pooling" and p.global_pooling:
            return [channels, 1, 1], []
        kernel, stride, pad = (_first(getattr(p, f)) for f in ("kernel_size", "stride", "pad"))
        rounded = math.floor if layer.type == "Convolution" else math.ceil
        pixels = [rounded((n + 2 * pad - kernel) / (stride or 1)) + 1 for n in pixels]
        if layer.type == "Pooling":
            pixels = [n - (pad > 0 and (n - 1) * stride >= before + pad) for n, before in zip(pixels, inner[0][1:])]
            return [channels, *pixels], []
        kernels = [(p.num_output, channels // p.group, kernel, kernel), (p.num_output,)]
        return [p.num_output, *pixels], kernels[:1 + p.bias_term]
    if layer.type == "InnerProduct":
        p = layer.inner_product_param
        return [p.num_output], [(p.num_output, math.prod(inner[0])), (p.num_output,)][:1 + p.bias_term]
    if layer.type == "Concat":
        return [sum(s[0] for s in inner), *pixels], []
    if layer.type == "BatchNorm":
        return inner[0], [(channels,), (channels,), (1,)]
    if layer.type == "Scale":
        return inner[0], [(channels,)] * (1 + layer.scale_param.bias_term)
    return inner[0], []


def _first(value):
    return value if isinstance(value, int) else (list(value) or [0])[0]


def _array(layer, i, shape, seed):
    array = toys.formula(f"{layer.name}/{seed}", i, shape)
    positive = (layer.type, i) in (("BatchNorm", 1), ("Scale", 0))
    return 1 + array if positive or (layer.type, i) == ("BatchNorm", 2) else array
