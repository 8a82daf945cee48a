"""The page's JavaScript computes what Python computes: jitter, zoom, octaves, pixels, PNG. Run by Node or Chromium."""
import base64
import io
import json
import re
import shutil

import browser
import children
import numpy as np
import pytest
import scipy.ndimage as nd
import toys
from PIL import Image

from deepdream import Net, pictures
from deepdream.dream import octave_sizes
from deepdream.net.pixels import deprocess, preprocess
from deepdream.options import Settings
from deepdream.web.pack import SCRIPTS
from deepdream.web.scripts import joined, modules
from deepdream.zoom import zoomed

HELPERS = """
const array = (text, kind = Float32Array) => new kind(Uint8Array.from(atob(text), c => c.charCodeAt(0)).buffer);
const picture = (text, channels, h, w) => ({data: array(text), channels, h, w});
const bytes = numbers => new Uint8Array(numbers.buffer ?? numbers);
const text = numbers => btoa(Array.from(bytes(numbers), b => String.fromCharCode(b)).join(""));
"""


@pytest.fixture(scope="module")
def js(tmp_path_factory):
    """Return a function (module, expression) -> the value of a JavaScript expression that uses what the module has."""
    if node := shutil.which("node"):
        place = tmp_path_factory.mktemp("scripts")

        def run(module, expression):
            file = place / "run.mjs"
            file.write_text(joined(SCRIPTS, module) + HELPERS + f"console.log(JSON.stringify(await ({expression})));")
            result = children.program(node, file)
            assert result.returncode == 0, result.stderr
            return json.loads(result.stdout)
        yield run
        return
    driver = browser.chromium()

    def run(module, expression):
        script = f"(async () => {{{joined(SCRIPTS, module)}{HELPERS} return JSON.stringify(await ({expression}))}})()"
        return json.loads(driver.execute_async_script(
            f"const done = arguments[0]; {script}.then(done, error => done(JSON.stringify(String(error))));"))
    yield run
    driver.quit()


def sent(array):
    """Write an array (C, h, w) as an argument of `picture`."""
    return f"picture('{base64.b64encode(np.float32(array).tobytes()).decode()}', {', '.join(map(str, array.shape))})"


def received(text, *shape, dtype=np.float32):
    return np.frombuffer(base64.b64decode(text), dtype).reshape(shape)


@pytest.mark.parametrize("seed", [0, 7, 2 ** 32 - 1, [7, 0], [2 ** 32 - 1, 3], list(range(700))],
                         ids=lambda s: str(s)[:20])
def test_jitter(js, seed):
    ranges = [(-32, 33), (-1, 2), (0, 1), (-512, 513), (0, 2 ** 31)] * 300
    made = js("jitter.js", f"(random => {json.dumps(ranges)}.map(range => random.randint(...range)))"
                           f"(new RandomState({seed}))")
    random = np.random.RandomState(seed)
    assert made == [int(random.randint(a, b)) for a, b in ranges]


@pytest.mark.parametrize("h, w, to_h, to_w", [(7, 9, 10, 13), (29, 51, 41, 71), (64, 64, 64, 64), (41, 71, 29, 51),
                                             (1, 5, 2, 1), (100, 3, 140, 4), (2, 2, 1, 300)])
def test_zoom_is_scipys(js, h, w, to_h, to_w):
    array = 50 * toys.noise(3, h, w)
    expected = nd.zoom(array, (1, 1.0 * to_h / h, 1.0 * to_w / w), order=1)
    assert expected.shape == (3, to_h, to_w)
    made = received(js("zoom.js", f"text(zoom({sent(array)}, {to_h}, {to_w}).data)"), *expected.shape)
    assert np.abs(made - expected).max() < 2e-5


def test_zoom_at_every_size(js):
    """The last position is computed as SciPy computes it: where rounding puts it outside, both have a zero there."""
    pairs = [(a, b) for a in range(2, 40) for b in range(2, 60, 3)]
    made = js("zoom.js", f"{json.dumps(pairs)}.map(([a, b]) => zoom({{data: new Float32Array(a).fill(1), channels: 1, "
                         "h: 1, w: a}, 1, b).data.at(-1))")
    for (a, b), value in zip(pairs, made):
        assert value == nd.zoom(np.ones((1, 1, a), np.float32), (1, 1, b / a), order=1)[0, 0, -1], (a, b)


