"""A net in pycaffe's shape: `net.blobs[name].data`, `.diff`, `net.forward(end=)`, `net.backward(start=)`."""
import functools
import json
import sys
from collections import OrderedDict

import numpy as np

import convert
import models

from .cache import cached, key
from .device import Device, readable
from .errors import DreamError
from .objectives import built_in, ends_of, shared, structure
from .pixels import preprocess
from .sources import source

STEP_GRAPH = 8    # version of the step graph: a new number makes the kept ones new
FACTS = 2         # version of what is kept of a net beside its graphs
SESSIONS = 4      # graphs kept ready at a time; each holds its own copy of the weights
RECORDED = 16     # and where steps are recorded, each for its size
BLOCK_ENDS = ("Concat", "Add")    # how a block of a GoogLeNet, a DenseNet, a ResNet ends
_said = set()


class Blob:
    """A blob: `data` and `diff`, float32 arrays that can be written in place, `reshape(n, c, h, w)`."""

    def __init__(self, net, name, shape):
        self._net, self._name, self._shape = net, name, tuple(shape)
        self._data = self._diff = None
        self._stale = None        # (end, input) of a forward pass that went through here and was not asked for yet

    @property
    def data(self):
        if self._stale:
            self._net._fetch(self._name)
        if self._data is None:
            self._data = np.zeros(self._shape, np.float32)
        return self._data

    @property
    def diff(self):
        if self._stale:
            self._net._fetch(self._name)
        if self._net.leftover:
            return self._net.leftover.diff(self._name, self.shape)
        if self._diff is None or self._diff.shape != self._shape:
            self._diff = np.zeros(self._shape, np.float32)
        return self._diff

    def reshape(self, *shape):
        shape = tuple(int(s) for s in (shape[0] if len(shape) == 1 and np.iterable(shape[0]) else shape))
        if shape != self._shape:
            self._shape, self._data, self._diff, self._stale = shape, None, None, None

    @property
    def shape(self):
        if self._stale:
            self._net._fetch(self._name)
        return self._shape

    num = property(lambda self: self.shape[0])
    channels = property(lambda self: self.shape[1])
    height = property(lambda self: self.shape[2])
    width = property(lambda self: self.shape[3])
    count = property(lambda self: int(np.prod(self.shape)))

    def _set(self, data):
        if data.shape != self._shape:
            self._shape, self._diff = data.shape, None
        self._data, self._stale = data, None

    def __repr__(self):
        return f"Blob({self._name!r}, {self._shape})"


class Transformer:
    """What pycaffe's Transformer holds of interest here: `mean['data']` (C, 1, 1) and `channel_swap['data']`."""

    def __init__(self, name, mean, channel_swap):
        self.mean = {name: np.asarray(mean, np.float32).reshape(-1, 1, 1)}
        self.channel_swap = {name: tuple(channel_swap)}


