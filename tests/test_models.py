"""models/: model cards, finding a model, and downloads from a local server that misbehaves."""
import contextlib
import gzip
import hashlib
import http.server
import io
import os
import random
import re
import sys
import tarfile
import threading
import time
from pathlib import Path

import children
import pytest
from deepdream.models import download, cards, store

from deepdream import models

PROJECT = Path(models.__file__).resolve().parent.parent
WEIGHTS = random.Random(0).randbytes(300_000)       # stands for a caffemodel
DEPLOY = b'name: "toy"\ninput: "data"\n'


# --- cards ----------------------------------------------------------------------------------------------------------

def test_every_card_is_valid_and_complete():
    assert {"bvlc_googlenet", "bvlc_reference_caffenet", "digits", "mini_imagenet", "mini_places",
            "places205_googlenet", "places365_googlenet"} <= set(models.names())
    for name in models.names():
        card = models.card(name)
        assert card.name == name and card.title and card.licence and card.citation
        assert card.default_end in sum(card.ends.values(), [])
        assert len(card.mean) == (1 if name == "digits" else 3) and sorted(card.channel_swap) == [0, 1, 2]
        assert f"`{name}`" in (cards.ROOT / "README.md").read_text(encoding="utf-8")
        for file in card.files:
            assert file.checksums or file.unverified or file.shipped or file.archive, file.name


@pytest.mark.parametrize("name", ["bvlc_googlenet", "bvlc_reference_caffenet", "places205_googlenet",
                                  "places365_googlenet"])
def test_weights_have_several_mirrors(name):
    card = models.card(name)
    weights = card.role("caffemodel")
    urls = weights.mirrors + (card.file(weights.archive).mirrors if weights.archive else ())
    assert len({url.split("/")[2] for url in urls}) >= 3


def test_published_checksums():
    file = models.card("bvlc_googlenet").role("caffemodel")
    assert (file.size, file.sha1) == (53_533_754, "405fc5acd08a3bb12de8ee5e23a96bec22f08204")
    assert models.card("bvlc_googlenet").role("prototxt").sha1 == "7060345c8012294baa60eeb5901d2d3fd89d75fc"
    assert models.card("bvlc_reference_caffenet").role("caffemodel").sha1 == \
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"
    card = models.card("places205_googlenet")
    assert card.role("archive").sha1 == "d767debf686fa15df1e05fbc9b4598076127134a"
    assert card.mean == (105.417, 113.753, 116.047)
    assert "only one source" in card.role("archive").reason
    assert not any(f.reason for f in models.card("bvlc_googlenet").files)


CARD = """title = "a toy"
dreams = "toys and bricks"
source = "https://example.org/toy"
licence = "none"
citation = "nobody"
mean = [1, 2, 3]
channel_swap = [2, 1, 0]
default_end = "b"
ends = {low = ["a"], middle = ["b"], high = ["c"]}
"""
FILES = """
[[files]]
name = "deploy.prototxt"
role = "prototxt"
[[files]]
name = "toy.caffemodel"
role = "caffemodel"
"""


def write(folder: Path, text: str) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "card.toml").write_text(text)
    return folder / "card.toml"


@pytest.mark.parametrize("old, new, message", [
    ("mean =", "maen =", "did you mean 'mean'"),
    ("[1, 2, 3]", "[1, 2]", "three numbers"),
    ("[1, 2, 3]", "[]", "or one for a grey net"),
    ("[1, 2, 3]", "[1, 2, 300]", "0..255"),
    ("[1, 2, 3]", "[256]", "0..255"),
    ("[2, 1, 0]", "[2, 2, 0]", "order of 0, 1, 2"),
    ('default_end = "b"', 'default_end = "z"', "default_end must be one of"),
    ('low = ["a"]', "low = []", "at least one layer"),
    ("low =", "lower =", "low, middle, high"),
    ('title = "a toy"', "", "lacks title"),
    ('title = "a toy"', "title = ", "not readable as TOML"),
    ("https://example.org/toy", "example.org", "http(s) address"),
    ('role = "prototxt"', 'role = "deploy"', "one of prototxt"),
    ('role = "prototxt"', 'role = "labels"', "needs one prototxt"),
    ('"deploy.prototxt"', '"../deploy.prototxt"', "plain file name"),
    ('role = "caffemodel"', 'role = "caffemodel"\nsize = 0', "number of bytes"),
    ('role = "caffemodel"', 'role = "caffemodel"\nsha1 = ""', "40 lower-case hex"),
    ('role = "caffemodel"', 'role = "caffemodel"\nmirrors = ["https://example.org/x"]', "no checksum"),
    ('role = "caffemodel"', 'role = "caffemodel"\nunverified = true', "needs a reason"),
    ('role = "caffemodel"', 'role = "caffemodel"\narchive = "a.tar.gz"\nmember = "x"', "archive is not among"),
    ('role = "caffemodel"', f'role = "caffemodel"\nmirrors = ["https://a.org/x"]\nmd5 = "{"a" * 32}"',
     "files[1] (toy.caffemodel): has a checksum but no checksum_source"),
    ('role = "caffemodel"', 'role = "caffemodel"\nchecksum_source = ["https://a.org/x"]', "checksum_source but no"),
    ('role = "caffemodel"', 'role = "caffemodel"\nmirrors = ["https://a.org/x"]\nunverified = true\nreason = "old"',
     "is unverified: give its size, or a max_size"),
    ('role = "caffemodel"', 'role = "caffemodel"\nsingle_source = true\nreason = "old"', "single_source = true but no"),
    ('role = "caffemodel"', 'role = "caffemodel"\nreason = "old"', "has a reason"),
    ('role = "caffemodel"', 'role = "caffemodel"\narchive = "a.tar.gz"', "needs both archive and member"),
    ('role = "caffemodel"', 'role = "archive"', "has the role archive but no mirrors"),
    ('"toy.caffemodel"', '"deploy.prototxt"', "files: two have one name"),
    ("title =", 'labels = "labels.txt"\ntitle =', "labels must name the file"),
    ("title =", 'labels_from = "nobody"\ntitle =', "labels_from must name a model"),
    ("title =", 'labels_from = "vgg16"\ntitle =', "labels_from must name a model"),
    *((f"{key} =", f"#{key} =", f"lacks {key}") for key in ("dreams", "licence", "citation", "mean", "channel_swap",
                                                           "default_end", "ends")),
])
def test_a_bad_card_is_named_in_one_line(tmp_path, old, new, message):
    assert cards.read(write(tmp_path / "good", CARD + FILES)).mean == (1.0, 2.0, 3.0)
    path = write(tmp_path / "bad", (CARD + FILES).replace(old, new, 1))
    with pytest.raises(models.ModelError) as caught:
        cards.read(path)
    assert message in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


WRONG = {     # for each field of a card, a value that it may not have; WRONG_FILE: for those of a file
    "title": '""', "dreams": '"animals"', "source": '"ftp://example.org/x"', "licence": "3", "citation": '" "',
    "made_from": "[]", "notes": "false", "labels": '"/labels.txt"', "labels_from": '"../digits"', "mean": "[1, 2]",
    "channel_swap": "[0, 1, 1]", "default_end": "1", "class_pictures": "{colour = 1}", "ends": "{deep = []}",
    "files": '["a"]'}
WRONG_FILE = {
    "name": '"a/b"', "role": '"weights"', "size": "-1", "min_size": "1.5", "max_size": "0", "sha1": f'"{"A" * 40}"',
    "sha256": f'"{"a" * 63}"', "git_sha1": f'"{"g" * 40}"', "md5": f'"{"a" * 40}"', "mirrors": '["x.org/toy"]',
    "checksum_source": '["a readme"]', "archive": '""', "member": "1", "unverified": "false", "single_source": "1",
    "reason": "[]"}


def test_labels_that_another_model_ships(tmp_path):
    shipped = models.card("mini_imagenet").folder / "labels.txt"
    folder = folder_with(tmp_path / "net", "deploy.prototxt", "x.caffemodel", "labels.txt")
    write(folder, 'labels_from = "mini_imagenet"')
    assert models.find(folder).labels == shipped
    write(folder, 'labels_from = "vgg16"')
    with pytest.raises(models.ModelError, match="card.toml: labels_from: no labels are shipped with a model 'vgg16'"):
        models.find(folder)


