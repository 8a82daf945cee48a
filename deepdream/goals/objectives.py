"""Objectives: what a dream maximizes.

Any function of `dst` that sets `dst.diff` is an objective, as in the notebook. An `Objective` can also write itself as
ONNX nodes. It then runs inside the step graph, and the picture stays on the device. Objectives can be added and scaled,
and each can look at another layer:

    objective_L2 + 0.3 * objective_L2.at("inception_3b/output")
    objective_channel([13, 17]).at("inception_4d/3x3") - 0.1 * objective_L2
"""
import copy
import numbers
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..errors import DreamError
from ..keywords import accepts_any, arguments_of, unexpected

if TYPE_CHECKING:
    from ..convert.graph import Graph, Tensor

PRODUCTS = 1 << 24      # the maximum number of dot products with a guide that are computed at a time (64 MB)


class Term(NamedTuple):
    """A term of an objective, with its weight."""
    weight: float
    objective: "Objective"


class Objective:
    """An objective that can write itself as ONNX nodes.

    A subclass implements `__call__` and `nodes`. The nodes are written once for a dream, so everything that changes
    from step to step must be an input.

    formula: the value of the objective, in one line.
    in_graph: whether the objective can write itself as ONNX nodes.
    tileable: whether it treats all positions alike, so that a picture can be dreamt tile by tile.
    is_mean: whether it is a mean over the positions rather than a sum.
    inputs: the arrays that the nodes read, by name. Floating point numbers become float32, like the values of a layer.
    end: the layer that the objective looks at; None for the `end` of the dream.
    """
    formula = ""
    in_graph = True
    tileable = True
    is_mean = False

    def __init__(self, **inputs: np.ndarray):
        self.inputs, self.end = {name: _float32(value) for name, value in inputs.items()}, None

    def __call__(self, dst) -> float | None:
        """Set dst.diff in NumPy and return the value of the objective. Tests compare `nodes` with it."""
        raise NotImplementedError

    def nodes(self, g: "Graph", x: "Tensor", inputs: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
        """Append the nodes of the objective to a graph.

        g: the graph (a convert.graph.Graph).
        x: the value of the layer, (1, C, h, w) or (1, C).
        inputs: the inputs of the objective, by name.

        Returns the objective, a scalar, and its gradient with respect to x.
        """
        raise NotImplementedError

    def check_layer(self, name: str, channels: int | None) -> None:
        """Raise DreamError if the objective does not suit a layer.

        name: the name of the layer.
        channels: the number of its channels; None if it is unknown.
        """

    def at(self, end: str) -> "Objective":
        """Return the same objective at the layer `end`."""
        new = copy.copy(self)
        new.end = end
        return new

    def bound(self, end: str) -> "Objective":
        """Return the same objective, with the layer `end` for each term that does not name a layer."""
        return self if self.end else self.at(end)

    @property
    def terms(self) -> list[Term]:
        """The terms of the objective, with their weights."""
        return [Term(1.0, self)]

    @property
    def ends(self) -> list[str]:
        """The layers that the objective looks at, each once."""
        return list(dict.fromkeys(term.end for _, term in self.terms))

    @property
    def mean_ends(self) -> set[str]:
        """The layers at which the objective is a mean over positions."""
        return {term.end for _, term in self.terms if term.is_mean}

    @property
    def identity(self) -> object:
        """The part of a graph's cache key that stands for the objective's nodes.

        For a class of this module it is the name of the class, so everything else that its nodes depend on must be
        among its inputs. A custom objective can write any nodes, so it is identified by the object itself.
        """
        if type(self).__module__ != __name__:
            return self
        assert set(vars(self)) == {"inputs", "end"}, "the nodes of a built-in objective depend on its inputs alone"
        return type(self).__name__

    def feeds(self) -> dict[str, np.ndarray]:
        """Return the arrays that the graph of the objective is fed with, by the names of the graph's inputs."""
        named = {f"term{t}:{k}": v for t, (_, term) in enumerate(self.terms) for k, v in term.inputs.items()}
        named |= {f"term{t}:weight": np.float32(w) for t, (w, _) in enumerate(self.terms) if w != 1}
        return {k: np.asarray(v) for k, v in named.items()}

    def __add__(self, other):
        return Sum(self.terms + other.terms) if isinstance(other, Objective) else NotImplemented

    def __radd__(self, other):       # sum() starts with 0 + the first objective
        return self if isinstance(other, numbers.Real) and other == 0 else NotImplemented

    def __mul__(self, weight):
        if not isinstance(weight, numbers.Real):
            return NotImplemented
        if not np.isfinite(weight):
            raise DreamError(f"an objective's weight is {weight}; allowed are finite numbers")
        return Sum([(float(weight) * w, term) for w, term in self.terms])

    __rmul__ = __mul__

    def __neg__(self):
        return self * -1

    def __sub__(self, other):
        return self + -other if isinstance(other, Objective) else NotImplemented

    def __repr__(self):
        return f"{self.formula}" + (f" at {self.end}" if self.end else "")


class Sum(Objective):
    """A weighted sum of objectives, each at any layer.

    terms: pairs of a weight and an objective.
    """

    def __init__(self, terms: Iterable[tuple[float, Objective]]):
        super().__init__()
        self._terms = [Term(*term) for term in terms]
        if not all(term.in_graph for _, term in self._terms):
            raise DreamError("a Python function of dst cannot be one term of a sum; add up what it sets in dst.diff")

    terms = property(lambda self: self._terms)
    tileable = property(lambda self: all(term.tileable for _, term in self._terms))
    formula = property(lambda self: " + ".join(f"{w:g} * ({t!r})" for w, t in self._terms))

    def at(self, end):
        return Sum([(w, t.at(end)) for w, t in self._terms])

    def bound(self, end):
        return Sum([(w, t.bound(end)) for w, t in self._terms])

    def __call__(self, dst):
        if len(self.ends) > 1:
            raise DreamError("an objective that looks at several layers cannot be called with the blob of one")
        total, value = np.zeros_like(dst.diff), 0.0
        for weight, term in self._terms:
            value += weight * term(dst)
            total += np.float32(weight) * dst.diff
        dst.diff[...] = total
        return value


class Function(Objective):
    """Any function of `dst` that sets `dst.diff`, as in the notebook. It runs between forward and backward."""
    formula = "a function of dst"
    in_graph = False

    def __init__(self, function: Callable):
        super().__init__()
        self.function = function

    def __call__(self, dst):
        self.function(dst)


def as_objective(objective: Objective | type[Objective] | Callable, end: str, arguments: dict | None = None,
                 function: str = "make_step", allowed: Iterable[str] = ()) -> Objective:
    """Convert what was passed to `make_step` or `deepdream` to an Objective with a layer for each of its terms.

    objective: an Objective, a subclass of Objective, or any function of dst.
    end: the layer of terms that do not name a layer.
    arguments: the arguments of the class, if the objective is a class.
    function, allowed: the function that they were passed to, and its own arguments, for error messages.

    Raises DreamError for objective_guide without arguments, and TypeError for arguments that nothing takes.
    """
    arguments = arguments or {}
    is_class = isinstance(objective, type) and issubclass(objective, Objective)
    taken = arguments_of(objective) if is_class else []
    for name in arguments:
        if name not in taken and not (is_class and accepts_any(objective)):
            raise unexpected(function, name, [*allowed, *taken])
    if is_class:
        if objective is objective_guide and not arguments:
            raise DreamError("objective_guide needs the guide's features: objective=objective_guide(guide_features)")
        objective = objective(**arguments)
    return (objective if isinstance(objective, Objective) else Function(objective)).bound(end)


class L2(Objective):
    """The notebook's objective: half the sum of the squares of a layer's values."""
    formula = "1/2 sum(x^2)"

    def __call__(self, dst):
        dst.diff[:] = dst.data
        return 0.5 * float(np.sum(np.square(dst.data, dtype=np.float64)))

    def nodes(self, g, x, inputs):
        return g.op("ReduceSumSquare", x, keepdims=0) * 0.5, x


class objective_channel(Objective):
    """Half the sum of the squares of some channels.

    channels: the numbers of the channels, from 0.
    """
    formula = property(lambda self: f"1/2 sum(x[{_listed(self.inputs['channels'])}]^2)")

    def __init__(self, channels: Iterable[int]):
        super().__init__(channels=np.unique(np.asarray(channels, np.int64)))

    def check_layer(self, name, channels):
        _check_channels(self.inputs["channels"], name, channels)

    def __call__(self, dst):
        dst.diff[...] = 0
        chosen = self.inputs["channels"]
        dst.diff[:, chosen] = dst.data[:, chosen]
        return 0.5 * float(np.sum(np.square(dst.data[:, chosen], dtype=np.float64)))

    def nodes(self, g, x, inputs):
        diff = x * _channels_of(g, inputs["channels"], x)
        return g.op("ReduceSumSquare", diff, keepdims=0) * 0.5, diff


class objective_neuron(Objective):
    """The value of one neuron: of one channel at one position.

    channel: the number of the channel, from 0.
    x, y: the position, 0 to 1 from the left and from the top, so that it is the same in each octave.
    """
    formula = property(lambda self: f"x[{_listed(self.inputs['channel'])}] at one position")
    tileable = False

    def __init__(self, channel: int, x: float = 0.5, y: float = 0.5):
        if not (0 <= x <= 1 and 0 <= y <= 1):
            raise DreamError(f"a neuron's place is {x:g},{y:g}; allowed is 0 to 1 from the left and from the top")
        super().__init__(channel=np.array([channel], np.int64), place=np.array([y, x], np.float32))

    def check_layer(self, name, channels):
        _check_channels(self.inputs["channel"], name, channels)

    def __call__(self, dst):
        dst.diff[...] = 0
        size = np.array(dst.data.shape[2:], np.int64)
        place = np.minimum((self.inputs["place"][:len(size)] * size.astype(np.float32)).astype(np.int64), size - 1)
        at = (0, int(self.inputs["channel"][0]), *place)
        dst.diff[at] = 1
        return float(dst.data[at])

    def nodes(self, g, x, inputs):
        size = g.op("Concat", g.shape(x, start=2), [1, 1], axis=0)            # (h, w), or (1, 1) without positions
        size = g.slice(size, [0], [0], [2])
        place = g.op("Cast", inputs["place"] * g.op("Cast", size, to=1), to=7)
        place = g.op("Min", place, g.op("Sub", size, [1]))
        width = g.slice(size, [0], [1], [2])
        place = g.op("Add", g.op("Mul", g.slice(place, [0], [0], [1]), width), g.slice(place, [0], [1], [2]))
        index = g.op("Add", g.op("Mul", inputs["channel"], g.op("ReduceProd", size, axes=[0])), place)
        diff = _as(g, _marked(g, index, g.op("Size", x), [1, 1, -1]), x)
        return g.op("ReduceSum", x * diff, keepdims=0), diff


class objective_class(Objective):
    """The score of a class before the softmax; if the scores are a map, their mean.

    index: the number of the class, from 0.
    """
    formula = property(lambda self: f"mean(x[{_listed(self.inputs['channel'])}])")
    is_mean = True

    def __init__(self, index: int):
        super().__init__(channel=np.array([index], np.int64))

    def check_layer(self, name, channels):
        _check_channels(self.inputs["channel"], name, channels)

    def __call__(self, dst):
        dst.diff[...] = 0
        chosen = int(self.inputs["channel"][0])
        dst.diff[:, chosen] = 1 / dst.data[0, 0].size
        return float(np.mean(dst.data[:, chosen], dtype=np.float64))

    def nodes(self, g, x, inputs):
        positions = g.op("Div", g.op("Size", x), g.op("Gather", g.shape(x), np.array(1)))
        share = g.op("Reciprocal", g.op("Cast", positions, to=1))
        diff = g.op("Expand", _channels_of(g, inputs["channel"], x) * share, g.shape(x))
        return g.op("ReduceSum", x * diff, keepdims=0), diff


class objective_match(Objective):
    """The negative squared distance to target features, which makes a picture look like another one to the net.

    features: (C, h, w), the features at `end` of a picture of the same size.
    """
    formula = "-sum((x - features)^2)"
    tileable = False

    def __init__(self, features: np.ndarray):
        features = np.asarray(features, np.float32)
        super().__init__(features=np.array(features[None] if features.ndim in (1, 3) else features))

    def __call__(self, dst):
        missing = self.inputs["features"] - dst.data
        dst.diff[...] = 2 * missing
        return -float(np.sum(np.square(missing, dtype=np.float64)))

    def nodes(self, g, x, inputs):
        missing = inputs["features"] - x
        return -g.op("ReduceSumSquare", missing, keepdims=0), missing * 2.0


class objective_guide(Objective):
    """The notebook's guide: each position of the picture follows the position of the guide that it resembles most.

    guide_features: the guide's values at `end`, float32 (C, h, w) or (1, C, h, w); (C, tokens) for tokens.
    """
    formula = "sum over positions of max over j of x . y_j"

    def __init__(self, guide_features: np.ndarray):
        y = np.asarray(guide_features, np.float32)
        y = y[0] if y.ndim == 4 else y
        if y.ndim not in (2, 3):
            raise ValueError(f"guide_features must be (C, h, w) or, of tokens, (C, tokens), not {y.shape}")
        super().__init__(guide=np.array(y.reshape(y.shape[0], -1)))

    def check_layer(self, name, channels):
        guide_channels = len(self.inputs["guide"])
        if channels not in (None, guide_channels):
            raise DreamError(f"the guide's features have {guide_channels} channels, '{name}' has {channels}")

    def __call__(self, dst):
        y = self.inputs["guide"]
        x = dst.data[0].reshape(y.shape[0], -1)
        best = np.empty(x.shape[1], np.int64)
        block = max(1, PRODUCTS // y.shape[1])
        for i in range(0, x.shape[1], block):
            best[i:i + block] = x[:, i:i + block].T.dot(y).argmax(1)
        dst.diff[0].reshape(y.shape[0], -1)[:] = y[:, best]
        return float(np.vdot(dst.data, dst.diff))

    def nodes(self, g, x, inputs):
        y = inputs["guide"]
        flat = g.op("Transpose", g.op("Squeeze", g.op("Reshape", x, [0, 0, -1]), [0]), perm=[1, 0])   # (positions, C)
        best = self._best(g, flat, y)
        diff = g.op("Reshape", g.op("Gather", y, best, axis=1), g.shape(x))
        return g.op("ReduceSum", x * diff, keepdims=0), diff

    @staticmethod
    def _best(g, flat, y):
        """Return, for each position, the column of y with the largest dot product, computed in blocks of positions."""
        from onnx import TensorProto, helper
        count = g.shape(flat, start=0, end=1)
        block = g.op("Max", g.op("Div", [PRODUCTS], g.shape(y, start=1)), [1])
        block = g.op("Min", block, count)
        missing = g.op("Mod", g.op("Sub", block, g.op("Mod", count, block)), block)    # rows to fill the last block
        padded = g.op("Pad", flat, g.op("Concat", [0, 0], missing, [0], axis=0))
        blocks = g.op("Reshape", padded, g.op("Concat", [-1], block, g.shape(flat, start=1), axis=0))
        names = [g.unique(f"scan:{n}") for n in ("block", "products", "best")]
        body = helper.make_graph(
            [helper.make_node("MatMul", [names[0], y.name], [names[1]]),
             helper.make_node("ArgMax", [names[1]], [names[2]], axis=1, keepdims=0)], "best of a block",
            [helper.make_tensor_value_info(names[0], TensorProto.FLOAT, [None, None])],
            [helper.make_tensor_value_info(names[2], TensorProto.INT64, [None])])
        best = g.op("Scan", blocks, body=body, num_scan_inputs=1)
        return g.slice(g.op("Reshape", best, [-1]), [0], [0], count)


objective_L2 = L2()      # it has no parameters, and is passed as it is, as in the notebook


def _check_channels(chosen, name, channels):
    wrong = [int(c) for c in chosen if c < 0 or channels is not None and c >= channels]
    if wrong or not len(chosen):
        allowed = f"0 to {channels - 1}" if channels is not None else "numbers from 0"
        raise DreamError(f"'{name}' has no channel {wrong[0]}; allowed are {allowed}" if wrong else
                         f"'{name}': no channels are given; allowed are {allowed}")


def _listed(channels, most=6):
    """Return the numbers of channels as text; of a long list the first ones."""
    return ", ".join(map(str, channels[:most])) + ", ..." * (len(channels) > most)


def _float32(value):
    """Return an input as it is, or in float32 if it is a floating point number or an array of such numbers."""
    return np.asarray(value, np.float32) if np.asarray(value).dtype.kind == "f" else value


def _channels_of(g, indices, x):
    """Return a mask, 1 for the channels with these numbers and 0 for others, to multiply with x."""
    from onnx import numpy_helper
    one = numpy_helper.from_array(np.ones(1, np.int64))
    ones = g.op("ConstantOfShape", g.op("Sub", g.shape(g.shape(x)), [2]), value=one)
    return _marked(g, indices, g.shape(x, start=1, end=2), g.op("Concat", [1, -1], ones, axis=0))


def _as(g, flat, x):
    return g.op("Reshape", flat, g.shape(x))


def _marked(g, indices, count, shape):
    """Return a tensor of `count` numbers in the shape `shape`: 1 at the indices, and 0 elsewhere."""
    numbers_ = g.op("Range", np.array(0), g.op("Reshape", count, np.array([], np.int64)), np.array(1))
    hits = g.op("Cast", g.op("Equal", g.op("Unsqueeze", indices, [1]), numbers_), to=1)
    return g.op("Reshape", g.op("ReduceMax", hits, axes=[0], keepdims=0), shape)
