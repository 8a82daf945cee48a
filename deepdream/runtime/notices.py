"""Lines for people on stderr that are worth saying once a process."""
import functools
import sys


@functools.cache
def say_once(text: str):
    """Print a line on stderr, unless it has been said before."""
    print(text, file=sys.stderr)