class Net:
    """A Caffe net, or any image classifier in an .onnx file, on ONNX Runtime.

    prototxt: path of the deploy.prototxt, with caffemodel the path of the weights; or, alone, a folder that holds
    both, the name of a model (see `models`), or an .onnx file. mean: B, G, R in the order of the net's channels,
    subtracted from pictures; channel_swap: the picture's channels in the net's order. Left out, both come from the
    model's record, else they are (104, 116, 122) and (2, 1, 0), and for an .onnx file as `sources.OnnxFile` tells.
    device: 'auto' (CUDA if it works, else the CPU), 'cpu', 'cuda' or 'cuda:N'. threads: of the CPU, all cores if None.
    fast: TF32 in CUDA's convolutions, no longer step for step what Caffe computes.

    scale, layout, input: of an .onnx file only. What the pixels less their mean are multiplied by (a number or one a
    channel); 'nchw' or 'nhwc'; the name of its input, if there are several.

    leftover_diffs: Every gradient is that of a fresh net, unless this is True. Caffe never clears diffs, and on a net
    that has dreamt before, an `end` inside an inception block collects what is left in its siblings (see `leftover`);
    so Google's second picture was made. As slow as an objective of one's own.

    surgery: net surgery: each InnerProduct as a convolution, so that a classifier runs at any picture size (see
    `convert.to_onnx`).

    Raises ConvertError, models.ModelError or DreamError with one line that names the file or the layer.
    """

    def __init__(self, prototxt, caffemodel=None, mean=None, channel_swap=None, device="auto", threads=None,
                 leftover_diffs=False, surgery=False, fast=False, scale=None, layout=None, input=None):
        self.leftover_diffs, self.leftover = bool(leftover_diffs), None
        self.source = source(prototxt, caffemodel, mean, channel_swap, surgery, scale=scale, layout=layout, input=input)
        self.prototxt, self.caffemodel = self.source.prototxt, self.source.caffemodel
        self.record, self.name, self.checksum = self.source.record, self.source.name, self.source.checksum
        self.device = device if isinstance(device, Device) else Device(device, fast)
        self._note = self.device.note if device == "auto" else None
        self.threads = threads
        self._model, self._sessions, self._sizes, self._own = None, OrderedDict(), {}, (None, None)
        self._facts = json.loads(cached(f"{self.checksum}-{FACTS}.json", self._describe))
        self.ends = self._facts["ends"]
        name, shape = self._facts["data"], tuple(self._facts["data_shape"])
        self.transformer = Transformer(name, self._per_channel(self.source.mean, shape[1]), self.source.channel_swap)
        self._writes = [tuple(w) for w in self._facts["writes"]]
        self.inputs, self.outputs = [name], self._facts["outputs"]
        self.blobs = OrderedDict((blob, Blob(self, blob, shape if blob == name else (0,)))
                                 for _, blob, _ in self._writes)
        if leftover_diffs:
            if self.caffemodel is None:
                raise DreamError(f"{self.prototxt}: leftover diffs are Caffe's; only nets of Caffe's files have them")
            from .leftover import Leftover
            self.leftover = Leftover(self)

    @functools.cached_property
    def labels(self):
        """The names of the classes, in their order; none if there is no such file."""
        return models.read_labels(self.record.labels) if self.record and self.record.labels else []

    @property
    def classifier(self):
        """The layer with a score for each class: the one before the softmax."""
        return self._facts["classifier"]

    @property
    def default_end(self):
        """The end to dream at if none is asked for: the record's, else the notebook's, else one in the middle, in an
        .onnx file of the results of its blocks."""
        wanted = [self.record and self.record.default_end, "inception_4c/output"]
        if wanted[0] and self.caffemodel is None:
            return self.checked(wanted[0])
        names = [e for e, facts in self.ends.items() if facts["stride"] and facts.get("operator") in BLOCK_ENDS] \
            or list(self.ends)
        return next((e for e in wanted if e in self.ends), names[len(names) // 2])

    # ---- pycaffe

    def forward(self, end=None):
        """Run from `data` up to the layer `end` (all layers if None). Returns {name: data} of the end's blob."""
        end = self._last_layer() if end is None else self.checked(end)
        if self.leftover:
            for name, value in self.leftover.forward(end).items():
                self.blobs[name]._set(value)
            return {end: self.blobs[end].data}
        data = self._data_blob().data
        outputs = self._run_forward(end, [self._tensor(end, end)], data)
        reached = {b for i, (_, b, _) in enumerate(self._writes) if i <= self._position(end)}
        this = (end, data.copy())
        for name in reached - {end, self.inputs[0]}:
            self.blobs[name]._stale = this
        if end != self.inputs[0]:
            self.blobs[end]._set(outputs[0])
        return {end: self.blobs[end].data}

    def backward(self, start=None):
        """From the `diff` of the layer `start` to the `diff` of `data`. Returns {'data': diff}."""
        start = self._last_layer() if start is None else self.checked(start)
        if self.leftover:
            self.leftover.backward(start)
            return {self.inputs[0]: self._data_blob().diff}
        data, diff = self._data_blob(), self.blobs[start].diff
        with readable(*data.shape[-2:]):
            gradient = self.session(start).run(["data_diff"], {"data": data.data, "end_diff": diff})[0]
        data.diff[...] = gradient
        return {self.inputs[0]: data.diff}

    def features(self, img, end, what="the picture"):
        """What the net computes at `end` for a picture (H, W, 3), at the picture's own size: (C, h, w).
        Of several ends (a list), in one pass: a list."""
        ends = [self.checked(e) for e in ([end] if isinstance(end, str) else end)]
        deepest = max(ends, key=self._position)
        for name in ends:
            self.check_size(name, *img.shape[:2], what)
        data = np.ascontiguousarray(preprocess(self, img)[None])
        found = [x[0].copy() for x in self._run_forward(deepest, [self._tensor(e, e) for e in ends], data)]
        return found[0] if isinstance(end, str) else found

    # ---- graphs

    def session(self, end, objective=None, clip=False, priors=(), step=True, tile=False, size=None, steps=1):
        """The onnxruntime session of an end's gradient graph; with an Objective, of its step graph or, without `step`,
        of the objective and its gradient by the picture (tile: of a part of it, see `objective_graph`).

        size: (h, w) of the only pictures that it is asked for now, and for how many steps: where that is much work the
        session is made for this size alone, in which the same sums are computed faster."""
        for name in [end] if objective is None else ends_of(objective, end):
            self.checked(name)
        if size is not None and size[0] * size[1] * steps < self.device.freezes:
            size = None
        return self._session(self._key(end, objective, clip, priors, step, tile),
                             lambda: self.graph(end, objective, clip, priors, step, tile), size)

    def graph(self, end, objective=None, clip=False, priors=(), step=True, tile=False):
        """The graph of `session`, serialized."""
        def build():
            from .step import objective_graph, step_graph      # with onnx, which a kept graph does without
            graph = convert.gradient_graph(self.model, end if objective is None else ends_of(objective, end))
            if objective is not None and step and not tile:
                graph = step_graph(graph, objective, end, self._bias() if clip else None, priors)
            elif objective is not None:
                graph = objective_graph(graph, objective, end, tile)
            self._model = None        # read again when it is needed again: not to hold the weights twice over a dream
            return graph.SerializeToString()

        of = self._key(end, objective, clip, priors, step, tile)
        if shared(objective, priors):
            return cached(f"{key(self.checksum, *of)}.onnx", build)
        if self._own[0] != of:
            self._own = of, build()       # the octaves of a dream ask for it one after the other
        return self._own[1]

    def _key(self, end, objective, clip, priors, step, tile):
        """What a graph depends on beside the net's files."""
        if objective is None:
            return (end,)
        terms, kept = structure(objective, end, priors)
        own = tuple(o for o in ([t for _, t in objective.terms] + list(priors)) if not built_in(o))
        bias = str(self._bias().tolist()) if clip and step else None
        return (STEP_GRAPH, str(terms), str(kept), "tile" if tile else step, bias, *own)

    def _bias(self):
        return self.transformer.mean[self.inputs[0]]

    def smallest(self, end):
        """(h, w, exact): the smallest picture for which `end` has a pixel; exact: no other will do."""
        def find():
            return json.dumps(convert.min_size(self.model, end)).encode()

        if end not in self._sizes:
            self._sizes[end] = json.loads(cached(f"{key(self.checksum, end, 'size')}.json", find))
        return self._sizes[end]

    def shape(self, end, shape):
        """The shape of `end`'s blob for data of a shape (N, C, H, W)."""
        from convert.sizes import end_shape, without_weights
        return end_shape(without_weights(self.model), self.inputs[0], self._tensor(end, end), shape)

    def check_size(self, end, h, w, what="the picture"):
        """Raise DreamError if a picture of h x w pixels is too small for `end`."""
        low_h, low_w, exact = self.smallest(end)
        if exact and (h, w) != (low_h, low_w):
            before = "an InnerProduct" if self.caffemodel else "a layer of fixed size"
            raise DreamError(f"'{end}' stands behind {before} and needs a picture of exactly {low_w}x{low_h} pixels; "
                             f"{what} has {w}x{h}")
        if h < low_h or w < low_w:
            raise DreamError(f"{what} has {w}x{h} pixels, too small for '{end}', "
                             f"which needs at least {low_w}x{low_h}")

    def _session(self, name, build, size=None):
        name = (*name, size) if self.device.graphs else name
        session, made_for = self._sessions.pop(name, (None, None))
        if session is None or made_for != size:
            session = None                                   # one size at a time: each has memory of its own
            if self._note and self._note not in _said:       # now that something runs
                _said.add(self._note)
                print(self._note, file=sys.stderr)
            while len(self._sessions) >= (RECORDED if self.device.graphs else SESSIONS):
                self._sessions.popitem(last=False)
            session = self.device.session(build(), self.threads, size)
        self._sessions[name] = session, size
        return session

    @property
    def model(self):
        """The forward graph, a ModelProto."""
        if self._model is None:
            import onnx
            self._model = onnx.load_from_string(cached(f"{self.checksum}.onnx", self._convert))
        return self._model

    def _convert(self):
        return self.source.model().SerializeToString()

    def _describe(self):
        from convert.graph import metadata
        facts = metadata(self.model)
        facts = {k: json.loads(facts[k]) for k in ("ends", "writes", "left_out", "data_shape")} \
            | {"data": facts["data"]}
        facts["outputs"] = [o.name for o in self.model.graph.output]
        scores = [n.input[0] for n in self.model.graph.node if n.op_type in ("Softmax", "LogSoftmax")]
        facts["classifier"] = ([s for s in scores if s in facts["ends"]] or list(facts["ends"]))[-1]
        return json.dumps(facts).encode()

    # ---- inside

    def _per_channel(self, mean, channels):
        mean = np.asarray(mean, np.float32).ravel()
        if channels == 1:
            mean = mean.mean(keepdims=True)      # a grey net takes the mean of the colours
        if mean.size not in (1, channels):
            raise DreamError(f"mean: {mean.size} numbers for a net of {channels} channels; give one, or one a channel")
        return np.broadcast_to(mean, (channels,)).copy()

    def checked(self, end):
        """The name of a layer; ConvertError or DreamError if there is no such `end`."""
        if end not in self.ends:
            if end in self._facts["left_out"]:
                raise DreamError(f"{self._facts['left_out'][end]} is not supported, and '{end}' needs it")
            raise convert.no_such_end(end, list(self.ends))
        return end

    def _last_layer(self):
        return list(self.ends)[-1]

    def _position(self, end):
        return max(i for i, (layer, _, _) in enumerate(self._writes) if layer == end)

    def _tensor(self, blob, end):
        """The tensor that a blob holds after a forward pass up to the layer `end`."""
        return [t for i, (_, b, t) in enumerate(self._writes) if b == blob and i <= self._position(end)][-1]

    def _data_blob(self):
        return self.blobs[self.inputs[0]]

    def _run_forward(self, end, tensors, data):
        def build():
            from onnx.utils import Extractor
            extracted = Extractor(self.model).extract_model(self.inputs, tensors)
            del extracted.graph.value_info[:]
            return extracted.SerializeToString()

        if tensors == self.inputs:
            return [data]
        if data.ndim == 4:
            self.check_size(end, *data.shape[-2:], what="data")
        session = self._session(("forward", *tensors), build)
        with readable(*data.shape[-2:]):
            return session.run(tensors, {self.inputs[0]: data})

    def _fetch(self, name):
        """Fill in a blob that a forward pass went through."""
        blob = self.blobs[name]
        end, data = blob._stale
        blob._stale = None
        blob._set(self._run_forward(end, [self._tensor(name, end)], data)[0])
