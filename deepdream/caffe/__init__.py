"""Stands in for pycaffe where scripts dream with it. Unchanged scripts run with `deepdream caffe script.py`.

In your own scripts `from deepdream import caffe` takes the place of `import caffe`:

    net = caffe.Classifier("deploy.prototxt", "bvlc_googlenet.caffemodel", mean=np.float32([104, 116, 122]),
                           channel_swap=(2, 1, 0))
    net = caffe.Net("deploy.prototxt", caffe.TEST, weights="bvlc_googlenet.caffemodel")

Blobs, diffs and weights are where Caffe has them and hold what Caffe computes; diffs are never cleared. What differs:
layers run on a GPU if one works, unless `set_mode_cpu()` is called; gradients reach the data without `force_backward`;
gradients by the weights are not computed; nets are not trained. What is missing raises an error that says what to do
instead.
"""
from . import _caffe, classifier, detector, draw, io, mode, net_spec, proto, pycaffe
from . import net_layers
from ..convert.caffe.layers import SUPPORTED
from .blob import Blob
from .classifier import Classifier
from .detector import Detector
from .mode import set_device, set_mode_cpu, set_mode_gpu
from .net import TEST, TRAIN, Layer, Net
from .net_spec import NetSpec, params, to_proto
from .refused import Refused

__version__ = "1.0.0"      # of the Caffe whose Python interface this is
MODULES = ["_caffe", "classifier", "detector", "draw", "io", "net_spec", "proto", "proto.caffe_pb2", "pycaffe"]

_TRAINING = "nets are not trained here; take a trained caffemodel"
SOLVERS = ["SGDSolver", "NesterovSolver", "AdaGradSolver", "RMSPropSolver", "AdaDeltaSolver", "AdamSolver",
           "get_solver"]
(SGDSolver, NesterovSolver, AdaGradSolver, RMSPropSolver, AdaDeltaSolver, AdamSolver,
 get_solver) = (Refused(f"caffe.{name}", _TRAINING) for name in SOLVERS)
NCCL = Refused("caffe.NCCL", "one process computes on one device; start a process for each GPU")
Timer = Refused("caffe.Timer", "use time.perf_counter()")
layers = net_spec.layers

__all__ = ["Blob", "Classifier", "Detector", "Layer", "NCCL", "Net", "NetSpec", "TEST", "TRAIN", "Timer", "_caffe",
           "classifier", "detector", "draw", "has_nccl", "init_log", "io", "layer_type_list", "layers", "log", "mode",
           "net_spec", "params", "proto", "pycaffe", "set_device", "set_mode_cpu", "set_mode_gpu", "set_multiprocess",
           "set_random_seed", "set_solver_count", "set_solver_rank", "solver_count", "solver_rank", "to_proto",
           *SOLVERS]


def __getattr__(name):
    raise AttributeError(f"module 'caffe' has no attribute '{name}'; it has {', '.join(__all__)}")


def set_random_seed(seed):
    """Seed the fillers of missing weights. The jitter of dreams is NumPy's (`np.random.seed`)."""
    net_layers.random.seed(seed)


def layer_type_list():
    """List the types of layers that can be run."""
    return list(SUPPORTED)


def init_log(*_):
    """Do nothing: there is no log as Caffe keeps one."""


def log(*_):
    """Do nothing: there is no log as Caffe keeps one."""


def has_nccl():
    """Return False: there is no NCCL."""
    return False


def solver_count():
    """Return 1: there is one process."""
    return 1


def solver_rank():
    """Return 0: there is one process."""
    return 0


def set_solver_count(count):
    """Do nothing: nets are not trained here."""


def set_solver_rank(rank):
    """Do nothing: nets are not trained here."""


def set_multiprocess(multiprocess):
    """Do nothing: nets are not trained here."""
