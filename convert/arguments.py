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

    def parse_args(self, args=None, namespace=None):
        found, unknown = self.parse_known_args(args, namespace)
        if unknown:
            self.error(f"unknown argument {unknown[0]}{self._near(unknown[0])}")
        return found

    def _near(self, word):
        """'; did you mean --x?', if an option of this command is spelled almost like the word."""
        from difflib import get_close_matches
        near = get_close_matches(word.partition("=")[0][:80], self.options(), 1) if word.startswith("-") else []
        return f"; did you mean {near[0]}?" if near else ""

    def options(self) -> list[str]:
        """The options of this parser and of its commands."""
        words = []
        for action in self._actions:
            words += action.option_strings
            if isinstance(action, argparse._SubParsersAction):
                words += [word for parser in action.choices.values() for word in parser.options()]
        return words

    def error(self, message):
        self.exit(2, f"{self.prog}: {one_line(message)}\n")
