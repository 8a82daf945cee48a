"""Movies that are written by PyAV: dreamt frames at the film's time stamps, with the film's sound and subtitles."""
from __future__ import annotations

import contextlib
import io
import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path

import numpy as np

from ..convert.errors import shown
from ..errors import DreamError
from .movie import FULL, LOW, Colour, Movie
from .needed import av
from .plan import Plan

CONTAINERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}
CODECS = {".webm": "libvpx-vp9"}      # the default encoder of a container, and of all others:
CODEC, ALPHA_CODEC = "libx264", {".mov": "prores_ks", ".webm": "libvpx-vp9", ".mkv": "ffv1"}
CRF = {"libx264": 18, "libx265": 20, "libvpx-vp9": 24, "libsvtav1": 24}      # and the default of each
OPTIONS = {"libvpx-vp9": {"b:v": "0", "row-mt": "1"}, "libx265": {"x265-params": "log-level=0"},
           "prores_ks": {"profile": "4444", "vendor": "apl0"}}
QUIET = {"SVT_LOG": "1"}      # without this variable, libsvtav1 prints what it does
# formats of pixels, the best first
WITH_ALPHA = ("yuva420p", "yuva444p10le", "yuva444p", "gbrap", "rgba", "argb", "bgra")
OPAQUE = ("yuv420p", "yuv422p10le", "yuv444p10le", "yuv444p", "gbrp", "rgb24", "bgr0")
ODD = ("yuv444p", "yuv444p10le", "gbrp", "rgb24", "bgr0", "yuv420p")      # for odd widths and heights
COPIED = "audio", "subtitle"
RGB = 0      # FFmpeg's number of the matrix of films in RGB


