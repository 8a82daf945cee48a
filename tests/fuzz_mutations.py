"""Mutations of input files, for tests/test_fuzz.py.

A mutation is a function (data, where, what) -> data, from bytes to bytes. Two whole numbers choose the place that is
changed and the change. They are taken modulo the number of choices, so any numbers are valid, and smaller ones make a
simpler input. Data that a mutation cannot parse is returned unchanged.
"""
import copy
import functools
import io
import json
import re
import struct
import zipfile
import zlib

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from onnx import TensorProto, helper, numpy_helper

from deepdream.convert.caffe import caffe_pb2 as pb

INTS = [-1, 0, 1, 2, 3, 255, 2 ** 15, 2 ** 31 - 1, 2 ** 31, 2 ** 32, 2 ** 62, 2 ** 63 - 1, -2 ** 31, -2 ** 63, 10 ** 9,
        65536, -2, 7, 1000, 2 ** 40]
FLOATS = [0.0, -1.0, float("nan"), float("inf"), float("-inf"), 1e38, -1e38, 1e-45, 0.5, 1e6, 1e308, -0.0]
TEXTS = ["", " ", "data", "a" * 5000, "ü", "名前", "\U0001f600", "\x00", "\n", "a\nb", "\x1b[31m", "\x7f", "\u202e",
         "\u2028", "../..", "/", "/dev/zero", "~nobody-here", "-", "--", "%s %d {0}", "'", '"', "\\", "NaN", "null",
         "both", "*", "[1]", "a[99]", "class:1", "a:nan", "\ud800".encode("utf-8",
                                                                          "surrogatepass").decode("utf-8", "replace"),
         "\r", "é" * 300]
LITERALS = ["-1", "0", "1", "2", "3", "255", "2147483647", "2147483648", "4294967296", "4611686018427387904",
            "1000000000", "9223372036854775807", "9223372036854775808", "18446744073709551616", "1e309", "nan", "-inf",
            "inf", "0x10", "1e-320", "-0.0", "0.5", "1_0", "9" * 5000, "1" + "0" * 400, "true", "false", "null", '""',
            '"a"', "'a'", "a", "[]", "{}", "[[]]", "1979-05-27", "-9223372036854775808", "1e38", "\\", '"', "'", "\0",
            "\u2028", "ü",
            "{", "}", "[", "]", ",", ":", "=", "#",
            "\n", "\x1b[2J", '"' + "x" * 5000 + '"', "x" * 5000, '"\\ud800"', "-", "--1", "1/0", "1/3"]
SEVERAL = [2, 2, 2, 3, 3, 4, 5, 8, 10, 10, 10, 20, 30, 50, 100, 100, 100, 200, 300, 300, 1000, 3000, 20000, 100000]
LENGTHS = [1, 2, 3, 5, 8, 13, 20, 30, 50, 80, 100, 200, 300, 1000, 3000, 20000]


def pick(values, i):
    """Return one of the values. Raises IndexError if there is none."""
    return values[i % max(1, len(values))]


# ---- any bytes

def flip(data, where, what):
    """Invert one bit."""
    if not data:
        return data
    data, at = bytearray(data), where % len(data)
    data[at] ^= 1 << what % 8
    return bytes(data)


def cut_off(data, where, what):
    """Keep only the first part."""
    return data[:where % (len(data) + 1)]


def cut_out(data, where, what):
    """Remove a piece."""
    at = where % (len(data) + 1)
    return data[:at] + data[at + 1 + what % 64:]


def double_piece(data, where, what):
    at, n = where % (len(data) + 1), 1 + what % 64
    return data[:at] + data[at:at + n] * 2 + data[at + n:]


def insert_noise(data, where, what):
    at = where % (len(data) + 1)
    return data[:at] + np.random.default_rng(what).bytes(1 + what % 40) + data[at:]


