"""`deepdream regress`: which dreams fit the reference dreams, and above all which do not."""
import base64
import json

import numpy as np
import pytest

import deepdream
from deepdream.options import Settings
from deepdream import cli, pictures
from deepdream.errors import DreamError
from deepdream.pictures.sky import formula_sky
from deepdream.regress import check as regress
from deepdream.regress import measuring, originals, power, report, statistics

SEEDS = range(3)


@pytest.fixture(scope="module")
def self_test():
    """Run two cases on the small net, and the same ones with a wrong layer and with another net."""
    run = regress.Run(deepdream.Net("mini_imagenet", device="cpu", threads=1), Settings(octave_n=3))
    checked = regress.self_test(run, formula_sky(112, 200), formula_sky(56, 100, seed=7), regress.CASES[:2], SEEDS,
                                ["layer", "net"])
    return run, checked


def scores(checked):
    return [(c.case.name, c.negative, c.verdict, c.together) for c in checked]


@pytest.mark.slow
def test_a_dream_with_another_seed_fits(self_test):
    _, checked = self_test
    right = [c for c in checked if not c.negative]
    assert [c.case.name for c in right] == ["4c", "3b_5x5_reduce"]
    assert all(c.verdict != "no" and not c.out for c in right), scores(checked)
    assert {r.statistic for r in right[0].results} == set(statistics.STATISTICS)


@pytest.mark.slow
@pytest.mark.parametrize("wrong, case", [("layer", "3b_5x5_reduce"), ("net", "4c")])
def test_a_wrong_layer_and_another_net_do_not_fit(self_test, wrong, case):
    """For the other net only a high layer is tested: its low layers are nearly the same, since both nets were made
    from the same one."""
    _, checked = self_test
    found, = (c for c in checked if c.negative == wrong and c.case.name == case)
    assert found.verdict == "no", scores(checked)


@pytest.mark.slow
def test_reports(self_test):
    run, checked = self_test
    summary = report.summary(run, checked, "itself", SEEDS)
    assert summary == json.loads(json.dumps(summary)) and not summary["failed"]
    text = report.table(summary)
    assert "inception_4c/output: " in text and "another net of the same topology" in text and "caught" in text
    page = report.page(summary, checked)
    assert page.count("data:image/jpeg") == 6 and "mean absolute change" in page
    right, wrong = checked[0], next(c for c in checked if c.verdict == "no")
    blind = regress.Checked(right.case, right.results, None, [], "layer")
    assert "not noticed" in report.failed([right, blind])[0]
    rejected = regress.Checked(right.case, wrong.results, None, [])
    assert "does not dream what the reference shows" in report.failed([rejected])[0]


def fake(rng, scale=1.0, shift=0.0):
    return {key: np.exp(rng.normal(size=1) * 0.005 + shift) if statistic.is_number else
            rng.normal(size=50) * scale + shift for key, statistic in statistics.STATISTICS.items()}


def test_numbers_and_vectors():
    rng = np.random.default_rng(0)
    sample = [fake(rng) for _ in range(4)]
    assert statistics.verdict(statistics.compare(fake(rng), sample)) == "fits"
    assert statistics.verdict(statistics.compare(fake(rng, shift=3), sample)) == "no"
    same = statistics.compare(fake(rng), [sample[0]] * 4)      # dreams that do not differ at all have no spread
    assert max(abs(r.z) for r in same) == statistics.FAR
    with pytest.raises(ValueError):
        statistics.compare(sample[0], sample[:1])


def test_spreads_of_a_picture_count_more_than_those_of_any_picture():
    """With a spread that was measured for the picture, a small deviation is noticed that few dreams cannot show."""
    rng = np.random.default_rng(2)
    sample = [fake(rng) for _ in range(3)]
    reference = {key: x * 1.1 if key == "gradient" else x for key, x in sample[0].items()}
    measured = statistics.Calibration(12, dict.fromkeys(statistics.STATISTICS, 0.01))
    z = {name: next(r.z for r in statistics.compare(reference, sample, spreads) if r.statistic == "gradient")
         for name, spreads in (("any", None), ("measured", measured))}
    assert 0 < z["any"] < z["measured"]


