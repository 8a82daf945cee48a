"""Pictures: reading them right, writing them with the settings that made them, showing them."""
import contextlib
import io
import json
import os
import warnings
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageOps, PngImagePlugin, UnidentifiedImageError

from ..convert import files
from ..convert.errors import shown
from ..convert.files import write, write_new
from ..errors import DreamError

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
SIDE = {"JPEG": 65500, "WEBP": 16383}      # pixels of a side at most: the libraries write no more
ONLY_READ = (".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")      # suffixes of what `load` takes and `save` does not
READABLE = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
LONGEST = 10 ** 6      # characters of settings in a picture's metadata: what is longer is not ours


@contextlib.contextmanager
def _opened(path):
    """A picture file as Pillow opens it. Whatever goes wrong with it in here becomes one line that names the file."""
    name = path if isinstance(path, (str, os.PathLike)) else "the picture"
    try:
        if name is path and os.path.exists(path) and not os.path.isfile(path) and not os.path.isdir(path):
            raise DreamError(f"{path}: cannot be read: not a regular file")      # and a pipe would be waited for
        with warnings.catch_warnings(action="ignore"), Image.open(path) as image:
            yield image
    except DreamError:
        raise
    except FileNotFoundError:
        raise DreamError(f"{name}: no such picture") from None
    except UnidentifiedImageError:
        raise DreamError(f"{name}: not a picture; JPEG, PNG, WebP and TIFF are supported") from None
    except Image.DecompressionBombError as error:
        raise DreamError(f"{name}: too large a picture: {error}") from None
    except MemoryError:
        raise DreamError(f"{name}: cannot be read: not enough memory for a picture of this size") from None
    except Exception as error:      # Pillow lets through what its decoders stumble over: struct.error, IndexError ...
        said = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DreamError(f"{name}: cannot be read: {shown(said, 200)}") from None


def load(path):
    """Read a picture upright, as RGB. Returns float32 (H, W, 3), 0 to 255.

    Grey, palette, CMYK and 16-bit pictures are converted, transparency is laid on white, of several frames the first
    is taken. Raises DreamError for a file that is none of JPEG, PNG, WebP, TIFF (BMP, GIF, PPM), or damaged.
    """
    with _opened(path) as image:
        if image.format not in READABLE:
            raise DreamError(f"{path}: {image.format} pictures are not supported; JPEG, PNG, WebP and TIFF are")
        image.load()
        return np.float32(_rgb(ImageOps.exif_transpose(image), path))


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
    """The bytes of a picture file of an (H, W, 3) array. Raises OSError for what the format cannot hold."""
    file, image = io.BytesIO(), Image.fromarray(to_uint8(array))
    try:
        image.save(file, fmt, **options)
    except ValueError as error:
        raise OSError(f"as {fmt}: {error}") from None
    return file.getvalue()


def check_target(path, option="-o"):
    """Raise DreamError unless a picture can be written to `path`; tried out with a file beside it."""
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DreamError(f"{option} {path}: '{path.suffix}' is not a picture format; allowed are {', '.join(FORMATS)}")
    check_file(path, option)


def check_size(path, h, w, option="-o"):
    """Raise DreamError unless a file of this name can hold a picture of h x w pixels."""
    fmt = FORMATS[Path(path).suffix.lower()]
    if max(h, w) > SIDE.get(fmt, max(h, w)):
        raise DreamError(f"{option} {path}: the picture has {w}x{h} pixels, and a {fmt} file holds at most {SIDE[fmt]} "
                         "in each direction; .png and .tif hold more")


def check_file(path, option):
    """Raise DreamError unless a file, given by `option`, can be written to `path`."""
    files.check_target(path, option, DreamError)


def refuse_inputs(target, *inputs, option="-o"):
    """Raise DreamError if writing `target` would overwrite one of the files that are read (None: no file)."""
    files.refuse_inputs(target, *inputs, option=option, error=DreamError)


def save(array, path, settings=None, quality=95):
    """Write an (H, W, 3) array, with the settings (a dict) in the file's metadata, beside first and then renamed.

    JPEG: the comment; PNG: the text chunk `deepdream`; WebP and TIFF: the description (EXIF, TIFF tag 270).
    """
    _save(write, array, path, settings, quality)


def save_new(array, path, settings=None, quality=95):
    """`save` to the first free name: `path`, or with -2, -3 ... behind its stem. Returns it. What other processes write
    there meanwhile stays, too."""
    return _save(write_new, array, path, settings, quality)


def _save(write, array, path, settings, quality):
    """write: of `convert.files`. Returns what it does."""
    path = Path(path)
    check_target(path)
    try:
        return write(path, _file(array, path, settings, quality))
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be written: {error.strerror or error}") from None


def _file(array, path, settings, quality):
    """The bytes of a picture file, in the format that its name asks for."""
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
    return encode(array, fmt, **options)


def settings(path):
    """The settings in a picture's metadata, as written by `save`; an empty dict if there are none, or damaged ones.
    Raises DreamError for what is no picture."""
    with _opened(path) as image:
        text = image.info.get("comment") or getattr(image, "text", {}).get("deepdream") \
            or image.getexif().get(ExifTags.Base.ImageDescription)
    if not isinstance(text, (str, bytes)) or len(text) > LONGEST:
        return {}
    try:
        told = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):      # someone else's words; whole numbers of 5,000 digits; nested too deeply
        return {}
    return told if isinstance(told, dict) else {}


def settings_if_any(path):
    """The settings in a picture's metadata; an empty dict also where there is no such picture."""
    try:
        return settings(path)
    except DreamError:
        return {}


def showarray(a, fmt="jpeg"):
    """Show an (H, W, 3) array in a notebook, as the original's function of this name."""
    from IPython.display import Image as Show
    from IPython.display import display
    display(Show(data=encode(a, fmt)))
