"""The parser of this project's command lines."""
import argparse


class Parser(argparse.ArgumentParser):
    """Says what was wrong in one line."""

    def error(self, message):
        self.exit(2, f"{self.prog}: {message}\n")
