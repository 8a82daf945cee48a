"""The ground that derivatives stand on: a builder of ONNX graphs, and what can be said of a model."""
from .builder import (IR_VERSION, OPSET, REAL, Graph, Room, Tensor, attributes, float_info, inner_nodes, kind, metadata,
                      described, reads)

__all__ = ["IR_VERSION", "OPSET", "REAL", "Graph", "Room", "Tensor", "attributes", "float_info", "inner_nodes", "kind",
           "metadata", "reads", "described"]
