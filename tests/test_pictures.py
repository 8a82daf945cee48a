"""deepdream.pictures: every kind of picture is read correctly or rejected in one line, and settings are saved."""
import errno
import io
import os
import random
import struct
import warnings
import zlib

import numpy as np
import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from deepdream import DreamError, load, save, settings
from deepdream.pictures.files import check_target, encode, refuse_inputs, settings_if_any, to_uint8, write

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = RGB[..., 0]


@pytest.fixture
def file(tmp_path):
    """Return a function that saves a Pillow image under a name, and returns the path."""
    def make(name, image, **options):
        image.save(tmp_path / name, **options)
        return tmp_path / name
    return make


def is_(path, expected, tolerance=0):
    picture = load(path)
    assert picture.dtype == np.float32 and picture.shape == expected.shape
    assert np.abs(picture - expected).max() <= tolerance


def grey(array):
    return np.repeat(np.float32(array)[..., None], 3, axis=2)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.PNG"])
def test_rgb(file, name):
    is_(file(name, Image.fromarray(RGB)), RGB)


def test_rgb_with_losses(file):
    smooth = np.uint8(np.add.outer(np.arange(32), np.arange(40))[..., None] + np.array([0, 60, 120]))
    is_(file("a.jpg", Image.fromarray(smooth), quality=98), smooth, 6)
    is_(file("a.webp", Image.fromarray(smooth), quality=100), smooth, 12)
    is_(file("b.webp", Image.fromarray(RGB), lossless=True), RGB)


def test_grey_and_bilevel(file):
    is_(file("a.png", Image.fromarray(GREY)), grey(GREY))
    is_(file("1.png", Image.fromarray(GREY > 127)), grey((GREY > 127) * 255))
    is_(file("a.tif", Image.fromarray(GREY)), grey(GREY))


@pytest.mark.parametrize("name", ["a.png", "a.tif"])
def test_16_bit(file, name):
    wide = np.uint16(np.arange(54).reshape(6, 9) * 1200)
    is_(file(name, Image.fromarray(wide)), grey(wide / 257), 1e-3)


def chunk(kind, data):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def test_16_bit_colour(tmp_path):
    wide = np.uint16(RGB) * 257
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in wide)
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 9, 6, 16, 2, 0, 0, 0))
    (tmp_path / "a.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(rows))
                                     + chunk(b"IEND", b""))
    is_(tmp_path / "a.png", RGB, 1)


def test_palette(file):
    image = Image.fromarray(np.uint8(np.arange(54).reshape(6, 9)), "P")
    palette = np.random.default_rng(1).integers(0, 256, (54, 3)).astype(np.uint8)
    image.putpalette(palette.tobytes())
    expected = palette[np.arange(54).reshape(6, 9)]
    for name in ("a.png", "a.gif"):
        is_(file(name, image), expected)
    expected = expected.copy()
    expected[0, 4] = 255                                   # entry 4 is transparent: white
    is_(file("t.png", image, transparency=4), expected)


def test_alpha_is_laid_on_white(file):
    alpha = np.uint8(np.linspace(0, 255, 54).reshape(6, 9))
    share = alpha[..., None] / 255
    is_(file("a.png", Image.fromarray(np.dstack([RGB, alpha]))), RGB * share + 255 * (1 - share), 1.01)
    is_(file("la.png", Image.fromarray(np.dstack([GREY, alpha]), "LA")), grey(GREY) * share + 255 * (1 - share), 1.01)
    is_(file("a.webp", Image.fromarray(np.dstack([RGB, np.full_like(alpha, 255)])), lossless=True), RGB)


def test_cmyk(file):
    flat = Image.new("CMYK", (9, 6), (0, 255, 255, 0))
    for name in ("a.jpg", "a.tif"):
        is_(file(name, flat), np.broadcast_to(np.uint8([255, 0, 0]), (6, 9, 3)), 3)


@pytest.mark.parametrize("orientation, turned", [
    (1, lambda a: a), (2, lambda a: a[:, ::-1]), (3, lambda a: a[::-1, ::-1]), (4, lambda a: a[::-1]),
    (5, lambda a: a.swapaxes(0, 1)), (6, lambda a: np.rot90(a, -1)), (7, lambda a: a[::-1, ::-1].swapaxes(0, 1)),
    (8, lambda a: np.rot90(a, 1))])
