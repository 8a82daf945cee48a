"""Stands in for pycaffe's Net and Classifier, on `deepdream.net.Net`."""
from collections import OrderedDict, namedtuple
from functools import cached_property

import numpy as np

from .. import convert
from ..convert.graph import sizes
from ..convert.caffe.layers import LAYERS
from ..convert.caffe.reader import read_caffemodel, read_prototxt
from ..engine.programs import Program
from ..errors import DreamError
from ..net import blobs as base_blobs
from ..net import net as base
from ..net.lock import exclusive
from . import io, mode

TRAIN, TEST = 0, 1      # Caffe: caffe.proto, enum Phase

Layer = namedtuple("Layer", "type blobs")

_LOAD = "give the weights when the net is made: caffe.Net(prototxt, caffe.TEST, weights=caffemodel)"
_SURGERY = ("weights are read-only here: change them in the file (caffe.io.caffe_pb2.NetParameter, ParseFromString, "
            "layer[i].blobs[j].data, SerializeToString) and load that")
INSTEAD = {   # what pycaffe's Net has and this has not -> what to use
    **dict.fromkeys(["copy_from", "load_hdf5", "share_with"], _LOAD),
    **dict.fromkeys(["save", "save_hdf5"], "the caffemodel that was loaded is unchanged; copy the file"),
    **dict.fromkeys(["set_input_arrays", "_set_input_arrays"], "assign to net.blobs['data'].data[...]"),
    **dict.fromkeys(["forward_backward_all", "clear_param_diffs", "blob_loss_weights", "before_forward",
                     "after_forward", "before_backward", "after_backward"],
                    "nets are not trained here; net.forward(end=) and net.backward(start=)"),
}


class Blob(base_blobs.Blob):
    """A blob of a net, as `deepdream.Blob`; it knows its shape before the first forward pass, as Caffe's does.

    shape_of: a function of the blob's name that tells the shape which it will have.
    """

    def __init__(self, name, shape, shape_of, diffs=None, lock=None):
        self._shape_of = shape_of
        super().__init__(name, shape, diffs, lock)

    @property
    def _shape(self):
        return self._known or self._shape_of(self.name)

    @_shape.setter
    def _shape(self, shape):
        self._known = None if shape == (0,) else shape

    def _no_assignment(self, _):
        raise AttributeError("a blob's arrays are changed in place: blob.data[...] = array (blob.reshape(n, c, h, w) "
                             "first, if it has another shape)")

    data = property(base_blobs.Blob.data.fget, _no_assignment)
    diff = property(base_blobs.Blob.diff.fget, _no_assignment)


class Weights(np.ndarray):
    """An array that cannot be changed and says what to do instead."""

    def _refuse(self, *_):
        if self.flags.writeable:       # a copy: anyone may change it
            return NotImplemented
        raise ValueError(_SURGERY)

    def __setitem__(self, where, value):
        self._refuse()
        super().__setitem__(where, value)

    def __array_ufunc__(self, ufunc, method, *inputs, out=None, **options):
        for array in out or ():
            if isinstance(array, Weights):
                array._refuse()
        plain = [np.asarray(x) if isinstance(x, Weights) else x for x in inputs]
        if out:
            options["out"] = tuple(np.asarray(x) if isinstance(x, Weights) else x for x in out)
        return getattr(ufunc, method)(*plain, **options)


class Parameter:
    """One of a layer's weight blobs: `data`, read-only."""

    def __init__(self, array):
        array = np.array(array, np.float32).view(Weights)
        array.flags.writeable = False
        self._array = array

    @property
    def data(self):
        return self._array

    @data.setter
    def data(self, _):
        raise AttributeError(_SURGERY)

    @property
    def diff(self):
        raise AttributeError("gradients by the weights are not computed here, only those by the data")

    shape = property(lambda self: self._array.shape)
    count = property(lambda self: self._array.size)

    def reshape(self, *_):
        raise AttributeError(_SURGERY)


