"""The record in a picture: how a dream was made, written into it, compared with, and read back as a command line."""
import json
import sys
from pathlib import Path

from ..convert.errors import shown
from ..errors import DreamError
from .nets import MODEL, PIXELS, pixels_of, remembered_pixels
from .options import SETTINGS, remembered_priors

OPTIONAL = ("tile", "priors", "start", "size", "noise", "fast", "pixels")      # in a record only if they were asked for
OPTIONS = ("tile", "start", "size", "noise", "fast", "threads")      # options of the same name
PAIRS = ("size", "noise")      # two numbers each
GIVES_WAY = {   # what is remembered -> the arguments before which it gives way
    "end": ("end",), "blur": ("blur",), "blur_every": ("blur",), "blur_until": ("blur",), "start": ("start", "picture"),
    "noise": ("start", "picture", "noise"), **{dest: ("model",) for dest in PIXELS.values()},
}


def end_texts(net, args):
    """The texts of --end."""
    return args.end or [net.default_end]


def record_of(net, args, seed, settings, priors):
    """What a picture's metadata tells of how it was made."""
    from .. import __version__
    ends = end_texts(net, args)
    record = {"software": f"deepdream {__version__}", "model": net.name, "checksum": net.checksum,
              "end": ends[0] if len(ends) == 1 else ends, **settings, "seed": seed,
              "picture": args.picture and Path(args.picture).name, "guide": args.guide and Path(args.guide).name,
              "device": net.device.name, "threads": net.thread_count}
    more = {"priors": priors, "start": args.start, "size": args.size, "noise": args.noise, "fast": args.fast,
            "pixels": pixels_of(net)}
    return record | {k: v for k, v in more.items() if v}


def made_so(path, record, any_seed):
    """Whether a dream is there that was made with these settings, on whatever device, with whatever number of threads,
    of whatever version."""
    from ..pictures import settings_there
    free = {"software", "device", "threads"} | ({"seed"} if any_seed else set())
    there = settings_there(path)
    record = json.loads(json.dumps(record))      # as it comes back from a picture
    return bool(there) and all(there.get(k) == record.get(k) for k in {*record, *OPTIONAL} - free)


def is_dream(path):
    """Whether a file is a picture that was dreamt here."""
    from ..pictures import settings_there
    software = settings_there(path).get("software")
    return isinstance(software, str) and software.startswith("deepdream")


def say_differences(path, net, threads):
    """Say so, where the net's files are not those that a picture was dreamt with, and where this machine has fewer cores
    than the threads that it was dreamt with and is now again. threads: as asked for."""
    from .. import pictures
    from ..runtime.cores import cores
    record = pictures.settings(path)
    if record.get("checksum") != net.checksum:
        print(f"--settings {path}: was dreamt with other files of {net.name}, or by another version", file=sys.stderr)
    if threads and threads == record.get("threads") and threads > (cores() or threads):
        print(f"--settings {path}: was dreamt with {threads} threads, which this machine's {cores()} cores take turns at; "
              "--threads gives another number, for a dream that may differ", file=sys.stderr)


def remembered(args, problem):
    """The words of a command line with which the picture of --settings was dreamt, but for those that give way to what
    is in `args`. problem: tells what is wrong with such words, or None. Raises DreamError."""
    from .. import models, pictures
    path, given = args.settings, {k for k, v in vars(args).items() if v not in (None, MODEL)}
    pictures.load(path)      # says what is wrong with it
    record = pictures.settings(path)
    if "seed" not in record or "end" not in record or "frame" in record:
        raise DreamError(f"--settings {path}: holds no settings of a dream"
                         + " alone: it is a frame of a zoom" * ("frame" in record))
    try:
        picture, guide, model = (_text(record.get(k)) for k in ("picture", "guide", "model"))
        values = _values(record)
    except (AttributeError, KeyError, TypeError, ValueError):
        raise DreamError(f"--settings {path}: its settings are damaged") from None
    if picture and not given & {"picture", "start"}:
        raise DreamError(f"--settings {path}: was dreamt from {shown(picture)}; give the picture too")
    if guide and not args.guide:
        raise DreamError(f"--settings {path}: was dreamt with the guide {shown(guide)}; give --guide too")
    known = model in models.names()
    if not known and "model" not in given:
        raise DreamError(f"--settings {path}: was dreamt with '{shown(model)}', a model of one's own; give --model too")
    words = [f"--model={model}"] * known
    for name, value in values.items():
        if not given & set(GIVES_WAY.get(name, ())):
            words += _words(name, value)
    wrong = problem(words)
    if wrong:
        raise DreamError(f"--settings {path}: its settings are damaged: {wrong}")
    return words


def _text(value):
    if not isinstance(value, (str, type(None))):
        raise TypeError
    return value


def _values(record):
    """{the name of an argument: its value} that a record tells of: texts, numbers, lists of them. Raises TypeError and
    the like for what is none."""
    end = record["end"]
    if not isinstance(end, (str, list)) or not end:
        raise TypeError("end")
    values = {"end": [end] if isinstance(end, str) else end}
    values |= {k: record[k] for k in (*SETTINGS, "clip", "seed", *OPTIONS) if k in record}
    values |= remembered_priors(record.get("priors", {})) | remembered_pixels(record.get("pixels", {}))
    values = {name: value for name, value in values.items() if value is not None}
    for name, value in values.items():
        parts = value if isinstance(value, list) else [value]
        if not all(isinstance(part, (str, int, float)) for part in parts) or name in PAIRS and len(parts) != 2:
            raise TypeError(name)
    return values


def _words(name, value):
    """An argument as words of a command line."""
    option = "--" + {dest: k for k, dest in PIXELS.items()}.get(name, name).replace("_", "-")
    if isinstance(value, bool):
        return [option if value else option.replace("--", "--no-", 1)]
    if name == "end":
        return [f"{option}={text}" for text in value]
    if name == "size":
        return [f"{option}={value[0]}x{value[1]}"]
    if name == "noise":
        return [option, *map(str, value)]
    return [f"{option}={','.join(map(str, value)) if isinstance(value, list) else value}"]
