"""What can be dreamt with: one folder a model (its record), found on disk or downloaded.

    models.names()                      what there is
    models.find("bvlc_googlenet")       a Model whose files lie on disk, downloaded if they must be
    models.find("some/folder")          the same for a folder with a prototxt and a caffemodel
    models.own.beside("net.onnx")       what the record beside an ONNX file says of its pictures
"""
from . import own
from .errors import ModelError
from .labels import read_labels
from .paths import expanded
from .records import File, Record, names, record
from .store import Model, cache_dir, fetch, find, obtain, status

__all__ = ["File", "Model", "ModelError", "Record", "cache_dir", "expanded", "fetch", "find", "names", "obtain", "own",
           "read_labels", "record", "status"]
