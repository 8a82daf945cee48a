"""Net: its interface and behaviour are pycaffe's; the choice of a device; the cache of graphs."""
import shutil

import children
import numpy as np
import pytest
import toys

from deepdream import DreamError, Net, convert
from deepdream.runtime.cache import LIMIT, cached, folder, key
from deepdream.runtime.device import Device, cuda_problem
from deepdream.runtime.notices import say_once


@pytest.fixture(scope="module")
def made(toy):
    return Net(toy, device="cpu")


@pytest.fixture
def net(made):
    """The toy net, its data blob filled with noise."""
    made.blobs["data"].reshape(1, 3, 33, 41)
    made.blobs["data"].data[...] = toys.noise(1, 3, 33, 41) * 10
    for blob in made.blobs.values():
        blob._diff = None
    return made


@pytest.fixture(scope="module")
def forward():
    """A function data -> {tensor: value} that runs the toy net in onnxruntime."""
    import onnx
    model = toys.convert(toys.TOY)
    names = [o for n in model.graph.node for o in n.output]
    del model.graph.output[:]
    model.graph.output.extend(onnx.helper.make_empty_tensor_value_info(n) for n in names)
    run = toys.session(model, plain=True)
    return lambda data: dict(zip(names, run.run(None, {"data": data})))


def close(mine, theirs):
    assert toys.off(mine, theirs) < 1e-5


# ---- blobs

def test_blobs_in_the_nets_order(net):
    assert list(net.blobs) == ["data", "conv1", "pool1", "left", "right", "both", "pool2"]
    assert list(net.ends) == list(net.blobs)
    assert net.inputs == ["data"] and net.outputs == ["pool2"]


def test_two_ways_to_name_the_files(toy, net, forward):
    other = Net(toy / "deploy.prototxt", toy / "net.caffemodel", device="cpu")
    other.blobs["data"].reshape(1, 3, 20, 20)
    other.blobs["data"].data[0] = 1
    close(other.forward()["pool2"], forward(other.blobs["data"].data)["pool2"])


def test_the_data_blob_starts_in_the_declared_shape(toy):
    net = Net(toy, device="cpu")
    blob = net.blobs["data"]
    assert blob.data.shape == blob.diff.shape == blob.shape == (1, 3, 32, 32)
    assert blob.data.dtype == blob.diff.dtype == np.float32 and not blob.data.any() and not blob.diff.any()
    assert (blob.num, blob.channels, blob.height, blob.width, blob.count) == (1, 3, 32, 32, 3072)


def test_reshape(net):
    blob = net.blobs["data"]
    before = blob.data
    blob.reshape(1, 3, 33, 41)
    assert blob.data is before                            # the same shape, so the same array
    blob.reshape(2, 3, 21, 18)
    assert blob.data.shape == blob.diff.shape == (2, 3, 21, 18)
    assert net.forward(end="both")["both"].shape == (2, 10, 5, 4)
    blob.reshape(*(1, 3, 33, 41))
    assert net.forward()["pool2"].shape == (1, 10, 8, 10)


def test_data_and_diff_are_written_in_place(net):
    for name in ("data", "left"):
        net.forward(end="left")
        blob = net.blobs[name]
        data, diff = blob.data, blob.diff
        data[...] = 3
        data[0, 0, 0, 0] += 1
        diff[:] = data
        assert blob.data is data and blob.data[0, 0, 0, 0] == 4 and blob.diff[0, 0, 0, 0] == 4


# ---- forward

def test_forward_to_an_end_stops_before_its_relu(net, forward):
    values = forward(net.blobs["data"].data)
    result = net.forward(end="conv1")
    assert list(result) == ["conv1"] and result["conv1"] is net.blobs["conv1"].data
    close(net.blobs["conv1"].data, values["conv1"])
    assert net.blobs["conv1"].data.min() < 0
    net.forward(end="pool1")
    close(net.blobs["conv1"].data, values["relu_conv1"])      # now the ReLU has run, in place
    assert net.blobs["conv1"].data.min() == 0
    net.forward(end="conv1")
    assert net.blobs["conv1"].data.min() < 0


def test_inner_blobs_are_computed_when_they_are_read(net, forward):
    values = forward(net.blobs["data"].data)
    net.forward(end="both")
    for blob, tensor in {"right": "relu_right", "left": "relu_left", "pool1": "pool1", "conv1": "relu_conv1",
                         "both": "both"}.items():
        assert net.blobs[blob].shape == values[tensor].shape == net.blobs[blob].diff.shape
        close(net.blobs[blob].data, values[tensor])


def test_lazy_blobs_belong_to_their_pass(net, forward):
    values = forward(net.blobs["data"].data)
    net.forward()
    net.blobs["data"].data[...] = 0                       # after the pass
    close(net.blobs["pool1"].data, values["pool1"])
    net.forward()
    assert toys.off(net.blobs["pool1"].data, values["pool1"]) > 0.1


def test_a_pass_does_not_change_blobs_after_its_end(net):
    net.forward()
    after = net.blobs["pool2"].data.copy()
    net.blobs["data"].data[...] *= -1
    net.forward(end="pool1")
    np.testing.assert_array_equal(net.blobs["pool2"].data, after)


