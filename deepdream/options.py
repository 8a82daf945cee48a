"""The options of a dream: one table of what there is, and one record of what was chosen.

The command line, jobs, galleries, zooms and the metadata of pictures all read and write this record. Names and defaults
are the notebook's, as far as it has them.
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

MANY = 10 ** 9              # more than that many of anything is a slip of the finger
PIXELS = 178956970          # of a picture at most: Pillow reads none that has more
STARTS = ("grey", "noise")


class Kind(NamedTuple):
    """A kind of value.

    allowed: in words, for errors.
    parse: a word of the command line -> the value; raises ValueError.
    holds: is a value, from Python or from a record, one of this kind?
    choices: the words that are allowed, where there are only a few.
    """
    allowed: str
    parse: Callable[[str], object]
    holds: Callable[[object], bool]
    choices: tuple[str, ...] | None = None

    def of_word(self, word: str):
        """The value that a word of the command line stands for. Raises ValueError that says what is allowed."""
        try:
            value = self.parse(word)
            if self.holds(value):
                return value
        except ValueError:
            pass
        raise ValueError(f"'{shown(word)}' is not {self.allowed}")


def number(allowed: str, test: Callable[[float], bool]) -> Kind:
    """Numbers for which `test` holds."""
    return Kind(allowed, float, lambda v: type(v) in (int, float) and isfinite(v) and test(v))


def whole(low: int, high: int = MANY) -> Kind:
    """Whole numbers from `low` to `high`."""
    return Kind(f"a whole number from {low} to {high if high < MANY else '1e9'}", int,
                lambda v: type(v) is int and low <= v <= high)


def one_of(*allowed: str) -> Kind:
    """One of a few words."""
    return Kind(" or ".join(allowed), str, lambda v: v in allowed, allowed)


def _size(word):
    found = re.fullmatch(r"([0-9]{1,6})x([0-9]{1,6})", word.lower())
    if not found:
        raise ValueError(word)
    return tuple(map(int, found.groups()))


FLAG = Kind("yes or no", bool, lambda v: type(v) is bool)
END = Kind("a layer, some of its channels, or class:LABEL", str,
           lambda v: isinstance(v, str) and v.isprintable() and any(map(str.isalnum, v)))
SIZE = Kind(f"a size like 640x480, of at most {PIXELS // 10 ** 6} million pixels", _size,
            lambda v: isinstance(v, tuple) and len(v) == 2 and all(type(n) is int and n > 0 for n in v) and v[0] * v[1] <= PIXELS)
LEVEL = number("a number from 0 to 255", lambda v: 0 <= v <= 255)
WEIGHT = number("a number from 0 to 1000", lambda v: 0 <= v <= 1000)
SEED = whole(0, 2 ** 32 - 1)


class Option(NamedTuple):
    """What is known of an option, beside its default, which is the field's in `Settings`.

    kind: of its value; of each of them, where there are several. help: one line.
    many: may be given several times; words: or takes so many words. optional: the value of the option without a word.
    group: under which heading the help has it.
    """
    kind: Kind
    help: str
    metavar: str | tuple | None = None
    many: bool = False
    words: int = 1
    optional: object = None
    group: str = ""

    def holds(self, value) -> bool:
        """Is it a value of this option?"""
        if self.many or self.words > 1:
            return isinstance(value, tuple) and all(map(self.kind.holds, value)) \
                and (self.many or len(value) == self.words)
        return self.kind.holds(value)


PRIORS = "priors, beside the notebook (0: none)"
OPTIONS = {
    "end": Option(END, "what grows: a layer (`deepdream layers` lists them), some of its channels NAME[13,17], a neuron "
                  "NAME[13@0.5,0.5], class:LABEL; several times, and each with a weight, NAME:0.3 (the model's own "
                  "choice, mostly inception_4c/output)", "END", many=True),
    "iter_n": Option(whole(1), "steps in each octave", "N"),
    "octave_n": Option(whole(1, 100), "octaves: sizes of the picture that are dreamt at", "N"),
    "octave_scale": Option(number("a number greater than 1", lambda v: 1 < v < inf), "from one octave to the next", "X"),
    "step_size": Option(number("a number other than 0, to 1e6", lambda v: 0 < abs(v) <= 1e6),
                        "mean change of a pixel in a step, of 255", "X"),
    "jitter": Option(whole(0), "the picture is shifted by up to N pixels in each step", "N"),
    "tile": Option(whole(0), "dream what is larger than N pixels in overlapping tiles of at most NxN, in the memory of one "
                   "of them (1024: about 2 GB, for 8 megapixels). Without it, what needs more memory than is free (or "
                   "than $DEEPDREAM_MEMORY_GB says) is refused", "N"),
    "clip": Option(FLAG, "keep pixels within 0 to 255; otherwise they are scaled at the end"),
    "seed": Option(SEED, "of the jitter; drawn and written into the picture if not given", "N"),
    "start": Option(one_of(*STARTS), "grey, or noise by the seed", group="starts"),
    "size": Option(SIZE, "of the dream; a picture is scaled to it", "WxH", group="starts"),
    "noise": Option(LEVEL, "mean and standard deviation of the noise (128 20)", ("MEAN", "SPREAD"), words=2,
                    group="starts"),
    "tv": Option(WEIGHT, "total variation: smooth areas; 1 is as strong as the dream", "X", group=PRIORS),
    "grey": Option(WEIGHT, "towards the mean: no colour stronger than it needs to be", "X", group=PRIORS),
    "blur": Option(WEIGHT, "blur the picture by so many pixels ...", "SIGMA", group=PRIORS),
    "blur_until": Option(WEIGHT, "... changing to so many in the last step ...", "SIGMA", group=PRIORS),
    "blur_every": Option(whole(1), "... every N steps", "N", group=PRIORS),
    "laplacian": Option(whole(0, 12), "let details of all sizes grow alike: normalize the gradient's Laplacian pyramid (4 "
                        "levels)", "LEVELS", optional=4, group=PRIORS),
    "keep_colours": Option(FLAG, "dream in the luminance only", group=PRIORS),
    "fast": Option(FLAG, "on CUDA: convolutions with TF32's 10 bits of mantissa, a thousandth off in each; the dream is one "
                   "of the same kind, not Caffe's step for step"),
}
NOTEBOOK = ("iter_n", "octave_n", "octave_scale", "step_size", "jitter")      # the notebook's own


@dataclass(frozen=True)
class Settings:
    """What was chosen for a dream, beside the net and the pictures. OPTIONS tells what each field means.

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
    size: tuple[int, int] | None = None
    noise: tuple[float, float] | None = None
    tv: float | None = None
    grey: float | None = None
    blur: float | None = None
    blur_until: float | None = None
    blur_every: int = 1
    laplacian: int | None = None
    keep_colours: bool = False
    fast: bool = False

    def __post_init__(self):
        for field in fields(self):
            value, option = getattr(self, field.name), OPTIONS[field.name]
            if isinstance(value, list):
                object.__setattr__(self, field.name, value := tuple(value))
            if value is not None and not option.holds(value):
                raise DreamError(f"--{field.name.replace('_', '-')}: {shown(value)} is not {option.kind.allowed}")
        if self.noise and self.start != "noise":
            raise DreamError("--noise: only a dream that starts from noise has it; give --start noise")
        if self.blur is None and (self.blur_until or self.blur_every != 1):
            raise DreamError("--blur-until, --blur-every: there is no blur; give --blur SIGMA too")

    def replace(self, **changes) -> Settings:
        """These settings with some changed."""
        return dataclasses.replace(self, **changes)

    # ---- for `deepdream`

    @property
    def steps(self) -> dict:
        """The keywords of `deepdream` that say how its steps are made, wherever the dream looks."""
        return {name: getattr(self, name) for name in (*NOTEBOOK, "clip", "tile")} | {"tile": self.tile or None}

    @property
    def priors(self) -> dict:
        """What was chosen of the priors: {name: value}, as records have them."""
        chosen = {"tv": self.tv, "grey": self.grey,
                  "blur": [self.blur, self.blur_every, self.blur_until] if self.blur else None,
                  "laplacian": self.laplacian, "keep_colours": self.keep_colours}
        return {name: value for name, value in chosen.items() if value}

    # ---- for records

    def to_metadata(self) -> dict:
        """The settings as a record in a picture's metadata has them: plain values, without what was not asked for."""
        asked = {"tile": self.tile, "priors": self.priors, "start": self.start, "size": self.size, "noise": self.noise,
                 "fast": self.fast}
        return {"end": self.end[0] if len(self.end) == 1 else list(self.end),
                **{name: getattr(self, name) for name in NOTEBOOK}, "clip": self.clip, "seed": self.seed,
                **{name: list(value) if isinstance(value, tuple) else value for name, value in asked.items() if value}}

    @classmethod
    def from_metadata(cls, record: dict) -> Settings:
        """The settings in a record, from this version or an older one. Raises DreamError for what does not fit."""
        values = {name: record[name] for name in OPTIONS if record.get(name) is not None and name not in _PRIORS}
        if isinstance(values.get("end"), str):
            values["end"] = (values["end"],)
        priors = record.get("priors") or {}
        if not isinstance(priors, dict) or not isinstance(priors.get("blur", []), list):
            raise DreamError(f"priors: {shown(priors)} is no table of priors")
        values |= {name: priors[name] for name in ("tv", "grey", "laplacian", "keep_colours") if name in priors}
        blur = dict(zip(("blur", "blur_every", "blur_until"), priors.get("blur", [])))
        return cls(**values, **{name: value for name, value in blur.items() if value is not None})


_PRIORS = ("tv", "grey", "blur", "blur_every", "blur_until", "laplacian", "keep_colours")
