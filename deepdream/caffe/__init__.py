"""Stands in for pycaffe where dream scripts use it: change `import caffe` to `from deepdream import caffe`.

    net = caffe.Classifier("deploy.prototxt", "bvlc_googlenet.caffemodel", mean=np.float32([104, 116, 122]),
                           channel_swap=(2, 1, 0))
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="bvlc_googlenet.caffemodel")

`from caffe.proto import caffe_pb2` becomes `from deepdream.caffe.proto import caffe_pb2`, and so on. What differs from
pycaffe: layers run on a GPU if there is one, unless `set_mode_cpu()` says otherwise; gradients reach `data` without
`force_backward`; every gradient is that of a fresh net (`leftover_diffs=True` for Caffe's own habit); the copies that
Caffe inserts where a blob has several readers (`*_split_*`) are not listed; weights are read-only. What is not here
says what to use instead.
"""
from . import io, mode, proto
from .mode import set_device, set_mode_cpu, set_mode_gpu
from .classifier import Classifier
from .net import TEST, TRAIN, Layer, Net
from .blob import Blob

__version__ = "1.0.0"      # of the Caffe whose Python interface this is

__all__ = ["Blob", "Classifier", "Layer", "Net", "TEST", "TRAIN", "init_log", "io", "log", "mode", "proto",
           "set_device", "set_mode_cpu", "set_mode_gpu", "set_random_seed"]

_TRAINING = "nets are not trained here; take a trained caffemodel"
INSTEAD = {   # what pycaffe has and this has not -> what to use
    **dict.fromkeys(["SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver", "AdamSolver",
                     "get_solver", "Solver", "NCCL", "Timer", "solver_count", "set_solver_count"], _TRAINING),
    **dict.fromkeys(["NetSpec", "layers", "params", "to_proto", "net_spec"],
                    "write the deploy.prototxt, or build a caffe.io.caffe_pb2.NetParameter"),
    "Detector": "cut the windows out yourself and give them to Classifier.predict",
    "layer_type_list": "the supported layers are listed by `python -m convert --help` and in convert.caffe.layers.SUPPORTED",
    "draw": "`python -m deepdream layers --model FOLDER` lists a net's layers",
    "classifier": "caffe.Classifier", "pycaffe": "caffe.Net",
}


def __getattr__(name):
    if name in INSTEAD:
        raise AttributeError(f"caffe.{name} is not supported here: {INSTEAD[name]}")
    raise AttributeError(f"module 'deepdream.caffe' has no attribute '{name}'; it has {', '.join(__all__)}")


def set_random_seed(seed):
    """Nothing in a net's TEST phase is drawn at random: the jitter is NumPy's (`np.random.seed`)."""


def init_log(*_):
    """Caffe's log is not kept."""


log = init_log
