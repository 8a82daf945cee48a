"""Which tensor of a net holds a score for each class."""
from .facts import Facts
from .graph import attributes
from .graph.source import Source

NORMALIZED = ("Softmax", "LogSoftmax")
LINEAR = ("Gemm", "MatMul", "Add")
CARRIED = ("Dropout", "Flatten", "Identity", "Reshape", "Squeeze", "Unsqueeze")     # scores may stay what they were


def classifier(model):
    """(the end with a score for each class, None), or (None, why there is none).

    model: from `to_onnx` or `onnx_net`. The scores are what the net gives out, or what its last Softmax or LogSoftmax
    makes that of: (N, classes), or a map of them (N, classes, h, w). Without a Softmax only a Caffe net's map may have
    more than one place at the declared size: what else gives out maps gives out pictures. Of several outputs the scores
    are the one behind a Softmax, else the one of two axes that a linear layer makes.
    """
    source, facts = Source(model), Facts.read(model)
    ends, left_out, lost = facts.ends, facts.left_out, facts.lost
    outputs = [o.name for o in model.graph.output if o.name in source.moving]
    scores = {name: _before_softmax(source, name, ends) for name in outputs}
    softmaxed = {s for o, s in scores.items() if s != o} | {o for o, kind in lost.items() if kind in NORMALIZED}
    found = _only(source, softmaxed or {*outputs, *lost}, lost)
    if found in left_out:
        return None, f"{left_out[found]} is not supported, and its scores, '{found}', need it"
    if found in ends and found != facts.data and (
            found in softmaxed or ends[found].operator is None or len(_plain(source.usual_shape(found))) == 2):
        return found, None
    told = ", ".join(f"'{o}'{_described(source.usual_shape(o))}" for o in outputs)
    return None, f"one of scores, (N, classes), is needed among its outputs: {told or 'none depends on the picture'}"


def _only(source, candidates, lost):
    """The one that can be meant, else None. lost: those that are not in the model."""
    unknown = [name for name in lost if name in candidates]
    if unknown:
        return unknown[0]
    if len(candidates) > 1:
        candidates = [name for name in candidates if len(source.usual_shape(name) or ()) == 2
                      and name in source.producer and source.producer[name].op_type in LINEAR]
    return next(iter(candidates)) if len(candidates) == 1 else None


def _before_softmax(source, output, ends):
    """What the last Softmax makes this output of; the output itself if there is none."""
    name = output
    while (node := source.producer.get(name)) is not None:
        if node.op_type in NORMALIZED and _over_classes(source, node):
            return _end_of(source, node.input[0], ends)
        if not _carries(source, node):
            break
        name = node.input[0]
    return output


def _end_of(source, name, ends):
    """The same scores as an end, where they are one."""
    first = name
    while name not in ends and (node := source.producer.get(name)) is not None and _carries(source, node):
        name = node.input[0]
    return name if name in ends else first


def _over_classes(source, node):
    shape = source.usual_shape(node.input[0])
    return shape is None or len(shape) > 1 and attributes(node).get("axis", -1) % len(shape) == 1


def _carries(source, node):
    """Does a node hand on the scores as they are, but for axes of one?"""
    if node.op_type not in CARRIED:
        return False
    before, after = (source.usual_shape(name) for name in (node.input[0], node.output[0]))
    return before is not None and after is not None and _plain(before) == _plain(after)


def _plain(shape):
    """A shape without the axes of one behind the classes."""
    return shape[:2] if all(d == 1 for d in shape[2:]) else shape


def _described(shape):
    return "" if shape is None else f" ({', '.join('?' if d is None else str(d) for d in shape)})"
