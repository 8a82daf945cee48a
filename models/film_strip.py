"""The strip of film of the README, for `make_pictures.py`: a camera that moves over the lake, and the dream of it."""
from collections.abc import Callable
from pathlib import Path

import numpy as np

from deepdream import load, save
from deepdream.pictures.sheet import grid
from deepdream.pictures.starts import cached_scene

HEIGHT, WIDTH = 234, 416         # of a frame
FRAMES, SHOWN = 33, (0, 8, 16, 24, 32)
RIGHT, DOWN = 4, 1               # pixels that the camera moves from one frame to the next
WORDS = ["video", "{film}", "-o", "{dreams}", "--end", "inception_4d/output", "--seed", "1"]


def film_strip(run: Callable, place: Path) -> np.ndarray:
    """Make the strip: frames of the film in the first row, their dreams in the second.

    run: runs a command of the command line, from its words.
    place: an existing folder for the frames.

    Returns uint8 (height, width, 3).
    """
    film, dreams = place / "film", place / "dreams"
    film.mkdir()
    scene = cached_scene("lake", HEIGHT + DOWN * FRAMES, WIDTH + RIGHT * FRAMES)
    for i in range(FRAMES):
        save(scene[DOWN * i:, RIGHT * i:][:HEIGHT, :WIDTH], film / f"{i}.png")
    run(*(word.format(film=film, dreams=dreams) for word in WORDS))
    rows = [[np.uint8(load(folder / f"{i}.png")) for i in SHOWN] for folder in (film, dreams)]
    captions = [f"frame {i}" for i in SHOWN] + ["its dream"] + [""] * (len(SHOWN) - 1)
    note = "deepdream video: what the dream adds moves along with the film"
    return grid(rows[0] + rows[1], captions, note, len(SHOWN))
