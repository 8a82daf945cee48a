"""Reading pictures: their colours as sRGB, their alpha channel, and the EXIF that a dream of them keeps."""
from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from ..convert.console import one_line
from ..convert.errors import shown
from ..errors import DreamError
from ..runtime.free_memory import free_memory
from ..runtime.notices import say_once
from .colour import ProfileError, profile_of
from .exif import kept_exif

READABLE = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
# suffix -> what files of this name are that cannot be read
OTHERS = {".avif": "AVIF", ".heic": "HEIC", ".heif": "HEIC", ".j2k": "JPEG 2000", ".jp2": "JPEG 2000",
          ".jxl": "JPEG XL", ".psd": "Photoshop", ".svg": "SVG",
          **dict.fromkeys((".arw", ".cr2", ".cr3", ".dng", ".nef", ".orf", ".raf", ".rw2"), "raw")}
FILMS = (".avi", ".m4v", ".mkv", ".mov", ".mp4", ".webm")
BYTES = 40             # of memory for each pixel of a picture that is decoded and prepared for a net
ANIMATED = ("GIF", "WEBP", "PNG")
WITH_ALPHA = ("RGBA", "LA", "PA", "RGBa", "La")
STORED = {"L": "L", "LA": "L", "La": "L", "CMYK": "CMYK"}      # mode -> the mode of its colours; 'RGB' for all others


@dataclass(frozen=True)
class Picture:
    """A picture from a file.

    colours: float32 (H, W, 3), sRGB, 0 to 255. Where the picture is transparent, these are the colours that the file
        has there.
    alpha: the alpha channel, uint8 (H, W), 0 for transparent; None if the picture is opaque.
    exif: the EXIF that a dream of the picture keeps (see `exif`), as bytes; empty if there is none.
    """
    colours: np.ndarray
    alpha: np.ndarray | None = None
    exif: bytes = b""

    @property
    def size(self) -> tuple[int, int]:
        """The size (h, w), in pixels."""
        return self.colours.shape[:2]

    def on_white(self) -> np.ndarray:
        """Return the picture on a white background, float32 (H, W, 3)."""
        if self.alpha is None:
            return self.colours
        image = Image.fromarray(np.dstack([np.uint8(self.colours), self.alpha]))
        white = Image.new("RGBA", image.size, "white")
        return np.float32(Image.alpha_composite(white, image).convert("RGB"))

    def pixels(self, transparent: bool) -> np.ndarray:
        """Return the pixels to dream, float32 (H, W, 3).

        transparent: whether the file of the dream keeps the alpha channel. If so, these are the colours, otherwise the
            picture on a white background.
        """
        return self.colours if transparent else self.on_white()


@contextlib.contextmanager
def opened(path: str | Path | BinaryIO) -> Iterator[Image.Image]:
    """Open a picture file with Pillow. Any error inside of the `with` becomes a DreamError that names the file."""
    name = path if isinstance(path, (str, os.PathLike)) else "the picture"
    try:
        if name is path and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise DreamError(f"{path}: cannot be read: not a regular file")      # opening a pipe would block
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            yield image
    except DreamError:
        raise
    except FileNotFoundError:
        raise DreamError(f"{name}: no such picture") from None
    except UnidentifiedImageError:
        suffix = os.path.splitext(name)[1].lower()
        if suffix in OTHERS:
            raise DreamError(_unsupported(name, OTHERS[suffix])) from None
        raise DreamError(f"{name}: not a picture; JPEG, PNG, WebP and TIFF are supported"
                         + "; `deepdream video` dreams films" * (suffix in FILMS)) from None
    except Image.DecompressionBombError as error:
        raise DreamError(f"{name}: too large a picture: {error}") from None
    except MemoryError:
        raise DreamError(f"{name}: cannot be read: not enough memory for a picture of this size") from None
    except Exception as error:      # Pillow's decoders raise exceptions of many types: struct.error, IndexError ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DreamError(f"{name}: cannot be read: {shown(reason, 200)}") from None


