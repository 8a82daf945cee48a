"""Net surgery: each InnerProduct as a convolution with the same numbers, so that a classifier runs at any picture size.

A kernel as large as the bottom at the declared input shape sees there what the InnerProduct sees. On a larger picture
it slides, and gives a map of class scores. (Caffe: examples/net_surgery.ipynb, bvlc_caffenet_full_conv.prototxt.)
"""
from .layers import LAYERS, product_blobs


class Surgery:
    """What is known during conversion of the tensors that net surgery concerns, by name.

    maps: they are maps of scores, (N, C, h, w), where Caffe's blob is (N, C).
    reshaped: tensor -> the Flatten or Reshape before it: its numbers have lost their places.
    """

    def __init__(self):
        self.maps, self.reshaped = set(), {}

    def convert(self, c, *bottoms):
        """As `LAYERS[type](c, *bottoms)`; raises ConvertError, in one line, where surgery is impossible."""
        kind, maps = c.layer.type, [b.name in self.maps for b in bottoms]
        if any(maps) and not all(maps):
            raise c.error("net surgery makes a map of scores of its bottom "
                          f"'{c.layer.bottom[maps.index(True)]}', but not of '{c.layer.bottom[maps.index(False)]}'")
        if maps[0]:
            c.rank = 2
            if kind == "Flatten" and c.axis(c.layer.flatten_param.axis) == 1:
                return bottoms[0]        # the identity in Caffe, where (N, C) is flat
            if kind in ("Flatten", "Reshape"):
                raise c.error("cannot follow an InnerProduct under net surgery: it would mix the places of the map")
        if kind != "InnerProduct":
            return LAYERS[kind](c, *bottoms)
        if bottoms[0].name in self.reshaped:
            raise c.error(f"net surgery cannot reach it behind {self.reshaped[bottoms[0].name]}")
        return inner_product(c, *bottoms)

    def note(self, layer, bottoms, tops):
        """Keep what a converted layer's tops are. bottoms, tops: names of tensors; tops with their nominal shapes."""
        reshaped = [self.reshaped[b] for b in bottoms if b in self.reshaped]
        if layer.type in ("Flatten", "Reshape") and bottoms[0] not in self.maps:
            reshaped = [f"layer '{layer.name}' ({layer.type})"]
        for name, shape in tops:
            if reshaped:
                self.reshaped[name] = reshaped[0]
            if len(shape) == 4 and (layer.type == "InnerProduct" or bottoms[0] in self.maps):
                self.maps.add(name)


def inner_product(c, x):
    """The convolution that gives, at the declared input shape, what the InnerProduct gives."""
    p = c.layer.inner_product_param
    if c.axis(p.axis) != 1:
        raise c.error(f"net surgery needs axis 1, not {p.axis}")
    if len(c.shape) != 4:
        raise c.error(f"net surgery needs a bottom of 4 axes (N, C, H, W), not {c.shape}")
    batch, *volume = c.shape
    weights, bias = product_blobs(c, 1)
    weights = (weights.T if p.transpose else weights).reshape(p.num_output, *volume)
    y = c.g.op("Conv", x, c.constant(weights, "weights"), bias, kernel_shape=volume[1:])
    return y, (batch, p.num_output, 1, 1)
