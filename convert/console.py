"""What is printed on any terminal, into any pipe."""
import contextlib
import os
import sys


@contextlib.contextmanager
def forgiving():
    """Letters that the terminal does not have are written as \\x.., and a reader that has gone (`| head`) is no error:
    what is printed from then on is lost."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        if sys.stdout is not None:
            sys.stdout.flush()
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())      # Python flushes once more at its end
