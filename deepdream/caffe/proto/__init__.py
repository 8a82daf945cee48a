"""Stands in for `caffe.proto`: Caffe's messages, as far as nets need them."""
from . import caffe_pb2

__all__ = ["caffe_pb2"]
