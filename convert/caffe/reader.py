"""Read Caffe's text and binary files of every generation into a NetParameter in the current format (V2 `layer`)."""
from __future__ import annotations

import difflib
import itertools
import math
import os
import re
from collections.abc import Collection
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from ..errors import ConvertError, about, shown
from . import caffe_pb2 as pb

# maximum sizes
LAYERS = 5000         # layers of a net; ResNet-1001 has 4,300
BLOBS = 40_000        # blobs of a net
ARMS = 1000           # bottoms of a layer, and tops, and blobs
AXES = 32             # axes of a blob (Caffe: blob.hpp, kMaxBlobAxes)
TEXT, WORDS = 4_000_000, 500_000      # characters of a prototxt; its words and punctuation marks

# V1 layer types are the members of an enum; the current name is the capitalized words, except for these
_V1_TYPES = {"RELU": "ReLU", "LRN": "LRN", "TANH": "TanH", "ABSVAL": "AbsVal", "BNLL": "BNLL", "MVN": "MVN",
             "ARGMAX": "ArgMax", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "IM2COL": "Im2col",
             "SOFTMAX_LOSS": "SoftmaxWithLoss", "INNER_PRODUCT": "InnerProduct"}

# V0 layers: type -> (current type, parameter message, {V0 field: field of that message})
_V0_TYPES = {
    "conv": ("Convolution", "convolution_param", {"num_output": "num_output", "biasterm": "bias_term", "pad": "pad",
                                                  "kernelsize": "kernel_size", "group": "group", "stride": "stride"}),
    "pool": ("Pooling", "pooling_param", {"pool": "pool", "pad": "pad", "kernelsize": "kernel_size",
                                          "stride": "stride"}),
    "innerproduct": ("InnerProduct", "inner_product_param", {"num_output": "num_output", "biasterm": "bias_term"}),
    "lrn": ("LRN", "lrn_param", {"local_size": "local_size", "alpha": "alpha", "beta": "beta", "k": "k"}),
    "dropout": ("Dropout", "dropout_param", {"dropout_ratio": "dropout_ratio"}),
    "concat": ("Concat", "concat_param", {"concat_dim": "concat_dim"}),
    "relu": ("ReLU", None, {}), "sigmoid": ("Sigmoid", None, {}), "tanh": ("TanH", None, {}),
    "bnll": ("BNLL", None, {}), "softmax": ("Softmax", None, {}), "flatten": ("Flatten", None, {}),
    "split": ("Split", None, {}), "softmax_loss": ("SoftmaxWithLoss", None, {}), "data": ("Data", None, {}),
    "images": ("ImageData", None, {}), "window_data": ("WindowData", None, {}), "accuracy": ("Accuracy", None, {}),
}


def read_prototxt(path: str | os.PathLike, supported: Collection[str] | None = None) -> pb.NetParameter:
    """Read a deploy.prototxt.

    path: the file.
    supported: layer types in which every field must be Caffe's. In layers of other types, which forks of Caffe may have
    added, unknown fields are ignored. None means all types.

    Returns the net in the current format (V2), for the phase TEST. Raises ConvertError.
    """
    data = _bytes(path)
    if b"\0" in data:
        raise ConvertError(f"{path}: not a prototxt: it is not text. Is it a caffemodel?")
    text = data.decode("utf-8-sig", "replace")      # comments may be in any encoding
    return parse_prototxt(text.replace("\r\n", "\n").replace("\r", "\n"), path, supported)


def parse_prototxt(text: str, source: str | os.PathLike = "prototxt",
                   supported: Collection[str] | None = None) -> pb.NetParameter:
    """Parse the text of a prototxt like `read_prototxt`. source: its name in error messages."""
    with about(source):
        if len(text) > TEXT or sum(1 for _ in itertools.islice(_WORD.finditer(text), WORDS + 1)) > WORDS:
            raise ConvertError(f"{source}: not a prototxt: a net's description has at most {WORDS:,} words and "
                               f"{TEXT:,} characters")
        net = _parsed(text, source, supported)
        _check_layers(net, source)
        net = upgrade(net)
        if not net.layer:
            raise ConvertError(f"{source}: not a net: it has no layer")
        return _phase_test(net)


def _parsed(text, source, supported):
    try:
        return text_format.Parse(text, pb.NetParameter())
    except text_format.ParseError as error:
        known = _without_foreign_fields(text, supported) if supported and _UNKNOWN_FIELD.search(str(error)) else text
        if known == text:
            raise _typo(source, error) from None
    try:
        return text_format.Parse(known, pb.NetParameter())
    except text_format.ParseError as error:
        raise _typo(source, error) from None


def read_caffemodel(path: str | os.PathLike) -> dict[str, list[np.ndarray]]:
    """Read the weights of a net.

    Returns {layer name: [float32 arrays]} with the shapes in the file. In files older than BlobShape, all blobs have
    four axes, the leading ones of size 1 if necessary. Raises ConvertError.
    """
    data = _bytes(path)
    with about(path):
        return _weights(data, path)


