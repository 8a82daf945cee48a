"""The fast forms of derivatives (convert.fast) give what the plain derivatives give, on many random small nets."""
import zlib
from collections import Counter

import numpy as np
import pytest
import toys
from deepdream.convert.fast import forms
from deepdream.convert.fast.forms import FORMS, TABLES
from deepdream.convert.graph import attributes
from onnx_toys import net

from deepdream import convert

NETS = 36               # random nets for each operator
TOLERANCE = 1e-5        # relative L2 error


class Random:
    """Random choices for one net, and the nodes and constants chosen so far."""

    def __init__(self, *seed):
        self.rng = np.random.default_rng(seed)
        self.nodes, self.weights, self.channels = [], {}, {}

    def number(self, low, high):
        """A whole number; both bounds are included."""
        return int(self.rng.integers(low, high + 1))

    def numbers(self, low, high, n=2):
        """n of them; in half of the cases they are equal, as is common in real nets."""
        same = self.number(low, high)
        return [same] * n if self.chance(0.5) else [self.number(low, high) for _ in range(n)]

    def chance(self, p):
        return self.rng.random() < p

    def pick(self, *values):
        return values[self.number(0, len(values) - 1)]

    def add(self, op, *inputs, channels, **attr):
        """Add a node and return the name of its output. channels: how many that has."""
        name = f"t{len(self.nodes)}"
        attr = ", ".join(f"{k}={str(v) if not isinstance(v, str) else repr(v)}" for k, v in attr.items())
        self.nodes.append(f"{name} = {op}<{attr}>({', '.join(inputs)})" if attr else
                          f"{name} = {op}({', '.join(inputs)})")
        self.channels[name] = channels
        return name

    def conv(self, x, out, kernel=(1, 1), whole=True, **attr):
        """Add a convolution.

        whole: the weights are whole numbers, as the data are. Sums of them are exact, so if two values are equal in one
        form of the graph, they are equal in the other one, and both find the same maxima.
        """
        name, shape = f"w{len(self.weights)}", (out, self.channels[x] // attr.get("group", 1), *kernel)
        self.weights[name] = np.float32(self.rng.integers(-2, 3, shape) if whole else
                                        self.rng.standard_normal(shape) / np.prod(shape[1:]) ** 0.5)
        return self.add("Conv", x, name, channels=out, **attr)

    def relu(self, x):
        return self.add("Relu", x, channels=self.channels[x])

    def lrn(self, x):
        return self.add("LRN", x, channels=self.channels[x], size=self.pick(1, 3, 5, 7), bias=self.pick(1.0, 2.0, 0.5),
                        alpha=self.pick(0.0001, 0.01, 0.1), beta=self.pick(0.75, 0.75, 0.5, 0.9))

    def pool(self, op, x, kernel, strides, **attr):
        """Add a pooling.

        onnxruntime demands that pads are smaller than the kernel. It also drops a last window that begins after the
        picture, while its shape inference counts that window: fixed sizes are not combined with ceil_mode.
        """
        pads = [self.number(0, k - 1) if self.chance(0.5) else 0 for k in kernel * 2]
        return self.add(op, x, channels=self.channels[x], kernel_shape=kernel, strides=strides, pads=pads,
                        ceil_mode=0 if self.static else self.number(0, 1), **attr)

    def start(self, *dims):
        """Declare the data: 1 to 8 channels, dynamic axes except in every third net. dims: of the picture."""
        self.shape = (self.number(1, 2), self.number(1, 8), *dims)
        self.static = self.chance(1 / 3)
        self.channels["x"] = self.shape[1]
        return "x"

    def model(self):
        shape = self.shape if self.static else ("N", self.shape[1], *"DHW"[-(len(self.shape) - 2):])
        return net("; ".join(self.nodes), self.weights, shape, outputs=[f"t{len(self.nodes) - 1}"])


def average_pool(r):
    n = r.pick(1, 2, 2, 2, 3)
    x = r.start(*(r.number(5, 12) for _ in range(n)))
    strides = [1] * n if r.chance(0.6) else r.numbers(1, 4, n)
    y = r.pool("AveragePool", r.relu(x) if r.chance(0.5) else x, r.numbers(1, 5, n), strides,
               count_include_pad=r.number(0, 1))
    if r.chance(0.3):
        r.pool("AveragePool", y, [1] * n, r.numbers(1, 3, n))


def concat(r):
    """Most are followed by a normalization or a pooling, whose gradients have their channels last."""
    x = r.start(*r.numbers(8, 14))
    parts = [r.relu(r.conv(x, r.number(1, 20))) for _ in range(r.number(2, 4))]
    if r.chance(0.2):
        parts.append(parts[0])
    if r.static and r.chance(0.5):
        r.weights["k"] = np.float32(r.rng.integers(0, 3, (r.shape[0], 3, *r.shape[2:])))
        r.channels["k"] = 3
        parts.append("k")
    axis = r.pick(1, 1, -3, 2)
    y = r.add("Concat", *parts, axis=axis, channels=sum(map(r.channels.get, parts))) if axis != 2 else \
        r.add("Concat", x, x, axis=axis, channels=r.channels[x])
    r.pick(r.lrn, lambda y: r.pool("MaxPool", y, [3, 3], [2, 2]), r.relu)(y)


def conv(r):
    n, group = r.pick(1, 2, 2, 2, 2, 3), r.pick(1, 1, 1, 2, 4)
    kernel, dilations = r.numbers(1, 5 if n < 3 else 3, n), r.numbers(1, 2, n)
    pads = r.numbers(0, 4, 2 * n) if r.chance(0.7) else [0] * 2 * n
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    x = r.conv(r.start(*(r.number(max(5, size), size + 7) for size in reach)), group * r.number(1, 5), [1] * n)
    r.conv(x, group * r.number(1, 5), kernel, strides=r.numbers(1, 4, n), pads=pads, dilations=dilations, group=group)


def lrn(r):
    x = r.start(*r.numbers(4, 12))
    y = r.conv(x, r.number(1, 20), whole=False)
    y = r.lrn(r.relu(y) if r.chance(0.5) else y)
    if r.chance(0.5):
        r.lrn(y) if r.chance(0.3) else r.pool("MaxPool", y, [2, 2], [1, 1])


def max_pool(r):
    """Many follow a ReLU, and most have one of the two kinds of strides that there are fast forms for."""
    x = r.start(*r.numbers(11, 18))
    if r.chance(0.7):
        x = r.conv(x, r.number(1, 20), [3, 3], strides=r.pick([1, 1], [2, 2]), pads=[1] * 4)
    x = r.relu(x) if r.chance(0.75) else x
    if r.chance(0.2):
        x = r.add("Concat", x, x, axis=1, channels=2 * r.channels[x])
    kind = r.pick("stride 1", "stride 1", "larger strides", "larger strides", "any")
    if kind == "stride 1":
        kernel, strides = r.numbers(1, 4), [1, 1]
    elif kind == "larger strides":
        strides = r.numbers(2, 3)
        kernel = [r.number(s, s + 2) for s in strides]
    else:
        kernel, strides = r.numbers(1, 4), r.numbers(1, 4)
    y = r.pool("MaxPool", x, kernel, strides)
    if r.chance(0.3):
        r.conv(r.relu(y), 3)


def relu(r):
    x = r.start(*r.numbers(4, 9))
    for _ in range(r.number(1, 3)):
        x = r.relu(r.conv(x, r.number(1, 6)) if r.chance(0.7) else x)
    r.add("Add", x, "x", channels=r.channels[x]) if r.channels[x] == r.channels["x"] else r.conv(x, 2)


MAKERS = {"AveragePool": average_pool, "Concat": concat, "Conv": conv, "LRN": lrn, "MaxPool": max_pool, "Relu": relu}


def compare(r, label, device="cpu"):
    """Compare the fast and the plain gradient of a random net. Returns the fast graph and the plain gradient."""
    model = r.model()
    end = model.graph.output[0].name
    fast, plain = convert.gradient_graph(model, end, device=device), convert.gradient_graph(model, end, fast=False)
    data = np.float32(r.rng.integers(-3, 4, r.shape))
    diff = np.float32(r.rng.standard_normal(toys.run(model, data, [end])[0].shape))
    value, gradient = toys.run(fast, {"data": data, "end_diff": diff})
    expected_value, expected = toys.run(plain, {"data": data, "end_diff": diff})
    assert toys.off(value, expected_value) < TOLERANCE, (label, r.nodes, r.shape)
    assert toys.off(gradient, expected) < TOLERANCE, (label, r.nodes, r.shape)
    return fast, expected


@pytest.fixture
def chosen(monkeypatch):
    """Count the forms that are chosen: {(operator, number of the form in FORMS, or None for the plain one): nodes}."""
    counts, form_of = Counter(), forms.form_of

    def counted(node, device="cpu"):
        form = form_of(node, device)
        counts[node.op_type, TABLES[device][node.op_type].index(form) if form else None] += 1
        return form
    monkeypatch.setattr(forms, "form_of", counted)
    return counts


def test_every_fast_form_has_random_nets():
    assert all(set(MAKERS) == set(table) for table in TABLES.values())


@pytest.mark.slow
@pytest.mark.parametrize("device", TABLES)
@pytest.mark.parametrize("operator", FORMS)
def test_fast_forms_agree_with_plain_derivatives(operator, device, chosen):
    """Each form of the operator is used in at least a sixth of the nets."""
    nets_with, not_zero, splits = Counter(), 0, 0
    for i in range(NETS):
        r = Random(zlib.crc32(operator.encode()), i)
        MAKERS[operator](r)
        chosen.clear()
        graph, gradient = compare(r, f"{operator} {i}", device)
        nets_with.update({number for op, number in chosen if op == operator})
        not_zero += bool(gradient.any())
        splits += any(n.op_type == "Split" and attributes(n)["axis"] == 3 for n in graph.graph.node)
    assert not_zero > 0.9 * NETS
    for number, _ in enumerate(TABLES[device][operator]):
        assert nets_with[number] >= NETS / 6, (number, nets_with)
    if operator == "Concat" and device == "cpu":      # differs from the plain form only where the channels are last
        assert splits >= NETS / 4


@pytest.mark.parametrize("device", TABLES)
@pytest.mark.parametrize("seed", range(NETS))
def test_fast_forms_agree_where_several_meet(seed, device):
    """Chains of layers, as in GoogLeNet: forms pass on channels last, parts of pictures and zeros to each other."""
    r = Random(seed)
    k = r.number(2, 5)
    x = r.conv(r.start(*r.numbers(46, 55)), r.number(1, 20), [k, k], whole=False, strides=[2, 2], pads=[k // 2] * 4)
    for _ in range(r.number(1, 3)):
        x = r.relu(x)
        kind = r.pick("pool", "pool", "normalize", "branch")
        if kind == "pool":
            x = r.pool("MaxPool", x, [3, 3], r.pick([1, 1], [2, 2]))
        elif kind == "normalize":      # first a convolution: of equal values, rounding could choose another maximum
            x = r.lrn(r.relu(r.conv(x, r.number(1, 20), [3, 3], whole=False, pads=[1] * 4)))
            x = r.pool("MaxPool", x, [3, 3], [2, 2])
        else:
            pooled = r.add("MaxPool", x, channels=r.channels[x], kernel_shape=[3, 3], pads=[1] * 4)
            parts = [r.relu(r.conv(x, r.number(1, 20), whole=False)), r.conv(pooled, 4, whole=False),
                     r.relu(r.conv(x, r.number(1, 20), [3, 3], whole=False, pads=[1] * 4))]
            x = r.add("Concat", *parts, axis=1, channels=sum(map(r.channels.get, parts)))
    r.pool("AveragePool", x, [2, 2], [1, 1])
    compare(r, seed, device)