@pytest.mark.parametrize("kind, value", [
    ("sha256", "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"),
    ("md5", "5d41402abc4b2a76b9719d911017c592"),
    ("sha1", "aaf4c61ddcc5e8a2dabede0f3b482cd9aea9434d"), ("git_sha1", "b6fc4c620b67d95f953a5c1c1230aaab5db5a1b0")])
def test_checksums_of_four_kinds(tmp_path, kind, value):
    path = tmp_path / "x"
    path.write_bytes(b"hello")
    assert models.File("x", "mean", **{kind: value}).problem(path) == ""
    path.write_bytes(b"hallo")
    assert models.File("x", "mean", **{kind: value}).problem(path).startswith(f"wrong content ({kind} ")


@pytest.mark.parametrize("key", WRONG)
def test_each_field_that_is_wrong_is_named(tmp_path, key):
    assert set(WRONG) == set(cards._CARD)
    path = write(tmp_path, f"{key} = {WRONG[key]}\n")
    with pytest.raises(models.ModelError, match=f"^{re.escape(str(path))}: {key} must be ") as caught:
        cards.read(path)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("key", WRONG_FILE)
def test_each_field_of_a_file_that_is_wrong_is_named(tmp_path, key):
    assert set(WRONG_FILE) == set(cards._FILE)
    fields = {"name": '"x"', "role": '"mean"', key: WRONG_FILE[key]}
    path = write(tmp_path, "[[files]]\n" + "\n".join(f"{k} = {v}" for k, v in fields.items()))
    with pytest.raises(models.ModelError, match=f"^{re.escape(str(path))}: files\\[0\\]: {key} must be ") as caught:
        cards.read(path)
    assert str(caught.value).isprintable()


ODD_TOML = {     # name: (the card, a regular expression of the message after the card's path)
    "digits": (b"mean = " + b"1" * 5000, "not readable as TOML: "),
    "many digits": (b"mean = " + b"1" * 1900, "mean must be .*not 111"),
    "hex digits": (b"mean = 0x" + b"f" * 1900, "mean must be .*not [0-9]{50,80}\\.\\.\\."),
    "deep": (b"mean = " + b"[" * 1900, "not readable as TOML: "),
    "deep tables": (b"mean = " + b"{a=" * 600, "not readable as TOML: "),
    "deep lines": (b"mean = " + b"[\n" * 10000, "not readable as TOML: "),
    "deep enough": (b"mean = " + b"[" * 200 + b"]" * 200, "mean must be .*not "),
    "dotted": (b"a." * 20000 + b"b = 1", "not readable as TOML: a line has more than 2,000 characters"),
    "dotted enough": (b"a." * 900 + b"b = 1", "unknown key 'a'"),
    "long key": (b"a" * 1900 + b" = 1", "unknown key 'aaa.*aaa"),
    "large": (b"#\n" * 70000, "has 140,000 bytes; at most 65,536 are allowed"),
    "not utf-8": (b'title = "\xff"', "not readable as TOML: .*utf-8"),
    "binary": (bytes(range(256)) * 20, "not readable as TOML: "),
    "nan": (b"mean = nan", "mean must be "), "inf": (b"mean = [inf, 1, 2]", "mean must be "),
    "-inf": (b"mean = [-inf]", "mean must be "), "1e400": (b"mean = [1e400]", "mean must be "),
    "date": (b"mean = 2015-06-17", "mean must be .*2015"), "time": (b"title = 07:32:00", "title must be a text"),
    "title date": (b"title = 2015-06-17T07:32:00Z", "title must be a text"),
    "bad date": (b"title = 2015-99-17", "not readable as TOML: "),
    "bool": (b"mean = true", "mean must be "), "bools": (b"mean = [true, false, true]", "mean must be "),
    "table": (b"[mean]\na = 1", "mean must be "), "tables": (b"[[mean]]\na = 1", "mean must be "),
    "control": (b'title = "\\u001b[2J"', "title must be a text"),
    "labels": (b"labels = 3", "labels must be a plain file name"), "up": (b'labels = "../x"', "labels must be "),
    "long name": (b'labels = "' + b"a" * 300 + b'"', "labels must be a plain file name"),
    "default_end": (b"default_end = []", "default_end must be a text"),
    "ends": (b"ends = 3", "ends must be "), "ends'": (b"ends = [3]", "ends must be "),
    "ends of ends": (b"ends = {low = [[1]]}", "ends must be "), "an end": (b'ends = {low = "x"}', "ends must be "),
    "the empty end": (b'ends = {low = [""]}', "ends must be "), "another": (b'ends = {lower = ["a"]}', "ends must be "),
}


@pytest.mark.parametrize("how", ODD_TOML)
@pytest.mark.parametrize("read", [lambda path: cards.read(path, complete=False), models.onnx_card.read])
def test_an_odd_card_is_one_line(tmp_path, read, how):
    data, message = ODD_TOML[how]
    path = tmp_path / "net.toml"
    path.write_bytes(data)
    with pytest.raises(models.ModelError, match=message) as caught:
        read(path)
    line = str(caught.value)
    assert line.startswith(f"{path}: ") and line.isprintable() and len(line) < len(str(path)) + 500


@pytest.mark.parametrize("card, message", [
    ('channel_swap = ["2", "1", "0"]', "channel_swap must be"), ("channel_swap = 210", "channel_swap must be"),
    ("channel_swap = [2, 1, false]", "channel_swap must be"), ("channel_swap = [2, 1]", "channel_swap must be"),
    ("files = 3", "files must be a list of tables"), ('files = "abc"', "files must be"),
    ("files = [3]", "files must be"),
    ("files = [{}]", r"files\[0\]: needs a name and a role"),
    ('files = [{name = 3, role = "prototxt"}]', r"files\[0\]: name must be"),
    ('files = [{name = "x", role = ["prototxt"]}]', r"files\[0\]: role must be one of"),
    ('files = [{name = "x", role = "mean", mirrors = [["http://a.b/c"]]}]', "mirrors must be a list of different"),
    ('files = [{name = "x", role = "mean", mirrors = [{a = 1}]}]', "mirrors must be a list of different"),
    ('files = [{name = "x", role = "mean", mirrors = "http://a.b/c"}]', "mirrors must be a list of different"),
    ('files = [{name = "x", role = "mean", size = 1e9}]', "size must be a number of bytes"),
    (f'files = [{{name = "x", role = "mean", size = {10 ** 30}}}]', "size must be a number of bytes"),
    ('files = [{name = "x", role = "mean", size = 1, max_size = 2}]', "size and a max_size"),
    ('files = [{name = "x", role = "mean", min_size = 3, max_size = 2}]', "min_size exceeds"),
    ('files = [{name = "x", role = "mean", sha1 = 5}]', "sha1 must be 40"),
    ('files = [{name = "x", role = "mean", unverified = "yes"}]', "unverified must be true"),
    ("class_pictures = 3", "class_pictures must be a table of size, "),
    ("class_pictures = {colour = 3}", "class_pictures must be a table of size, "),
    ("class_pictures = {iter_n = 1.5}", "class_pictures iter_n must be a whole number"),
    ("class_pictures = {octave_n = -1}", "class_pictures octave_n must be"),
    ("class_pictures = {grey = nan}", "class_pictures grey must be"),
    ("class_pictures = {size = [8]}", "class_pictures size must be a width and a height"),
    ("class_pictures = {size = [8, 1e99]}", "class_pictures size must be a width and a height"),
    ('class_pictures = {step_size = "4"}', "class_pictures step_size must be"),
])
def test_bad_values_in_a_card(tmp_path, card, message):
    path = write(tmp_path, card)
    with pytest.raises(models.ModelError, match=message) as caught:
        cards.read(path, complete=False)
    assert str(caught.value).startswith(f"{path}: ") and str(caught.value).isprintable()


