"""The parser of this project's command lines."""
import argparse
import re
import sys

from .console import one_line


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line; takes no abbreviations, which may mean another option tomorrow."""

    def __init__(self, *args, **more):
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        for word in args:
            if "\0" in word:
                self.error(f"'{word}': no argument can hold a null character")
            if re.fullmatch(r"(--[^=]+=|-\w)--", word):      # argparse would take the -- away
                self.error(f"'{word}': -- is no value of an option")
        return super().parse_known_args(args, namespace)

    def error(self, message):
        self.exit(2, f"{self.prog}: {one_line(message)}\n")
