"""The scenes that a dream can start from: sky, lake and fur."""
import numpy as np
import pytest

from deepdream import load, settings
from deepdream.cli import main
from deepdream.options import SCENES, STARTS, Settings
from deepdream.pictures import starts
from deepdream.pictures.scenes import formula_fur, formula_lake
from deepdream.pictures.sky import formula_sky

SKY = np.array([      # the means of the sky in 3 x 4 parts, as it always was
    [195.3, 204.9, 217.3, 156.7, 174.5, 198.5, 137.2, 160.4, 191.7, 103.4, 139.9, 187.9],
    [128.4, 162.1, 200.1, 115.5, 156.9, 202.8, 110.5, 154.0, 202.2, 115.3, 157.2, 203.5],
    [171.4, 199.6, 224.5, 169.0, 198.5, 224.4, 181.9, 205.8, 226.4, 177.8, 203.7, 226.5]]).reshape(3, 4, 3)
FORMULAS = {"sky": formula_sky, "lake": formula_lake, "fur": formula_fur}


def test_every_scene_is_a_start():
    assert set(FORMULAS) == set(SCENES) == set(starts.SCENES) and set(SCENES) < set(STARTS)


@pytest.mark.parametrize("name", FORMULAS)
def test_a_scene(name):
    scene = FORMULAS[name](90, 160)
    assert scene.dtype == np.float32 and scene.shape == (90, 160, 3)
    assert scene.min() >= 0 and scene.max() <= 255 and np.array_equal(scene, np.rint(scene))
    assert np.array_equal(scene, FORMULAS[name](90, 160))
    assert not np.array_equal(scene, FORMULAS[name](90, 160, seed=99))
    assert scene.std() > 20 and len(np.unique(scene.reshape(-1, 3), axis=0)) > 1000


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("size", [(1, 1), (2, 7), (7, 2), (300, 20), (20, 300)], ids=str)
def test_a_scene_of_any_size(name, size):
    scene = FORMULAS[name](*size)
    assert scene.shape == (*size, 3) and np.isfinite(scene).all()


def test_what_the_lake_shows():
    """Blue above, green hills, and water that mirrors them: its rows resemble those above the shore, upside down."""
    lake = formula_lake(288, 512)
    shore = round(0.56 * 288)
    hills, sky, water = lake[shore - 20:shore].mean((0, 1)), lake[:40].mean((0, 1)), lake[shore:].mean((0, 1))
    assert sky[2] > sky[0] + 20 and hills[1] > hills[2] + 20 and water[2] > water[0]
    above, below = (part.mean((1, 2)) for part in (lake[shore - 90:shore][::-1], lake[shore:shore + 90]))
    assert np.corrcoef(above, below)[0, 1] > 0.7


def test_the_sky_is_the_one_of_older_dreams():
    parts = formula_sky(96, 160).reshape(3, 32, 4, 40, 3).mean((1, 3))
    assert np.abs(parts - SKY).max() < 0.1


def test_dreams_of_scenes(toy, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    run = ["dream", "--model", str(toy), "--end", "both", "--iter-n", "1", "--octave-n", "1", "--step-size", "0.001",
           "--size", "80x60", "--seed", "1", "--device", "cpu", "--threads", "1", "-o"]
    assert main([*run, "default.png"]) == 0
    for name in SCENES:
        assert main([*run, f"{name}.png", "--start", name]) == 0
        assert settings(f"{name}.png")["start"] == name
        assert np.abs(load(f"{name}.png") - FORMULAS[name](60, 80)).max() < 3
        assert main([*run, "again.png", "--settings", f"{name}.png"]) == 0
        assert np.array_equal(load("again.png"), load(f"{name}.png"))
    assert np.array_equal(load("default.png"), load("sky.png")) and "start" not in settings("default.png")


def test_a_scene_comes_from_the_cache(cache, monkeypatch):
    first = starts.starting_picture(Settings(start="fur", size=(44, 33)))
    from deepdream.pictures import scenes
    monkeypatch.setattr(scenes, "formula_fur", None)
    assert np.array_equal(starts.starting_picture(Settings(start="fur", size=(44, 33))), first)


def test_a_picture_and_a_scene_exclude_each_other(toy, tmp_path, capsys):
    assert main(["dream", "cat.jpg", "--start", "lake", "--model", str(toy)]) == 2
    assert "--start lake: there is a picture" in capsys.readouterr().err
