"""The exception of this package, and helpers that make any text safe for an error message."""
import reprlib

SHOWN = 80      # maximum length of a value in a message, in characters


class ModelError(Exception):
    """An error that the user can correct. Its message is one line: what is wrong, where, and what is allowed."""


def short(text: object, limit: int = SHOWN) -> str:
    """Return a text in one line, without control characters, so that it can be shown on a terminal.

    text: any text, also from a file or a server.
    limit: maximum length; the rest is cut off.
    """
    text = "".join(c if c.isprintable() else " " for c in str(text)[:10 * limit])
    text = " ".join(text.split())
    return text if len(text) <= limit else text[:limit - 3] + "..."


def shown(value: object) -> str:
    """Return a value as a short text for a message, however long or deeply nested it is."""
    return short(reprlib.repr(value) if isinstance(value, (list, dict)) else repr(value))
