"""Which results of a net no gradient can be built for, and why: each derivative is tried out, in a graph for itself."""
import onnx

from .derivatives.node import Node, NoDerivative, refusal
from .derivatives.table import VJPS, input_gradients
from .errors import ConvertError
from .fast.forms import form_of
from .fast.layouts import Layouts
from .graph import Graph, Tensor, kind, reads

NODES = 100_000      # of all derivatives together: a small file can ask for more than anyone waits for


def refusals(source):
    """{tensor: why it is no end}, of the tensors that depend on the picture. source: a `source.Source`.

    What lies behind a node without a derivative is refused for that node's sake, if a gradient would have to come
    through it. What needs a second input, or a node that cannot be computed here, is refused in any case.
    """
    refused, blocked, made = {}, {name: f"a second input, '{name}'," for name in source.others}, 0
    for node in source.nodes:
        inputs, moving = [i for i in reads(node) if i], [o for o in node.output if o in source.moving]
        block = next((blocked[i] for i in inputs if i in blocked), None) or _unknown_form(node, source.opset)
        why = block
        if moving and not block:
            graph = Graph(opset=source.opset, weights=source.weights)
            why = _why_not(source, node, inputs, refused, graph) if made < NODES else \
                refusal(node, f"the derivatives before it have {made:,} nodes; more are not tried out")
            made += len(graph.nodes)
        if block:
            blocked.update(dict.fromkeys(node.output, block))
        if why:
            refused.update(dict.fromkeys(moving, why))
        elif node.op_type != "Split":
            refused.update(dict.fromkeys(moving[1:], refusal(node, "only its first output has a derivative")))
    return refused


def _unknown_form(node, opset):
    """Why a node of ONNX's own operators cannot be computed, None if it can: it may have another form in its opset."""
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
    """Why no gradient comes from a node's output to the picture; None if one does."""
    inherited = next((refused[i] for i in inputs if i in refused), None)
    if kind(node) not in VJPS:
        return inherited or refusal(node)
    try:
        passed = _tried(source, node, graph)
    except NoDerivative as error:
        return inherited or error.reason
    except ConvertError as error:
        return inherited or refusal(node, error)
    except (ArithmeticError, LookupError, TypeError, ValueError):
        return inherited or refusal(node, "in a form that is not known here")
    if not passed:
        return inherited or refusal(node, "no gradient comes through it")
    return next((refused[i] for i in passed if i in refused), None)


def _tried(source, node, g):
    """The inputs that the gradient goes on to. Raises what the derivative raises."""
    context = Node(g, node, source, lambda name: Tensor(g, f"{name}: size"), layouts=Layouts())
    ys, xs = ([Tensor(g, name) if name else None for name in names] for names in (node.output, node.input))
    dys = [Tensor(g, f"{name}: gradient") if i == 0 or node.op_type == "Split" else None
           for i, name in enumerate(node.output)]
    form = form_of(context)
    entry = form and (form.forward(context, *xs)[1] if form.forward else form.gradient)
    found = input_gradients(context, dys, ys, xs, entry)
    return [name for name, gradient in zip(node.input, found) if gradient is not None and name in source.moving]