def write_number(data, where, what):
    """Overwrite 1, 2, 4 or 8 bytes with an unusual number."""
    size, order = pick([(n, o) for n in (1, 2, 4, 8) for o in ("little", "big")], what)
    at, value = where % (len(data) + 1), pick(INTS, what // 8) % 256 ** size
    return data[:at] + value.to_bytes(size, order) + data[at + size:]


def append(data, where, what):
    return data + pick([b"\0", b"\n", b"}", b"\xff" * 9, data, bytes(100000), b"\x80" * 20, b"\r\n"], what)


def other_file(data, where, what):
    """Replace all of the file, or write the same text in another encoding."""
    text = data.decode("utf-8", "replace")
    return pick([b"", b"\0", b"<!DOCTYPE html><html>404</html>", b"PK\x03\x04" + bytes(30),
                 b"\x89PNG\r\n\x1a\n" + bytes(30), b"\xff\xd8\xff\xe0" + bytes(30), b"\x93NUMPY\x01\x00",
                 b"\xef\xbb\xbf" + data, text.encode("utf-16"), text.encode("latin-1", "replace"), bytes(range(256)),
                 b"\x0b" * 100000, b"{" * 100000, b"[" * 100000, b"\x1f\x8b\x08" + bytes(30), b"\n" * 1000,
                 text.replace("a", "ä").encode("latin-1", "replace"),
                 b"\x80" * 500], what)


BYTES = [flip, cut_off, cut_out, double_piece, insert_noise, write_number, append, other_file]


def spliced(others):
    """Make a mutation that replaces everything after some place by what another file holds there."""
    def splice(data, where, what):
        other, at = pick(others, what), where % (len(data) + 1)
        return data[:at] + other[at:]
    return splice


# ---- text of tokens: prototxt, TOML, JSON, labels

TOKEN = re.compile(r'"(?:[^"\\\n]|\\.)*"|\'[^\'\n]*\'|[A-Za-z_][\w/.-]*|[-+]?\d[\w.+-]*|\s+|.', re.S)


def _tokens(data):
    """Return (list of tokens, indices of those that are not white space)."""
    tokens = TOKEN.findall(data.decode("utf-8", "replace"))
    return tokens, [i for i, token in enumerate(tokens) if not token.isspace()]


def _joined(tokens):
    return "".join(tokens).encode("utf-8", "surrogatepass")


def _of_tokens(change):
    """Make a mutation from a function (tokens, place, what) that changes the list."""
    @functools.wraps(change)
    def mutation(data, where, what):
        tokens, places = _tokens(data)
        if not places:
            return data
        change(tokens, pick(places, where), what)
        return _joined(tokens)
    return mutation


@_of_tokens
def odd_literal(tokens, i, what):
    tokens[i] = pick(LITERALS, what)


@_of_tokens
def odd_string(tokens, i, what):
    """Replace a text by an unusual one, in the same quotation marks."""
    mark = tokens[i][0] if tokens[i][0] in "\"'" else ""
    tokens[i] = mark + pick(TEXTS, what) + mark


@_of_tokens
def drop_token(tokens, i, what):
    del tokens[i:i + 1 + what % 3]


@_of_tokens
def double_token(tokens, i, what):
    tokens[i:i + 1] = [tokens[i], " "] * pick(SEVERAL, what)


@_of_tokens
def copy_token(tokens, i, what):
    """Replace a token by another one of the file, mostly of the same kind: so references name other things."""
    alike = [t for t in tokens if t[0].isalpha() == tokens[i][0].isalpha() and t[0].isdigit() == tokens[i][0].isdigit()
             and not t.isspace()]
    tokens[i] = pick(alike, what)


@_of_tokens
def nest(tokens, i, what):
    """Put a token into many nested brackets."""
    left, right = pick(["{}", "[]", "()"], what // 8)
    n = pick(SEVERAL, what)
    tokens[i] = left * n + tokens[i] + right * n


def _of_lines(change):
    @functools.wraps(change)
    def mutation(data, where, what):
        lines = data.split(b"\n")
        change(lines, where % len(lines), what)
        return b"\n".join(lines)
    return mutation


@_of_lines
def drop_line(lines, i, what):
    del lines[i:i + 1 + what % 3]


@_of_lines
def double_line(lines, i, what):
    lines[i:i + 1] = [lines[i]] * pick(SEVERAL[:-1], what)      # without the maximum, since a line is longer


@_of_lines
def swap_lines(lines, i, what):
    j = what % len(lines)
    lines[i], lines[j] = lines[j], lines[i]


TEXT = [odd_literal, odd_literal, odd_string, drop_token, double_token, copy_token, copy_token, nest, drop_line,
        double_line, swap_lines]


def words(vocabulary):
    """Make a mutation that replaces a token by a word of the vocabulary."""
    @_of_tokens
    def other_word(tokens, i, what):
        tokens[i] = pick(vocabulary, what)
    return other_word


def lines(known):
    """Make a mutation that inserts one of the known lines."""
    @_of_lines
    def insert_line(all_lines, i, what):
        line = pick(known, what)
        all_lines.insert(i, line if isinstance(line, bytes) else line.encode())
    return insert_line


# ---- JSON

def _values(value, path=()):
    """Yield the paths to all values inside a JSON value."""
    yield path
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield from _values(value[key], (*path, key))


def json_values():
    return [None, True, False, *INTS, *FLOATS, *TEXTS, [], {}, [[]], [1, 2, 3], [None], ["both"], {"a": 1}, [0, 0],
            [1, "2"], 2 ** 64, 10 ** 400, -1e400, "x" * 5000, [1] * 5000, {"seed": 1}, "1", "1.5", [1, 1, 1, 1],
            [-1, 5], [10 ** 7, 10 ** 7]]


def odd_value(data, where, what):
    """Change a value or a name somewhere in a JSON text."""
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return data
    path = pick(list(_values(value)), where)
    if not path:
        return json.dumps(pick(json_values(), what)).encode()
    holder = functools.reduce(lambda v, key: v[key], path[:-1], value)
    kind, key = what % 8, path[-1]
    if kind == 0:
        del holder[key]
    elif kind == 1 and isinstance(holder, dict):
        holder[pick(TEXTS, what // 8)] = holder.pop(key)
    elif kind == 2:
        holder[key] = copy.deepcopy(pick(list(_each(value)), what // 8))
    else:
        holder[key] = pick(json_values(), what // 8)
    return json.dumps(value).encode()


def _each(value):
    for path in _values(value):
        if path:
            yield functools.reduce(lambda v, key: v[key], path, value)


JSON = [odd_value] * 8 + [odd_literal, double_token, nest, cut_off, flip, other_file, drop_token]


# ---- protobuf

PROTO_ODD = {"int": INTS, "float": FLOATS, "bool": [0, 1], "text": TEXTS,
             "bytes": [b"", b"\0", b"\xff" * 4, bytes(1000), b"\xc3\x28", b"a" * 5000, b"SAME_UPPER", b"nchw"]}
_KINDS = {1: "float", 2: "float", 8: "bool", 9: "text", 12: "bytes",
          **dict.fromkeys((3, 4, 5, 6, 7, 13, 14, 15, 16, 17, 18), "int")}
_RANGES = {3: (-2 ** 63, 2 ** 63), 4: (0, 2 ** 64), 5: (-2 ** 31, 2 ** 31), 13: (0, 2 ** 32), 14: (-2 ** 31, 2 ** 31)}


def _messages(message):
    """Yield a message and all messages inside it."""
    yield message
    for field, value in message.ListFields():
        if field.type == field.TYPE_MESSAGE:
            for inner in value if _many(field) else [value]:
                yield from _messages(inner)


def _many(field):
    return field.is_repeated if hasattr(field, "is_repeated") else field.label == field.LABEL_REPEATED


def _of_message(change):
    """Turn a function (message, where, what) into one that makes a mutation for a class of messages."""
    def make(kind):
        @functools.wraps(change)
        def mutation(data, where, what):
            message = kind()
            try:
                message.ParseFromString(data)
                change(message, where, what)
                return message.SerializeToString()
            except (DecodeError, ValueError, TypeError, IndexError):
                return data       # it cannot be parsed, or not be written
        return mutation
    return make


def _fields(message):
    """List (owner, field) of all fields that are set."""
    return [(owner, field) for owner in _messages(message) for field, _ in owner.ListFields()]


def _odd_scalar(field, what):
    value = pick(PROTO_ODD[_KINDS[field.type]], what)
    if field.type == field.TYPE_ENUM:
        low, high = 0, max(v.number for v in field.enum_type.values) + 2
        return low + value % high
    if field.type in _RANGES:
        low, high = _RANGES[field.type]
        return (value - low) % (high - low) + low
    return value


@_of_message
def odd_field(message, where, what):
    """Give an unusual value to a field that is set."""
    places = [(o, f) for o, f in _fields(message) if f.type != f.TYPE_MESSAGE]
    owner, field = pick(places, where)
    value = _odd_scalar(field, what)
    if _many(field):
        values = getattr(owner, field.name)
        values[what // 64 % len(values)] = value
    else:
        setattr(owner, field.name, value)


@_of_message
def drop_field(message, where, what):
    owner, field = pick(_fields(message), where)
    if _many(field) and what % 2:
        del getattr(owner, field.name)[what // 2 % len(getattr(owner, field.name))]
    else:
        owner.ClearField(field.name)


@_of_message
def double_field(message, where, what):
    """Repeat elements of a list."""
    owner, field = pick([(o, f) for o, f in _fields(message) if _many(f)], where)
    values = getattr(owner, field.name)
    extra = list(values) if what % 2 else [values[what // 2 % len(values)]]
    n = min(pick(SEVERAL, what // 16), 200000 // (len(extra) + owner.ByteSize()) + 1)
    values.extend(extra * n)


@_of_message
def swap_fields(message, where, what):
    owner, field = pick([(o, f) for o, f in _fields(message) if _many(f) and len(getattr(o, f.name)) > 1], where)
    values = list(getattr(owner, field.name))
    i, j = what % len(values), what // 64 % len(values)
    values[i], values[j] = values[j], values[i]
    owner.ClearField(field.name)
    getattr(owner, field.name).extend(values)


@_of_message
def copy_field(message, where, what):
    """Copy a field of the same type from elsewhere: so references name other things, and nodes read themselves."""
    owner, field = pick(_fields(message), where)
    alike = [(o, f) for o, f in _fields(message) if f.type == field.type and f.message_type == field.message_type]
    from_owner, other = pick(alike, what)
    source = getattr(from_owner, other.name)
    source = pick(list(source), what // 64) if _many(other) else source
    if field.type == field.TYPE_MESSAGE:
        copy = type(source)()
        copy.CopyFrom(source)
        if _many(field):
            getattr(owner, field.name).append(copy)
        else:
            getattr(owner, field.name).CopyFrom(copy)
    elif _many(field):
        values = getattr(owner, field.name)
        values[what // 1024 % len(values)] = source
    else:
        setattr(owner, field.name, source)


@_of_message
def add_field(message, where, what):
    """Give an unusual value to a field that was not set."""
    places = [(o, f) for o in _messages(message) for f in o.DESCRIPTOR.fields if _many(f) or not o.HasField(f.name)]
    owner, field = pick(places, where)
    if field.type == field.TYPE_MESSAGE:
        getattr(owner, field.name).add() if _many(field) else getattr(owner, field.name).SetInParent()
    elif _many(field):
        getattr(owner, field.name).append(_odd_scalar(field, what))
    else:
        setattr(owner, field.name, _odd_scalar(field, what))


def unknown_fields(data, where, what):
    """Append fields that no schema has, and nested groups."""
    n = pick(SEVERAL, what // 4)
    return data + pick([b"\xf8\xff\x01\x01" * n, b"\xfa\xff\x01\x03abc" * n, b"\x0b" * n, b"\x0b" * n + b"\x0c" * n],
                       what)


def _length_delimited(number, payload):
    tag, size, out = number << 3 | 2, len(payload), bytearray()
    for value in (tag, size):
        while value > 127:
            out.append(value & 127 | 128)
            value >>= 7
        out.append(value)
    return bytes(out) + payload


def nested_fields(circle, lead=()):
    """Make a mutation that adds deeply nested messages: field numbers `lead` first, then `circle` again and again."""
    def nested(data, where, what):
        inner = b""
        for _ in range(min(pick(SEVERAL, what), 3000)):
            for number in reversed(circle):
                inner = _length_delimited(number, inner)
        for number in reversed(lead):
            inner = _length_delimited(number, inner)
        return data + inner
    return nested


def protobuf(kind):
    """List the mutations of files that hold one message of this class."""
    return [m(kind) for m in (odd_field, odd_field, odd_field, drop_field, double_field, swap_fields, copy_field,
                              copy_field, add_field, add_field)] + [unknown_fields]


# ---- ONNX

OPERATORS = sorted({s.name for s in onnx.defs.get_all_schemas() if s.domain == ""})
ARRAYS = [np.zeros(0, np.float32), np.float32(np.nan), np.full(8, np.inf, np.float32), np.array([-1], np.int64),
          np.array([0], np.int64), np.array([2 ** 62], np.int64), np.array([1, 3, 10 ** 9, 10 ** 9], np.int64),
          np.array([0, 0, -1, -1], np.int64), np.array(2 ** 31, np.int64), np.ones((1, 1, 1, 1, 1, 1), np.float32),
          np.ones((8, 3, 3, 3), np.float64), np.ones((8, 3, 3, 3), np.float16), np.array(["a"], object),
          np.array([True]), np.ones((8, 8), np.float32), np.array([10 ** 9] * 2, np.int64), np.array([1, -1], np.int64),
          np.zeros((8, 0, 3, 3), np.float32), np.array([2 ** 31 - 1], np.int32), np.float32([1e38]), np.complex64([1j])]
ATTRIBUTES = [-1, 0, 1, 2, 2 ** 31, 2 ** 62, 2 ** 63 - 1, -2 ** 63, float("nan"), 0.5, 1e38, "", "SAME_UPPER", "linear",
              "\x1b[31m", b"\xff", [0], [0, 0], [-1, -1], [1, 1], [2 ** 62, 2 ** 62], [10 ** 9] * 4, [-5] * 4,
              [2 ** 31] * 2, [], [0, 1, 2, 3], [3, 2, 1, 0], [0, 0, 0, 0], [1.5], [1] * 9, [2 ** 62] * 4, [1, 2 ** 62],
              [7, 7, 7, 7], [10 ** 6] * 4]
PLACES = ["../cat.png", "/dev/zero", "/etc/passwd", "pipe", ".", "", "cat.png", "no.bin", "net.onnx", "a" * 300, "\n",
          "/dev/stdin", "link.bin", "./cat.png", "w.bin"]


@_of_message
def other_operator(model, where, what):
    """Change the type of a node, but not its attributes."""
    pick(model.graph.node, where).op_type = pick(OPERATORS, what)


@_of_message
def odd_attribute(model, where, what):
    """Give an unusual value to an attribute of a node."""
    node = pick(model.graph.node, where)
    try:
        known = sorted(onnx.defs.get_schema(node.op_type, 17).attributes)
    except onnx.defs.SchemaError:
        known = ["axis"]
    name = pick(known or ["axis"], what)
    value = pick(ATTRIBUTES, what // 16)
    for i, attribute in enumerate(node.attribute):
        if attribute.name == name:
            del node.attribute[i]
            break
    node.attribute.append(helper.make_attribute(name, value) if value != [] else
                          onnx.AttributeProto(name=name, type=onnx.AttributeProto.INTS))


@_of_message
def odd_weights(model, where, what):
    """Replace weights by some of another shape, type or value."""
    tensor = pick(model.graph.initializer, where)
    tensor.CopyFrom(numpy_helper.from_array(pick(ARRAYS, what), tensor.name))


@_of_message
def odd_dims(model, where, what):
    """Declare dims of weights that do not match their data."""
    tensor = pick(model.graph.initializer, where)
    del tensor.dims[:]
    tensor.dims.extend(pick([[-1], [0], [2 ** 62, 4], [2 ** 32, 2 ** 32], [1] * 70, [], [2 ** 63 - 1], [3, -1, -1],
                             [10 ** 9, 10 ** 9], [8, 3, 3, 3], [10 ** 10]], what))


@_of_message
def odd_input(model, where, what):
    """Declare another size of the input."""
    shape = model.graph.input[0].type.tensor_type.shape
    dim = pick(shape.dim, where)
    dim.Clear()
    value = pick([*INTS, "N", "", "\n", None], what)
    if isinstance(value, str):
        dim.dim_param = value
    elif value is not None:
        dim.dim_value = value


@_of_message
def external_weights(model, where, what):
    """Declare that weights are in another file, which may not exist."""
    tensor = pick(model.graph.initializer, where)
    tensor.ClearField("raw_data")
    tensor.ClearField("float_data")
    tensor.data_location = TensorProto.EXTERNAL
    del tensor.external_data[:]
    tensor.external_data.add(key="location", value=pick(PLACES, what))
    for i, key in enumerate(("offset", "length")):
        value = pick([None, "0", "-1", "x", str(2 ** 62), "10", "9" * 30, "1e3"], what // 16 // 8 ** i)
        if value is not None:
            tensor.external_data.add(key=key, value=value)


@_of_message
def long_chain(model, where, what):
    """Append a chain of many nodes."""
    name = model.graph.node[-1].output[0]
    for i in range(pick(LENGTHS, what)):
        model.graph.node.append(helper.make_node(pick(["Relu", "Add", "Sigmoid", "Identity"], where),
                                                 [name] * (1 + (where % 4 == 1)),
                                                 [f"chain{i}"]))
        name = f"chain{i}"


@_of_message
def bomb(model, where, what):
    """Append nodes that would compute huge tensors."""
    size = pick([10 ** 4, 10 ** 7, 10 ** 9, 2 ** 40, 2 ** 62], what)
    last = model.graph.node[-1].output[0]
    big = {0: ([size], "Add"), 1: ([1, size, 1, 1], "Add"), 2: ([size, size], "Mul")}[where % 3]
    model.graph.initializer.append(numpy_helper.from_array(np.array(big[0], np.int64), "much"))
    model.graph.node.extend([helper.make_node("ConstantOfShape", ["much"], ["many"]),
                             pick([helper.make_node("ReduceSum", ["many"], ["few"], keepdims=0),
                                   helper.make_node("Shape", ["many"], ["few"]),
                                   helper.make_node("Identity", ["many"], ["few"])],
                                  where // 3),
                             helper.make_node(big[1], [last, "few"], ["after"])])


@_of_message
def odd_property(model, where, what):
    """Change the metadata, which a converted net holds as JSON."""
    if not model.metadata_props:
        model.metadata_props.add(key=pick(["writes", "ends", "data", "data_shape", "left_out", "mean", "converter"],
                                          where),
                                 value=pick(["[]", "{}", "data", "[1, 3, 32, 32]", "", "x", "null"], what))
        return
    prop = pick(model.metadata_props, where)
    changed = pick(JSON, what)(prop.value.encode(), what // 16, where // 8)
    prop.value = changed.decode("utf-8", "replace")


@_of_message
def odd_opset(model, where, what):
    entry = pick(model.opset_import, where) if model.opset_import else model.opset_import.add()
    if what % 4:
        entry.version = pick([0, -1, 8, 9, 10, 11, 12, 13, 14, 15, 16, 18, 19, 20, 21, 22, 23, 24, 99, 2 ** 62],
                             what // 4)
    else:
        entry.domain = pick(["ai.onnx", "com.microsoft", "x", "\n", "ai.onnx.ml"], what // 4)


ONNX = protobuf(onnx.ModelProto) + [m(onnx.ModelProto) for m in (
    other_operator, other_operator, odd_attribute, odd_attribute, odd_attribute, odd_weights, odd_weights, odd_dims,
                                                                 odd_input,
    external_weights, long_chain, bomb, odd_property, odd_opset)] + [
    nested_fields((1, 5, 6), (7,)), nested_fields((4, 1), (7, 11, 2))]     # graphs in attributes; types in types


# ---- Caffe

CAFFE_WORDS = sorted({f.name for m in pb.DESCRIPTOR.message_types_by_name.values() for f in m.fields})


def more_layers(data, where, what):
    """Append a chain of many layers, which work in place or have a blob each."""
    tops = re.findall(rb'top: "([^"]*)"', data)
    name, text = (pick(tops, where) if tops else b"data").decode("utf-8", "replace"), []
    kind = pick(["ReLU", "Power", "Exp", "Split", "LRN"], where // 2)
    for i in range(pick(LENGTHS, what)):
        top = name if where % 2 else f"more{i}"
        text.append(f'layer {{ name: "more{i}" type: "{kind}" bottom: "{name}" top: "{top}" }}\n')
        name = top
    return data + "".join(text).encode()


def unknown_layer(data, where, what):
    """Append a layer that is not supported, with fields that Caffe does not have."""
    n = pick([1, 2, 3, 5, 8, 10, 10, 10, 30, 100, 300, 3000], what)
    body = " ".join(f"field{i}: {i}" for i in range(n)) if where % 2 else "foreign_param { " + "x { y: 1 } " * n + "}"
    return data + f'layer {{ name: "odd" type: "Wobble" bottom: "data" top: "odd" {body} }}\n'.encode()


PROTOTXT = TEXT * 2 + [words(CAFFE_WORDS)] * 2 + [more_layers, unknown_layer, lines(
    ['input: "data"', "input_dim: 1", "input_shape { dim: 1 dim: 3 dim: 32 dim: 32 }", 'layer { name: "a" }',
     'layers { name: "a" type: RELU bottom: "data" top: "a" }',
     'layers { layer { name: "a" type: "relu" } bottom: "data" top: "a" }',
     'layer { name: "a" type: "Python" bottom: "data" top: "a" }', "force_backward: true", 'state { phase: TRAIN }',
     'layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 2147483647 } }', "}", "{",
     'name: "\\xff\\n"'])]


# ---- pieces of picture files

def _png(data):
    pieces, at = [data[:8]], 8
    while at + 12 <= len(data):
        size = int.from_bytes(data[at:at + 4], "big")
        pieces.append(data[at + 4:at + 8 + size])
        at += 12 + size
    return pieces


def _png_joined(pieces):
    def whole(piece):
        return max(0, len(piece) - 4).to_bytes(4, "big") + piece + zlib.crc32(piece).to_bytes(4, "big")
    return pieces[0] + b"".join(map(whole, pieces[1:]))


def _jpeg(data):
    """Split into segments, up to the compressed pixels, which are the last piece."""
    pieces, at = [data[:2]], 2
    while at + 4 <= len(data) and data[at] == 0xFF and data[at + 1] != 0xDA:
        size = int.from_bytes(data[at + 2:at + 4], "big")
        pieces.append(data[at:at + 2] + data[at + 4:at + 2 + size])
        at += 2 + size
    return [*pieces, data[at:]]


def _jpeg_joined(pieces):
    return pieces[0] + b"".join(p[:2] + min(len(p), 65535).to_bytes(2,
                                                                    "big") + p[2:] for p in pieces[1:-1]) + pieces[-1]


def _riff(data):
    pieces, at = [data[:12]], 12
    while at + 8 <= len(data):
        size = int.from_bytes(data[at + 4:at + 8], "little")
        pieces.append(data[at:at + 4] + data[at + 8:at + 8 + size])
        at += 8 + size + size % 2
    return pieces


def _riff_joined(pieces):
    body = b"".join(p[:4] + max(0, len(p) - 4).to_bytes(4, "little") + p[4:] + b"\0" * (len(p) % 2) for p in pieces[1:])
    return pieces[0][:4] + (len(body) + 4).to_bytes(4, "little") + pieces[0][8:] + body


def _tiff(data):
    """Split into everything before the entries of the directory, the entries, and everything after them."""
    at = int.from_bytes(data[4:8], "little")
    n = int.from_bytes(data[at:at + 2], "little")
    end = at + 2 + 12 * n
    return [data[:at + 2], *(data[i:i + 12] for i in range(at + 2, end, 12)), data[end:]]


PICTURES = {b"\x89PNG": (_png, _png_joined), b"\xff\xd8\xff": (_jpeg, _jpeg_joined), b"RIFF": (_riff, _riff_joined),
            b"II*\0": (_tiff, b"".join)}


def _of_pieces(change):
    """Make a mutation of a picture file's pieces, whose lengths and checksums are corrected afterwards."""
    @functools.wraps(change)
    def mutation(data, where, what):
        for magic, (split, join) in PICTURES.items():
            if data.startswith(magic):
                pieces = split(data)
                if len(pieces) > 1:
                    change(pieces, 1 + where % (len(pieces) - 1), what)
                return join(pieces)
        return data
    return mutation


@_of_pieces
def odd_number_in_piece(pieces, i, what):
    pieces[i] = write_number(pieces[i], what // 256, what)


@_of_pieces
def noise_in_piece(pieces, i, what):
    pieces[i] = pieces[i][:4] + insert_noise(pieces[i][4:], what, what)


@_of_pieces
def drop_piece(pieces, i, what):
    del pieces[i]


@_of_pieces
def double_piece_of_picture(pieces, i, what):
    pieces[i:i + 1] = [pieces[i]] * pick([2, 3, 100], what)


@_of_pieces
def swap_pieces(pieces, i, what):
    j = 1 + what % (len(pieces) - 1)
    pieces[i], pieces[j] = pieces[j], pieces[i]


@_of_pieces
def shorten_piece(pieces, i, what):
    pieces[i] = pieces[i][:what % (len(pieces[i]) + 1)]


NEW_PIECES = [      # without lengths and checksums: of PNG, of JPEG (these begin with ff), of WebP, of TIFF
    b"tEXtdeepdream\0", b"zTXtdeepdream\0\0" + zlib.compress(b"{}" * 10 ** 6), b"iTXtdeepdream\0\0\0\0\0\xff\xfe",
    b"eXIfMM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\x09\0\0\0\0\0\0", b"eXIf", b"iCCPx\0\0" + zlib.compress(bytes(200)),
    b"acTL\0\0\0\x09\0\0\0\0", b"tRNS\0\1", b"gAMA\0\0\0\0", b"pHYs" + bytes(9), b"sRGB\x09", b"PLTE\0\0",
    b"\xff\xfe{\"seed\": 1", b"\xff\xe1Exif\0\0MM\0*\0\0\0\x08\xff\xff", b"\xff\xee" + b"Adobe\0d\0\0\0\0\1",
    b"\xff\xe1Exif\0\0II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0", b"\xff\xe2ICC_PROFILE\0\1\2x",
    b"\xff\xe2MPF\0II*\0\x08\0\0\0\xff\xff", b"EXIF\xff\xff", b"ANIM\0\0\0\0\0\0", b"ICCPxx", b"XMP \xff",
    b"\x12\1\3\0\1\0\0\0\x09\0\0\0", b"\x0e\1\2\0\xff\xff\xff\x7f\x08\0\0\0"]


@_of_pieces
def new_piece(pieces, i, what):
    """Insert metadata as other programs write it, some of it damaged."""
    pieces.insert(i, pick(NEW_PIECES, what))


PIECES = [odd_number_in_piece, odd_number_in_piece, noise_in_piece, drop_piece, double_piece_of_picture, swap_pieces,
          shorten_piece, new_piece]


def zeros_deflated(size):
    """Compress `size` zeros, rounded up to whole megabytes, without making all of them."""
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    piece = pack.compress(bytes(1 << 20)) + pack.flush(zlib.Z_FULL_FLUSH)
    return b"\x78\xda" + piece * -(-size >> 20) + b"\3\0" + b"\0\0\0\1"


def huge_picture(data, where, what):
    """Return a PNG of a few kilobytes with very many pixels."""
    w, h = pick([(3000, 2000), (1, 60000), (60000, 1), (12000, 12000), (20000, 10000), (40000, 40000),
                 (2 ** 31 - 1, 2 ** 31 - 1), (1, 1), (0, 5)], what)
    mode, channels = pick([(2, 3), (0, 1), (6, 4)], where)
    rows = zeros_deflated(min(h * (1 + w * channels), 1 << 30))
    return _png_joined([data[:8] if data.startswith(b"\x89PNG") else b"\x89PNG\r\n\x1a\n",
                        b"IHDR" + struct.pack(">IIBBBBB", w, h, 8, mode, 0, 0, 0), b"IDAT" + rows, b"IEND"])


# ---- .npz

def _members(data):
    with zipfile.ZipFile(io.BytesIO(data)) as file:
        return {name: file.read(name) for name in file.namelist()}


def _zip(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, data in members.items():
            archive.writestr(zipfile.ZipInfo(name), data, method)
    return file.getvalue()


def _npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def _of_members(change):
    @functools.wraps(change)
    def mutation(data, where, what):
        try:
            members = _members(data)
        except (zipfile.BadZipFile, NotImplementedError, RuntimeError, OSError, ValueError, zlib.error, EOFError,
                KeyError):
            return data
        if not members:
            return data
        change(members, pick(list(members), where), what)
        return _zip(members, pick([zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED], what // 4096))
    return mutation


@_of_members
def odd_member(members, name, what):
    """Replace an array."""
    members[name] = _npy(pick([np.array(v) for v in (0, -1, 2 ** 62, 2.5, np.nan, "x", "", b"x", True, [1, 2], [], 1j,
                                                     10 ** 30)] + [
        np.zeros((0, 0, 3)), np.zeros((32, 40)), np.zeros((32, 40, 4)), np.full((32, 40, 3), np.nan),
                                                                   np.full((32, 40, 3), np.inf),
        np.zeros((32, 40, 3), np.uint8), np.full((32, 40, 3), 1e300), np.zeros((1, 1, 3), np.float32),
                                                                   np.zeros((31, 40, 3), np.float32),
        np.zeros((32, 40, 3), "datetime64[s]"), np.zeros((32, 40, 3), complex), np.zeros((32, 40, 3), "S4"),
        np.zeros((32, 40, 3), [("a", "f4")]), np.array({"a": 1}), np.array([None, "a"], object), np.array("9" * 5000),
        np.array("[" * 100000), np.array('{"seed": ' + "9" * 5000 + "}"), np.array("{}"), np.array("null"),
                                                                   np.array("[]"),
        np.zeros((400, 300, 3), np.float32), np.array(2 ** 31), np.array(10000), np.array("\ud800\n")], what))


@_of_members
def odd_header(members, name, what):
    """Write a header with another shape or type."""
    shape, kind = pick(["(99999999999,)", "(32, 40, 3, 9999999999)", "(-1,)", "(2147483648, 2147483648)",
                        "(1" + ",1" * 70 + ")", "5", "(32", "(40, 32, 3)", "(3840,)", "()"],
                       what), pick(["<f4", "|O", "<U9", ">f8", "x", "<M8[s]", "|V0",
                                                                      "<f4,<i4"], what // 16)
    header = f"{{'descr': '{kind}', 'fortran_order': False, 'shape': {shape}, }}".encode() + b"\n"
    members[name] = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + members[name][128:]


@_of_members
def bytes_in_member(members, name, what):
    members[name] = pick(BYTES, what)(members[name], what // 8, what // 64)


@_of_members
def drop_member(members, name, what):
    data = members.pop(name)
    if what % 2:
        members[pick(["frame", "x.npy", "../next.npy", "record.npy", "\n", "next.npy", ""], what // 2)] = data


@_of_members
def record_in_member(members, name, what):
    """Change the zoom's settings, which are JSON in an array of text."""
    try:
        text = str(np.load(io.BytesIO(members["record.npy"]), allow_pickle=False))
    except Exception:      # numpy raises many kinds
        return
    changed = pick(JSON, what)(text.encode("utf-8", "replace"), what // 16, what // 512)
    members["record.npy"] = _npy(np.array(changed.decode("utf-8", "replace")))


def swollen(data, where, what):
    """Return an archive with a small member that unpacks to a huge one."""
    size = pick([1 << 24, 1 << 28, 1 << 30, 1 << 32], what)
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': ({size // 4},), }}".encode().ljust(117) + b"\n"
    first = b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header
    pack = zlib.compressobj(9, zlib.DEFLATED, -15)
    packed = pack.compress(first) + pack.flush(zlib.Z_FULL_FLUSH) + zeros_deflated(size)[2:-4]
    name, total = pick([b"next.npy", b"frame.npy", b"record.npy"], where), min(len(first) + size, 2 ** 32 - 1)
    numbers = struct.pack("<HHHIIIHH", 8, 0, 0, 0, len(packed), total, len(name), 0)
    local = b"PK\3\4\x14\0\0\0" + numbers + name + packed
    central = b"PK\1\2\x14\0\x14\0\0\0" + numbers + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name
    return local + central + b"PK\5\6\0\0\0\0" + struct.pack("<HHIIH", 1, 1, len(central), len(local), 0)


NPZ = [odd_member] * 3 + [odd_header] * 2 + [bytes_in_member, drop_member] + [record_in_member] * 4 + [swollen]
