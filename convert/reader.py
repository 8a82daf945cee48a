"""Reading Caffe's files: text and binary, every generation, to one NetParameter in today's form (V2 `layer`)."""
import difflib
import re
from pathlib import Path

import numpy as np
from google.protobuf import text_format
from google.protobuf.message import DecodeError

from . import caffe_pb2 as pb
from .errors import ConvertError

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
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
    if b"\0" in data:
        raise ConvertError(f"{path}: not a prototxt: it is not text. A caffemodel in its place?")
    text = data.decode("utf-8-sig", "replace")      # comments may be in any encoding
    return parse_prototxt(text.replace("\r\n", "\n").replace("\r", "\n"), path, supported)


def parse_prototxt(text, source="prototxt", supported=None):
    """As `read_prototxt`, from a string; `source` names it in errors."""
    while True:
        net = pb.NetParameter()
        try:
            text_format.Parse(text, net)
            break
        except text_format.ParseError as error:
            mended = _without_foreign_field(text, error, supported) if supported else None
            if mended is None:
                raise ConvertError(_typo(source, error)) from None
            text = mended
    net = upgrade(net)
    if not net.layer:
        raise ConvertError(f"{source}: not a net: it has no layer")
    return _phase_test(net)


def read_caffemodel(path):
    """Read a caffemodel. Returns {layer name: [float32 arrays]} in the shapes that the file gives.

    Arrays of files older than BlobShape have four axes, filled from the left with ones.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
    net = pb.NetParameter()
    try:
        net.ParseFromString(data)
    except DecodeError:
        raise ConvertError(f"{path}: not a caffemodel, or cut off ({len(data):,} bytes)") from None
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


def read_mean(path):
    """Read a mean.binaryproto. Returns the mean of each channel, float32."""
    blob = pb.BlobProto()
    try:
        blob.ParseFromString(Path(path).read_bytes())
        array = _array(blob, path, "mean")
    except OSError as error:
        raise ConvertError(f"{path}: cannot be read: {error.strerror or error}") from None
    except DecodeError:
        raise ConvertError(f"{path}: not a mean.binaryproto, or cut off") from None
    if array.ndim < 3 or not array.size:
        raise ConvertError(f"{path}: not a mean.binaryproto: its shape is {array.shape}, not (1, C, H, W)")
    return array.reshape(array.shape[-3], -1).mean(1, dtype=np.float64).astype(np.float32)


def _array(blob, path, layer):
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = (blob.num, blob.channels, blob.height, blob.width)
    values = blob.double_data if blob.double_data else blob.data
    array = np.array(values, np.float32)
    if array.size != np.prod(shape, dtype=np.int64):
        raise ConvertError(f"{path}: damaged: layer '{layer}' has {array.size:,} numbers for a blob of shape {shape}")
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
        if field.name in ("bottom", "top", "blobs", "include", "exclude"):
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

def _typo(source, error):
    message = str(error)
    match = re.search(r'Message type "caffe\.(\w+)" has no field named "(\w+)"', message)
    where = re.match(r"(\d+):(\d+)", message)
    line = f"line {where.group(1)}: " if where else ""
    if not match:
        detail = re.sub(r"^\d+:\d+\s*:\s*", "", message)
        detail = re.sub(r"^'.*?':\s*", "", detail, flags=re.S)
        return f"{source}: {line}not a prototxt: {detail}".replace("\n", " ")
    kind, field = match.groups()
    known = [f.name for f in pb.DESCRIPTOR.message_types_by_name[kind].fields] \
        if kind in pb.DESCRIPTOR.message_types_by_name else []
    near = difflib.get_close_matches(field, known, 3)
    hint = f"; did you mean {' or '.join(near)}?" if near else ""
    if field in ("layer", "layers"):
        hint = "; is a } missing before it?"
    return f"{source}: {line}{kind} has no field '{field}'{hint}"


# where a layer begins; strings and comments are matched too, so that none begins in them
_LAYER = re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|#[^\n]*|(?<!\w)layers?\s*:?\s*\{')


def _without_foreign_field(text, error, supported):
    """The text with the field that failed to parse blanked out, if it stands in a layer of a type that is not
    supported anyway; None if it does not."""
    match = re.match(r'(\d+):(\d+) : (?:.*: )?Message type "caffe\.\w+" has no field named "(\w+)"', str(error), re.S)
    if not match:
        return None
    lines = text.split("\n")
    row, column, field = int(match.group(1)) - 1, int(match.group(2)) - 1, match.group(3)
    position = sum(len(line) + 1 for line in lines[:row]) + column
    layers = [m for m in _LAYER.finditer(text) if m.group().startswith("layer") and m.end() <= position]
    if not layers:
        return None
    start = layers[-1].end() - 1
    end = _closing(text, start)
    kind = re.search(r'\btype\s*:\s*"?(\w+)"?', text[start:end])
    if not kind or kind.group(1) in supported or position > end:
        return None
    begin = text.rfind(field, start, position + len(field) + 1)
    if begin < 0:
        return None
    body = re.compile(r"\w+\s*:?\s*(\{|[^\s{]+)").match(text, begin)
    if not body:
        return None
    stop = _closing(text, body.end() - 1) + 1 if body.group(1) == "{" else body.end()
    return text[:begin] + re.sub(r"[^\n]", " ", text[begin:stop]) + text[stop:]


def _closing(text, start):
    """Position of the brace that closes the one at `start` (strings and comments passed over)."""
    depth = 0
    for m in re.compile(r'"[^"\n]*"|\'[^\'\n]*\'|#[^\n]*|[{}]').finditer(text, start):
        depth += {"{": 1, "}": -1}.get(m.group(), 0)
        if depth == 0:
            return m.start()
    return len(text)
