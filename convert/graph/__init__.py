"""A builder for ONNX graphs, and the analysis of a model: its constants, shapes and sizes."""
from .builder import (IR_VERSION, OPSET, REAL, Budget, Graph, Tensor, attributes, described, float_info, inner_nodes,
                      kind, metadata, reads)

__all__ = ["IR_VERSION", "OPSET", "REAL", "Budget", "Graph", "Tensor", "attributes", "described", "float_info",
           "inner_nodes", "kind", "metadata", "reads"]
