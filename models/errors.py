"""The one exception of this package, and how a message shows what came from elsewhere."""
import reprlib

SHOWN = 80      # characters


class ModelError(Exception):
    """One line for people: the file, the model or the option, what is wrong with it, what is allowed."""


def short(text, most=SHOWN):
    """A text from elsewhere in one line that a terminal may show: without control characters, cut to `most`."""
    text = "".join(c if c.isprintable() else " " for c in str(text)[:10 * most])
    text = " ".join(text.split())
    return text if len(text) <= most else text[:most - 3] + "..."


def shown(value):
    """A value as a message names it, however long or deep it is."""
    return short(reprlib.repr(value) if isinstance(value, (list, dict)) else repr(value))
