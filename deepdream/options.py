"""The options of a dream: OPTIONS describes them, and a `Settings` holds the chosen values.

The command line, jobs, galleries, zooms and the metadata of pictures all use `Settings`. Names and defaults are the
notebook's wherever the notebook has such an option.
"""
from __future__ import annotations

import re
from collections.abc import Callable
import dataclasses
from dataclasses import dataclass, fields
from math import inf, isfinite
from typing import NamedTuple

from .convert.errors import shown
from .errors import DreamError

MANY = 10 ** 9              # the largest whole number that is accepted: anything above is a typing mistake
PIXELS = 178956970          # the maximum number of pixels in a picture: Pillow does not read larger ones
LONGEST = 999999            # the maximum height and width of a picture
SCENES = ("sky", "lake", "fur")      # pictures made by formula; a dream without a picture starts from the first
STARTS = (*SCENES, "grey", "noise")


class Kind(NamedTuple):
    """A kind of value that options can have.

    allowed: the allowed values in words, for error messages.
    parse: converts a word of the command line to a value; raises ValueError.
    accepts: tells whether a value, from Python or from metadata, is allowed.
    choices: the allowed words, if there are only a few; otherwise None.
    """
    allowed: str
    parse: Callable[[str], object]
    accepts: Callable[[object], bool]
    choices: tuple[str, ...] | None = None

    def of_word(self, word: str) -> object:
        """Return the value of a word of the command line.

        Raises ValueError with a message that says what is allowed.
        """
        try:
            value = self.parse(word)
            if self.accepts(value):
                return value
        except ValueError:
            pass
        raise ValueError(f"'{shown(word)}' is not {self.allowed}")


def number(allowed: str, test: Callable[[float], bool]) -> Kind:
    """Return the kind of all finite numbers that pass a test.

    allowed: the allowed numbers in words, for error messages.
    test: returns whether a number is allowed.
    """
    return Kind(allowed, float, lambda v: type(v) in (int, float) and isfinite(v) and test(v))


def whole(low: int, high: int = MANY) -> Kind:
    """Return the kind of all whole numbers from `low` to `high`, both included."""
    return Kind(f"a whole number from {low} to {high if high != MANY else '1e9'}", int,
                lambda v: type(v) is int and low <= v <= high)


def one_of(*allowed: str) -> Kind:
    """Return the kind of a few allowed words."""
    return Kind(" or ".join(allowed), str, lambda v: v in allowed, allowed)


def _size(word):
    match = re.fullmatch(r"([0-9]{1,6})(?:x([0-9]{1,6}))?", word.lower())
    if not match:
        raise ValueError(word)
    w, h = match.groups()
    return (int(w), int(h)) if h else int(w)


def _is_size(value):
    if type(value) is int:
        return 0 < value <= LONGEST
    return isinstance(value, tuple) and len(value) == 2 and all(type(n) is int and n > 0 for n in value) \
        and value[0] * value[1] <= PIXELS


def _plain(value):
    """Return Python's number for one of NumPy's, and any other value unchanged."""
    return value.item() if type(value).__module__ == "numpy" and getattr(value, "ndim", 1) == 0 else value


FLAG = Kind("yes or no", bool, lambda v: type(v) is bool)
END = Kind("a layer, some of its channels, or class:LABEL", str,
           lambda v: isinstance(v, str) and v.isprintable() and any(map(str.isalnum, v)))
SIZE = Kind(f"a size like 640x480, or one number for the longest side, of at most {PIXELS // 10 ** 6} million pixels",
            _size, _is_size)
LEVEL = number("a number from 0 to 255", lambda v: 0 <= v <= 255)
WEIGHT = number("a number from 0 to 1000", lambda v: 0 <= v <= 1000)
SEED = whole(0, 2 ** 32 - 1)


class Option(NamedTuple):
    """The description of an option. Its default is that of the field of the same name in `Settings`.

    kind: the kind of its value; of each value if there are several.
    help: the help text.
    metavar: the placeholder for its value in the help.
    many: whether the option can be given several times.
    words: the number of words that it takes.
    optional: the value that it has when it is given without a word; None if the word is required.
    group: the heading of the help under which it is listed.
    """
    kind: Kind
    help: str
    metavar: str | tuple | None = None
    many: bool = False
    words: int = 1
    optional: object = None
    group: str = ""

    def accepts(self, value: object) -> bool:
        """Return whether the option can have this value."""
        if self.many or self.words > 1:
            return isinstance(value, tuple) and all(map(self.kind.accepts, value)) \
                and (self.many or len(value) == self.words)
        return self.kind.accepts(value)