@dataclass(frozen=True)
class Encoding:
    """How a movie is written.

    path: the file.
    codec: the encoder, by FFmpeg's name; None: the default of the container.
    crf: the quality, a lower number is better; None: the default of the encoder.
    without: the kinds of streams that are not copied: 'audio', 'subtitle'.
    """
    path: Path
    codec: str | None = None
    crf: int | None = None
    without: tuple[str, ...] = ()

    def encoder(self, transparent: bool) -> str:
        """Return the name of the encoder. transparent: whether there is an alpha channel to keep."""
        suffix = self.path.suffix.lower()
        return self.codec or (ALPHA_CODEC.get(suffix) if transparent else None) or CODECS.get(suffix, CODEC)

    def keeps_alpha(self) -> bool:
        """Return whether the movie can have an alpha channel."""
        if self.codec:
            return any(name in WITH_ALPHA for name in _formats(self.codec))
        return self.path.suffix.lower() in ALPHA_CODEC

    def check(self, source: object, transparent: bool) -> None:
        """Raise DreamError unless the movie can be written.

        source: the film; if it is a `Movie`, its streams must fit into the new file.
        transparent: whether it has an alpha channel.
        """
        codec, suffix = self.encoder(transparent), self.path.suffix.lower()
        _formats(codec)
        if self.crf is not None and codec not in CRF:
            raise DreamError(f"--crf {self.crf}: {codec} has no such quality; {', '.join(CRF)} have")
        if self.crf is not None and self.crf > 51 and codec in ("libx264", "libx265"):
            raise DreamError(f"--crf {self.crf}: {codec} takes 0 to 51")
        allowed = av().format.ContainerFormat(CONTAINERS[suffix], "w")
        supported = _supported(allowed.name)
        if supported and av().codec.Codec(codec, "w").canonical_name not in supported:
            raise DreamError(f"--codec {codec}: {suffix} cannot hold it; .mkv holds more")
        if not isinstance(source, Movie):
            return
        with source.opened() as container:
            for stream in self.copied(container):
                name = stream.codec_context.codec.canonical_name if stream.codec_context else "unknown"
                if supported and name not in supported:
                    raise DreamError(f"-o {self.path}: {suffix} cannot hold the film's {stream.type}, which is {name}; "
                                     f"give a .mkv, or --without {stream.type}")

    def check_size(self, h: int, w: int, transparent: bool) -> None:
        """Raise DreamError unless the encoder can be opened for frames of h x w pixels."""
        codec = self.encoder(transparent)
        try:
            context = av().CodecContext.create(codec, "w")
            context.width, context.height, context.pix_fmt = w, h, pixel_format(codec, transparent, h, w)
            context.time_base = context.framerate = Fraction(1, 25)
            context.options = OPTIONS.get(codec, {})
            with quiet():
                context.open()
        except (av().FFmpegError, ValueError) as error:
            raise DreamError(f"--codec {codec}: cannot encode {w}x{h} pixels here: "
                             f"{shown(getattr(error, 'strerror', None) or error, 200)}") from None

    def copied(self, container) -> list:
        """List the streams of a film that are copied."""
        return [s for s in container.streams if s.type in COPIED and s.type not in self.without]


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Let encoders print nothing of their own inside of the `with`."""
    before = {name: os.environ.get(name) for name in QUIET}
    for name, value in QUIET.items():
        os.environ.setdefault(name, value)
    try:
        yield
    finally:
        for name in QUIET:
            if before[name] is None:
                del os.environ[name]


def _formats(codec):
    """Return the formats of pixels that an encoder takes. Raises DreamError if there is no such encoder."""
    try:
        found = av().codec.Codec(codec, "w")
    except (av().FFmpegError, ValueError):
        found = None
    if found is None or found.type != "video":
        raise DreamError(f"--codec {shown(codec)}: PyAV has no video encoder of this name; {', '.join(CRF)}, prores_ks "
                         "and ffv1 are some")
    return [f.name for f in found.video_formats or []]


def _supported(container):
    """Return the canonical names of the codecs that a container can hold."""
    with av().open(io.BytesIO(), "w", format=container) as probe:
        names = set(probe.supported_codecs)
    return names


def pixel_format(codec: str, transparent: bool, h: int, w: int) -> str:
    """Choose the format of the pixels that an encoder gets."""
    wanted = WITH_ALPHA if transparent else ODD if h % 2 or w % 2 else OPAQUE
    available = _formats(codec)
    return next((name for name in wanted if name in available), available[0] if available else wanted[0])


def write_movie(encoding: Encoding, target: Path, source: object, plan: Plan, frames: Iterable[np.ndarray],
                metadata: dict) -> None:
    """Encode frames and write them with the sound and the subtitles of the film.

    encoding: how.
    target: the file to write; encoding.path says the format.
    source: the film, a `Movie`, or another source without sound.
    plan: the times of the frames.
    frames: uint8 (H, W, 3), or (H, W, 4) with an alpha channel, as many as the plan has.
    metadata: plain values for the comment of the movie.

    Raises DreamError if it cannot be written.
    """
    container_name = CONTAINERS[encoding.path.suffix.lower()]
    options = {"fflags": "bitexact"}      # no random numbers, so that the same encoded frames are the same file
    if container_name in ("mp4", "mov"):
        options["movflags"] = "faststart+use_metadata_tags"
    try:
        with quiet(), av().open(str(target), "w", format=container_name, options=options) as out:
            if isinstance(source, Movie):
                with source.opened() as container:
                    _tags(out, container, metadata)
                    _write(encoding, out, source, container, plan, iter(frames))
            else:
                _tags(out, None, metadata)
                _write(encoding, out, source, None, plan, iter(frames))
    except (av().FFmpegError, ValueError) as error:
        raise DreamError(f"-o {encoding.path}: cannot be written: "
                         f"{shown(getattr(error, 'strerror', None) or error, 200)}") from None


def _tags(out, container, metadata):
    """Copy the film's metadata, and add how the dream was made."""
    if container is not None:
        out.metadata.update({k: v for k, v in container.metadata.items()
                             if k.lower() not in ("encoder", "comment", "major_brand", "minor_version",
                                                  "compatible_brands")})
    out.metadata["comment"] = json.dumps(metadata)


