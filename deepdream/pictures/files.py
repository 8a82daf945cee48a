"""Reading, writing and showing pictures. The settings of a dream are saved in the metadata of its picture."""
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
from ..runtime.free_memory import free_memory

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
SIDE = {"JPEG": 65500, "WEBP": 16383}      # the maximum height and width that the libraries can write
ONLY_READ = (".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")      # suffixes that `load` supports and `save` does not
READABLE = ("JPEG", "MPO", "PNG", "WEBP", "TIFF", "BMP", "GIF", "PPM")
BYTES = 40             # of memory for each pixel of a picture that is decoded and prepared for a net
LONGEST = 10 ** 6      # the maximum length of settings in metadata; longer texts are from other software


@contextlib.contextmanager
def _opened(path):
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
        raise DreamError(f"{name}: not a picture; JPEG, PNG, WebP and TIFF are supported") from None
    except Image.DecompressionBombError as error:
        raise DreamError(f"{name}: too large a picture: {error}") from None
    except MemoryError:
        raise DreamError(f"{name}: cannot be read: not enough memory for a picture of this size") from None
    except Exception as error:      # Pillow's decoders raise exceptions of many types: struct.error, IndexError ...
        reason = getattr(error, "strerror", None) or str(error) or type(error).__name__
        raise DreamError(f"{name}: cannot be read: {shown(reason, 200)}") from None


def load(path: str | Path) -> np.ndarray:
    """Read a picture as RGB.

    A rotation in the metadata is applied. Grey, palette, CMYK and 16-bit pictures are converted to RGB, and transparent
    ones are put on a white background. Of several frames, the first is read.

    path: a JPEG, PNG, WebP, TIFF, BMP, GIF or PPM file.

    Returns float32 (H, W, 3), 0 to 255. Raises DreamError for a missing or damaged file, for other formats, and for a
    picture that does not fit into the free memory.
    """
    with _opened(path) as image:
        if image.format not in READABLE:
            raise DreamError(f"{path}: {image.format} pictures are not supported; JPEG, PNG, WebP and TIFF are")
        _check_memory(image, path)
        image.load()
        return np.float32(_rgb(ImageOps.exif_transpose(image), path))


