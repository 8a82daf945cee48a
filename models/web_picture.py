"""Make the README's picture of the page of `deepdream web`: the page, in Chromium, while it dreams the fur.

    python models/web_picture.py [--runtime FOLDER]

It needs Chromium, its driver and the package selenium, and takes a minute or two.
"""
import argparse
import io
import shutil
import sys
import tempfile
import time
from pathlib import Path

from PIL import Image

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from deepdream.cli import main as deepdream  # noqa: E402

TARGET, WINDOW, SCALE = HERE / "pictures" / "web.jpg", (1240, 1000), 1      # pixels, and device pixels for each
ENDS = ["inception_3b/output", "inception_4a/output", "inception_4c/output", "inception_4d/output",
        "inception_4e/output"]
LIMIT = 1800      # seconds
# Choose the fur, both nets, and the layer; then the last octave is waited for.
CHOICES = """document.querySelector("#scenes button:nth-child(3)").click();
             document.querySelector("#nets label:nth-child(2) input").click();
             layer.value = 3; layer.dispatchEvent(new Event("input")); seed.value = 1;
             side.value = 384; side.dispatchEvent(new Event("change"));"""


def make(target: Path = TARGET, runtime: str | None = None) -> None:
    """Write the picture.

    target: the JPEG file.
    runtime: a folder with onnxruntime-web, as for `deepdream web --runtime`.
    """
    with tempfile.TemporaryDirectory() as folder:
        words = ["web", "-o", folder, "--ends", *ENDS, *(["--runtime", runtime] if runtime else [])]
        if deepdream(words):
            raise SystemExit(2)
        shot = _screenshot(Path(folder, "index.html").as_uri())
    Image.open(io.BytesIO(shot)).convert("RGB").save(target, quality=87, optimize=True, progressive=True)


def _screenshot(address):
    """Return a PNG of the page, near the end of its dreams."""
    from selenium import webdriver
    options = webdriver.ChromeOptions()
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--hide-scrollbars",
                     f"--window-size={WINDOW[0]},{WINDOW[1] + 150}"):
        options.add_argument(argument)
    options.binary_location = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": WINDOW[0], "height": WINDOW[1],
                                                                      "deviceScaleFactor": SCALE, "mobile": False})
        driver.get(address)
        _until(driver, "globalThis.deepdream?.panes[0].base")
        driver.execute_script(CHOICES)
        _until(driver, "deepdream.picture.name === 'fur' && deepdream.panes.length === 2")
        driver.execute_script("document.getElementById('dream').click()")
        _until(driver, "deepdream.panes.every(pane => pane.state === 'finished' || "
                       "/octave 4, step (9|10)/.test(pane.note.textContent))")
        return driver.get_screenshot_as_png()
    finally:
        driver.quit()


def _until(driver, condition):
    end = time.monotonic() + LIMIT
    while not driver.execute_script(f"return {condition}"):
        if time.monotonic() > end:
            raise SystemExit(f"the page did not get to: {condition}")
        time.sleep(0.2)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--runtime", metavar="FOLDER", help="a folder with the package onnxruntime-web")
    parser.add_argument("-o", "--output", type=Path, default=TARGET, help="the JPEG file (default: %(default)s)")
    words = parser.parse_args()
    make(words.output, words.runtime)
