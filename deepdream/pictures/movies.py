"""Movies of picture files."""
import io
import itertools
import tempfile
from collections.abc import Iterable
from fractions import Fraction
from pathlib import Path

from PIL import Image

from ..convert.errors import shown
from ..convert.files import write
from ..errors import DreamError
from .files import check_file, load, to_uint8


def movie(frames: Iterable[Path], path: Path, fps: float = 25):
    """Write picture files as a .gif, .webp or .mp4 of fps frames a second. Raises DreamError."""
    path = Path(path)
    try:
        data = MOVIES[path.suffix.lower()](_images(frames), fps)
    except DreamError:
        raise
    except Exception as error:      # Pillow's and FFmpeg's own: sizes that the format does not have
        raise DreamError(f"--movie {path}: cannot be written: {shown(error, 200)}") from None
    write(path, data)


def check_movie(path: Path):
    """Raise DreamError unless a movie can be written to `path`."""
    path = Path(path)
    if path.suffix.lower() not in MOVIES:
        raise DreamError(f"--movie {path}: '{path.suffix}' is not a format for movies; allowed are {', '.join(MOVIES)}")
    check_file(path, "--movie")
    if path.suffix.lower() == ".mp4":
        _av()


def _images(frames):
    """The frames as Pillow images, read one at a time."""
    size = None
    for path in frames:
        image = Image.fromarray(to_uint8(load(path)))
        if size not in (None, image.size):
            raise DreamError(f"{path}: has another size than the frames before it")
        size = image.size
        yield image


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
