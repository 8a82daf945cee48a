"""The dreams of all pictures of a folder."""
from __future__ import annotations

import hashlib
import os
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from .. import pictures
from ..convert.console import one_line
from ..errors import DreamError
from ..options import Settings
from ..pictures.reading import OTHERS
from ..provenance import differences, files_of, is_dream, provenance
from .output import make_folder
from .ready import announce_time, checked_sizes, net_and_settings, step_of, with_seed
from .stopping import goes_on


def dream_folder(args: Namespace, base: Settings) -> int:
    """Dream every picture of a folder into another folder, under the names that `targets_of` chooses.

    args: parsed arguments; `picture` is the folder. With `recursive`, pictures in its subfolders are dreamt, too.
    base: the settings to take where the command line specifies nothing.

    A picture that fails is reported and does not stop the others. A dream that exists and was made with the same
    settings is not made again. Returns the exit code: 2 if a picture failed, else 0.
    """
    folder, output = Path(args.picture), Path(args.output or "")
    sources, left_out, unreadable = _sources(args, folder, output)
    targets = targets_of(sources, folder, output)
    for path, target in targets.items():
        pictures.refuse_inputs(target, path, args.guide, args.mask)
    existing = [target for target in targets.values() if target.exists()]
    foreign = [target for target in existing if not is_dream(target)]
    if foreign and foreign == existing:
        raise DreamError(f"-o {output}: would overwrite {foreign[0]}, which is not a dream; give another folder")

    from tqdm import tqdm

    from ..batch.jobs import InProcess
    from ..dream import check_layers
    from ..engine import tiles
    from ..goals.text import goals
    net, settings = net_and_settings(args, base)
    guide, mask = (Path(name).read_bytes() if name else None for name in (args.guide, args.mask))
    chosen = goals(net, settings, pictures.load(args.guide) if args.guide else None)
    check_layers(net, step_of(settings, chosen))
    tiles.check_tiles(net, step_of(settings, chosen))
    _say_left_out(folder, left_out, unreadable)
    counts = {"made": 0, "kept": 0, "failed": 0}
    with goes_on(), InProcess() as executor, \
            tqdm(sources, file=sys.stderr, leave=False, disable=not sys.stderr.isatty()) as bar:
        for path in bar:
            bar.set_description_str(str(path.relative_to(folder)))
            try:
                if targets[path] in foreign:
                    raise DreamError(f"would overwrite {targets[path]}, which is not a dream, or a damaged one")
                counts[_dream_one(args, net, settings, chosen, path, targets[path], guide, mask, executor)] += 1
            except DreamError as error:
                counts["failed"] += 1
                message = str(error) if str(path) in str(error) else f"{path}: {error}"
                bar.write(f"deepdream: {one_line(message)}", file=sys.stderr)
    print(f"{output}: {counts['made']} dreams made, {counts['kept']} kept, {counts['failed']} failed, {net.name} at "
          + " + ".join(settings.end))
    return 2 if counts["failed"] else 0


def _sources(args, folder, output):
    """Return the pictures of a folder, the names of its subfolders that are left out, and the pictures that are.

    Raises DreamError for options that do not go with a folder.
    """
    for option in ("log", "plot"):
        if getattr(args, option):
            raise DreamError(f"--{option}: {folder} is a folder; this option is only for the dream of one picture")
    if not args.output or output.exists() and (not output.is_dir() or output.samefile(folder)):
        before = f"-o {args.output}: " if args.output else ""
        raise DreamError(f"{before}{folder} is a folder, so give another folder for its dreams, such as -o dreams/")
    formats = (*pictures.FORMATS, *pictures.ONLY_READ)
    sources, left_out, unreadable = [], [], []
    for place, subfolders, names in os.walk(folder, onerror=_raise):
        subfolders[:] = sorted(name for name in subfolders if not name.startswith(".")
                               and not (output.exists() and output.samefile(Path(place, name))))
        sources += [path for name in sorted(names) if (path := Path(place, name)).suffix.lower() in formats
                    and path.is_file()]
        unreadable += [name for name in sorted(names) if Path(name).suffix.lower() in OTHERS]
        if not args.recursive:
            left_out, subfolders[:] = list(subfolders), []
    if not sources:
        raise DreamError(f"{folder}: holds no picture that can be read ({', '.join(formats)})"
                         + "; --recursive looks into its subfolders, too" * bool(left_out)
                         + "".join(f"; {OTHERS[Path(name).suffix.lower()]} pictures, such as {name}, are not supported"
                                   for name in unreadable[:1]))
    return sources, left_out, unreadable


