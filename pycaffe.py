"""Runs an unchanged pycaffe script: python -m pycaffe script.py [arguments]

The same as `python -m deepdream.caffe`, which cannot be used in a folder that holds a deepdream.py.
"""
import runpy
from pathlib import Path

if __name__ == "__main__":
    runpy.run_path(str(Path(__file__).resolve().parent / "deepdream" / "caffe" / "run.py"), run_name="__main__")
