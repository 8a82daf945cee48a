"""Messages, exit codes and streams of a command line: an error that the user can fix is one line on stderr."""
from __future__ import annotations

import os
import re
import sys
from collections.abc import Callable

from .errors import shown

MAX_LENGTH = 2000      # characters of a message


def one_line(message: object) -> str:
    """Return a message as one line: characters that do not print are escaped, long names lose their middle."""
    return shown(re.sub(r"[^\s/]{81,}", lambda name: shown(name[0]), str(message)), MAX_LENGTH)


def complain(prog: str, message: object) -> int:
    """Print an error that the user can fix. Returns the exit code, 2."""
    print(f"{prog}: {one_line(message)}", file=sys.stderr)
    return 2


def interrupted(prog: str, advice: str = "") -> int:
    """Print that the command was interrupted, on a new line after the terminal's ^C. Returns the exit code, 130.

    prog: the command's name.
    advice: how to go on, if that is possible.
    """
    print("\n" * sys.stderr.isatty() + f"{prog}: interrupted" + f"; {advice}" * bool(advice), file=sys.stderr)
    return 130


def guarded(run: Callable[[], int | None], prog: str, errors: type | tuple,
            no_memory: str = "not enough memory") -> int:
    """Call a function, and print the errors that the user can fix as one line.

    run: the function. It returns an exit code; None means 0.
    prog: the command's name, with which messages begin.
    errors: the types of exceptions that the user can fix. Errors of the system (OSError) and MemoryError count too.
    no_memory: the message for a MemoryError.

    Returns the exit code of `run`, 2 after such an error, 130 after Ctrl-C.
    """
    _escape_unprintable()
    try:
        code = run() or 0
        if sys.stdout:      # None in a program without a console
            sys.stdout.flush()
        return code
    except errors as error:
        return complain(prog, error)
    except MemoryError:
        return complain(prog, no_memory)
    except BrokenPipeError:
        _discard_stdout()
        return 0
    except OSError as error:
        return complain(prog, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
    except KeyboardInterrupt as stop:
        return interrupted(prog, str(stop))


def program(main: Callable[[], int]) -> None:
    """Run `main`, which returns an exit code, as a whole program, and exit with that code."""
    _open_streams()
    try:
        code = main()
    except SystemExit as end:      # raised by argparse for --help and for invalid options
        code = end.code
    try:
        sys.stdout.flush()
    except OSError:
        _discard_stdout()
    sys.exit(code)


def _open_streams():
    """Open closed standard streams on the null device, so that no other file gets their numbers."""
    handle = 0
    while handle <= 2:
        handle = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(handle, handle <= 2)
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    _escape_unprintable()


def _escape_unprintable():
    """Write characters that the terminal's encoding lacks as escapes, instead of raising an error."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _discard_stdout():
    """Send the rest of stdout to the null device, because its reader is gone or its disk is full."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
