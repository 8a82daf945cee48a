"""The parser of this project's command lines."""
import argparse
import re
import sys

from .console import one_line


class _Problem(Exception):
    """What is wrong with arguments."""


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line; takes no abbreviations, which may mean another option tomorrow."""
    _leaves = True      # the program, where arguments make no sense

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

    def problem(self, args):
        """What is wrong with arguments, in one line; None if they make sense."""
        self._leaves = False
        try:
            self.parse_args(args)
        except _Problem as problem:
            return one_line(problem)
        finally:
            self._leaves = True

    def error(self, message):
        if not self._leaves:
            raise _Problem(message)
        self.exit(2, f"{self.prog}: {one_line(message)}\n")
