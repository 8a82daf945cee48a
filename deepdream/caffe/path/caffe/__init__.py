"""The module `caffe` for unchanged pycaffe scripts: the folder above is put on their path (see `deepdream.caffe.run`).

The package is loaded under a name of its own, because scripts may have a module called `deepdream` themselves.
"""
import importlib
import importlib.util
import sys
from pathlib import Path

NAME = "deepdream_for_caffe"


def _package():
    folder = Path(__file__).resolve().parents[3]
    spec = importlib.util.spec_from_file_location(NAME, folder / "__init__.py",
                                                  submodule_search_locations=[str(folder)])
    sys.modules[NAME] = module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)


if NAME not in sys.modules:
    _package()
_standin = importlib.import_module(f"{NAME}.caffe")
sys.modules["caffe"] = _standin
for _module in _standin.MODULES:
    sys.modules[f"caffe.{_module}"] = importlib.import_module(f"{NAME}.caffe.{_module}")
