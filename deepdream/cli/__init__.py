"""The command line: `python -m deepdream COMMAND`."""
from .command_line import COMMANDS, guarded, main

__all__ = ["COMMANDS", "guarded", "main"]
