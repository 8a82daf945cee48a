"""Find the tensor of a net that holds a score for each class."""
from __future__ import annotations

import onnx

from .facts import Facts
from .graph import attributes
from .graph.source import Source

NORMALIZED = ("Softmax", "LogSoftmax")
LINEAR = ("Gemm", "MatMul", "Add")
CARRIED = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")     # may leave the scores unchanged


def classifier(model: onnx.ModelProto) -> tuple[str | None, str | None]:
    """Find the end that holds a score for each class.

    The scores are the net's output or, if it is the result of a Softmax or LogSoftmax, the input of the last of these:
    (N, classes), or a map of scores (N, classes, h, w). Without a Softmax, only the map of a Caffe net may have more
    than one position at the declared size, because other nets with such an output produce pictures. Of several
    outputs, the one after a Softmax counts, else the one with two axes that a linear layer computes.

    model: as returned by `to_onnx` or `onnx_net`.

    Returns (end, None), or (None, why there is none).
    """
    source, facts = Source(model), Facts.read(model)
    ends, left_out, lost = facts.ends, facts.left_out, facts.lost
    outputs = [o.name for o in model.graph.output if o.name in source.depends_on_input | source.depends_in_steps]
    scores = {name: _before_softmax(source, name, ends) for name in outputs}
    softmaxed = {s for o, s in scores.items() if s != o} | {o for o, kind in lost.items() if kind in NORMALIZED}
    found = _only(source, softmaxed or {*outputs, *lost}, lost)
    if found in left_out:
        return None, f"{left_out[found]} is not supported, and its scores, '{found}', need it"
    if found in ends and found != facts.data and (
            found in softmaxed or ends[found].operator is None or len(_plain(source.declared_shape(found)) or ()) == 2):
        return found, None
    listed = ", ".join(f"'{o}'{_described(source.declared_shape(o))}" for o in outputs)
    return None, f"one of scores, (N, classes), is needed among its outputs: {listed or 'none depends on the picture'}"


def _only(source, candidates, lost):
    """Return the only candidate that can hold the scores, else None. lost: the outputs that are not in the model."""
    unknown = [name for name in lost if name in candidates]
    if unknown:
        return unknown[0]
    if len(candidates) > 1:
        candidates = [name for name in candidates if len(source.declared_shape(name) or ()) == 2
                      and name in source.producer and source.producer[name].op_type in LINEAR]
    return next(iter(candidates)) if len(candidates) == 1 else None


def _before_softmax(source, output, ends):
    """Return the input of the last Softmax before an output; the output itself if there is none."""
    name = output
    while (node := source.producer.get(name)) is not None:
        if node.op_type in NORMALIZED and _over_classes(source, node):
            return _end_of(source, node.input[0], ends)
        if not _carries(source, node):
            break
        name = node.input[0]
    return output


def _end_of(source, name, ends):
    """Return the end with the same scores as a tensor; the tensor itself if there is none."""
    first = name
    while name not in ends and (node := source.producer.get(name)) is not None and _carries(source, node):
        name = node.input[0]
    return name if name in ends else first


def _over_classes(source, node):
    shape = source.declared_shape(node.input[0])
    return shape is None or len(shape) > 1 and attributes(node).get("axis", -1) % len(shape) == 1


def _carries(source, node):
    """Does a node leave the scores unchanged, apart from axes of size 1?"""
    if node.op_type not in CARRIED:
        return False
    before, after = (source.declared_shape(name) for name in (node.input[0], node.output[0]))
    return before is not None and after is not None and _plain(before) == _plain(after)


def _plain(shape):
    """Drop the axes after the classes if all are of size 1. None, an unknown shape, stays None."""
    return shape if shape is None or any(d != 1 for d in shape[2:]) else shape[:2]


def _described(shape):
    return "" if shape is None else f" ({', '.join('?' if d is None else str(d) for d in shape)})"