def _check_memory(image, path):
    """Raise DreamError for a picture that is too large, before it is decoded: its file may be small."""
    (w, h), free = image.size, free_memory()
    if free is not None and w * h * BYTES > free:
        raise DreamError(f"{path}: too large a picture: {w}x{h} pixels take about {w * h * BYTES / 1e9:.1f} GB, and "
                         f"{free / 1e9:.1f} GB are free")


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
        background = Image.new("RGBA", image.size, "white")
        image = Image.alpha_composite(background, image)
    return image.convert("RGB") if image.mode != "RGB" else image


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Convert a picture to 8 bits as the notebook did: clip it to 0 to 255 and truncate the values (no rounding)."""
    return np.uint8(np.clip(array, 0, 255))


def encode(array: np.ndarray, fmt: str = "jpeg", **options) -> bytes:
    """Return the bytes of a picture file.

    array: the picture, (H, W, 3), 0 to 255.
    fmt: the format, by Pillow's name.
    options: Pillow's options of the format.

    Raises OSError if the format cannot store the picture.
    """
    file, image = io.BytesIO(), Image.fromarray(to_uint8(array))
    try:
        image.save(file, fmt, **options)
    except ValueError as error:
        raise OSError(f"as {fmt}: {error}") from None
    return file.getvalue()


def check_target(path: str | Path, option: str = "-o") -> None:
    """Raise DreamError unless a picture can be written to a file.

    This is tried out with a temporary file in the same folder.

    path: the file.
    option: the option that specifies the file, for the message.
    """
    path = Path(path)
    if path.suffix.lower() not in FORMATS:
        raise DreamError(f"{option} {path}: '{path.suffix}' is not a picture format; allowed are {', '.join(FORMATS)}")
    check_file(path, option)


def check_size(path: str | Path, h: int, w: int, option: str = "-o") -> None:
    """Raise DreamError unless the format of a file can store pictures of a certain size.

    path: the file; its suffix determines the format.
    h, w: size of the picture, in pixels.
    option: the option that specifies the file, for the message.
    """
    fmt = FORMATS[Path(path).suffix.lower()]
    if max(h, w) > SIDE.get(fmt, max(h, w)):
        raise DreamError(f"{option} {path}: the picture has {w}x{h} pixels, and a {fmt} file holds at most {SIDE[fmt]} "
                         "in each direction; .png and .tif hold more")


def check_file(path: str | Path, option: str) -> None:
    """Raise DreamError unless a file of any format can be written. option: the option that specifies the file."""
    files.check_target(path, option, DreamError)


def refuse_inputs(target: str | Path, *inputs: str | Path | None, option: str = "-o") -> None:
    """Raise DreamError if writing a file would overwrite one that is read.

    target: the file to write.
    inputs: the files that are read; None for no file.
    option: the option that specifies the target, for the message.
    """
    files.refuse_inputs(target, *inputs, option=option, error=DreamError)


def save(array: np.ndarray, path: str | Path, settings: dict | None = None, quality: int = 95) -> None:
    """Write a picture, with settings in its metadata.

    The settings are stored in the comment of a JPEG file, in the text chunk `deepdream` of a PNG file, and in the
    description of a WebP or TIFF file (tag 270, in WebP's EXIF). The file is written under a temporary name and then
    renamed, so that it is never incomplete.

    array: the picture, (H, W, 3), 0 to 255.
    path: the file; its suffix determines the format (see FORMATS).
    settings: a dict of plain values.
    quality: the quality of a JPEG or WebP file, 1 to 100.

    Raises DreamError if the file cannot be written.
    """
    _save(write, array, path, settings, quality)


def save_new(array: np.ndarray, path: str | Path, settings: dict | None = None, quality: int = 95) -> Path:
    """Write a picture like `save`, but never over an existing file.

    The arguments are those of `save`.

    Returns the path of the new file: `path`, or the first unused one with -2, -3 and so on added to its stem. This is
    safe even if other processes write files at the same time.
    """
    return _save(write_new, array, path, settings, quality)


def _save(write, array, path, settings, quality):
    """Write a picture with `write` or `write_new` of `convert.files`, and return what that returns."""
    path = Path(path)
    check_target(path)
    try:
        return write(path, _file(array, path, settings, quality))
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be written: {error.strerror or error}") from None


def _file(array, path, settings, quality):
    """Return the bytes of a picture file, in the format of its suffix."""
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


def settings(path: str | Path) -> dict:
    """Read the settings in a picture's metadata, as `save` wrote them.

    path: the picture.

    Returns an empty dict if there are no settings, or if they are damaged. Raises DreamError if the file is not a
    picture.
    """
    with _opened(path) as image:
        text = image.info.get("comment") or image.info.get("deepdream") \
            or image.getexif().get(ExifTags.Base.ImageDescription) or _text_after_pixels(image, path)
    if not isinstance(text, (str, bytes)) or len(text) > LONGEST:
        return {}
    try:
        values = json.loads(text.decode() if isinstance(text, bytes) else text)
    except (ValueError, RecursionError):      # other software's text, numbers of 5,000 digits, or deep nesting
        return {}
    return values if isinstance(values, dict) else {}


def _text_after_pixels(image, path):
    """Return the settings in a PNG file that other software wrote anew, perhaps after the pixels; else None."""
    if image.format != "PNG":
        return None
    _check_memory(image, path)
    return image.text.get("deepdream")      # this decodes the pixels


def settings_if_any(path: str | Path) -> dict:
    """Read the settings in a picture's metadata, like `settings`; an empty dict if the file is not a picture."""
    try:
        return settings(path)
    except DreamError:
        return {}


def showarray(a: np.ndarray, fmt: str = "jpeg") -> None:
    """Show a picture in a Jupyter notebook, like the notebook's function of this name.

    a: the picture, (H, W, 3), 0 to 255.
    fmt: the format in which it is sent to the browser.
    """
    from IPython.display import Image as Show
    from IPython.display import display
    display(Show(data=encode(a, fmt)))
