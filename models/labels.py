"""The names of a net's classes, one a line of a text file."""
import codecs
import re

from .errors import ModelError
from .paths import read_bytes

MOST = 4 << 20          # bytes of a file; the 82,000 nouns of WordNet with their glosses would not need more
CLASSES = 100_000       # lines
LONGEST = 200           # characters of a name that are kept


def read_labels(path) -> list[str]:
    """The names of the classes, one a line; `n01440764 tench, ...` and `/a/abbey 0` become `tench, ...` and `abbey`.

    UTF-8, else Latin-1 as Windows writes it (of which plain Latin-1 is a part). Raises ModelError, in one line, for
    what cannot be read or is no text.
    """
    text = _text(path).replace("\r\n", "\n").replace("\r", "\n")
    if control := re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", text):
        line = text.count("\n", 0, control.start()) + 1
        raise ModelError(f"{path}: holds control characters in line {line}; labels are text, a class a line")
    lines = text.split("\n")
    if len(lines) > CLASSES:
        raise ModelError(f"{path}: has {len(lines):,} lines; a class a line, at most {CLASSES:,} are read")
    return [_label(line, i) for i, line in enumerate(line.strip() for line in lines if line.strip())]


def _text(path):
    data = read_bytes(path, MOST)
    usual = ("utf-16",) if data.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)) else ("utf-8-sig", "cp1252")
    for encoding in usual:
        try:
            return data.decode(encoding)
        except UnicodeDecodeError:
            continue
    raise ModelError(f"{path}: is no text; labels are text in UTF-8 or Latin-1, a class a line")


def _label(line, i):
    if synset := re.fullmatch(r"n\d{8}\s+(.+)", line):
        line = synset[1].removesuffix(f" {i}")          # the hybrid Places nets' lists end each line with its index
    scene = re.fullmatch(r"/\w/(\S+) \d+", line)
    return (scene[1].replace("/", ", ").replace("_", " ") if scene else line)[:LONGEST]
