"""Runs an unchanged pycaffe script: deepdream caffe script.py [arguments]

`import caffe` then finds the stand-in, in the script, in all modules that it imports and in processes that it starts.
This file imports nothing of the package: a script in the current folder may have its name, deepdream.py.
"""
import os
import runpy
import sys
from pathlib import Path

USAGE = "usage: deepdream caffe script.py [arguments]"
HELP = f"""{USAGE}

Run a script that was written for Caffe's Python interface, without changing it. Where it imports caffe, it gets a
module that reads Caffe's files and computes what Caffe computes. Solvers and the like, which train, are not supported.

  script.py    the script, in Python 3
  arguments    the script's own arguments
"""


def main(arguments=None):
    """Run the script that is the first of the arguments; the others are the script's. Returns an exit status."""
    arguments = sys.argv[1:] if arguments is None else list(arguments)
    if not arguments or arguments[0] in ("-h", "--help"):
        print(HELP, end="", file=sys.stdout if arguments else sys.stderr)
        return 0 if arguments else 2
    script = arguments[0]
    if not os.path.isfile(script):
        print(f"{script}: there is no such script; {USAGE}", file=sys.stderr)
        return 2
    here = Path(__file__).resolve().parent
    sys.argv = arguments
    # as Python does with a script, then the stand-in, and this project last, where it may be imported from
    sys.path[:1] = [os.path.dirname(os.path.abspath(script)), str(here / "path")]
    if str(here.parent.parent) not in sys.path:
        sys.path.append(str(here.parent.parent))
    for name in [name for name in sys.modules if name.partition(".")[0] == "deepdream"]:
        del sys.modules[name]      # a module of the script may have this name
    runpy.run_path(script, run_name="__main__")
    return 0


if __name__ == "__main__":
    sys.exit(main())