START = "what a dream starts from"
PRIORS_GROUP = "priors, which keep the picture natural (not in the notebook; all are off by default)"
OPTIONS = {
    "end": Option(END, "what to maximize: a layer (`deepdream layers` lists them), some of its channels as "
                  "NAME[13,17], one neuron as NAME[13@0.5,0.5], or a class as class:LABEL. Give --end several times "
                  "to maximize several at once; each can have a weight, as in NAME:0.3 (default: the model's, usually "
                  "inception_4c/output)", "END", many=True),
    "iter_n": Option(whole(1), "number of steps in each octave", "N"),
    "octave_n": Option(whole(1, 100), "number of octaves: the sizes at which the picture is dreamt, small ones first",
                       "N"),
    "octave_scale": Option(number("a number greater than 1", lambda v: 1 < v < inf),
                           "how many times larger each octave is than the one before", "X"),
    "step_size": Option(number("a number other than 0, to 1e6", lambda v: 0 < abs(v) <= 1e6),
                        "how much each step changes a pixel on average, on the scale of 0 to 255", "X"),
    "jitter": Option(whole(0), "shift the picture by a random offset of up to N pixels in each step, so that no grid "
                     "appears", "N"),
    "tile": Option(whole(0), "dream a picture larger than N pixels in overlapping tiles of at most NxN pixels, which "
                   "limits the memory that it needs (with 1024, about 2 GB for 8 megapixels). Without --tile, a dream "
                   "that needs more memory than is free, or than $DEEPDREAM_MEMORY_GB allows, does not start", "N"),
    "clip": Option(FLAG, "keep pixel values within 0 to 255; with --no-clip they may exceed this range, and the "
                   "result is scaled to fit it"),
    "seed": Option(SEED, "seed of the jitter and of the noise (default: a random one, saved in the picture's metadata)",
                   "N"),
    "start": Option(one_of(*STARTS), "what to start from: a scene made by formula (sky, lake or fur), plain grey, or "
                    "random noise", group=START),
    "size": Option(SIZE, "size of the dream, in pixels: the longest side (1024), or width and height (640x480). A "
                   "picture is scaled to this size; one number keeps its shape", "N|WxH", group=START),
    "stretch": Option(FLAG, "scale a picture to the width and height of --size even if that changes its shape",
                      group=START),
    "noise": Option(LEVEL, "mean and standard deviation of the pixel values for --start noise (default: 128 20)",
                    ("MEAN", "SPREAD"), words=2, group=START),
    "tv": Option(WEIGHT, "weight of total variation, which prefers smooth areas with sharp edges; 1 is as strong as "
                 "the dream itself", "X", group=PRIORS_GROUP),
    "grey": Option(WEIGHT, "weight of a pull towards the mean colour, so that no colour is stronger than it needs to "
                   "be", "X", group=PRIORS_GROUP),
    "blur": Option(WEIGHT, "blur the picture after each step, by a Gaussian with a standard deviation of SIGMA pixels",
                   "SIGMA", group=PRIORS_GROUP),
    "blur_until": Option(WEIGHT, "change the standard deviation of the blur gradually, to SIGMA pixels in the last "
                         "step", "SIGMA", group=PRIORS_GROUP),
    "blur_every": Option(whole(1), "blur only after every Nth step", "N", group=PRIORS_GROUP),
    "laplacian": Option(whole(0, 12), "let details of all sizes grow alike, by normalizing the Laplacian pyramid of "
                        "the gradient (4 levels, unless LEVELS is given)", "LEVELS", optional=4, group=PRIORS_GROUP),
    "natural": Option(WEIGHT, "dream in a space of natural colours and frequencies (Fourier space), as lucid does: "
                      "structures of each size and colour grow as strongly as photographs have them; more than 1 "
                      "prefers large ones (1, unless X is given)", "X", optional=1.0, group=PRIORS_GROUP),
    "keep_colours": Option(FLAG, "dream in luminance only, so that the picture keeps its colours", group=PRIORS_GROUP),
    "mask_edge": Option(number("a number from 0 to 10000", lambda v: 0 <= v <= 10000), "width of the soft edge of "
                        "--mask, in pixels (default: 2 percent of the picture's longer side)", "PIXELS"),
    "fast": Option(FLAG, "on CUDA, let convolutions round to TF32: faster, but each has a relative error of about "
                   "1/1000, and the dream no longer follows Caffe's step by step"),
}
NOTEBOOK = ("iter_n", "octave_n", "octave_scale", "step_size", "jitter")      # the options that the notebook has
PRIORS = tuple(name for name, option in OPTIONS.items() if option.group == PRIORS_GROUP)
BLUR = ("blur", "blur_every", "blur_until")      # the options of one prior, in the order in which metadata list them


