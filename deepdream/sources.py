"""Where a Net comes from: Caffe's two files, or one ONNX file. Either tells what it is made of and makes the model.

Each has: name; record (models.Model, models.own.Own or None); prototxt (or the .onnx file) and caffemodel (or None);
mean, channel_swap; checksum, of all that the model is made from; given, keywords with which `Net` makes it again; and
`model()`, the forward graph.
"""
import json
import sys
from pathlib import Path

import numpy as np

import convert
import models

from .cache import key
from .errors import DreamError

MEAN, SWAP = (104, 116, 122), (2, 1, 0)     # the notebook's, of Caffe's ImageNet nets
# what a net that says nothing of its pictures is assumed to want: what PyTorch's ImageNet nets do, 255 times mean and
# 1 / (255 * deviation)
TORCH_MEAN, TORCH_SCALE = (123.675, 116.28, 103.53), (0.0171248, 0.0175070, 0.0174292)
_said = set()


def source(prototxt, caffemodel=None, mean=None, channel_swap=None, surgery=False, **onnx_only):
    """The source that `Net` was asked for. surgery: of Caffe's nets; an .onnx file stays as it is. onnx_only: scale,
    layout, input."""
    if caffemodel is None and str(prototxt).lower().endswith(".onnx"):
        return OnnxFile(prototxt, mean, channel_swap, **onnx_only)
    for name, value in onnx_only.items():
        if value is not None:
            raise DreamError(f"{name}: only for a net in an .onnx file, not for {prototxt}")
    return CaffeFiles(prototxt, caffemodel, mean, channel_swap, surgery)


class _Files:
    """What both kinds of source have: a checksum over their files and over what was said of them, `_sum`."""

    def is_current(self):
        """Whether the files are still those that were read."""
        return self.checksum == self._sum()


class CaffeFiles(_Files):
    """A deploy.prototxt and a caffemodel; or, as `prototxt` alone, a folder of both or a model's name."""

    def __init__(self, prototxt, caffemodel, mean, channel_swap, surgery):
        self.given = {"prototxt": prototxt, "caffemodel": caffemodel, "surgery": bool(surgery)}
        self.record = None
        if caffemodel is None:
            self.record = models.find(str(prototxt))
            prototxt, caffemodel = self.record.prototxt, self.record.caffemodel
            mean = self.record.mean if mean is None else mean
            channel_swap = self.record.channel_swap if channel_swap is None else channel_swap
        self.prototxt, self.caffemodel = Path(prototxt), Path(caffemodel)
        self.name = self.record.name if self.record else self.caffemodel.stem
        self.mean = MEAN if mean is None else mean
        self.channel_swap = SWAP if channel_swap is None else channel_swap
        self.checksum = self._sum()

    def _sum(self):
        return key(_read(self.prototxt), _read(self.caffemodel), convert.VERSION, *["surgery"] * self.given["surgery"])

    def model(self):
        return convert.to_onnx(self.prototxt, self.caffemodel, surgery=self.given["surgery"])


class OnnxFile(_Files):
    """An .onnx file. What is not given here the record beside it says (models.own), else it is assumed, in one line on
    stderr: mean and scale of PyTorch's ImageNet nets if neither is known, a mean of 0 or a scale of 1 if one is."""

    def __init__(self, path, mean, channel_swap, scale=None, layout=None, input=None):
        from convert import foreign
        from convert.graph import metadata
        path = Path(path).expanduser()
        model = foreign.read(path)
        self.record = own = models.own.beside(path)
        self.prototxt, self.caffemodel, self.name = path, None, path.stem
        self.layout, self.input = layout or own.layout, input or own.input
        mean, scale = (v if given is None else _tuple(given) for v, given in ((own.mean, mean), (own.scale, scale)))
        facts = metadata(model)
        converted = "writes" in facts
        if converted:
            for name, value in {"scale": scale, "layout": self.layout, "input": self.input}.items():
                if value is not None:
                    raise DreamError(f"{name}: {path} was converted from Caffe's files and takes Caffe's pictures")
            channels, swap = json.loads(facts["data_shape"])[1], json.loads(facts.get("channel_swap", str(list(SWAP))))
            usual = json.loads(facts["mean"]) if "mean" in facts else MEAN if channels == 3 else (sum(MEAN) / 3,), None
        else:
            _, self.layout, (_, channels, *_), kind = foreign.image_input(model, self.input, self.layout, path)
            swap, usual = models.own.CHANNELS["rgb"], (TORCH_MEAN, TORCH_SCALE)
            if channels == 1:
                usual = tuple((sum(v) / 3,) for v in usual)
            if mean or scale or kind == foreign.TensorProto.UINT8:      # that of bytes takes the pixels as they are
                usual = (0.0,), (1.0,)
        assumed = mean is None and scale is None and usual[1] not in (None, (1.0,))
        self.mean, self.scale = usual[0] if mean is None else mean, usual[1] if scale is None else scale
        for what, values in {"mean": self.mean, "scale": self.scale}.items():
            if values is not None and len(values) not in (1, channels):
                raise DreamError(f"{what}: {len(values)} numbers for the {channels} channel(s) of {path}; give one, or "
                                 "one a channel")
        self.channel_swap = tuple(channel_swap or models.own.CHANNELS.get(own.channels, swap))
        self.given = {"prototxt": str(path.resolve()), "mean": self.mean, "channel_swap": self.channel_swap,
                      "scale": self.scale, "layout": self.layout, "input": self.input}
        self._files = [path, *foreign.external_files(model, path)]
        self.checksum = self._sum()
        if assumed:
            self._say()

    def _sum(self):
        return key(*map(_read, self._files), *list(self.given.values())[1:], convert.VERSION)

    def _say(self):
        order = "".join("rgb"[i] for i in self.channel_swap)
        text = (f"{self.prototxt}: assumed to want what PyTorch's ImageNet nets do: mean {_joined(self.mean)}, scale "
                f"{_joined(self.scale)}, {order}, {self.layout}; if not, say so in {self.name}.toml beside it, or to "
                "`dream` and `layers` by --mean, --scale, --channels, --layout")
        if text not in _said:
            _said.add(text)
            print(text, file=sys.stderr)

    def model(self):
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
