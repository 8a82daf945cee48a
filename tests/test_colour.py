"""Colour profiles, alpha channels and EXIF: what a picture looks like, and what its dream keeps of it."""
import io

import numpy as np
import profiles
import pytest
from PIL import ExifTags, Image, ImageCms

from deepdream import Net, deepdream, dream_picture, load, objective_L2, pictures, save, settings
from deepdream.cli import main
from deepdream.pictures import read
from deepdream.pictures.starts import resized
from deepdream.runtime.notices import say_once

RGB = np.random.default_rng(3).integers(0, 256, (30, 40, 3)).astype(np.uint8)
ALPHA = np.uint8(np.add.outer(np.arange(30) * 3, np.arange(40) * 4))
TINY = ["--iter-n", "2", "--octave-n", "2", "--jitter", "3", "--threads", "1", "--device", "cpu", "--end", "both"]


@pytest.fixture(autouse=True)
def notices():
    """Let each test see the lines that are printed once per process."""
    say_once.cache_clear()


@pytest.fixture
def here(tmp_path, monkeypatch):
    """Work in a temporary folder."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


# ---- colour profiles

@pytest.mark.parametrize("name", ["p3", "adobe"])
@pytest.mark.parametrize("file", ["a.png", "a.tif", "a.webp"])
def test_pictures_with_a_profile_become_srgb(here, name, file):
    Image.fromarray(RGB).save(file, icc_profile=profiles.profile(name), **{"lossless": True} if "w" in file else {})
    expected = profiles.to_srgb(RGB, name)
    assert np.abs(load(file) - expected).max() <= 1.5
    assert np.abs(expected - RGB).mean() > 3


def test_a_jpeg_with_a_profile(here):
    smooth = np.uint8(np.add.outer(np.arange(32), np.arange(40))[..., None] * 2 + np.array([100, 40, 10]))
    Image.fromarray(smooth).save("a.jpg", quality=98, icc_profile=profiles.profile("p3"))
    assert np.abs(load("a.jpg") - profiles.to_srgb(smooth, "p3")).mean() < 2
    assert np.abs(load("a.jpg") - smooth).mean() > 3


def test_srgb_profiles_change_no_bit(here, capsys):
    """Not even those whose numbers are rounded in another way."""
    theirs = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    for i, profile in enumerate((profiles.profile("srgb"), theirs)):
        Image.fromarray(RGB).save(f"{i}.png", icc_profile=profile)
        np.testing.assert_array_equal(load(f"{i}.png"), RGB)
    assert capsys.readouterr().err == ""


def test_grey_pictures_with_a_profile(here):
    grey = np.uint8(np.arange(256).reshape(16, 16))
    profile = profiles.grey_profile(1.0)
    Image.fromarray(grey).save("a.png", icc_profile=profile)
    Image.fromarray(np.dstack([grey, np.full_like(grey, 255)]), "LA").save("la.png", icc_profile=profile)
    Image.fromarray(np.uint16(grey) * 257).save("wide.tif", icc_profile=profile)
    light = np.arange(256) / 255
    expected = 255 * np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055).reshape(16, 16, 1)
    for file in ("a.png", "la.png", "wide.tif"):
        assert np.abs(load(file) - expected).max() <= 1.5, file


def test_cmyk_with_a_profile(here):
    ink = Image.new("CMYK", (9, 6), (255, 0, 0, 0))
    ink.save("plain.tif")
    ink.save("a.tif", icc_profile=profiles.cmyk_profile())
    ink.save("a.jpg", quality=100, icc_profile=profiles.cmyk_profile())
    lab = ImageCms.createProfile("LAB")
    transform = ImageCms.buildTransform(lab, ImageCms.createProfile("sRGB"), "LAB", "RGB")
    swatch = Image.new("LAB", (1, 1), (round(70 * 2.55), 128 - 20, 128 - 25))
    expected = np.float32(ImageCms.applyTransform(swatch, transform))[0, 0]
    assert np.abs(load("a.tif") - expected).max() <= 4 and np.abs(load("a.jpg") - expected).max() <= 6
    assert np.abs(load("plain.tif") - [0, 255, 255]).max() <= 1 and np.abs(expected - [0, 255, 255]).max() > 40


def test_a_palette_with_a_profile(here):
    image = Image.fromarray(RGB).quantize(40)
    image.save("a.png", icc_profile=profiles.profile("p3"))
    assert np.abs(load("a.png") - profiles.to_srgb(np.asarray(image.convert("RGB")), "p3")).max() <= 1.5


@pytest.mark.parametrize("profile, why", [
    (b"no profile at all", "is damaged"), (profiles.profile("p3")[:300], "is damaged"),
    (profiles.profile("p3")[:128] + bytes(500), "is damaged"),
    (profiles.cmyk_profile(), "is for CMYK pictures, and this one is RGB"),
    (profiles.profile("p3").replace(b"RGB ", b"Lab ", 1), "is for the colour space Lab")])
def test_a_profile_that_cannot_be_used_is_one_line(here, capsys, profile, why):
    Image.fromarray(RGB).save("a.png", icc_profile=profile)
    for _ in range(2):
        np.testing.assert_array_equal(load("a.png"), RGB)
    assert capsys.readouterr().err == f"a.png: its colour profile {why}; it is ignored\n"


# ---- the alpha channel

def test_colours_and_alpha_of_a_picture(here):
    Image.fromarray(np.dstack([RGB, ALPHA])).save("a.png", icc_profile=profiles.profile("p3"))
    picture = read("a.png")
    expected = profiles.to_srgb(RGB, "p3")
    assert np.abs(picture.colours - expected).max() <= 1.5
    np.testing.assert_array_equal(picture.alpha, ALPHA)
    share = ALPHA[..., None] / 255
    assert np.abs(picture.on_white() - (expected * share + 255 * (1 - share))).max() <= 2.5
    np.testing.assert_array_equal(load("a.png"), picture.on_white())
    Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)])).save("opaque.png")
    assert read("opaque.png").alpha is None


@pytest.mark.parametrize("output", ["d.png", "d.webp", "d.jpg", "d.tif"])
def test_the_dream_of_a_transparent_picture(toy, here, output):
    Image.fromarray(np.dstack([RGB, ALPHA])).save("a.png")
    assert main(["dream", "a.png", "-o", output, "--model", str(toy), *TINY, "--seed", "3", "--quality", "100"]) == 0
    keeps = output != "d.jpg"
    net = Net(toy, device="cpu", threads=1)
    start = np.float32(RGB) if keeps else load("a.png")
    dream = deepdream(net, start, 2, 2, jitter=3, end="both", objective=objective_L2, rng=np.random.RandomState(3),
                      on_step=lambda *_: None)
    with Image.open(output) as image:
        assert image.mode == ("RGBA" if keeps else "RGB")
        array = np.asarray(image)
    if keeps:
        np.testing.assert_array_equal(array[..., 3], ALPHA)
    if output in ("d.png", "d.tif"):
        dream_picture("a.png", f"python-{output}", net, end="both", iter_n=2, octave_n=2, jitter=3, seed=3)
        with Image.open(f"python-{output}") as image:      # the same picture from Python
            np.testing.assert_array_equal(np.asarray(image), array)
        np.testing.assert_array_equal(array[..., :3], pictures.to_uint8(dream))


def test_the_alpha_channel_is_scaled(toy, here):
    Image.fromarray(np.dstack([RGB, ALPHA])).save("a.png")
    for run in (["dream", "--size", "80", *TINY], ["enhance", "--iter-n", "1", "--end", "both", "--device", "cpu"]):
        assert main([run[0], "a.png", "-o", "d.png", "--model", str(toy), *run[1:]]) == 0
        with Image.open("d.png") as image:
            size = (80, 60) if run[0] == "dream" else (40, 30)
            assert image.mode == "RGBA" and image.size == size
            expected = Image.fromarray(ALPHA).resize(size, Image.Resampling.BICUBIC)
            assert np.abs(np.int16(image.getchannel("A")) - np.int16(expected)).max() <= 8


# ---- EXIF

def photograph(path, **options):
    """Write a picture with the EXIF of a camera."""
    exif = Image.Exif()
    exif.update({271: "Maker", 272: "Camera 1", 305: "Editor", 306: "2026:01:02 03:04:05", 315: "A. Person",
                 33432: "(c) A. Person", 270: "Our cat", 274: options.pop("orientation", 1), 282: 300.0})
    exif.get_ifd(ExifTags.IFD.Exif).update({36867: "2026:01:02 03:04:05", 37386: 50.0, 40962: 40, 40963: 30,
                                            37500: b"private" * 99, 40961: 65535})
    exif.get_ifd(ExifTags.IFD.GPSInfo).update({1: "N", 2: (48.0, 8.0, 14.0)})
    image = options.pop("image", Image.fromarray(RGB))
    image.save(path, exif=exif.tobytes(), **options)
    return path


@pytest.mark.parametrize("source", ["a.jpg", "a.png", "a.webp", "a.tif"])
@pytest.mark.parametrize("output", ["d.jpg", "d.png", "d.webp", "d.tif"])
def test_harmless_exif_is_kept(here, source, output):
    picture = read(photograph(source))
    save(np.zeros((60, 80, 3)), output, {"seed": 5}, source=picture)
    assert settings(output) == {"seed": 5}
    with Image.open(output) as image:
        exif = image.getexif()
        kept = {tag: exif.get(tag) for tag in (271, 272, 305, 306, 315, 33432)}
        assert list(kept.values()) == ["Maker", "Camera 1", "Editor", "2026:01:02 03:04:05", "A. Person",
                                       "(c) A. Person"]
        assert 274 not in exif or exif[274] == 1
        group, place = exif.get_ifd(ExifTags.IFD.Exif), exif.get_ifd(ExifTags.IFD.GPSInfo)
        assert group[36867] == "2026:01:02 03:04:05" and group[37386] == 50 and 37500 not in group
        assert (group[40962], group[40963], group[40961]) == (80, 60, 1)
        assert place[1] == "N" and place[2] == (48, 8, 14)
        if output in ("d.jpg", "d.png"):
            assert exif[270] == "Our cat"


def test_no_exif_comes_from_nothing(here):
    Image.fromarray(RGB).save("a.png")
    assert read("a.png").exif == b""
    for output in ("d.jpg", "d.png"):
        save(RGB, output, {"seed": 5}, source=read("a.png"))
        save(RGB, f"plain-{output}", {"seed": 5})
        assert (here / output).read_bytes() == (here / f"plain-{output}").read_bytes()


def test_the_settings_of_a_dream_do_not_become_a_description(here):
    save(RGB, "a.webp", {"seed": 4})
    save(RGB, "d.jpg", {"seed": 5}, source=read("a.webp"))
    with Image.open("d.jpg") as image:
        assert 270 not in image.getexif()
    assert settings("d.jpg") == {"seed": 5}


def test_damaged_exif_is_one_line(here, capsys, monkeypatch):
    """A picture whose EXIF cannot be written again is still read."""
    photograph("a.jpg")
    monkeypatch.setattr(Image.Exif, "tobytes", lambda *_: (_ for _ in ()).throw(TypeError("no number")))
    assert read("a.jpg").exif == b""
    assert capsys.readouterr().err == "a.jpg: its EXIF is damaged and is left out\n"


def test_long_entries_are_left_out(here):
    exif = Image.Exif()
    exif[315] = "A. Person"
    exif.get_ifd(ExifTags.IFD.Exif)[37510] = b"x" * 50000
    Image.fromarray(RGB).save("a.png", exif=exif)
    kept = Image.Exif()
    kept.load(read("a.png").exif)
    assert kept[315] == "A. Person" and 37510 not in kept.get_ifd(ExifTags.IFD.Exif)


# ---- all together

def test_a_p3_picture_with_alpha_and_orientation_is_dreamt_and_repeated(toy, here, capsys):
    photograph("a.png", image=Image.fromarray(np.dstack([RGB, ALPHA])), orientation=6,
               icc_profile=profiles.profile("p3"))
    assert main(["dream", "a.png", "-o", "new/d.png", "--model", str(toy), *TINY, "--size", "60", "--seed", "3"]) == 0
    assert main(["dream", "-o", "e.png", "--model", str(toy), "--settings", "new/d.png"]) == 0
    assert (here / "new/d.png").read_bytes() == (here / "e.png").read_bytes()
    with Image.open("e.png") as image:
        assert image.size == (45, 60) and image.mode == "RGBA" and "icc_profile" not in image.info
        assert image.getexif()[315] == "A. Person" and 274 not in image.getexif()
        array = np.asarray(image)
    turned = np.rot90(profiles.to_srgb(RGB, "p3"), -1)
    assert np.abs(read("a.png").colours - turned).max() <= 1.5
    expected = Image.fromarray(np.ascontiguousarray(np.rot90(ALPHA, -1))).resize((45, 60), Image.Resampling.LANCZOS)
    np.testing.assert_array_equal(array[..., 3], expected)
    start = resized(read("a.png").colours, 60, 45)
    dream = deepdream(Net(toy, device="cpu", threads=1), start, 2, 2, jitter=3, end="both",
                      rng=np.random.RandomState(3), on_step=lambda *_: None)
    np.testing.assert_array_equal(array[..., :3], pictures.to_uint8(dream))
    assert settings("e.png")["size"] == 60 and "colour profile" not in capsys.readouterr().err


def test_a_folder_keeps_alpha_and_exif_like_a_single_dream(toy, here):
    (here / "in").mkdir()
    photograph("in/a.png", image=Image.fromarray(np.dstack([RGB, ALPHA])), orientation=6,
               icc_profile=profiles.profile("p3"))
    common = ["--model", str(toy), *TINY, "--size", "60", "--seed", "3"]
    assert main(["dream", "in", "-o", "out", *common]) == 0
    assert main(["dream", "in/a.png", "-o", "alone.png", *common]) == 0
    with Image.open("out/a.png") as one, Image.open("alone.png") as other:
        np.testing.assert_array_equal(np.asarray(one), np.asarray(other))
        assert dict(one.getexif()) == dict(other.getexif()) and one.getexif()[315] == "A. Person"


def test_pixels_in_memory_say_nothing(capsys):
    file = io.BytesIO()
    Image.fromarray(RGB).save(file, "PNG", icc_profile=b"damaged")
    np.testing.assert_array_equal(load(io.BytesIO(file.getvalue())), RGB)
    assert capsys.readouterr().err == ""
