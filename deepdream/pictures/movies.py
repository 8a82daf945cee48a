"""Movies, made from picture files."""
import io
import itertools
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from PIL import ExifTags, Image

from ..convert.errors import shown
from ..convert.files import write
from ..errors import DreamError
from .files import check_file, to_uint8
from .reading import load


def movie(frames: Iterable[Path], path: Path, fps: float = 25, comment: str = "") -> None:
    """Write a movie.

    frames: picture files of the same size, in order.
    path: the movie: .gif, .webp or .mp4.
    fps: frames per second.
    comment: is written into the file.

    Raises DreamError if a frame cannot be read, or if the movie cannot be written.
    """
    path = Path(path)
    try:
        data = MOVIES[path.suffix.lower()](_images(frames), fps, comment)
    except DreamError:
        raise
    except Exception as error:      # Pillow and FFmpeg raise many types, for example for sizes that a format rejects
        raise DreamError(f"--movie {path}: cannot be written: {shown(error, 200)}") from None
    write(path, data)


def check_movie(path: Path) -> None:
    """Raise DreamError unless a movie can be written to this file."""
    path = Path(path)
    if path.suffix.lower() not in MOVIES:
        raise DreamError(f"--movie {path}: '{path.suffix}' is not a format for movies; allowed are {', '.join(MOVIES)}")
    check_file(path, "--movie")
    if path.suffix.lower() == ".mp4":
        _av()


def _images(frames):
    """Yield the frames as Pillow images, read one at a time."""
    size = None
    for path in frames:
        image = Image.fromarray(to_uint8(load(path)))
        if size not in (None, image.size):
            raise DreamError(f"{path}: has another size than the frames before it")
        size = image.size
        yield image


def _gif(frames, fps, comment):
    return _pillow(frames, fps, "GIF", comment=comment.encode())


def _webp(frames, fps, comment):
    exif = Image.Exif()
    exif[ExifTags.Base.ImageDescription] = comment
    return _pillow(frames, fps, "WEBP", quality=85, exif=exif.tobytes())


def _pillow(frames, fps, fmt, **options):
    file = io.BytesIO()
    next(frames).save(file, fmt, save_all=True, append_images=frames, duration=round(1000 / fps), loop=0, **options)
    return file.getvalue()


def _mp4(frames, fps, comment):
    """Encode H.264 that every browser and phone plays: yuv420p, even sizes, with the index at the beginning."""
    av = _av()
    first = next(frames)
    w, h = (n - n % 2 for n in first.size)
    with tempfile.TemporaryDirectory() as folder:      # to put the index at the beginning, FFmpeg opens a file twice
        path = Path(folder) / "movie.mp4"
        with av.open(str(path), "w", options={"movflags": "faststart"}) as container:
            container.metadata["comment"] = comment
            stream = container.add_stream("libx264", rate=Fraction(fps).limit_denominator(1001), options={"crf": "18"})
            stream.width, stream.height, stream.pix_fmt = w, h, "yuv420p"
            for frame in itertools.chain([first], frames):
                container.mux(stream.encode(av.VideoFrame.from_image(frame.crop((0, 0, w, h)))))
            container.mux(stream.encode())
        return path.read_bytes()


def _av():
    try:
        import av  # PyAV, whose wheel contains FFmpeg's libraries
        return av
    except ImportError:
        raise DreamError("--movie: .mp4 needs the package av: pip install av; .gif and .webp need nothing") from None


MOVIES = {".gif": _gif, ".webp": _webp, ".mp4": _mp4}
