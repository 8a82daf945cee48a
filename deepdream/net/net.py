"""Nets with the interface of pycaffe: `net.blobs[name].data`, `.diff`, `net.forward(end=)`, `net.backward(start=)`."""
from __future__ import annotations

import functools
import json
import numbers
import threading
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import convert, models
from ..convert.errors import about, shown
from ..engine.programs import Programs
from ..errors import DreamError
from ..keywords import suggesting
from ..runtime.cache import cached, graph_key
from ..runtime.cores import cores
from ..runtime.device import Device
from .blobs import Blob, Transformer
from .files import files_of
from .lock import exclusive
from .pixels import check_picture, preprocess
from .sizes import PossibleSizes

if TYPE_CHECKING:
    import onnx

CHANNELS = 1024                   # the maximum number of channels of an input; pictures have 1 or 3


class Net:
    """A Caffe net, or any image classifier in an .onnx file, on ONNX Runtime.

    prototxt: the path of the deploy.prototxt. Without a caffemodel: a folder with both files, the name of a model (see
        `models`), or an .onnx file.
    caffemodel: the path of the weights.
    mean: what is subtracted from pictures, in the order of the net's channels (for Caffe's nets B, G, R); one number,
        or one for each channel.
    channel_swap: for each channel of the net, the number of the picture's channel (0 red, 1 green, 2 blue). If mean or
        channel_swap is None, the model card specifies it. Without a card they are (104, 116, 122) and (2, 1, 0); for
        an .onnx file see `files.OnnxFile`.
    device: 'auto' (CUDA if it works, otherwise the CPU), 'cpu', 'cuda', 'cuda:N', or a Device.
    threads: the number of CPU threads; None for one per core.
    leftover_diffs: whether diffs are never cleared, as in Caffe. On a net that has dreamt before, the gradient at an
        `end` inside an inception block then also contains what is left in its siblings (see `leftover`); Google's
        second picture was made this way. By default each gradient is that of a fresh net. As slow as an objective that
        is a function of dst.
    surgery: whether each InnerProduct layer becomes a convolution, so that a classifier runs at any picture size (see
        `convert.to_onnx`).
    fast: whether convolutions on CUDA may round to TF32; 'half' computes gradients in half precision. The net then no
        longer computes step by step what Caffe does.
    scale: for an .onnx file only: what the pixels are multiplied by after the mean is subtracted; one number, or one
        for each channel.
    layout: for an .onnx file only: 'nchw' or 'nhwc'.
    input: for an .onnx file only: the name of the input that takes the picture, if there are several.

    Only one thread at a time can compute on a net: forward, backward, features, make_step, deepdream and enhance hold
    its lock until they return, and other threads wait. Code that changes blobs between forward and backward must hold
    the lock itself: `with net.lock:`. To compute in parallel, create several nets.

    Raises ConvertError, models.ModelError or DreamError with one line that names the file or the layer.

    Attributes, in addition to the arguments:
    blobs: {name: Blob}, all blobs of the net, in order.
    inputs, outputs: lists of the names of the input and of the outputs.
    ends: {name: convert.facts.End}, the layers that can be an `end`, in order.
    left_out: {name: reason}, the layers that cannot.
    transformer: the mean and channel_swap of the input (see `blobs.Transformer`).
    name, card, checksum: the name of the net, its model card or None, and the checksum of its files.
    files: the files of the net (see `files.Files`).
    facts: the description of the forward graph (see `convert.Facts`).
    programs: the graphs and sessions of the net (see `engine.programs.Programs`).
    sizes: the sizes of pictures that it can take (see `sizes.PossibleSizes`).
    leftover: a `leftover.Leftover` with leftover_diffs, otherwise None.
    """

    @suggesting
    def __init__(self, prototxt: str | Path, caffemodel: str | Path | None = None,
                 mean: float | Sequence[float] | np.ndarray | None = None, channel_swap: Sequence[int] | None = None,
                 device: str | Device = "auto", threads: int | None = None, leftover_diffs: bool = False,
                 surgery: bool = False, fast: bool | str = False, scale: float | Sequence[float] | None = None,
                 layout: str | None = None, input: str | None = None):
        if threads is not None and not (isinstance(threads, numbers.Integral) and threads >= 1):
            raise DreamError(f"threads is {shown(threads)}; allowed is a whole number from 1, or None for one per core")
        threads = threads if threads is None else int(threads)
        self.lock = threading.RLock()
        self.files = files_of(prototxt, caffemodel, mean, channel_swap, surgery, scale=scale, layout=layout,
                              input=input)
        self.sizes = PossibleSizes(self.files)
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
        self.leftover_diffs, self.leftover = bool(leftover_diffs), None
        if leftover_diffs:
            if self.caffemodel is None:
                raise DreamError(f"{self.prototxt}: leftover diffs are Caffe's; only nets of Caffe's files have them")
            from .leftover import Leftover
            self.leftover = Leftover(self)
            self.blobs = self.leftover.blobs

    # ---- description

    def __repr__(self):
        size = "x".join(map(str, self.blobs[self.inputs[0]].shape))
        return f"<{type(self).__name__} {self.name}: {len(self.ends)} ends, input {self.inputs[0]} {size}, " \
            f"on {self.device.name}>"

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
        """The number of CPU threads that the net computes with; None on CUDA, and if it is unknown."""
        return None if self.device.is_cuda else self.threads or cores()

    @functools.cached_property
    def labels(self) -> list[str]:
        """The labels of the classes, in order; an empty list if the model has no labels."""
        return models.read_labels(self.card.labels) if self.card and self.card.labels else []

    @property
    def classifier(self) -> str:
        """The layer with the score of each class, before the softmax. Raises DreamError if the net has none."""
        if self.facts.classifier is None:
            raise DreamError(f"{self.name} has no classifier to ask for a class: {self.facts.no_classifier}")
        return self.facts.classifier

    @property
    def default_end(self) -> str:
        """The layer to dream at by default.

        It is the one in the model card; or else the notebook's, inception_4c/output; or else one in the middle of the
        net, at the end of a block if the net is an .onnx file.
        """
        wanted = [self.card and self.card.default_end, "inception_4c/output"]
        if wanted[0] and self.caffemodel is None:
            return self.checked(wanted[0])
        names = [name for name, end in self.ends.items() if end.good] or list(self.ends)
        return next((e for e in wanted if e in self.ends), names[len(names) // 2])

    @property
    def model(self) -> onnx.ModelProto:
        """The forward graph."""
        return self.files.proto

    def _describe(self):
        with about(self.prototxt):
            classifier, no_classifier = convert.classifier(self.model)
            facts = replace(convert.Facts.read(self.model, self.prototxt), classifier=classifier,
                            no_classifier=no_classifier)
        return json.dumps(facts.plain()).encode()

    # ---- pycaffe

    @exclusive
    def forward(self, end: str | None = None) -> dict[str, np.ndarray]:
        """Compute the net from `data` to a layer.

        end: the layer; None for the last one.

        Returns {name: data} of the layer's blob.
        """
        end = self._last_layer() if end is None else self.checked(end)
        if self.leftover:
            self.sizes.check(end, *self.blobs[self.inputs[0]].shape[-2:], what="data")
            self.leftover.forward(end)
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
        """Compute the gradient with respect to `data` from the `diff` of a layer's blob.

        start: the layer; None for the last one.

        Returns {'data': diff}.
        """
        start = self._last_layer() if start is None else self.checked(start)
        data, diff = self.blobs[self.inputs[0]], self.blobs[start].diff
        if self.leftover:
            self.leftover.backward(start)
            return {self.inputs[0]: data.diff}
        session = self.programs.session(self.programs.gradient(start), _only_size(data.data))
        data.diff[...] = session.run(["data_diff"], {"data": data.data, "end_diff": diff})[0]
        return {self.inputs[0]: data.diff}

    @exclusive
    def features(self, img: np.ndarray, end: str | Sequence[str],
                 what: str = "the picture") -> np.ndarray | list[np.ndarray]:
        """Compute the values of a layer for a picture, at the size of the picture. The blobs do not change.

        img: the picture, (H, W, 3), RGB, 0 to 255.
        end: the layer, or a list of layers.
        what: what error messages call the picture.

        Returns (C, h, w), or (C, tokens) for a layer of tokens; a list of them for a list of layers.
        """
        check_picture(img, what)
        ends = [self.checked(e) for e in ([end] if isinstance(end, str) else end)]
        deepest = max(ends, key=self._position)
        for name in ends:
            self.sizes.check(name, *img.shape[:2], what)
        data = np.ascontiguousarray(preprocess(self, img)[None])
        values = self.run_forward(deepest, [self.tensor_of(e, e) for e in ends], data)
        results = [(np.moveaxis(x[0], -1, 0) if self.ends[e].channels_last else x[0]).copy()
                   for e, x in zip(ends, values)]
        return results[0] if isinstance(end, str) else results

    # ---- layers and sizes

    def checked(self, end: str) -> str:
        """Return the name of a layer unchanged, after a check that it can be an `end`.

        Raises ConvertError for a name that the net does not have, and DreamError for a layer that is not supported.
        """
        if end not in self.ends:
            if end in self.left_out:
                raise DreamError(f"{self.left_out[end]} is not supported, and '{shown(end)}' needs it")
            raise convert.no_such_end(end, list(self.ends))
        return end

    def shape_at(self, end: str, data_shape: Sequence[int]) -> tuple[int, ...]:
        """Return the shape that the blob of a layer has for an input of a certain shape. Nothing is computed.

        end: the layer.
        data_shape: the shape of the input, (N, C, H, W).
        """
        from ..convert.graph.sizes import end_shape, without_weights
        with about(self.prototxt):
            return end_shape(without_weights(self.model), self.inputs[0], self.tensor_of(end, end), data_shape)

    def tensor_of(self, blob: str, end: str) -> str:
        """Return the name of the tensor of the forward graph that a blob contains after `forward(end=end)`.

        Several layers can write to one blob: a convolution and its in-place ReLU share one, but have a tensor each.

        blob: the name of the blob.
        end: the layer at which the forward pass ends.
        """
        return [w.tensor for w in self.facts.writes[:self._position(end) + 1] if w.blob == blob][-1]

    @exclusive
    def run_forward(self, end: str, tensors: list[str], data: np.ndarray) -> list[np.ndarray]:
        """Compute tensors of the forward graph. The blobs do not change.

        end: the last layer that is needed. It determines the smallest allowed size of the picture.
        tensors: the names of the tensors (see `tensor_of`), none of them after that layer.
        data: the input, float32 (N, C, H, W).

        Returns the values of the tensors, in the same order.
        """
        if tensors == self.inputs:
            return [data]
        if data.ndim == 4:
            self.sizes.check(end, *data.shape[-2:], what="data")
        session = self.programs.session(self.programs.forward(self.inputs[0], tensors), _only_size(data))
        return session.run(tensors, {self.inputs[0]: data})

    def _value_after(self, blob, end, data):
        return self.run_forward(end, [self.tensor_of(blob, end)], data)[0]

    def _last_layer(self):
        return list(self.ends)[-1]

    def _position(self, end):
        return max(i for i, write in enumerate(self.facts.writes) if write.layer == end)


def _only_size(data):
    """Return the size of a single picture, for a session of this size; None for a batch and for other inputs."""
    return data.shape[-2:] if data.ndim == 4 and len(data) == 1 else None


def _mean_of(mean, channels):
    """Return the mean as one number for each channel."""
    mean = np.asarray(mean, np.float32).ravel()
    if channels == 1:
        mean = mean.mean(keepdims=True)      # for grey pictures, the average of the colours
    if mean.size not in (1, channels):
        raise DreamError(f"mean: {mean.size} numbers for a net of {channels} channels; give one number, or one "
                         "for each channel")
    return np.broadcast_to(mean, (channels,)).copy()