def test_exif_rotation(file, orientation, turned):
    exif = Image.Exif()
    exif[274] = orientation
    for name in ("a.png", "a.tif"):
        is_(file(name, Image.fromarray(RGB), exif=exif), turned(RGB))


def test_the_first_frame_of_an_animation(file):
    frames = [Image.new("RGB", (9, 6), c) for c in ("red", "lime", "blue")]
    for name in ("a.gif", "a.png", "a.webp", "a.tif"):
        options = {"lossless": True} if name.endswith("webp") else {}
        is_(file(name, frames[0], save_all=True, append_images=frames[1:], **options),
            np.broadcast_to(np.uint8([255, 0, 0]), (6, 9, 3)), 1)


def test_floats(file):
    is_(file("a.tif", Image.fromarray(np.float32(GREY))), grey(GREY))
    for bad in (np.float32(GREY) * 300, np.float32(GREY) - 200, np.float32(GREY) * np.nan):
        rejected(file("b.tif", Image.fromarray(bad)), "its numbers")
    is_(file("c.tif", Image.fromarray(np.int32(GREY) * 257)), grey(GREY), 1e-3)
    rejected(file("d.tif", Image.fromarray(np.int32(GREY) * 70000)), "its numbers")


def test_lab(file):
    is_(file("lab.tif", Image.new("LAB", (9, 6), (0, 128, 128))), np.zeros((6, 9, 3)), 3)


# ---- rejected files

def rejected(path, *parts):
    with pytest.raises(DreamError) as caught:
        load(path)
    message = str(caught.value)
    assert message.startswith(str(path)) and "\n" not in message
    for part in parts:
        assert part in message, message


def test_no_picture(tmp_path):
    rejected(tmp_path / "none.jpg", "no such picture")
    rejected(tmp_path, "cannot be read")
    for name, data in {"text.jpg": b"not a picture, but a letter\n" * 50, "empty.png": b"", "zeros.tif": bytes(5000),
                       "net.webp": b"RIFF\x10\x00\x00\x00WAVEfmt " + bytes(50)}.items():
        (tmp_path / name).write_bytes(data)
        rejected(tmp_path / name, "not a picture")


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_truncated(tmp_path, name):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3)).astype(np.uint8))
    whole = io.BytesIO()
    noise.save(whole, Image.registered_extensions()[name[1:]])
    whole = whole.getvalue()
    for length in (10, 100, len(whole) // 2, len(whole) - 200):
        (tmp_path / name).write_bytes(whole[:length])
        with warnings.catch_warnings():
            warnings.simplefilter("error")                # a warning of Pillow would be another line on stderr
            rejected(tmp_path / name)


def test_huge(tmp_path, monkeypatch):
    """A small file whose header declares 40000 x 40000 pixels."""
    header = chunk(b"IHDR", struct.pack(">IIBBBBB", 40000, 40000, 8, 2, 0, 0, 0))
    (tmp_path / "bomb.png").write_bytes(b"\x89PNG\r\n\x1a\n" + header + chunk(b"IDAT", zlib.compress(bytes(100)))
                                        + chunk(b"IEND", b""))
    rejected(tmp_path / "bomb.png", "too large")


def test_other_formats(file):
    rejected(file("a.ico", Image.new("RGB", (16, 16))), "ICO", "not supported")


# ---- damaged files

SUFFIXES = ("jpg", "png", "webp", "tif")
ERRORS = [struct.error("unpack requires 4 bytes"), EOFError(), IndexError("out of range"), OverflowError("too large"),
          zlib.error("Error -3"), MemoryError(), RecursionError("too deep"), KeyError(259), TypeError("no number"),
          AttributeError("no such tag"), SyntaxError("not a TIFF file"), OSError(5, "Input/output error"),
          UnicodeDecodeError("utf-8", b"\xff", 0, 1, "x"), ValueError("two\nlines\x1b[2J")]


@pytest.mark.parametrize("error", ERRORS, ids=lambda error: type(error).__name__)
def test_any_exception_of_a_decoder_becomes_one_line(file, monkeypatch, error):
    def fail(*_):
        raise error

    path = file("a.png", Image.fromarray(RGB))
    monkeypatch.setattr(Image.Image, "getexif", fail)
    rejected(path, "cannot be read: ")
    with pytest.raises(DreamError, match="a.png: cannot be read: "):
        settings(path)
    assert settings_if_any(path) == settings_if_any(path.parent / "none.png") == {}


def with_text(path, text):
    """Write a picture with any bytes in the place of its settings."""
    image, options = Image.fromarray(RGB), {}
    if path.suffix == ".jpg":
        options = {"comment": text[:65000]}
    elif path.suffix == ".png":
        options = {"pnginfo": PngInfo()}
        options["pnginfo"].add_text("deepdream", text.decode("latin-1").replace("\0", " "))
    else:
        options = {"exif": Image.Exif()}
        options["exif"][270] = text.decode("latin-1")
    image.save(path, **options)
    return path


@pytest.mark.parametrize("text", [
    b"\xff\xfe\xfd", b"{", b"[1]", b"null", b'"text"', b'{"seed": ' + b"9" * 5000 + b"}", b"[" * 60000, b'{"a":' * 9000,
    b"{" + b" " * 1100000 + b"}", "\u00e9".encode("latin-1")], ids=lambda text: ascii(text[:9]))
def test_damaged_settings_are_ignored(tmp_path, text):
    for suffix in SUFFIXES:
        path = with_text(tmp_path / f"a.{suffix}", text)
        assert settings(path) == {}
        assert load(path).shape == RGB.shape


@pytest.mark.parametrize("suffix", SUFFIXES)
def test_damaged_pictures_are_read_or_rejected_in_one_line(tmp_path, suffix):
    path, dice = tmp_path / f"a.{suffix}", random.Random(suffix)
    exif = Image.Exif()
    exif[274] = 6
    exif.get_ifd(34665)[36867] = "2026:01:01 00:00:00"
    Image.fromarray(RGB).save(path, exif=exif)
    whole = path.read_bytes()
    for _ in range(150):
        data = bytearray(whole)
        for _ in range(dice.choice((1, 3, 10))):
            data[dice.randrange(len(data))] = dice.choice((0, 1, 255, dice.randrange(256)))
        path.write_bytes(data[:dice.choice((len(data), dice.randrange(30, len(data))))])
        try:
            assert isinstance(settings(path), dict) and load(path).ndim == 3
        except DreamError as error:
            assert str(error).startswith(f"{path}: ") and str(error).isprintable()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "a.png")
    rejected(tmp_path / "a.png", "not a regular file")
    assert settings_if_any(tmp_path / "a.png") == {}


