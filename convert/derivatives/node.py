"""The node that a derivative is written for, as the entries of the tables of derivatives see it."""
from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any

import numpy as np
import onnx

from ..errors import ConvertError, shown
from ..graph import Graph, Tensor, attributes, described, kind
from ..graph.source import Source
from ..graph.windows import MAX_WINDOW, Window


def refusal(node: onnx.NodeProto, why: object = None) -> str:
    """Describe a node through which there is no gradient, and why, for `left_out` and error messages."""
    return f"operator {shown(kind(node))} (node '{shown(_name(node))}'" + (f": {why})" if why else ")")


class NoDerivative(ConvertError):
    """The error for a node that has no derivative in this form. reason: its text as in `refusal`."""

    def __init__(self, node: onnx.NodeProto, why: object):
        super().__init__(f"{described(node)}: no derivative: {why}")
        self.reason = refusal(node, why)


def _name(node):
    return node.name or node.output[0]


class Node:
    """One node of a net, for which a derivative is written.

    g: the graph to which the derivative is added.
    op_type, name: its operator and its name.
    attr: its attributes, {name: value}.
    inputs: the number of its inputs.
    input_names, output_names: their names in the net.

    Only the fast forms use the following:

    readers: the operators that read its output.
    layouts: the other layouts in which tensors exist (`fast.layouts.Layouts`).
    form: the fast form that was chosen, or None.
    masked: whether the gradient of its output is 0 wherever the output is 0.
    """

    def __init__(self, graph: Graph, node: onnx.NodeProto, source: Source, size: Callable[[str], Tensor],
                 readers: Collection[str] = (), layouts: Any = None):
        self.g, self.op_type, self.name, self.attr = graph, kind(node), _name(node), attributes(node)
        self.input_names, self.output_names, self.inputs = list(node.input), list(node.output), len(node.input)
        self.readers, self.layouts, self.form, self.masked = readers, layouts, None, False
        self._node, self._source, self._size = node, source, size

    def needs_gradient(self, i: int) -> bool:
        """Tell whether input i depends on the picture, so that its gradient is needed."""
        return i < self.inputs and self.input_names[i] in self._source.depends_on_input

    def size(self, i: int) -> Tensor:
        """Return the spatial size of input i, (N, C, h, w), as an int64 Tensor (h, w)."""
        return self._size(self.input_names[i])

    def input_is_non_negative(self, i: int = 0) -> bool:
        """Tell whether input i is the output of ReLUs (see `Source.is_non_negative`)."""
        return self._source.is_non_negative(self.input_names[i])

    def has(self, i: int) -> bool:
        """Tell whether the node has an input i; optional inputs may be omitted."""
        return i < self.inputs and bool(self.input_names[i])

    def error(self, message: object) -> NoDerivative:
        """Return the error for a node that has no derivative in this form. message: why not."""
        return NoDerivative(self._node, message)

    def is_constant(self, i: int) -> bool:
        """Tell whether the value of input i is known."""
        return self.has(i) and self._source.value(self.input_names[i]) is not None

    def value(self, i: int) -> np.ndarray:
        """Return the value of input i. Raises NoDerivative if it is not constant."""
        if not self.is_constant(i):
            name = self.input_names[i] if self.has(i) else None
            producer = None if name in self._source.depends_on_input else self._source.producer.get(name)
            raise self.error(f"its input {i} must be constant"
                             + (f", and {kind(producer)} is not computed here" if producer is not None else ""))
        return self._source.value(self.input_names[i])

    def shape(self, i: int) -> list[int | None]:
        """Return the static shape of input i: None for a dynamic axis.

        Raises NoDerivative if the number of axes is unknown.
        """
        shape = self._source.shape(self.input_names[i]) if self.has(i) else None
        if shape is None:
            raise self.error(f"the number of axes of its input {i} is unknown")
        return shape

    def declared_shape(self, i: int) -> list[int | None]:
        """Return the shape of input i for a picture of the declared shape, where that is known; else as `shape`."""
        return self._source.declared_shape(self.input_names[i]) or self.shape(i)

    def channels(self, i: int) -> int:
        """Return the number of channels of input i. Raises NoDerivative if it is unknown.

        Where it is hidden by padding that is computed, it is that of a picture of the declared shape: the channels do
        not depend on the picture's size.
        """
        count = self.shape(i)[1]
        count = self.declared_shape(i)[1] if count is None else count
        if count is None:
            raise self.error("the number of channels must be known")
        return count

    def output_shape(self) -> list[int | None]:
        """Return the static shape of the output, as `shape` does for an input."""
        shape = self._source.shape(self.output_names[0])
        if shape is None:
            raise self.error("the number of axes of its result is unknown")
        return shape

    def declared_output_shape(self) -> list[int | None]:
        """Return the shape of the output for a picture of the declared shape, as `declared_shape` does for an input."""
        return self._source.declared_shape(self.output_names[0]) or self.output_shape()

    def window(self, kernel: Sequence[int] | None = None) -> Window:
        """Return the window of a convolution or pooling.

        kernel: the spatial shape of a convolution's weights.

        Raises NoDerivative if its padding depends on the size of the picture, or if it is too large.
        """
        try:
            window = Window.of(self.attr, kernel)
        except ValueError as error:
            raise self.error(error) from None
        if not all(1 <= size <= MAX_WINDOW for size in (*window.kernel, *window.stride, *window.dilation)):
            raise self.error(f"windows, strides and dilations must be 1 to {MAX_WINDOW}")
        return window

    def constant(self, array: np.ndarray, what: str) -> Tensor:
        """Add a constant to the graph. what: the last part of its name, after that of the node."""
        self.g.budget.check(array.size)
        return self.g.constant(np.ascontiguousarray(array), f"{self.name}/{what}")
