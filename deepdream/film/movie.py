"""Movies that are read by PyAV: any format and codec that FFmpeg knows."""
from __future__ import annotations

import contextlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import NamedTuple

import numpy as np

from ..convert.errors import shown
from ..errors import DreamError
from .needed import av
from .source import Frame

HD = 720               # lines from which a movie without colour tags is taken to have those of HDTV
MATRICES = {1: 1, 4: 4, 5: 5, 6: 5, 7: 7, 9: 9, 10: 9}      # FFmpeg's number in a stream -> that of its scaler
FULL_RANGE = "yuvj", "rgb", "bgr", "gbr", "argb", "abgr", "gray", "ya", "pal"      # formats of pixels of 0 to 255
WITH_ALPHA = {"vp8": "libvpx", "vp9": "libvpx-vp9"}      # codec -> the decoder that knows its alpha channel
LOW, FULL = 1, 2       # FFmpeg's numbers of the two ranges of brightness: 16 to 235, and 0 to 255


class Colour(NamedTuple):
    """How the colours of a movie are stored, by FFmpeg's numbers: its tags, which a dream of it keeps.

    matrix: how YUV is made from RGB; primaries, curve: what the colours mean; full: 0 to 255, not 16 to 235.
    lines: the height of the picture.
    """
    matrix: int
    primaries: int
    curve: int
    full: bool
    lines: int

    @property
    def scaler_matrix(self) -> int:
        """The matrix as FFmpeg's scaler numbers it; without a tag, that of HDTV for large movies, else that of TV."""
        return MATRICES.get(self.matrix, 1 if self.lines >= HD else 5)


class Movie:
    """A movie.

    path: the file.

    Attributes: those of `source.Source`, and
    colour: the `Colour` of its first frame.
    deep: whether its colours have more than 8 bits.
    shape: the width of a pixel as a part of its height, as shown.
    damaged: how many packets could not be decoded when the frames were read last.

    Raises DreamError for a file that is no movie, and if PyAV is not installed.
    """

    def __init__(self, path: str | Path):
        self.path, self.damaged, self._quarter = Path(path), 0, 0
        if not self.path.is_file():
            raise DreamError(f"{path}: " + ("not a regular file" if self.path.exists() else "no such film"))
        with self.opened() as container, readable(path):
            stream = self.stream_of(container)
            self.time_base, self.count = stream.time_base, stream.frames
            self.rate = stream.average_rate or stream.guessed_rate or Fraction(25)
            first = next((frame for frame in self._decoded(container, stream)), None)
            if first is None:
                raise DreamError(f"{path}: none of its frames can be decoded")
            self._describe(stream, first)

    def _describe(self, stream, first):
        parts = first.format.components
        self.deep, self.transparent = max(p.bits for p in parts) > 8, any(p.is_alpha for p in parts)
        self._quarter = round(first.rotation / 90) % 4
        turned = self._quarter % 2
        self.size = (first.width, first.height) if turned else (first.height, first.width)
        shape = stream.sample_aspect_ratio or Fraction(1)
        self.shape = 1 / shape if turned and shape else shape or Fraction(1)
        full = first.color_range == FULL or first.format.name.startswith(FULL_RANGE)
        self.colour = Colour(int(first.colorspace), int(first.color_primaries), int(first.color_trc), full,
                             first.height)

    @contextlib.contextmanager
    def opened(self) -> Iterator:
        """Open the file; the value is PyAV's container. Any error becomes a DreamError that names the file."""
        with readable(self.path):
            container = av().open(str(self.path), metadata_errors="replace")
        with container:
            yield container

    def stream_of(self, container) -> object:
        """Return the video stream of an open container. Raises DreamError if there is none."""
        stream = container.streams.best("video")
        if stream is None:
            raise DreamError(f"{self.path}: holds no video")
        stream.thread_type = "AUTO"
        return stream

    def frames(self, start: int | None = None) -> Iterator[Frame]:
        """Yield the frames; see `Source.frames`. Packets that cannot be decoded are left out and counted."""
        for sought in (True, False) if start is not None else (False,):
            with self.opened() as container:
                stream = self.stream_of(container)
                if sought and not self._sought(container, stream, start):
                    continue
                frames, last, found = self._decoded(container, stream), None, False
                for frame in frames:
                    stamp = self._stamp(frame, last)
                    if start is not None and not found and sought and (last is None and stamp > start
                                                                       or frame.pts is None):
                        break      # the place was after the frame, or there are no time stamps to find it by
                    last = stamp
                    if start is None or stamp >= start:
                        found = True
                        yield Frame(stamp, int(frame.duration or 0) or self._step, *self._pixels(frame))
                if found or not sought:
                    return

    @property
    def _step(self):
        return max(1, round(1 / (self.rate * self.time_base)))

    def _stamp(self, frame, last):
        """Return the time stamp of a frame, larger than that of the last one; counted where a file has none."""
        if last is None:
            return frame.pts or 0
        return last + self._step if frame.pts is None else max(frame.pts, last + 1)

    @staticmethod
    def _sought(container, stream, start):
        """Go to the last key frame that is not after `start`. Returns False if the file cannot be searched."""
        try:
            container.seek(start, stream=stream)
            return True
        except av().FFmpegError:
            return False

    def _decoded(self, container, stream):
        """Yield what can be decoded."""
        self.damaged, error = 0, av().FFmpegError
        packets, decode = container.demux(stream), self._decoder_of(stream)
        while True:
            try:
                packet = next(packets, None)
            except error:      # a file that ends too early
                self.damaged += 1
                return
            if packet is None:
                return
            try:
                yield from decode(packet)
            except error:
                self.damaged += 1

    @staticmethod
    def _decoder_of(stream):
        """Return a function that decodes a packet, by FFmpeg's own decoder unless that would lose an alpha channel."""
        name = WITH_ALPHA.get(stream.codec_context.name) if stream.metadata.get("alpha_mode") == "1" else None
        if name is None:
            return lambda packet: packet.decode()
        decoder = av().CodecContext.create(name, "r")
        return lambda packet: decoder.decode(None if packet.dts is None else packet)

    def _pixels(self, frame):
        """Return the colours and the alpha channel of a frame, turned as it is to be shown."""
        Flags = av().video.reformatter.Interpolation
        kind = ("rgba64le" if self.deep else "rgba") if self.transparent else ("rgb48le" if self.deep else "rgb24")
        pixels = frame.reformat(format=kind, src_colorspace=self.colour.scaler_matrix,
                                dst_colorspace=self.colour.scaler_matrix,
                                src_color_range=FULL if self.colour.full else LOW, dst_color_range=FULL,
                                interpolation=Flags.BICUBIC | Flags.ACCURATE_RND | Flags.FULL_CHR_H_INT,
                                width=frame.width, height=frame.height, threads=1).to_ndarray()
        pixels = np.rot90(pixels, self._quarter)
        if pixels.shape[:2] != self.size:
            raise DreamError(f"{self.path}: its frames change their size, to {pixels.shape[1]}x{pixels.shape[0]}")
        unit = 257 if self.deep else 1
        alpha = np.uint8(pixels[..., 3] // unit) if self.transparent else None
        return np.float32(pixels[..., :3]) / np.float32(unit), alpha


@contextlib.contextmanager
def readable(path: str | Path) -> Iterator[None]:
    """Turn the errors of FFmpeg inside of the `with` into a DreamError of one line that names the file."""
    try:
        yield
    except av().FFmpegError as error:
        raise DreamError(f"{path}: cannot be read as a film: "
                         f"{shown(getattr(error, 'strerror', None) or error, 200)}") from None
