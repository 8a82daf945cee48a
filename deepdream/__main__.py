"""`python -m deepdream`, and the command `deepdream` of an installed package."""
import sys

from .convert.console import complain, interrupted, program

# the modules of the packages in requirements.txt
PACKAGES = {"IPython", "PIL", "google", "jinja2", "numpy", "onnx", "onnxruntime", "platformdirs", "requests", "scipy",
            "tqdm"}


def main():
    """Run the command line. Returns the exit code."""
    try:
        from .cli import main
        return main()
    except ModuleNotFoundError as missing:
        if (missing.name or "").partition(".")[0] not in PACKAGES:
            raise
        return complain("deepdream", f"the package {missing.name} is not installed for {sys.executable}: activate the "
                        "environment (. .venv/bin/activate) or install the packages (pip install -r requirements.txt)")
    except KeyboardInterrupt:      # pressed before a command began, while modules were still being imported
        return interrupted("deepdream")


def run():
    """Run the command line as a whole program."""
    program(main)


if __name__ == "__main__":
    run()