def _weights(data, path):
    if _count_fields(data) > LAYERS:
        raise _too_many(path)
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError:
        raise ConvertError(f"{path}: not a caffemodel, or cut off ({len(data):,} bytes)") from None
    _check_layers(net, path)
    net = upgrade(net)
    if not net.layer:
        raise ConvertError(f"{path}: not a caffemodel: no layer in its {len(data):,} bytes")
    blobs = {}
    for layer in net.layer:
        if layer.blobs:
            blobs[layer.name] = [_array(blob, path, layer.name) for blob in layer.blobs]
    if not blobs:
        raise ConvertError(f"{path}: not a caffemodel with weights: none of its {len(net.layer)} layers has any")
    return blobs


def _check_layers(net, path):
    """Raise ConvertError if there are too many layers or blobs. Called before the layers are processed."""
    if len(net.layer) + len(net.layers) + len(net.input) > LAYERS:
        raise _too_many(path)
    blobs = 0
    for layer in (*net.layer, *net.layers, *(l.layer for l in net.layers if l.HasField("layer"))):
        for kind in ("bottom", "top", "blobs"):
            count = len(getattr(layer, kind, ()))       # a V0 layer has only blobs
            if count > ARMS:
                raise ConvertError(f"{path}: layer '{shown(layer.name)}' has {count:,} of `{kind}`; {ARMS:,} are "
                                   "allowed")
        blobs += len(layer.blobs)
    if blobs > BLOBS:
        raise ConvertError(f"{path}: {blobs:,} blobs; {BLOBS:,} are allowed")


def _too_many(path):
    return ConvertError(f"{path}: more than {LAYERS:,} layers; no net has that many")


def _count_fields(data):
    """Count the top-level fields of a caffemodel, mostly layers, up to one more than allowed.

    This reads only the bytes, since parsed messages could take hundreds of times the memory of the file. The count
    stops at invalid data.
    """
    at = fields = 0
    try:
        while at < len(data) and fields <= LAYERS:
            (tag, at), fields = _varint(data, at), fields + 1
            size, at = {0: lambda: (0, _varint(data, at)[1]), 1: lambda: (8, at), 2: lambda: _varint(data, at),
                        5: lambda: (4, at)}[tag & 7]()
            at += size
    except (IndexError, KeyError):      # cut off, or not a protobuf file: the parser will report it
        pass
    return fields


