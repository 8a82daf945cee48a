"""Where a dreamt film goes: a movie, an animated GIF or WebP, or a folder of pictures."""
from __future__ import annotations

import contextlib
import json
import mmap
import os
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from .. import pictures
from ..convert.errors import shown
from ..convert.files import write
from ..errors import DreamError
from ..provenance import check_replaceable, is_dream
from .encoding import CONTAINERS, Encoding, write_movie
from .plan import Plan
from .source import Source
from .stills import ANIMATIONS, Animation, Folder

SIDE = {".gif": 65535, ".webp": 16383}      # the maximum height and width
DIGITS = 6      # at least, in the names of frames of a movie


class Target(Protocol):
    """Where a film goes.

    path: its file or folder.
    keeps_alpha: whether it can have an alpha channel.
    even: whether a size that is computed should be even.
    """
    path: Path
    keeps_alpha: bool
    even: bool

    def check(self, source: Source) -> None:
        """Raise DreamError unless a dream of the film can be written here."""

    def check_size(self, h: int, w: int, transparent: bool) -> None:
        """Raise DreamError unless frames of h x w pixels can be written, with an alpha channel if they have one."""

    def write(self, source: Source, plan: Plan, frames: Iterable[np.ndarray], metadata: dict) -> None:
        """Write the film. frames: uint8 (H, W, 3 or 4). Raises DreamError if that fails."""


@dataclass
class MovieTarget:
    """A movie. encoding: how it is written."""
    encoding: Encoding
    even = True

    @property
    def path(self):
        return self.encoding.path

    @property
    def keeps_alpha(self):
        return self.encoding.keeps_alpha()

    def check(self, source):
        pictures.check_file(self.path, "-o")
        check_replaceable(self.path)
        self.encoding.check(source, source.transparent and self.keeps_alpha)

    def check_size(self, h, w, transparent):
        self.encoding.check_size(h, w, transparent)

    def write(self, source, plan, frames, metadata):
        with _temporary(self.path) as part:
            write_movie(self.encoding, part, source, plan, frames, metadata)


@dataclass
class AnimationTarget:
    """An animated GIF or WebP. quality: of WebP, 1 to 100."""
    path: Path
    quality: int = 95
    keeps_alpha, even = True, False

    def check(self, source):
        pictures.check_file(self.path, "-o")
        check_replaceable(self.path)

    def check_size(self, h, w, transparent):
        limit = SIDE[self.path.suffix.lower()]
        if max(h, w) > limit:
            raise DreamError(f"-o {self.path}: the film has {w}x{h} pixels, and this format holds at most {limit} in "
                             "each direction")

    def write(self, source, plan, frames, metadata):
        unit = 1000 * plan.time_base
        ends = [round((e.stamp + e.length) * unit) for e in plan.entries]
        starts = [round(e.stamp * unit) for e in plan.entries]
        lengths = [b - a for a, b in zip(starts, [*starts[1:], ends[-1]])]
        images = (Image.fromarray(frame) for frame in frames)
        first, gif = next(images), self.path.suffix.lower() == ".gif"
        options = {"comment": json.dumps(metadata).encode()} if gif else \
            {"quality": self.quality, "exif": _exif(metadata)}
        loop = source.loop if isinstance(source, Animation) else 0
        options |= {} if loop is None else {"loop": loop}
        if gif and first.mode == "RGBA":
            options["disposal"] = 2
        with _temporary(self.path) as part:
            try:
                first.save(part, "GIF" if gif else "WEBP", save_all=True, append_images=images, duration=lengths,
                           **options)
            except (OSError, ValueError) as error:
                raise DreamError(f"-o {self.path}: cannot be written: {shown(error, 200)}") from None


@dataclass
class FolderTarget:
    """A folder of pictures. quality: of JPEG and WebP, 1 to 100."""
    path: Path
    quality: int = 95
    keeps_alpha, even = True, False

    def check(self, source):
        folder = self.path
        while not os.path.lexists(folder):
            folder = folder.parent
        if folder != self.path:
            pictures.check_file(folder / "frames", "-o")
        elif not folder.is_dir():
            raise DreamError(f"-o {folder}: is not a folder")
        elif isinstance(source, Folder) and folder.samefile(source.path):
            raise DreamError(f"-o {folder}: would overwrite the film's frames; give another folder")
        elif foreign := next((p for p in folder.iterdir() if p.suffix.lower() in pictures.FORMATS
                              and not is_dream(p)), None):
            raise DreamError(f"-o {folder}: holds {foreign.name}, which is not a dream; give another folder")

    def check_size(self, h, w, transparent):
        pass

    def write(self, source, plan, frames, metadata):
        self.path.mkdir(parents=True, exist_ok=True)
        names = frame_names(source, plan)
        for name, frame in zip(names, frames):
            alpha = frame[..., 3] if frame.shape[2] == 4 else None
            pictures.save(frame[..., :3], self.path / name, metadata, self.quality,
                          None if alpha is None else pictures.Picture(np.float32(frame[..., :3]), alpha))


def frame_names(source: Source, plan: Plan) -> list[str]:
    """Return the names of the frames in a folder: those of the film's pictures, if it is a folder; else numbers."""
    if isinstance(source, Folder) and len({e.source for e in plan.entries}) == len(plan.entries):
        names = [source.files[e.source] for e in plan.entries]
        names = [p.name if p.suffix.lower() in pictures.FORMATS else f"{p.stem}.png" for p in names]
        if len({name.casefold() for name in names}) == len(names):
            return names
    digits = max(DIGITS, len(str(len(plan.entries))))
    return [f"{i:0{digits}d}.png" for i in range(len(plan.entries))]


def target_of(path: str | Path, codec: str | None = None, crf: int | None = None, without: tuple[str, ...] = (),
              quality: int = 95) -> Target:
    """Return the target of a path: by its suffix a movie or an animation; without a suffix, a folder.

    path: the file or folder.
    codec, crf, without: see `Encoding`.
    quality: of JPEG and WebP, 1 to 100.

    Raises DreamError for another suffix, and for options that the target does not have.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in CONTAINERS:
        return MovieTarget(Encoding(path, codec, crf, tuple(without)))
    if suffix and suffix not in ANIMATIONS and not path.is_dir():
        raise DreamError(f"-o {path}: '{path.suffix}' is not a format for films; allowed are "
                         f"{', '.join((*CONTAINERS, *ANIMATIONS))}, and a name without suffix for a folder of pictures")
    for option, value in (("--codec", codec), ("--crf", crf)):
        if value is not None:
            raise DreamError(f"{option} {value}: only for a movie ({', '.join(CONTAINERS)})")
    return AnimationTarget(path, quality) if suffix in ANIMATIONS else FolderTarget(path, quality)


def _exif(metadata):
    exif = Image.Exif()
    exif[270] = json.dumps(metadata)      # ImageDescription
    return exif.tobytes()


@contextlib.contextmanager
def _temporary(path: Path) -> Iterator[Path]:
    """Let the `with` write a temporary file in the same folder, and give it its name at the end."""
    handle, name = tempfile.mkstemp(suffix=".part", prefix=".", dir=path.parent)
    os.close(handle)
    try:
        yield Path(name)
        with open(name, "rb") as file, mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as data:
            write(path, data)
    finally:
        with contextlib.suppress(OSError):
            os.unlink(name)