def result(statistic, z):
    return statistics.Result(statistic, 1.0, 1.0, 1.0, z, (0, 4))


def test_small_deviations_of_all_pictures_add_up():
    pictures_of = {c: [result(key, 3.0 if key == "gradient" else 0.0) for key in statistics.STATISTICS]
                   for c in regress.CASES[:1] + regress.CASES[3:]}
    found = statistics.across(list(pictures_of.values()))
    assert found == {"change": 0, "objective": 0, "gradient": pytest.approx(6 / 2 ** 0.5)}
    right = [regress.Checked(c, results, None, []) for c, results in pictures_of.items()]
    assert all(c.verdict == "fits" for c in right)
    assert report.failed(right) == ["all pictures together: change along the gradient is out by 4.2"]
    wrong = [regress.Checked(c, results, None, [], "mean_order") for c, results in pictures_of.items()]
    assert report.noticed("mean_order", wrong) and not report.noticed("mean_order", wrong[:1])


def test_along_the_gradient():
    rng = np.random.default_rng(3)
    source, gradient = rng.uniform(0, 255, (8, 9, 3)), rng.normal(size=(8, 9, 3))

    def cosine(change):
        return statistics.along_gradient(statistics.Dream(source + change, source, {}, gradient, "", None))

    assert cosine(gradient) == pytest.approx(1) and cosine(-gradient) == statistics.LEAST
    assert cosine(gradient + 2 * rng.normal(size=gradient.shape)) == pytest.approx(0.45, abs=0.1)


def test_gradient_at_a_picture():
    """It is the mean over the shifts of what the notebook's own calls give, with the colours in the picture's order."""
    net, end, img = deepdream.Net("mini_imagenet", device="cpu", threads=1), "inception_3a/output", formula_sky(64, 80)
    src, dst, total = net.blobs["data"], net.blobs[end], 0
    src.reshape(1, 3, 64, 80)
    for rows, columns in measuring.SHIFTS:
        src.data[0] = np.roll(img, (rows, columns), (0, 1))[..., ::-1].transpose(2, 0, 1) - [[[104]], [[116]], [[122]]]
        net.forward(end=end)
        dst.diff[:] = dst.data
        net.backward(start=end)
        total = total + np.roll(src.diff[0].transpose(1, 2, 0)[..., ::-1], (-rows, -columns), (0, 1))
    found = measuring.gradient_at(net, end, deepdream.objective_L2, img)
    assert np.linalg.norm(found - total / 4) < 1e-5 * np.linalg.norm(found)


def test_what_was_measured_is_complete():
    assert set(power.CALIBRATIONS) == {c.name for c in (*regress.CASES, regress.ZOOM)} - {"3b_5x5_reduce"}
    assert all(set(c.spreads) == set(statistics.STATISTICS) for c in power.CALIBRATIONS.values())
    assert set(power.POWER) <= {None, *regress.NEGATIVES}
    assert all(len(shares) == len(power.SEEDS) and all(0 <= s <= 1 for s in shares) for shares in power.POWER.values())
    assert power.calibration_of("4c", "mini_imagenet", power.SIZE) is None
    assert power.calibration_of("4c", power.NET, power.SIZE).spreads["gradient"] > 0
    measured, guessed = (power.calibration_of("zoom", net, power.SIZE) for net in (power.NET, "mini_imagenet"))
    assert guessed.spreads == measured.spreads and guessed.dreams < measured.dreams
    assert measured.spreads["change"] > 3 * power.CALIBRATIONS["4c"].spreads["change"]


def test_rank():
    rng = np.random.default_rng(1)
    results = statistics.compare(fake(rng, shift=3), [fake(rng) for _ in range(5)])
    assert all(r.rank == (0, 5) for r in results)


def test_neighbour():
    net = deepdream.Net("mini_imagenet", device="cpu")
    assert regress.neighbour(net, "inception_4c/output") == "inception_4d/output"
    assert regress.neighbour(net, "inception_5b/output") == "inception_5a/output"
    assert regress.neighbour(net, "inception_3b/5x5_reduce") == "inception_4a/5x5_reduce"