@pytest.mark.parametrize("scale", [0.05, 0.01, 0.3])
def test_the_zoom_between_frames(js, scale):
    frame = 255 * np.random.default_rng(3).random((31, 45, 3), np.float32)
    expected = zoomed(frame, scale)
    made = received(js("zoom.js", f"text(zoomed({sent(frame.transpose(2, 0, 1))}, {scale}).data)"), 3, 31, 45)
    assert np.abs(made.transpose(1, 2, 0) - expected).max() < 1e-4


def test_octaves(js):
    sizes = [(h, w, n, scale) for h, w in ((575, 1024), (90, 160), (31, 1), (241, 333)) for n in (1, 4, 9)
             for scale in (1.4, 1.1, 2)]
    made = js("octaves.js", f"{json.dumps(sizes)}.map(args => octaveSizes(...args))")
    assert made == [[list(size) for size in octave_sizes(*args)] for args in sizes]
    array = 50 * toys.noise(3, 41, 60)
    made = js("octaves.js", f"octaves({sent(array)}, 4, 1.4).map(o => text(o.data))")
    expected = [array]
    for _ in range(3):
        expected.append(nd.zoom(expected[-1], (1, 1 / 1.4, 1 / 1.4), order=1))
    for text, octave in zip(made, expected[::-1], strict=True):
        assert np.abs(received(text, *octave.shape) - octave).max() < 2e-5


@pytest.mark.parametrize("swap", [(2, 1, 0), (0, 1, 2), (1, 2, 0)])
def test_pixels(js, toy, swap):
    net = Net(str(toy), mean=(104, 116.3, 122), channel_swap=swap, device="cpu")
    image = np.float32(np.random.default_rng(1).integers(0, 256, (9, 13, 3)))
    plain = json.dumps({"mean": [104, 116.3, 122], "swap": swap})
    made = received(js("pixels.js", f"text(preprocess({plain}, {sent(image.transpose(2, 0, 1))}).data)"), 3, 9, 13)
    assert np.array_equal(made, preprocess(net, image))
    data = 90 * toys.noise(3, 9, 13)
    made = received(js("pixels.js", f"text(deprocess({plain}, {sent(data)}).data)"), 3, 9, 13)
    assert np.array_equal(made.transpose(1, 2, 0), deprocess(net, data))


def test_pixels_of_a_canvas(js):
    """As the notebook did: values are clipped and truncated, not rounded."""
    image = np.float32(np.random.default_rng(1).uniform(-20, 275, (3, 9, 13)))
    made = received(js("pixels.js", f"text(toRgba({sent(image)}))"), 9, 13, 4, dtype=np.uint8)
    assert np.array_equal(made[..., :3], pictures.to_uint8(image.transpose(1, 2, 0))) and (made[..., 3] == 255).all()


def test_png_files_hold_pixels_and_settings(js, tmp_path):
    rgba = np.random.default_rng(2).integers(0, 256, (11, 17, 4), np.uint8)
    settings = {**Settings(end=("inception_4c/output",), seed=3).to_metadata(), "picture": "Überraschung ☃.jpg"}
    made = js("png.js", f"png(array('{base64.b64encode(rgba.tobytes()).decode()}', Uint8Array), 11, 17, "
                        f"{json.dumps(settings)}).then(blob => blob.arrayBuffer()).then(text)")
    path = tmp_path / "a.png"
    path.write_bytes(base64.b64decode(made))
    image = Image.open(io.BytesIO(path.read_bytes()))
    image.load()      # checks the checksums
    assert np.array_equal(np.asarray(image), rgba[..., :3])
    assert pictures.settings(path) == settings
    assert Settings.from_metadata(pictures.settings(path)).seed == 3


def test_how_the_page_reads_sizes(js):
    cases = {"[300, 400, 640, 786432]": [300, 400], "[3000, 4000, 1024, 786432]": [768, 1024],
             "[4000, 4000, 1024, 786432]": [886, 886], "[1, 9000, 512, 786432]": [1, 512]}
    for args, expected in cases.items():
        assert js("picture.js", f"fitted(...{args})") == expected


