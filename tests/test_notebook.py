"""dream.ipynb runs from top to bottom, without a browser, with few steps on the small nets."""
import os
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LESS = {"MODEL": "mini_imagenet", "PLACES": "mini_places", "STEPS": 1, "OCTAVES": 2, "WIDTH": 120, "FRAMES": 2}


def notebook():
    nbformat = pytest.importorskip("nbformat", reason="needs nbformat (pip install nbclient ipykernel)")
    return nbformat.read(ROOT / "dream.ipynb", 4)


def texts(cell):
    return "".join(o.get("text", "") or o.get("data", {}).get("text/plain", "") for o in cell.get("outputs", []))


def pictures(cell):
    return [o["data"]["image/jpeg"] for o in cell.get("outputs", []) if "image/jpeg" in o.get("data", {})]


@pytest.mark.slow
def test_the_notebook_runs(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient", reason="needs nbclient (pip install nbclient ipykernel)")
    pytest.importorskip("ipykernel", reason="needs ipykernel (pip install nbclient ipykernel)")
    for name, value in LESS.items():
        monkeypatch.setenv(f"DEEPDREAM_{name}", str(value))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")]))
    book = notebook()
    nbclient.NotebookClient(book, timeout=300, kernel_name="python3",
                            resources={"metadata": {"path": str(tmp_path)}}).execute()
    cells = [c for c in book.cells if c.cell_type == "code"]
    assert "mini_imagenet" in texts(cells[0]) and "mini_places" in texts(cells[0])
    assert sum(len(pictures(c)) for c in cells) == 8
    assert any("odict_keys(['data', 'conv1/7x7_s2'" in texts(c) for c in cells)
    same, = (texts(c) for c in cells if "mean difference of the two" in texts(c))
    assert float(same.split("of the two")[1].split()[0]) < 0.01
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == ["0000.jpg", "0001.jpg"]


def test_the_notebook_is_committed_with_its_pictures():
    book = notebook()
    assert sum(len(pictures(c)) for c in book.cells) == 8
    assert not any(o.output_type == "error" for c in book.cells for o in c.get("outputs", []))
    assert (ROOT / "dream.ipynb").stat().st_size < 3e6
