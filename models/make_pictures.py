"""Make the pictures of the README anew, each by the commands that the README shows.

    python models/make_pictures.py                  make all of them
    python models/make_pictures.py layers zoom      make these
    python models/make_pictures.py --check          compare: which files would change, and by how much?
    python models/make_pictures.py classes --googlenet FOLDER      with the files of bvlc_googlenet in a folder

The pictures of classes and of features need bvlc_googlenet (54 MB, downloaded at the first use), and the screenshot of
the gallery needs Chromium; all others need only the small nets. With the same versions and the same number of
processor cores the files come out bit for bit the same.
"""
import argparse
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from PIL import Image  # noqa: E402

from deepdream import load, save  # noqa: E402
from deepdream.cli import main as deepdream  # noqa: E402
from deepdream.pictures.scenes import formula_lake  # noqa: E402
from deepdream.pictures.sheet import grid  # noqa: E402
from deepdream.pictures.starts import resized  # noqa: E402

FOLDER = HERE / "pictures"
SEED = ["--seed", "1"]
SMALL = ["--size", "640x360"]    # of dreams for sheets
SKY = ["--end", "inception_4d/output", *SEED]
LAKE = ["--start", "lake", *SKY, *SMALL]
PLACES = ["--model", "mini_places"]
GOOGLENET = "bvlc_googlenet"
CLASSES = ["tabby cat", "golden retriever", "peacock", "castle", "dumbbell", "lakeside"]
QUICK = ["--model", GOOGLENET, "--size", "320x320", "--octave-n", "2", "--iter-n", "30", *SEED]
LAYERS = ("conv2/norm2", "inception_3b/output", "inception_4a/output", "inception_4c/output", "inception_4d/output",
          "inception_4e/output")
BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")

# one picture: the words of one command
PICTURES = {
    "fur.jpg": ["dream", "--start", "fur", *SEED],
    "features.jpg": ["features", "inception_4c/output[2,13,45,67,159,306,328,400,401,451,494,505]", "--columns", "6",
                     "--model", GOOGLENET, "--threads", "1"],
    "four.png": ["class", "four", "--model", "digits", "--strip", *SEED],
}


class Sheet(NamedTuple):
    """A sheet of several pictures.

    pictures: {caption: words of the command}.
    columns: number of columns.
    size: (width, height) of each picture in the sheet.
    note: a line of text below all of them.
    """
    pictures: dict[str, list[str]]
    columns: int = 2
    size: tuple[int, int] = (416, 234)
    note: str = "mini_imagenet where no other network is named, seed 1"


SHEETS = {
    "scenes.jpg": Sheet({
        "--start lake --end inception_4d/output": ["dream", *LAKE],
        "--start lake --model mini_places": ["dream", "--start", "lake", *PLACES, *SEED, *SMALL],
        "--start fur": ["dream", "--start", "fur", *SEED, *SMALL],
        "--start fur --model mini_places": ["dream", "--start", "fur", *PLACES, *SEED, *SMALL],
    }),
    "octaves.jpg": Sheet({
        f"{model}, --octave-n {n}": ["dream", "--start", "fur", "--model", model, "--octave-n", n, *SEED, *SMALL]
        for model in ("mini_imagenet", "mini_places") for n in ("2", "6")}, note="--start fur, seed 1"),
    "controls.jpg": Sheet({
        "--end 4c --end 3b:0.5 (two layers)": ["dream", "--end", "inception_4c/output", "--end",
                                               "inception_3b/output:0.5", *SEED, *SMALL],
        "--end 4d[7,40] (two channels)": ["dream", "--end", "inception_4d/output[7,40]", *SEED, *SMALL],
        "--end class:peacock --laplacian": ["dream", "--end", "class:peacock", "--laplacian", "--octave-n", "2", *SEED,
                                            *SMALL],
        "--tv 0.5 (smooth)": ["dream", *SKY, "--tv", "0.5", *SMALL],
        "--keep-colours": ["dream", *SKY, "--keep-colours", *SMALL],
        "--start noise --laplacian": ["dream", *SKY, "--start", "noise", "--laplacian", *SMALL],
    }, note="mini_imagenet, seed 1"),
    "classes.jpg": Sheet({
        **{name: ["class", name, *QUICK] for name in CLASSES},
        **{f"{name}, --natural": ["class", name, "--natural", "--step-size", "2.5", *QUICK] for name in CLASSES}},
        6, (200, 200), "bvlc_googlenet, from noise, seed 1; the lower row with --natural --step-size 2.5"),
}


def run_with(googlenet):
    """Return a function that runs a command, or ends the program with its exit code.

    googlenet: a folder to take bvlc_googlenet from; None: download it.
    """
    def run(*words):
        words = [googlenet if googlenet and word == GOOGLENET else str(word) for word in words]
        print("deepdream", *words, flush=True)
        code = deepdream([*words, "--device", "cpu"])
        if code:
            sys.exit(code)
    return run


def small(path, size):
    """A picture in the size that it has in a sheet, uint8."""
    width, height = size
    return np.uint8(np.rint(np.clip(resized(load(path), height, width), 0, 255)))


def make_sheet(name, out, place, run):
    """Make a sheet of SHEETS."""
    sheet, pictures = SHEETS[name], []
    for i, words in enumerate(sheet.pictures.values()):
        run(*words, "-o", place / f"{i}.png")
        pictures.append(small(place / f"{i}.png", sheet.size))
    save(grid(pictures, list(sheet.pictures), sheet.note, sheet.columns), out, quality=88)