def test_dreams_are_kept(tmp_path):
    run = regress.Run(deepdream.Net("mini_imagenet", device="cpu", threads=1), Settings(iter_n=1, octave_n=1))
    sky, case = formula_sky(72, 96), regress.CASES[1]
    first = regress.Dreams(sky, sky, tmp_path).get(run, case, 0)
    stamp = (tmp_path / f"{case.name}_seed0.png").stat().st_mtime_ns
    assert np.array_equal(regress.Dreams(sky, sky, tmp_path).get(run, case, 0), first)
    assert (tmp_path / f"{case.name}_seed0.png").stat().st_mtime_ns == stamp
    other = regress.Run(run.net, Settings(iter_n=1, octave_n=1, step_size=3.0))
    assert not np.array_equal(regress.Dreams(sky, sky, tmp_path).get(other, case, 0), first)


@pytest.mark.parametrize("case", [regress.CASES[2], regress.Case("zoom", "", "inception_3a/output", "", frames=2)])
def test_leftover_and_zoom(case):
    run = regress.Run(deepdream.Net("mini_imagenet", device="cpu", threads=1), Settings(iter_n=1, octave_n=1))
    sky = formula_sky(64, 80)
    found = regress.dream(run, case, sky, sky, 0)
    assert found.shape == sky.shape and np.abs(found - sky).mean() > 0.5


def test_after_relu():
    """The nodes of the deliberately wrong objective compute what its function does."""
    net, x = deepdream.Net("mini_imagenet", device="cpu", threads=1), formula_sky(64, 80)
    found = []
    for objective in (regress.AfterReLU(), lambda dst: regress.AfterReLU()(dst)):
        np.random.seed(0)
        found.append(deepdream.deepdream(net, x, 2, 1, end="inception_3b/5x5_reduce", objective=objective,
                                         on_step=lambda *_: None))
    assert np.abs(found[0] - found[1]).mean() < 0.01


def test_extract():
    """The notebook's pictures are recognized by their order."""
    outputs = [[{"text": "x"}]] + [[{"jpeg": base64.b64encode(bytes([i])).decode()}] for i in range(6)]
    book = json.dumps({"worksheets": [{"cells": [{"outputs": o} for o in outputs]}]})
    found = originals.extract(book)
    assert found["google_inception_4c_output.jpg"] == b"\1" and found["google_zoom_frame_0029.jpg"] == b"\3"
    assert len(found) == 4


def test_a_folder_without_google(tmp_path):
    with pytest.raises(DreamError, match="there is no sky1024px.jpg"):
        originals.read(tmp_path)


@pytest.mark.parametrize("args, message", [
    (["--case", "5z"], "--case: '5z' is not a picture; allowed are 4c, "), (["--seeds", "1"], "a whole number from 2"),
    (["--html", "nowhere/x.html"], "there is no folder nowhere"), (["--reference", "nowhere"], "there is no sky1024px"),
])
def test_bad_arguments(args, message, capsys):
    with pytest.raises(SystemExit) if args[0] == "--seeds" else _nothing():
        assert cli.main(["regress", *args]) == 2
    assert message in capsys.readouterr().err


class _nothing:
    __enter__ = lambda self: self
    __exit__ = lambda self, *_: None


@pytest.mark.slow
def test_googles_pictures_against_caffes(shared):
    """Caffe's dreams take the place of ours: Google's second picture fits those with leftover diffs, and a dream at
    another layer does not."""
    reference = originals.read(shared / "original")
    net = deepdream.Net(str(shared / "models" / "bvlc_googlenet"), device="cpu", threads=1)
    run, folder, case = regress.Run(net), shared / "oracle" / "full_size", regress.CASES[2]
    ours = [pictures.load(folder / f"inception_3b_5x5_reduce_leftover_diffs_seed{i}.jpg") for i in range(2)]
    measured = [regress.measure(run, case, reference.sky, reference.guide, p)
                for p in [reference.dream(case.file), *ours,
                          pictures.load(folder / "inception_4c_output_seed0.jpg")]]
    assert statistics.verdict(statistics.compare(measured[0], measured[1:3])) == "fits"
    assert statistics.verdict(statistics.compare(measured[3], measured[1:3])) == "no"
