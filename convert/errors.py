"""The exception for errors that the user can fix, and helpers for its messages."""
from __future__ import annotations

import contextlib
import difflib
import os
from collections.abc import Iterator, Sequence


class ConvertError(ValueError):
    """An error that the user can fix: one line with the file, layer or option, what is wrong and what is allowed."""


@contextlib.contextmanager
def about(path: str | os.PathLike, *others: str | os.PathLike) -> Iterator[None]:
    """Turn any exception that a file causes, in other libraries too, into a ConvertError that names the file.

    A ConvertError that already names one of the files is raised unchanged. The original exception stays attached as
    the cause.

    path: the file that the message names, or another description of what is being read.
    others: further files that are read in the same block.
    """
    try:
        yield
    except ConvertError as error:
        if any(str(p) in str(error) for p in (path, *others)):
            raise
        raise ConvertError(f"{path}: {error}") from error
    except RecursionError as error:
        raise ConvertError(f"{path}: damaged, or not a net: it is nested too deeply") from error
    except MemoryError as error:
        raise ConvertError(f"{path}: not enough memory for what it asks for") from error
    except Exception as error:
        what = shown(" ".join(str(error).split()), 200)
        raise ConvertError(f"{path}: damaged, or not a supported net ({type(error).__name__}: {what})") from error


def shown(text: object, limit: int = 80) -> str:
    """Make a name from a file or a user fit into a message of one line.

    text: the name. Characters that do not print are written as Python's escapes.
    limit: the maximum number of characters. A longer name loses its middle.
    """
    text = str(text)
    if len(text) > 2 * limit:      # do not process a huge text
        text = text[:limit] + text[-limit:]
    text = "".join(c if c.isprintable() else ascii(c)[1:-1] for c in text)
    tail = limit // 3
    return text if len(text) <= limit else f"{text[:limit - tail - 3]}...{text[-tail:]}"


def no_such_end(end: str, valid: Sequence[str]) -> ConvertError:
    """Return the error for an unknown `end`, which suggests the valid ones with the most similar names."""
    near = difflib.get_close_matches(end, valid, 3, 0.4) or [v for v in valid if end and end in v][:3]
    hint = f"the {'nearest' if near else 'first'} are {', '.join(map(shown, near or valid[:5]))}"
    return ConvertError(f"no such end: '{shown(end)}'; {hint}; {len(valid)} in all: "
                        "`python -m deepdream layers` or `python -m convert --list` lists them")
