"""Known Caffe nets: the ends that the cards name, and gradients of the nets that their deploy files describe.

The deploy files are in ../shared/models/prototxts. By default a few of them are converted, with DEEPDREAM_ALL_DEPLOYS=1
all of them. DEEPDREAM_ALL_DEPLOYS can also name a folder with further ones, each called CARD.prototxt.
"""
import json
import os
from pathlib import Path

import onnx
import pytest
import toys
import zoo_nets
from deepdream.convert.caffe.forward import convert_net
from deepdream.convert.caffe.reader import parse_prototxt
from deepdream.convert.errors import ConvertError

from deepdream import convert, models

CARDS = {     # deploy file -> the card of the net that it describes
    "age": "age_net", "alexnet": "bvlc_alexnet", "alexnet_places365": "places365_alexnet",
    "flickr_style": "flickr_style",
    "googlenet_places205": "places205_googlenet", "googlenet_places365": "places365_googlenet",
    "resnet152": "resnet152", "resnet152_hybrid1365": "hybrid1365_resnet152",
    "resnet152_places365": "places365_resnet152", "squeezenet": "squeezenet_v1.1", "vgg16_conv": "vgg16",
    "vgg16_hybrid1365": "hybrid1365_vgg16", "vgg16_places365": "places365_vgg16", "vgg19_avgpool": "vgg19",
    "vgg19_conv": "vgg19", "vgg_cnn_s": "vgg_cnn_s", "rcnn": None, "caffenet_full_conv": None}
SAME = ["age", "alexnet", "alexnet_places365", "flickr_style", "googlenet_places365", "resnet152_hybrid1365",
        "resnet152_places365", "vgg16_hybrid1365", "vgg16_places365"]      # byte by byte what the cards' addresses have
SAMPLE = ["age", "vgg_cnn_s"]
ALL = os.environ.get("DEEPDREAM_ALL_DEPLOYS", "")
MORE = sorted(Path(ALL).iterdir()) if ALL not in ("", "1") else []
DIVISOR = 16      # of the numbers of channels
MANY = 100        # ends: of nets that have more (ResNets), which take seconds each, twelve are built


@pytest.fixture
def deploy(shared, request):
    """(text, card or None) of the deploy file that the test's parameter names."""
    if isinstance(request.param, Path):
        return request.param.read_text(), models.card(request.param.stem)
    path = shared / "models" / "prototxts" / f"{request.param}.prototxt"
    if not path.is_file():
        pytest.skip(f"needs the deploy file {path}")
    return path.read_text(), CARDS[request.param] and models.card(CARDS[request.param])


def ends_of(card):
    return [end for level in card.ends.values() for end in level]


@pytest.mark.parametrize("deploy", [name for name, card in CARDS.items() if card] + MORE, indirect=True, ids=str)
def test_the_ends_of_a_card_are_in_its_deploy_file(deploy):
    text, card = deploy
    layers = parse_prototxt(text).layer
    both = [layer.name for layer in layers if layer.name in layer.top]      # the notebook's ends: layer and blob
    places = [both.index(end) for end in ends_of(card)]
    assert places == sorted(places)                                         # low to high
    assert card.default_end in card.ends["middle"]


@pytest.mark.parametrize("name", SAME)
def test_the_published_checksums_of_deploy_files(shared, name):
    file = models.card(CARDS[name]).role("prototxt")
    assert file.checksums and not file.problem(shared / "models" / "prototxts" / f"{name}.prototxt")


def leading_to(model, end):
    """The part of a model that `end` needs."""
    needed, nodes = {end}, []
    for node in reversed(model.graph.node):
        if needed & set(node.output):
            nodes.insert(0, node)
            needed.update(node.input)
    graph = onnx.helper.make_graph(nodes, "part", model.graph.input, [onnx.ValueInfoProto(name=end)],
                                   [t for t in model.graph.initializer if t.name in needed])
    part = onnx.helper.make_model(graph, opset_imports=model.opset_import)
    part.ir_version = model.ir_version
    return part


def spread(names, n=5):
    """`n` of the names, evenly spread."""
    return names if len(names) <= n else [names[i * (len(names) - 1) // (n - 1)] for i in range(n)]


@pytest.mark.parametrize("deploy", [*(CARDS if ALL else SAMPLE), *MORE], indirect=True, ids=str)
def test_gradients_of_known_nets(deploy):
    text, card = deploy
    net = zoo_nets.shrunk(text, DIVISOR)
    model = convert_net(net, zoo_nets.weights(net), ("deploy file", "random weights"))
    onnx.checker.check_model(model)
    facts = {p.key: p.value for p in model.metadata_props}
    assert json.loads(facts.get("left_out", "{}")) == {}
    ends = convert.valid_ends(model)
    for end in list(ends) if len(ends) <= MANY else spread(list(ends), 12):
        try:
            convert.gradient_graph(model, end)
        except ConvertError as error:
            pytest.fail(f"{end}: {error}")
    for end in spread(ends_of(card) if card else [end for end, known in ends.items() if known.stride]):
        _differences(model, end)


def _differences(model, end):
    """Compare the gradient of `end` with finite differences, on a picture a little larger than the smallest."""
    height, width, exact = convert.min_size(model, end)
    data = 50 * toys.noise(1, 3, height + 2 * (not exact), width + 5 * (not exact), seed=3)
    forward = toys.doubled(leading_to(model, end), end)
    value = forward(data)
    diff = toys.noise(*value.shape, seed=4)
    found, gradient = toys.run(convert.gradient_graph(model, end), {"data": data, "end_diff": diff})
    assert toys.off(found, value) < 1e-4, end
    toys.check_gradient(forward, data, diff, gradient, directions=1, step=1e-6, tolerance=1e-4)
