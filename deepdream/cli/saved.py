"""What each command reads from the settings that are saved in a picture, and the option --settings itself."""
from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import NamedTuple

from ..options import Kind


class Entry(NamedTuple):
    """An entry of a picture's metadata that becomes an argument of a command.

    argument: the name of the parsed argument.
    accepts: tells whether a value of the entry is allowed.
    convert: converts the value to that of the argument.
    """
    argument: str
    accepts: Callable[[object], bool]
    convert: Callable[[object], object] = lambda value: value


class Form(NamedTuple):
    """What a command reads from a picture.

    what: what such a picture is, for messages.
    needs: the entries that its metadata has.
    entries: {entry of the metadata: Entry}, in addition to the settings of a dream, the net and the pictures.
    frames: whether frames of a zoom are such pictures.
    model: the argument that names the net: 'model', or 'models' for a list.
    guide: the argument that names the guide: 'guide', 'guides' for a list, or None if the command has none.
    older: the values of entries that older versions did not write.
    """
    what: str
    needs: tuple[str, ...]
    entries: dict[str, Entry] = {}
    frames: bool = False
    model: str = "model"
    guide: str | None = None
    older: dict[str, object] = {}


def is_kind(kind: Kind) -> Callable[[object], bool]:
    """Return a test for values of a kind, which also accepts None: an option that was not used."""
    return lambda value: value is None or kind.accepts(value)


def list_of(kind: Kind) -> Callable[[object], bool]:
    """Return a test for lists of values of a kind, with at least one."""
    return lambda value: isinstance(value, list) and len(value) > 0 and all(map(kind.accepts, value))


def add_settings(parser: ArgumentParser, form: Form) -> None:
    """Add --settings to a command's parser."""
    picture = " The picture that it was made from is read again, if it is there and has not changed." \
        if form.what != "a class picture" else ""
    parser.add_argument("--settings", metavar="PICTURE", help=f"use the settings that are saved in {form.what} made "
                        "with this program, including the seed; other options on the command line take precedence."
                        + picture)
