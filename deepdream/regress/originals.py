"""The pictures that Google saved in the original notebook, and the two pictures from which they were dreamt."""
from __future__ import annotations

import base64
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from .. import models, pictures
from ..errors import DreamError

COMMIT = "bbc2ddf9e7632cc3f4d3e70211e85ae7169f366f"
URL = f"https://raw.githubusercontent.com/google/deepdream/{COMMIT}/"
FILES = {   # file -> sha256
    "dream.ipynb": "96c829d1e7d231850504c4cae3fd4d34c35cecc86fd626c00344834bedfb88f7",
    "sky1024px.jpg": "779ddda9280908ccda18d7ade2f7f84805bf22cdbce3b61ddddd7ea4a4697050",
    "flowers.jpg": "bdcaf97d07f9619a3dde0b04694ec83c2b2a3188e3e24d88db952e81b9d9f740",
}
MAXIMUM = 64 << 20      # bytes of one of these files
OUTPUTS = {   # number of a picture in the notebook, from 0 -> its file name here
    1: "google_inception_4c_output.jpg", 2: "google_inception_3b_5x5_reduce.jpg", 3: "google_zoom_frame_0029.jpg",
    5: "google_guided_inception_3b_output.jpg",
}


@dataclass
class Originals:
    """Google's pictures.

    sky, guide: the notebook's two inputs, (H, W, 3), 0 to 255.
    folder: the folder with Google's dreams.
    name: where they come from, for people.
    """
    sky: np.ndarray
    guide: np.ndarray
    folder: Path
    name: str

    def dream(self, file: str) -> np.ndarray | None:
        """Read one of Google's dreams, (H, W, 3). Returns None if its file is missing."""
        path = self.folder / file
        return pictures.load(path) if path.exists() else None


def read(folder: str | Path, name: str | None = None) -> Originals:
    """Read Google's pictures from a folder.

    folder: holds sky1024px.jpg, flowers.jpg and at least one of google_*.jpg.
    name: where the pictures come from, for people; None: the folder.

    Raises DreamError if a file is missing or damaged.
    """
    folder = Path(folder)
    missing = [n for n in ("sky1024px.jpg", "flowers.jpg") if not (folder / n).is_file()]
    if missing or not any((folder / n).is_file() for n in OUTPUTS.values()):
        raise DreamError(f"--reference {folder}: there is no {missing[0] if missing else 'google_*.jpg'}; the folder "
                         f"must hold sky1024px.jpg, flowers.jpg and at least one of {', '.join(OUTPUTS.values())}")
    return Originals(pictures.load(folder / "sky1024px.jpg"), pictures.load(folder / "flowers.jpg"), folder,
                     name or str(folder))


def fetch() -> Originals:
    """Read Google's pictures from the cache folder; download them from Google's public repository first, if necessary.

    Checksums are verified. Raises DreamError if the download fails.
    """
    folder = Path(models.cache_dir()) / "original"
    files = [models.File(name, "original", max_size=MAXIMUM, sha256=sha256, mirrors=(URL + name,))
             for name, sha256 in FILES.items()]
    try:
        models.obtain(files, folder, progress=False)
    except models.ModelError as error:
        raise DreamError(f"{error}; if you have these files in a folder, give --reference FOLDER") from None
    for name, data in extract((folder / "dream.ipynb").read_bytes()).items():
        if not (folder / name).exists():
            pictures.write(folder / name, data)
    return read(folder, f"github.com/google/deepdream at {COMMIT[:7]}")


def extract(notebook: str | bytes) -> dict[str, bytes]:
    """Extract the dreams that are saved in the original notebook.

    notebook: contents of its file (nbformat 3).

    Returns {file name: contents of a JPEG file}.
    """
    cells = json.loads(notebook)["worksheets"][0]["cells"]
    saved = [output["jpeg"] for cell in cells for output in cell.get("outputs", []) if "jpeg" in output]
    return {name: base64.b64decode(saved[i]) for i, name in OUTPUTS.items()}
