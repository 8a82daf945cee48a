"""A net in pycaffe's shape: `net.blobs[name].data`, `.diff`, `net.forward(end=)`, `net.backward(start=)`."""
import functools
import json
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from .. import convert, models
from ..convert.errors import about, shown
from ..engine.programs import Programs
from ..errors import DreamError
from ..runtime.cache import cached, graph_key
from ..runtime.cores import cores
from ..runtime.device import Device
from .blobs import Blob, Transformer
from .files import files_of
from .lock import exclusive
from .pixels import preprocess

CHANNELS = 1024                   # of a picture; ours have 1 or 3
BLOCK_ENDS = ("Concat", "Add")    # how a block of a GoogLeNet, a DenseNet, a ResNet ends


class Net:
    """A Caffe net, or any image classifier in an .onnx file, on ONNX Runtime.

    prototxt: path of the deploy.prototxt; or, alone, a folder that holds both files, the name of a model (see `models`),
    or an .onnx file.
    caffemodel: path of the weights.
    mean: subtracted from pictures: B, G, R, in the order of the net's channels.
    channel_swap: the picture's channels in the net's order. Mean and channel_swap come from the model's card if they are
    left out; without a card they are (104, 116, 122) and (2, 1, 0), and for an .onnx file what `files.OnnxFile` says.
    device: 'auto' (CUDA if it works, else the CPU), 'cpu', 'cuda', 'cuda:N', or a Device.
    threads: of the CPU; all cores if None.
    leftover_diffs: keep diffs as Caffe does, which never clears them: on a net that has dreamt before, an `end` inside an
    inception block collects what is left in its siblings (see `leftover`). Google's second picture was made so. Without
    it every gradient is that of a fresh net. As slow as a function of dst.
    surgery: make each InnerProduct a convolution, so that a classifier runs at any picture size (see `convert.to_onnx`).
    fast: let CUDA's convolutions round to TF32, which is no longer step for step what Caffe computes.
    scale, layout, input: of an .onnx file only: what the pixels less their mean are multiplied by (a number, or one a
    channel); 'nchw' or 'nhwc'; the name of its input, if there are several.

    One thread computes on a net at a time: forward, backward, features, make_step, deepdream and enhance hold its lock,
    and another thread waits, for a dream until the whole of it is done. Whoever sets blobs between forward and backward
    holds the lock over both: `with net.lock:`. What is to run side by side needs a Net each.

    Raises ConvertError, models.ModelError or DreamError with one line that names the file or the layer.
    """

    def __init__(self, prototxt, caffemodel=None, mean=None, channel_swap=None, device="auto", threads=None,
                 leftover_diffs=False, surgery=False, fast=False, scale=None, layout=None, input=None):
        self.lock = threading.RLock()
        self.files = files_of(prototxt, caffemodel, mean, channel_swap, surgery, scale=scale, layout=layout, input=input)
        self.facts = convert.Facts.from_plain(json.loads(cached(f"{graph_key(self.checksum)}-facts.json",
                                                                self._describe)))
        name, shape = self.facts.data, self.facts.data_shape
        if len(shape) != 4 or shape[1] > CHANNELS:
            raise DreamError(f"{self.prototxt}: takes no picture: the shape of its input '{shown(name)}' is {shape}; "
                             f"(N, C, H, W) is needed, and at most {CHANNELS} channels")
        self.transformer = Transformer(name, _mean_of(self.files.mean, shape[1]), self.files.channel_swap)
        self.inputs, self.outputs = [name], list(self.facts.outputs)
        self.programs = Programs(self.files, self.transformer.mean[name],
                                 device if isinstance(device, Device) else Device(device, fast), threads)
        self.blobs = OrderedDict((blob, Blob(blob, shape if blob == name else (0,), lock=self.lock))
                                 for _, blob, _ in self.facts.writes)
        self._smallest = {}
        self.leftover_diffs, self.leftover = bool(leftover_diffs), None
        if leftover_diffs:
            if self.caffemodel is None:
                raise DreamError(f"{self.prototxt}: leftover diffs are Caffe's; only nets of Caffe's files have them")
            from .leftover import Leftover
            self.leftover = Leftover(self)
            for blob in self.blobs.values():
                blob.diffs = self.leftover

    # ---- what it is

    prototxt = property(lambda self: self.files.prototxt)
    caffemodel = property(lambda self: self.files.caffemodel)
    name = property(lambda self: self.files.name)
    card = property(lambda self: self.files.card)
    checksum = property(lambda self: self.files.checksum)
    device = property(lambda self: self.programs.device)
    threads = property(lambda self: self.programs.threads)
    ends = property(lambda self: self.facts.ends)
    left_out = property(lambda self: self.facts.left_out)

    @property
    def thread_count(self) -> int | None:
        """How many threads of the CPU it computes with; None where that cannot be told, and on CUDA."""
        return None if self.device.is_cuda else self.threads or cores()

    @functools.cached_property
    def labels(self) -> list[str]:
        """The names of the classes, in their order; none if there is no such file."""
        return models.read_labels(self.card.labels) if self.card and self.card.labels else []

    @property
    def classifier(self) -> str:
        """The layer with a score for each class: the one before the softmax. Raises DreamError if there is none."""
        if self.facts.classifier is None:
            raise DreamError(f"{self.name} has no classifier to ask for a class: {self.facts.no_classifier}")
        return self.facts.classifier

    @property
    def default_end(self) -> str:
        """The end to dream at if none is asked for: the card's, else the notebook's, else one in the middle, in an
        .onnx file of the results of its blocks."""
        wanted = [self.card and self.card.default_end, "inception_4c/output"]
        if wanted[0] and self.caffemodel is None:
            return self.checked(wanted[0])
        names = [name for name, end in self.ends.items() if end.stride and end.operator in BLOCK_ENDS] \
            or list(self.ends)
        return next((e for e in wanted if e in self.ends), names[len(names) // 2])

    @property
    def model(self):
        """The forward graph, a ModelProto."""
        return self.files.proto

    def _describe(self):
        classifier, no_classifier = convert.classifier(self.model)
        facts = replace(convert.Facts.read(self.model, self.prototxt), classifier=classifier, no_classifier=no_classifier)
        return json.dumps(facts.plain()).encode()

    # ---- pycaffe

    @exclusive
    def forward(self, end: str | None = None) -> dict[str, np.ndarray]:
        """Run from `data` up to the layer `end` (all layers if None). Returns {name: data} of the end's blob."""
        end = self._last_layer() if end is None else self.checked(end)
        if self.leftover:
            for name, value in self.leftover.forward(end).items():
                self.blobs[name].hold(value)
            return {end: self.blobs[end].data}
        data = self.blobs[self.inputs[0]].data
        value = self.run_forward(end, [self.tensor_of(end, end)], data)[0]
        data = data.copy()
        for name in {blob for _, blob, _ in self.facts.writes[:self._position(end) + 1]} - {end, self.inputs[0]}:
            self.blobs[name].hold_later(functools.partial(self._value_after, name, end, data))
        if end != self.inputs[0]:
            self.blobs[end].hold(value)
        return {end: self.blobs[end].data}

    @exclusive
    def backward(self, start: str | None = None) -> dict[str, np.ndarray]:
        """Run from the `diff` of the layer `start` to the `diff` of `data`. Returns {'data': diff}."""
        start = self._last_layer() if start is None else self.checked(start)
        data, diff = self.blobs[self.inputs[0]], self.blobs[start].diff
        if self.leftover:
            self.leftover.backward(start)
            return {self.inputs[0]: data.diff}
        session = self.programs.session(self.programs.gradient(start))
        data.diff[...] = session.run(["data_diff"], {"data": data.data, "end_diff": diff})[0]
        return {self.inputs[0]: data.diff}

    @exclusive
    def features(self, img: np.ndarray, end: str | Sequence[str], what: str = "the picture"):
        """What the net computes at `end` for a picture (H, W, 3), at the picture's own size: (C, h, w).
        Of several ends (a list), in one pass: a list."""
        ends = [self.checked(e) for e in ([end] if isinstance(end, str) else end)]
        deepest = max(ends, key=self._position)
        for name in ends:
            self.check_size(name, *img.shape[:2], what)
        data = np.ascontiguousarray(preprocess(self, img)[None])
        found = [x[0].copy() for x in self.run_forward(deepest, [self.tensor_of(e, e) for e in ends], data)]
        return found[0] if isinstance(end, str) else found

    # ---- layers and sizes

    def checked(self, end: str) -> str:
        """The name of a layer. Raises ConvertError or DreamError if it is no `end`."""
        if end not in self.ends:
            if end in self.left_out:
                raise DreamError(f"{self.left_out[end]} is not supported, and '{shown(end)}' needs it")
            raise convert.no_such_end(end, list(self.ends))
        return end

    def smallest(self, end: str) -> tuple[int, int, bool]:
        """(h, w, exact): the smallest picture for which `end` has a pixel; exact: no other will do."""
        def find():
            with about(self.prototxt):
                return json.dumps(convert.min_size(self.model, end)).encode()

        if end not in self._smallest:
            self._smallest[end] = tuple(json.loads(cached(f"{graph_key(self.checksum, end, 'size')}.json", find)))
        return self._smallest[end]

    def check_size(self, end: str, h: int, w: int, what: str = "the picture"):
        """Raise DreamError if a picture of h x w pixels is too small for `end`."""
        low_h, low_w, exact = self.smallest(end)
        if exact and (h, w) != (low_h, low_w):
            before = "an InnerProduct" if self.caffemodel else "a layer of fixed size"
            raise DreamError(f"'{shown(end)}' stands behind {before} and needs a picture of exactly {low_w}x{low_h} pixels; "
                             f"{what} has {w}x{h}")
        if h < low_h or w < low_w:
            raise DreamError(f"{what} has {w}x{h} pixels, too small for '{shown(end)}', "
                             f"which needs at least {low_w}x{low_h}")

    def shape_at(self, end: str, data_shape: Sequence[int]) -> tuple[int, ...]:
        """The shape of `end`'s blob for data of a shape (N, C, H, W)."""
        from ..convert.graph.sizes import end_shape, without_weights
        with about(self.prototxt):
            return end_shape(without_weights(self.model), self.inputs[0], self.tensor_of(end, end), data_shape)

    def tensor_of(self, blob: str, end: str) -> str:
        """The tensor that a blob holds after a forward pass up to the layer `end`."""
        return [w.tensor for w in self.facts.writes[:self._position(end) + 1] if w.blob == blob][-1]

    @exclusive
    def run_forward(self, end: str, tensors: list[str], data: np.ndarray) -> list[np.ndarray]:
        """The values of tensors of the forward graph, none of them after the layer `end`."""
        if tensors == self.inputs:
            return [data]
        if data.ndim == 4:
            self.check_size(end, *data.shape[-2:], what="data")
        session = self.programs.session(self.programs.forward(self.inputs[0], tensors))
        return session.run(tensors, {self.inputs[0]: data})

    def _value_after(self, blob, end, data):
        return self.run_forward(end, [self.tensor_of(blob, end)], data)[0]

    def _last_layer(self):
        return list(self.ends)[-1]

    def _position(self, end):
        return max(i for i, write in enumerate(self.facts.writes) if write.layer == end)


def _mean_of(mean, channels):
    """One number a channel."""
    mean = np.asarray(mean, np.float32).ravel()
    if channels == 1:
        mean = mean.mean(keepdims=True)      # a grey net takes the mean of the colours
    if mean.size not in (1, channels):
        raise DreamError(f"mean: {mean.size} numbers for a net of {channels} channels; give one, or one a channel")
    return np.broadcast_to(mean, (channels,)).copy()
