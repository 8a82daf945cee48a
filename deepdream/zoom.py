"""The notebook's endless zoom: dream, zoom in a little, dream again.

A zoom is a folder of frames, 0000.jpg, 0001.jpg and so on, with its state in `zoom.npz`: the settings, and the picture
that the next frame starts from, without loss. A zoom that is stopped and continued later therefore gives the same
frames as one that runs without a break.
"""
import contextlib
import io
import json
import math
import os
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import scipy.ndimage as nd

from . import pictures
from .convert.errors import shown
from .dream import deepdream, visible
from .errors import DreamError
from .goals.text import goals
from .net import Net
from .options import Settings
from .provenance import DEFAULTS, differences, is_dream, machine, provenance
from .runtime.alone import alone

STATE = "zoom.npz"
METADATA = 10 ** 6    # the maximum size of the metadata in a state, in bytes
SEED = 2 ** 32        # seeds are smaller than this
HOLD = 25             # frames at each layer of a zoom through several


@dataclass(frozen=True)
class Motion:
    """What happens from one frame of a zoom to the next.

    scale: the part of the height and of the width that is cut off.
    legacy_affine: zoom as the notebook did in 2015. SciPy before 0.18 applied a matrix that is passed as its diagonal
        to the position plus the offset, matrix * (o + offset), which moves the vanishing point to (1 - scale) / 2 of
        the size.
    rotate: the angle by which the picture turns, in degrees, counterclockwise.
    pan: how far the view moves to the right and downwards, as shares of the width and of the height.
    through: layers to dream at, one after another and from the beginning again; empty for those of the settings.
    hold: the number of frames at each of these layers.

    Raises DreamError for options that contradict each other.
    """
    scale: float = 0.05
    legacy_affine: bool = False
    rotate: float = 0.0
    pan: tuple[float, float] = (0.0, 0.0)
    through: tuple[str, ...] = ()
    hold: int = HOLD

    def __post_init__(self):
        if self.legacy_affine and (self.rotate or any(self.pan)):
            raise DreamError("--legacy-affine: zooms as the notebook did, which neither rotated nor panned; leave "
                             "it out, or --rotate and --pan")

    def end(self, i: int) -> str | None:
        """Return the layer of frame i; None for those of the settings."""
        return self.through[i // self.hold % len(self.through)] if self.through else None

    def to_metadata(self) -> dict:
        """Return the entries for the metadata of a frame. Those that older versions lack are left out by default."""
        entries = {"rotate": self.rotate, "pan": list(self.pan), "through": list(self.through)}
        entries |= {"hold": self.hold} if self.through else {}
        return {"scale": self.scale, "legacy_affine": self.legacy_affine,
                **{name: value for name, value in entries.items() if value != DEFAULTS[name]}}


def zoomed(frame: np.ndarray, scale: float = 0.05, legacy_affine: bool = False, rotate: float = 0.0,
           pan: Sequence[float] = (0.0, 0.0)) -> np.ndarray:
    """Zoom into the middle of a picture.

    frame: the picture, (H, W, 3).
    scale, legacy_affine, rotate, pan: see `Motion`.

    Returns a picture of the same size. What comes into view by turning or moving is the picture's mirror image.
    """
    h, w = frame.shape[:2]
    if not rotate and not any(pan):
        matrix, offset = np.array([1 - scale, 1 - scale, 1]), np.array([h * scale / 2, w * scale / 2, 0])
        return nd.affine_transform(frame, matrix, matrix * offset if legacy_affine else offset, order=1)
    angle, middle = math.radians(rotate), np.array([(h - 1) / 2, (w - 1) / 2])
    matrix = (1 - scale) * np.array([[math.cos(angle), math.sin(angle)], [-math.sin(angle), math.cos(angle)]])
    offset = middle - matrix @ middle + np.array([pan[1] * h, pan[0] * w])
    return np.dstack([nd.affine_transform(band, matrix, offset, order=1, mode="mirror")
                      for band in np.moveaxis(frame, 2, 0)])


def zoom(net: Net, img: np.ndarray, folder: Path, frames: int, settings: Settings, guide: np.ndarray | None = None,
         motion: Motion = Motion(), quality: int = 95, files: dict | None = None,
         on_frame: Callable[[int], None] = lambda i: None, on_step: Callable | None = None) -> None:
    """Dream a zoom into a picture and write its frames to a folder. A zoom that stopped there is continued.

    net: the net.
    img: the picture to start from, (H, W, 3), RGB, 0 to 255.
    folder: an existing folder.
    frames: the number of frames that the folder will have in the end.
    settings: the settings of the dream. The jitter of each frame is seeded with settings.seed and the frame's number.
    guide: the picture of the guide, (H, W, 3), or None.
    motion: what happens from one frame to the next.
    quality: the quality of the JPEG files, 1 to 100.
    files: metadata about the files of the picture and of the guide. It must be the same when a zoom is continued.
    on_frame: called as on_frame(i) before each frame.
    on_step: see `deepdream`.

    Raises DreamError if the folder contains frames that were made with other settings, or if another process is
    dreaming a zoom there.
    """
    metadata = frame_metadata(net, settings, motion, files)
    goals_of = goals_by_end(net, settings, motion, guide)
    busy = "another zoom is being dreamt there; give another folder"
    with alone(folder, "-o", busy), net.programs.reusing_sizes():
        first, frame = resume(folder, metadata, np.shape(img))
        frame = img if frame is None else frame
        for i in range(first, frames):
            on_frame(i)
            end = motion.end(i)
            frame = deepdream(net, frame, rng=np.random.RandomState([settings.seed, i]), on_step=on_step,
                              **settings.steps, **goals_of[end])
            picture = visible(frame, settings.clip)
            extra = {"frame": i} | ({"end": end} if end else {})
            pictures.save(picture, frame_path(folder, i), {**metadata, **machine(net), **extra}, quality)
            frame = zoomed(frame, motion.scale, motion.legacy_affine, motion.rotate, motion.pan)
            save_state(folder, i + 1, frame, metadata)


def goals_by_end(net: Net, settings: Settings, motion: Motion, guide: np.ndarray | None = None) -> dict:
    """Return {end: the arguments of `deepdream` from `goals`} for each end that `motion.end` returns.

    The arguments are those of `zoom`. Raises what `goals` raises.
    """
    ends = dict.fromkeys(motion.through or [None])
    return {end: goals(net, settings.replace(end=(end,)) if end else settings, guide) for end in ends}


def frame_metadata(net: Net, settings: Settings, motion: Motion = Motion(), files: dict | None = None) -> dict:
    """Return the provenance of the frames, which must be the same when a zoom is continued.

    The arguments are those of `zoom`.
    """
    return provenance(net, settings.to_metadata(), **(files or {}), **motion.to_metadata())


def frame_path(folder: Path, i: int) -> Path:
    """Return the path of frame i."""
    return Path(folder) / f"{i:04d}.jpg"


# ---- continuing a zoom

def resume(folder: Path, metadata: dict, shape: tuple[int, ...]) -> tuple[int, np.ndarray | None]:
    """Find out where a zoom in a folder stopped.

    folder: the folder of the frames.
    metadata: the provenance of the frames to be dreamt, from `frame_metadata`.
    shape: (H, W, 3) of the picture that the zoom starts from.

    Returns the number of the next frame and the picture to dream it from; (0, None) in a folder without a zoom. Raises
    DreamError if the zoom in the folder was made with other settings, or if its state is missing or damaged.
    """
    state = saved_state(folder)
    if state is None:
        if frame_path(folder, 1).exists():
            raise DreamError(f"-o {folder}: holds frames but no {STATE}, which going on needs; give an empty folder")
        if frame_path(folder, 0).exists() and not _is_ours(frame_path(folder, 0)):
            raise DreamError(f"-o {folder}: would overwrite {frame_path(folder, 0)}, which is no frame of a zoom; give "
                             "an empty folder")
        _check_from(folder, 1)
        return 0, None
    i, existing = state
    _check_from(folder, i)
    changed = differences(existing, metadata, ("pixels",))      # the checksum depends on them, too
    if changed:
        raise DreamError(f"-o {folder}: holds a zoom with another {', '.join(k.replace('_', ' ') for k in changed)}; "
                         "give another folder")
    with _open_state(folder, math.prod(shape) * 8 + METADATA) as arrays:
        frame = arrays["frame"]
        if frame.shape != tuple(shape) or frame.dtype not in (np.float32, np.float64) or not np.isfinite(frame).all():
            raise ValueError("its frame does not fit the picture")
    return i, frame


def _check_from(folder, first):
    """Raise DreamError if a frame from number `first` on would replace a picture that is no frame."""
    for path in sorted(folder.glob("[0-9]*.jpg")):
        if path.stem.isdecimal() and int(path.stem) >= first and path == frame_path(folder, int(path.stem)) \
                and not is_dream(path):
            raise DreamError(f"-o {folder}: would overwrite {path}, which is no frame of a zoom; give another folder")


def saved_state(folder: Path) -> tuple[int, dict] | None:
    """Read the state of the zoom in a folder, without its picture.

    Returns the number of the next frame and the provenance of the frames; None if there is no state. Raises DreamError
    if it cannot be read.
    """
    if not os.path.lexists(Path(folder) / STATE):
        return None
    with _open_state(folder) as arrays:
        i, metadata = arrays["next"], arrays["record"]
        if i.shape or i.dtype.kind not in "iu" or i < 1 or metadata.shape or metadata.dtype.kind != "U":
            raise ValueError("its entries have other types")
        i, metadata = int(i), json.loads(str(metadata))
        if not isinstance(metadata, dict) or type(metadata.get("seed")) is not int or not 0 <= metadata["seed"] < SEED:
            raise ValueError("it does not contain the settings of a zoom")
        return i, metadata


def save_state(folder: Path, i: int, frame: np.ndarray, metadata: dict) -> None:
    """Write the state of a zoom.

    folder: the folder of the frames.
    i: the number of the next frame.
    frame: the picture to dream it from, (H, W, 3).
    metadata: the provenance of the frames, from `frame_metadata`.
    """
    file = io.BytesIO()
    np.savez(file, next=i, frame=frame, record=json.dumps(metadata))
    pictures.write(Path(folder) / STATE, file.getvalue())


@contextlib.contextmanager
def _open_state(folder, limit=METADATA):
    """Open the state in a folder. Any error inside of the `with` becomes a DreamError of one line that names the file.

    The value is indexed by the names of arrays, of which each may have at most `limit` bytes.
    """
    path = Path(folder) / STATE
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with zipfile.ZipFile(path) as file:
            yield _Arrays(file, limit)
    except Exception as error:      # zipfile, zlib, numpy and json raise exceptions of many types
        reason = shown(str(error) or type(error).__name__, 200)
        raise DreamError(f"{path}: cannot be read ({reason}); give an empty folder") from None


class _Arrays:
    """The arrays of an .npz file. No more than `limit` bytes of each are unpacked, whatever size the file states."""

    def __init__(self, file, limit):
        self.file, self.limit = file, limit

    def __getitem__(self, name):
        with self.file.open(f"{name}.npy") as packed:
            data = packed.read(self.limit + 1)
        if len(data) > self.limit:
            raise ValueError(f"its {name} is too large")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _is_ours(path):
    """Return whether a picture is the first frame of a zoom that was stopped before its state was saved."""
    return pictures.settings_if_any(path).get("frame") == 0
