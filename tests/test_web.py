"""The command `deepdream web`: what goes into the page, how it is put together, and the server."""
import base64
import gzip
import hashlib
import http.client
import json
import re
import threading

import numpy as np
import onnx
import onnxruntime
import pytest
import toys

from deepdream import DreamError, Net, deepdream
from deepdream.cli import main
from deepdream.web import contents, pack, runtime, server


@pytest.fixture(scope="module")
def net(toy):
    return Net(str(toy), device="cpu", threads=1)


@pytest.fixture
def fake(tmp_path, monkeypatch):
    """A folder with a module and a binary that are not onnxruntime-web, but that this version takes for it."""
    files = {"ort.mjs": b"export default 1;", "ort.wasm": b"\0asm"}
    (tmp_path / "runtime").mkdir()
    for name, data in files.items():
        (tmp_path / "runtime" / name).write_bytes(data)
    pins = tuple((name, len(data), hashlib.sha256(data).hexdigest()) for name, data in files.items())
    monkeypatch.setattr(runtime, "FILES", {"wasm": pins})
    return tmp_path / "runtime"


@pytest.fixture
def page(fake, toy, tmp_path, capsys):
    """A function (words) -> the folder of a page of the toy net."""
    def make(*words, output=True):
        where = ["-o", str(tmp_path / "page")] if output else []
        assert main(["web", *where, "--models", str(toy), "--ends", "left", "both", "--runtime", str(fake),
                     *words]) == 0, capsys.readouterr().err
        return tmp_path / "page"
    return make


def assets(html):
    """Return {name: contents} of the files in a page of one file."""
    found = re.findall(r'<script type="application/octet-stream" id="asset:([^"]+)">([^<]*)</script>', html)
    return {name: gzip.decompress(base64.b64decode(text)) for name, text in found}


def config(html):
    return json.loads(re.search(r'id="config">(.*?)</script>', html, re.DOTALL)[1])


# ---- what goes in

def restored(data, weights):
    """Return a graph of the page with its weights."""
    graph = onnx.load_from_string(data)
    for tensor in graph.graph.initializer:
        if tensor.data_location == onnx.TensorProto.EXTERNAL:
            place = {entry.key: entry.value for entry in tensor.external_data}
            start = int(place["offset"])
            tensor.raw_data = weights[start:start + int(place["length"])]
            tensor.ClearField("external_data")
            tensor.ClearField("data_location")
    return graph


def test_the_graphs_of_the_page_dream_as_python_does(net):
    made = contents.contents({"toy": net}, {"toy": ["left", "both"]})
    (described,), files = made
    img = np.float32(np.random.default_rng(0).integers(0, 256, (33, 47, 3)))
    for end, facts in described["ends"].items():
        graph = restored(files[facts["graph"]], files[described["weights"]])
        options = onnxruntime.SessionOptions()
        session = onnxruntime.InferenceSession(graph.SerializeToString(), options, ["CPUExecutionProvider"])
        assert [i.name for i in session.get_inputs()] == ["picture", "step_size", "rows", "columns"]
        data = np.float32(img[..., described["swap"]].transpose(2, 0, 1)) - np.float32(described["mean"])[:, None, None]
        ox, oy = np.random.RandomState(3).randint(-32, 33, 2)
        feeds = {"picture": data[None], "step_size": np.array(1.5, np.float32),
                 "rows": (np.arange(33) - oy) % 33, "columns": (np.arange(47) - ox) % 47}
        after = np.roll(session.run(["next_picture"], feeds)[0][0], (-oy, -ox), (1, 2))
        mine = (after + np.float32(described["mean"])[:, None, None])[np.argsort(described["swap"])].transpose(1, 2, 0)
        theirs = deepdream(net, img, iter_n=1, octave_n=1, seed=3, end=end)
        assert np.abs(mine - theirs).max() < 1e-3 < np.abs(theirs - img).max()


