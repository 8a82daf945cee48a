"""Find out what kind of film a path is, and open it."""
from __future__ import annotations

from fractions import Fraction
from pathlib import Path

from .movie import Movie
from .source import Source
from .stills import ANIMATIONS, Animation, Folder

RATE = Fraction(25)      # frames a second of a folder of pictures


def open_film(path: str | Path, rate: Fraction | None = None) -> Source:
    """Open a film.

    path: a movie, an animated GIF or WebP, or a folder of pictures.
    rate: frames a second of a folder of pictures (default: 25); others have their own.

    Raises DreamError if it cannot be read.
    """
    if Path(path).is_dir():
        return Folder(path, rate or RATE)
    return Animation(path) if Path(path).suffix.lower() in ANIMATIONS else Movie(path)
