"""Notices on stderr that are printed only once per process."""
import functools
import sys


@functools.cache
def say_once(text: str) -> None:
    """Print a line on stderr, unless this process has printed it before."""
    print(text, file=sys.stderr)