def read(path: str | Path | BinaryIO) -> Picture:
    """Read a picture.

    A rotation in the metadata is applied, and colours are converted to sRGB by the picture's colour profile. Grey,
    palette, CMYK and 16-bit pictures are converted to RGB. Of several frames, the first is read. A colour profile or
    an EXIF that is damaged is ignored, and a line on stderr says so.

    path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM file, or an open file.

    Raises DreamError for a missing or damaged file, for other formats, and for a picture that does not fit into the
    free memory.
    """
    with opened(path) as image:
        if image.format not in READABLE:
            raise DreamError(_unsupported(path, image.format))
        check_memory(image, path)
        try:
            exif = kept_exif(image)      # before the pixels are loaded, which closes a TIFF file
        except Exception:      # Pillow raises exceptions of many types
            exif = None
        several = _has_several(image)
        image.load()
        profile, turned = image.info.get("icc_profile"), ImageOps.exif_transpose(image)
        colours, alpha = _decoded(turned, profile, path)
        if exif is None:
            _say(path, "its EXIF is damaged and is left out")
        if several:
            _say(path, "only the first page is read" if image.format == "TIFF" else
                 "only the first frame is read; `deepdream video` dreams them all")
        return Picture(np.float32(colours), alpha, exif or b"")


def load(path: str | Path | BinaryIO) -> np.ndarray:
    """Read a picture as RGB.

    Like `read`, and a transparent picture is put on a white background.

    path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM file, or an open file.

    Returns float32 (H, W, 3), 0 to 255. Raises DreamError for a missing or damaged file, and for other formats.
    """
    return read(path).on_white()


def check_memory(image: Image.Image, path: str | Path | BinaryIO) -> None:
    """Raise DreamError for a picture that is too large, before it is decoded: its file may be small.

    image: the picture, open.
    path: what the message calls it.
    """
    (w, h), free = image.size, free_memory()
    if free is not None and w * h * BYTES > free:
        raise DreamError(f"{path}: too large a picture: {w}x{h} pixels take about {w * h * BYTES / 1e9:.1f} GB, and "
                         f"{free / 1e9:.1f} GB are free")


def _unsupported(path, fmt):
    return f"{path}: {fmt} pictures are not supported; JPEG, PNG, WebP and TIFF are"


def _has_several(image):
    """Return whether a picture has several frames or pages. They are not counted, since that may take long."""
    if image.format not in (*ANIMATED, "TIFF"):
        return False
    try:
        image.seek(1)
        return True
    except Exception:      # there is no second one, or it is damaged; Pillow raises exceptions of many types
        return False
    finally:
        image.seek(0)


def _say(path, text):
    """Print a line about a picture, unless it is read from memory: then it was read from its file before."""
    if isinstance(path, (str, os.PathLike)):
        say_once(one_line(f"{path}: {text}"))


def _decoded(image, icc, path):
    """Return the colours of a picture, (H, W, 3), and its alpha channel, or None if it is opaque."""
    profile = None
    numeric = image.mode in ("I", "F") or image.mode.startswith("I;")
    if image.mode not in ("1", "LAB"):      # black and white are the same in all spaces, and LAB is a space of its own
        try:
            profile = profile_of(icc, "L" if numeric else STORED.get(image.mode, "RGB"))
        except ProfileError as error:
            _say(path, f"its colour profile {error}; it is ignored")
    if numeric:
        grey = _grey(image, path)
        return (profile.convert_grey(grey) if profile else np.repeat(grey[:, :, None], 3, axis=2)), None
    alpha = None
    if image.mode in WITH_ALPHA or "transparency" in image.info:
        image = image.convert("RGBA")
        alpha = np.asarray(image.getchannel("A"))
        image = image.convert("RGB")
    if profile:
        image = profile.convert(image if image.mode == profile.mode else image.convert(profile.mode))
    image = image if image.mode == "RGB" else image.convert("RGB")
    return np.asarray(image), alpha if alpha is not None and alpha.min() < 255 else None


def _grey(image, path):
    """Return the numbers of a picture of 16 bits or of floats as grey values of 0 to 255."""
    array = np.asarray(image, np.float64)
    high = 65535 if image.mode.startswith("I") else 255
    if image.mode == "F" and not (0 <= array.min() and array.max() <= 255) or array.min() < 0 or array.max() > high:
        raise DreamError(f"{path}: its numbers go from {array.min():g} to {array.max():g}; "
                         f"allowed are 8 or 16 bits a channel")
    return array * (255 / high)
