"""Find out which tensors of a net have their channels last: the tokens of a transformer, and the maps of NHWC nets."""
from __future__ import annotations

from collections.abc import Callable, Sequence

import onnx

from ..graph import attributes, kind

FIRST = {"AveragePool", "BatchNormalization", "Conv", "ConvTranspose", "GlobalAveragePool", "GlobalMaxPool",
         "InstanceNormalization", "LRN", "MaxPool"}


def channels_last(nodes: Sequence[onnx.NodeProto], shape: Callable[[str], Sequence[int] | None],
                  data: str) -> set[str]:
    """Find the tensors of three or four axes whose last axis is that of the channels.

    nodes: the nodes of a prepared net, in order.
    shape: returns the shape of a tensor at the declared size, or None.
    data: the name of the picture, whose channels come first.
    """
    last = {data: False}
    for node in nodes:
        out = shape(node.output[0]) if node.output else None
        if out is None or len(out) not in (3, 4):
            continue
        first = node.input[0] if node.input else ""
        value = _of(node, out, first, shape, last)
        last.update((name, value) for name in node.output if name)
    return {name for name, value in last.items() if value}


def _of(node, out, first, shape, last):
    """Does the result of a node have its channels last?"""
    before = shape(first) or ()
    if kind(node) in FIRST:
        return False
    if kind(node) in ("MatMul", "LayerNormalization", "Gemm"):
        return True
    if kind(node) == "Transpose" and first in last:
        return list(attributes(node).get("perm", ()))[-1:] == [len(out) - 1 if last[first] else 1]
    if kind(node) in ("Reshape", "Flatten", "Squeeze", "Unsqueeze") and first in last and len(before) in (3, 4):
        if last[first]:
            return out[-1] == before[-1]
        return len(out) == 3 and (len(before) != 4 or out[1] != before[1])
    known = [last[i] for i in node.input if i in last and len(shape(i) or ()) == len(out)]
    return known[0] if known else len(out) == 3
