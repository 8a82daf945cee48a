"""Graphs that are made smaller: the same results, bit for bit, and fewer initializers."""
import numpy as np
import onnx
import pytest
import toys
from deepdream.convert.graph.small import HALF_ERROR, flipped_back, small
from onnx import helper, numpy_helper
from toys import concat, conv, lrn, net, off, pool, relu

from deepdream import convert

NETS = {
    "kernels of 1, 3 and 5": net(conv("a", "data", 16, 3, pad=1), relu("a"), conv("b", "a", 24, 1), relu("b"),
                                 conv("y", "b", 12, 5, pad=2)),
    "groups": net(conv("a", "data", 16, 3, pad=1), relu("a"), conv("y", "a", 24, 3, pad=1, group=4)),
    "strides": net(conv("a", "data", 16, 3, pad=1), relu("a"), conv("b", "a", 24, 3, pad=1, stride=2), relu("b"),
                   conv("y", "b", 20, 1, stride=2)),
    "an inception": net(conv("a", "data", 16, 3, pad=1), relu("a"), lrn("n", "a"), conv("b", "n", 17, 3, pad=1),
                        pool("p", "n", s=1, pad=1), conv("c", "p", 32), concat("y", "b", "c")),
}


def gradient(text, weights=toys.formula):
    """Return (gradient graph at y, feeds)."""
    model = toys.convert(text, toys.weights(text, weights))
    data = 5 * toys.noise(1, 3, 16, 16)
    diff = toys.noise(*toys.run(model, data, ["y"])[0].shape, seed=3)
    return convert.gradient_graph(model, "y"), {"data": data, "end_diff": diff}


def large(model):
    return {t.name: tuple(t.dims) for t in model.graph.initializer if np.prod(t.dims) >= 256}


@pytest.mark.parametrize("name", NETS)
def test_results_are_the_same_bit_for_bit(name):
    graph, feeds = gradient(NETS[name])
    before, made = graph.SerializeToString(), small(graph)
    onnx.checker.check_model(made, full_check=True)
    assert graph.SerializeToString() == before, "the argument is not changed"
    assert len(large(made)) < len(large(graph)) and made.ByteSize() < graph.ByteSize()
    assert list(made.metadata_props) == list(graph.metadata_props)
    outputs = [o.name for o in graph.graph.output]
    for mine, theirs in zip(toys.run(made, feeds, outputs), toys.run(graph, feeds, outputs)):
        assert np.array_equal(mine, theirs)


@pytest.mark.parametrize("group, kernel", [(1, (3, 3)), (1, (1, 1)), (1, (5, 2)), (4, (3, 3)), (2, (3,))])
def test_flips_are_found_in_any_graph(group, kernel):
    """Two convolutions, the second with the flipped weights of the first, which are stored once."""
    weights = toys.noise(32, 32 // group, *kernel)
    back = np.ascontiguousarray(flipped_back(weights, group))
    pads = [k - 1 for k in kernel] * 2
    nodes = [helper.make_node("Conv", ["x", "w"], ["a"], group=group, pads=pads),
             helper.make_node("Conv", ["a", "b"], ["y"], group=group),
             helper.make_node("Conv", ["a", "c"], ["z"], group=group)]
    arrays = {"w": weights, "b": back, "c": back.copy()}
    shape = [1, 32] + ["H", "W"][:len(kernel)]
    made = helper.make_model(helper.make_graph(
        nodes, "g", [helper.make_tensor_value_info("x", 1, shape)],
        [helper.make_tensor_value_info(name, 1, None) for name in "yz"],
        [numpy_helper.from_array(v, k) for k, v in arrays.items()]), opset_imports=[helper.make_opsetid("", 17)],
        ir_version=9)
    feeds = {"x": toys.noise(1, 32, *[9] * len(kernel))}
    result = small(made)
    assert list(large(result)) == ["w"]
    for mine, theirs in zip(toys.run(result, feeds, ["y", "z"]), toys.run(made, feeds, ["y", "z"])):
        assert np.array_equal(mine, theirs)


def test_what_is_only_nearly_a_flip_stays():
    graph, _ = gradient(NETS["groups"])
    name = next(n for n in large(graph) if "back" in n)
    for tensor in graph.graph.initializer:
        if tensor.name == name:
            array = numpy_helper.to_array(tensor).copy()
            array.flat[7] = np.nextafter(array.flat[7], np.float32(9))
            tensor.CopyFrom(numpy_helper.from_array(array, name))
    assert name in large(small(graph))


def test_half_precision():
    graph, feeds = gradient(NETS["an inception"])
    exact, half = small(graph), small(graph, half=True)
    onnx.checker.check_model(half, full_check=True)
    assert half.ByteSize() < 0.75 * exact.ByteSize()
    for mine, theirs in zip(toys.run(half, feeds, ["end_data", "data_diff"]),
                            toys.run(exact, feeds, ["end_data", "data_diff"])):
        assert 0 < off(mine, theirs) < 5e-3


@pytest.mark.parametrize("scale", [1e-9, 1e6])
def test_weights_that_half_precision_cannot_hold_stay(scale):
    graph, _ = gradient(NETS["kernels of 1, 3 and 5"], lambda *a: scale * toys.formula(*a))
    kinds = {t.data_type for t in small(graph, half=True).graph.initializer if np.prod(t.dims) >= 256}
    assert kinds == {onnx.TensorProto.FLOAT} and HALF_ERROR < 1e-3


def test_the_command_writes_small_graphs(tmp_path, toy, capsys):
    from deepdream.convert.__main__ import main
    files = [str(next(toy.glob(pattern))) for pattern in ("*.prototxt", "*.caffemodel")]
    sizes = []
    for words in ([], ["--small"]):
        assert main([*files, "-o", str(tmp_path / "g.onnx"), "--end", "both", *words]) == 0
        sizes.append((tmp_path / "g.onnx").stat().st_size)
    onnx.checker.check_model(onnx.load(tmp_path / "g.onnx"), full_check=True)
    assert sizes[0] != sizes[1]
    with pytest.raises(SystemExit) as stop:
        main([*files, "-o", str(tmp_path / "n.onnx"), "--small"])
    assert stop.value.code == 2 and "--small: only a gradient graph becomes smaller" in capsys.readouterr().err