def make_picture(name, out, place, run):
    """Make a picture of PICTURES. `features` writes a folder, of which the sheet is taken."""
    words = PICTURES[name]
    if words[0] != "features":
        return run(*words, "-o", out)
    run(*words, "-o", place / "features")
    sheet = min((place / "features").glob("*.png"), key=lambda path: len(path.name))
    save(load(sheet), out, quality=88)


def layer_picture(model, end):
    """A row of the table of layers: what one net dreams at a layer."""
    def make(name, out, place, run):
        run("dream", "--start", "fur", "--end", end, "--model", model, *SEED, "--size", "480x270",
            "-o", place / "dream.png")
        save(small(place / "dream.png", (240, 135)), out, quality=85)
    return make


def make_mask(name, out, place, run):
    """Make a mask by a formula, and a dream of the lake where it is white."""
    y, x = np.mgrid[0:360, 0:640]
    save(np.repeat(255.0 * ((x - 320) ** 2 + 4 * (y - 250) ** 2 < 190 ** 2)[..., None], 3, 2), place / "mask.png")
    save(formula_lake(360, 640), place / "lake.png")
    run("dream", *LAKE, "--iter-n", "20", "--mask", place / "mask.png", "-o", place / "dream.png")
    pictures = [small(place / f"{part}.png", (280, 158)) for part in ("lake", "mask", "dream")]
    note = "mini_imagenet, inception_4d/output, --iter-n 20, seed 1"
    save(grid(pictures, ["--start lake", "mask.png", "--start lake --mask mask.png"], note, 3), out, quality=88)


def make_enhance(name, out, place, run):
    """Enhance the lake, in pixels and in the space of natural colours."""
    save(formula_lake(210, 374), place / "lake.png")
    command = ["enhance", place / "lake.png", "--model", GOOGLENET, "--end", "inception_4c/output"]
    run(*command, "-o", place / "plain.png")
    run(*command, "--natural", "--weight", "0.1", "-o", place / "natural.png")
    pictures = [small(place / f"{part}.png", (280, 157)) for part in ("lake", "plain", "natural")]
    captions = ["the lake", "enhance", "enhance --natural --weight 0.1"]
    save(grid(pictures, captions, f"{GOOGLENET}, inception_4c/output", 3), out, quality=88)


def make_zoom(name, out, place, run):
    """Make a small movie of a zoom that turns. Its quality is less than that of --movie, so that it loads quickly."""
    run("zoom", "-o", place / "frames", "--start", "fur", "--size", "320x180", "--frames", "40", "--rotate", "1.5",
        *SEED)
    first, *frames = (Image.open(path) for path in sorted((place / "frames").glob("*.jpg")))
    first.save(out, save_all=True, append_images=frames, duration=100, loop=0, quality=45, method=6)


def make_gallery(name, out, place, run):
    """Take a picture of a gallery's page."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if not browser:
        sys.exit(f"{name}: needs one of {', '.join(BROWSERS)}")
    save(formula_lake(180, 320), place / "lake.png")
    run("gallery", place / "lake.png", "-o", place / "page", "--seeds", "1")
    subprocess.run([browser, "--headless=new", "--no-sandbox", "--hide-scrollbars", "--window-size=1200,1500",
                    f"--user-data-dir={place / 'browser'}", f"--screenshot={place / 'page.png'}",
                    (place / "page" / "index.html").as_uri()], check=True, capture_output=True, timeout=300)
    save(small(place / "page.png", (800, 1000)), out, quality=80)


MAKERS: dict[str, Callable] = {
    **dict.fromkeys(PICTURES, make_picture), **dict.fromkeys(SHEETS, make_sheet),
    **{f"layers/{model[5:]}-{end.split('/')[0].removeprefix('inception_')}.jpg": layer_picture(model, end)
       for end in LAYERS for model in ("mini_imagenet", "mini_places")},
    "mask.jpg": make_mask, "enhance.jpg": make_enhance, "zoom.webp": make_zoom, "gallery.jpg": make_gallery,
}


def difference(old, new):
    """The mean difference of a pixel, of 255; None if there is no old picture, or one of another size."""
    if not old.is_file():
        return None
    old, new = load(old), load(new)
    return float(np.abs(old - new).mean()) if old.shape == new.shape else None


def main():
    """Run this script."""
    short = {name: name.split(".")[0].split("/")[0] for name in MAKERS}
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(sorted(set(short.values())))} (all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a picture differs")
    parser.add_argument("--googlenet", metavar="FOLDER", help="take bvlc_googlenet from a folder of this name with its "
                        "files, instead of downloading it")
    args = parser.parse_args()
    if unknown := set(args.names) - set(short.values()):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are "
                     f"{', '.join(sorted(set(short.values())))}")
    stale = False
    for name, make in MAKERS.items():
        if args.names and short[name] not in args.names:
            continue
        with tempfile.TemporaryDirectory() as place:
            file, new = FOLDER / name, Path(place) / Path(name).name
            make(name, new, Path(place), run_with(args.googlenet))
            found = difference(file, new)
            print(f"{name}: " + ("new" if found is None else "as before" if found == 0 else
                                 f"differs by {found:.2f} of 255 in the mean"))
            stale |= found != 0
            if not args.check:
                file.parent.mkdir(exist_ok=True)
                file.write_bytes(new.read_bytes())
    sys.exit(args.check and stale)


if __name__ == "__main__":
    main()
