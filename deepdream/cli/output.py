"""Output files of the commands: checked before the work begins, never written over an input, and named if the user
names none."""
from __future__ import annotations

import os
from argparse import Namespace
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING

from ..convert.files import free_names
from ..errors import DreamError
from ..provenance import check_replaceable

if TYPE_CHECKING:
    import numpy as np

    from ..pictures import Picture


def output_of(args: Namespace, default: str) -> Path:
    """Return the file that -o specifies, or the first unused one of dream.jpg, dream-2.jpg, ...

    args: parsed arguments.
    default: the file name without -o.
    """
    return Path(args.output) if args.output else next(free_names(Path(default)))


def save_output(picture: np.ndarray, args: Namespace, default: str, metadata: dict,
                source: Picture | None = None) -> Path:
    """Write a picture.

    picture: (H, W, 3), 0 to 255.
    args: parsed arguments, with output and quality.
    default: the file name without -o.
    metadata: settings and provenance, saved in the file.
    source: the picture that it was made from, or None; see `pictures.save`.

    Returns the file's path. Without -o it may differ from that of `output_of`, if another process has used that name.
    """
    from .. import pictures
    if not args.output:
        return pictures.save_new(picture, default, metadata, args.quality, source)
    pictures.save(picture, args.output, metadata, args.quality, source)
    return Path(args.output)


def save_partial(picture: np.ndarray, output: Path, args: Namespace, metadata: dict,
                 source: Picture | None = None) -> Path:
    """Write the picture so far of a command that is stopped, as NAME.partial.EXT or the first unused name after that.

    output: the file that the command was to write.
    The other arguments are those of `save_output`.

    Returns the file's path.
    """
    from .. import pictures
    return pictures.save_new(picture, output.with_stem(f"{output.stem}.partial"), metadata, args.quality, source)


def check_output(path: Path) -> None:
    """Raise DreamError unless the picture of -o can be written; its folder may have to be made by `make_parent`.

    A dream that exists is replaced; a picture of somebody else is not.
    """
    from .. import pictures
    folder = path.parent
    if os.path.lexists(folder):
        pictures.check_target(path)
        return check_replaceable(path)
    pictures.check_suffix(path)
    while not os.path.lexists(folder):
        folder, missing = folder.parent, folder
    pictures.check_file(missing, "-o")


def make_parent(path: Path) -> None:
    """Create the folder of the picture of -o unless it exists. Raises DreamError, also if it cannot be written."""
    from .. import pictures
    if not path.parent.exists():
        make_folder(path.parent)
        pictures.check_target(path)


def check_outputs(outputs: dict, inputs: Iterable) -> None:
    """Check that all output files can be written, have different names and overwrite no input.

    outputs: {option: path or None}, in the order in which they are checked; all but `--log` are pictures.
    inputs: paths of the files that are read, or None.

    Raises DreamError.
    """
    from .. import pictures
    from .runlog import is_log
    taken = []
    for option, path in outputs.items():
        if not path:
            continue
        if option == "-o":
            check_output(Path(path))
        else:
            (pictures.check_file if option == "--log" else pictures.check_target)(path, option)
            if option != "--log" or not is_log(path):
                check_replaceable(path, option)
        pictures.refuse_inputs(path, *inputs, option=option)
        if any(Path(path).resolve() == Path(other).resolve() for other in taken):
            raise DreamError(f"{option} {path}: another file of this run has that name")
        taken.append(path)


def make_folder(path: Path) -> None:
    """Create the folder of -o unless it exists. Raises DreamError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be made: {error.strerror}") from None
