"""The notebook's endless zoom: dream, zoom in a little, dream again.

A folder of frames, 0000.jpg, 0001.jpg ..., and `zoom.npz`: the settings and, without loss, the picture that the next
frame is dreamt from, so that going on later gives what would have come without the pause.
"""
import io
import itertools
import json
import os
import tempfile
from fractions import Fraction
from pathlib import Path

import numpy as np
import scipy.ndimage as nd

from . import pictures
from .dream import deepdream, visible
from .errors import DreamError

STATE = "zoom.npz"


def zoomed(frame, scale=0.05, legacy_affine=False):
    """Zoom into a picture (H, W, 3): its middle, 1 - scale of its height and width, at the full size again.

    legacy_affine: as the notebook ran in 2015. Before SciPy 0.18 a matrix given as its diagonal was applied to the
    position plus the offset, matrix * (o + offset), so that the vanishing point lay at (1 - scale) / 2 of the size.
    """
    h, w = frame.shape[:2]
    matrix, offset = np.array([1 - scale, 1 - scale, 1]), np.array([h * scale / 2, w * scale / 2, 0])
    return nd.affine_transform(frame, matrix, matrix * offset if legacy_affine else offset, order=1)


def zoom(net, img, folder, frames, seed, settings, scale=0.05, legacy_affine=False, quality=95, record=None,
         on_frame=lambda i: None, **deepdream_params):
    """Dream `frames` frames of a zoom into `img`, (H, W, 3), and write them to a folder, from where it stopped.

    seed: with the frame's number, seeds the jitter of each frame. settings: keywords of `deepdream` that count as the
    zoom's own; deepdream_params: the others (end, objective, on_step). record: written into each frame, and compared
    when a zoom goes on. on_frame(i): called before each frame.

    Raises DreamError if the folder holds frames that were made with other settings.
    """
    record = {**(record or {}), **settings, "scale": scale, "legacy_affine": legacy_affine, "seed": seed}
    first, frame = resume(folder, record)
    frame = img if frame is None else frame
    for i in range(first, frames):
        on_frame(i)
        frame = deepdream(net, frame, rng=np.random.RandomState([seed, i]), **settings, **deepdream_params)
        shown = visible(frame, settings.get("clip", True))
        pictures.save(shown, frame_path(folder, i), {**record, "frame": i}, quality)
        frame = zoomed(frame, scale, legacy_affine)
        _keep(folder, i + 1, frame, record)


def frame_path(folder, i):
    return Path(folder) / f"{i:04d}.jpg"


def resume(folder, record):
    """(number of the next frame, the picture it is dreamt from); (0, None) in a new folder."""
    there = kept(folder)
    if there is None:
        if frame_path(folder, 1).exists():
            raise DreamError(f"-o {folder}: holds frames but no {STATE}, which going on needs; give an empty folder")
        if frame_path(folder, 0).exists() and not _is_ours(frame_path(folder, 0)):
            raise DreamError(f"-o {folder}: would overwrite {frame_path(folder, 0)}, which is no frame of a zoom; give "
                             "an empty folder")
        return 0, None
    i, frame, before = there
    usual = {"tile": None, "priors": {}, "fast": False}       # of what an older version did not write down
    record, before = json.loads(json.dumps({**usual, **record})), {**usual, **before}
    other = [k for k, v in record.items() if before.get(k) != v]
    if other:
        raise DreamError(f"-o {folder}: holds a zoom with another {', '.join(k.replace('_', ' ') for k in other)}; "
                         "give another folder")
    return i, frame


def kept(folder):
    """What a folder keeps for going on: (number of the next frame, the picture it is dreamt from, the record), or None.

    Raises DreamError if it cannot be read.
    """
    path = Path(folder) / STATE
    if not os.path.lexists(path):
        return None
    try:
        with np.load(path, allow_pickle=False) as state:
            return int(state["next"]), state["frame"], dict(json.loads(str(state["record"])))
    except Exception as error:      # zipfile, zlib, numpy and json each raise their own
        raise DreamError(f"{path}: cannot be read ({error}); give an empty folder") from None


def _is_ours(path):
    """Whether a picture is the first frame of a zoom that was stopped before its state was kept."""
    return pictures.settings_there(path).get("frame") == 0


def _keep(folder, i, frame, record):
    file = io.BytesIO()
    np.savez(file, next=i, frame=frame, record=json.dumps(record))
    pictures.write(Path(folder) / STATE, file.getvalue())


# ---- movies

def movie(folder, frames, path, fps=25):
    """Write the first `frames` frames of a folder as .gif, .webp or .mp4, fps frames a second."""
    path = Path(path)
    pictures.write(path, MOVIES[path.suffix.lower()](_frames(folder, frames), fps))


def check_movie(path):
    """Raise DreamError unless a movie can be written to `path`."""
    path = Path(path)
    if path.suffix.lower() not in MOVIES:
        raise DreamError(f"--movie {path}: '{path.suffix}' is not a format for movies; allowed are {', '.join(MOVIES)}")
    pictures.check_file(path, "--movie")
    if path.suffix.lower() == ".mp4":
        _av()


def _frames(folder, frames):
    """The frames as Pillow images, read one at a time."""
    from PIL import Image
    for i in range(frames):
        yield Image.fromarray(pictures.to_uint8(pictures.load(frame_path(folder, i))))


def _pillow(fmt, **options):
    def encode(frames, fps):
        file = io.BytesIO()
        next(frames).save(file, fmt, save_all=True, append_images=frames, duration=round(1000 / fps), loop=0, **options)
        return file.getvalue()
    return encode


def _mp4(frames, fps):
    """H.264 as every browser and phone plays it: yuv420p, even sizes, the index in front."""
    av = _av()
    first = next(frames)
    w, h = (n - n % 2 for n in first.size)
    with tempfile.TemporaryDirectory() as place:      # FFmpeg opens a file twice to put the index in front
        path = Path(place) / "movie.mp4"
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
            stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
            for frame in itertools.chain([first], frames):
                container.mux(stream.encode(av.VideoFrame.from_image(frame.crop((0, 0, w, h)))))
            container.mux(stream.encode())
        return path.read_bytes()


def _av():
    try:
        import av  # PyAV: FFmpeg's libraries in the wheel, no program to find or run
        return av
    except ImportError:
        raise DreamError("--movie: .mp4 needs the package av: pip install av; .gif and .webp need nothing") from None


MOVIES = {".gif": _pillow("GIF"), ".webp": _pillow("WEBP", quality=85), ".mp4": _mp4}
