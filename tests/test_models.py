"""models/: the records, finding a model, and downloads from a server on the loopback interface that misbehaves."""
import hashlib
import http.server
import io
import random
import sys
import tarfile
import threading
import time
from pathlib import Path

import pytest

import children
import models
from models import records, store

PROJECT = Path(models.__file__).resolve().parent.parent
WEIGHTS = random.Random(0).randbytes(300_000)       # stands for a caffemodel
DEPLOY = b'name: "toy"\ninput: "data"\n'


# --- records ----------------------------------------------------------------------------------------------------------

def test_every_record_is_valid_and_complete():
    assert {"bvlc_googlenet", "bvlc_reference_caffenet", "digits", "mini_imagenet", "mini_places",
            "places205_googlenet", "places365_googlenet"} <= set(models.names())
    for name in models.names():
        rec = models.record(name)
        assert rec.name == name and rec.title and rec.licence and rec.citation
        assert rec.default_end in sum(rec.ends.values(), [])
        assert len(rec.mean) == (1 if name == "digits" else 3) and sorted(rec.channel_swap) == [0, 1, 2]
        for file in rec.files:
            assert file.checksums or file.unverified or file.shipped or file.archive, file.name


@pytest.mark.parametrize("name", ["bvlc_googlenet", "bvlc_reference_caffenet", "places205_googlenet",
                                  "places365_googlenet"])
def test_weights_have_several_mirrors(name):
    rec = models.record(name)
    weights = rec.role("caffemodel")
    urls = weights.mirrors + (rec.file(weights.archive).mirrors if weights.archive else ())
    assert len({url.split("/")[2] for url in urls}) >= 3


def test_published_checksums():
    file = models.record("bvlc_googlenet").role("caffemodel")
    assert (file.size, file.sha1) == (53_533_754, "405fc5acd08a3bb12de8ee5e23a96bec22f08204")
    assert models.record("bvlc_googlenet").role("prototxt").sha1 == "7060345c8012294baa60eeb5901d2d3fd89d75fc"
    assert models.record("bvlc_reference_caffenet").role("caffemodel").sha1 == \
        "4c8d77deb20ea792f84eb5e6d0a11ca0a8660a46"
    rec = models.record("places205_googlenet")
    assert rec.role("archive").sha1 == "d767debf686fa15df1e05fbc9b4598076127134a"
    assert rec.mean == (105.417, 113.753, 116.047)
    assert any("one source" in line for line in rec.doubts)
    assert not models.record("bvlc_googlenet").doubts


