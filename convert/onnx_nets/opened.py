"""Open the fixed sizes that exporters write into Reshape, Expand and Resize for a picture of one size.

A net that was exported for pictures of 224 px reshapes to [1, 2, 58, 28, 28] where it means "as high and as wide as
before". Here such a number becomes the size of the axis that it stands for, wherever there is only one such axis. A
number of pictures that is the only fixed size is left alone.
"""
from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from ..graph import Budget, attributes
from ..graph.constants import computed
from ..graph.inference import infer_shapes
from ..graph.shapes import shapes_at
from ..graph.sizes import without_weights

ROUNDS = 200      # how often the shapes are inferred: each round opens what the one before has made visible
SMALL = 64        # numbers in a list of sizes
# operators that compute sizes from sizes
SIZES = {"Add", "Cast", "Concat", "Div", "Gather", "Identity", "Max", "Min", "Mul", "Neg", "Slice", "Squeeze", "Sub",
         "Unsqueeze"}
TARGETS = {"Reshape": 1, "Expand": 1, "Resize": 3}      # the number of the input with the sizes
Plan = list[tuple[int | None, list[int]]]      # for each axis of the result: (its size, or None; axes of the input)


def open_shapes(model: onnx.ModelProto, nominal: Sequence[int]) -> None:
    """Replace fixed sizes in a prepared model by those of the axes that they stand for.

    model: the model, with the input `data` (N, C, H, W) of dynamic size; changed in place.
    nominal: the declared shape of the picture.
    """
    declared = None
    waiting = [n.output[0] for n in model.graph.node if n.op_type in TARGETS and len(n.input) > TARGETS[n.op_type]]
    for _ in range(ROUNDS):
        if not waiting and not any(n.op_type == "Shape" for n in model.graph.node):
            return
        dynamic = _shapes(model)
        folded, done = _fold(model, dynamic), []
        constants = {t.name: t for t in model.graph.initializer
                     if t.data_type == TensorProto.INT64 and len(t.dims) == 1}
        for output in waiting:
            node = next(n for n in model.graph.node if n.output[0] == output)
            name = node.input[TARGETS[node.op_type]] if len(node.input) > TARGETS[node.op_type] else ""
            now = dynamic.get(node.input[0])
            if now is None or name not in constants:
                continue
            declared = declared or shapes_at(without_weights(model), model.graph.input[0].name, nominal)
            before = declared[node.input[0]].dims if node.input[0] in declared else None
            if before is None or None in before or len(before) != len(now):
                continue
            target = _target(node, constants[name], before)
            plan = target and _PLANS[node.op_type](before, now, target)
            done.append(output)
            partner = target and node.op_type == "Expand" and _partner(model.graph, node, dynamic, declared, target)
            if partner:
                _write_shape_of(model.graph, node, partner)
                break
            if plan and any(size is None and max(axes) > 0 for size, axes in plan):
                _write(model, node, plan, before, target)
                break      # the sizes after it are not known yet
        waiting = [output for output in waiting if output not in done]
        if folded:
            declared = None
        if not done and not folded:
            return


def _fold(model, dynamic):
    """Compute the sizes that do not depend on the picture, such as the number of channels. Returns how many."""
    graph, shape_of, values, made = model.graph, {}, {}, []
    for tensor in graph.initializer:
        if tensor.data_type in (TensorProto.INT64, TensorProto.INT32) and math.prod(tensor.dims) <= SMALL:
            values[tensor.name] = numpy_helper.to_array(tensor)
    kept = []
    for node in graph.node:
        value = _size_of(node, values, shape_of, dynamic)
        if value is None and node.op_type in SIZES and all(i in values for i in node.input if i) and node.input:
            value = computed(node, {i: values[i] for i in node.input if i}, model.opset_import,
                             Budget())[node.output[0]]
        if value is None:
            kept.append(node)
            continue
        values[node.output[0]] = value
        made.append(numpy_helper.from_array(np.asarray(value), node.output[0]))
    if made:
        kept = [onnx.NodeProto.FromString(n.SerializeToString()) for n in kept]
        del graph.node[:]
        graph.node.extend(kept)
        graph.initializer.extend(made)
    return len(made)


def _size_of(node, values, shape_of, dynamic):
    """Return the value of a Shape, or of a Gather of one, if the sizes are known. shape_of: {Shape's output: dims}."""
    if node.op_type == "Shape":
        start, end = attributes(node).get("start", 0), attributes(node).get("end")
        dims = dynamic.get(node.input[0])
        if dims is not None:
            shape_of[node.output[0]] = dims[start:end]
            return None if None in dims[start:end] else np.array(dims[start:end], np.int64)
    if node.op_type == "Gather" and node.input[0] in shape_of and node.input[1] in values:
        dims = shape_of[node.input[0]]
        picked = [dims[i] for i in values[node.input[1]].ravel() if -len(dims) <= i < len(dims)]
        if None not in picked and len(picked) == values[node.input[1]].size:
            return np.array(picked, np.int64).reshape(values[node.input[1]].shape)
    return None