class Net(base.Net):
    """A Caffe net: Net(prototxt, caffe.TEST, weights=caffemodel), Net(prototxt, caffemodel, caffe.TEST).

    leftover_diffs: as of `deepdream.Net`. Level and stages other than Caffe's defaults, and phase TRAIN, are not
    supported. Errors are those of `deepdream.Net`.
    """

    def __init__(self, network_file, *args, phase=None, weights=None, level=0, stages=None, **more):
        for arg in args:
            if isinstance(arg, int):
                phase = arg
            else:
                weights = arg
        if phase == TRAIN:
            raise NotImplementedError("phase TRAIN is not supported: nets are not trained here; use caffe.TEST")
        if level or stages:
            raise NotImplementedError("level and stages are not supported: put the layers of that stage into a "
                                      "prototxt of their own")
        if weights is None:
            raise DreamError(f"{network_file}: a net without weights cannot dream; {_LOAD}")
        super().__init__(network_file, weights, device=mode.device(), threads=mode.threads(), **more)
        self.blobs = OrderedDict((name, Blob(name, blob.shape, self.shape_of_blob, blob.diffs, self.lock))
                                 for name, blob in self.blobs.items())
        input_ = self.inputs[0]
        self._set_transformer(self.transformer.mean[input_], self.transformer.channel_swap[input_])

    def _set_transformer(self, mean, channel_swap, input_scale=None, raw_scale=None):
        name = self.inputs[0]
        shape = self.blobs[name].shape
        t = self.transformer = io.Transformer({name: shape})
        t.set_transpose(name, (2, 0, 1))
        t.set_mean(name, np.zeros(shape[1]) if mean is None else mean)
        t.set_channel_swap(name, range(shape[1]) if channel_swap is None or shape[1] == 1 else channel_swap)
        if input_scale is not None:
            t.set_input_scale(name, input_scale)
        if raw_scale is not None:
            t.set_raw_scale(name, raw_scale)

    def __getattr__(self, name):
        if name in INSTEAD:
            raise AttributeError(f"net.{name} is not supported here: {INSTEAD[name]}")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    # ---- passes

    @exclusive
    def forward(self, blobs=None, start=None, end=None, **data):
        """Run up to the layer `end`, of any kind (all layers if None). data: arrays for the inputs, by name.
        Returns {name: data} of the end's blobs, or of the net's outputs, and of `blobs`."""
        if start is not None:
            raise NotImplementedError("forward(start=) is not supported: a pass always starts at the data; "
                                      "leave start out")
        for name, array in data.items():
            if name not in self.inputs:
                raise DreamError(f"forward({name}=): the net's inputs are {', '.join(self.inputs)}")
            self.blobs[name].data[...] = array
        layer = self._layer_names[-1] if end is None else end
        if layer not in self._last_write:
            layer = super().checked(layer)      # says what is wrong with it
        if layer in self.ends:
            super().forward(end=layer)
        else:
            self._forward_to(layer)
        names = self.outputs if end is None else self.top_names[layer]
        return {name: self.blobs[name].data for name in [*names, *(blobs or [])]}

    def _forward_to(self, layer):
        """To a layer without a blob of its own (ReLU, Dropout in place)."""
        if self.leftover:
            for name, value in self.leftover.forward(layer).items():
                self.blobs[name].hold(value)
            return
        data = self.blobs[self.inputs[0]].data
        value = self.run_forward(layer, [self._tensor_of(layer)], data)[0]
        data = data.copy()
        for blob in {blob for _, blob, _ in self.facts.writes[:self._last_write[layer] + 1]} - set(self.inputs):
            self.blobs[blob].hold_later(lambda blob=blob: self.run_forward(layer, [self.tensor_of(blob, layer)], data)[0])
        self.blobs[self.facts.writes[self._last_write[layer]].blob].hold(value)

    @exclusive
    def backward(self, diffs=None, start=None, end=None, **more):
        """From the `diff` of the blob of layer `start` to the `diff` of the data. Returns {'data': diff}."""
        if end is not None or diffs or more:
            raise NotImplementedError("backward(end=, diffs=, ...) is not supported: only the diffs of the start's "
                                      "blob and of the data are kept; set net.blobs[start].diff[...] and call "
                                      "net.backward(start=start)")
        start = self._layer_names[-1] if start is None else start
        if start in self.ends or start not in self._last_write:
            return super().backward(start=start)
        if self.leftover:
            self.leftover.backward(start)
            return {self.inputs[0]: self.blobs[self.inputs[0]].diff}
        src, blob = self.blobs[self.inputs[0]], self.blobs[self.facts.writes[self._last_write[start]].blob]
        tensor = self._tensor_of(start)
        session = self.programs.session(Program(("gradient", tensor), lambda: self._gradient_of(tensor), None))
        src.diff[...] = session.run(["data_diff"], {"data": src.data, "end_diff": blob.diff})[0]
        return {self.inputs[0]: src.diff}

    def forward_all(self, blobs=None, **data):
        """Run as many inputs as are given, in batches of the data blob's size. Returns {name: array}."""
        (name, array), = data.items()
        batch, found = self.blobs[name].shape[0], {}
        for i in range(0, len(array), batch):
            part = np.asarray(array[i:i + batch], np.float32)
            missing = batch - len(part)
            padded = np.concatenate([part, np.zeros((missing, *part.shape[1:]), np.float32)]) if missing else part
            for key, value in self.forward(blobs=blobs, **{name: padded}).items():
                found.setdefault(key, []).append(value[:len(part)].copy())
        return {key: np.concatenate(values) for key, values in found.items()}

    def reshape(self):
        """Give all blobs the shapes that follow from the input's."""
        for name, blob in self.blobs.items():
            if name not in self.inputs:
                blob.reshape(0)

    # ---- what the files say

    @cached_property
    def _layers(self):
        return read_prototxt(self.prototxt, LAYERS).layer

    @cached_property
    def _layer_names(self):
        return [layer.name for layer in self._layers]

    @property
    def _blob_names(self):
        return list(self.blobs)

    @cached_property
    def top_names(self):
        return OrderedDict((layer.name, list(layer.top)) for layer in self._layers)

    @cached_property
    def bottom_names(self):
        return OrderedDict((layer.name, list(layer.bottom)) for layer in self._layers)

    @cached_property
    def params(self):
        """{layer: [weights, bias]}, each with its `data`, read-only."""
        weights = read_caffemodel(self.caffemodel)
        return OrderedDict((layer.name, [Parameter(_shaped(layer.type, i, a))
                                         for i, a in enumerate(weights[layer.name])])
                           for layer in self._layers if layer.name in weights)

    @property
    def layers(self):
        """[Layer(type, blobs)], in the prototxt's order."""
        return list(self.layer_dict.values())

    @cached_property
    def layer_dict(self):
        return OrderedDict((layer.name, Layer(layer.type, self.params.get(layer.name, []))) for layer in self._layers)

    # ---- inside

    def check_size(self, end, h, w, what="the picture"):
        super().check_size(end if end in self.ends else self._tensor_of(end), h, w, what)

    @property
    def programs(self):
        """The net's programs, on the device of `mode` as it is now."""
        self._programs.move(mode.device())
        return self._programs

    @programs.setter
    def programs(self, programs):
        self._programs = programs

    @cached_property
    def _last_write(self):
        return {layer: i for i, (layer, _, _) in enumerate(self.facts.writes)}

    def _tensor_of(self, layer):
        return self.facts.writes[self._last_write[layer]].tensor

    def _gradient_of(self, tensor):
        import onnx
        unlisted = onnx.ModelProto()
        unlisted.CopyFrom(self.model)
        del unlisted.metadata_props[:]       # what a converted net calls its ends are blobs only
        return convert.gradient_graph(unlisted, tensor).SerializeToString()

    @cached_property
    def _light(self):
        light = sizes.without_weights(self.model)
        light.graph.value_info.extend([*self.model.graph.value_info, *self.model.graph.output])
        return light

    def shape_of_blob(self, name):
        """The shape that a blob will have at the data's present size."""
        input_ = self.inputs[0]
        tensor = [t for _, blob, t in self.facts.writes if blob == name][-1]
        from onnx.utils import Extractor
        path = Extractor(self._light).extract_model([i.name for i in self._light.graph.input], [tensor])
        return sizes.end_shape(path, input_, tensor, self.blobs[input_].shape) or (0,)