def _varint(data, at):
    """Read a varint. Returns (its value, the position after it)."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def _bytes(path):
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None


def _array(blob, path, layer):
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    layer = shown(layer)
    if len(shape) > AXES:
        raise ConvertError(f"{path}: damaged: layer '{layer}' has a blob of {len(shape):,} axes; Caffe allows {AXES}")
    values = blob.double_data if blob.double_data else blob.data
    if min(shape, default=1) < 0 or len(values) != math.prod(shape):
        raise ConvertError(f"{path}: damaged: layer '{layer}' has {len(values):,} numbers for a blob of shape {shape}")
    with np.errstate(over="ignore"):      # doubles that are too large for float32 become infinite
        array = np.array(values, np.float32)
    if not np.isfinite(array).all():
        raise ConvertError(f"{path}: layer '{layer}' has weights that are not finite numbers (NaN or infinity)")
    return array.reshape(shape)


def upgrade(net: pb.NetParameter) -> pb.NetParameter:
    """Upgrade a NetParameter of any generation to the current format, V2 (Caffe: upgrade_proto.cpp)."""
    if net.layers:
        new = pb.NetParameter()
        new.CopyFrom(net)
        new.ClearField("layers")
        for old in net.layers:
            layer = new.layer.add()
            (_from_v0 if old.HasField("layer") else _from_v1)(old, layer)
        net = new
    # an `input` field becomes an Input layer
    if net.input:
        new = pb.NetParameter()
        shapes = list(net.input_shape)
        for i, name in enumerate(net.input):
            layer = new.layer.add(name=name, type="Input", top=[name])
            dims = list(shapes[i].dim) if i < len(shapes) else list(net.input_dim[4 * i:4 * i + 4])
            if dims:
                layer.input_param.shape.add(dim=dims)
        new.layer.extend(net.layer)
        new.name = net.name
        net = new
    return net


def _v1_type(number):
    name = pb.V1LayerParameter.LayerType.Name(number)
    return _V1_TYPES.get(name, "".join(w.capitalize() for w in name.split("_")))


def _from_v1(old, layer):
    layer.name, layer.type = old.name, _v1_type(old.type)
    for field, value in old.ListFields():
        if field.name in ("bottom", "top", "blobs", "include", "exclude", "loss_weight"):
            getattr(layer, field.name).extend(value)
        elif field.name.endswith("_param"):
            getattr(layer, field.name).CopyFrom(value)


def _from_v0(old, layer):
    v0 = old.layer
    if v0.type == "padding":   # Caffe merges it into the next convolution; such old files are no longer in use
        raise ConvertError(f"layer '{v0.name}': V0 padding layers are not supported; "
                           "upgrade the file with Caffe's upgrade_net_proto tools")
    layer.name = v0.name
    layer.bottom.extend(old.bottom)
    layer.top.extend(old.top)
    layer.blobs.extend(v0.blobs)
    layer.type, message, fields = _V0_TYPES.get(v0.type, (v0.type, None, {}))
    for theirs, ours in fields.items():
        if v0.HasField(theirs):
            target = getattr(layer, message)
            value = getattr(v0, theirs)
            repeated = ours in ("pad", "kernel_size", "stride") and message == "convolution_param"
            getattr(target, ours).append(value) if repeated else setattr(target, ours, value)


def _phase_test(net):
    """Drop the layers that are not in phase TEST, level 0, without stages (Caffe: Net::FilterNet)."""
    def meets(rule):
        if rule.HasField("phase") and rule.phase != pb.TEST:
            return False
        if rule.HasField("min_level") and rule.min_level > 0 or rule.HasField("max_level") and rule.max_level < 0:
            return False
        return not rule.stage

    kept = [l for l in net.layer
            if (any(map(meets, l.include)) if l.include else not any(map(meets, l.exclude)))]
    new = pb.NetParameter(name=net.name)
    new.layer.extend(kept)
    return new


# ---- errors in a prototxt

_UNKNOWN_FIELD = re.compile(r'Message type "caffe\.(\w+)" has no field named "(\w+)"')


def _typo(source, error):
    message = str(error)
    match = _UNKNOWN_FIELD.search(message)
    where = re.match(r"(\d+):(\d+)", message)
    line = f"line {where.group(1)}: " if where else ""
    if not match:
        detail = re.sub(r"^\d+:\d+\s*:\s*", "", message)
        detail = re.sub(r"^'.*?':\s*", "", detail, flags=re.S)
        return ConvertError(f"{source}: {line}not a prototxt: {shown(detail.replace(chr(10), ' '), 200)}")
    kind, field = match.groups()
    known = [f.name for f in pb.DESCRIPTOR.message_types_by_name[kind].fields] \
        if kind in pb.DESCRIPTOR.message_types_by_name else []
    near = difflib.get_close_matches(field, known, 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if field in ("layer", "layers"):
        hint = "; is a } missing before it?"
    return ConvertError(f"{source}: {line}{kind} has no field '{shown(field)}'{hint}")


# ---- fields that Caffe does not have

_WORD = re.compile(r"""#[^\n]*|"(?:\\.|[^"\\\n])*"?|'(?:\\.|[^'\\\n])*'?|[{}<>\[\]:,;]|[^\s{}<>\[\]:,;"'#]+""")


def _without_foreign_fields(text, supported):
    """Blank out the fields that Caffe does not have, in layers of types that are not supported.

    Invalid text is left to the parser, which reports it.
    """
    words = [m for m in _WORD.finditer(text) if m.group()[0] != "#"]
    words += [re.compile(r"\Z").search(text)] * 2       # two empty ones, so that there is always a next word
    inside = [(pb.NetParameter.DESCRIPTOR, "")]         # the messages around the word: (descriptor, name of the field)
    foreign, found, kind, i = [], [], None, 0           # found, kind: unknown fields and type of the current layer
    while word := words[i].group():
        message, outer = inside[-1]
        if word in "}>" and len(inside) > 1:
            inside.pop()
            if len(inside) == 1:
                foreign += found if kind is not None and kind not in supported else []
                found, kind = [], None
        elif word[0].isalpha() or word[0] == "_":
            field, begin = message.fields_by_name.get(word), words[i].start()
            value = i + 1 + (words[i + 1].group() == ":")
            if field is not None and field.message_type and words[value].group() in ("{", "<"):
                inside.append((field.message_type, word))
                i = value
            else:
                if word == "type" and outer in ("layer", "layers") and kind is None:
                    kind = words[value].group().strip("\"'")
                i = _last_of_value(words, value)
                if field is None and len(inside) > 1:
                    found.append((begin, words[i].end()))
        i += 1
    return _blanked(text, foreign)


def _last_of_value(words, i):
    """Return the index of the last word of a value that starts at i: a message, a list, adjacent strings, a word."""
    if words[i].group() in ("{", "<", "["):
        depth = 0
        while words[i].group():
            depth += {"{": 1, "<": 1, "[": 1, "}": -1, ">": -1, "]": -1}.get(words[i].group(), 0)
            if depth == 0:
                return i
            i += 1
    while words[i].group()[:1] in ("'", '"') and words[i + 1].group()[:1] in ("'", '"'):
        i += 1
    return i


def _blanked(text, spans):
    """Replace these parts of a text by spaces, except for newlines."""
    parts, at = [], 0
    for begin, end in spans:
        parts += [text[at:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        at = end
    return "".join([*parts, text[at:]])
