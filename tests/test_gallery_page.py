"""The page of a gallery in a real browser, opened from disk and without a network."""
import json

import browser
import numpy as np
import pytest
import toys
from PIL import Image

from deepdream.cli import main

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def driver():
    driver = browser.chromium()
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Two nets, three ends, two octave numbers; at twelve octaves the picture is too small for two of the ends."""
    place = tmp_path_factory.mktemp("page")
    nets = [str(toys.write_net(place / name, toys.TOY, lambda layer, i, shape: toys.formula(name + layer, i, shape)))
            for name in ("net_a", "net_b")]
    y, x = np.mgrid[:60, :80]
    Image.fromarray(np.uint8(np.dstack([3 * x, 4 * y, 127 + 100 * np.sin(x * y / 90)]))).save(place / "a slope.png")
    assert main(["gallery", str(place / "a slope.png"), "-o", str(place / "out"), "--models", *nets, "--ends", "conv1",
                 "left", "both", "--octave-n", "1", "12", "--iter-n", "1", "--device", "cpu", "--threads", "1"]) == 0
    return place / "out"


@pytest.fixture
def page(driver, folder):
    """The page, newly opened. At the end the browser's log must be empty."""
    driver.get("about:blank")
    driver.get_log("browser")
    driver.get((folder / "index.html").as_uri())
    driver.execute_script("sessionStorage.clear(); location.reload()")
    yield driver
    assert driver.get_log("browser") == []


def js(driver, code, *arguments):
    return driver.execute_script(f"return {code}", *arguments)


def edge(driver):
    """Return the position of the slider, in percent of the pictures' width."""
    value, shown = js(driver, "[wipe.value, getComputedStyle(stage.querySelector('.over')).clipPath]")
    assert float(js(driver, "stage.style.getPropertyValue('--x')").rstrip("%")) == pytest.approx(float(value), abs=1)
    assert "inset" in shown
    return float(value)


def visible(driver, what):
    return js(driver, "all(arguments[0]).filter(e => e.checkVisibility()).length", what)


def test_every_dream_is_shown_and_has_an_alt_text(page, folder):
    dreams = json.loads((folder / "gallery.json").read_text())["dreams"]
    done = [d for d in dreams if d["status"] == "done"]
    assert len(dreams) == 12 and 0 < len(done) < 12
    loaded = page.execute_async_script("""
        const done = arguments[arguments.length - 1];
        Promise.all(all("img:not(.over):not(.under)").map(async img => {
            img.loading = "eager";
            await img.decode();
            return [img.alt, img.naturalWidth];
        })).then(done, error => done(String(error)));""")
    assert len(loaded) == len(done) + 1 and all(alt and width == 80 for alt, width in loaded)
    assert loaded[0][0] == "a slope.png, the source picture"
    assert "a slope.png as net_b dreams it at both, 1 octave" in dict(loaded)
    failed = js(page, "all('.failed').map(e => e.innerText)")
    assert len(failed) == 12 - len(done) and all("too small for" in text for text in failed)
    assert js(page, "all('h3').map(e => e.innerText)") == ["conv1", "left", "both"]      # from low to high


def test_the_slider_by_mouse(page):
    from selenium.webdriver import ActionChains
    js(page, "document.querySelector('.open').scrollIntoView({block: 'center'})")
    ActionChains(page).click(page.find_element("css selector", ".open")).perform()
    assert js(page, "dialog.open") and edge(page) == 50
    names = js(page, "[stage.querySelector('.over').alt, stage.querySelector('.under').alt]")
    assert "net_a" in names[0] and "net_b" in names[1]
    stage = page.find_element("id", "stage")
    width = stage.size["width"]
    for part, at in ((.3, 80), (-.3, 20)):      # moving after the release has no effect
        ActionChains(page).move_to_element(stage).click_and_hold().move_by_offset(int(width * part), 0).release() \
            .move_by_offset(40, 0).perform()
        assert edge(page) == pytest.approx(at, abs=1)
    page.find_element("id", "close").click()
    assert not js(page, "dialog.open")


def test_the_slider_by_touch(page):
    from selenium.webdriver.common.actions.action_builder import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput
    js(page, "document.querySelector('.open').click()")
    box = js(page, "stage.getBoundingClientRect().toJSON()")
    finger = ActionBuilder(page, mouse=PointerInput("touch", "finger"))
    y = int(box["top"] + box["height"] / 2)
    finger.pointer_action.move_to_location(int(box["left"] + box["width"] * .5), y).pointer_down() \
        .move_to_location(int(box["left"] + box["width"] * .25), y).pointer_up()
    finger.perform()
    assert edge(page) == pytest.approx(25, abs=1.5)


def test_everything_by_keyboard(page):
    from selenium.webdriver import ActionChains, Keys

    def press(*keys):
        ActionChains(page).send_keys(*keys).perform()

    press(Keys.TAB)
    assert js(page, "document.activeElement.className") == "skip"
    press(Keys.ENTER, Keys.TAB)
    assert js(page, "document.activeElement.matches('.open')")
    press(Keys.ENTER)
    assert js(page, "dialog.open && document.activeElement === wipe")
    press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ARROW_RIGHT)
    assert edge(page) == 53
    assert js(page, "wipe.ariaValueText || wipe.getAttribute('aria-valuetext')") == "53 percent net_a"
    press(Keys.HOME)
    assert edge(page) == 0
    title = js(page, "$('viewer-title').textContent")
    press(Keys.PAGE_DOWN)
    assert js(page, "$('viewer-title').textContent") != title
    press(Keys.ESCAPE)
    assert not js(page, "dialog.open") and js(page, "document.activeElement.matches('.open')")


