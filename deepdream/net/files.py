"""The files that a Net is read from: a prototxt and a caffemodel, or an .onnx file."""
from __future__ import annotations

import operator
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from .. import convert, models
from ..convert.errors import about, shown
from ..errors import DreamError
from ..runtime.cache import cached, graph_key, key
from ..runtime.notices import say_once

if TYPE_CHECKING:
    import onnx

MEAN, SWAP = (104, 116, 122), (2, 1, 0)     # of Caffe's ImageNet nets, as in the notebook
# PyTorch's ImageNet nets, for .onnx files that do not specify anything else: 255 * mean and 1 / (255 * deviation)
TORCH_MEAN, TORCH_SCALE = (123.675, 116.28, 103.53), (0.0171248, 0.0175070, 0.0174292)
CONVERTER = 11     # a part of all checksums. It must not change, because pictures contain these checksums


def files_of(prototxt: str | Path, caffemodel: str | Path | None = None,
             mean: float | Sequence[float] | np.ndarray | None = None, channel_swap: Sequence[int] | None = None,
             surgery: bool = False, **onnx_only) -> Files:
    """Return the files of a net.

    prototxt, caffemodel, mean, channel_swap: see `Net`.
    surgery: see `Net`; it does not change an .onnx file.
    onnx_only: scale, layout and input; see `Net`.
    """
    if caffemodel is None and str(prototxt).lower().endswith(".onnx"):
        return OnnxFile(prototxt, mean, channel_swap, **onnx_only)
    for name, value in onnx_only.items():
        if value is not None:
            raise DreamError(f"{name}: only for a net in an .onnx file, not for {prototxt}")
    return CaffeFiles(prototxt, caffemodel, mean, channel_swap, surgery)


class Files:
    """The files of a net.

    name: the name of the net.
    card: the model card (models.Card or models.onnx_card.OnnxCard), or None.
    prototxt: the path of the deploy.prototxt, or of the .onnx file.
    caffemodel: the path of the weights; None for an .onnx file.
    mean: the mean, one number or one for each channel.
    channel_swap: for each channel of the net, the number of the picture's channel (0 red, 1 green, 2 blue).
    checksum: the checksum of everything that the forward graph depends on.
    arguments: keyword arguments for `Net` that create the same net, in another process too.
    """
    name, card, caffemodel = "", None, None
    _proto = None

    def is_current(self) -> bool:
        """Return whether the files on disk have not changed since they were read."""
        return self.checksum == self._checksum()

    @property
    def proto(self) -> onnx.ModelProto:
        """The forward graph, from the cache or newly converted."""
        if self._proto is None:
            import onnx
            self._proto = onnx.load_from_string(cached(f"{graph_key(self.checksum)}.onnx",
                                                       lambda: self._convert().SerializeToString()))
        return self._proto

    def release(self) -> None:
        """Free the memory of the forward graph. It is read from the cache when it is needed again."""
        self._proto = None


class CaffeFiles(Files):
    """The files of a Caffe net. The arguments are those of `Net`."""

    def __init__(self, prototxt: str | Path, caffemodel: str | Path | None,
                 mean: float | Sequence[float] | np.ndarray | None, channel_swap: Sequence[int] | None, surgery: bool):
        known = str(prototxt) in models.names()
        self.arguments = {"prototxt": str(prototxt) if known else str(models.expanded(prototxt).resolve()),
                          "caffemodel": caffemodel and str(Path(caffemodel).resolve()), "surgery": bool(surgery)}
        if caffemodel is None:
            self.card = models.find(str(prototxt))
            prototxt, caffemodel = self.card.prototxt, self.card.caffemodel
        self.prototxt, self.caffemodel = Path(prototxt), Path(caffemodel)
        self.name = self.card.name if self.card else self.caffemodel.stem
        own_mean, own_swap = (self.card.mean, self.card.channel_swap) if self.card else (MEAN, SWAP)
        self.mean = own_mean if mean is None else _tuple(mean)
        self.channel_swap = own_swap if channel_swap is None else _swap(channel_swap)
        if not np.array_equal(self.mean, own_mean):
            self.arguments["mean"] = self.mean
        if tuple(self.channel_swap) != tuple(own_swap):
            self.arguments["channel_swap"] = self.channel_swap
        self.checksum = self._checksum()

    def _checksum(self):
        return key(_read(self.prototxt), _read(self.caffemodel), CONVERTER, *["surgery"] * self.arguments["surgery"])

    def _convert(self):
        return convert.to_onnx(self.prototxt, self.caffemodel, surgery=self.arguments["surgery"])


