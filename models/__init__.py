"""The nets that can be used by name, each described by a model card, and their files.

    models.names()                      the names
    models.find("bvlc_googlenet")       a Model, with its files on disk; they are downloaded if necessary
    models.find("some/folder")          the same for a folder with a prototxt and a caffemodel
    models.onnx_card.read("net.onnx")   the model card of an ONNX file, net.toml

See README.md in this folder.
"""
from . import onnx_card
from .errors import ModelError
from .labels import read_labels
from .paths import expanded
from .cards import File, Card, names, card
from .disk import downloaded, remove, size
from .sources import Source, check, lost
from .store import Model, cache_dir, fetch, find, obtain, status

__all__ = ["File", "Model", "ModelError", "Card", "Source", "cache_dir", "card", "check", "downloaded", "expanded",
           "fetch", "find", "lost", "names", "obtain", "onnx_card", "read_labels", "remove", "size", "status"]
