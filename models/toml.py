"""Cards in TOML: read within bounds, every key checked. Whatever is wrong is one line that names the file and the key.

A check takes a TOML value and returns it as it is wanted, or raises ValueError("must be ..., not ...").
"""
import re
import tomllib

from .errors import ModelError, short, shown
from .paths import read_bytes

MOST = 1 << 16              # bytes of a file, far more than any card has
LONGEST_LINE = 2000         # characters: the time for a dotted key grows with the square of its length, and a number
                            # of more than 4300 digits could not be shown


def read(path, table: dict) -> dict:
    """{key: value} of a TOML file, each checked by `table`, {key: check}. Raises ModelError."""
    try:
        text = read_bytes(path, MOST).decode("utf-8-sig")
        if max(map(len, text.split("\n"))) > LONGEST_LINE:
            raise ValueError(f"a line has more than {LONGEST_LINE:,} characters")
        given = tomllib.loads(text)
    except (ValueError, RecursionError) as error:      # ValueError: also of what is no UTF-8, no TOML
        raise ModelError(f"{path}: no readable TOML: {short(error)}") from None
    return checked(table, given, str(path))


def checked(table: dict, given: dict, where: str) -> dict:
    """`given` after the checks of `table`; where: what stands before the complaint."""
    for key in given:
        if key not in table:
            close = near(key[:100], table, 1)
            raise ModelError(f"{where}: unknown key {shown(key)}" + (f", did you mean {close[0]!r}?" if close else "")
                             + f" (allowed: {', '.join(table)})")
    out = {}
    for key, value in given.items():
        try:
            out[key] = table[key](value)
        except ValueError as error:
            raise ModelError(f"{where}: {key} {error}") from None
    return out


def near(word: str, words, n: int) -> list[str]:
    """The words that come nearest."""
    import difflib  # slow to import, and only errors need it
    return difflib.get_close_matches(word, list(words), n=n, cutoff=0.5)


# --- checks -----------------------------------------------------------------------------------------------------------

def when(condition, must, value):
    """The value; ValueError if the condition does not hold."""
    if not condition:
        raise ValueError(f"must be {must}, not {shown(value)}")
    return value


def is_text(value):
    return isinstance(value, str) and bool(value.strip()) and not re.search(r"[\x00-\x08\x0e-\x1f\x7f-\x9f]", value)


def text(value):
    return " ".join(when(is_text(value), "a text", value).split())


def name(value):
    return when(isinstance(value, str) and re.fullmatch(r"\w[\w.+-]{0,199}", value), "a plain file name", value)


def number(low, high):
    """The check of a number from `low` to `high`."""
    return lambda value: when(is_number(value, low, high), f"a number from {low:g} to {high:g}", value)


def whole(low, high):
    """The check of a whole number from `low` to `high`."""
    must = f"a whole number from {low} to {high}"
    return lambda value: when(type(value) is int and low <= value <= high, must, value)


def is_number(value, low, high):
    return type(value) in (int, float) and low <= value <= high


def is_list(value, test, lengths=range(1, 1000)):
    """Whether a value is a list of so many values for which `test` holds."""
    return isinstance(value, list) and len(value) in lengths and all(map(test, value))


def one_of(*allowed):
    """The check of a value that is one of a few texts."""
    return lambda value: when(isinstance(value, str) and value in allowed, " or ".join(allowed), value)
