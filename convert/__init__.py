"""Convert Caffe nets to ONNX, and build the gradient of any layer of an ONNX net with respect to its input.

    convert.to_onnx(prototxt, caffemodel)    convert a Caffe net to a forward graph (a ModelProto)
    convert.onnx_net(path)                   prepare an ONNX image classifier in the same form
    convert.gradient_graph(model, end)       build the gradient graph of one or several ends
    convert.half_precision(graph)            let a gradient graph compute in half precision
    convert.valid_ends(model)                list the names that can be an end
    convert.classifier(model)                find the end that holds a score for each class

README.md in this folder explains how the parts fit together and how to extend them.
"""
import importlib
from typing import Any

from .errors import ConvertError

# Importing onnx is slow, so the modules that need it are imported on first use.
_LAZY = {"to_onnx": "caffe.forward", "onnx_net": "onnx_nets.prepare", "gradient_graph": "gradient",
         "valid_ends": "gradient", "min_size": "gradient", "classifier": "scores", "end_tensors": "gradient",
         "half_precision": "half", "no_such_end": "errors", "Facts": "facts", "End": "facts"}
__all__ = ["ConvertError", *_LAZY]


def __getattr__(name: str) -> Any:
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    if name == "caffe_pb2":
        return importlib.import_module(".caffe.caffe_pb2", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
