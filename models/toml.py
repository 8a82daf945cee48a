"""Reading model cards in TOML, with a check for every key and limits on the size.

A check is a function that takes a value from TOML and returns the value to use, or raises ValueError("must be ...,
not ..."). Errors become a ModelError of one line that names the file and the key.
"""
from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Container, Iterable
from pathlib import Path

from .errors import ModelError, short, shown
from .paths import read_bytes

LIMIT = 1 << 16             # maximum size of a file, in bytes: far more than any card needs
LONGEST_LINE = 2000         # maximum length of a line, in characters: the time to read a dotted key grows with the
                            # square of its length, and Python cannot print a number of more than 4300 digits


def read(path: str | Path, table: dict[str, Callable]) -> dict:
    """Read a TOML file.

    path: the file.
    table: {key: check} of all keys that are allowed.

    Returns {key: value}. Raises ModelError.
    """
    try:
        text = read_bytes(path, LIMIT).decode("utf-8-sig")
        if max(map(len, text.split("\n"))) > LONGEST_LINE:
            raise ValueError(f"a line has more than {LONGEST_LINE:,} characters")
        values = tomllib.loads(text)
    except (ValueError, RecursionError) as error:      # ValueError includes errors in UTF-8 and in TOML
        raise ModelError(f"{path}: not readable as TOML: {short(error)}") from None
    return checked(table, values, str(path))


def checked(table: dict[str, Callable], values: dict, where: str) -> dict:
    """Check the values of a TOML table.

    table: {key: check} of all keys that are allowed.
    values: {key: value from TOML}.
    where: the file and the place in it; begins an error message.

    Returns {key: value}. Raises ModelError.
    """
    for key in values:
        if key not in table:
            close = near(key[:100], table, 1)
            raise ModelError(f"{where}: unknown key {shown(key)}" + (f", did you mean {close[0]!r}?" if close else "")
                             + f" (allowed: {', '.join(table)})")
    out = {}
    for key, value in values.items():
        try:
            out[key] = table[key](value)
        except ValueError as error:
            raise ModelError(f"{where}: {key} {error}") from None
    return out


def near(word: str, words: Iterable[str], n: int) -> list[str]:
    """Return up to n of the words that are similar to a word, for an error message."""
    import difflib      # slow to import, and only errors need it
    return difflib.get_close_matches(word, list(words), n=n, cutoff=0.5)


# --- checks -----------------------------------------------------------------------------------------------------------

def when(condition: object, must: str, value: object) -> object:
    """Return a value if a condition holds, or raise ValueError.

    condition: whether the value is allowed.
    must: what is allowed, in words.
    value: the value.
    """
    if not condition:
        raise ValueError(f"must be {must}, not {shown(value)}")
    return value


def is_text(value: object) -> bool:
    """Return whether a value is a text that is not blank and has no control characters but white space."""
    return isinstance(value, str) and bool(value.strip()) and not re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", value)


def text(value: object) -> str:
    """Check a text. Returns it in one line."""
    return " ".join(when(is_text(value), "a text", value).split())


def name(value: object) -> str:
    """Check the name of a file in the same folder."""
    return when(isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,199}", value), "a plain file name", value)


def number(low: float, high: float) -> Callable:
    """Return a check for numbers from `low` to `high`."""
    return lambda value: when(is_number(value, low, high), f"a number from {low:g} to {high:g}", value)


def whole(low: int, high: int) -> Callable:
    """Return a check for whole numbers from `low` to `high`."""
    must = f"a whole number from {low} to {high}"
    return lambda value: when(type(value) is int and low <= value <= high, must, value)


def is_number(value: object, low: float, high: float) -> bool:
    """Return whether a value is a number from `low` to `high`."""
    return type(value) in (int, float) and low <= value <= high


def is_list(value: object, test: Callable[[object], bool], lengths: Container[int] = range(1, 1000)) -> bool:
    """Return whether a value is a list.

    value: any value.
    test: whether an item of the list is allowed.
    lengths: the lengths that are allowed.
    """
    return isinstance(value, list) and len(value) in lengths and all(map(test, value))


def one_of(*allowed: str) -> Callable:
    """Return a check for one of a few texts."""
    return lambda value: when(isinstance(value, str) and value in allowed, " or ".join(allowed), value)
