"""Stands in for `caffe.proto.caffe_pb2`: the messages in which Caffe's files are written."""
from ...convert.caffe import caffe_pb2
from ...convert.caffe.caffe_pb2 import *      # noqa: F403

DESCRIPTOR = caffe_pb2.DESCRIPTOR
_TRAINING = "nets are not trained here; take a trained caffemodel"
INSTEAD = {
    **dict.fromkeys(["SolverParameter", "SolverState"], _TRAINING),
    "Datum": "databases are for training; give the net the array itself",
}


def __getattr__(name):
    if name in INSTEAD:
        raise AttributeError(f"caffe_pb2.{name} is not supported here: {INSTEAD[name]}")
    raise AttributeError(f"module 'caffe.proto.caffe_pb2' has no message '{name}' here; those of nets are supported: "
                         + ", ".join(sorted(DESCRIPTOR.message_types_by_name)))
