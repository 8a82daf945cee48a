"""Headless Chromium for tests, through Selenium, and scripts that run in it."""
import shutil

import pytest

BROWSERS = ("chromium", "chromium-browser", "google-chrome", "chrome")
DRIVERS = ("chromedriver", "chromium.chromedriver")


def chromium(*arguments):
    """Start headless Chromium, which can reach no network but this machine's. Skip the test if it is missing."""
    webdriver = pytest.importorskip("selenium.webdriver", reason="needs the package selenium")
    browser, path = (next(filter(None, map(shutil.which, names)), None) for names in (BROWSERS, DRIVERS))
    if not browser or not path:
        pytest.skip("needs Chromium and its driver (Debian: apt-get install chromium chromium-driver)")
    options = webdriver.ChromeOptions()
    options.binary_location = browser
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1280,900",
                     "--host-resolver-rules=MAP * ~NOTFOUND , EXCLUDE 127.0.0.1", "--disable-background-networking",
                     *arguments):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(path))
    driver.set_script_timeout(240)
    return driver
