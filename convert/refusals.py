"""Find the tensors of a net for which no gradient can be built, by trying out each derivative in a scratch graph."""
from __future__ import annotations

import onnx

from .derivatives.node import Node, NoDerivative, refusal
from .derivatives.table import VJPS, input_gradients
from .errors import ConvertError
from .fast.forms import form_of
from .fast.layouts import Layouts
from .graph import Graph, Tensor, kind, reads
from .graph.source import Source

NODES = 100_000      # of all derivatives together: a small file could otherwise keep this busy for hours


def refusals(source: Source) -> dict[str, str]:
    """Find the tensors that depend on the picture but cannot be an end.

    A tensor after a node without a derivative cannot be an end if its gradient would pass through that node. A tensor
    that needs a second input, or a node that cannot be computed here, never can.

    Returns {tensor: the reason}.
    """
    refused, blocked, built = {}, {name: f"a second input, '{name}'," for name in source.other_inputs}, 0
    for node in source.nodes:
        inputs, results = [i for i in reads(node) if i], [o for o in node.output if o in source.depends_on_input]
        block = next((blocked[i] for i in inputs if i in blocked), None) or _unknown_form(node, source.opset)
        why = block
        if results and not block:
            graph = Graph(opset=source.opset, weights=source.weights)
            why = _why_not(source, node, inputs, refused, graph) if built < NODES else \
                refusal(node, f"the derivatives before it have {built:,} nodes; more are not tried out")
            built += len(graph.nodes)
        if block:
            blocked.update(dict.fromkeys(node.output, block))
        if why:
            refused.update(dict.fromkeys(results, why))
        elif node.op_type != "Split":
            refused.update(dict.fromkeys(results[1:], refusal(node, "only its first output has a derivative")))
    return refused


def _unknown_form(node, opset):
    """Return why a standard operator cannot be computed: its opset does not have it in this form. None if it can."""
    if kind(node) != node.op_type:
        return None
    try:
        schema = onnx.defs.get_schema(node.op_type, opset)
    except onnx.defs.SchemaError:
        return refusal(node)
    if len(node.input) > schema.max_input or any(a.name not in schema.attributes for a in node.attribute):
        return refusal(node, f"opset {opset} does not know it in this form")
    return None


def _why_not(source, node, inputs, refused, graph):
    """Return why no gradient reaches the picture from a node's output; None if one does."""
    inherited = next((refused[i] for i in inputs if i in refused), None)
    if kind(node) not in VJPS:
        return inherited or refusal(node)
    try:
        reached = _try_derivative(source, node, graph)
    except NoDerivative as error:
        return inherited or error.reason
    except ConvertError as error:
        return inherited or refusal(node, error)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return inherited or refusal(node, "in a form that is not known here")
    if not reached:
        return inherited or refusal(node, "no gradient comes through it")
    return next((refused[i] for i in reached if i in refused), None)


def _try_derivative(source, node, g):
    """Build the derivative of a node. Returns the inputs that get a gradient; raises what the derivative raises."""
    context = Node(g, node, source, lambda name: Tensor(g, f"{name}: size"), layouts=Layouts())
    ys, xs = ([Tensor(g, name) if name else None for name in names] for names in (node.output, node.input))
    dys = [Tensor(g, f"{name}: gradient") if i == 0 or node.op_type == "Split" else None
           for i, name in enumerate(node.output)]
    form = form_of(context)
    entry = form and (form.forward(context, *xs)[1] if form.forward else form.gradient)
    found = input_gradients(context, dys, ys, xs, entry)
    return [name for name, gradient in zip(node.input, found)
            if gradient is not None and name in source.depends_on_input]
