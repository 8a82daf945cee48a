"""The notebook's endless zoom: dream, zoom in a little, dream again.

A folder of frames, 0000.jpg, 0001.jpg ..., and `zoom.npz`: the settings and, without loss, the picture that the next
frame is dreamt from, so that going on later gives what would have come without the pause.
"""
import contextlib
import io
import json
import math
import os
import zipfile
from pathlib import Path

import numpy as np
import scipy.ndimage as nd

from . import pictures
from .convert.errors import shown
from .dream import deepdream, visible
from .errors import DreamError
from .goals.text import goals
from .models.locks import locked
from .provenance import differences, machine, provenance

STATE, LOCK = "zoom.npz", ".lock"
RECORD = 10 ** 6      # bytes of a state's record at most
SEED = 2 ** 32        # seeds are below


def zoomed(frame, scale=0.05, legacy_affine=False):
    """Zoom into a picture (H, W, 3): its middle, 1 - scale of its height and width, at the full size again.

    legacy_affine: as the notebook ran in 2015. Before SciPy 0.18 a matrix given as its diagonal was applied to the
    position plus the offset, matrix * (o + offset), so that the vanishing point lay at (1 - scale) / 2 of the size.
    """
    h, w = frame.shape[:2]
    matrix, offset = np.array([1 - scale, 1 - scale, 1]), np.array([h * scale / 2, w * scale / 2, 0])
    return nd.affine_transform(frame, matrix, matrix * offset if legacy_affine else offset, order=1)


def zoom(net, img, folder, frames, settings, guide=None, scale=0.05, legacy_affine=False, quality=95, files=None,
         on_frame=lambda i: None, on_step=None):
    """Dream `frames` frames of a zoom into `img`, (H, W, 3), and write them to a folder, from where it stopped.

    settings: an `options.Settings`, whose seed, with the frame's number, seeds the jitter of each frame.
    guide: a picture (H, W, 3), or None.
    files: what is written into each frame of the source and the guide, and compared when a zoom goes on.
    on_frame: on_frame(i) is called before each frame. on_step: as of `deepdream`.

    Raises DreamError if the folder holds frames that were made with other settings, or another zoom is being dreamt
    there.
    """
    record = record_of(net, settings, scale, legacy_affine, files)
    keywords = settings.steps | goals(net, settings, guide) | {"on_step": on_step}
    with _alone(folder):
        first, frame = resume(folder, record, np.shape(img))
        frame = img if frame is None else frame
        for i in range(first, frames):
            on_frame(i)
            frame = deepdream(net, frame, rng=np.random.RandomState([settings.seed, i]), **keywords)
            picture = visible(frame, settings.clip)
            pictures.save(picture, frame_path(folder, i), {**record, **machine(net), "frame": i}, quality)
            frame = zoomed(frame, scale, legacy_affine)
            _keep(folder, i + 1, frame, record)


def record_of(net, settings, scale=0.05, legacy_affine=False, files=None):
    """What a frame's metadata says of its making, and what must be the same when a zoom goes on."""
    return provenance(net, settings.to_metadata(), **(files or {}), scale=scale, legacy_affine=legacy_affine)


def frame_path(folder, i):
    return Path(folder) / f"{i:04d}.jpg"


@contextlib.contextmanager
def _alone(folder):
    """Hold a folder of frames. Raises DreamError where another process does."""
    path = Path(folder) / LOCK
    try:
        handle = open(path, "a")
    except OSError as error:
        raise DreamError(f"-o {folder}: cannot be written: {error.strerror}") from None
    with handle:
        if not locked(handle, wait=False) or not _is_file_of(handle, path):
            raise DreamError(f"-o {folder}: another zoom is being dreamt there; give another folder")
        try:
            yield
        finally:
            with contextlib.suppress(OSError):      # on Windows an open file stays
                path.unlink()


def _is_file_of(handle, path):
    """Whether an open file still has its name: whoever held the lock takes it away at last."""
    try:
        return os.path.samestat(os.fstat(handle.fileno()), os.stat(path))
    except FileNotFoundError:
        return False


# ---- going on

def resume(folder, record, shape):
    """(number of the next frame, the picture it is dreamt from); (0, None) in a new folder. shape: of the picture that
    the zoom starts from, (H, W, 3)."""
    there = kept(folder)
    if there is None:
        if frame_path(folder, 1).exists():
            raise DreamError(f"-o {folder}: holds frames but no {STATE}, which going on needs; give an empty folder")
        if frame_path(folder, 0).exists() and not _is_ours(frame_path(folder, 0)):
            raise DreamError(f"-o {folder}: would overwrite {frame_path(folder, 0)}, which is no frame of a zoom; give "
                             "an empty folder")
        return 0, None
    i, before = there
    other = differences(before, record, ("pixels",))      # the checksum knows them, too
    if other:
        raise DreamError(f"-o {folder}: holds a zoom with another {', '.join(k.replace('_', ' ') for k in other)}; "
                         "give another folder")
    with _state(folder, math.prod(shape) * 8 + RECORD) as state:
        frame = state["frame"]
        if frame.shape != tuple(shape) or frame.dtype not in (np.float32, np.float64) or not np.isfinite(frame).all():
            raise ValueError("its frame is none of this picture")
    return i, frame


def kept(folder):
    """What a folder keeps for going on: (number of the next frame, the record), or None. Raises DreamError if it cannot
    be read."""
    if not os.path.lexists(Path(folder) / STATE):
        return None
    with _state(folder) as state:
        i, record = state["next"], state["record"]
        if i.shape or i.dtype.kind not in "iu" or i < 1 or record.shape or record.dtype.kind != "U":
            raise ValueError("its entries are of another kind")
        i, record = int(i), json.loads(str(record))
        if not isinstance(record, dict) or type(record.get("seed")) is not int or not 0 <= record["seed"] < SEED:
            raise ValueError("it tells no settings of a zoom")
        return i, record


@contextlib.contextmanager
def _state(folder, most=RECORD):
    """The state in a folder: state[name] is an array of at most `most` bytes. Whatever goes wrong with the file in here
    becomes one line that names it."""
    path = Path(folder) / STATE
    try:
        if not path.is_file():
            raise ValueError("not a regular file")
        with zipfile.ZipFile(path) as file:
            yield _Arrays(file, most)
    except Exception as error:      # zipfile, zlib, numpy and json each raise their own
        said = shown(str(error) or type(error).__name__, 200)
        raise DreamError(f"{path}: cannot be read ({said}); give an empty folder") from None


class _Arrays:
    """The arrays of an .npz file. No more than `most` bytes of one are unpacked, whatever the archive and the array's own
    header say of its size."""

    def __init__(self, file, most):
        self.file, self.most = file, most

    def __getitem__(self, name):
        with self.file.open(f"{name}.npy") as packed:
            data = packed.read(self.most + 1)
        if len(data) > self.most:
            raise ValueError(f"its {name} is too large")
        return np.lib.format.read_array(io.BytesIO(data), allow_pickle=False)


def _is_ours(path):
    """Whether a picture is the first frame of a zoom that was stopped before its state was kept."""
    return pictures.settings_there(path).get("frame") == 0


def _keep(folder, i, frame, record):
    file = io.BytesIO()
    np.savez(file, next=i, frame=frame, record=json.dumps(record))
    pictures.write(Path(folder) / STATE, file.getvalue())
