"""The argument parser of this project's commands."""
from __future__ import annotations

import argparse
import re
import sys

from .console import one_line


class Parser(argparse.ArgumentParser):
    """An ArgumentParser that prints errors as one line and suggests the option that was probably meant.

    It accepts no abbreviated options, since an abbreviation may mean another option in a later version.
    """

    def __init__(self, *args, **options):
        super().__init__(*args, **{"allow_abbrev": False, **options})

    def parse_known_args(self, args=None, namespace=None):
        args = sys.argv[1:] if args is None else list(args)
        for word in args:
            if "\0" in word:
                self.error(f"'{word}': no argument can hold a null character")
            if re.fullmatch(r"(--[^=]+=|-\w)--", word):      # argparse would drop the --
                self.error(f"'{word}': -- is not allowed as the value of an option")
        return super().parse_known_args(args, namespace)

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self._near(unknown[0])}")
        return found

    def _near(self, word):
        """Return '; did you mean --x?' if the word looks like a misspelled option, else ''."""
        from difflib import get_close_matches
        word, options = word.partition("=")[0][:80], self.options()
        near = [option for option in options if option.startswith(word)] or get_close_matches(word, options, 1)
        return f"; did you mean {near[0]}?" if word.startswith("--") and near else ""

    def options(self) -> list[str]:
        """List the options of this parser and of its subcommands."""
        words = []
        for action in self._actions:
            words += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                words += [word for parser in action.choices.values() for word in parser.options()]
        return words

    def error(self, message):
        self.exit(2, f"{self.prog}: {one_line(message)}\n")
