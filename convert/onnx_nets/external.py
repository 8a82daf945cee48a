"""Load weights that are stored in files next to an .onnx file (PyTorch: net.onnx.data).

The .onnx file names these files, and it may come from anywhere. So only regular files in its folder are opened, and
only if they are large enough.
"""
from __future__ import annotations

import math
import os
import re
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath, PureWindowsPath

import onnx
from onnx import TensorProto

from ..errors import ConvertError, shown
from .limits import graphs

_BITS = {"FLOAT": 32, "DOUBLE": 64, "BOOL": 8}      # of the types that have no number in their names
MAX_READS = 4                                       # how many times the bytes of a file may be read


def tensors(outer: onnx.GraphProto | onnx.FunctionProto) -> Iterator[onnx.TensorProto]:
    """Yield all TensorProtos of a graph, also those in its subgraphs."""
    for graph in graphs(outer):
        yield from getattr(graph, "initializer", ())
        sparse = [*getattr(graph, "sparse_initializer", ())]
        for attribute in (a for node in graph.node for a in node.attribute):
            yield from ([attribute.t] if attribute.HasField("t") else attribute.tensors)
            sparse += [attribute.sparse_tensor] if attribute.HasField("sparse_tensor") else attribute.sparse_tensors
        for both in sparse:
            yield from (both.values, both.indices)


def files(model: onnx.ModelProto, path: str | os.PathLike) -> list[Path]:
    """List the other files that hold weights of a model, in alphabetical order.

    model: the model, without these weights.
    path: its .onnx file.

    Raises ConvertError for a file that must not or cannot be read.
    """
    return sorted({file for _, file, _, _ in _pieces(model, path)})


def load(model: onnx.ModelProto, path: str | os.PathLike) -> None:
    """Copy the weights that are stored in other files into the model. Arguments and errors are those of `files`."""
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
    """Yield (tensor, file, offset, length) for each tensor in another file. Checks all of these, opens no file."""
    sizes, total = {}, 0
    for graph in (model.graph, *model.functions):
        for tensor in tensors(graph):
            if tensor.data_location != TensorProto.EXTERNAL and not tensor.external_data:
                continue
            entries = {entry.key: entry.value for entry in tensor.external_data}
            file = _inside(path, entries.get("location", ""))
            if file not in sizes:
                sizes[file] = _size(path, file)
            needs = _bytes_of(tensor, path)
            offset, length = (_number(entries.get(key, default), key, tensor, path) for key, default in
                              (("offset", "0"), ("length", str(needs))))
            if length != needs:
                raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' needs {needs:,} bytes, not {length:,}")
            if offset + length > sizes[file]:
                raise ConvertError(f"{path}: its weights are in {file.name}, which must be complete and in the same "
                                   f"folder: {sizes[file]:,} bytes are too few for '{shown(tensor.name)}'")
            total += length
            if total > MAX_READS * sum(sizes.values()):
                raise ConvertError(f"{path}: damaged: its weights are many times as large as the files that hold them")
            yield tensor, file, offset, length


def _inside(path, location):
    """Return the file at a location, which must be relative and, after following links, in the folder of `path`."""
    folder, problem = Path(path).parent, None
    for kind in (PurePosixPath, PureWindowsPath):
        if not location or kind(location).anchor or ".." in kind(location).parts or "\0" in location:
            problem = "is not a plain relative path"
    if problem is None:
        root = os.path.realpath(folder)
        if os.path.commonpath([root, os.path.realpath(folder / location)]) != root:
            problem = "leads out of the folder of the .onnx file"
    if problem:
        raise ConvertError(f"{path}: its weights are in '{shown(location)}', which {problem}; only files in the same "
                           "folder are read")
    return folder / location


def _size(path, file):
    try:
        status = os.stat(file)
    except OSError as error:
        raise _unreadable(path, file, error) from None
    if not stat.S_ISREG(status.st_mode):
        raise ConvertError(f"{path}: its weights are in {shown(file)}, which is not a regular file")
    return status.st_size


def _unreadable(path, file, error):
    return ConvertError(f"{path}: its weights are in {file.parent / shown(file.name)}: cannot be read: "
                        f"{error.strerror or error}")


def _number(text, key, tensor, path):
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' has the {key} '{shown(text)}'")
    return int(text)


def _bytes_of(tensor, path):
    """Return the size of a tensor's values in bytes."""
    name = TensorProto.DataType.Name(tensor.data_type) if tensor.data_type in TensorProto.DataType.values() else ""
    bits = _BITS.get(name) or int((re.search(r"\d+", name) or ["0"])[0])
    if not bits or min(tensor.dims, default=0) < 0:
        raise ConvertError(f"{path}: damaged: '{shown(tensor.name)}' has an impossible type or shape")
    return -(-math.prod(tensor.dims) * bits // 8)