@pytest.mark.parametrize("card, message", [
    ("mean = [300]", "mean must be a number from 0 to 255"), ("mean = [-1]", "mean must be a number from 0 to 255"),
    ("mean = []", "mean must be"), ("mean = {a = 1}", "mean must be"), ("mean = [[1]]", "mean must be"),
    ('mean = "1/0"', "mean must be"), ('mean = "a"', "mean must be"), ('mean = "nan"', "mean must be"),
    ('mean = ""', "mean must be"), (f'mean = "{"9" * 500}/1"', "mean must be"),
    ("scale = 0", "scale must be"), ("scale = -1", "scale must be"), ("scale = 1e-300", "scale must be"),
    ("scale = 1e300", "scale must be"), ("scale = inf", "scale must be"), ("scale = true", "scale must be"),
    ('scale = "1e5000"', "scale must be"), ("channels = 3", "channels must be rgb or bgr"),
    ('channels = ["rgb"]', "channels must be"), ('layout = "NCHW"', "layout must be nchw or nhwc"),
    ("input = 3", "input must be a text"), ("default_end = 1979-05-27", "default_end must be a text"),
    ('labels = "no.txt"', "labels: there is no file"), ('labels = "folder"', "labels: there is no file"),
])
def test_bad_values_in_the_toml_file_of_an_onnx_file(tmp_path, card, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "net.toml").write_text(card)
    with pytest.raises(models.ModelError, match=message) as caught:
        models.onnx_card.read(tmp_path / "net.onnx")
    assert str(caught.value).startswith(f"{tmp_path / 'net.toml'}: ") and str(caught.value).isprintable()


def test_a_valid_toml_file(tmp_path):
    path = tmp_path / "net.toml"
    path.write_bytes(b'\xef\xbb\xbfmean = [0, 127.5, "255"]\r\nscale = "1/255"\r\n')      # with a BOM, from Windows
    assert models.onnx_card.read(tmp_path / "net.onnx").mean == (0.0, 127.5, 255.0)
    assert models.onnx_card.read(tmp_path / "none.onnx").mean is None


@pytest.mark.parametrize("make", [lambda path: path.mkdir(), lambda path: os.mkfifo(path),
                                  lambda path: path.symlink_to("/dev/zero")])
def test_a_card_that_is_not_a_regular_file(tmp_path, make):
    if not hasattr(os, "mkfifo"):
        pytest.skip("needs named pipes")
    folder = folder_with(tmp_path / "net", "deploy.prototxt", "x.caffemodel")
    for path, call in ((folder / "card.toml", lambda: models.find(folder)),
                       (tmp_path / "net.toml", lambda: models.onnx_card.read(tmp_path / "net.onnx"))):
        make(path)
        with pytest.raises(models.ModelError, match=f"^{re.escape(str(path))}: is not a regular file$"):
            call()


def test_models_are_listed_although_one_card_is_damaged(tmp_path, monkeypatch, capsys):
    from deepdream import cli
    monkeypatch.setattr(cards, "ROOT", tmp_path)
    for name in ("a", "c"):
        write(tmp_path / name, CARD + FILES)
    write(tmp_path / "b", "title = " + "1" * 5000)
    assert cli.main(["models"]) == 2
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines[:3]] == ["NAME", "a", "c"]
    assert lines[3].startswith(f"b  damaged  {tmp_path / 'b' / 'card.toml'}: not readable as TOML: ")


# --- ~

def test_a_user_that_does_not_exist(tmp_path, monkeypatch, capsys):
    from deepdream import cli
    monkeypatch.chdir(tmp_path)
    for path in ("~nosuchuser", "~nosuchuser/net.onnx"):
        for command in (["layers", "--model", path], ["dream", "--model", path], ["class", "x", "--model", path]):
            assert cli.main(command) == 2
            err = capsys.readouterr().err
            assert f"{path}: there is no such user's folder" in err and err.count("\n") == 1
    with pytest.raises(models.ModelError, match="~nosuchuser: there is no"):
        models.find("~nosuchuser")
    monkeypatch.setenv("DEEPDREAM_CACHE", "~nosuchuser")
    assert cli.main(["models"]) == 2
    assert "DEEPDREAM_CACHE: ~nosuchuser: there is no" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    folder_with(tmp_path / "net", "deploy.prototxt", "x.caffemodel")
    assert models.find("~/net").folder == tmp_path / "net" and models.expanded("~/x") == tmp_path / "x"


@pytest.mark.parametrize("text", ["x" * 5000, "a\0b", "\x1b[2J", "a\nb"])
def test_odd_names_of_models(text):
    with pytest.raises(models.ModelError, match="neither a model's name nor a folder") as caught:
        models.find(text)
    assert str(caught.value).isprintable() and len(str(caught.value)) < 500


def test_unknown_name_offers_the_nearest():
    with pytest.raises(models.ModelError, match="did you mean bvlc_googlenet.*`deepdream models` lists the "):
        models.card("bvlc_googlnet")
    with pytest.raises(models.ModelError, match="neither a model's name nor a folder; did you mean mini_imagenet"):
        models.find("mini_imagnet")
    with pytest.raises(models.ModelError, match="known models"):
        models.find("no/such/folder")


def test_importing_models_is_cheap():
    code = ("import sys, models; models.names(); models.card('mini_places');"
            "print([m for m in ('requests', 'tqdm', 'numpy', 'convert', 'deepdream') if m in sys.modules])")
    out = children.run("-c", code)
    assert out.returncode == 0, out
    assert out.stdout.strip() == "[]"


# --- a folder, as it is -----------------------------------------------------------------------------------------------

def folder_with(path: Path, *names: str) -> Path:
    path.mkdir(parents=True, exist_ok=True)
    for name in names:
        (path / name).write_bytes(DEPLOY)
    return path


def test_a_folder_is_used_as_it_is(tmp_path):
    folder = folder_with(tmp_path / "net", "deploy_x.protxt", "train_val.prototxt", "x.caffemodel")
    model = models.find(folder)
    assert (model.name, model.prototxt.name, model.caffemodel.name) == ("net", "deploy_x.protxt", "x.caffemodel")
    assert (model.mean, model.channel_swap, model.labels) == ((104.0, 116.0, 122.0), (2, 1, 0), None)
    assert model.default_end is None and model.card is None
    assert model.ends == {"low": [], "middle": [], "high": []}
    assert models.find(folder_with(tmp_path / "one", "any.prototxt", "x.caffemodel")).prototxt.name == "any.prototxt"


def test_a_folder_with_a_card(tmp_path):
    folder = folder_with(tmp_path, "deploy.prototxt", "x.caffemodel", "words.txt")
    write(folder, 'mean = [1, 2.5, 3]\nlabels = "words.txt"\nends = {middle = ["conv4"]}\ndefault_end = "conv4"')
    model = models.find(str(folder))
    assert model.mean == (1.0, 2.5, 3.0) and model.labels == folder / "words.txt"
    assert model.ends == {"low": [], "middle": ["conv4"], "high": []} and model.default_end == "conv4"
    write(folder, 'labels = "nothing.txt"')
    with pytest.raises(models.ModelError, match="nothing.txt"):
        models.find(folder)


@pytest.mark.parametrize("names, message", [
    (["deploy.prototxt"], r"holds no \*.caffemodel"),
    (["x.caffemodel"], r"holds no \*.prototxt or \*.protxt"),
    (["deploy.prototxt", "x.caffemodel", "y.caffemodel"], "several candidates .x.caffemodel, y.caffemodel"),
    (["deploy.prototxt", "deploy_b.prototxt", "x.caffemodel"], "several candidates .deploy"),
    (["a.prototxt", "b.prototxt", "x.caffemodel"], "several candidates .a.prototxt, b.prototxt"),
])
def test_a_folder_without_a_unique_net(tmp_path, names, message):
    with pytest.raises(models.ModelError, match=message) as caught:
        models.find(folder_with(tmp_path, *names))
    assert str(tmp_path) in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
    folder_with(tmp_path, "x.caffemodel")
    with pytest.raises(models.ModelError, match="a file; give the folder"):
        models.find(tmp_path / "x.caffemodel")


@pytest.mark.parametrize("name", ["digits", "mini_imagenet", "mini_places"])
def test_shipped_models_are_found_without_a_cache(name, monkeypatch):
    card = models.card(name)
    if not (card.folder / card.role("caffemodel").name).is_file():
        pytest.skip(f"{name}'s caffemodel has not been made yet")
    monkeypatch.setattr(store, "cache_dir", lambda: pytest.fail("asked for the cache"))
    model = models.find(name)
    assert models.status(name) == "shipped" and model.folder == card.folder
    assert models.find(card.folder) == models.fetch(name) == model


