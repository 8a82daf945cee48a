"""Pictures: reading them right, writing them with the settings that made them, showing them."""
import io
import json
import os
import tempfile
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from .errors import DreamError

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
READABLE = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")


def load(path):
    """Read a picture upright, as RGB. Returns float32 (H, W, 3), 0 to 255.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid on white, of several frames the first
    is taken. Raises DreamError for a file that is none of JPEG, PNG, WebP, TIFF (BMP, GIF, PPM), or damaged.
    """
    try:
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            if image.format not in READABLE:
                raise DreamError(f"{path}: {image.format} pictures are not supported; JPEG, PNG, WebP and TIFF are")
            image.load()
            return np.float32(_rgb(ImageOps.exif_transpose(image), path))
    except FileNotFoundError:
        raise DreamError(f"{path}: no such picture") from None
    except UnidentifiedImageError:
        raise DreamError(f"{path}: not a picture; JPEG, PNG, WebP and TIFF are supported") from None
    except Image.DecompressionBombError as error:
        raise DreamError(f"{path}: too large a picture: {error}") from None
    except (OSError, SyntaxError, ValueError) as error:
        if isinstance(error, DreamError):
            raise
        raise DreamError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None


def _rgb(image, path):
    mode = image.mode
    if mode in ("I", "F") or mode.startswith("I;"):
        array = np.asarray(image, np.float64)
        high = 65535 if mode.startswith("I") else 255
        if mode == "F" and not (0 <= array.min() and array.max() <= 255) or array.min() < 0 or array.max() > high:
            raise DreamError(f"{path}: its numbers go from {array.min():g} to {array.max():g}; "
                             f"allowed are 8 or 16 bits a channel")
        grey = array * (255 / high)
        return np.repeat(grey[:, :, None], 3, axis=2)
    if mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
        image = image.convert("RGBA")
        ground = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(ground, image)
    return image.convert("RGB") if image.mode != "RGB" else image


def to_uint8(array):
    """What the notebook showed and saved: clipped, then cut off (not rounded) to 8 bits."""
    return np.uint8(np.clip(array, 0, 255))


def encode(array, fmt="jpeg", **options):
    """The bytes of a picture file of an (H, W, 3) array."""
    file = io.BytesIO()
    Image.fromarray(to_uint8(array)).save(file, fmt, **options)
    return file.getvalue()


def check_target(path):
    """Raise DreamError unless a picture can be written to `path`."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DreamError(f"-o {path}: '{path.suffix}' is not a picture format; allowed are {', '.join(FORMATS)}")
    folder = path.parent
    if not folder.is_dir():
        raise DreamError(f"-o {path}: there is no folder {folder}")
    if path.is_dir() or not os.access(folder, os.W_OK):
        raise DreamError(f"-o {path}: cannot be written")


def save(array, path, settings=None, quality=95):
    """Write an (H, W, 3) array, with the settings (a dict) in the file's metadata, beside first and then renamed.

    JPEG: the comment; PNG: the text chunk `deepdream`; WebP and TIFF: the description (EXIF, TIFF tag 270).
    """
    path = Path(path)
    check_target(path)
    fmt, text = FORMATS[path.suffix.lower()], json.dumps(settings or {}, ensure_ascii=True)
    options = {}
    if fmt == "JPEG":
        options = {"quality": quality, "comment": text.encode()}
    elif fmt == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("deepdream", text)
    else:
        exif = Image.Exif()
        exif[ExifTags.Base.ImageDescription] = text
        options = {"exif": exif, "quality": quality} if fmt == "WEBP" else {"description": text}
    write(path, encode(array, fmt, **options))


def settings(path):
    """The settings in a picture's metadata, as written by `save`; an empty dict if there are none."""
    with Image.open(path) as image:
        text = image.info.get("comment") or getattr(image, "text", {}).get("deepdream") \
            or image.getexif().get(ExifTags.Base.ImageDescription) or "{}"
    try:
        return json.loads(text.decode() if isinstance(text, bytes) else text)
    except ValueError:
        return {}


def write(path, data):
    """Write bytes beside `path`, then rename: never half a file, and the old one stays until the new one is whole."""
    path = Path(path)
    handle, beside = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(beside, 0o666 & ~umask)     # mkstemp gives 0600
        os.replace(beside, path)
    except BaseException:
        os.unlink(beside)
        raise


def showarray(a, fmt="jpeg"):
    """Show an (H, W, 3) array in a notebook, as the original's function of this name."""
    from IPython.display import Image as Show
    from IPython.display import display
    display(Show(data=encode(a, fmt)))
