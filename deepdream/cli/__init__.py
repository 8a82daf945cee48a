"""The command line, `deepdream COMMAND`."""
from .command_line import COMMANDS, guarded, main

__all__ = ["COMMANDS", "guarded", "main"]