def _raise(error):
    """Raise an error that os.walk would ignore: a folder that cannot be read."""
    raise error


def _say_left_out(folder, left_out, unreadable):
    """Print which subfolders and pictures of a folder are left out, if there are any."""
    if unreadable:
        formats = " and ".join(dict.fromkeys(OTHERS[Path(name).suffix.lower()] for name in unreadable))
        rest = f" and {len(unreadable) - 1} more are" if len(unreadable) > 1 else " is"
        print(one_line(f"{folder}: {unreadable[0]}{rest} left out; {formats} pictures are not supported"),
              file=sys.stderr)
    if left_out:
        what = f"subfolder {left_out[0]} is" if len(left_out) == 1 else f"{len(left_out)} subfolders are"
        print(one_line(f"{folder}: its {what} left out; --recursive dreams the pictures there, too"), file=sys.stderr)


def _dream_one(args, net, settings, chosen, path, target, guide, mask, executor):
    """Dream one picture of a folder. Returns 'made', or 'kept' if it was made before. Raises DreamError if it fails."""
    from ..batch.jobs import Job
    from ..pictures.starts import start_size
    source = pictures.read(path)
    sizes = checked_sizes(net, settings, chosen, start_size(settings, source.size))
    pictures.check_size(target, *sizes[-1])
    ignored = ("seed",) if settings.seed is None else ()       # a seed that was drawn may be any
    data, settings = path.read_bytes(), with_seed(settings)
    sums = {"picture_sha256": hashlib.sha256(data).hexdigest(),
            "guide_sha256": guide and hashlib.sha256(guide).hexdigest(), "quality": args.quality}
    files = {"picture": path, "guide": args.guide}
    if mask:
        files["mask"], sums["mask_sha256"] = args.mask, hashlib.sha256(mask).hexdigest()
    metadata = provenance(net, settings.to_metadata(), **files_of(**files) | sums)
    existing = pictures.settings_if_any(target)
    if existing and not differences(existing, metadata, ignored):
        return "kept"
    make_folder(target.parent)
    pictures.check_target(target)
    announce_time(net, settings, chosen, sizes, str(path))
    result = executor.make(Job(net.files.arguments, settings, data, guide, net.device.name, args.threads,
                               pictures.keeps_alpha(target), mask))
    if result.error:
        raise DreamError(result.error)
    metadata |= {"device": result.device, "threads": result.threads}
    pictures.save(result.picture, target, metadata, args.quality, source)
    return "made"


def targets_of(sources: Sequence[Path], folder: Path, output: Path) -> dict[Path, Path]:
    """Choose the file names of the dreams of a folder.

    sources: the pictures.
    folder: the folder that they are in, or in whose subfolders.
    output: the folder for the dreams, which gets the same subfolders.

    Returns {picture: its dream}. A dream has the name of its picture. A picture in a format that is not written (BMP,
    GIF, PPM) becomes a .png: a.bmp becomes a.png or, if another picture takes that name, a.bmp.png.
    """
    targets = {p: output / p.relative_to(folder) for p in sources if p.suffix.lower() not in pictures.ONLY_READ}
    taken = {str(target).casefold() for target in targets.values()}
    for path in sources:
        if path not in targets:
            target = output / path.relative_to(folder).with_suffix(".png")
            if str(target).casefold() in taken:
                target = target.with_name(f"{path.name}.png")
            taken.add(str(target).casefold())
            targets[path] = target
    return targets