RECORD = """title = "a toy"
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
    (folder / "record.toml").write_text(text)
    return folder / "record.toml"


@pytest.mark.parametrize("old, new, said", [
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
    ('title = "a toy"', "title = ", "no readable TOML"),
    ("https://example.org/toy", "example.org", "http(s) address"),
    ('role = "prototxt"', 'role = "deploy"', "one of prototxt"),
    ('role = "prototxt"', 'role = "labels"', "needs one prototxt"),
    ('"deploy.prototxt"', '"../deploy.prototxt"', "plain file name"),
    ('role = "caffemodel"', 'role = "caffemodel"\nsize = 0', "number of bytes"),
    ('role = "caffemodel"', 'role = "caffemodel"\nsha1 = ""', "40 lower-case hex"),
    ('role = "caffemodel"', 'role = "caffemodel"\nmirrors = ["https://example.org/x"]', "no checksum"),
    ('role = "caffemodel"', 'role = "caffemodel"\nunverified = true', "needs a reason"),
    ('role = "caffemodel"', 'role = "caffemodel"\narchive = "a.tar.gz"\nmember = "x"', "archive is not among"),
])
def test_a_bad_record_is_named_in_one_line(tmp_path, old, new, said):
    assert records.read(write(tmp_path / "good", RECORD + FILES)).mean == (1.0, 2.0, 3.0)
    path = write(tmp_path / "bad", (RECORD + FILES).replace(old, new, 1))
    with pytest.raises(models.ModelError) as caught:
        records.read(path)
    assert said in str(caught.value) and str(path) in str(caught.value) and "\n" not in str(caught.value)


def test_unknown_name_offers_the_nearest():
    with pytest.raises(models.ModelError, match="did you mean bvlc_googlenet.*known models: .*mini_places"):
        models.record("bvlc_googlnet")
    with pytest.raises(models.ModelError, match="neither a model's name nor a folder.*mini_imagenet"):
        models.find("mini_imagnet")
    with pytest.raises(models.ModelError, match="known models"):
        models.find("no/such/folder")


def test_importing_models_is_cheap():
    code = ("import sys, models; models.names(); models.record('mini_places');"
            "print([m for m in ('pooch', 'requests', 'tqdm', 'numpy', 'convert', 'deepdream') if m in sys.modules])")
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
    assert model.default_end is None and model.record is None
    assert model.ends == {"low": [], "middle": [], "high": []}
    assert models.find(folder_with(tmp_path / "one", "any.prototxt", "x.caffemodel")).prototxt.name == "any.prototxt"


def test_a_folders_own_record(tmp_path):
    folder = folder_with(tmp_path, "deploy.prototxt", "x.caffemodel", "words.txt")
    write(folder, 'mean = [1, 2.5, 3]\nlabels = "words.txt"\nends = {middle = ["conv4"]}\ndefault_end = "conv4"')
    model = models.find(str(folder))
    assert model.mean == (1.0, 2.5, 3.0) and model.labels == folder / "words.txt"
    assert model.ends == {"low": [], "middle": ["conv4"], "high": []} and model.default_end == "conv4"
    write(folder, 'labels = "nothing.txt"')
    with pytest.raises(models.ModelError, match="nothing.txt"):
        models.find(folder)


@pytest.mark.parametrize("names, said", [
    (["deploy.prototxt"], r"holds no \*.caffemodel"),
    (["x.caffemodel"], r"holds no \*.prototxt or \*.protxt"),
    (["deploy.prototxt", "x.caffemodel", "y.caffemodel"], "several candidates .x.caffemodel, y.caffemodel"),
    (["deploy.prototxt", "deploy_b.prototxt", "x.caffemodel"], "several candidates .deploy"),
    (["a.prototxt", "b.prototxt", "x.caffemodel"], "several candidates .a.prototxt, b.prototxt"),
])
def test_a_folder_that_will_not_do(tmp_path, names, said):
    with pytest.raises(models.ModelError, match=said) as caught:
        models.find(folder_with(tmp_path, *names))
    assert str(tmp_path) in str(caught.value)


def test_a_file_is_no_folder(tmp_path):
    folder_with(tmp_path, "x.caffemodel")
    with pytest.raises(models.ModelError, match="a file; give the folder"):
        models.find(tmp_path / "x.caffemodel")


@pytest.mark.parametrize("name", ["digits", "mini_imagenet", "mini_places"])
def test_shipped_models_are_found_without_a_cache(name, monkeypatch):
    rec = models.record(name)
    if not (rec.folder / rec.role("caffemodel").name).is_file():
        pytest.skip(f"{name}'s caffemodel has not been made yet")
    monkeypatch.setattr(store, "cache_dir", lambda: pytest.fail("asked for the cache"))
    model = models.find(name)
    assert models.status(name) == "shipped" and model.folder == rec.folder
    assert models.find(rec.folder) == models.fetch(name) == model


def test_a_lost_shipped_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "ROOT", tmp_path)
    write(tmp_path / "toy", RECORD + FILES)
    assert models.status("toy") == "absent"
    with pytest.raises(models.ModelError, match="deploy.prototxt: missing"):
        models.find("toy")


def test_labels_of_three_kinds(tmp_path):
    path = tmp_path / "labels.txt"
    path.write_text("n01440764 tench, Tinca tinca\n/a/abbey 0\n/a/apartment_building/outdoor 8\nrock arch\n\n")
    assert models.read_labels(path) == ["tench, Tinca tinca", "abbey", "apartment building, outdoor", "rock arch"]


# --- a server that misbehaves -----------------------------------------------------------------------------------------

def tar_gz(**members) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w:gz") as tar:
        for name, content in members.items():
            info = tarfile.TarInfo("../../net/" + name.replace("__", "."))      # a path that must have no effect
            info.size = len(content)
            tar.addfile(info, io.BytesIO(content))
        link = tarfile.TarInfo("net/evil.txt")
        link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
        tar.addfile(link)
    return out.getvalue()


CONTENT = {"deploy.prototxt": DEPLOY, "toy.caffemodel": WEIGHTS, "labels.txt": b"one\ntwo\n",
           "toy.tar.gz": tar_gz(deploy__prototxt=DEPLOY, toy__caffemodel=WEIGHTS)}


class Handler(http.server.BaseHTTPRequestHandler):
    """GET /HOW/NAME sends NAME in the manner of HOW; every request is noted as (how, name, Range)."""

    def log_message(self, *_):
        pass

    def do_GET(self):
        _, how, name = self.path.split("/")
        asked = self.headers.get("Range")
        self.server.seen.append((how, name, asked))
        content = CONTENT[name]
        if how == "404":
            return self.send_error(404)
        if how == "wrong":
            content = bytes(len(content))
        if how == "half":
            content = content[:len(content) // 2]
        if how == "page":
            content = b"<!DOCTYPE html><title>moved</title>"
        start = 0
        if asked and how not in ("norange", "page"):
            start = int(asked.removeprefix("bytes=").removesuffix("-"))
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
        httpd.seen, httpd.drops, httpd.bored = [], 1, threading.Event()
        thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
        thread.start()
        yield httpd
        httpd.bored.set()
        httpd.shutdown()
        thread.join(5)


@pytest.fixture
def toy(server, tmp_path, monkeypatch):
    """toy(how, ...) writes the record of a model called toy, whose weights have one mirror for each manner."""
    monkeypatch.setattr(records, "ROOT", tmp_path / "models")
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(store, "TIMEOUT", (1, 0.3))
    monkeypatch.setattr(store, "CHUNK", 1000)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)

    def entry(name, role, hows, *lines, checksum=True):
        urls = [f"http://127.0.0.1:{server.server_port}/{how}/{name}" for how in hows]
        check = [f"size = {len(CONTENT[name])}", f'sha1 = "{hashlib.sha1(CONTENT[name]).hexdigest()}"']
        return "\n".join(["[[files]]", f'name = "{name}"', f'role = "{role}"', f"mirrors = {urls}".replace("'", '"'),
                          *(check if checksum else []), *lines, ""])

    def make(*hows, files=None, checksum=True, labels=None):
        text = RECORD + ('labels = "labels.txt"\n' if labels else "")
        lines = () if checksum else ("unverified = true", 'reason = "nobody knows"', "min_size = 200000")
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
    """The weights lie right under their good name, and nothing half-done beside them."""
    assert not [p.name for p in folder.iterdir() if p.name.endswith((".part", ".bad")) or p.name.startswith("tmp")]
    return (folder / "toy.caffemodel").read_bytes() == WEIGHTS


def nothing(folder) -> bool:
    return not (folder / "toy.caffemodel").exists()


def test_download_then_no_more_network(server, toy, capfd):
    folder = toy("ok")
    assert models.status("toy") == "absent"
    model = models.find("toy")
    assert right(folder) and model.caffemodel == folder / "toy.caffemodel" and model.folder == folder
    assert models.status("toy") == "cached"
    before = len(server.seen)
    assert models.find("toy") == models.fetch("toy") == model
    assert len(server.seen) == before
    assert capfd.readouterr().err == ""                 # stderr is no terminal here: no bar


def test_a_bar_on_a_terminal_only_if_wanted(server, toy, monkeypatch):
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
    said = str(caught.value)
    assert nothing(folder) and why in said and "\n" not in said
    assert all(part in said for part in ("toy.caffemodel", "by hand", hashlib.sha1(WEIGHTS).hexdigest(), str(folder)))


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
    said = r"deploy.prototxt \(no connection: 127.*toy.caffemodel \(no connection: 127.*by hand"
    with pytest.raises(models.ModelError, match=said):
        models.find("toy")
    (folder / "deploy.prototxt").write_bytes(DEPLOY)                    # now do as told
    (folder / "toy.caffemodel").write_bytes(WEIGHTS)
    assert models.find("toy").caffemodel.read_bytes() == WEIGHTS


def test_a_wrong_file_put_by_hand_is_set_aside(server, toy, caplog):
    folder = toy("ok")
    folder.mkdir(parents=True)
    (folder / "toy.caffemodel").write_bytes(WEIGHTS[:-1] + b"x")
    models.find("toy")
    assert (folder / "toy.caffemodel").read_bytes() == WEIGHTS and (folder / "toy.caffemodel.bad").exists()
    assert "moved aside" in caplog.text


@pytest.mark.parametrize("how, good", [("ok", True), ("drop", True), ("nolength", True), ("half", False),
                                       ("page", False), ("404", False)])
def test_without_a_checksum_size_and_sense_are_checked(server, toy, caplog, how, good):
    folder = toy(how, checksum=False)
    if good:
        models.fetch("toy")
        assert right(folder) and caplog.text.count("nobody knows") == 1
        models.find("toy")
        assert caplog.text.count("nobody knows") == 1                   # said once
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


def test_a_member_that_is_a_link_or_absent_is_refused(server, toy):
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
    assert len(server.seen) == asked                                    # not asked for again at every start
    toy("ok", labels="ok")
    assert models.read_labels(models.fetch("toy").labels) == ["one", "two"]


def test_two_processes_at_once(server, toy, tmp_path):
    folder = toy("slow")
    code = ("import sys, pathlib; from models import records, find; records.ROOT = pathlib.Path(sys.argv[1]);"
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


def test_a_cache_that_cannot_be_written(toy, tmp_path):
    toy("ok")
    (tmp_path / "cache").write_text("a file in the way")
    with pytest.raises(models.ModelError, match="DEEPDREAM_CACHE can name another folder"):
        models.find("toy")