def covered(driver):
    """Return how much of each dream the source covers, in percent."""
    return js(driver, """all('.open').map(a => 100 - parseFloat(/calc\\(([\\d.]+)%|([\\d.]+)%/.exec(
        getComputedStyle(a, '::after').clipPath).slice(1).find(x => x !== undefined)))""")


def test_the_source_over_all_dreams_by_keyboard(page, folder):
    from selenium.webdriver import ActionChains, Keys
    assert all(c == 0 for c in covered(page))
    slider = page.find_element("id", "peek")
    slider.click()      # and in its middle
    js(page, "peek.focus()")
    ActionChains(page).send_keys(Keys.HOME, *[Keys.ARROW_RIGHT] * 4).perform()
    assert js(page, "peek.value") == "4" and all(c == pytest.approx(4) for c in covered(page))
    assert js(page, "peek.getAttribute('aria-valuetext')") == "4 percent source"
    ActionChains(page).send_keys(Keys.END).perform()
    assert all(c == pytest.approx(100) for c in covered(page))
    image = js(page, "getComputedStyle(document.querySelector('.open'), '::after').backgroundImage")
    assert image == f'url("{(folder / "source.jpg").as_uri()}")'
    ActionChains(page).send_keys(Keys.HOME).perform()
    assert all(c == 0 for c in covered(page)) and visible(page, ".cells figure") == 12


def test_the_source_over_one_dream_by_mouse(page):
    from selenium.webdriver import ActionChains
    first = page.find_element("css selector", ".open")
    js(page, "document.querySelector('.open').scrollIntoView({block: 'center'})")
    ActionChains(page).move_to_element(first).perform()
    assert covered(page)[0] == pytest.approx(50, abs=1) and all(c == 0 for c in covered(page)[1:])
    ActionChains(page).move_to_element_with_offset(first, first.size["width"] // 4, 0).perform()
    assert covered(page)[0] == pytest.approx(75, abs=1)
    ActionChains(page).move_to_element(page.find_element("css selector", "footer")).perform()
    assert all(c == 0 for c in covered(page))


def test_a_dream_against_its_source(page):
    js(page, "document.querySelector('.open').click()")
    assert js(page, "[...$('left').options].map(o => o.text)") == ["source", "net_a", "net_b"]
    js(page, "($('left').value = 0, $('left').dispatchEvent(new Event('change')))")
    assert js(page, "stage.querySelector('.over').alt") == "a slope.png, the source picture"
    assert js(page, "wipe.getAttribute('aria-label')") == "Wipe between source and net_b"


def test_filters(page):
    from selenium.webdriver import ActionChains

    def toggle(name, value):
        chip = page.find_element("css selector", f"input[name={name}][value='{value}'] + span")
        ActionChains(page).click(chip).perform()

    every = visible(page, ".cells figure")
    assert every == 12
    toggle("model", "net_b")
    assert visible(page, "figure[data-model=net_b]") == 0 and visible(page, "figure[data-model=net_a]") == 6
    toggle("octaves", "12")
    assert visible(page, ".cells figure") == 3
    assert "3 dreams" in page.find_element("id", "count").get_attribute("textContent")
    page.find_element("name", "layer").send_keys("BOTH")
    assert visible(page, ".cells figure") == visible(page, ".row") == 1
    page.refresh()      # as users do while a gallery is being made
    assert visible(page, ".cells figure") == 1
    page.find_element("name", "layer").send_keys("x")
    assert visible(page, ".row") == 0 and visible(page, "#nothing") == 1
    page.find_element("name", "layer").clear()
    page.find_element("name", "layer").send_keys(" ")
    toggle("octaves", "12")
    toggle("model", "net_b")
    levels = js(page, "all('.level').map(l => l.dataset.level)")
    assert visible(page, ".cells figure") == every and len(levels) > 1
    toggle("level", levels[0])
    assert visible(page, f".level[data-level={levels[0]}]") == 0 and 0 < visible(page, ".cells figure") < every


def test_light_and_dark_and_a_phone(page):
    def ground():
        return js(page, "getComputedStyle(document.body).backgroundColor")

    seen = set()
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme",
                                                                          "value": scheme}]})
        seen.add(ground())
    assert len(seen) == 2
    before = ground()
    page.find_element("id", "theme").click()
    assert {before, ground()} == seen
    try:
        page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", {"width": 390, "height": 844, "deviceScaleFactor": 1,
                                                                    "mobile": True})
        assert js(page, "document.documentElement.scrollWidth") == 390
        js(page, "document.querySelector('.open').click()")
        box = js(page, "stage.getBoundingClientRect().toJSON()")
        assert 0 <= box["left"] and box["right"] <= 390 and box["width"] > 300
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