class OnnxFile(Files):
    """An .onnx file. The arguments are those of `Net`.

    An argument that is None is read from the card next to the file (see `models.onnx_card`). If that has neither a mean
    nor a scale, those of PyTorch's ImageNet nets are used, and a line on stderr says so. If only one of the two is
    known, the other is a mean of 0 or a scale of 1.

    scale: what the pixels are multiplied by after the mean is subtracted, one number for each channel; None for a net
        that was converted from Caffe's files.
    layout: 'nchw' or 'nhwc'.
    input: the name of the input that takes the picture; None for the only one.
    """

    def __init__(self, path: str | Path, mean: float | Sequence[float] | np.ndarray | None,
                 channel_swap: Sequence[int] | None, scale: float | Sequence[float] | None = None,
                 layout: str | None = None, input: str | None = None):
        from ..convert.onnx_nets import external
        from ..convert.onnx_nets import prepare
        path = models.expanded(path)
        model = prepare.read(path)
        self.card = card = models.onnx_card.read(path)
        self.prototxt, self.caffemodel, self.name = path, None, path.stem
        self.layout, self.input = layout or card.layout, input or card.input
        swap = models.onnx_card.CHANNELS.get(card.channels) if channel_swap is None else _swap(channel_swap)
        mean = card.mean if mean is None else _tuple(mean)
        scale = card.scale if scale is None else _tuple(scale)
        facts = convert.Facts.read(model, path)
        if facts:
            for name, value in {"scale": scale, "layout": self.layout, "input": self.input}.items():
                if value is not None:
                    raise DreamError(f"{name}: {path} was converted from Caffe's files and takes Caffe's pictures")
            channels, swap = [*facts.data_shape, 1][1], swap or facts.channel_swap or SWAP
            default_mean, default_scale = facts.mean or (MEAN if channels == 3 else (sum(MEAN) / 3,)), None
        else:
            with about(path):
                _, self.layout, (_, channels, *_), kind = prepare.image_input(model, self.input, self.layout, path)
            swap = swap or models.onnx_card.CHANNELS["rgb"]
            default_mean, default_scale = (tuple(values[i] for i in swap) for values in (TORCH_MEAN, TORCH_SCALE))
            if channels == 1:
                default_mean, default_scale = (sum(TORCH_MEAN) / 3,), (sum(TORCH_SCALE) / 3,)
            if mean or scale or kind == prepare.TensorProto.UINT8:      # a net that takes bytes scales them itself
                default_mean, default_scale = (0.0,), (1.0,)
        assumed = mean is None and scale is None and default_scale not in (None, (1.0,))
        # a mean that is given and equals the default leaves the checksum as it is
        self.mean = default_mean if mean is None or np.array_equal(mean, default_mean) else mean
        self.scale = default_scale if scale is None else scale
        for what, values in {"mean": self.mean, "scale": self.scale}.items():
            if values is not None and len(values) not in (1, channels):
                raise DreamError(f"{what}: {len(values)} numbers for the {channels} channel(s) of {path}; give one "
                                 "number, or one for each channel")
        self.channel_swap = tuple(swap)
        self.arguments = {"prototxt": str(path.resolve()), "mean": self.mean, "channel_swap": self.channel_swap,
                          "scale": self.scale, "layout": self.layout, "input": self.input}
        with about(path):
            self._files = [path, *external.files(model, path)]
        self.checksum = self._checksum()
        if assumed:
            self._print_assumption()

    def _checksum(self):
        return key(*map(_read, self._files), *list(self.arguments.values())[1:], CONVERTER)

    def _print_assumption(self):
        order = "".join("rgb"[i] for i in self.channel_swap)
        say_once(f"{self.prototxt}: no mean and scale are specified; using those of PyTorch's ImageNet nets: mean "
                 f"{_joined(self.mean)}, scale {_joined(self.scale)}, {order}, {self.layout}; for other values, write "
                 f"{self.name}.toml next to the file, or give --mean, --scale, --channels or --layout")

    def _convert(self):
        return convert.onnx_net(self.prototxt, 1.0 if self.scale is None else self.scale, self.layout, self.input)


def _tuple(values):
    return tuple(float(v) for v in np.ravel(values))


def _swap(values):
    """Return a channel_swap as a tuple. Raises DreamError unless it is 0, 1 and 2 in any order."""
    try:
        swap = tuple(operator.index(i) for i in values)
    except TypeError:
        swap = ()
    if sorted(swap) != [0, 1, 2]:
        raise DreamError(f"channel_swap is {shown(values)}; allowed is 0, 1 and 2 in any order, such as (2, 1, 0) for "
                         "a net that takes blue, green, red")
    return swap


def _joined(values):
    return ",".join(f"{v:g}" for v in values)


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise convert.ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
