"""The EXIF of a picture that its dream keeps: who took it, when, where and how.

Kept are the entries of KEPT, the group of the exposure and that of the place. Left out are the orientation, which is
applied to the picture; the thumbnail, which shows another picture; the camera maker's private note, whose offsets would
no longer hold; and what describes how the file stored its pixels.
"""
from __future__ import annotations

from PIL import ExifTags, Image, TiffTags

KEPT = [ExifTags.Base[name] for name in (
    "ImageDescription", "Make", "Model", "Software", "DateTime", "Artist", "Copyright", "HostComputer", "XResolution",
    "YResolution", "ResolutionUnit", "Rating", "RatingPercent", "XPTitle", "XPComment", "XPAuthor", "XPKeywords",
    "XPSubject")]
GROUPS = {     # group -> entries of it that are left out
    ExifTags.IFD.Exif: {ExifTags.Base.MakerNote, ExifTags.IFD.Interop, ExifTags.Base.SubIFDs},
    ExifTags.IFD.GPSInfo: set(),
}
# texts whose type Pillow does not know, so that it would write bytes as numbers
for _name in ("CameraOwnerName", "BodySerialNumber", "LensMake", "LensModel", "LensSerialNumber", "ImageUniqueID"):
    TiffTags.TAGS_V2_GROUPS.setdefault(ExifTags.IFD.Exif, {}).setdefault(
        ExifTags.Base[_name].value, TiffTags.TagInfo(ExifTags.Base[_name].value, _name, TiffTags.ASCII, 1))
SRGB = 1
SIZES = ExifTags.Base.ExifImageWidth, ExifTags.Base.ExifImageHeight
LONGEST = 4096      # bytes or characters of an entry; longer ones are no text that a person wrote
ALL = 60000         # bytes: a JPEG file cannot hold more than 65533


def kept_exif(image: Image.Image) -> bytes:
    """Return the EXIF to keep of an open picture, empty if there is none.

    Raises exceptions of many types if the EXIF is damaged.
    """
    source, kept = image.getexif(), Image.Exif()
    for tag in KEPT:
        if tag in source and _is_short(source[tag]):
            kept[tag] = _as_stored(source[tag])
    if str(kept.get(ExifTags.Base.ImageDescription, "")).startswith("{"):      # the settings of a dream
        del kept[ExifTags.Base.ImageDescription]
    for group, left_out in GROUPS.items():
        entries = {tag: value for tag, value in source.get_ifd(group).items()
                   if tag not in left_out and _is_short(value)}
        if ExifTags.Base.ColorSpace in entries:
            entries[ExifTags.Base.ColorSpace] = SRGB      # as which every picture is read
        if entries:
            kept[group] = {tag: _as_stored(value) for tag, value in entries.items()}
    data = kept.tobytes() if len(kept) else b""
    if len(data) > ALL:
        raise ValueError("too long")
    return data


def _as_stored(value):
    """Return a text as the bytes that the file has: Pillow reads them as Latin-1, and would write only ASCII."""
    return value.encode("latin-1", "replace") if isinstance(value, str) and not value.isascii() else value


def _is_short(value):
    return not isinstance(value, (bytes, str, tuple)) or len(value) <= LONGEST


def exif_for(data: bytes, width: int, height: int, description: str | None = None) -> Image.Exif:
    """Return the EXIF for a new picture.

    data: what is kept of another picture, from `kept_exif`.
    width, height: size of the new picture, in pixels.
    description: the image description; None leaves that of the other picture.
    """
    exif = Image.Exif()
    if data:
        exif.load(data)
    group = exif.get_ifd(ExifTags.IFD.Exif) if ExifTags.IFD.Exif in exif else {}
    for entries in (exif, *(exif.get_ifd(ifd) for ifd in GROUPS if ifd in exif)):
        for tag, value in list(entries.items()):
            entries[tag] = _as_stored(value)
    for tag, n in zip(SIZES, (width, height)):
        if tag in group:
            group[tag] = n
    if description is not None:
        exif[ExifTags.Base.ImageDescription] = description
    return exif
