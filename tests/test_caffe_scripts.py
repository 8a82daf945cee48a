"""Unchanged pycaffe scripts, run by `deepdream caffe`; and pycaffe's public names."""
import children
import numpy as np
import pytest
from conftest import ROOT

from deepdream import caffe
from deepdream.caffe.refused import Refused

NET = ROOT / "models" / "mini_imagenet"
FILES = NET / "deploy.prototxt", NET / "mini_imagenet.caffemodel"
SCRIPT = """
import multiprocessing, sys
import caffe, caffe.io
import caffe.proto.caffe_pb2
from caffe import layers as L, params as P
from caffe.proto import caffe_pb2

def make_net():
    return caffe.Net(sys.argv[1], sys.argv[2], caffe.TEST)

def work(queue):
    queue.put(caffe.io.resize_image.__module__)

if __name__ == "__main__":
    context = multiprocessing.get_context("spawn")
    queue = context.Queue()
    process = context.Process(target=work, args=(queue,))
    process.start()
    print(__file__, len(sys.argv), caffe_pb2.NetParameter().name == "", queue.get(timeout=100))
"""
BESIDE = """
from deepdream import make_net
net = make_net()
print(net.forward(end="conv1/7x7_s2")["conv1/7x7_s2"].shape)
"""


def run(folder, *arguments):
    """Run `deepdream caffe` in a folder, as the command of an installed package does: the folder is not searched."""
    return children.run("-P", "-m", "deepdream", "caffe", *arguments, cwd=folder)


@pytest.fixture
def scripts(tmp_path):
    (tmp_path / "deepdream.py").write_text(SCRIPT)
    (tmp_path / "layers.py").write_text(BESIDE)
    return tmp_path


def test_a_script_called_deepdream(scripts):
    done = run(scripts, "deepdream.py", "x")
    assert done.stdout.split() == ["deepdream.py", "2", "True", "deepdream_for_caffe.caffe.io"], done.stderr


@pytest.mark.parametrize("folder", [".", "elsewhere"])
def test_a_script_next_to_one(scripts, folder):
    (scripts / "elsewhere").mkdir()
    done = run(scripts / folder, scripts / "layers.py", *FILES)
    assert done.stdout.strip() == "(1, 63, 112, 112)", done.stderr


def test_the_module_runs_scripts_too(scripts):
    done = children.run("-m", "deepdream.caffe", scripts / "layers.py", *FILES, cwd=ROOT)
    assert done.stdout.strip() == "(1, 63, 112, 112)", done.stderr


def test_a_script_that_is_missing(tmp_path):
    done = run(tmp_path, "nothing.py")
    assert done.returncode == 2 and "nothing.py: there is no such script; usage:" in done.stderr
    assert run(tmp_path, "--help").stdout.startswith("usage: deepdream caffe script.py")


# ---- names

NAMES = """AdaDeltaSolver AdaGradSolver AdamSolver Classifier Detector Layer NCCL NesterovSolver Net NetSpec
RMSPropSolver SGDSolver TEST TRAIN Timer _caffe classifier detector get_solver has_nccl init_log io layer_type_list
layers log net_spec params proto pycaffe set_device set_mode_cpu set_mode_gpu set_multiprocess set_random_seed
set_solver_count set_solver_rank solver_count solver_rank to_proto""".split()
OF_IO = """Transformer array_to_blobproto array_to_datum arraylist_to_blobprotovector_str blobproto_to_array
blobprotovector_str_to_arraylist caffe_pb2 datum_to_array load_image np oversample resize resize_image skimage
zoom""".split()
OF_NET = """_backward _batch _blob_loss_weights _blob_names _blobs _bottom_ids _forward _inputs _layer_names _outputs
_set_input_arrays _top_ids after_backward after_forward backward before_backward before_forward blob_loss_weights blobs
bottom_names clear_param_diffs copy_from forward forward_all forward_backward_all inputs layer_dict layers load_hdf5
outputs params reshape save save_hdf5 set_input_arrays share_with top_names""".split()
REFUSED = {"AdaDeltaSolver", "AdaGradSolver", "AdamSolver", "Detector", "NCCL", "NesterovSolver", "NetSpec",
           "RMSPropSolver", "SGDSolver", "Timer", "get_solver", "to_proto", "array_to_datum", "datum_to_array",
           "load_hdf5", "save_hdf5", "set_input_arrays", "_set_input_arrays"}


def advice(parent, name):
    """What is said where a name is not supported; None where it works."""
    try:
        found = getattr(parent, name)
    except AttributeError as error:
        return str(error)
    if not isinstance(found, Refused):
        return None
    with pytest.raises(NotImplementedError) as error:
        found(1, key=2)
    with pytest.raises(AttributeError, match="is not supported here"):
        found.Convolution
    with pytest.raises(NotImplementedError, match="is not supported here"):
        class Mine(found):
            pass
    return str(error.value)


@pytest.fixture(scope="module")
def net():
    return caffe.Net(*map(str, FILES), caffe.TEST)


def test_every_name_of_pycaffe_works_or_gives_advice(net):
    for parent, names in ((caffe, NAMES), (caffe.io, OF_IO), (net, OF_NET)):
        for name in names:
            text = advice(parent, name)
            refused = name in REFUSED or parent is caffe and name in ("layers", "params")
            assert (text is not None) == refused or name == "skimage", (name, text)
            assert text is None or "is not supported here: " in text and "\n" not in text
    for name in "channels count data diff height num reshape shape width".split():
        assert advice(net.blobs["data"], name) is None
    assert advice(caffe.Classifier, "predict") is None


def test_the_harmless_functions():
    assert caffe.has_nccl() is False and caffe.solver_count() == 1 and caffe.solver_rank() == 0
    assert "Convolution" in caffe.layer_type_list()
    for call in (caffe.init_log, caffe.log, caffe.set_multiprocess, caffe.set_solver_count, caffe.set_solver_rank):
        call(1) if call not in (caffe.init_log, caffe.log) else call()


def test_numbers_of_layers_and_blobs(net):
    i = net._layer_names.index("pool2/3x3_s2_pool2/3x3_s2_0_split")
    assert net.layers[i].type == "Split"
    names = [net._blob_names[k] for k in net._top_ids(i)]
    assert names == [f"pool2/3x3_s2_pool2/3x3_s2_0_split_{k}" for k in range(4)]
    assert [net._blob_names[k] for k in net._bottom_ids(i)] == ["pool2/3x3_s2"]
    assert [net._blob_names[k] for k in net._inputs] == ["data"] and net.outputs == ["prob"]
    seen = []
    net.before_forward(seen.append)
    net._forward(0, 2)
    assert seen == [0, 1, 2]


def test_share_with(net):
    other = caffe.Net(str(NET / "deploy.prototxt"), caffe.TEST)
    other.share_with(net)
    for one in (net, other):
        one.blobs["data"].reshape(1, 3, 32, 32)
        one.blobs["data"].data[...] = 30
    end = "conv1/7x7_s2"
    assert np.array_equal(net.forward(end=end)[end], other.forward(end=end)[end])