def test_the_weights_of_several_layers_are_stored_once():
    place = Net("mini_imagenet", device="cpu")
    one, two = (contents.contents({"n": place}, {"n": ends}) for ends in
                (["inception_3b/output"], ["inception_3a/output", "inception_3b/output"]))
    weights = [len(made.files[made.nets[0]["weights"]]) for made in (one, two)]
    graphs = [len(data) for name, data in two.files.items() if "weights" not in name]
    assert weights[0] <= weights[1] < 1.06 * weights[0] and max(graphs) < 0.1 * weights[0]
    half = contents.contents({"n": place}, {"n": ["inception_3b/output"]}, half=True)
    assert len(half.files[half.nets[0]["weights"]]) < 0.6 * weights[0]


def test_a_net_from_an_onnx_file(tmp_path, page, capsys):
    onnx.save(toys.convert(toys.TOY), tmp_path / "own.onnx")
    folder = page("--models", str(tmp_path / "own.onnx"))
    (described,) = config((folder / "index.html").read_text())["nets"]
    assert described["name"] == "own" and set(described["ends"]) == {"left", "both"}
    assert described["pixels"]["channel_swap"] == described["swap"]


# ---- the page

def test_one_file(page, net):
    folder = page()
    assert [path.name for path in folder.iterdir()] == ["index.html"]
    html = (folder / "index.html").read_text()
    made, files = config(html), assets(html)
    assert made["rows"] == [{"level": "middle", "ends": {"toy": "left"}}, {"level": "high", "ends": {"toy": "both"}}]
    assert made["nets"][0]["checksum"] == net.checksum
    names = {made["nets"][0]["weights"], *(e["graph"] for e in made["nets"][0]["ends"].values()),
             *(s["file"] for s in made["scenes"]), made["runtime"]["wasm"]["module"], made["runtime"]["wasm"]["wasm"]}
    assert names == set(files) and files[made["runtime"]["wasm"]["wasm"]] == b"\0asm"
    assert not re.search(r"https?://", re.sub(r"<script type=.application/octet-stream.*?</script>", "", html))
    policy = re.search(r'Content-Security-Policy" content="([^"]+)"', html)[1]
    assert "default-src 'none'" in policy and "connect-src blob:;" in policy and "'unsafe-inline'" not in policy
    for tag in ("script type=\"module\"", "style"):
        text = re.search(f"<{tag}>(.*?)</{tag.split()[0]}>", html, re.DOTALL)[1]
        assert base64.b64encode(hashlib.sha256(text.encode()).digest()).decode() in policy


def test_the_same_page_each_time(page):
    first = (page() / "index.html").read_bytes()
    assert (page() / "index.html").read_bytes() == first


def test_parts(page):
    folder = page("--parts")
    html = (folder / "index.html").read_text()
    names = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    made = config(html)
    assert assets(html) == {} and {"style.css", "js/page.js", "js/worker.js", "README.txt", "_headers"} < names
    weights = made["nets"][0]["weights"]
    assert len(gzip.decompress((folder / weights).read_bytes())) > 0
    assert "connect-src 'self' blob:;" in html
    for text in ((folder / "README.txt").read_text(), (folder / "_headers").read_text()):
        assert all(f"{name}: {value}" in text for name, value in pack.HEADERS.items())