def test_forward_to_data_does_nothing(net):
    before = net.blobs["data"].data
    assert net.forward(end="data")["data"] is before


# ---- backward

def check_backward(net, end):
    result = net.backward(start=end)
    assert result["data"] is net.blobs["data"].diff
    graph = convert.gradient_graph(toys.convert(toys.TOY), end)
    expected = toys.run(graph, {"data": net.blobs["data"].data, "end_diff": net.blobs[end].diff}, ["data_diff"])[0]
    assert np.abs(expected).max() > 0
    close(net.blobs["data"].diff, expected)


@pytest.mark.parametrize("end", ["data", "conv1", "pool1", "right", "both", "pool2"])
def test_backward_from_any_end(net, end):
    net.forward(end=end)
    net.blobs[end].diff[:] = net.blobs[end].data
    check_backward(net, end)


def test_backward_takes_any_diff_and_writes_in_place(net):
    held = net.blobs["data"].diff
    net.forward(end="left")
    net.blobs["left"].diff[...] = 0
    net.blobs["left"].diff[0, 2, 1, 1] = 1
    check_backward(net, "left")
    assert held is net.blobs["data"].diff and held.any()
    inside = np.argwhere(held[0].any(axis=0))
    assert np.ptp(inside, axis=0).max() < 8               # one position sees few pixels


def test_every_gradient_is_that_of_a_fresh_net(net):
    """Caffe's leftover diffs are not imitated by default."""
    net.forward(end="left")
    net.blobs["left"].diff[:] = net.blobs["left"].data
    fresh = net.backward(start="left")["data"].copy()
    net.forward(end="both")
    net.blobs["both"].diff[:] = 1e6
    net.backward(start="both")
    net.forward(end="left")
    net.blobs["left"].diff[:] = net.blobs["left"].data
    np.testing.assert_array_equal(net.backward(start="left")["data"], fresh)


def test_a_batch(net):
    net.blobs["data"].reshape(2, 3, 21, 18)
    net.blobs["data"].data[...] = toys.noise(2, 3, 21, 18)
    net.forward(end="both")
    net.blobs["both"].diff[:] = net.blobs["both"].data
    check_backward(net, "both")


# ---- errors, transformer

@pytest.mark.parametrize("end, near", [("pool3", "pool1"), ("Left", "left"), ("relu_conv1", "conv1"), ("", "data")])
def test_an_unknown_end_offers_the_nearest(net, end, near):
    for call in (lambda: net.forward(end=end), lambda: net.backward(start=end),
                 lambda: net.programs.session(net.programs.gradient(end)),
                 lambda: net.features(np.zeros((40, 40, 3)), end)):
        with pytest.raises(convert.ConvertError, match=near) as caught:
            call()
        assert f"no such end: '{end}'" in str(caught.value) and "\n" not in str(caught.value)


def test_too_small_a_picture(net):
    with pytest.raises(DreamError, match="2x33 pixels, too small for 'pool2', which needs at least 3x3"):
        net.sizes.check("pool2", 33, 2)
    net.sizes.check("pool2", 3, 3)
    net.blobs["data"].reshape(1, 3, 2, 33)
    with pytest.raises(DreamError, match="data has 33x2 pixels, too small"):
        net.forward()


def test_transformer(toy, tmp_path):
    net = Net(toy, device="cpu")
    np.testing.assert_array_equal(net.transformer.mean["data"], np.float32([104, 116, 122]).reshape(3, 1, 1))
    assert net.transformer.channel_swap["data"] == (2, 1, 0)
    net = Net(toy, mean=(1, 2, 3), channel_swap=(0, 1, 2), device="cpu")
    assert net.transformer.mean["data"].ravel().tolist() == [1, 2, 3]
    assert net.transformer.channel_swap["data"] == (0, 1, 2)


def test_an_input_that_is_not_called_data(tmp_path):
    text = toys.net(toys.conv("a", "pixels", 4, 3), toys.relu("a"), toys.pool("p", "a"), shape=(1, 1, 12, 12),
                    name="pixels")
    net = Net(toys.write_net(tmp_path / "grey", text), device="cpu")
    assert net.inputs == ["pixels"] and net.transformer.mean["pixels"].shape == (1, 1, 1)
    net.blobs["pixels"].data[...] = toys.noise(1, 1, 12, 12)
    net.forward(end="p")
    net.blobs["p"].diff[:] = net.blobs["p"].data
    assert list(net.backward(start="p")) == ["pixels"] and net.blobs["pixels"].diff.any()


def test_the_default_end(toy, googlenet):
    assert Net(googlenet, device="cpu").default_end == "inception_4c/output"
    assert Net(toy, device="cpu").default_end in Net(toy, device="cpu").ends


# ---- devices

@pytest.mark.parametrize("choice", ["gpu", "cpu:0", "cuda:", "cuda:x", "cuda:-1", "CUDA", ""])
def test_invalid_devices(toy, choice):
    if choice == "cuda:" and cuda_problem() is None:
        pytest.skip("this machine has CUDA, and 'cuda:' means 'cuda'")
    with pytest.raises(DreamError, match="--device"):
        Net(toy, device=choice)