@dataclass(frozen=True)
class Settings:
    """The settings of a dream: everything except the net and the pictures. OPTIONS describes each field.

    Raises DreamError for a value that is not allowed, and for options that contradict each other.
    """
    end: tuple[str, ...] = ()
    iter_n: int = 10
    octave_n: int = 4
    octave_scale: float = 1.4
    step_size: float = 1.5
    jitter: int = 32
    tile: int | None = None
    clip: bool = True
    seed: int | None = None
    start: str | None = None
    size: tuple[int, int] | int | None = None
    stretch: bool = False
    noise: tuple[float, float] | None = None
    tv: float | None = None
    grey: float | None = None
    blur: float | None = None
    blur_until: float | None = None
    blur_every: int = 1
    laplacian: int | None = None
    natural: float | None = None
    keep_colours: bool = False
    mask_edge: float | None = None
    fast: bool = False

    def __post_init__(self):
        for field in fields(self):
            value, option = getattr(self, field.name), OPTIONS[field.name]
            plain = tuple(map(_plain, value)) if isinstance(value, (list, tuple)) else _plain(value)
            if plain is not value:
                object.__setattr__(self, field.name, value := plain)
            if value is not None and not option.accepts(value):
                raise DreamError(f"--{field.name.replace('_', '-')}: {shown(value)} is not {option.kind.allowed}")
        if self.noise and self.start != "noise":
            raise DreamError("--noise: only a dream that starts from noise has it; give --start noise")
        if self.blur is None and (self.blur_until or self.blur_every != 1):
            raise DreamError("--blur-until, --blur-every: there is no blur; give --blur SIGMA too")

    def replace(self, **changes) -> Settings:
        """Return a copy of the settings with some fields changed."""
        return dataclasses.replace(self, **changes)

    # ---- arguments of `deepdream`

    @property
    def steps(self) -> dict:
        """The keyword arguments of `deepdream` that do not depend on the net: octaves, steps, clipping, tiles."""
        return {name: getattr(self, name) for name in (*NOTEBOOK, "clip")} | {"tile": self.tile or None}      # 0 is off

    @property
    def priors(self) -> dict:
        """The chosen priors, {name: value}, in the form that metadata has them."""
        chosen = {name: getattr(self, name) for name in PRIORS if name not in BLUR[1:]}
        if self.blur:
            chosen["blur"] = [getattr(self, name) for name in BLUR]
        return {name: value for name, value in chosen.items() if value}

    # ---- metadata of pictures

    def to_metadata(self) -> dict:
        """Return the settings for a picture's metadata: plain values, without options that are off."""
        optional = {"tile": self.tile or None, "priors": self.priors, "start": self.start, "size": self.size,
                    "noise": self.noise, "mask_edge": self.mask_edge, "fast": self.fast}
        return {"end": self.end[0] if len(self.end) == 1 else list(self.end),
                **{name: getattr(self, name) for name in NOTEBOOK}, "clip": self.clip, "seed": self.seed,
                **{name: list(value) if isinstance(value, tuple) else value
                   for name, value in optional.items() if value is not None and value is not False and value != {}}}

    @classmethod
    def from_metadata(cls, metadata: dict) -> Settings:
        """Read the settings from a picture's metadata.

        metadata: as `to_metadata` returned it, in this version or an older one. Other entries are ignored.

        Raises DreamError for values that are not allowed.
        """
        values = {name: metadata[name] for name in OPTIONS if metadata.get(name) is not None and name not in PRIORS}
        if isinstance(values.get("end"), str):
            values["end"] = (values["end"],)
        priors = metadata.get("priors") or {}
        if not isinstance(priors, dict) or not isinstance(priors.get("blur", []), list):
            raise DreamError(f"priors: {shown(priors)} is no table of priors")
        values |= {name: priors[name] for name in PRIORS if name in priors and name not in BLUR}
        blur = dict(zip(BLUR, priors.get("blur", [])))
        return cls(**values, **{name: value for name, value in blur.items() if value is not None})

