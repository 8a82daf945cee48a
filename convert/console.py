"""What a command line says, on any terminal and into any pipe: what the user can mend is one line on stderr."""
import os
import re
import sys

from .errors import shown

MOST = 2000      # characters of a message


def one_line(message):
    """A message in one line. What does not print is written out; names that are too long lose their middle."""
    return shown(re.sub(r"[^\s/]{81,}", lambda name: shown(name[0]), str(message)), MOST)


def complain(prog, message):
    """Say what the user can mend. Returns the exit code."""
    print(f"{prog}: {one_line(message)}", file=sys.stderr)
    return 2


def interrupted(prog):
    """Say so, on a line of its own behind what the terminal shows of Ctrl-C. Returns the exit code."""
    print("\n" * sys.stderr.isatty() + f"{prog}: interrupted", file=sys.stderr)
    return 130


def guarded(run, prog, mended, no_memory="not enough memory"):
    """Call `run`, which returns an exit code, or None for 0. Returns it; 2 for what the user can mend, which are
    exceptions of the types `mended` and the system's, and 130 for Ctrl-C."""
    _write_out_odd_letters()
    try:
        code = run() or 0
        if sys.stdout:      # a program without a window has none
            sys.stdout.flush()
        return code
    except mended as error:
        return complain(prog, error)
    except MemoryError:
        return complain(prog, no_memory)
    except BrokenPipeError:
        _let_go()
        return 0
    except OSError as error:
        return complain(prog, f"{error.filename}: {error.strerror}" if error.filename else error.strerror or error)
    except KeyboardInterrupt:
        return interrupted(prog)


def program(main):
    """Run `main`, which returns an exit code, as a whole program, and end it."""
    _open_streams()
    try:
        code = main()
    except SystemExit as end:      # argparse: help, and options that make no sense
        code = end.code
    try:
        sys.stdout.flush()
    except OSError:
        _let_go()
    sys.exit(code)


def _open_streams():
    """Streams that are closed lead nowhere, and no file gets their numbers."""
    handle = 0
    while handle <= 2:
        handle = os.open(os.devnull, os.O_RDWR)
        os.set_inheritable(handle, handle <= 2)
    os.close(handle)
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, "w"))
    _write_out_odd_letters()


def _write_out_odd_letters():
    """Letters that the terminal does not have are written as escapes, and stop nothing."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")


def _let_go():
    """Nobody reads stdout any more, or it is full: what is left for it goes nowhere, also when Python ends."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
