"""Stands in for pycaffe's Net."""
import threading
from collections import OrderedDict
from functools import cached_property
from itertools import zip_longest

import numpy as np

from ..convert.caffe.layers import LAYERS
from ..convert.caffe.reader import read_caffemodel, read_prototxt
from ..convert.errors import no_such_end, shown
from ..errors import DreamError
from ..net.lock import exclusive
from . import mode, weight_files
from .executor import Executor
from .net_layers import INPUTS

TRAIN, TEST = 0, 1      # Caffe: caffe.proto, enum Phase

_ASSIGN = "assign to net.blobs['data'].data[...]"
INSTEAD = {   # what pycaffe's Net has and this one has not -> what to use
    **dict.fromkeys(["load_hdf5", "save_hdf5"], "use copy_from and save, which read and write a caffemodel"),
    **dict.fromkeys(["set_input_arrays", "_set_input_arrays"], _ASSIGN),
    **dict.fromkeys(["checked", "default_end", "ends", "facts", "features", "files", "leftover", "programs"],
                    "the functions of deepdream take a deepdream.Net(prototxt, caffemodel)"),
}


class Layer:
    """A layer of a net, with its `type` and `blobs`; and the base class that layers in Python have in pycaffe.

    Layers in Python can be defined, but no net runs them.
    """

    def __init__(self, type: str = "Python", blobs=()):
        self.type, self.blobs = type, list(blobs)