# ---- writing

RECORD = {"end": "inception_4c/output", "seed": 3, "octave_scale": 1.4, "clip": True, "guide": None,
          "picture": "Kätzchen \"ä\" 猫.jpg"}


@pytest.mark.parametrize("name", ["a.jpg", "a.jpeg", "a.png", "a.webp", "a.tif", "a.TIFF", "猫.JPG"])
def test_settings_are_saved_in_the_picture(tmp_path, name):
    smooth = np.float32(np.add.outer(np.arange(32), np.arange(40))[..., None] * 2 + np.array([0, 30, 60]))
    save(smooth, tmp_path / name, RECORD)
    assert settings(tmp_path / name) == RECORD
    assert np.abs(load(tmp_path / name) - smooth).mean() < 3
    assert [p.name for p in tmp_path.iterdir()] == [name]


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp", "a.tif"])
def test_without_settings(tmp_path, name):
    save(np.float32(RGB), tmp_path / name)
    assert settings(tmp_path / name) == {}
    Image.fromarray(RGB).save(tmp_path / name)
    assert settings(tmp_path / name) == {}


def test_a_comment_of_another_program(file):
    for comment in (b"shot in Utah", b"2015"):
        assert settings(file("a.jpg", Image.fromarray(RGB), comment=comment)) == {}


def test_eight_bits_as_in_the_notebook():
    """Values are clipped, then rounded down: 1.9 becomes 1."""
    assert to_uint8(np.float32([-5, 0.9, 1.9, 254.99, 255, 300])).tolist() == [0, 0, 1, 254, 255, 255]
    picture = np.float32(RGB) + 0.99
    with Image.open(io.BytesIO(encode(picture, "png"))) as image:
        np.testing.assert_array_equal(np.asarray(image), RGB)


def test_png_and_tiff_lose_nothing(tmp_path):
    for name in ("a.png", "a.tif"):
        save(np.float32(RGB), tmp_path / name)
        is_(tmp_path / name, RGB)


