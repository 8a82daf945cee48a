"""The page of `deepdream web` in a real browser, from disk and from its server: its dreams are those of Python."""
import base64
import json
import threading
import time

import browser
import numpy as np
import onnxruntime
import pytest
import toys
from PIL import Image

from deepdream import DreamError, Net, deepdream, pictures
from deepdream.batch import rows
from deepdream.cli import main
from deepdream.runtime import device
from deepdream.web import build, runtime, server
from deepdream.zoom import zoomed

pytestmark = [pytest.mark.browser, pytest.mark.slow]
H, W = 90, 160
WAIT = 240      # seconds for a dream on a busy machine


@pytest.fixture(scope="module")
def driver():
    driver = browser.chromium("--use-fake-device-for-media-stream", "--use-fake-ui-for-media-stream")
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def nets(tmp_path_factory):
    """Two small nets, each a page's worth of layers."""
    place = tmp_path_factory.mktemp("nets")
    return [str(toys.write_net(place / name, toys.TOY, lambda layer, i, shape: toys.formula(name + layer, i, shape)))
            for name in ("net_a", "net_b")]


@pytest.fixture(scope="module")
def folder(nets, web_runtime, tmp_path_factory):
    """A page of one file."""
    place = tmp_path_factory.mktemp("page")
    assert main(["web", "-o", str(place), "--models", *nets, "--ends", "conv1", "left", "both", "--runtime",
                 str(web_runtime)]) == 0
    return place


@pytest.fixture(scope="module")
def picture(tmp_path_factory):
    """A picture file."""
    y, x = np.mgrid[:H, :W]
    array = np.uint8(np.dstack([40 + x, 30 + 2 * y, 127 + 100 * np.sin(x * y / 90)]))
    path = tmp_path_factory.mktemp("picture") / "a slope.png"
    Image.fromarray(array).save(path)
    return path


def js(driver, code, *arguments):
    return driver.execute_script(f"return {code}", *arguments)


def until(driver, code):
    """Wait until an expression is true; a message of the page about a problem ends the wait, too."""
    end = time.monotonic() + WAIT
    while time.monotonic() < end:
        if js(driver, code):
            return
        problem = js(driver, "globalThis.problem?.textContent")
        assert not problem or "problem" in code, problem
        time.sleep(0.1)
    text = js(driver, "document.body.innerText")[:500]
    raise AssertionError(f"still not {code}: {text}; {driver.get_log('browser')}")


def opened(driver, address, picture=None):
    """Open a page, and give it a picture."""
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get_log("performance")
    driver.get(address)
    until(driver, "!!globalThis.deepdream?.panes[0].base")
    if picture:
        driver.find_element("id", "file").send_keys(str(picture))
        until(driver, f"deepdream.picture.name == '{picture.name}'")
    return driver


@pytest.fixture
def page(driver, folder, picture):
    """The page from disk, newly opened. At the end the browser's log must be empty."""
    yield opened(driver, (folder / "index.html").as_uri(), picture)
    assert driver.get_log("browser") == []


def choose(driver, **settings):
    """Set fields, as people do."""
    for name, value in settings.items():
        js(driver, "(e => { e.value = arguments[1]; e.dispatchEvent(new Event('input')); "
                   "e.dispatchEvent(new Event('change')); })(document.getElementById(arguments[0]))", name, value)


def press(driver, name):
    driver.find_element("id", name).click()


def dreamt(driver, **settings):
    """Dream with settings, and return the pictures of the panes, float32 (H, W, 3)."""
    choose(driver, **settings)
    press(driver, "dream")
    until(driver, "deepdream.panes.every(pane => pane.state == 'finished')")
    return [picture_of(driver, i) for i in range(js(driver, "deepdream.panes.length"))]


def picture_of(driver, i=0):
    """Return the picture that a pane's next dream starts from, float32 (H, W, 3)."""
    h, w, text = driver.execute_script("""
        const {data, h, w} = deepdream.panes[arguments[0]].base, bytes = new Uint8Array(data.buffer), parts = [];
        for (let i = 0; i < bytes.length; i += 8192) parts.push(String.fromCharCode(...bytes.subarray(i, i + 8192)));
        return [h, w, btoa(parts.join(""))];""", i)
    return np.frombuffer(base64.b64decode(text), np.float32).reshape(3, h, w).transpose(1, 2, 0)


