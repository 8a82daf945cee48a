"""Write nodes so that every runtime computes the same.

ONNX lets attributes be omitted or written in two ways, and some runtimes do not understand all of these.
"""
from __future__ import annotations

from collections.abc import Sequence

import onnx
from onnx import helper


def write_default_attributes(node: onnx.NodeProto, weights: Sequence[int] | None) -> None:
    """Write out the default attributes of a Conv or ConvTranspose, since onnxruntime-web requires `dilations`.

    node: any node; other operators stay unchanged.
    weights: the shape of its weights; None if unknown.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx"):
        return
    present = _attributes(node)
    kernel = present.get("kernel_shape") or weights and list(weights[2:])
    if not kernel:
        return
    ones, auto = [1] * len(kernel), present.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in present
    defaults = {"kernel_shape": kernel, "strides": ones, "dilations": ones, "group": 1} \
        | ({} if auto else {"pads": [0] * 2 * len(kernel)})
    node.attribute.extend(helper.make_attribute(k, v) for k, v in defaults.items() if k not in present)


def write_unambiguous_pads(node: onnx.NodeProto) -> None:
    """Write the pads of a MaxPool in a way that onnx's reference evaluator understands too.

    If all strides and dilations are 1, it takes `pads` for top, bottom, left, right.

    node: any node; other operators stay unchanged.
    """
    present = _attributes(node)
    kernel, pads = present.get("kernel_shape", []), present.get("pads", [])
    if node.op_type != "MaxPool" or len(kernel) != 2 or len(pads) != 4 or pads[1] == pads[2] \
            or {*present.get("strides", [1]), *present.get("dilations", [1])} != {1} \
            or present.get("ceil_mode", 0) or present.get("auto_pad", b"NOTSET") != b"NOTSET":
        return
    small, large = [(k - 1) // 2 for k in kernel], [k // 2 for k in kernel]
    auto = {(*small, *large): "SAME_UPPER", (*large, *small): "SAME_LOWER"}.get(tuple(pads))
    if auto:
        instead = {"auto_pad": auto}
    elif 1 in kernel:      # a dilation has no effect along an axis where the window has one pixel
        instead = {"pads": pads, "dilations": [2 if k == 1 else 1 for k in kernel]}
    else:
        return
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads", *instead)]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in instead.items())])


def _attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
