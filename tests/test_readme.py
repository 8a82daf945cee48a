"""What the README shows: every command is accepted, the Python blocks run, the pictures exist, the script of your own
network is complete."""
import importlib
import re
import shlex
from pathlib import Path

import children
import numpy as np
import pytest
from PIL import Image

from deepdream.cli import command_line, main

ROOT = children.ROOT
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = ("README.md", "deepdream/README.md", "models/README.md")
BLOCKS = re.findall(r"```python\n(.*?)```", README, re.S)
TABLE = README.partition("| if you want | try |")[2].partition("\n\n")[0]


def commands():
    """List the commands of the pages, and each cell of options of the README's table as one of `dream`."""
    lines = {line for page in PAGES for line in re.findall(r"^ {4}(deepdream .*)$|`(deepdream [^`]+)`",
                                                           (ROOT / page).read_text(encoding="utf-8"), re.M)}
    found = [shlex.split(a or b, comments=True)[1:] for a, b in sorted(lines)]
    found += [["cat.jpg", *shlex.split(cell)] for cell in re.findall(r"`(--[^`]+)`", TABLE)
              if not {"--start", "--stretch"} & set(shlex.split(cell))]
    return [words for words in found if words and words[0] != "COMMAND" and words[0] not in command_line.PROGRAMS]


def test_every_command_is_accepted(monkeypatch, capsys):
    """Parse each command, without running it."""
    ran = []
    for name in command_line.COMMANDS.keys() - command_line.PROGRAMS.keys():
        module = importlib.import_module(f"deepdream.cli.commands.{command_line.MODULES.get(name, name)}")
        monkeypatch.setattr(module, "run", lambda args, name=name: ran.append(name))
    for words in commands():
        if words[0].endswith("/"):
            words = ["dream", *words]      # a folder, which need not exist here
        try:
            code = main(words)
        except SystemExit as stop:
            code = stop.code
        assert code == 0, (words, capsys.readouterr().err)
    assert len(ran) > 40 and {"dream", "class", "zoom", "gallery", "features", "classify", "enhance"} <= set(ran)


def test_every_picture_exists_and_is_small():
    named = re.findall(r"!\[([^\]]*)\]\(([^)]+)\)|<img[^>]*src=\"([^\"]+)\"", README)
    paths = {Path(a or b) for _, a, b in named}
    assert len(paths) > 8 and all((ROOT / path).is_file() for path in paths), paths
    assert all(text for text, a, _ in named if a)      # who cannot see the picture reads this
    shown = {path for path in (ROOT / "models" / "pictures").rglob("*") if path.is_file()}
    assert shown == {ROOT / path for path in paths if "pictures" in path.parts}
    assert sum(path.stat().st_size for path in shown) < 2_500_000


@pytest.mark.slow
def test_the_python_blocks_run(tmp_path):
    y, x = np.mgrid[:90, :120]
    Image.fromarray(np.uint8(np.dstack([2 * x, 2 * y, 127 + 100 * np.sin(x * y / 90)]))).save(tmp_path / "cat.jpg")
    blocks = [block for block in BLOCKS if "cat.jpg" in block]
    assert len(blocks) >= 2
    for block in blocks:
        result = children.run("-c", block, cwd=tmp_path)
        assert result.returncode == 0, result.stderr
    for name in ("out", "dream", "both", "channels"):
        assert Image.open(tmp_path / f"{name}.jpg").size == (120, 90)


@pytest.mark.slow
def test_the_script_of_your_own_network(tmp_path):
    """Train it for two steps, on pictures by formula, and give the commands that follow it in the README, in order."""
    pytest.importorskip("torch", reason="needs PyTorch (pip install torch)")
    script, = (block for block in BLOCKS if "pets.onnx" in block)
    short, count = re.subn(r"STEPS = (.*), \d+\n", r"STEPS = \1, 2\n", script)
    assert count == 1
    rng = np.random.default_rng(0)
    for kind, level in (("cat", 60), ("dog", 180)):
        folder = tmp_path / "pets" / kind
        folder.mkdir(parents=True)
        for i in range(6):
            Image.fromarray(rng.integers(level, level + 60, (90, 120, 3), np.uint8)).save(folder / f"{i}.jpg")
    Image.open(folder / "0.jpg").save(tmp_path / "cat.jpg")
    result = children.run("-c", short, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert re.search(r"\d of 3 photographs", result.stdout), result.stdout
    section = README.partition("pets.onnx")[2].partition("\n## ")[0]
    lines = [line.strip() for line in re.findall(r"^ {4}deepdream .*--model pets\.onnx.*$", section, re.M)]
    assert [line.split()[1] for line in lines] == ["layers", "classify", "cat.jpg", "class"]
    for line in lines:
        words = shlex.split(line, comments=True)[1:]
        if words[0] not in ("layers", "classify"):
            words += ["--iter-n", "1"]
        result = children.run("-m", "deepdream", *words, cwd=tmp_path)
        assert result.returncode == 0 and "Traceback" not in result.stderr, (line, result)
        assert "is assumed" not in result.stderr      # pets.toml says it all
    assert Image.open(tmp_path / "class.png").mode == "RGB"
