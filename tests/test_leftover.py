"""Net(leftover_diffs=True): Caffe's habit of never clearing diffs, in lockstep with real Caffe, and on small nets."""
import gc
import json
import weakref

import numpy as np
import pytest
import toys

import deepdream

NET = toys.net(toys.conv("a", "data", 4, 3, pad=1), toys.relu("a"),
               toys.conv("left", "a", 3), toys.relu("left"), toys.conv("right", "a", 5, 3, pad=1), toys.relu("right"),
               toys.concat("both", "left", "right"), toys.pool("top", "both"), shape=(2, 3, 12, 12))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return toys.write_net(tmp_path_factory.mktemp("nets") / "siblings", NET)


def made(folder, leftover_diffs=True):
    return deepdream.Net(str(folder), device="cpu", threads=1, leftover_diffs=leftover_diffs)


def gradient(net, end, seed=0, size=(10, 10)):
    src, dst = net.blobs["data"], net.blobs[end]
    src.reshape(1, 3, *size)
    src.data[...] = toys.noise(1, 3, *size, seed=seed)
    net.forward(end=end)
    dst.diff[...] = dst.data
    return net.backward(start=end)["data"].copy()


@pytest.mark.parametrize("end", ["a", "left", "right", "both", "top"])
def test_a_fresh_net_has_no_leftovers(folder, end):
    assert toys.off(gradient(made(folder), end), gradient(made(folder, False), end)) < 1e-6


def test_an_end_without_siblings_is_exact_on_a_used_net(folder):
    net = made(folder)
    gradient(net, "right", seed=1)
    assert toys.off(gradient(net, "both"), gradient(made(folder, False), "both")) < 1e-6


def test_a_sibling_passes_on_what_it_held(folder):
    """At `left` after `both`, the split of `a` still has what `right` gave it: the gradient gains that of `right`."""
    net = made(folder)
    gradient(net, "both", seed=1)
    held = net.leftover.executor.blobs["a_relu_a_0_split_1"].diff.copy()
    found = gradient(net, "left", seed=2)
    assert np.abs(held).max() > 0
    fresh = made(folder, False)
    only = gradient(fresh, "left", seed=2)
    assert toys.off(found, only) > 0.1
    # backward is linear in the diffs: what is too much is the gradient of `a` for the copy of that branch
    fresh.forward(end="both")
    blob = fresh.blobs["a"]
    blob.diff[...] = held.reshape(blob.shape) * (blob.data > 0)
    extra = fresh.backward(start="a")["data"]
    assert toys.off(found - only, extra) < 1e-5


def test_memory_is_kept_while_it_suffices(folder):
    blob = made(folder).blobs["left"]
    blob.reshape(1, 3, 4, 4)
    blob.diff[...] = 1
    blob.reshape(1, 3, 6, 8)
    assert blob.diff.sum() == 48      # 2 x 3 x 12 x 12 were declared
    blob.reshape(1, 3, 30, 30)
    assert blob.diff.sum() == 0


def test_splits_as_caffe_puts_them_in(folder):
    names = list(made(folder).leftover.executor.positions)
    assert names[:4] == ["data", "a", "relu_a", "a_relu_a_0_split"]
    assert [n for n in names if n.endswith("split")] == ["a_relu_a_0_split"]
    assert not any("split" in name for name in made(folder).blobs)


def test_lockstep_with_caffe(shared):
    """Two dreams in a row on one net, each step from Caffe's own state before it."""
    net = deepdream.Net(str(shared / "models" / "bvlc_googlenet"), device="cpu", threads=1, leftover_diffs=True)
    src, bias = net.blobs["data"], net.transformer.mean["data"]
    errors, fresh = {}, {}
    with np.load(shared / "oracle" / "dreams_bvlc_leftover_diffs.npz") as oracle:
        for dream in ("dream0", "dream1"):
            told = json.loads(str(oracle[f"{dream}/settings"]))
            end, steps = told["end"], oracle[f"{dream}/steps"]
            for i in range(len(steps)):
                octave, first = divmod(i, told["iter_n"])
                before = oracle[f"{dream}/step{i - 1:02d}"] if first else \
                    oracle[f"{dream}/octave{octave}_base"] + oracle[f"{dream}/octave{octave}_detail"]
                after = oracle[f"{dream}/step{i:02d}"]
                src.reshape(1, *before.shape)
                src.data[0] = before
                jitter = [int(v) for v in steps[i, :2]]
                _step(net, src, end, jitter, bias)
                errors.setdefault(dream, []).append(_off(src.data[0], after, before))
                if dream == "dream1" and i < 2:
                    plain = deepdream.Net(net.prototxt, net.caffemodel, device="cpu", threads=1)
                    plain.blobs["data"].reshape(1, *before.shape)
                    plain.blobs["data"].data[0] = before
                    _step(plain, plain.blobs["data"], end, jitter, bias)
                    fresh.setdefault(dream, []).append(_off(plain.blobs["data"].data[0], after, before))
    assert np.median(errors["dream0"]) < 1e-5 and np.median(errors["dream1"]) < 1e-5, errors
    assert max(errors["dream0"] + errors["dream1"]) < 0.05, errors
    assert min(fresh["dream1"]) > 0.05, fresh      # without leftovers it is another gradient


def _step(net, src, end, jitter, bias):
    dst, (ox, oy) = net.blobs[end], jitter
    src.data[0] = np.roll(np.roll(src.data[0], ox, -1), oy, -2)
    net.forward(end=end)
    dst.diff[...] = dst.data
    net.backward(start=end)
    g = src.diff[0]
    src.data[:] += 1.5 / np.abs(g).mean() * g
    src.data[0] = np.clip(np.roll(np.roll(src.data[0], -ox, -1), -oy, -2), -bias, 255 - bias)


def _off(mine, theirs, before):
    return np.linalg.norm(np.float64(mine) - theirs) / np.linalg.norm(np.float64(theirs) - before)


def test_a_net_is_freed_without_waiting_for_the_garbage_collector(folder):
    """Its blobs are large. `regress` makes one such net for each seed."""
    gc.disable()
    try:
        net = made(folder)
        gradient(net, "both")
        gone = weakref.ref(net)
        del net
        assert gone() is None
    finally:
        gc.enable()
