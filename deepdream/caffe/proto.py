"""`from deepdream.caffe.proto import caffe_pb2`: Caffe's messages as far as nets need them."""
from ..convert.caffe import caffe_pb2

__all__ = ["caffe_pb2"]
