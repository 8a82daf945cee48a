"""`python -m deepdream`, and the command `deepdream` of an installed package."""
from .convert.console import interrupted, program


def main():
    """Run the command line. Returns the exit code."""
    try:
        from .cli import main
        return main()
    except KeyboardInterrupt:      # pressed before a command began, while modules were still being imported
        return interrupted("deepdream")


def run():
    """Run the command line as a whole program."""
    program(main)


if __name__ == "__main__":
    run()
