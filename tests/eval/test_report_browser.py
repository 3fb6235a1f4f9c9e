"""The report in a real browser: no console message, no request, visible pictures and plots, and a harmless hostile caption."""

import json
import shutil

import pytest
from run_folder import HOSTILE, write_run
from tiny import lab_samples

from rlcap.eval.report.page import write_report

BROWSER = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = pytest.mark.skipif(not (BROWSER and DRIVER), reason="needs chromium and chromedriver")


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    webdriver = pytest.importorskip("selenium.webdriver")
    folder = tmp_path_factory.mktemp("browser")
    report = write_report(write_run(folder / "run", lab_samples(folder, 21), hostile=HOSTILE))
    options = webdriver.ChromeOptions()
    options.binary_location = BROWSER
    for flag in (
        "headless=new", "no-sandbox", "disable-gpu", "disable-dev-shm-usage", "no-first-run", "disable-sync",
        "disable-background-networking", "disable-component-update", "window-size=1000,1400", f"user-data-dir={folder / 'profile'}",
    ):  # fmt: skip
        options.add_argument(f"--{flag}")
    options.set_capability("goog:loggingPrefs", {"browser": "ALL", "performance": "ALL"})
    driver = webdriver.Chrome(options=options, service=webdriver.ChromeService(DRIVER))
    driver.get(report.as_uri())
    yield driver
    driver.quit()


def test_page_opens_without_requests_or_console_messages(page):
    events = [json.loads(entry["message"])["message"] for entry in page.get_log("performance")]
    # the start page of the browser also sends requests
    own_requests = [
        event["params"]
        for event in events
        if event["method"] == "Network.requestWillBeSent" and event["params"]["documentURL"] == page.current_url
    ]
    requested = {request["request"]["url"] for request in own_requests}
    assert {url for url in requested if not url.startswith("data:")} == {page.current_url}
    assert page.get_log("browser") == []
    assert page.title == "run · captioner report"


def test_the_hostile_caption_is_shown_as_text(page):
    assert "<script>document.title" in page.find_element("css selector", ".said").text
    assert "owned" not in page.title
    assert page.find_elements("css selector", "script, img[onerror]") == []


def test_pictures_are_loaded(page):
    widths = page.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) >= 5 * 5
    assert min(widths) > 0
    assert max(widths) <= 256
    assert all(page.execute_script("return [...document.images].map(i => i.alt)"))


def test_tables_and_plots_are_visible(page):
    table = page.find_element("css selector", "table")
    assert table.is_displayed()
    assert "Facts stated" in table.text
    plots = page.find_elements("css selector", ".plot svg")
    assert len(plots) >= 4
    assert all(plot.is_displayed() and plot.size["height"] > 100 for plot in plots)
    lengths = page.execute_script(
        "return [...document.querySelectorAll('.pair .plot .line')].map(p => p.getTotalLength())"
    )
    assert len(lengths) >= 6
    assert min(lengths) > 500


@pytest.mark.parametrize("width", [390, 1000])
def test_nothing_is_wider_than_the_window(page, width):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride",
        {"width": width, "height": 900, "deviceScaleFactor": 1, "mobile": width < 500},
    )
    assert page.execute_script("return document.documentElement.scrollWidth") <= width


def test_dark_mode_is_dark(page):
    background = "return getComputedStyle(document.body).backgroundColor"
    shades = []
    for scheme in ("light", "dark"):
        page.execute_cdp_cmd(
            "Emulation.setEmulatedMedia", {"features": [{"name": "prefers-color-scheme", "value": scheme}]}
        )
        shades.append(page.execute_script(background))
    assert shades == ["rgb(251, 250, 248)", "rgb(20, 23, 27)"]
