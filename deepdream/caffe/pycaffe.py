"""Stands in for `caffe.pycaffe` and `caffe._caffe`."""
from .blob import Blob
from .net import Layer, Net

__all__ = ["Blob", "Layer", "Net"]
