"""The pictures that the page offers to dream on: the scenes made by formula, without loss."""
from __future__ import annotations

import base64
import io

from PIL import Image

from ..options import SCENES
from ..pictures import to_uint8
from ..pictures.starts import cached_scene
from ..runtime.cache import cached, key

SIZE = 400, 640          # h, w
THUMB = 120, 192
LOSSLESS = {"lossless": True, "quality": 60, "method": 4}


def scenes() -> tuple[list[dict], dict[str, bytes]]:
    """Return the descriptions of the scenes for the page, and {name: contents} of their files."""
    described, files = [], {}
    for name in SCENES:
        image = Image.fromarray(to_uint8(cached_scene(name, *SIZE)))
        files[f"{name}.webp"] = cached(f"{key(image.tobytes(), *SIZE)}.webp",
                                       lambda: _encoded(image, "WEBP", **LOSSLESS))
        thumb = _encoded(image.resize(THUMB[::-1], Image.Resampling.LANCZOS), "JPEG", quality=80)
        described.append({"name": name, "file": f"{name}.webp",
                          "thumb": f"data:image/jpeg;base64,{base64.b64encode(thumb).decode()}"})
    return described, files


def _encoded(image, fmt, **options):
    file = io.BytesIO()
    image.save(file, fmt, **options)
    return file.getvalue()
