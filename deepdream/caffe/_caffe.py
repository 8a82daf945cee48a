"""Stands in for `caffe._caffe`."""
from .pycaffe import Blob, Layer, Net

__all__ = ["Blob", "Layer", "Net"]
