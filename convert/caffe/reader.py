"""Reading Caffe's files: text and binary, every generation, to one NetParameter in today's form (V2 `layer`)."""
import difflib
import itertools
import math
import re
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from . import caffe_pb2 as pb
from ..errors import ConvertError, about, shown

# how large what a file describes may be
LAYERS = 5000         # of a net; ResNet-1001 has 4,300
BLOBS = 40_000        # of a net
ARMS = 1000           # of a layer: its bottoms, its tops, its blobs
AXES = 32             # of a blob (Caffe: blob.hpp, kMaxBlobAxes)
TEXT, WORDS = 4_000_000, 500_000      # characters of a prototxt; words and punctuation marks

# V1 layer types were an enum; only these do not become today's name by capitalizing the words
_V1_TYPES = {"RELU": "ReLU", "LRN": "LRN", "TANH": "TanH", "ABSVAL": "AbsVal", "BNLL": "BNLL", "MVN": "MVN",
             "ARGMAX": "ArgMax", "HDF5_DATA": "HDF5Data", "HDF5_OUTPUT": "HDF5Output", "IM2COL": "Im2col",
             "SOFTMAX_LOSS": "SoftmaxWithLoss", "INNER_PRODUCT": "InnerProduct"}

# V0 layers: type -> (today's type, parameter message, {V0 field: field of that message})
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


def read_prototxt(path, supported=None):
    """Read a deploy.prototxt. Returns a NetParameter in V2 form, in phase TEST.

    supported: layer types whose parameters must parse to the letter; fields that Caffe does not have are passed
    over in layers of any other type (forks of Caffe add such layers). None: every field must be Caffe's.
    """
    data = _bytes(path)
    if b"\0" in data:
        raise ConvertError(f"{path}: not a prototxt: it is not text. A caffemodel in its place?")
    text = data.decode("utf-8-sig", "replace")      # comments may be in any encoding
    return parse_prototxt(text.replace("\r\n", "\n").replace("\r", "\n"), path, supported)


def parse_prototxt(text, source="prototxt", supported=None):
    """As `read_prototxt`, from a string; `source` names it in errors."""
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
        mended = _without_foreign_fields(text, supported) if supported and _UNKNOWN_FIELD.search(str(error)) else text
        if mended == text:
            raise _typo(source, error) from None
    try:
        return text_format.Parse(mended, pb.NetParameter())
    except text_format.ParseError as error:
        raise _typo(source, error) from None


def read_caffemodel(path):
    """Read a caffemodel. Returns {layer name: [float32 arrays]} in the shapes that the file gives.

    Arrays of files older than BlobShape have four axes, filled from the left with ones.
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
    """Raise ConvertError for what no net has so many of. Asked before anything is made of the layers."""
    if len(net.layer) + len(net.layers) + len(net.input) > LAYERS:
        raise _too_many(path)
    blobs = 0
    for layer in (*net.layer, *net.layers, *(l.layer for l in net.layers if l.HasField("layer"))):
        for kind in ("bottom", "top", "blobs"):
            count = len(getattr(layer, kind, ()))       # blobs only, in V0
            if count > ARMS:
                raise ConvertError(f"{path}: layer '{shown(layer.name)}' has {count:,} of `{kind}`; {ARMS:,} are "
                                   "allowed")
        blobs += len(layer.blobs)
    if blobs > BLOBS:
        raise ConvertError(f"{path}: {blobs:,} blobs; {BLOBS:,} are allowed")


def _too_many(path):
    return ConvertError(f"{path}: more than {LAYERS:,} layers; no net has that many")


def _count_fields(data):
    """How many fields, mostly layers, a caffemodel has, by its bytes and up to one more than are allowed: as messages
    they could take hundreds of times the memory of the file. What is none is counted as far as it can be read."""
    at = fields = 0
    try:
        while at < len(data) and fields <= LAYERS:
            (tag, at), fields = _varint(data, at), fields + 1
            size, at = {0: lambda: (0, _varint(data, at)[1]), 1: lambda: (8, at), 2: lambda: _varint(data, at),
                        5: lambda: (4, at)}[tag & 7]()
            at += size
    except (IndexError, KeyError):      # cut off, or of another kind: the parser will say so
        pass
    return fields


def _varint(data, at):
    """(the number that begins at a place, the place behind it)."""
    value = shift = 0
    while True:
        byte = data[at]
        value, shift, at = value | (byte & 127) << shift, shift + 7, at + 1
        if byte < 128:
            return value, at


def read_mean(path):
    """Read a mean.binaryproto. Returns the mean of each channel, float32."""
    data = _bytes(path)
    with about(path):
        blob = pb.BlobProto()
        try:
            blob.ParseFromString(data)
        except DecodeError:
            raise ConvertError(f"{path}: not a mean.binaryproto, or cut off") from None
        array = _array(blob, path, "mean")
        if array.ndim < 3 or not array.size:
            raise ConvertError(f"{path}: not a mean.binaryproto: its shape is {array.shape}, not (1, C, H, W)")
        return array.reshape(array.shape[-3], -1).mean(1, dtype=np.float64).astype(np.float32)


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
    with np.errstate(over="ignore"):      # doubles beyond float32 become infinite
        array = np.array(values, np.float32)
    if not np.isfinite(array).all():
        raise ConvertError(f"{path}: layer '{layer}' has weights that are not finite numbers (NaN or infinity)")
    return array.reshape(shape)


def upgrade(net):
    """A NetParameter of any generation, in V2 form (Caffe: upgrade_proto.cpp)."""
    if net.layers:
        new = pb.NetParameter()
        new.CopyFrom(net)
        new.ClearField("layers")
        for old in net.layers:
            layer = new.layer.add()
            (_from_v0 if old.HasField("layer") else _from_v1)(old, layer)
        net = new
    # an `input` field is today's Input layer
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
    if v0.type == "padding":   # Caffe folded it into the convolution behind it; nets of that age are long upgraded
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
    """Drop the layers that Caffe leaves out in phase TEST, level 0, no stage (Caffe: Net::FilterNet)."""
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
    """The text with the fields that Caffe does not have blanked out, wherever they stand in a layer of a type that is
    not supported anyway: one walk over its words. What is no prototxt is left for the parser to tell."""
    words = [m for m in _WORD.finditer(text) if m.group()[0] != "#"]
    words += [re.compile(r"\Z").search(text)] * 2       # two empty ones, so that there is always a next
    inside = [(pb.NetParameter.DESCRIPTOR, "")]         # the messages around the word: their kinds, their fields
    foreign, found, kind, i = [], [], None, 0           # found, kind: of the layer at hand
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
    """The place of the last word of the value that begins at i: a message, a list, strings side by side, a word."""
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
    """The text with spaces in these places; the lines stay."""
    parts, at = [], 0
    for begin, end in spans:
        parts += [text[at:begin], re.sub(r"[^\n]", " ", text[begin:end])]
        at = end
    return "".join([*parts, text[at:]])