def test_a_page_of_somebody_else_is_not_replaced(page, tmp_path, toy, fake, capsys):
    (tmp_path / "page").mkdir()
    (tmp_path / "page" / "index.html").write_text("<h1>mine</h1>")
    assert main(["web", "-o", str(tmp_path / "page"), "--models", str(toy), "--runtime", str(fake)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "is another page, which would be replaced" in error
    assert (tmp_path / "page" / "index.html").read_text() == "<h1>mine</h1>"


@pytest.mark.parametrize("words, message", [
    ([], "-o: is missing; give -o FOLDER, or --serve"),
    (["-o", "OUT", "--ends", "nothing"], "nothing"),
    (["-o", "OUT", "--models", "no_such_net"], "no_such_net"),
    (["-o", "OUT", "--serve", "99999"], "--serve"),
])
def test_mistakes(words, message, tmp_path, toy, fake, capsys):
    words = [str(tmp_path / "out") if word == "OUT" else word for word in words]
    code = None
    try:
        code = main(["web", "--models", str(toy), "--runtime", str(fake), *words])
    except SystemExit as stop:
        code = stop.code
    error = capsys.readouterr().err
    assert code == 2 and message in error and "Traceback" not in error
    assert not (tmp_path / "out" / "index.html").exists()


# ---- onnxruntime-web

def test_the_runtime_in_a_folder(fake, tmp_path):
    assert [path.name for path in runtime.runtime_files(folder=fake)] == ["ort.mjs", "ort.wasm"]
    place = tmp_path / "project" / "node_modules" / "onnxruntime-web" / "dist"
    place.parent.mkdir(parents=True)
    fake.rename(place)
    assert runtime.runtime_files(folder=tmp_path / "project")[0] == place / "ort.mjs"
    (place / "ort.wasm").write_bytes(b"\0bsm")
    with pytest.raises(DreamError, match=r"^--runtime .*ort.wasm: wrong content .* needed is onnxruntime-web 1\."):
        runtime.runtime_files(folder=tmp_path / "project")
    with pytest.raises(DreamError, match=r"^--runtime .*: there is no ort.mjs; give the folder of the package"):
        runtime.runtime_files(folder=tmp_path / "nowhere")


def test_the_runtime_is_downloaded_once(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    files = {path.name: path.read_bytes() for path in fake.iterdir()}
    with server.server(files) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(runtime, "MIRRORS", ("http://127.0.0.1:9/", server.address(running)))
        found = runtime.runtime_files(progress=False)
        running.shutdown()
    assert {path.name: path.read_bytes() for path in found} == files
    assert runtime.runtime_files(progress=False) == found      # now without the server


def test_without_a_network(fake, tmp_path, monkeypatch, toy, capsys):
    monkeypatch.setenv("DEEPDREAM_CACHE", str(tmp_path / "cache"))
    monkeypatch.delenv("DEEPDREAM_WEB_RUNTIME", raising=False)
    monkeypatch.setattr(runtime, "MIRRORS", ("http://127.0.0.1:9/",))
    assert main(["web", "-o", str(tmp_path / "page"), "--models", str(toy)]) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and "could not get ort.mjs" in error and "give --runtime FOLDER" in error
    assert not (tmp_path / "page" / "index.html").exists()


def test_the_pinned_files_are_what_the_tests_run_on(web_runtime):
    for path in runtime.runtime_files(folder=web_runtime):
        assert path.is_file()


# ---- the server

@pytest.fixture
def running():
    with server.server({"index.html": b"<p>", "js/a.js": b"1", "x.bin": b"\x1f"}) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


def asked(running, path, method="GET", host=None):
    connection = http.client.HTTPConnection(*running.server_address, timeout=20)
    connection.request(method, path, headers={"Host": host} if host else {})
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    return answer, body


def test_the_server_sends_the_page_with_the_headers_that_threads_need(running):
    assert running.server_address[0] == "127.0.0.1"
    for path, kind, data in (("/", "text/html; charset=utf-8", b"<p>"), ("/js/a.js?x=1", "text/javascript", b"1"),
                             ("/x.bin", "application/octet-stream", b"\x1f")):
        answer, body = asked(running, path)
        assert answer.status == 200 and body == data and answer.headers["Content-Type"].startswith(kind)
        assert all(answer.headers[name] == value for name, value in pack.HEADERS.items())
    answer, body = asked(running, "/x.bin", "HEAD")
    assert answer.status == 200 and body == b"" and answer.headers["Content-Length"] == "1"


def test_the_server_has_nothing_else(running):
    for path in ("/../index.html", "/etc/passwd", "//etc/passwd", "/js", "/%2e%2e/%2e%2e/etc/passwd", "/js/a.js/"):
        assert asked(running, path)[0].status == 404
    assert asked(running, "/", host="evil.example:80")[0].status == 404
    assert asked(running, "/", host="localhost:80")[0].status == 200
    assert asked(running, "/", "POST")[0].status == 501


def test_a_port_in_use(running):
    with pytest.raises(DreamError, match=r"^--serve \d+: cannot listen on 127.0.0.1"):
        server.server({}, running.server_address[1])