def test_a_missing_shipped_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(cards, "ROOT", tmp_path)
    write(tmp_path / "toy", CARD + FILES)
    assert models.status("toy") == "absent"
    with pytest.raises(models.ModelError, match="deploy.prototxt: missing"):
        models.find("toy")


def test_labels_of_three_kinds(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("n01440764 tench, Tinca tinca\n/a/abbey 0\n/a/apartment_building/outdoor 8\nrock arch\n\n")
    assert models.read_labels(path) == ["tench, Tinca tinca", "abbey", "apartment building, outdoor", "rock arch"]


def test_numbered_labels_of_the_hybrid_nets(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("n01440764 tench 0\nn02690373 Boeing 747\nn01484850 white shark 2\n/a/airfield 3\nroute 4\n")
    assert models.read_labels(path) == ["tench", "Boeing 747", "white shark", "airfield", "route 4"]


@pytest.mark.parametrize("data, expected", [
    ("Pfau\nKöter\n".encode("latin-1"), ["Pfau", "Köter"]), ("Köter\n猫\n".encode(), ["Köter", "猫"]),
    (b"it\x92s\n", ["it’s"]),                                           # as Windows has it
    (b"\xef\xbb\xbfa\r\nb\r\n\r\n", ["a", "b"]), (b"a\rb", ["a", "b"]), ("a\nb".encode("utf-16"), ["a", "b"]),
    ("a\u2028b\nc".encode(), ["a\u2028b", "c"]), (b"a\tb\n", ["a\tb"]), (b"", []), (b"\n \n", []),
    (b"x" * 100_000 + b"\ny", ["x" * 200, "y"])])
def test_labels_in_many_encodings(tmp_path, data, expected):
    (tmp_path / "labels.txt").write_bytes(data)
    assert models.read_labels(tmp_path / "labels.txt") == expected


@pytest.mark.parametrize("data, message", [
    (bytes(1000), "holds control characters in line 1"), (b"a\nb\x1b[2J\n", "holds control characters in line 2"),
    (bytes(range(128, 256)), "is not text"), (b"\xff\xfea", "is not text"),
    (b"a\n" * (3 << 20), ".* at most 4,194,304 are allowed"), (b"a\n" * 100_000, "has 100,001 lines"),
    (WEIGHTS, "is not text|holds control characters")])
def test_files_that_hold_no_labels(tmp_path, data, message):
    path = tmp_path / "labels.txt"
    path.write_bytes(data)
    with pytest.raises(models.ModelError, match=f"^{re.escape(str(path))}: ({message})"):
        models.read_labels(path)


def test_labels_that_are_not_a_regular_file(tmp_path):
    with pytest.raises(models.ModelError, match="none.txt: cannot be read: No such file"):
        models.read_labels(tmp_path / "none.txt")
    with pytest.raises(models.ModelError, match="is not a regular file"):
        models.read_labels(tmp_path)
    with pytest.raises(models.ModelError, match="/dev/zero: is not a regular file"):
        models.read_labels("/dev/zero")
    if hasattr(os, "mkfifo"):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(models.ModelError, match="is not a regular file"):
            models.read_labels(tmp_path / "pipe")


# --- a server that misbehaves -----------------------------------------------------------------------------------------

def tar_gz(**members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo("../../net/" + name.replace("__", "."))      # the folder must be ignored
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("net/evil.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return out.getvalue()


CONTENT = {"deploy.prototxt": DEPLOY, "toy.caffemodel": WEIGHTS, "labels.txt": b"one\ntwo\n",
           "toy.tar.gz": tar_gz(deploy__prototxt=DEPLOY, toy__caffemodel=WEIGHTS)}


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /HOW/NAME sends the file NAME in the way HOW. Every request is recorded as (how, name, Range)."""

    def log_message(self, *_):
        pass

    def forever(self, how):
        """Send without end, fast or a single byte now and then."""
        head = b"302 Found\r\nLocation: /ok/toy.caffemodel" if how == "endless_move" else b"200 OK"
        slow = how.startswith("crawl")
        try:
            self.wfile.write(b"HTTP/1.0 " + head + b"\r\n" + (b"X: " if how == "crawling_head" else b"\r\n"))
            while not self.server.bored.wait(0.05 if slow else 0):
                self.wfile.write(b"x" if slow else bytes(50_000))
        except OSError:                                 # the client has closed the connection
            pass

    def do_HEAD(self):
        """As GET, without the content; `nohead` knows no HEAD. Recorded with HEAD in place of the range."""
        _, how, name = self.path.split("/")
        if how == "nohead":
            self.server.seen.append((how, name, "HEAD"))
            return self.send_error(405)
        if how in ("endless", "crawl", "crawling_head", "endless_move"):
            self.server.seen.append((how, name, "HEAD"))
            return self.forever(how)
        self.wfile, connection = io.BytesIO(), self.wfile
        self.do_GET()
        connection.write(self.wfile.getvalue().partition(b"\r\n\r\n")[0] + b"\r\n\r\n")
        self.wfile = connection

    def do_GET(self):
        _, how, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.seen.append((how, name, "HEAD" if self.command == "HEAD" else asked))
        content = CONTENT[name]
        if how == "404":
            return self.send_error(404)
        if how in self.server.raw:
            return self.wfile.write(self.server.raw[how])
        if how in ("endless", "crawl", "crawling_head", "endless_move"):
            return self.forever(how)
        if how == "moved":
            self.send_response(302)
            self.send_header("Location", f"/ok/{name}")
            return self.end_headers()
        if how == "wrong":
            content = bytes(len(content))
        if how == "half":
            content = content[:len(content) // 2]
        if how == "page":
            content = b"<!DOCTYPE html><title>moved</title>"
        start = 0
        if asked and how not in ("norange", "page"):
            start = int(asked.removeprefix("bytes=").partition("-")[0])
            if start >= len(content):
                self.send_response(416)
                self.send_header("Content-Range", f"bytes */{len(content)}")
                return self.end_headers()
            self.send_response(206)
            self.send_header("Content-Range", f"bytes {start}-{len(content) - 1}/{len(content)}")
        else:
            self.send_response(200)
        if how != "nolength":
            self.send_header("Content-Length", str(len(content) - start))
        self.end_headers()
        rest = content[start:]
        if how in ("drop", "norange") and (how == "drop" or self.server.drops > 0):
            self.server.drops -= 1
            rest = rest[:100_000]                       # then the connection closes
        if how == "hang":
            self.wfile.write(rest[:1000])
            self.wfile.flush()
            return self.server.bored.wait(5)
        if how == "slow":
            for i in range(0, len(rest), 50_000):
                self.wfile.write(rest[i:i + 50_000])
                time.sleep(0.02)
            return None
        self.wfile.write(rest)


@pytest.fixture
def server():
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as httpd:
        httpd.seen, httpd.drops, httpd.raw, httpd.bored = [], 1, {}, threading.Event()
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield httpd
        httpd.bored.set()
        httpd.shutdown()
        thread.join(5)


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """toy(how, ...) writes the card of a model called toy, whose weights have one mirror for each `how`."""
    monkeypatch.setattr(cards, "ROOT", tmp_path / "models")
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(download, "TIMEOUT", (1, 0.3))
    monkeypatch.setattr(download, "CHUNK", 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def entry(name, role, hows, *lines, checksum=True):
        urls = [f"http://127.0.0.1:{server.server_port}/{how}/{name}" for how in hows]
        check = [f"size = {len(CONTENT[name])}", f'sha1 = "{hashlib.sha1(CONTENT[name]).hexdigest()}"',
                 'checksum_source = ["https://example.org/checksums"]']
        return "\n".join(["[[files]]", f'name = "{name}"', f'role = "{role}"', f"mirrors = {urls}".replace("'", '"'),
                          *(check if checksum else []), *lines, ""])

    def make(*hows, files=None, checksum=True, labels=None):
        text = CARD + ('labels = "labels.txt"\n' if labels else "")
        lines = () if checksum else ("unverified = true", 'reason = "nobody knows"', "min_size = 200000",
                                     "max_size = 400000")
        text += files or entry("deploy.prototxt", "prototxt", ["ok"]) + \
            entry("toy.caffemodel", "caffemodel", hows, *lines, checksum=checksum)
        text += entry("labels.txt", "labels", [labels]) if labels else ""
        write(tmp_path / "models" / "toy", text)
        return tmp_path / "cache" / "toy"
    make.entry = entry
    return make


def ranges(server, name="toy.caffemodel"):
    return [(how, asked) for how, seen, asked in server.seen if seen == name]


def right(folder) -> bool:
    """Return whether the weights are complete, and check that no temporary file is left."""
    assert not [p.name for p in folder.iterdir() if p.name.endswith((".part", ".bad")) or p.name.startswith("tmp")]
    return (folder / "toy.caffemodel").read_bytes() == WEIGHTS


def nothing(folder) -> bool:
    return not (folder / "toy.caffemodel").exists()


def test_a_model_is_downloaded_only_once(server, toy, capfd):
    folder = toy("ok")
    assert models.status("toy") == "absent"
    model = models.find("toy")
    assert right(folder) and model.caffemodel == folder / "toy.caffemodel" and model.folder == folder
    assert models.status("toy") == "cached"
    before = len(server.seen)
    assert models.find("toy") == models.fetch("toy") == model
    assert len(server.seen) == before
    assert capfd.readouterr().err == ""                 # no progress bar, since stderr is not a terminal


def test_a_progress_bar_on_a_terminal_only_if_requested(server, toy, monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True
    for progress in (True, False):
        folder = toy("ok")
        monkeypatch.setattr(sys, "stderr", Terminal())
        models.fetch("toy", progress=progress)
        assert ("toy.caffemodel: 100%" in sys.stderr.getvalue()) is progress
        (folder / "toy.caffemodel").unlink()


def test_a_dropped_connection_is_resumed_with_the_rest_only(server, toy):
    folder = toy("drop")
    models.fetch("toy")
    assert right(folder)
    assert ranges(server) == [("drop", None), ("drop", "bytes=100000-"), ("drop", "bytes=200000-")]


def test_a_partial_file_of_an_earlier_run_is_resumed(server, toy):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel.part").write_bytes(WEIGHTS[:123_456])
    assert models.status("toy") == "partial"
    models.fetch("toy")
    assert right(folder) and ranges(server) == [("ok", "bytes=123456-")]


def test_the_next_mirror_goes_on_where_one_stopped(server, toy):
    folder = toy("hang", "404", "ok")
    models.fetch("toy")
    assert right(folder) and ranges(server)[-1] == ("ok", ranges(server)[-2][1]) and ranges(server)[-1][1]


def test_a_mirror_with_half_a_file_costs_nothing(server, toy):
    folder = toy("half", "ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel.part").write_bytes(WEIGHTS[:200_000])
    models.fetch("toy")
    assert right(folder) and ranges(server) == [("half", "bytes=200000-"), ("ok", "bytes=200000-")]


def test_a_partial_file_that_is_too_long_is_dropped(server, toy):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel.part").write_bytes(bytes(400_000))
    models.fetch("toy")
    assert right(folder) and ranges(server)[-1] == ("ok", None)


def test_a_server_that_ignores_ranges_starts_again(server, toy):
    folder = toy("norange")
    models.fetch("toy")
    assert right(folder) and ranges(server) == [("norange", None), ("norange", "bytes=100000-")]


def test_a_complete_partial_file_needs_no_server(server, toy):
    folder = toy("404")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel.part").write_bytes(WEIGHTS)
    models.fetch("toy")
    assert right(folder) and ranges(server) == []


@pytest.mark.parametrize("bad", ["wrong", "half", "404", "page", "hang"])
def test_a_bad_mirror_is_passed_over(server, toy, bad):
    folder = toy(bad, "nolength")
    models.fetch("toy")
    assert right(folder)


@pytest.mark.parametrize("bad, why", [("wrong", "wrong content"), ("half", "150,000 bytes instead of 300,000"),
                                      ("404", "404 Not Found"), ("hang", "timed out"),
                                      ("page", "35 bytes instead of 300,000")])
def test_only_bad_mirrors(server, toy, bad, why):
    folder = toy(bad)
    with pytest.raises(models.ModelError) as caught:
        models.find("toy")
    message = str(caught.value)
    assert nothing(folder) and why in message and "\n" not in message
    parts = ("toy.caffemodel", "by hand", hashlib.sha1(WEIGHTS).hexdigest(), str(folder))
    assert all(part in message for part in parts)


def test_a_wrong_partial_file_is_dropped_not_trusted(server, toy):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel.part").write_bytes(bytes(100_000))
    models.fetch("toy")
    assert right(folder) and ranges(server) == [("ok", "bytes=100000-"), ("ok", None)]
    assert not list(folder.glob("*.part"))


def test_no_network(toy, server, monkeypatch):
    folder = toy("ok")
    monkeypatch.setattr("socket.socket.connect", lambda *_: (_ for _ in ()).throw(ConnectionRefusedError("no")))
    message = r"deploy.prototxt \(no connection: 127.*toy.caffemodel \(no connection: 127.*by hand"
    with pytest.raises(models.ModelError, match=message):
        models.find("toy")
    (folder / "deploy.prototxt").write_bytes(DEPLOY)                    # now do so by hand
    (folder / "toy.caffemodel").write_bytes(WEIGHTS)
    assert models.find("toy").caffemodel.read_bytes() == WEIGHTS


def test_a_wrong_file_put_there_by_hand_is_moved_aside(server, toy, caplog):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel").write_bytes(WEIGHTS[:-1] + b"x")
    models.find("toy")
    assert (folder / "toy.caffemodel").read_bytes() == WEIGHTS and (folder / "toy.caffemodel.bad").exists()
    assert "moved aside" in caplog.text


@pytest.mark.parametrize("how, good", [("ok", True), ("drop", True), ("nolength", True), ("half", False),
                                       ("page", False), ("404", False)])
def test_without_a_checksum_size_and_format_are_checked(server, toy, caplog, how, good):
    folder = toy(how, checksum=False)
    if good:
        models.fetch("toy")
        assert right(folder) and caplog.text.count("nobody knows") == 1
        models.find("toy")
        assert caplog.text.count("nobody knows") == 1                   # not again
    else:
        with pytest.raises(models.ModelError):
            models.fetch("toy")
        assert nothing(folder)


def test_without_a_checksum_two_mirrors_are_never_joined(server, toy):
    folder = toy("hang", "ok", checksum=False)
    models.fetch("toy")
    assert right(folder) and ranges(server)[-1] == ("ok", None)


def test_an_archive_is_unpacked_safely(server, toy, tmp_path, caplog):
    def member(name, role):
        return f'[[files]]\nname = "{name}"\nrole = "{role}"\narchive = "toy.tar.gz"\nmember = "net/{name}"\n'
    files = toy.entry("toy.tar.gz", "archive", ["drop"], "single_source = true", 'reason = "one source"') \
        + member("deploy.prototxt", "prototxt") + member("toy.caffemodel", "caffemodel")
    folder = toy(files=files)
    model = models.find("toy")
    assert right(folder) and model.prototxt.read_bytes() == DEPLOY
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "deploy.prototxt", "toy.caffemodel"]
    assert not (tmp_path / "net").exists() and not (tmp_path / "cache" / "net").exists()
    assert caplog.text.count("one source") == 1 and len(ranges(server, "toy.tar.gz")) == 4
    (folder / "toy.caffemodel").unlink()
    (folder / "toy.tar.gz").write_bytes(CONTENT["toy.tar.gz"])          # put there by hand
    models.find("toy")
    assert right(folder) and len(ranges(server, "toy.tar.gz")) == 4


def test_a_member_that_is_a_link_or_missing_is_rejected(server, toy):
    files = toy.entry("toy.tar.gz", "archive", ["ok"]) + toy.entry("toy.caffemodel", "caffemodel", ["ok"]) + \
        '[[files]]\nname = "d.prototxt"\nrole = "prototxt"\narchive = "toy.tar.gz"\nmember = "net/evil.txt"\n'
    folder = toy(files=files)
    with pytest.raises(models.ModelError, match="d.prototxt .toy.tar.gz holds no net/evil.txt"):
        models.find("toy")
    assert not (folder / "d.prototxt").exists()


def test_labels_are_wanted_but_not_needed(server, toy, caplog):
    toy("ok", labels="404")
    assert models.find("toy").labels is None and "going on without labels" in caplog.text
    asked = len(server.seen)
    models.find("toy")
    assert len(server.seen) == asked                                    # not requested again at every start
    toy("ok", labels="ok")
    assert models.read_labels(models.fetch("toy").labels) == ["one", "two"]


def test_two_processes_at_once(server, toy, tmp_path):
    folder = toy("slow")
    code = ("import sys, pathlib; from models import cards, find; cards.ROOT = pathlib.Path(sys.argv[1]);"
            "print(find('toy').caffemodel)")
    for process in [children.start("-c", code, tmp_path / "models") for _ in range(2)]:
        result = children.ended(process)
        assert result.returncode == 0 and result.stdout.strip() == str(folder / "toy.caffemodel")
    assert right(folder) and len(ranges(server)) == 1                   # one downloaded, the other waited


def test_interrupting_keeps_the_partial_file(server, toy, monkeypatch):
    folder = toy("ok")
    import requests
    real = requests.Response.iter_content

    def interrupted(self, size):
        yield next(real(self, size))
        if self.url.endswith("caffemodel"):
            raise KeyboardInterrupt
    monkeypatch.setattr(requests.Response, "iter_content", interrupted)
    with pytest.raises(KeyboardInterrupt):
        models.fetch("toy")
    kept = (folder / "toy.caffemodel.part").stat().st_size
    assert nothing(folder) and kept == 1000
    monkeypatch.setattr(requests.Response, "iter_content", real)
    models.fetch("toy")
    assert right(folder) and ranges(server)[-1] == ("ok", f"bytes={kept}-")


def test_a_redirection_is_followed(server, toy):
    folder = toy("moved")
    models.fetch("toy")
    assert right(folder) and ranges(server) == [("moved", None), ("ok", None)]


def test_the_content_of_a_redirection_is_not_read(server, toy):
    folder = toy("endless_move")
    models.fetch("toy")
    assert right(folder)


def test_a_file_that_is_too_large(server, toy):
    folder = toy("endless", "ok", checksum=False)
    models.fetch("toy")
    assert right(folder)
    (folder / "toy.caffemodel").unlink()
    toy("endless", checksum=False)
    with pytest.raises(models.ModelError, match="bytes, too many .at most 400,000.: 127"):
        models.fetch("toy")
    assert nothing(folder) and not list(folder.glob("*.part"))


def test_every_file_has_an_upper_bound():
    for name in models.names():
        for file in models.card(name).files:
            assert file.limit == file.size or file.limit <= 1 << (31 if file.role in ("caffemodel", "archive") else 28)


def answer(status=b"200 OK", *headers, body=WEIGHTS):
    return b"\r\n".join([b"HTTP/1.1 " + status, *headers, b"", b""]) + body


CHUNKED = b"Transfer-Encoding: chunked"
LOST, ODD = "no connection|connection lost", "no connection|connection lost|cannot be understood"
RAW = {     # name: (the server's answer, a regular expression of the message; None: no error)
    "gzip": (answer(b"200 OK", b"Content-Encoding: gzip", body=gzip.compress(WEIGHTS)), "sends it encoded as gzip"),
    "two encodings": (answer(b"200 OK", b"Content-Encoding: identity, br"), "sends it encoded as identity, br"),
    "rude encoding": (answer(b"200 OK", b"Content-Encoding: \x1b[2J" + b"x" * 500), r"encoded as \[2jx{50,80}\.\.\.:"),
    "rude status": (answer(b"418 \x1b[31m\x07\xc2\x9bteapot " + b"x" * 500), r"418 \[31m .*teapot x{40,80}\.\.\.:"),
    "no status": (answer(b"999"), r"\(999: 127"),
    "too long": (answer(b"200 OK", b"Content-Length: 1000000000000"), "offers 1,000,000,000,000 bytes"),
    "odd length": (answer(b"200 OK", b"Content-Length: \xb2"), None),
    "endless length": (answer(b"200 OK", b"Content-Length: " + b"9" * 5000), None),
    "negative length": (answer(b"200 OK", b"Content-Length: -1"), None),
    "two lengths": (answer(b"200 OK", b"Content-Length: 1", b"Content-Length: 2"), ODD),
    "odd range": (answer(b"206 Partial", b"Content-Range: bytes 0-" + b"9" * 5000 + b"/*"), "another range"),
    "odd chunk": (answer(b"200 OK", CHUNKED, body=b"-5\r\nhello"), ODD),
    "huge chunk": (answer(b"200 OK", CHUNKED, body=b"f" * 5000 + b"\r\nhello"), LOST),
    "no content": (answer(b"204 No Content"), "204 No Content"),
    "no place": (answer(b"302 Found", b"Location: http://["), "cannot be understood"),
    "a file": (answer(b"302 Found", b"Location: file:///etc/passwd"), "no connection"),
    "odd name": (answer(b"302 Found", b"Location: http://" + b"a" * 300 + b".\xff/"), ODD),
    "round": (answer(b"302 Found", b"Location: "), "too many redirections|302"),
    "many headers": (answer(b"200 OK", *[b"X: y"] * 500), LOST),
    "not http": (b"\x00\xff" * 50, LOST),
    "nothing": (b"", LOST),
}


@pytest.mark.parametrize("how", RAW)
def test_odd_answers_are_a_few_words(server, toy, how):
    raw, message = RAW[how]
    server.raw["raw"] = raw
    folder = toy("raw", checksum=False)
    if message is None:                                 # only the header is wrong
        models.fetch("toy")
        return
    with pytest.raises(models.ModelError, match=message) as caught:
        models.fetch("toy")
    assert nothing(folder) and str(caught.value).isprintable() and len(str(caught.value)) < 700


FIND = "import sys, pathlib; from models import cards, find; cards.ROOT = pathlib.Path(sys.argv[1]); find('toy')"


def test_an_odd_cookie_makes_no_warning(server, toy, tmp_path):
    """Tested in a separate process, since pytest changes the filters of warnings."""
    server.raw["raw"] = answer(b"200 OK", b"Set-Cookie: a=b; expires=Thu, 99 Foo 9999 99:99:99 GMT")
    folder = toy("raw")
    done = children.run("-c", FIND, tmp_path / "models")
    assert right(folder) and done.stderr == ""


@pytest.mark.parametrize("how, why", [("crawl", "too slow"), ("crawling_head", "timed out")])
def test_a_mirror_that_crawls_hangs(server, toy, monkeypatch, how, why):
    """A byte now and then never triggers the timeout of a socket."""
    monkeypatch.setattr(download, "LEAST", (1000, 0.5))
    monkeypatch.setattr(download, "OPENING", 0.5)
    folder = toy(how, "ok")
    models.fetch("toy")
    assert right(folder)
    (folder / "toy.caffemodel").unlink()
    toy(how)
    with pytest.raises(models.ModelError, match=why):
        models.fetch("toy")


def test_temporary_files_of_older_versions_are_removed(server, toy):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "tmpab1_xyz9").write_bytes(WEIGHTS)
    (folder / "tmp-notes.txt").write_text("a person's")
    models.fetch("toy")
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "deploy.prototxt", "tmp-notes.txt", "toy.caffemodel"]


def test_a_download_that_is_killed_leaves_one_partial_file(server, toy, tmp_path):
    folder = toy("crawl")
    code = "from models import download; download.CHUNK = 1; " + FIND
    process = children.start("-c", code, tmp_path / "models")
    until = time.monotonic() + 20
    while not (folder / "toy.caffemodel.part").exists() and time.monotonic() < until:
        time.sleep(0.05)
    process.kill()
    children.ended(process)
    assert sorted(p.name for p in folder.iterdir()) == [".lock", "deploy.prototxt", "toy.caffemodel.part"]


def test_a_file_is_synced_before_it_gets_its_name(server, toy, monkeypatch):
    done = []
    for name in ("fsync", "replace"):
        def noted(*args, name=name, real=getattr(os, name)):
            done.append(name)
            return real(*args)
        monkeypatch.setattr(os, name, noted)
    toy("ok")
    models.fetch("toy")
    assert done == ["fsync", "replace"] * 2


@pytest.mark.parametrize("damage", [
    lambda data: data[:200], lambda data: b"\x1f\x8b" + bytes(500), lambda data: b"BZh9" + data,
    lambda data: b"\xfd7zXZ\0" + data, lambda data: bytes(2000), lambda data: b"x",
    lambda data: gzip.compress(gzip.decompress(data).replace(b"ustar", b"\xff" * 5))])
def test_a_damaged_archive(server, toy, monkeypatch, damage):
    monkeypatch.setitem(CONTENT, "toy.tar.gz", damage(CONTENT["toy.tar.gz"]))
    files = toy.entry("toy.tar.gz", "archive", ["ok"]) + "".join(
        f'[[files]]\nname = "{name}"\nrole = "{role}"\narchive = "toy.tar.gz"\nmember = "net/{name}"\n'
        for name, role in (("deploy.prototxt", "prototxt"), ("toy.caffemodel", "caffemodel")))
    toy(files=files)
    with pytest.raises(models.ModelError, match="toy.tar.gz: not readable as an archive|toy.tar.gz holds no") as caught:
        models.fetch("toy")
    assert str(caught.value).isprintable() and "DEEPDREAM_CACHE" not in str(caught.value)


def test_an_archive_that_unpacks_without_end(server, toy, monkeypatch):
    files = toy.entry("toy.tar.gz", "archive", ["ok"]) + \
        '[[files]]\nname = "d.prototxt"\nrole = "prototxt"\narchive = "toy.tar.gz"\nmember = "deploy.prototxt"\n' + \
        '[[files]]\nname = "toy.caffemodel"\nrole = "caffemodel"\narchive = "toy.tar.gz"\nmember = "toy.caffemodel"\n'
    folder = toy(files=files + "max_size = 100000\n")
    with pytest.raises(models.ModelError, match="toy.caffemodel in toy.tar.gz: 300,000 bytes, too many"):
        models.fetch("toy")
    toy(files=files)
    for name in ("MEMBERS", "UNPACKED"):
        with monkeypatch.context() as patch:
            patch.setattr(store, name, 1)
            with pytest.raises(models.ModelError, match="holds more than"):
                models.fetch("toy")
    assert nothing(folder)


def test_single_files(server, toy, tmp_path):
    def file(how, **options):
        url = f"http://127.0.0.1:{server.server_port}/{how}/toy.caffemodel"
        return models.File("toy.caffemodel", "any", mirrors=(url,), **options)
    models.obtain([file("ok", sha256=hashlib.sha256(WEIGHTS).hexdigest())], tmp_path / "single")
    assert right(tmp_path / "single")
    with pytest.raises(models.ModelError, match="could not get toy.caffemodel .404 Not Found: 127"):
        models.obtain([file("404")], tmp_path / "none")


@pytest.mark.parametrize("how, why", [("endless", ".*at most 9,000"), ("404", "404 Not Found"),
                                      ("wrong", "wrong content")])
def test_googles_originals_are_downloaded_in_the_same_way(server, toy, tmp_path, monkeypatch, how, why):
    from deepdream import DreamError
    from deepdream.regress import originals
    monkeypatch.setattr(originals, "URL", f"http://127.0.0.1:{server.server_port}/{how}/")
    monkeypatch.setattr(originals, "FILES", {"labels.txt": hashlib.sha256(CONTENT["labels.txt"]).hexdigest()})
    monkeypatch.setattr(originals, "MAXIMUM", 9000)
    with pytest.raises(DreamError, match=f"labels.txt .{why}.*--reference FOLDER"):
        originals.fetch()
    assert [p.name for p in (tmp_path / "cache" / "original").iterdir()] == [".lock"]


def test_a_cache_that_cannot_be_written(toy, tmp_path):
    toy("ok")
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(models.ModelError, match="DEEPDREAM_CACHE can name another folder"):
        models.find("toy")


# --- what is on disk --------------------------------------------------------------------------------------------------

def command(*words):
    from deepdream import cli
    return cli.main(["models", *words])


@pytest.mark.parametrize("kind, checksum", [
    ("md5", hashlib.md5(WEIGHTS).hexdigest()), ("sha256", hashlib.sha256(WEIGHTS).hexdigest()),
    ("git_sha1", hashlib.sha1(b"blob 300000\0" + WEIGHTS).hexdigest())])
def test_downloads_are_verified_by_any_checksum(server, toy, kind, checksum):
    lines = (f'{kind} = "{checksum}"', 'checksum_source = ["https://example.org/checksums"]')
    files = toy.entry("deploy.prototxt", "prototxt", ["ok"])
    folder = toy(files=files + toy.entry("toy.caffemodel", "caffemodel", ["wrong", "ok"], *lines, checksum=False))
    models.fetch("toy")
    assert right(folder)
    (folder / "toy.caffemodel").unlink()
    toy(files=files + toy.entry("toy.caffemodel", "caffemodel", ["wrong"], *lines, checksum=False))
    with pytest.raises(models.ModelError, match=f"toy.caffemodel .{kind} {checksum}. from http"):
        models.fetch("toy")
    assert nothing(folder)


def test_the_table_of_all_models(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path))
    assert command() == 0
    head, *rows, empty, used = capsys.readouterr().out.splitlines()
    assert head.split() == ["NAME", "DREAMS", "OF", "SIZE", "ON", "DISK", "LICENCE"] and empty == ""
    assert [row.split()[0] for row in rows] == models.names() and max(map(len, rows)) <= 100
    columns = {row.split()[0]: re.split(r" {2,}", row) for row in rows}
    assert columns["vgg16"] == ["vgg16", "animals and objects", "553 MB", "no", "CC BY 4.0"]
    assert columns["digits"][3:] == ["shipped", "MIT"] and columns["nin_imagenet"][2].startswith("~30")
    assert used == f"disk used: 0 bytes of downloads and 0 bytes of converted graphs in {tmp_path}"


@pytest.mark.parametrize("words, names", [
    (["places"], ["mini_places", "places205_vgg16", "places365_resnet152", "hybrid1365_vgg16"]),
    (["PLACES", "vgg-16"], ["places205_vgg16", "places365_vgg16", "hybrid1365_vgg16"]),
    (["squeezenet"], ["squeezenet_v1.0", "squeezenet_v1.1"]), (["no such net"], [])])
def test_searching(capsys, words, names):
    assert command("--search", *words) == (0 if names else 1)
    found = [line.split()[0] for line in capsys.readouterr().out.splitlines()[1:]]
    assert set(names) <= set(found) < set(models.names()) and not {"digits", "vgg19"} & set(found)


def test_the_table_of_a_model_that_is_downloaded(server, toy, tmp_path, capsys):
    folder = toy("ok")
    for change, on_disk in ((lambda: None, "no"), (lambda: folder.mkdir(parents=True), "no"),
                            (lambda: (folder / "toy.caffemodel.part").write_bytes(bytes(5000)), "partly"),
                            (lambda: models.fetch("toy"), "yes")):
        change()
        assert command() == 0
        _, row, _, used = capsys.readouterr().out.splitlines()
        assert re.split(r" {2,}", row) == ["toy", "toys and bricks", "300 kB", on_disk, "none"]
    assert used.startswith("disk used: 300 kB of downloads")


def test_removing_a_model(server, toy, tmp_path, capsys):
    folder = toy("ok", labels="ok")
    models.fetch("toy")
    (tmp_path / "cache" / "other").mkdir()
    (tmp_path / "cache" / "other" / "toy.caffemodel").write_bytes(WEIGHTS)
    assert command("--remove", "toy") == 0
    assert capsys.readouterr().out == "toy: 300 kB freed\n"
    assert [p.name for p in (tmp_path / "cache").iterdir()] == ["other"] and models.status("toy") == "absent"
    assert command("--remove", "toy") == 0 and capsys.readouterr().out == "toy: nothing to remove\n"
    assert (tmp_path / "cache" / "other" / "toy.caffemodel").read_bytes() == WEIGHTS
    assert not folder.exists() and (tmp_path / "models" / "toy" / "card.toml").exists()


def test_removing_leaves_what_does_not_belong_to_the_model(toy, tmp_path):
    folder = toy("ok", checksum=False)
    folder.mkdir(parents=True)
    theirs = ["toy.caffemodel.part", "toy.caffemodel.bad", "toy.caffemodel.0123abcd.part", "deploy.prototxt"]
    others = ["toy.caffemodel.txt", "my toy.caffemodel", "toyXcaffemodel", "toy.caffemodel.part.part", "card.toml"]
    for name in theirs + others:
        (folder / name).write_bytes(b"12345")
    (tmp_path / "elsewhere").write_bytes(WEIGHTS)
    (folder / "toy.caffemodel").symlink_to(tmp_path / "elsewhere")
    (folder / "labels.txt").mkdir()
    assert sorted(p.name for p in models.downloaded("toy")) == sorted([*theirs, "toy.caffemodel"])
    models.remove("toy")
    assert sorted(p.name for p in folder.iterdir()) == sorted([*others, ".lock", "labels.txt"])
    assert (tmp_path / "elsewhere").read_bytes() == WEIGHTS             # a link is removed, not what it leads to


def test_what_cannot_be_removed(toy, tmp_path, capsys, monkeypatch):
    folder = toy("ok")
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "elsewhere" / "toy.caffemodel").write_bytes(WEIGHTS)
    folder.parent.mkdir()
    folder.symlink_to(tmp_path / "elsewhere")
    assert command("--remove", "toy") == 2
    assert f"deepdream: {folder}: is a link that leads out of the cache;" in capsys.readouterr().err
    assert (tmp_path / "elsewhere" / "toy.caffemodel").read_bytes() == WEIGHTS
    folder.unlink()
    folder.mkdir()
    (folder / "toy.caffemodel").write_bytes(WEIGHTS)
    with store._alone(folder, "toy"):
        assert command("--remove", "toy") == 2
    assert "toy: is being downloaded by another process; nothing was removed" in capsys.readouterr().err
    monkeypatch.setattr(Path, "unlink", lambda *_: (_ for _ in ()).throw(PermissionError(1, "Not yours", "toy.x")))
    assert command("--remove", "toy") == 2
    assert capsys.readouterr().err == "deepdream: toy.x: cannot be removed: Not yours\n"
    assert command("--remove", "toys") == 2 and "did you mean toy" in capsys.readouterr().err
    assert command("--remove", "../other") == 2 and "no model is called '../other'" in capsys.readouterr().err


@pytest.mark.parametrize("words, message", [
    (["--remove", "digits"], "digits: is part of this project; only downloaded models can be removed"),
    (["--remove", "toy", "--search", "x"], "--search: only for the table and --check, not with --remove"),
    (["--check", "--remove", "digits"], "not allowed with")])
def test_commands_that_make_no_sense(capsys, words, message):
    with contextlib.suppress(SystemExit):
        assert command(*words) == 2
    err = capsys.readouterr().err
    assert message in err and "Traceback" not in err


# --- where it comes from ----------------------------------------------------------------------------------------------

def checked(name="toy"):
    return [(source.url.split("/")[3], source.size, source.problem) for source in models.check([name])
            if source.file.name == "toy.caffemodel"]


@pytest.mark.parametrize("how, size, problem", [
    ("ok", 300_000, ""), ("moved", 300_000, ""), ("nohead", 300_000, ""), ("nolength", 300_000, ""),
    ("404", None, "404 Not Found"), ("half", 150_000, "offers 150,000 bytes instead of 300,000"),
    ("page", 35, "offers 35 bytes instead of 300,000"), ("hang", None, "timed out"),
    ("crawling_head", None, "timed out"), ("endless", None, "")])
def test_a_source_is_asked_for_its_size(server, toy, monkeypatch, how, size, problem):
    monkeypatch.setattr(download, "OPENING", 1)
    folder = toy(how)
    assert checked() == [(how, size, problem)] and not folder.exists()
    assert {asked for _, asked in ranges(server)} <= {"HEAD", "bytes=0-0"}


def test_sources_without_a_checksum_are_within_bounds(server, toy, monkeypatch):
    monkeypatch.setitem(CONTENT, "toy.caffemodel", bytes(500_000))
    toy("ok", "half", checksum=False)
    assert checked() == [("ok", 500_000, "offers 500,000 bytes, not 200,000 to 400,000"), ("half", 250_000, "")]
    server.raw["raw"] = answer(b"200 OK", b"Content-Type: text/html; charset=utf-8", b"Content-Length: 250000")
    toy("raw", checksum=False)
    assert checked() == [("raw", 250_000, "a web page")]


@pytest.mark.parametrize("how", [how for how, (_, said) in RAW.items() if said])
def test_odd_answers_to_the_question_for_a_size_are_a_few_words(server, toy, how):
    server.raw["raw"] = RAW[how][0]
    toy("raw")
    (_, _, problem), = checked()
    assert problem.isprintable() and len(problem) < 120


def test_checking_all_sources(server, toy, capsys):
    folder = toy("404", "ok", "half", labels="404")
    assert command("--check") == 0
    first, *lines = capsys.readouterr().out.splitlines()
    url = f"http://127.0.0.1:{server.server_port}"
    assert first == "toy" and lines == [
        f"    ok, {len(DEPLOY)} bytes: {url}/ok/deploy.prototxt", f"    404 Not Found: {url}/404/toy.caffemodel",
        f"    ok, 300 kB: {url}/ok/toy.caffemodel",
        f"    offers 150,000 bytes instead of 300,000: {url}/half/toy.caffemodel",
        f"    404 Not Found: {url}/404/labels.txt", "", "5 addresses of 1 net, 3 of them dead",
        f"dead: toy: toy.caffemodel: 404 Not Found: {url}/404/toy.caffemodel",
        f"dead: toy: toy.caffemodel: offers 150,000 bytes instead of 300,000: {url}/half/toy.caffemodel",
        f"dead: toy: labels.txt: 404 Not Found: {url}/404/labels.txt"]
    assert not folder.exists() and len(server.seen) == 7      # the dead by GET too
    toy("404")
    assert command("--check") == 1
    assert capsys.readouterr().out.endswith("\ncan no longer be downloaded: toy\n")
    assert command("--check", "--search", "bricks") == 1 and command("--check", "--search", "dolls") == 1
    assert capsys.readouterr().out.endswith("\nno net matches dolls\n")


def test_checking_asks_the_archive_for_its_members(server, toy):
    members = "".join(f'[[files]]\nname = "{name}"\nrole = "{role}"\narchive = "toy.tar.gz"\nmember = "{name}"\n'
                      for name, role in (("deploy.prototxt", "prototxt"), ("toy.caffemodel", "caffemodel")))
    for how, lost in (("ok", []), ("404", ["toy"])):
        toy(files=toy.entry("toy.tar.gz", "archive", [how]) + members)
        sources = list(models.check(["toy"]))
        assert len(sources) == 1 and models.lost(sources) == lost


def test_checking_without_a_network(toy, monkeypatch, capsys):
    toy("ok")
    monkeypatch.setattr("socket.socket.connect", lambda *_: (_ for _ in ()).throw(ConnectionRefusedError("no")))
    assert command("--check") == 1
    assert capsys.readouterr().out.endswith("2 of them dead\nno server can be reached: is there a network?\n")


def test_a_gallery_of_all_models_on_disk(server, toy, tmp_path):
    from deepdream.cli.nets import on_disk
    shipped = [name for name in ("digits", "mini_imagenet") if name in models.names()]
    assert not shipped and on_disk(["all"]) == []
    toy("ok")
    write(tmp_path / "models" / "made", CARD + FILES)
    assert on_disk(["all", "x.onnx"]) == ["x.onnx"]
    models.fetch("toy")
    folder_with(tmp_path / "models" / "made", "deploy.prototxt", "toy.caffemodel")
    assert on_disk(["x.onnx", "made", "all"]) == ["x.onnx", "made", "toy"]
