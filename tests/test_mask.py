"""`dream --mask`: the picture changes only where the mask is bright."""
import numpy as np
import pytest
import scipy.ndimage as nd
import toys
from PIL import Image

from deepdream import DreamError, Net, deepdream, load, objective_L2, settings
from deepdream.cli import main
from deepdream.goals.priors import Blur, Mask, TotalVariation
from deepdream.pictures.mask import load_mask

QUICK = ["--end", "both", "--iter-n", "3", "--octave-n", "3", "--jitter", "5", "--seed", "1", "--device", "cpu",
         "--threads", "1"]


@pytest.fixture
def picture(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.uint8(np.random.default_rng(0).uniform(60, 190, (60, 80, 3)))).save(path)
    return path


@pytest.fixture
def mask(tmp_path):
    """A white square on black, in another size than the picture: rows 15 to 45 and columns 20 to 60 of it."""
    path = tmp_path / "mask.png"
    image = np.zeros((120, 160), np.uint8)
    image[30:90, 40:120] = 255
    Image.fromarray(image).save(path)
    return path


@pytest.mark.parametrize("extra", [[], ["--tv", "0.5", "--blur", "0.8"], ["--no-clip"]])
def test_nothing_changes_where_the_mask_is_black(toy, picture, mask, tmp_path, extra):
    plain, out = tmp_path / "plain.png", tmp_path / "out.png"
    command = ["dream", str(picture), "--model", str(toy), *QUICK, *extra]
    assert main([*command, "-o", str(out), "--mask", str(mask), "--mask-edge", "4"]) == 0
    if "--no-clip" in extra:
        return
    assert main([*command, "-o", str(plain)]) == 0
    before = load(picture)
    change, full = (np.abs(load(path) - before).max(2) for path in (out, plain))
    assert not change[:10].any() and not change[50:].any() and not change[:, :15].any() and not change[:, 65:].any()
    assert change[20:40, 25:55].mean() > 0.7 * full[20:40, 25:55].mean() > 1      # as strong as without a mask
    edge = change[20:40, 16:25].mean(0)      # grows across the edge
    assert edge[0] < edge[4] < edge[8]


def test_the_edge_is_soft_and_grey_is_in_between(mask, tmp_path):
    hard, soft = load_mask(mask, 60, 80, 0), load_mask(mask, 60, 80, 6)
    assert hard[30, 40] == soft[30, 40] == 1 and hard[5, 5] == soft[5, 5] == 0
    assert (np.diff(soft[30, 14:27]) > 0).all() and soft[30, 12] == 0 and soft[30, 20] == pytest.approx(0.5, abs=0.1)
    Image.fromarray(np.full((5, 7), 102, np.uint8)).save(tmp_path / "grey.png")
    np.testing.assert_allclose(load_mask(tmp_path / "grey.png", 60, 80), 0.4, atol=1e-3)
    assert load_mask(mask, 60, 80)[30, 18] > 0      # the default edge: 2 % of 80 pixels


def test_a_mask_scales_to_each_octave():
    prior = Mask(np.float32(np.arange(70 * 90).reshape(70, 90) / 6300))
    assert prior.sized(70, 90) is prior
    small = prior.sized(35, 45)
    np.testing.assert_allclose(small.inputs["mask"][0, 0], nd.zoom(prior.inputs["mask"][0, 0], 0.5, order=1))
    detail = np.ones((3, 35, 45), np.float32)
    assert not small.carried(detail)[:, 0, 0].any() and small.carried(detail)[:, 20, 20].all()


@pytest.mark.parametrize("priors", [[], [TotalVariation(0.5), Blur(0.7)]])
def test_graph_and_python_dream_alike(toy, priors):
    net, image, dreams = Net(toy, device="cpu"), np.abs(toys.noise(33, 38, 3)) * 60, []
    mask = np.zeros((33, 38), np.float32)
    mask[8:25, 8:30] = np.linspace(0, 1, 22)
    for objective in (objective_L2, lambda dst: objective_L2(dst)):
        dreams.append(deepdream(net, image, 3, 2, end="both", objective=objective, priors=[*priors, Mask(mask)],
                                rng=np.random.RandomState(3)))
    assert toys.off(dreams[0] - image, dreams[1] - image) < 1e-3
    assert not (dreams[0] - image)[mask == 0].any() and np.abs(dreams[0] - image)[10:20, 20:28].mean() > 1


def test_a_folder_of_pictures_and_the_same_settings_again(toy, picture, mask, tmp_path, capsys):
    folder, out = tmp_path / "photos", tmp_path / "dreams"
    folder.mkdir()
    picture.rename(folder / "photo.png")
    command = ["dream", str(folder), "-o", str(out), "--model", str(toy), *QUICK, "--mask", str(mask)]
    assert main(command) == 0 and main(command) == 0
    lines = capsys.readouterr().out.splitlines()
    assert "1 dreams made, 0 kept" in lines[0] and "0 dreams made, 1 kept" in lines[1]
    saved = settings(out / "photo.png")
    assert saved["mask"] == "mask.png" and len(saved["mask_sha256"]) == 64
    assert main([*command, "--mask-edge", "0"]) == 0      # another edge: another dream
    assert "1 dreams made, 0 kept" in capsys.readouterr().out
    assert settings(out / "photo.png")["mask_edge"] == 0
    again = ["dream", str(folder / "photo.png"), "-o", str(tmp_path / "again.png"), "--model", str(toy), "--settings",
             str(out / "photo.png"), "--device", "cpu"]
    assert main(again) == 0      # the mask is read again
    np.testing.assert_array_equal(load(tmp_path / "again.png"), load(out / "photo.png"))
    assert settings(tmp_path / "again.png")["mask_edge"] == 0
    moved = mask.rename(tmp_path / "moved.png")
    assert main(again) == 2
    assert "was dreamt with the mask mask.png, which is not there any more; give --mask too" in capsys.readouterr().err
    assert main([*again, "--mask", str(moved)]) == 0
    np.testing.assert_array_equal(load(tmp_path / "again.png"), load(out / "photo.png"))
    Image.new("L", (80, 60), 255).save(mask)
    assert main(again) == 2
    assert "with the mask mask.png, which has changed since; give --mask too" in capsys.readouterr().err
    zoom = ["zoom", "-o", str(tmp_path / "frames"), "--settings", str(out / "photo.png"), "--model", str(toy)]
    assert main(zoom) == 2
    assert "was dreamt with the mask mask.png, and this command has no masks" in capsys.readouterr().err


@pytest.mark.parametrize("arguments, message", [
    (["--mask", "black.png"], "--mask black.png: is black everywhere"),
    (["--mask", "missing.png"], "missing.png: no such picture"),
    (["--mask-edge", "3"], "--mask-edge: there is no mask; give --mask PICTURE too"),
])
def test_mistakes_are_one_line(toy, picture, tmp_path, monkeypatch, capsys, arguments, message):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (9, 9)).save("black.png")
    assert main(["dream", str(picture), "-o", "o.png", "--model", str(toy), *QUICK, *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error and len([line for line in error.splitlines() if "o.png" not in line]) == 1
    assert not (tmp_path / "o.png").exists()


def test_python_rejects_what_is_black():
    with pytest.raises(DreamError, match="black everywhere"):
        load_mask(toys_png(np.zeros((4, 4), np.uint8)), 10, 10)


def toys_png(array):
    import io
    file = io.BytesIO()
    Image.fromarray(array).save(file, "PNG")
    file.seek(0)
    return file
