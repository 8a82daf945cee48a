"""The metadata of a forward graph: one dataclass, written to a model and read back from it.

The metadata is checked when it is read, because anybody may have edited the file. The onnx package is imported only
where it is needed: importing it is slow, and facts that come from a cache do not need it.
"""
from __future__ import annotations

import json
import math
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

from .errors import ConvertError, about, shown

if TYPE_CHECKING:
    import onnx


class End(NamedTuple):
    """The description of an `end`.

    channels: the number of channels; None if unknown.
    stride: (h, w), input pixels for one position of the end; None if it has no spatial axes.
    operator: the operator that computes it; None for Caffe nets.
    channels_last: whether its last axis is that of the channels, as in the tokens of a transformer, (N, tokens, C).
    block: the block of layers that it belongs to; None if unknown.
    good: whether it is the end of a block, and so a good layer to dream at.
    """
    channels: int | None
    stride: tuple[float, float] | None
    operator: str | None = None
    channels_last: bool = False
    block: str | None = None
    good: bool = False


class Write(NamedTuple):
    """One result of a Caffe layer: the blob that it is written to, and the tensor that holds it in the graph."""
    layer: str
    blob: str
    tensor: str


@dataclass(frozen=True)
class Facts:
    """The description of a net that its forward graph carries in its metadata.

    data: the name of the input.
    data_shape: the declared shape of the input, (N, C, H, W).
    ends: the names that can be an `end`, in the net's order.
    writes: the results of all layers, in order.
    left_out: {name: why it cannot be an end}.
    lost: {blob: type of its layer}, for outputs of the net that could not be converted.
    mean, channel_swap: how pictures are prepared for the net; None if not specified.
    outputs: the names of the graph's outputs.
    classifier: the `end` with a score for each class; None if there is none (see `convert.classifier`).
    no_classifier: why there is none.
    """
    data: str
    data_shape: tuple[int, ...]
    ends: dict[str, End]
    writes: tuple[Write, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    lost: dict[str, str] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    channel_swap: tuple[int, ...] | None = None
    outputs: tuple[str, ...] = ()
    classifier: str | None = None
    no_classifier: str | None = None

    def write(self, model: onnx.ModelProto) -> None:
        """Store the facts in a model's metadata, except the outputs and the classifier, which follow from the graph."""
        from onnx.helper import set_model_props

        from .graph import metadata
        ends = {name: {k: v for k, v in end._asdict().items() if k in ("channels", "stride") or v} for name, end in
                self.ends.items()}
        values = {name: getattr(self, name) for name in _READ} | {"ends": ends}
        texts = {name: value if name == "data" else json.dumps(value) for name, value in values.items()
                 if value is not None}
        set_model_props(model, metadata(model) | texts)

    @classmethod
    def read(cls, model: onnx.ModelProto, source: str = "the model", whole: bool = True) -> Facts | None:
        """Read the facts from a model's metadata.

        model: a forward graph.
        source: what error messages call the model.
        whole: whether the model must be a whole net. False accepts a part of a net that carries the metadata of the
        whole, such as a gradient graph.

        Returns None for a model that this converter did not write. Raises ConvertError for facts that do not fit it.
        """
        from .graph import metadata
        texts = metadata(model)
        if whole and "end" in texts:
            raise ConvertError(f"{source}: this is the gradient graph of '{shown(texts['end'])}'; pass the net that it "
                               "was built from")
        if "writes" not in texts:
            return None
        values = {}
        for name, (fits, required) in _READ.items():
            if name in texts:
                with about(f"{source}: its metadata, {name}"):
                    values[name] = texts[name] if name == "data" else json.loads(texts[name])
            elif required:
                raise ConvertError(f"{source}: damaged: its metadata lacks {name}")
            if name in values and not fits(values[name]):
                raise ConvertError(f"{source}: damaged: its metadata, {name}, is {shown(texts[name])}")
        facts = cls.from_plain(values | {"outputs": [o.name for o in model.graph.output]})
        if whole:
            facts._check_names(model, source)
        return facts

    def _check_names(self, model, source):
        """Raise ConvertError if the facts name tensors or layers that are not in the model."""
        inputs = {i.name for i in model.graph.input}
        existing = inputs | {name for node in model.graph.node for name in node.output}
        layers = {write.layer for write in self.writes}
        missing = [name for name in (self.data, *(write.tensor for write in self.writes)) if name not in existing] \
            + [end for end in self.ends if end not in layers] + [self.data] * (self.data not in inputs)
        if missing:
            raise ConvertError(f"{source}: damaged: its metadata names '{shown(missing[0])}', which is not in the net")

    def plain(self) -> dict:
        """Return the facts as a dict that JSON can hold. `from_plain` is the inverse."""
        return asdict(self) | {"ends": {name: end._asdict() for name, end in self.ends.items()}}

    @classmethod
    def from_plain(cls, values: dict) -> Facts:
        """Restore the facts from a dict of `plain`."""
        ends = {name: End(end["channels"], end["stride"] and tuple(end["stride"]), end.get("operator"),
                           bool(end.get("channels_last")), end.get("block"), bool(end.get("good")))
                for name, end in values["ends"].items()}
        tuples = {k: tuple(v) for k, v in values.items() if isinstance(v, list)}
        return cls(**{**values, **tuples, "ends": ends, "writes": tuple(Write(*w) for w in values["writes"])})


def _is_number(value):
    return type(value) in (int, float) and math.isfinite(value) and abs(value) < 1e9


def _is_text(value):
    return isinstance(value, str)


def _is_list(value, fits, count=None):
    return isinstance(value, list) and all(map(fits, value)) and count in (None, len(value))


def _is_texts(value):
    return isinstance(value, dict) and all(map(_is_text, value.values()))


def _is_end(value):
    """Does the value describe an End, as JSON holds it?"""
    return isinstance(value, dict) and {"channels", "stride"} <= set(value) \
        and (value["channels"] is None or type(value["channels"]) is int) \
        and (value["stride"] is None or _is_list(value["stride"], lambda v: _is_number(v) and v > 0, 2)) \
        and all(isinstance(value.get(name) or "", str) for name in ("operator", "block"))


# the entries of the metadata: (is this value valid?, is the entry required?)
_READ = {
    "data": (_is_text, True),
    "data_shape": (lambda v: _is_list(v, lambda d: type(d) is int and 0 < d < 1 << 31) and v, True),
    "ends": (lambda v: isinstance(v, dict) and all(map(_is_end, v.values())), True),
    "writes": (lambda v: _is_list(v, lambda write: _is_list(write, _is_text, 3)), True),
    "left_out": (_is_texts, True),
    "lost": (_is_texts, False),
    "mean": (lambda v: _is_list(v, _is_number), False),
    "channel_swap": (lambda v: _is_list(v, _is_number) and sorted(v) == [0, 1, 2], False),
}