def _write(encoding, out, source, container, plan, frames):
    first = next(frames)
    stream, to_frame = _video_stream(encoding, out, source, plan, first)
    packets = _copies(encoding, out, container, source, plan) if container is not None else iter(())
    waiting = next(packets, None)
    for i, entry in enumerate(plan.entries):
        picture = first if i == 0 else next(frames)
        frame = to_frame(picture)
        frame.pts, frame.time_base = entry.stamp, plan.time_base
        frame.duration = entry.length
        while waiting and waiting[0] <= entry.stamp * plan.time_base:
            out.mux(waiting[1])
            waiting = next(packets, None)
        out.mux(stream.encode(frame))
    while waiting:
        out.mux(waiting[1])
        waiting = next(packets, None)
    out.mux(stream.encode())


def _video_stream(encoding, out, source, plan, first):
    """Add the stream of the dream. Returns it, and a function that makes a frame for it from an array."""
    transparent, (h, w) = first.shape[2] == 4, first.shape[:2]
    codec = encoding.encoder(transparent)
    crf = encoding.crf if encoding.crf is not None else CRF.get(codec)
    options = OPTIONS.get(codec, {}) | ({} if crf is None else {"crf": str(crf)})
    if codec == "prores_ks" and not transparent:
        options |= {"profile": "hq"}
    rate = source.rate if plan.time_base == source.time_base else 1 / plan.time_base
    stream = out.add_stream(codec, rate=rate.limit_denominator(100000), options=options)
    context = stream.codec_context
    stream.width, stream.height = w, h
    stream.pix_fmt = pixel_format(codec, transparent, h, w)
    stream.time_base = context.time_base = plan.time_base
    rgb = stream.pix_fmt.startswith(("rgb", "gbr", "bgr", "argb"))
    colour = source.colour if isinstance(source, Movie) else Colour(2, 2, 2, False, h)
    full = rgb or colour.full and colour.matrix != RGB
    if not rgb:
        context.colorspace = colour.matrix if colour.matrix in (1, 4, 5, 6, 7, 9, 10) else 2
    context.color_primaries, context.color_trc = colour.primaries, colour.curve
    context.color_range = FULL if full else LOW
    if isinstance(source, Movie) and source.shape != 1:
        context.sample_aspect_ratio = source.shape
    flags = av().video.reformatter.Interpolation
    kind = "rgba" if transparent else "rgb24"

    def to_frame(picture):
        frame = av().VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=kind)
        made = frame.reformat(format=stream.pix_fmt, src_colorspace=colour.scaler_matrix,
                              dst_colorspace=colour.scaler_matrix, src_color_range=FULL,
                              dst_color_range=FULL if full else LOW, threads=1,
                              interpolation=flags.BICUBIC | flags.ACCURATE_RND | flags.FULL_CHR_H_INT)
        return made

    return stream, to_frame


def _copies(encoding, out, container, source, plan) -> Iterator[tuple[Fraction, object]]:
    """Add the film's streams of sound and subtitles. Yield (time in the new movie, packet), with their bytes unchanged.

    Of a part of a film, those packets are copied that begin in it.
    """
    streams = {s.index: out.add_stream_from_template(s) for s in encoding.copied(container)}
    for stream in encoding.copied(container):
        streams[stream.index].metadata.update({k: v for k, v in stream.metadata.items() if k in ("language", "title")})

    def packets():
        if not streams:
            return
        for packet in container.demux(encoding.copied(container)):
            if packet.dts is None:      # the end of a stream
                continue
            begins = (packet.pts if packet.pts is not None else packet.dts) * packet.time_base
            ends = begins + (packet.duration or 0) * packet.time_base
            shown_for = packet.duration or 0
            if plan.shift and (ends <= plan.shift if shown_for else begins < plan.shift) \
                    or plan.until is not None and begins >= plan.until:
                continue
            shift = round(plan.shift / packet.time_base)
            packet.dts -= shift
            if packet.pts is not None:
                packet.pts -= shift
            at = packet.dts * packet.time_base
            packet.stream = streams[packet.stream.index]
            yield at, packet
    return packets()