def requests(driver):
    """Return the addresses that the page asked for since it was opened, without those inside of it."""
    events = [json.loads(entry["message"])["message"] for entry in driver.get_log("performance")]
    found = [e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"]
    return [url for url in found if not url.startswith(("blob:", "data:", "about:"))]


# ---- the numbers

def likeness(a, b, start):
    """Return the correlation of two dreams' changes."""
    return np.corrcoef((a - start).ravel(), (b - start).ravel())[0, 1]


@pytest.mark.parametrize("end", ["conv1", "both"])
def test_one_step_is_pythons(page, nets, picture, end):
    img = pictures.load(picture)
    choose(page, layer={"conv1": 0, "both": 2}[end])
    mine, = dreamt(page, octave_n=1, iter_n=1, seed=5)
    theirs = deepdream(Net(nets[0], device="cpu"), img, iter_n=1, octave_n=1, seed=5, end=end)
    assert np.abs(mine - theirs).max() < 0.01 and np.abs(theirs - img).mean() > 1


def test_octaves_and_side_by_side(page, nets, picture):
    img = pictures.load(picture)
    page.find_element("css selector", "#nets label:nth-child(2)").click()
    assert js(page, "deepdream.panes.map(pane => pane.net.name)") == ["net_a", "net_b"]
    made = dreamt(page, octave_n=3, iter_n=4, seed=11, layer=2, jitter=9, step_size=2.5)
    for mine, net in zip(made, nets):
        theirs = deepdream(Net(net, device="cpu"), img, iter_n=4, octave_n=3, seed=11, end="both", jitter=9,
                           step_size=2.5)
        assert likeness(mine, theirs, img) > 0.99
    assert likeness(*made, img) < 0.9


@pytest.fixture(scope="module")
def real(web_runtime):
    """The parts of a page with the small GoogLeNet, on its server, at one layer."""
    nets = {"mini_imagenet": Net("mini_imagenet", device="cpu")}
    table = rows.table(["inception_3b/output"], nets)
    files = {"wasm": runtime.runtime_files(folder=web_runtime)}
    with server.server(build.build(nets, table, files, separate=True)) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield server.address(running)
        running.shutdown()


def test_ten_steps_of_a_googlenet_from_the_server_with_threads(driver, real, picture, monkeypatch):
    """The page runs no blocked convolutions; Python without them, which sums in the same order, dreams the same."""
    page = opened(driver, real, picture)
    assert js(page, "crossOriginIsolated")
    mine, = dreamt(page, octave_n=2, iter_n=5, seed=2)
    assert all(url.startswith(real) for url in requests(page))
    options = onnxruntime.SessionOptions

    def extended():
        made = options()
        made.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
        return made
    monkeypatch.setattr(onnxruntime, "SessionOptions", extended)
    img = pictures.load(picture)
    theirs = deepdream(Net("mini_imagenet", device=device.Device("cpu"), threads=1), img, octave_n=2, iter_n=5, seed=2,
                       end="inception_3b/output")
    assert likeness(mine, theirs, img) > 0.99
    assert driver.get_log("browser") == []


def test_the_graphics_processor(nets, web_runtime, picture, tmp_path):
    """WebGPU computed in software: its first step is the same, so it is used, and its dream is that of Python."""
    try:
        runtime.runtime_files("webgpu", web_runtime)
    except DreamError as error:
        pytest.skip(f"needs the WebGPU runtime ({error})")
    assert main(["web", "-o", str(tmp_path), "--models", nets[0], "--ends", "both", "--webgpu", "--runtime",
                 str(web_runtime)]) == 0
    driver = browser.chromium("--enable-unsafe-webgpu", "--use-webgpu-adapter=swiftshader")
    try:
        page = opened(driver, (tmp_path / "index.html").as_uri(), picture)
        adapter = page.execute_async_script("""const done = arguments[0];
            (navigator.gpu?.requestAdapter() ?? Promise.resolve(null)).then(found => done(!!found));""")
        if not adapter:
            pytest.skip("this browser has no WebGPU")
        press(page, "gpu")
        mine, = dreamt(page, octave_n=2, iter_n=2, seed=8)
        assert js(page, "deepdream.panes[0].provider") == "webgpu" == js(page, "deepdream.panes[0].meta.device")
        assert page.get_log("browser") == []
    finally:
        driver.quit()
    img = pictures.load(picture)
    theirs = deepdream(Net(nets[0], device="cpu"), img, octave_n=2, iter_n=2, seed=8, end="both")
    assert likeness(mine, theirs, img) > 0.99


# ---- what the page does

def test_nothing_leaves_the_page(page, folder):
    """Not even while it dreams: the only address that is asked for is that of its file."""
    dreamt(page, octave_n=1, iter_n=1)
    assert set(requests(page)) <= {(folder / "index.html").as_uri()}
    blocked = page.execute_async_script("""const done = arguments[0];
        fetch("http://127.0.0.1:9/").then(() => done("asked"), error => done(String(error)));""")
    assert "Failed to fetch" in blocked
    log = page.get_log("browser")
    assert log and all("Content Security Policy" in entry["message"] for entry in log)


def test_saved_settings_make_the_same_dream_in_python(page, nets, picture, tmp_path):
    page.execute_cdp_cmd("Browser.setDownloadBehavior", {"behavior": "allow", "downloadPath": str(tmp_path)})
    mine, = dreamt(page, octave_n=2, iter_n=2, seed=9, layer=1)
    press(page, "save")
    path = tmp_path / "a slope-net_a-left.png"
    end = time.monotonic() + 30
    while not path.exists() and time.monotonic() < end:
        time.sleep(0.1)
    assert np.array_equal(pictures.load(path), pictures.to_uint8(mine))
    settings = pictures.settings(path)
    assert settings["end"] == "left" and settings["seed"] == 9 and settings["device"] == "wasm"
    assert main(["--settings", str(path), str(picture), "--model", nets[0], "-o", str(tmp_path / "again.png")]) == 0
    again = pictures.load(tmp_path / "again.png")
    assert likeness(mine, again, pictures.load(picture)) > 0.99
    theirs = pictures.settings(tmp_path / "again.png")
    same = {*settings} - {"software", "device", "threads", "model"}
    assert {name: theirs[name] for name in same} == {name: settings[name] for name in same}
    assert {*theirs} - {*settings} <= {"picture_path", "model_path", "guide", "mask", "quality", "octave", "step"}


def test_the_settings_of_a_scene(page):
    """At the size at which the page has it, it is Python's scene; scaled, it is not, and is not called so."""
    js(page, "document.querySelector('#scenes button:nth-child(2)').click()")
    until(page, "deepdream.picture.name == 'lake'")
    wanted = {256: {"picture": "the scene lake, scaled", "size": [256, 160]},
              640: {"start": "lake", "size": [640, 400]}}
    for side, expected in wanted.items():
        choose(page, side=side, octave_n=1, iter_n=50)
        press(page, "dream")
        until(page, "deepdream.panes[0].state == 'dreaming' && deepdream.panes[0].meta")
        meta = js(page, "deepdream.panes[0].meta")
        assert {name: meta.get(name) for name in ("picture", "start", "size") if name in meta} == expected
        press(page, "dream")
        until(page, "deepdream.panes[0].state != 'dreaming'")


def test_stop_and_go_on(page):
    choose(page, octave_n=2, iter_n=400, seed=3)
    press(page, "dream")
    until(page, "deepdream.panes[0].note.textContent.includes('step 3')")
    press(page, "dream")
    until(page, "deepdream.panes[0].state == 'stopped'")
    assert js(page, "document.getElementById('dream').textContent") == "Go on"
    shown = js(page, "deepdream.panes[0].note.textContent")
    time.sleep(0.5)
    assert js(page, "deepdream.panes[0].note.textContent") == shown
    assert 0 < js(page, "progress.value") < 1
    press(page, "dream")
    until(page, f"deepdream.panes[0].note.textContent != {json.dumps(shown)}")
    press(page, "dream")
    until(page, "deepdream.panes[0].state == 'stopped'")
    choose(page, octave_n=1, iter_n=2)
    press(page, "anew")      # ends the old dream
    until(page, "deepdream.panes[0].state == 'finished'")


def test_endless_zoom(page, nets, picture):
    """The frames are those of Python's zoom, and they go on until it is stopped."""
    choose(page, octave_n=1, iter_n=1, seed=4)
    press(page, "endless")
    page.execute_script("""const {dreamer} = deepdream.panes[0], {on} = dreamer;
        globalThis.frames_ = [];
        dreamer.on = m => { if (m.kind === "frame") frames_.push(Array.from(m.rgba)); on(m); };""")
    until(page, "frames_.length >= 2")
    page.find_element("tag name", "body").send_keys("\ue00c")      # Escape
    until(page, "deepdream.panes[0].state == 'stopped'")
    assert js(page, "document.getElementById('dream').textContent") == "Go on"
    frame, net = pictures.load(picture), Net(nets[0], device="cpu")
    for i, mine in enumerate(js(page, "frames_.slice(0, 2)")):
        frame = deepdream(net, frame, octave_n=1, iter_n=1, end="left", rng=np.random.RandomState([4, i]))
        off = np.abs(np.reshape(mine, (H, W, 4))[..., :3] - np.float32(pictures.to_uint8(frame)))
        assert off.mean() < 0.02 and off.max() <= 1
        frame = zoomed(frame)


def test_a_picture_that_is_too_small_and_numbers_that_are_not_allowed(page):
    choose(page, octave_n=12, layer=2)
    press(page, "dream")
    until(page, "problem.textContent.includes('The smallest of 12 octaves has')")
    choose(page, octave_n=0)
    press(page, "dream")
    assert js(page, "octave_n.matches(':invalid')") and js(page, "deepdream.panes[0].state") == "idle"


def test_a_file_that_is_no_picture(page, tmp_path):
    (tmp_path / "text.png").write_text("not a picture")
    page.find_element("id", "file").send_keys(str(tmp_path / "text.png"))
    until(page, "problem.textContent.includes('text.png: this browser cannot read it as a picture')")
    assert js(page, "deepdream.picture.name") == "a slope.png"


def test_a_large_picture_is_scaled(page, tmp_path):
    Image.new("RGB", (2400, 2400), (90, 120, 30)).save(tmp_path / "large.png")
    page.find_element("id", "file").send_keys(str(tmp_path / "large.png"))
    until(page, "deepdream.picture.name == 'large.png'")
    choose(page, side=1024)
    h, w = js(page, "[deepdream.panes[0].base.h, deepdream.panes[0].base.w]")
    assert h == w and h * w <= 1024 * 768
    assert "scaled from 2400 x 2400" in js(page, "document.querySelector('#status').textContent")


def test_the_camera(page):
    press(page, "camera")
    until(page, "booth.open && video.videoWidth > 0")
    press(page, "shoot")
    until(page, "deepdream.picture.name == 'camera' && !booth.open")
    assert js(page, "video.srcObject") is None


def test_keyboard_and_labels(page):
    from selenium.webdriver import ActionChains, Keys
    unnamed = js(page, """[...document.querySelectorAll("button, input, select, canvas, progress")].filter(e =>
        !(e.ariaLabel || e.textContent.trim() || e.labels?.[0]?.textContent.trim() || e.querySelector("img[alt]")))
        .map(e => e.outerHTML)""")
    assert unnamed == []
    ActionChains(page).send_keys(Keys.TAB).perform()
    assert js(page, "document.activeElement.className") == "skip"
    ActionChains(page).send_keys(Keys.ENTER).perform()
    js(page, "layer.focus()")
    before = js(page, "document.querySelector('#layer-name').textContent")
    ActionChains(page).send_keys(Keys.HOME).perform()
    assert js(page, "document.querySelector('#layer-name').textContent") != before
    assert "conv1" in js(page, "layer.getAttribute('aria-valuetext')")
    choose(page, octave_n=1, iter_n=1)
    js(page, "document.getElementById('dream').focus()")
    ActionChains(page).send_keys(Keys.ENTER).perform()
    until(page, "deepdream.panes[0].state == 'finished'")
    assert js(page, "document.querySelector('#status').textContent") == "The dream is done."
    assert js(page, "deepdream.panes[0].canvas.ariaLabel") == "The picture, as net_a dreams it at conv1"


def test_light_and_dark_and_a_phone(page):
    def ground():
        return js(page, "getComputedStyle(document.body).backgroundColor")

    seen = set()
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme",
                                                                          "value": scheme}]})
        seen.add(ground())
    before = ground()
    press(page, "theme")
    assert len(seen) == 2 and {before, ground()} == seen
    try:
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1,
                                                                    "mobile": True})
        assert js(page, "document.documentElement.scrollWidth") == 390
        page.find_element("css selector", "#nets label:nth-child(2)").click()
        assert js(page, "document.documentElement.scrollWidth") == 390
        assert all(width > 300 for width in js(page, "deepdream.panes.map(pane => pane.canvas.clientWidth)"))
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
