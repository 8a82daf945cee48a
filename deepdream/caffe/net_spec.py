"""Stands in for `caffe.net_spec`, which is not supported."""
from .refused import Refused

ADVICE = "write the deploy.prototxt, or build a caffe.proto.caffe_pb2.NetParameter"
NetSpec, layers, params, to_proto = (Refused(f"caffe.{name}", ADVICE) for name in
                                     ("NetSpec", "layers", "params", "to_proto"))
