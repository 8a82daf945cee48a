"""Weights of a net from and to caffemodels."""
import numpy as np

from ..convert.caffe import caffe_pb2 as pb
from ..convert.caffe.reader import read_caffemodel
from ..convert.errors import ConvertError, shown
from ..convert.files import write
from ..errors import DreamError


def load(params: dict, path):
    """Copy the weights in a caffemodel into those of the layers of the same names.

    params: {layer: [Parameter]}. Raises ConvertError for a file that cannot be read or does not fit.
    """
    if str(path).endswith(".h5"):
        raise DreamError(f"{path}: HDF5 files are not read here; give the caffemodel")
    found = read_caffemodel(path)
    for name in found.keys() & params.keys():
        check(params[name], found[name], path, name)
    for name in found.keys() & params.keys():
        for parameter, array in zip(params[name], found[name]):
            parameter.data[...] = array.reshape(parameter.shape)


def check(parameters, arrays, source, layer):
    """Raise ConvertError if arrays do not fit a layer's weights; ones before a shape do not count."""
    shapes = [[p.shape for p in parameters], [a.shape for a in arrays]]
    if [_without_ones(s) for s in shapes[0]] != [_without_ones(s) for s in shapes[1]]:
        raise ConvertError(f"{source}: layer '{shown(layer)}' has weights of the shapes {shapes[1]}, and the net needs "
                           f"{shapes[0]}")


def _without_ones(shape):
    shape = list(shape)
    while shape and shape[0] == 1:
        shape.pop(0)
    return shape


def save(net: pb.NetParameter, params: dict, path):
    """Write a caffemodel: the net's layers with their weights. Raises DreamError where the file cannot be written."""
    whole = pb.NetParameter(name=net.name)
    for layer in net.layer:
        copy = whole.layer.add()
        copy.CopyFrom(layer)
        copy.ClearField("blobs")
        for parameter in params.get(layer.name, ()):
            array = parameter.peek()
            blob = copy.blobs.add()
            blob.shape.dim.extend(array.shape)
            blob.data.extend(np.ravel(array))
    try:
        write(path, whole.SerializeToString())
    except OSError as error:
        raise DreamError(f"{path}: cannot be written: {error.strerror or error}") from None
