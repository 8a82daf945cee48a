"""What can be dreamt with: one folder a model (its record), found on disk or downloaded.

    models.names()                      what there is
    models.find("bvlc_googlenet")       a Model whose files lie on disk, downloaded if they must be
    models.find("some/folder")          the same for a folder with a prototxt and a caffemodel
    models.own.beside("net.onnx")       what the record beside an ONNX file says of its pictures
"""
from . import own
from .records import File, ModelError, Record, names, record
from .store import Model, cache_dir, fetch, find, read_labels, status

__all__ = ["File", "Model", "ModelError", "Record", "cache_dir", "fetch", "find", "names", "own", "read_labels",
           "record", "status"]
