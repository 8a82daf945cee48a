"""Label files: the names of a net's classes, one on each line."""
import codecs
import re
from pathlib import Path

from .errors import ModelError
from .paths import read_bytes

LIMIT = 4 << 20         # maximum size of a file, in bytes: enough for all 82,000 nouns of WordNet with their glosses
CLASSES = 100_000       # maximum number of lines
LONGEST = 200           # maximum length of a name, in characters; the rest is cut off


def read_labels(path: str | Path) -> list[str]:
    """Read a label file.

    path: a text file in UTF-8, UTF-16 or Windows-1252, which includes Latin-1.

    Returns the names without the numbers of ImageNet and Places: `n01440764 tench, ...` becomes `tench, ...`, and
    `/a/abbey 0` becomes `abbey`. If a line with a number of ImageNet ends with its index, that is cut off as well.
    Raises ModelError for a file that cannot be read or is not text.
    """
    text = _text(path).replace("\r\n", "\n").replace("\r", "\n")
    if control := re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", text):
        line = text.count("\n", 0, control.start()) + 1
        raise ModelError(f"{path}: holds control characters in line {line}; labels are text, one class on each line")
    lines = text.split("\n")
    if len(lines) > CLASSES:
        raise ModelError(f"{path}: has {len(lines):,} lines; labels have one class on each line, at most {CLASSES:,}")
    return [_label(line, i) for i, line in enumerate(line.strip() for line in lines if line.strip())]


def _text(path):
    data = read_bytes(path, LIMIT)
    utf16 = data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    for encoding in ("utf-16",) if utf16 else ("utf-8-sig", "cp1252"):
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ModelError(f"{path}: is not text; labels are text in UTF-8 or Latin-1, one class on each line")


def _label(line, i):
    if synset := re.fullmatch(r"n\d{8}\s+(.+)", line):
        line = synset[1].removesuffix(f" {i}")          # the list of the hybrid Places nets numbers its lines
    scene = re.fullmatch(r"/\w/(\S+) \d+", line)
    return (scene[1].replace("/", ", ").replace("_", " ") if scene else line)[:LONGEST]
