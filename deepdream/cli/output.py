"""What commands write: checked before the work, never over what was read, under a free name where none is given."""
from pathlib import Path

from ..convert.files import free_names
from ..errors import DreamError


def output_of(args, usual: str) -> Path:
    """Where the picture goes: -o, or the first free name of dream.jpg, dream-2.jpg ... as things are now."""
    return Path(args.output) if args.output else next(free_names(Path(usual)))


def save_output(picture, args, usual: str, record: dict) -> Path:
    """Write the picture. Returns where: another process may have taken the name that `output_of` told of."""
    from .. import pictures
    if not args.output:
        return pictures.save_new(picture, usual, record, args.quality)
    pictures.save(picture, args.output, record, args.quality)
    return Path(args.output)


def check_outputs(outputs: dict, read) -> None:
    """Raise DreamError unless all files can be written, each under a name of its own that none of those read has.

    outputs: {option: path or None}, in the order in which they are checked; `--log` is no picture. read: paths or None.
    """
    from .. import pictures
    taken = []
    for option, path in outputs.items():
        if not path:
            continue
        (pictures.check_file if option == "--log" else pictures.check_target)(path, option)
        pictures.refuse_inputs(path, *read, option=option)
        if any(Path(path).resolve() == Path(other).resolve() for other in taken):
            raise DreamError(f"{option} {path}: another file of this run has that name")
        taken.append(path)


def make_folder(path: Path):
    """Make the folder of -o, if it is not there. Raises DreamError."""
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise DreamError(f"-o {path}: cannot be made: {error.strerror}") from None