def test_cuda_where_there_is_none(toy):
    with pytest.raises(DreamError, match="--device cuda:99: "):
        Net(toy, device="cuda:99")
    if cuda_problem() is not None:
        with pytest.raises(DreamError, match="--device cuda: "):
            Net(toy, device="cuda")


def test_auto_takes_a_device_that_works_and_prints_it(capsys):
    device = Device("auto")
    assert device.is_cuda == (cuda_problem() is None)
    say_once.cache_clear()
    device.announce()
    device.announce()
    Device("cpu").announce()
    err = capsys.readouterr().err
    assert err.startswith(f"running on {device.name}") and err.count("\n") == 1
    assert Device("cpu").name == "cpu" and not Device("cpu").is_cuda


# ---- the cache

def test_graphs_are_cached_and_a_damaged_one_is_built_again(tmp_path, monkeypatch, toy):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path))
    net = Net(toy, device="cpu")
    net.blobs["data"].data[...] = toys.noise(1, 3, 32, 32)
    good = net.forward()["pool2"].copy()
    net.programs.session(net.programs.gradient("pool2"))
    kept = {p.name: p.read_bytes() for p in folder().iterdir()}
    assert len(kept) >= 3 and folder().is_relative_to(tmp_path)

    def again():
        net = Net(toy, device="cpu")
        net.blobs["data"].data[...] = toys.noise(1, 3, 32, 32)
        net.programs.session(net.programs.gradient("pool2"))
        return net.forward()["pool2"]

    for damage in (lambda d: d[:-1], lambda d: b"", lambda d: d[:40], lambda d: bytes([d[0] ^ 1]) + d[1:],
                   lambda d: d[:-1] + bytes([d[-1] ^ 1])):
        for name, data in kept.items():
            (folder() / name).write_bytes(damage(data))
        np.testing.assert_array_equal(again(), good)
        assert {p.name: p.read_bytes() for p in folder().iterdir()} == kept


def test_other_files_have_other_graphs(tmp_path, toy):
    other = tmp_path / "other"
    shutil.copytree(toy, other)
    weights = toys.weights(toys.TOY, lambda *a: toys.formula(*a) * 2)
    (other / "net.caffemodel").write_bytes(toys.caffemodel(weights))
    a, b = Net(toy, device="cpu"), Net(other, device="cpu")
    assert a.checksum != b.checksum
    for net in (a, b):
        net.blobs["data"].data[...] = 1
    assert toys.off(a.forward()["pool2"], b.forward()["pool2"]) > 0.1


def test_cached_calls_build_once(tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path))
    calls = []
    for _ in range(3):
        assert cached("x", lambda: calls.append(1) or b"abc") == b"abc"
    assert len(calls) == 1
    with pytest.raises(KeyboardInterrupt):
        cached("y", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    assert [p.name for p in folder().iterdir()] == ["x"]


def test_a_cache_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "file"))
    assert cached("x", lambda: b"abc") == b"abc"


def test_the_oldest_files_of_a_full_cache_are_deleted(tmp_path, monkeypatch):
    import os

    import deepdream.runtime.cache
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path))
    monkeypatch.setattr(deepdream.runtime.cache, "LIMIT", 1000)
    assert LIMIT > 1 << 20
    for i, name in enumerate("abc"):
        cached(name, lambda: bytes(400))
        os.utime(folder() / name, (i, i))
    assert sorted(p.name for p in folder().iterdir()) == ["b", "c"]


def test_keys_differ_with_every_part():
    assert len({key("a", "b"), key("ab"), key("a", "b", ""), key("b", "a"), key(b"a", b"c"), key("a", 1)}) == 6
    assert key("a", b"b") == key(b"a", "b")


RACE = """
import sys
import numpy as np
from deepdream import Net
net = Net(sys.argv[1], device="cpu", threads=1)
net.blobs["data"].data[...] = 1
net.programs.session(net.programs.gradient("pool2"))
print(float(net.forward()["pool2"].sum()))
"""


def test_two_processes_race_for_one_cache(tmp_path, toy):
    env = children.environment(DEEPDREAM_CACHE=str(tmp_path))
    results = [children.ended(r) for r in [children.start("-c", RACE, toy, env=env) for _ in range(2)]]
    assert [r.returncode for r in results] == [0, 0], results
    assert results[0].stdout == results[1].stdout != "0.0\n" and not results[0].stderr and not results[1].stderr
    assert not [p for p in (tmp_path / "graphs").iterdir() if p.suffix == ".part"]


WARM = """
import sys
import numpy as np
from deepdream import Net, deepdream
deepdream(Net(sys.argv[1], device="cpu"), np.full((40, 50, 3), 100.0) + np.arange(50)[:, None], 1, 1, end="both")
print(sorted({"onnx", "google.protobuf"} & set(sys.modules)))
"""


def test_a_start_with_a_warm_cache_does_not_import_onnx(toy):
    """Importing onnx takes longer than the first step."""
    results = [children.run("-c", WARM, toy) for _ in range(2)]
    assert results[1].stdout == "[]\n"
