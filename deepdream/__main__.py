from .convert.console import interrupted, program


def main():
    try:
        from .cli import main
        return main()
    except KeyboardInterrupt:      # before a command has begun: while modules are still being imported
        return interrupted("deepdream")


program(main)
