"""Caffe's files to ONNX, and the gradient of any layer of an ONNX net with respect to its input.

    convert.to_onnx(prototxt, caffemodel)    the forward graph, a ModelProto
    convert.onnx_net(path)                   the same of any ONNX classifier
    convert.gradient_graph(model, end)       the gradient graph of one end or several, of this or any other ONNX net
    convert.valid_ends(model)                the names that can be an end
    convert.classifier(model)                the end that holds a score for each class
"""
import importlib

from .errors import ConvertError

# onnx takes its time to import; what needs it is imported when it is asked for
_LAZY = {"to_onnx": "caffe.forward", "onnx_net": "onnx_nets.prepare", "gradient_graph": "gradient", "valid_ends": "gradient",
         "min_size": "gradient", "classifier": "scores", "end_tensors": "gradient", "no_such_end": "errors",
         "Facts": "facts", "End": "facts"}
__all__ = ["ConvertError", *_LAZY]


def __getattr__(name):
    if name in _LAZY:
        return getattr(importlib.import_module(f".{_LAZY[name]}", __name__), name)
    if name == "caffe_pb2":
        return importlib.import_module(".caffe.caffe_pb2", __name__)
    raise AttributeError(f"module '{__name__}' has no attribute '{name}'")
