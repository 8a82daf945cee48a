"""Google's DeepDream notebook of 2015 on ONNX Runtime: the same nets, the same functions, the same dreams.

    from deepdream import Net, deepdream, load, save
    net = Net("mini_imagenet")
    save(deepdream(net, load("cat.jpg")), "dream.jpg")

    from deepdream import dream_picture
    dream_picture("cat.jpg", "dream.jpg", "mini_imagenet", seed=7)      # the same, with the settings in its metadata
"""
import importlib
import os
from pathlib import Path

# In a checkout, the folders `convert` and `models` are next to this package; in an installed package they are inside
# it. Either way they are imported as deepdream.convert and deepdream.models.
if (_root := Path(__file__).resolve().parent.parent).joinpath("convert", "caffe", "caffe.proto").is_file():
    __path__.append(str(_root))

# Without this, onnxruntime would store an identifier of this machine in the user's cache and send usage data to
# Microsoft. It reads the variable when it is imported, so this line must come before any such import.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

__version__ = "0.2.0"

# These names are imported on first use, because numpy, scipy and onnxruntime are slow to import.
_LAZY = {
    "net.net": ["Net"],
    "net.blobs": ["Blob", "Transformer"],
    "dream": ["deepdream", "make_step", "visible"],
    "simple": ["dream_picture"],
    "film.steady": ["dream_frames"],
    "net.pixels": ["preprocess", "deprocess"],
    "goals.objectives": ["Objective", "objective_L2", "objective_channel", "objective_class", "objective_guide",
                         "objective_match", "objective_neuron"],
    "seeing.classify": ["classify"],
    "pictures": ["load", "save", "settings", "showarray"],
    "runtime.device": ["Device"],
    "errors": ["DreamError"],
}
_MODULE_OF = {name: module for module, names in _LAZY.items() for name in names}
__all__ = list(_MODULE_OF)


def __getattr__(name: str):
    if name in _MODULE_OF:
        return getattr(importlib.import_module(f".{_MODULE_OF[name]}", __name__), name)
    raise AttributeError(f"module 'deepdream' has no attribute '{name}'")
