"""The parser of this project's command lines."""
import argparse


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line; takes no abbreviations, which may mean another option tomorrow."""

    def __init__(self, *args, **more):
        super().__init__(*args, **{"allow_abbrev": False, **more})

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")
