"""Make the pictures of the README anew, each by the commands that the README shows.

    python models/make_pictures.py                  make all of them
    python models/make_pictures.py layers zoom      make these
    python models/make_pictures.py --check          compare: which files would change, and by how much?

The picture of classes needs bvlc_googlenet (54 MB, downloaded at the first use); all others need only the small nets.
With the same versions and the same number of threads the files come out bit for bit the same.
"""
import argparse
import sys
import tempfile
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream import load, save  # noqa: E402
from deepdream.cli import main as deepdream  # noqa: E402
from deepdream.pictures.sheet import grid  # noqa: E402
from deepdream.pictures.sky import formula_sky  # noqa: E402
from deepdream.pictures.starts import resized  # noqa: E402

FOLDER = HERE / "pictures"
WIDTH, HEIGHT = 416, 234         # of the pictures in a sheet
SEED = ["--seed", "1"]
SKY = ["--end", "inception_4d/output", *SEED]
SMALL = ["--size", "640x360"]    # for sheets

# one picture: the words of one command
PICTURES = {
    "fur": ["dream", "--start", "fur", *SEED],
    "imagenet": ["dream", *SKY],
    "places": ["dream", *SKY, "--model", "mini_places"],
    "classes": ["class", "dumbbell", "tabby cat", "golden retriever", "lakeside", "--model", "bvlc_googlenet", *SEED],
    "four": ["class", "four", "--model", "digits", "--strip", *SEED],
}
# a sheet of several pictures: {caption: words of the command}
SHEETS = {
    "layers": {f"{level}: --end {end}": ["dream", "--end", end, *SEED] for level, end in (
        ("lowest", "conv2/norm2"), ("low", "inception_3b/output"), ("middle", "inception_4a/output"),
        ("middle", "inception_4c/output"), ("high", "inception_4d/output"), ("high", "inception_4e/output"))},
    "scenes": {
        "--start lake --end inception_4d/output": ["dream", "--start", "lake", *SKY, *SMALL],
        "--start lake --model mini_places": ["dream", "--start", "lake", "--model", "mini_places", *SEED, *SMALL],
        "--start fur": ["dream", "--start", "fur", *SEED, *SMALL],
        "--start fur --model mini_places": ["dream", "--start", "fur", "--model", "mini_places", *SEED, *SMALL],
    },
    "controls": {
        "--end 4c --end 3b:0.5 (two layers)": ["dream", "--end", "inception_4c/output", "--end",
                                               "inception_3b/output:0.5", *SEED, *SMALL],
        "--end 4d[7,40] (two channels)": ["dream", "--end", "inception_4d/output[7,40]", *SEED, *SMALL],
        "--end class:peacock --laplacian": ["dream", "--end", "class:peacock", "--laplacian", "--octave-n", "2", *SEED,
                                            *SMALL],
        "--tv 0.5 (smooth)": ["dream", *SKY, "--tv", "0.5", *SMALL],
        "--keep-colours": ["dream", *SKY, "--keep-colours", *SMALL],
        "--start noise --laplacian": ["dream", *SKY, "--start", "noise", "--laplacian", *SMALL],
    },
}
ZOOM, FRAMES = ["zoom", "{sky}", "-o", "{frames}", "--frames", "25", *SKY], (0, 8, 16, 24)


def run(*words):
    """Run a command of the command line, or end the program with its exit code."""
    print("deepdream", *words, flush=True)
    code = deepdream([*map(str, words), "--device", "cpu"])
    if code:
        sys.exit(code)


def small(path):
    """A picture in the size that it has in a sheet, uint8."""
    return np.uint8(np.rint(np.clip(resized(load(path), HEIGHT, WIDTH), 0, 255)))


def make(name, out, place):
    """Make the picture `name` and write it to `out`. place: a folder for what is needed on the way."""
    if name in PICTURES:
        return run(*PICTURES[name], "-o", out)
    if name == "zoom":
        save(formula_sky(270, 480), place / "sky.png")
        run(*(word.format(sky=place / "sky.png", frames=place / "frames") for word in ZOOM))
        sheet = grid([small(place / "frames" / f"{i:04d}.jpg") for i in FRAMES], [f"frame {i}" for i in FRAMES],
                     "the endless zoom", 2)
    else:
        pictures = []
        for i, words in enumerate(SHEETS[name].values()):
            run(*words, "-o", place / f"{i}.png")
            pictures.append(small(place / f"{i}.png"))
        others = any("--model" in words for words in SHEETS[name].values())
        note = "mini_imagenet" + " where no other network is named" * others + ", seed 1"
        sheet = grid(pictures, list(SHEETS[name]), note, 2)
    return save(sheet, out, quality=90)


def difference(old, new):
    """The mean difference of a pixel, of 255; None if there is no old picture, or one of another size."""
    if not old.is_file():
        return None
    old, new = load(old), load(new)
    return float(np.abs(old - new).mean()) if old.shape == new.shape else None


def main():
    names = [*PICTURES, *SHEETS, "zoom"]
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", metavar="NAME", help=f"of {', '.join(names)} (all)")
    parser.add_argument("--check", action="store_true", help="write nothing; exit code 1 if a picture differs")
    args = parser.parse_args()
    if unknown := set(args.names) - set(names):
        parser.error(f"no picture is called {', '.join(sorted(unknown))}; there are {', '.join(names)}")
    stale = False
    for name in args.names or names:
        with tempfile.TemporaryDirectory() as place:
            file = FOLDER / f"{name}{'.png' if name == 'four' else '.jpg'}"
            new = Path(place) / file.name
            make(name, new, Path(place))
            found = difference(file, new)
            print(f"{file.name}: " + ("new" if found is None else "as before" if found == 0 else
                                      f"differs by {found:.2f} of 255 in the mean"))
            stale |= found != 0
            if not args.check:
                file.write_bytes(new.read_bytes())
    sys.exit(args.check and stale)


if __name__ == "__main__":
    main()
