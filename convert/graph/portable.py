"""Nodes written so that every runtime computes the same: what ONNX lets one leave out or write in two ways, some
of them miss or misread."""
from onnx import helper


def spell_out(node, weights):
    """Give a Conv or ConvTranspose every attribute that it has by default: onnxruntime-web asks for `dilations`.

    weights: the dimensions of its weights; None where they are unknown.
    """
    if node.op_type not in ("Conv", "ConvTranspose") or node.domain not in ("", "ai.onnx"):
        return
    given = _attributes(node)
    kernel = given.get("kernel_shape") or weights and list(weights[2:])
    if not kernel:
        return
    ones, auto = [1] * len(kernel), given.get("auto_pad", b"NOTSET") != b"NOTSET" or "output_shape" in given
    usual = {"kernel_shape": kernel, "strides": ones, "dilations": ones, "group": 1} \
        | ({} if auto else {"pads": [0] * 2 * len(kernel)})
    node.attribute.extend(helper.make_attribute(k, v) for k, v in usual.items() if k not in given)


def unambiguous_pads(node):
    """Write the pads of a MaxPool so that onnx's reference evaluator understands them, too: where neither strides nor
    dilations differ from 1 it takes `pads` to be top, bottom, left, right."""
    given = _attributes(node)
    kernel, pads = given.get("kernel_shape", []), given.get("pads", [])
    if node.op_type != "MaxPool" or len(kernel) != 2 or len(pads) != 4 or pads[1] == pads[2] \
            or {*given.get("strides", [1]), *given.get("dilations", [1])} != {1} \
            or given.get("ceil_mode", 0) or given.get("auto_pad", b"NOTSET") != b"NOTSET":
        return
    small, large = [(k - 1) // 2 for k in kernel], [k // 2 for k in kernel]
    auto = {(*small, *large): "SAME_UPPER", (*large, *small): "SAME_LOWER"}.get(tuple(pads))
    if auto:
        instead = {"auto_pad": auto}
    elif 1 in kernel:      # where a window is 1 wide its dilation is nothing, but this one is not 1
        instead = {"pads": pads, "dilations": [2 if k == 1 else 1 for k in kernel]}
    else:
        return
    kept = [a for a in node.attribute if a.name not in ("auto_pad", "pads", *instead)]
    del node.attribute[:]
    node.attribute.extend([*kept, *(helper.make_attribute(k, v) for k, v in instead.items())])


def _attributes(node):
    return {a.name: helper.get_attribute_value(a) for a in node.attribute}
