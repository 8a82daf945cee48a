"""Caffe's answers (gradients and dreams, saved as .npz files) and how this project's answers are compared with them."""
import json
from pathlib import Path

import numpy as np
import pytest
import toys

from deepdream import convert, make_step, objective_guide, objective_L2

DATA = Path(__file__).parent / "data"
GRADIENTS = DATA / "gradients_googlenet_synthetic.npz"
SYNTHETIC_DREAMS = ["dream_synthetic_l2", "dream_synthetic_3b_5x5_reduce_noclip", "dream_synthetic_guide"]
REAL_DREAMS = ["dream_bvlc_l2_4c", "dream_bvlc_l2_3b_5x5_reduce", "dream_bvlc_guide_3b", "dream_bvlc_noclip_5b"]
TOLERANCE = 1e-5      # relative L2 error of a gradient; correct code agrees to about 1e-6


def load(file):
    """Return all arrays of an .npz file as a dict."""
    with np.load(file) as npz:
        return dict(npz)


# ---- gradients

def gradient_ends(file):
    """List the ends whose gradients a file holds."""
    with np.load(file) as answers:
        return [k[5:] for k in answers.files if k.startswith("grad/")]


def gradient(model, end, data, shape, plain=False, **forms):
    """Return (end_data, data_diff) of the gradient graph, with end_data itself as end_diff.

    shape: of the end.
    plain: run without onnxruntime's optimizations, as in `toys.session`.
    forms: as in `gradient_graph`.
    """
    run = toys.session(convert.gradient_graph(model, end, **forms), plain)
    assert [i.name for i in run.get_inputs()] == ["data", "end_diff"]
    assert [o.name for o in run.get_outputs()] == ["end_data", "data_diff"]
    value = run.run(["end_data"], {"data": data, "end_diff": np.zeros(shape, np.float32)})[0]
    return run.run(["end_data", "data_diff"], {"data": data, "end_diff": value})


def compare_gradient(model, answers, end, tolerance=TOLERANCE, plain=False, **forms):
    """Compare an end's value and gradient with Caffe's, in either of the two forms that the answers come in."""
    shape = tuple(answers[f"dst_shape/{end}" if f"dst_shape/{end}" in answers else f"shape/{end}"])
    value, diff = gradient(model, end, answers["data"], shape, plain, **forms)
    assert value.shape == shape
    if f"dst_index/{end}" in answers:
        some, theirs = answers[f"dst_index/{end}"], answers[f"dst_value/{end}"]
    else:
        theirs = answers[f"value/{end}"].ravel()
        some = slice(theirs.size)
    norm = answers[f"dst_norm/{end}" if f"dst_norm/{end}" in answers else f"norm/{end}"]
    assert toys.off(value.ravel()[some], theirs) < tolerance
    assert np.linalg.norm(np.float64(value)) == pytest.approx(norm, rel=tolerance)
    assert toys.off(diff, answers[f"grad/{end}"]) < tolerance


# ---- dreams

def python_L2(dst):
    """The notebook's objective_L2: a Python function, which does not run inside the graph."""
    dst.diff[:] = dst.data


def python_guide(features):
    """Return the notebook's guide objective, as the notebook writes it."""
    def objective(dst):
        x = dst.data[0].copy()
        y = features.reshape(len(features), -1)
        ch = x.shape[0]
        dst.diff[0].reshape(ch, -1)[:] = y[:, (x.reshape(ch, -1).T.dot(y)).argmax(1)]
    return objective


def check_lockstep(net, dream, kind, median=3e-6, worst=2e-2):
    """Repeat each of Caffe's steps with make_step, starting from Caffe's own state, and compare the results.

    dream: the arrays of one of the dream files.
    kind: "graph" (the objective runs inside the graph) or "python".
    median, worst: bounds of the errors relative to the length of the step.
    """
    settings = json.loads(str(dream["settings"]))
    end = settings["end"]
    objective = objective_L2 if kind == "graph" else python_L2
    if settings["guide"]:
        features = net.features(dream["guide"], end)
        objective = objective_guide(features) if kind == "graph" else python_guide(features)
    octaves, iter_n = settings.get("octave_n", 4), settings.get("iter_n", 10)
    step_size, clip = settings.get("step_size", 1.5), settings.get("clip", True)
    src, off, returned = net.blobs["data"], [], []
    np.random.seed(settings["seed"])
    for octave in range(octaves):
        before = dream[f"octave{octave}_base"] + dream[f"octave{octave}_detail"]
        src.reshape(1, *before.shape)
        for step in range(octave * iter_n, (octave + 1) * iter_n):
            src.data[0] = before
            returned.append(make_step(net, step_size, end, settings.get("jitter", 32), clip, objective))
            after = dream[f"step{step:02}"]
            off.append(np.linalg.norm(np.float64(src.data[0]) - after) / np.linalg.norm(np.float64(after) - before))
            before = after
    assert len(off) == len(dream["steps"])
    assert np.median(off) <= median and max(off) <= worst, (np.median(off), max(off))
    # What make_step returns is Caffe's |x|^2 (twice the L2 objective) and mean |g|, where the maxima did not move.
    mean = np.array([r[1] for r in returned])
    np.testing.assert_allclose(mean, dream["steps"][:, 4], rtol=1e-3)
    if kind == "graph" and not settings["guide"]:
        np.testing.assert_allclose(2 * np.array([r[0] for r in returned]), dream["steps"][:, 3], rtol=1e-3)