def _target(node, tensor, before):
    """Return the sizes that a node asks for, without 0 and -1; None if they are not possible."""
    sizes = [int(d) for d in numpy_helper.to_array(tensor)]
    if node.op_type == "Reshape":
        sizes = [before[i] if d == 0 and i < len(before) else d for i, d in enumerate(sizes)]
        known = math.prod(d for d in sizes if d != -1)
        sizes = [math.prod(before) // known if d == -1 and known else d for d in sizes]
        return sizes if min(sizes, default=1) > 0 and math.prod(sizes) == math.prod(before) else None
    return sizes if min(sizes, default=1) > 0 else None


def _plan_of_reshape(before, now, target) -> Plan | None:
    """Match the axes of input and result in groups with the same number of elements."""
    plan: Plan = []
    for inner, outer in _groups(before, target):
        open_axes = [i for i in inner if now[i] is None]
        outer_large = [o for o in outer if target[o] > 1]
        if not open_axes:
            plan += [(target[o], []) for o in outer]
        elif len(outer_large) <= 1 and outer:      # one axis of the result is all of these axes
            chosen = outer_large[0] if outer_large else outer[0]
            plan += [(None, inner) if o == chosen else (1, []) for o in outer]
        else:
            return None
    return plan


def _groups(before: Sequence[int], target: Sequence[int]) -> Iterator[tuple[list[int], list[int]]]:
    """Yield (axes of the input, axes of the result), the smallest groups with equal products, in order."""
    i = o = 0
    while i < len(before) or o < len(target):
        inner, outer, left, right = [], [], 1, 1
        while True:
            if (left < right or not inner) and i < len(before):
                inner.append(i)
                left *= before[i]
                i += 1
            elif (right < left or not outer) and o < len(target):
                outer.append(o)
                right *= target[o]
                o += 1
            else:
                break
        yield inner, outer


def _plan_of_expand(before, now, target) -> Plan | None:
    """An axis of dynamic size keeps its size."""
    if len(target) < len(before):
        return None
    extra = len(target) - len(before)
    return [(None, [o - extra]) if o >= extra and now[o - extra] is None and target[o] in (1, before[o - extra])
            else (size, []) for o, size in enumerate(target)]


def _partner(graph, node, dynamic, declared, target):
    """Return a tensor of dynamic size that an expanded one is multiplied with or added to, of its declared shape.

    What is expanded then has the shape of that tensor, such as the map that an attention to channels weights.
    """
    available = {info.name for info in graph.input}
    for other in graph.node:
        if other.output[0] == node.output[0]:
            break
        available.update(other.output)
    names = [name for reader in graph.node if reader.op_type in ("Add", "Div", "Mul", "Sub")
             and node.output[0] in reader.input for name in reader.input]
    return next((name for name in names if name in available and None in dynamic.get(name, [])
                 and name in declared and declared[name].dims == list(target)), None)


def _write_shape_of(graph, node, partner):
    """Give an Expand the shape of another tensor."""
    node.input[1] = f"{node.output[0]}/size"
    made = helper.make_node("Shape", [partner], [node.input[1]], node.input[1])
    _insert(graph, node, [made])


def _insert(graph, node, made):
    """Put nodes in front of a node."""
    at = next(i for i, n in enumerate(graph.node) if n.output[0] == node.output[0])
    nodes = list(graph.node)
    del graph.node[:]
    graph.node.extend([*nodes[:at], *made, *nodes[at:]])


def _plan_of_resize(before, now, target) -> Plan | None:
    """Whole factors at the declared size are the factors at every size."""
    if len(target) != len(before) or any(t % b or n is not None and t != b for b, n, t in zip(before, now, target)):
        return None
    return [(None, [o]) if now[o] is None else (size, []) for o, size in enumerate(target)]


_PLANS = {"Reshape": _plan_of_reshape, "Expand": _plan_of_expand, "Resize": _plan_of_resize}


def _write(model, node, plan, before, target):
    """Compute the sizes of a plan in front of a node. before, target: the declared sizes of its input and result."""
    graph, name = model.graph, f"{node.output[0]}/size"
    if node.op_type == "Resize":      # whole factors
        factors = np.float32([t // b for t, b in zip(target, before)])
        graph.initializer.append(numpy_helper.from_array(factors, f"{name}s"))
        node.input[2], node.input[3] = f"{name}s", ""
        del node.input[3:]
        return
    made, parts, minus = [], [], None
    products = [i for i, (size, axes) in enumerate(plan) if size is None and len(axes) != 1]
    if node.op_type == "Reshape" and len(products) == 1:
        minus = products[0]
    for i, (size, axes) in enumerate(plan):
        part = f"{name}{i}"
        if size is not None or i == minus:
            graph.initializer.append(numpy_helper.from_array(np.array([-1 if i == minus else size]), part))
        else:
            for k, axis in enumerate(axes):      # one Mul after another, which shape inference can follow
                size_of, so_far = (part if len(axes) == 1 else f"{part}s{k}"), f"{part}p{k}"
                made.append(helper.make_node("Shape", [node.input[0]], [size_of], size_of, start=axis, end=axis + 1))
                if k:
                    result = part if k == len(axes) - 1 else so_far
                    made.append(helper.make_node("Mul", [f"{part}s0" if k == 1 else f"{part}p{k - 1}", size_of],
                                                 [result], result))
        parts.append(part)
    made.append(helper.make_node("Concat", parts, [name], name, axis=0))
    node.input[TARGETS[node.op_type]] = name
    _insert(graph, node, made)


def _shapes(model):
    """Return {tensor: [size, None where it depends on the picture]}."""
    graph = infer_shapes(without_weights(model), data_prop=True).graph
    return {i.name: [d.dim_value if d.HasField("dim_value") else None for d in i.type.tensor_type.shape.dim]
            for i in [*graph.input, *graph.value_info, *graph.output] if i.type.tensor_type.HasField("shape")}