class Net:
    """A Caffe net: Net(prototxt, caffe.TEST, weights=caffemodel) or Net(prototxt, caffemodel, caffe.TEST).

    network_file: path of the prototxt.
    phase: caffe.TEST.
    weights: path of the caffemodel; without it, all weights are as the fillers in the prototxt make them.
    level, stages: Caffe's defaults only.
    leftover_diffs: False clears all diffs but those of `start` before each backward pass, which Caffe does not do.

    Both files are read at once. Raises ConvertError or DreamError with one line that names the file or the layer, and
    NotImplementedError for phase TRAIN, level and stages.
    """

    def __init__(self, network_file, *args, phase=None, weights=None, level=0, stages=None, leftover_diffs=True):
        for arg in args:
            if isinstance(arg, (int, np.integer)):
                phase = arg
            else:
                weights = arg
        if phase == TRAIN:
            raise NotImplementedError("phase TRAIN is not supported: nets are not trained here; use caffe.TEST")
        if level or stages:
            raise NotImplementedError("level and stages are not supported: put the layers of that stage into a "
                                      "prototxt of their own")
        self.lock, self.leftover_diffs = threading.RLock(), leftover_diffs
        self._net = read_prototxt(network_file, LAYERS)
        found = {} if weights is None else read_caffemodel(weights)
        self._executor = Executor(self._net, found, (str(network_file), str(weights or "the fillers")), mode.device,
                                  mode.threads())
        self.blobs = self._executor.blobs
        self._hooks = {"before_forward": [], "after_forward": [], "before_backward": [], "after_backward": []}

    def __getattr__(self, name):
        if name in INSTEAD:
            raise AttributeError(f"net.{name} is not supported here: {INSTEAD[name]}")
        raise AttributeError(f"'{type(self).__name__}' object has no attribute '{name}'")

    # ---- passes

    def forward(self, blobs=None, start=None, end=None, **data):
        """Run the layers from `start` to `end`.

        blobs: names of further blobs to return.
        start, end: names of layers; all layers if they are left out.
        data: an array for each input, by name.

        Returns {name: data} of the tops of `end`, or of the net's outputs, and of `blobs`.
        """
        with self.lock:
            first = 0 if start is None else self._position(start)
            last = len(self._executor.operations) - 1 if end is None else self._position(end)
            self._put(data, self.inputs, "data", "forward")
            self._forward(first, last)
            names = self.outputs if end is None else self.top_names[end]
            return {name: self._blob(name).data for name in dict.fromkeys([*names, *(blobs or [])])}

    def backward(self, diffs=None, start=None, end=None, **tops):
        """Run the layers from `start` down to `end`, on the diffs as they are.

        diffs: names of further blobs to return.
        start, end: names of layers; all layers if they are left out.
        tops: an array for the diff of each output, by name.

        Returns {name: diff} of the bottoms of `end`, or of the net's inputs, and of `diffs`.
        """
        with self.lock:
            first = len(self._executor.operations) - 1 if start is None else self._position(start)
            last = 0 if end is None else self._position(end)
            self._put(tops, self.outputs, "diff", "backward")
            if not self.leftover_diffs:
                kept = self._executor.operations[first].layer.tops
                for name, blob in self.blobs.items():
                    if name not in kept:
                        blob.diff[...] = 0
            self._backward(first, last)
            names = self.inputs if end is None else self.bottom_names[end]
            return {name: self._blob(name).diff for name in dict.fromkeys([*names, *(diffs or [])])}

    @exclusive
    def _forward(self, first, last):
        """Run the layers from number `first` to number `last`."""
        self._executor.forward(first, last, self._hooks["before_forward"], self._hooks["after_forward"])

    @exclusive
    def _backward(self, first, last):
        """Run the layers from number `first` down to number `last`."""
        self._executor.backward(first, last, self._hooks["before_backward"], self._hooks["after_backward"])

    def _put(self, arrays, names, what, function):
        if arrays and set(arrays) != set(names):
            raise DreamError(f"{function}({', '.join(arrays)}=): the net's {'inputs' if what == 'data' else 'outputs'} "
                             f"are {', '.join(names)}; give an array for each of them")
        for name, array in arrays.items():
            target = getattr(self.blobs[name], what)
            if np.shape(array)[:1] != target.shape[:1]:
                raise DreamError(f"{function}({name}=): an array of shape {np.shape(array)} for a blob of shape "
                                 f"{target.shape}")
            target[...] = array

    def forward_all(self, blobs=None, **data):
        """Run as many inputs as there are, in batches of the data blob's size. Returns {name: array}."""
        found = {}
        for batch, count in self._batches(data):
            for name, value in self.forward(blobs=blobs, **batch).items():
                found.setdefault(name, []).append(value[:count].copy())
        return {name: np.concatenate(values) for name, values in found.items()}

    def forward_backward_all(self, blobs=None, diffs=None, **arrays):
        """Run inputs forward and diffs of outputs backward, in batches. Returns ({name: data}, {name: diff})."""
        values, gradients = {}, {}
        forward = {name: array for name, array in arrays.items() if name in self.inputs}
        backward = {name: array for name, array in arrays.items() if name in self.outputs}
        for (data, count), (tops, _) in zip_longest(self._batches(forward), self._batches(backward), fillvalue=({}, 0)):
            for name, value in self.forward(blobs=blobs, **data).items():
                values.setdefault(name, []).append(value[:count].copy())
            for name, value in self.backward(diffs=diffs, **tops).items():
                gradients.setdefault(name, []).append(value[:count].copy())
        return tuple({name: np.concatenate(v) for name, v in found.items()} for found in (values, gradients))

    def _batches(self, arrays):
        """[({name: a batch, filled up with zeros}, how many of it are the caller's)]."""
        length = max(map(len, arrays.values()), default=0)
        size = next(iter(self.blobs.values())).num
        for i in range(0, length, size):
            parts = {name: np.asarray(array[i:i + size], np.float32) for name, array in arrays.items()}
            count = len(next(iter(parts.values())))
            yield {name: np.concatenate([part, np.zeros((size - count, *part.shape[1:]), np.float32)])
                   for name, part in parts.items()}, count

    def _batch(self, blobs):
        """Yield {name: a list of as many arrays as a batch holds}."""
        length, size = len(next(iter(blobs.values()))), next(iter(self.blobs.values())).num
        for i in range(0, length, size):
            yield {name: blobs[name][i:i + size] for name in blobs}

    @exclusive
    def reshape(self):
        """Give all blobs the shapes that follow from the inputs'."""
        self._executor.reshape()

    def before_forward(self, function):
        """Call function(number of the layer) before each layer of a forward pass."""
        self._hooks["before_forward"].append(function)

    def after_forward(self, function):
        """Call function(number of the layer) after each layer of a forward pass."""
        self._hooks["after_forward"].append(function)

    def before_backward(self, function):
        """Call function(number of the layer) before each layer of a backward pass."""
        self._hooks["before_backward"].append(function)

    def after_backward(self, function):
        """Call function(number of the layer) after each layer of a backward pass."""
        self._hooks["after_backward"].append(function)

    def clear_param_diffs(self):
        """Do nothing: gradients by the weights are not computed."""

    # ---- weights

    @exclusive
    def copy_from(self, trained_filename):
        """Read the weights of the layers that a caffemodel has by the same name.

        Raises ConvertError for a file that cannot be read or does not fit.
        """
        weight_files.load(self.params, trained_filename)

    @exclusive
    def save(self, filename):
        """Write a caffemodel with the net's weights. Raises DreamError where that is impossible."""
        weight_files.save(self._net, self.params, filename)

    def share_with(self, other):
        """Use the weights of another net, where its layers have the same names."""
        for operation in self._executor.operations:
            name = operation.layer.name
            if operation.params and name in other.params:
                weight_files.check(operation.params, [p.peek() for p in other.params[name]], "share_with", name)
                operation.params = other.params[name]
                self._executor.drop(name)
        self.__dict__.pop("params", None)
        self.__dict__.pop("layers", None)

    @cached_property
    def params(self):
        """{layer: [weights, bias]}, each with its `data`, which can be changed in place."""
        return OrderedDict((o.layer.name, o.params) for o in self._executor.operations if o.params)

    # ---- what the net is made of

    @cached_property
    def layers(self):
        """[Layer], in Caffe's order."""
        return [Layer(o.layer.kind, o.params) for o in self._executor.operations]

    @property
    def layer_dict(self):
        """{name: Layer}."""
        return OrderedDict(zip(self._layer_names, self.layers))

    @cached_property
    def _layer_names(self):
        return [o.layer.name for o in self._executor.operations]

    @cached_property
    def top_names(self):
        """{layer: [names of its tops]}."""
        return OrderedDict((o.layer.name, list(o.layer.tops)) for o in self._executor.operations)

    @cached_property
    def bottom_names(self):
        """{layer: [names of its bottoms]}."""
        return OrderedDict((o.layer.name, [] if o.layer.kind in INPUTS else list(o.layer.bottoms))
                           for o in self._executor.operations)

    @property
    def inputs(self):
        """The names of the input blobs."""
        return list(self._executor.inputs)

    @cached_property
    def outputs(self):
        """The names of the blobs that no layer reads, sorted as Caffe sorts them."""
        left = set()
        for o in self._executor.operations:
            left.difference_update(o.layer.bottoms)
            left.update(top for top in o.layer.tops if top in self.blobs)
        return sorted(left)

    @property
    def blob_loss_weights(self):
        """{blob: its loss_weight}."""
        weights = dict.fromkeys(self.blobs, 0.0)
        for o in self._executor.operations:
            weights.update((o.layer.tops[i], weight) for i, weight in o.layer.losses.items())
        return OrderedDict(weights)

    _blobs = property(lambda self: list(self.blobs.values()))
    _blob_names = property(lambda self: list(self.blobs))
    _blob_loss_weights = property(lambda self: list(self.blob_loss_weights.values()))
    _inputs = property(lambda self: [self._blob_names.index(name) for name in self.inputs])
    _outputs = property(lambda self: [self._blob_names.index(name) for name in self.outputs])

    def _top_ids(self, i):
        return [self._blob_names.index(name) for name in self.top_names[self._layer_names[i]] if name in self.blobs]

    def _bottom_ids(self, i):
        return [self._blob_names.index(name) for name in self.bottom_names[self._layer_names[i]] if name in self.blobs]

    device = property(lambda self: mode.device())

    def _position(self, layer):
        if layer not in self._executor.positions:
            raise no_such_end(layer, self._layer_names)
        return self._executor.positions[layer]

    def _blob(self, name):
        if name not in self.blobs:
            raise DreamError(f"the net has no blob called '{shown(name)}'")
        return self.blobs[name]
