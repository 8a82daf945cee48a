"""Small films for the tests, made by formula: movies with sound and subtitles, folders of frames, animations."""
import struct
from fractions import Fraction

import numpy as np
from PIL import Image
from scipy.ndimage import gaussian_filter

RATE = 25


def scene(seed, h=48, w=96):
    """Return a smooth random picture, uint8 (h, w, 3)."""
    rng = np.random.Generator(np.random.Philox(key=seed))
    grey, *colours = [gaussian_filter(rng.normal(size=(h, w)), s, mode="wrap") for s in (2.5, 8, 8, 8)]
    return np.uint8(np.dstack([np.clip(128 + 60 * grey / grey.std() + 20 * c / c.std(), 0, 255) for c in colours]))


def moving(n, seed=1, h=48, w=64, speed=2):
    """Return n frames, uint8 (n, h, w, 3), that move over a scene by `speed` pixels a frame."""
    wide = scene(seed, h, 2 * w)
    return np.stack([np.roll(wide, -speed * i, 1)[:, :w] for i in range(n)])


def with_cut(n, seeds=(1, 2), **size):
    """Return frames of two shots, n frames each."""
    return np.concatenate([moving(n, seed, **size) for seed in seeds])


def write_movie(path, frames, stamps=None, time_base=Fraction(1, RATE), codec="libx264", pix_fmt="yuv420p", sound=True,
                subtitle=None, rotation=0, options=None, colour=None, shape=None):
    """Write a movie.

    frames: uint8 (n, h, w, 3 or 4).
    stamps: time stamps of the frames, in units of time_base; None: 0, 1, 2 ...
    sound: add a tone, as AAC (in .webm as Opus).
    subtitle: the text of a subtitle, shown from 0.1 to 0.4 s, or None; only in .mkv.
    rotation: the angle by which players turn the picture, counterclockwise; only in .mp4 and .mov.
    colour: (matrix, primaries, curve, full range), by FFmpeg's numbers.
    shape: the width of a pixel as a part of its height.
    """
    import av
    stamps = list(range(len(frames))) if stamps is None else stamps
    with av.open(str(path), "w") as out:
        video = out.add_stream(codec, rate=RATE, options={"crf": "8", "g": "6"} if options is None else options)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt = pix_fmt
        video.time_base = video.codec_context.time_base = time_base
        if colour:
            context = video.codec_context
            context.colorspace, context.color_primaries, context.color_trc, full = colour
            context.color_range = 2 if full else 1
        if shape:
            video.codec_context.sample_aspect_ratio = shape
        audio = out.add_stream("libopus" if path.suffix == ".webm" else "aac", rate=48000) if sound else None
        length = float(stamps[-1] * time_base) + 1 / RATE
        texts = _subtitle_stream(av, out, path, subtitle) if subtitle else ()
        if audio:
            _tone(av, out, audio, length)
        for packet in texts:
            out.mux(packet)
        for frame, stamp in zip(frames, stamps):
            out.mux(video.encode(_frame(av, frame, pix_fmt, stamp, time_base, colour)))
        out.mux(video.encode())
    if rotation:
        _rotate(path, rotation)
    return path


def _frame(av, frame, pix_fmt, stamp, time_base, colour):
    image = av.VideoFrame.from_ndarray(np.ascontiguousarray(frame), format="rgba" if frame.shape[2] == 4 else "rgb24")
    matrix = {1: 1, 9: 9}.get(colour[0], 5) if colour else 5
    image = image.reformat(format=pix_fmt, src_colorspace=matrix, dst_colorspace=matrix, src_color_range=2,
                           dst_color_range=2 if colour and colour[3] else 1)
    image.pts, image.time_base = stamp, time_base
    return image


def _tone(av, out, stream, seconds):
    tone = np.float32(0.3 * np.sin(np.arange(int(48000 * seconds)) / 20))
    size = 960 if stream.codec_context.name == "libopus" else 1024
    for start in range(0, len(tone) - size + 1, size):
        frame = av.AudioFrame.from_ndarray(np.tile(tone[None, start:start + size], (2, 1)), "fltp", "stereo")
        frame.sample_rate, frame.pts = 48000, start
        out.mux(stream.encode(frame))
    out.mux(stream.encode())


def _subtitle_stream(av, out, path, text):
    """Add a stream of subtitles, and return its packets: those of a file in SubRip's format."""
    file = path.with_suffix(".srt")
    file.write_text(f"1\n00:00:00,100 --> 00:00:00,400\n{text}\n")
    with av.open(str(file)) as source:
        stream = out.add_stream_from_template(source.streams[0])
        found = [packet for packet in source.demux() if packet.dts is not None]
    for packet in found:
        packet.stream = stream
    return found


def _rotate(path, angle):
    """Write an angle into the display matrix of the first track of an MP4 file, as phones do."""
    data = bytearray(path.read_bytes())
    at = data.index(b"tkhd") + 4 + 4 + 36      # version and flags, then what comes before the matrix
    c, s = {90: (0, 1), 180: (-1, 0), 270: (0, -1)}[angle]
    data[at:at + 36] = struct.pack(">9i", c << 16, -s << 16, 0, s << 16, c << 16, 0, 0, 0, 1 << 30)
    path.write_bytes(data)


def packets(path, kind):
    """Return (pts, dts, duration, bytes) of all packets of the streams of a kind, with times in seconds."""
    import av
    with av.open(str(path)) as film:
        return [(p.pts * p.time_base, p.dts * p.time_base, p.duration * p.time_base, bytes(p))
                for p in film.demux() if p.dts is not None and p.stream.type == kind]


def times(path):
    """Return the times of the frames of a movie, in seconds."""
    import av
    with av.open(str(path)) as film:
        return [frame.pts * frame.time_base for frame in film.decode(video=0)]


def write_frames(folder, frames, names):
    """Write frames as PNG files."""
    folder.mkdir()
    for frame, name in zip(frames, names, strict=True):
        Image.fromarray(frame).save(folder / name)
    return folder


def write_animation(path, frames, lengths, **options):
    """Write an animated GIF or WebP. lengths: how long each frame is shown, in milliseconds."""
    first, *rest = [Image.fromarray(frame) for frame in frames]
    first.save(path, save_all=True, append_images=rest, duration=lengths, **options)
    return path