def test_a_step_shifts_the_picture_as_python_does(js):
    """A false graph that returns the shifted picture: rows and columns are those of NumPy's roll, and it is undone."""
    data, moves = toys.noise(3, 5, 7), [(2, -3), (-40, 9), (0, 0)]
    script = """(async () => {
      class Tensor { constructor(type, data, dims) { Object.assign(this, {type, data, dims}); }
                     async getData() { return this.data; } }
      const seen = [], session = {async run({picture, rows, columns}) {
        const [, c, h, w] = picture.dims, out = new Float32Array(c * h * w);
        for (let k = 0; k < c; k++) for (let y = 0; y < h; y++) for (let x = 0; x < w; x++)
          out[(k * h + y) * w + x] = picture.data[(k * h + Number(rows.data[y])) * w + Number(columns.data[x])];
        seen.push(text(out));
        return {next_picture: new Tensor("float32", out), objective: new Tensor("float32", [1]),
                mean_abs: new Tensor("float32", [2])};
      }};
      const stepper = new Stepper({Tensor}, session, DATA);
      for (const [x, y] of MOVES) await stepper.step(x, y, 1.5);
      return [seen, text(stepper.picture().data)];
    })()""".replace("DATA", sent(data)).replace("MOVES", json.dumps(moves))
    seen, back = js("step.js", script)
    for text, (ox, oy) in zip(seen, moves):
        assert np.array_equal(received(text, 3, 5, 7), np.roll(np.roll(data, ox, -1), oy, -2))
    assert np.array_equal(received(back, 3, 5, 7), data)


# ---- joining

@pytest.mark.parametrize("entry", ["page.js", "worker.js"])
def test_joined_scripts_declare_each_name_once_and_import_nothing(entry):
    text = joined(SCRIPTS, entry)
    assert not re.search(r"^(import|export)\b", text, re.MULTILINE) and "</script" not in text.lower()
    assert modules(SCRIPTS, entry)[-1] == entry


def test_scripts_that_cannot_be_joined(tmp_path):
    (tmp_path / "a.js").write_text('import {b} from "./b.js";\nconst twice = 1;\n')
    (tmp_path / "b.js").write_text("export const b = 1;\nfunction twice() {}\n")
    with pytest.raises(ValueError, match="a.js: declares twice, which b.js declares, too"):
        joined(tmp_path, "a.js")
    (tmp_path / "b.js").write_text("export const [b] = [1], twice = 2;\n")
    with pytest.raises(ValueError, match="declares twice"):
        joined(tmp_path, "a.js")
    (tmp_path / "b.js").write_text("export default 3;\n")
    with pytest.raises(ValueError, match="b.js: cannot be joined: export default"):
        joined(tmp_path, "b.js")


def test_every_script_is_used():
    assert {path.name for path in SCRIPTS.iterdir()} == {*modules(SCRIPTS, "page.js"), *modules(SCRIPTS, "worker.js")}


# ---- WebGPU, only if its first step is the same

CHOICES = {
    "the same": ("({data: Float32Array.of(1, 2.01, 3)})", "webgpu", ""),
    "another step": ("({data: Float32Array.of(1, 2.5, 3)})", "wasm", "its first step differs from the processor's by "
                     "0.17 levels"),
    "not a number": ("({data: Float32Array.of(1, NaN, 3)})", "wasm", "its first step differs from the processor's by "
                     "NaN levels"),
    "a failure": ("Promise.reject(new Error('no adapter'))", "wasm", "no adapter"),
}


@pytest.mark.parametrize("name", CHOICES)
def test_the_graphics_processor_is_kept_only_if_its_first_step_is_the_same(js, name):
    step, provider, reason = CHOICES[name]
    made = js("backend.js", "chosenProvider(provider => provider === 'wasm' ? {data: Float32Array.of(1, 2, 3)} : "
                            f"{step})")
    assert made == {"provider": provider, "reason": reason}


def test_the_comparison_runs_one_step_in_a_small_octave(js):
    made = js("backend.js", "comparison(300, 480, {octave_n: 4, octave_scale: 1.4, iter_n: 10, seed: 3}, [20, 20])")
    assert made["size"] == [109, 175] and made["settings"] == {"octave_n": 1, "octave_scale": 1.4, "iter_n": 1,
                                                               "seed": 3}
    made = js("backend.js", "comparison(300, 480, {octave_n: 1, octave_scale: 1.4, iter_n: 10}, [20, 20])")
    assert made["size"] == [300, 480]
