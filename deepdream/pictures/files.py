"""Writing and showing pictures. The settings of a dream are saved in the metadata of its picture."""
from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, PngImagePlugin

from ..convert import files
from ..convert.files import write, write_new
from ..errors import DreamError
from .exif import exif_for
from .reading import Picture, check_memory, opened

FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".tif": "TIFF", ".tiff": "TIFF"}
ALPHA = ("PNG", "WEBP", "TIFF")                    # formats in which the alpha channel of a picture is kept
SIDE = {"JPEG": 65500, "WEBP": 16383}      # the maximum height and width that the libraries can write
ONLY_READ = (".bmp", ".gif", ".ppm", ".pgm", ".pbm", ".pnm")      # suffixes that `load` supports and `save` does not
LONGEST = 10 ** 6      # the maximum length of settings in metadata; longer texts are from other software


def to_uint8(array: np.ndarray) -> np.ndarray:
    """Convert a picture to 8 bits as the notebook did: clip it to 0 to 255 and truncate the values (no rounding)."""
    return np.uint8(np.clip(array, 0, 255))


def encode(array: np.ndarray, fmt: str = "jpeg", alpha: np.ndarray | None = None, **options) -> bytes:
    """Return the bytes of a picture file.

    array: the picture, (H, W, 3), 0 to 255.
    alpha: its alpha channel, uint8 (H, W), or None.
    fmt: the format, by Pillow's name.
    options: Pillow's options of the format.

    Raises OSError if the format cannot store the picture.
    """
    file, image = io.BytesIO(), Image.fromarray(to_uint8(array))
    if alpha is not None:
        image.putalpha(Image.fromarray(alpha))
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
    check_suffix(path, option)
    check_file(path, option)


def check_suffix(path: str | Path, option: str = "-o") -> None:
    """Raise DreamError unless the suffix of a file is that of a picture format. option: as in `check_target`."""
    path = Path(path)
    if path.suffix.lower() in FORMATS:
        return
    if path.is_dir():
        raise DreamError(f"{option} {path}: is a folder; give the name of a picture in it, such as "
                         + str(path / "dream.jpg"))
    raise DreamError(f"{option} {path}: '{path.suffix}' is not a picture format that can be written; allowed are "
                     + ", ".join(FORMATS))


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


def save(array: np.ndarray, path: str | Path, settings: dict | None = None, quality: int = 95,
         source: Picture | None = None) -> None:
    """Write a picture, with settings in its metadata.

    The settings are stored in the comment of a JPEG file, in the text chunk `deepdream` of a PNG file, and in the
    description of a WebP or TIFF file (tag 270, in WebP's EXIF). The file is written under a temporary name and then
    renamed, so that it is never incomplete.

    array: the picture, (H, W, 3), 0 to 255.
    path: the file; its suffix determines the format (see FORMATS).
    settings: a dict of plain values.
    quality: the quality of a JPEG or WebP file, 1 to 100.
    source: the picture that it was made from: its EXIF is kept, and in a PNG, WebP or TIFF file its alpha channel,
        scaled to the size of the new picture.

    Raises DreamError if the file cannot be written.
    """
    _save(write, array, path, settings, quality, source)


def save_new(array: np.ndarray, path: str | Path, settings: dict | None = None, quality: int = 95,
             source: Picture | None = None) -> Path:
    """Write a picture like `save`, but never over an existing file.

    The arguments are those of `save`.

    Returns the path of the new file: `path`, or the first unused one with -2, -3 and so on added to its stem. This is
    safe even if other processes write files at the same time.
    """
    return _save(write_new, array, path, settings, quality, source)


def keeps_alpha(path: str | Path) -> bool:
    """Return whether a picture file of this name keeps the alpha channel of the picture that it was made from."""
    return FORMATS.get(Path(path).suffix.lower()) in ALPHA


def _save(write, array, path, settings, quality, source):
    """Write a picture with `write` or `write_new` of `convert.files`, and return what that returns."""
    path = Path(path)
    check_target(path)
    try:
        return write(path, _file(array, path, settings, quality, source))
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be written: {error.strerror or error}") from None


def _file(array, path, settings, quality, source):
    """Return the bytes of a picture file, in the format of its suffix."""
    fmt, text = FORMATS[path.suffix.lower()], json.dumps(settings or {}, ensure_ascii=True)
    options, (h, w) = {}, np.shape(array)[:2]
    if source is not None and source.exif:
        options["exif"] = exif_for(source.exif, w, h)
    if source is not None and source.alpha is not None and fmt in ALPHA:
        options["alpha"] = _scaled(source.alpha, h, w)
    if fmt == "JPEG":
        options |= {"quality": quality, "comment": text.encode()}
    elif fmt == "PNG":
        options["pnginfo"] = PngImagePlugin.PngInfo()
        options["pnginfo"].add_text("deepdream", text)
    elif fmt == "WEBP":      # exact: also keep the colours where the picture is transparent
        exif = exif_for(source.exif if source else b"", w, h, text)
        options |= {"exif": exif, "quality": quality} | ({"exact": True} if "alpha" in options else {})
    else:
        options["description"] = text
    return encode(array, fmt, **options)


def _scaled(alpha, h, w):
    """Scale an alpha channel."""
    image = Image.fromarray(alpha)
    return np.asarray(image if image.size == (w, h) else image.resize((w, h), Image.Resampling.LANCZOS))


def settings(path: str | Path) -> dict:
    """Read the settings in a picture's metadata, as `save` wrote them.

    path: the picture.

    Returns an empty dict if there are no settings, or if they are damaged. Raises DreamError if the file is not a
    picture.
    """
    with opened(path) as image:
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
    check_memory(image, path)
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
