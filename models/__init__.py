"""What can be dreamt with: one folder a model (its card), found on disk or downloaded.

    models.names()                      what there is
    models.find("bvlc_googlenet")       a Model whose files lie on disk, downloaded if they must be
    models.find("some/folder")          the same for a folder with a prototxt and a caffemodel
    models.onnx_card.beside("net.onnx")       what the card beside an ONNX file says of its pictures
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
