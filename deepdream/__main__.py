import sys

try:
    from .cli import main
    code = main()
except KeyboardInterrupt:      # before a command has begun: while modules are still being imported
    print("deepdream: interrupted", file=sys.stderr)
    code = 130
sys.exit(code)
