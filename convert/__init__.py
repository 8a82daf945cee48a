"""Caffe's files to ONNX, and the gradient of any layer of an ONNX net with respect to its input."""
from .errors import ConvertError
from .forward import VERSION, to_onnx
from .gradient import gradient_graph, valid_ends

__all__ = ["ConvertError", "VERSION", "gradient_graph", "to_onnx", "valid_ends"]
