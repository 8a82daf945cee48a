"""The settings in the metadata of a dreamt film."""
from __future__ import annotations

import json
from pathlib import Path

from .. import pictures
from ..pictures.files import LONGEST
from .encoding import CONTAINERS
from .movie import Movie


def saved_settings(path: Path) -> dict:
    """Read the settings of a dreamt movie, or those of a picture or an animation.

    path: the file.

    Returns an empty dict if there are none. Raises DreamError for a file that is neither.
    """
    if path.suffix.lower() not in CONTAINERS:
        pictures.load(path)      # raises an error if the file is damaged or is not a picture
        return pictures.settings(path)
    with Movie(path).opened() as container:
        text = next((value for name, value in container.metadata.items() if name.lower() == "comment"), "")
    try:
        values = json.loads(text[:LONGEST])
    except (ValueError, RecursionError):
        return {}
    return values if isinstance(values, dict) else {}
