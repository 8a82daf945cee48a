"""Google's DeepDream notebook of 2015 on ONNX Runtime: the same nets, the same functions, the same dreams.

    from deepdream import Net, deepdream, load, save
    net = Net("mini_imagenet")
    save(deepdream(net, load("sky.jpg")), "dream.jpg")
"""
import importlib
import os
from pathlib import Path

# In a checkout, `convert` and `models` stand beside this package; in an installed one they are inside it. Either way
# they are imported as deepdream.convert and deepdream.models.
if (_beside := Path(__file__).resolve().parent.parent).joinpath("convert", "caffe", "caffe.proto").is_file():
    __path__.append(str(_beside))

# onnxruntime would keep a number of this device in the user's cache and send what it does to Microsoft: it reads this
# when it is imported, and whatever imports it here comes behind this line
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.1.0"

# imported when first asked for: numpy, scipy and onnxruntime take their time
_LAZY = {
    "net.net": ["Net"],
    "net.blobs": ["Blob", "Transformer"],
    "dream": ["deepdream", "make_step", "visible"],
    "net.pixels": ["preprocess", "deprocess"],
    "goals.objectives": ["Objective", "objective_L2", "objective_channel", "objective_class", "objective_guide",
                   "objective_match", "objective_neuron"],
    "pictures": ["load", "save", "settings", "showarray"],
    "runtime.device": ["Device"],
    "errors": ["DreamError"],
}
_HOME = {name: module for module, names in _LAZY.items() for name in names}
__all__ = list(_HOME)


def __getattr__(name):
    if name in _HOME:
        return getattr(importlib.import_module(f".{_HOME[name]}", __name__), name)
    raise AttributeError(f"module 'deepdream' has no attribute '{name}'")