class Classifier(Net):
    """A net with its preprocessing in `transformer`, and `predict`.

    image_dims: (h, w) that pictures are resized to before they are cropped; mean, input_scale, raw_scale,
    channel_swap: as of `io.Transformer`; without a mean, none is subtracted.
    """

    def __init__(self, model_file, pretrained_file, image_dims=None, mean=None, input_scale=None, raw_scale=None,
                 channel_swap=None, **more):
        super().__init__(model_file, TEST, weights=pretrained_file, **more)
        self._set_transformer(mean, channel_swap, input_scale, raw_scale)
        self.crop_dims = np.array(self.blobs[self.inputs[0]].shape[2:])
        self.image_dims = self.crop_dims if image_dims is None else np.array(image_dims)

    def predict(self, inputs, oversample=True):
        """What the net's output says of pictures (H, W, C): (N, classes). oversample: the mean over ten crops,
        else the centre alone."""
        pictures = [io.resize_image(picture, self.image_dims) for picture in inputs]
        if oversample:
            crops = io.oversample(pictures, self.crop_dims)
        else:
            y, x = (self.image_dims - self.crop_dims) // 2
            crops = [p[y:y + self.crop_dims[0], x:x + self.crop_dims[1]] for p in pictures]
        name = self.inputs[0]
        data = np.stack([self.transformer.preprocess(name, crop) for crop in crops])
        src = self.blobs[name]
        if src.shape[2:] != data.shape[2:]:      # somebody dreamt at another size
            src.reshape(min(len(data), 10), *data.shape[1:])
        found = self.forward_all(**{name: data})[self.outputs[0]]
        found = found.reshape(len(found), -1)
        return found.reshape(len(pictures), 10, -1).mean(1) if oversample else found


def _shaped(kind, i, array):
    """A weight blob as Caffe shapes it today (files before BlobShape give four axes)."""
    axes = {"Convolution": 4, "Deconvolution": 4, "InnerProduct": 2}.get(kind, 1) if i == 0 else 1
    lead = array.ndim - axes
    return array.reshape(array.shape[lead:]) if lead > 0 and np.prod(array.shape[:lead]) == 1 else array
