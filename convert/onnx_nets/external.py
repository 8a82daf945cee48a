"""Weights that lie in files beside an .onnx file (PyTorch: net.onnx.data).

Where they lie the .onnx file says, and that may come from anywhere: only regular files in its own folder are opened,
and only if they hold what is asked of them.
"""
import math
import os
import re
import stat
from pathlib import Path, PurePosixPath, PureWindowsPath

from onnx import TensorProto

from .limits import graphs
from ..errors import ConvertError, shown

_BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}      # of the types that have no number in their names
SHARED = 4                                          # how often the bytes of a file may be read


def tensors(outer):
    """All TensorProtos of a graph, those in its subgraphs too."""
    for graph in graphs(outer):
        yield from getattr(graph, "initializer", ())
        sparse = [*getattr(graph, "sparse_initializer", ())]
        for attribute in (a for node in graph.node for a in node.attribute):
            yield from ([attribute.t] if attribute.HasField("t") else attribute.tensors)
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else attribute.sparse_tensors
        for both in sparse:
            yield from (both.values, both.indices)


def files(model, path):
    """The files beside `path` that hold weights of its model, in alphabetical order. Raises ConvertError for what is
    no file that may be read."""
    return sorted({file for _, file, _, _ in _pieces(model, path)})


def load(model, path):
    """Put the weights that lie in other files into the model."""
    for tensor, file, offset, length in list(_pieces(model, path)):
        try:
            with open(file, "rb") as stream:
                stream.seek(offset)
                tensor.raw_data = stream.read(length)
        except OSError as error:
            raise _unreadable(path, file, error) from None
        del tensor.external_data[:]
        tensor.data_location = TensorProto.DEFAULT


def _pieces(model, path):
    """(tensor, file, offset, length) of each tensor that lies in another file; checked, and nothing opened."""
    sizes, wanted = {}, 0
    for graph in (model.graph, *model.functions):
        for tensor in tensors(graph):
            if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
                continue
            told = {entry.key: entry.value for entry in tensor.external_data}
            file = _inside(path, told.get("location", ""))
            if file not in sizes:
                sizes[file] = _size(path, file)
            needs = _bytes_of(tensor, path)
            offset, length = (_number(told.get(key, usual), key, tensor, path) for key, usual in
                              (("offset", "0"), ("length", str(needs))))
            if length != needs:
                raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' takes {needs:,} bytes, not {length:,}")
            if offset + length > sizes[file]:
                raise ConvertError(f"{path}: its weights lie in {file.name}, which must lie beside it, whole: "
                                   f"{sizes[file]:,} bytes are too few for '{shown(tensor.name)}'")
            wanted += length
            if wanted > SHARED * sum(sizes.values()):
                raise ConvertError(f"{path}: damaged: its weights are many times as large as the files they lie in")
            yield tensor, file, offset, length


def _inside(path, location):
    """The file at a location that must be relative, and inside the folder of `path` whatever links there are."""
    folder, problem = Path(path).parent, None
    for kind in (PurePosixPath, PureWindowsPath):
        if not location or kind(location).anchor or ".." in kind(location).parts or "\0" in location:
            problem = "is no plain relative path"
    if problem is None:
        root = os.path.realpath(folder)
        if os.path.commonpath([root, os.path.realpath(folder / location)]) != root:
            problem = "leads out of the folder of the .onnx file"
    if problem:
        raise ConvertError(f"{path}: its weights lie in '{shown(location)}', which {problem}; only files beside it "
                           "are read")
    return folder / location


def _size(path, file):
    try:
        status = os.stat(file)
    except OSError as error:
        raise _unreadable(path, file, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise ConvertError(f"{path}: its weights lie in {shown(file)}, which is no regular file")
    return status.st_size


def _unreadable(path, file, error):
    return ConvertError(f"{path}: its weights lie in {file.parent / shown(file.name)}: cannot be read: "
                        f"{error.strerror or error}")


def _number(text, key, tensor, path):
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' has the {key} '{shown(text)}'")
    return int(text)


def _bytes_of(tensor, path):
    """How many bytes a tensor takes."""
    name = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else ""
    bits = _BITS.get(name) or int((re.search(r"\d+", name) or ["0"])[0])
    if not bits or min(tensor.dims, default=0) < 0:
        raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' has a type or a shape that none has")
    return -(-math.prod(tensor.dims) * bits // 8)
