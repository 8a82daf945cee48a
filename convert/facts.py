"""What a forward graph tells of itself in its metadata: one record, with one way to write it and one to read it.

onnx takes its time to import, and a record that was kept elsewhere does without it.
"""
from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import onnx


class End(NamedTuple):
    """What is known of an `end`.

    channels: how many; None if that is not known.
    stride: (h, w), pixels of the input for one position; None if it has no positions.
    operator: that computes it, of nets that are not Caffe's.
    """
    channels: int | None
    stride: tuple[float, float] | None
    operator: str | None = None


class Write(NamedTuple):
    """One result of a layer: which blob it goes into, and which tensor holds it from there on."""
    layer: str
    blob: str
    tensor: str


@dataclass(frozen=True)
class Facts:
    """What a net's forward graph tells of itself.

    data: the name of its input; data_shape: the input's declared shape (N, C, H, W).
    ends: the names that can be an `end`, in the net's order.
    writes: the results of all layers, in order.
    left_out: {blob: why it is not there}, for what follows on something that is not supported.
    outputs: the names of the graph's outputs.
    classifier: the `end` with a score for each class.
    mean, channel_swap: how it wants its pictures, if somebody said so.
    """
    data: str
    data_shape: tuple[int, ...]
    ends: dict[str, End]
    writes: tuple[Write, ...]
    left_out: dict[str, str] = field(default_factory=dict)
    outputs: tuple[str, ...] = ()
    classifier: str | None = None
    mean: tuple[float, ...] | None = None
    channel_swap: tuple[int, ...] | None = None

    def write(self, model: onnx.ModelProto):
        """Put the facts into a model's metadata. The outputs and the classifier are seen in the graph itself."""
        from onnx.helper import set_model_props

        from .graph import metadata
        ends = {name: {k: v for k, v in end._asdict().items() if k != "operator" or v} for name, end in
                self.ends.items()}
        told = {"ends": ends, "writes": self.writes, "left_out": self.left_out, "data_shape": self.data_shape}
        told |= {k: v for k in ("mean", "channel_swap") if (v := getattr(self, k)) is not None}
        known = metadata(model) | {"data": self.data} | {k: json.dumps(v) for k, v in told.items()}
        set_model_props(model, known)

    @classmethod
    def read(cls, model: onnx.ModelProto) -> Facts | None:
        """The facts in a model's metadata; None if it was not made by this converter."""
        from .graph import metadata
        held = metadata(model)
        if "writes" not in held:
            return None
        told = {k: json.loads(held[k]) for k in ("ends", "writes", "left_out", "data_shape", "mean", "channel_swap")
                if k in held}
        return cls.from_plain({"data": held["data"], **told, "outputs": [o.name for o in model.graph.output],
                               "classifier": _classifier(model, told["ends"])})

    def plain(self) -> dict:
        """The facts as a dict that JSON can hold; `from_plain` reads it back."""
        return asdict(self) | {"ends": {name: end._asdict() for name, end in self.ends.items()}}

    @classmethod
    def from_plain(cls, told: dict) -> Facts:
        ends = {name: End(end["channels"], end["stride"] and tuple(end["stride"]), end.get("operator"))
                for name, end in told["ends"].items()}
        tuples = {k: v and tuple(v) for k, v in told.items() if isinstance(v, list)}
        return cls(**{**told, **tuples, "ends": ends, "writes": tuple(Write(*w) for w in told["writes"])})


def _classifier(model, ends):
    scores = [n.input[0] for n in model.graph.node if n.op_type in ("Softmax", "LogSoftmax")]
    return ([s for s in scores if s in ends] or list(ends))[-1]
