"""The files that a Net comes from: Caffe's two, or one ONNX file."""
from pathlib import Path

import numpy as np

from .. import convert, models
from ..convert.errors import about
from ..errors import DreamError
from ..runtime.cache import cached, graph_key, key
from ..runtime.notices import say_once

MEAN, SWAP = (104, 116, 122), (2, 1, 0)     # the notebook's, of Caffe's ImageNet nets
# what a net that says nothing of its pictures is assumed to want: what PyTorch's ImageNet nets do, 255 times mean and
# 1 / (255 * deviation)
TORCH_MEAN, TORCH_SCALE = (123.675, 116.28, 103.53), (0.0171248, 0.0175070, 0.0174292)
MADE_BY = 11     # a part of the checksums, which pictures carry, since 11 was the version of the converter


def files_of(prototxt, caffemodel=None, mean=None, channel_swap=None, surgery=False, **onnx_only):
    """The files that `Net` was asked for. surgery: of Caffe's nets; an .onnx file stays as it is. onnx_only: scale, layout,
    input."""
    if caffemodel is None and str(prototxt).lower().endswith(".onnx"):
        return OnnxFile(prototxt, mean, channel_swap, **onnx_only)
    for name, value in onnx_only.items():
        if value is not None:
            raise DreamError(f"{name}: only for a net in an .onnx file, not for {prototxt}")
    return CaffeFiles(prototxt, caffemodel, mean, channel_swap, surgery)


class Files:
    """The files of a net.

    name: what people call it. card: the model card (models.Model, models.onnx_card.OnnxCard, or None).
    prototxt: the deploy.prototxt, or the .onnx file. caffemodel: the weights; None of an .onnx file.
    mean, channel_swap: how it wants its pictures.
    checksum: of all that the forward graph is made from.
    arguments: keywords with which `Net` makes the same net again, in another process too.
    """
    name, card, caffemodel = "", None, None
    _proto = None

    def is_current(self) -> bool:
        """Are the files still those that were read?"""
        return self.checksum == self._sum()

    @property
    def proto(self):
        """The forward graph, a ModelProto: from the cache, or converted now."""
        if self._proto is None:
            import onnx
            self._proto = onnx.load_from_string(cached(f"{graph_key(self.checksum)}.onnx",
                                                       lambda: self._convert().SerializeToString()))
        return self._proto

    def release(self):
        """Forget the forward graph until somebody asks for it again."""
        self._proto = None


class CaffeFiles(Files):
    """A deploy.prototxt and a caffemodel; or, as `prototxt` alone, a folder of both or a model's name."""

    def __init__(self, prototxt, caffemodel, mean, channel_swap, surgery):
        known = str(prototxt) in models.names()
        self.arguments = {"prototxt": str(prototxt) if known else str(models.expanded(prototxt).resolve()),
                          "caffemodel": caffemodel and str(Path(caffemodel).resolve()), "surgery": bool(surgery)}
        if caffemodel is None:
            self.card = models.find(str(prototxt))
            prototxt, caffemodel = self.card.prototxt, self.card.caffemodel
            mean = self.card.mean if mean is None else mean
            channel_swap = self.card.channel_swap if channel_swap is None else channel_swap
        self.prototxt, self.caffemodel = Path(prototxt), Path(caffemodel)
        self.name = self.card.name if self.card else self.caffemodel.stem
        self.mean = MEAN if mean is None else mean
        self.channel_swap = SWAP if channel_swap is None else channel_swap
        self.checksum = self._sum()

    def _sum(self):
        return key(_read(self.prototxt), _read(self.caffemodel), MADE_BY, *["surgery"] * self.arguments["surgery"])

    def _convert(self):
        return convert.to_onnx(self.prototxt, self.caffemodel, surgery=self.arguments["surgery"])


class OnnxFile(Files):
    """An .onnx file. What is not given here the record beside it says (models.onnx_card), else it is assumed, in one line on
    stderr: mean and scale of PyTorch's ImageNet nets if neither is known, a mean of 0 or a scale of 1 if one is."""

    def __init__(self, path, mean, channel_swap, scale=None, layout=None, input=None):
        from ..convert.onnx_nets import external
        from ..convert.onnx_nets import prepare
        path = models.expanded(path)
        model = prepare.read(path)
        self.card = card = models.onnx_card.beside(path)
        self.prototxt, self.caffemodel, self.name = path, None, path.stem
        self.layout, self.input = layout or card.layout, input or card.input
        mean, scale = (v if given is None else _tuple(given) for v, given in ((card.mean, mean), (card.scale, scale)))
        facts = convert.Facts.read(model, path)
        if facts:
            for name, value in {"scale": scale, "layout": self.layout, "input": self.input}.items():
                if value is not None:
                    raise DreamError(f"{name}: {path} was converted from Caffe's files and takes Caffe's pictures")
            channels, swap = [*facts.data_shape, 1][1], facts.channel_swap or SWAP
            usual = facts.mean or (MEAN if channels == 3 else (sum(MEAN) / 3,)), None
        else:
            with about(path):
                _, self.layout, (_, channels, *_), kind = prepare.image_input(model, self.input, self.layout, path)
            swap, usual = models.onnx_card.CHANNELS["rgb"], (TORCH_MEAN, TORCH_SCALE)
            if channels == 1:
                usual = tuple((sum(v) / 3,) for v in usual)
            if mean or scale or kind == prepare.TensorProto.UINT8:      # that of bytes takes the pixels as they are
                usual = (0.0,), (1.0,)
        assumed = mean is None and scale is None and usual[1] not in (None, (1.0,))
        self.mean, self.scale = usual[0] if mean is None else mean, usual[1] if scale is None else scale
        for what, values in {"mean": self.mean, "scale": self.scale}.items():
            if values is not None and len(values) not in (1, channels):
                raise DreamError(f"{what}: {len(values)} numbers for the {channels} channel(s) of {path}; give one, or "
                                 "one a channel")
        self.channel_swap = tuple(channel_swap or models.onnx_card.CHANNELS.get(card.channels, swap))
        self.arguments = {"prototxt": str(path.resolve()), "mean": self.mean, "channel_swap": self.channel_swap,
                      "scale": self.scale, "layout": self.layout, "input": self.input}
        with about(path):
            self._files = [path, *external.files(model, path)]
        self.checksum = self._sum()
        if assumed:
            self._say()

    def _sum(self):
        return key(*map(_read, self._files), *list(self.arguments.values())[1:], MADE_BY)

    def _say(self):
        order = "".join("rgb"[i] for i in self.channel_swap)
        text = (f"{self.prototxt}: assumed to want what PyTorch's ImageNet nets do: mean {_joined(self.mean)}, scale "
                f"{_joined(self.scale)}, {order}, {self.layout}; if not, say so in {self.name}.toml beside it, or to "
                "`dream` and `layers` by --mean, --scale, --channels, --layout")
        say_once(text)

    def _convert(self):
        return convert.onnx_net(self.prototxt, 1.0 if self.scale is None else self.scale, self.layout, self.input)


def _tuple(values):
    return tuple(float(v) for v in np.ravel(values))


def _joined(values):
    return ",".join(f"{v:g}" for v in values)


def _read(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise convert.ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