def test_quality(tmp_path):
    noise = np.float32(np.random.default_rng(0).uniform(0, 255, (64, 64, 3)))
    sizes = []
    for quality in (20, 90):
        save(noise, tmp_path / "a.jpg", quality=quality)
        sizes.append((tmp_path / "a.jpg").stat().st_size)
    assert sizes[0] < sizes[1] / 2


@pytest.mark.parametrize("name, part", [("a.gif", "'.gif' is not a picture format"), ("a", "'' is not"),
                                        ("no/a.jpg", "there is no folder"), ("folder.jpg", "cannot be written")])
def test_invalid_targets(tmp_path, name, part):
    (tmp_path / "folder.jpg").mkdir()
    for call in (check_target, lambda p: save(np.float32(RGB), p)):
        with pytest.raises(DreamError) as caught:
            call(tmp_path / name)
        assert part in str(caught.value) and "\n" not in str(caught.value)
    assert [p.name for p in tmp_path.iterdir()] == ["folder.jpg"]


def test_never_half_a_file(tmp_path, monkeypatch):
    target = tmp_path / "a.png"
    save(np.float32(RGB), target)
    before = target.read_bytes()

    def interrupted(*_):
        raise KeyboardInterrupt
    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        save(255 - np.float32(RGB), target)
    assert target.read_bytes() == before and [p.name for p in tmp_path.iterdir()] == ["a.png"]
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "new.png", b"x")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_a_link_is_written_through(tmp_path):
    (tmp_path / "there").mkdir()
    real, link = tmp_path / "there" / "real.png", tmp_path / "link.png"
    real.write_bytes(b"old")
    link.symlink_to(real)
    save(np.float32(RGB), link)
    assert link.is_symlink() and not real.is_symlink()
    is_(real, RGB)
    link.unlink()
    link.symlink_to(tmp_path / "gone" / "a.png")
    with pytest.raises(DreamError, match="there is no folder .*gone"):
        check_target(link)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="needs named pipes")
def test_a_pipe_is_not_overwritten(tmp_path):
    pipe = tmp_path / "pipe.png"
    os.mkfifo(pipe)
    for call in (check_target, lambda p: save(np.float32(RGB), p)):
        with pytest.raises(DreamError, match="cannot be written: not a regular file"):
            call(pipe)
    with pytest.raises(OSError, match="not a regular file"):
        write(pipe, b"x")
    assert pipe.is_fifo() and [p.name for p in tmp_path.iterdir()] == ["pipe.png"]


def test_a_read_only_file_system(tmp_path, monkeypatch):
    def rejected_(path, flags, mode=0o777, real=os.open):
        if flags & os.O_CREAT:
            raise OSError(errno.EROFS, os.strerror(errno.EROFS), "somewhere/.x.part")
        return real(path, flags, mode)
    monkeypatch.setattr(os, "open", rejected_)
    with pytest.raises(DreamError, match="a.png: cannot be written: Read-only file system$"):
        check_target(tmp_path / "a.png")
    with pytest.raises(OSError) as caught:
        write(tmp_path / "a.png", b"x")
    assert caught.value.filename == str(tmp_path / "a.png")


def test_inputs_are_not_overwritten(tmp_path):
    source, link = tmp_path / "a.png", tmp_path / "b.png"
    source.write_bytes(b"x")
    link.symlink_to(source)
    for target in (source, link, tmp_path / "." / "a.png"):
        with pytest.raises(DreamError, match=r"^--movie .*: would overwrite .*a\.png$"):
            refuse_inputs(target, None, tmp_path / "none", source, option="--movie")
    refuse_inputs(tmp_path / "c.png", source)


def test_the_file_can_be_read_by_others(tmp_path):
    save(np.float32(RGB), tmp_path / "a.png")
    umask = os.umask(0)
    os.umask(umask)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_picture_that_does_not_fit_is_rejected_before_it_is_decoded(tmp_path, monkeypatch):
    Image.new("L", (4000, 3000)).save(tmp_path / "large.png")
    monkeypatch.setenv("DEEPDREAM_MEMORY_GB", "0.4")
    monkeypatch.setattr(Image.Image, "load", None)
    with pytest.raises(DreamError, match="large.png: too large a picture: 4000x3000 pixels take about 0.5 GB"):
        load(tmp_path / "large.png")
