"""Films that are made of pictures: a folder of numbered frames, an animated GIF or WebP."""
from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path

import numpy as np

from .. import pictures
from ..errors import DreamError
from ..pictures.reading import opened
from .source import Frame

ANIMATIONS = (".gif", ".webp")
FORMATS = (*pictures.FORMATS, *pictures.ONLY_READ)
SHOWN = 100      # milliseconds that a frame is shown if an animation states 0, as browsers do


class Folder:
    """A folder of pictures, in natural order: 2.png before 10.png, 999.png before 1000.png.

    path: the folder.
    rate: frames a second.

    Attributes: those of `source.Source`, and `files`, the pictures. Raises DreamError for a folder without pictures.
    """

    def __init__(self, path: str | Path, rate: Fraction = Fraction(25)):
        self.path, self.rate, self.time_base = Path(path), rate, 1 / rate
        try:
            self.files = sorted((p for p in self.path.iterdir() if p.suffix.lower() in FORMATS and p.is_file()
                                 and not p.name.startswith(".")), key=natural)
        except OSError as error:
            raise DreamError(f"{path}: cannot be read: {error.strerror}") from None
        if not self.files:
            raise DreamError(f"{path}: holds no picture ({', '.join(FORMATS)})")
        first = pictures.read(self.files[0])
        self.size, self.transparent, self.count = first.size, first.alpha is not None, len(self.files)

    def frames(self, start: int | None = None) -> Iterator[Frame]:
        """Yield the frames; see `Source.frames`. A frame of another size raises DreamError."""
        for i in range(start or 0, len(self.files)):
            picture = pictures.read(self.files[i])
            if picture.size != self.size:
                raise DreamError(f"{self.files[i]}: has {picture.size[1]}x{picture.size[0]} pixels, and the frames "
                                 f"before it {self.size[1]}x{self.size[0]}; all must have the same size")
            alpha = picture.alpha
            if self.transparent and alpha is None:
                alpha = np.full(self.size, 255, np.uint8)
            yield Frame(i, 1, picture.colours if self.transparent else picture.on_white(), alpha)


def natural(path: Path) -> list:
    """Return a key that sorts names with numbers as people do."""
    return [(int(part), "") if part.isdigit() else (-1, part.casefold())
            for part in re.split(r"([0-9]+)", path.name) if part] + [(-2, path.name)]


class Animation:
    """An animated GIF or WebP.

    path: the file.

    Attributes: those of `source.Source`, and `loop`, how often it is shown (0: without end; None: once).
    """

    def __init__(self, path: str | Path):
        self.path, self.time_base = Path(path), Fraction(1, 1000)
        with opened(path) as image:
            self.size, self.count = image.size[::-1], getattr(image, "n_frames", 1)
            lengths = [length for _, length in self._lengths(image)]
            self.loop, self.transparent = image.info.get("loop"), self._transparent(image)
        self.rate = Fraction(1000 * len(lengths), sum(lengths)).limit_denominator(1000)

    def _lengths(self, image):
        """Go to each frame, and yield its time stamp and how long it is shown, in milliseconds."""
        stamp = 0
        for i in range(self.count):
            image.seek(i)
            image.load()      # only then a WebP file states the length
            length = int(image.info.get("duration") or SHOWN)
            yield stamp, length
            stamp += length

    def _transparent(self, image):
        for i in range(self.count):
            image.seek(i)
            if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
                return True
        return False

    def frames(self, start: int | None = None) -> Iterator[Frame]:
        """Yield the frames; see `Source.frames`."""
        with opened(self.path) as image:
            for stamp, length in self._lengths(image):
                if start is None or stamp >= start:
                    pixels = np.asarray(image.convert("RGBA"))
                    yield Frame(stamp, length, np.float32(pixels[..., :3]),
                                pixels[..., 3].copy() if self.transparent else None)
