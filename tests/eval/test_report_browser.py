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
    assert len(page.find_elements("css selector", "script")) == 1  # our own
    assert page.find_elements("css selector", "script[src], img[onerror]") == []


def test_a_script_that_is_not_ours_does_not_run(page):
    page.execute_script(
        "const script = document.createElement('script'); script.textContent = 'document.title = \"owned\"';"
        "document.body.append(script); script.remove();"
        "const image = document.createElement('img'); image.setAttribute('onerror', 'document.title = \"owned\"');"
        "image.src = 'data:,'; document.body.append(image); image.remove();"
    )
    assert "owned" not in page.title
    messages = [entry["message"] for entry in page.get_log("browser")]
    assert any("Content Security Policy" in message for message in messages)


def test_words_differ_by_colour_and_by_their_line(page):
    looks = page.execute_script(
        """return ["up", "down", "even"].map(kind => getComputedStyle(document.querySelector(`dl mark.${kind}`)))
        .map(style => [style.backgroundColor, style.textDecorationLine, style.textDecorationStyle])"""
    )
    assert [look[1:] for look in looks] == [["underline", "solid"], ["underline", "wavy"], ["none", "solid"]]
    assert len({look[0] for look in looks}) == 3
    details = page.find_element("css selector", "details.values")
    assert not details.find_element("tag name", "li").is_displayed()
    details.find_element("tag name", "summary").click()
    assert details.find_element("tag name", "li").is_displayed()


def test_pictures_are_loaded(page):
    widths = page.execute_script("return [...document.images].map(i => i.complete ? i.naturalWidth : 0)")
    assert len(widths) >= 5 * 5
    assert min(widths) > 0
    assert max(widths) <= 512
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


SHOWN = """return [...document.querySelectorAll(".captions tbody tr")].filter(row => !row.hidden)
    .map(row => row.cells[arguments[0]].dataset.sort ?? row.cells[arguments[0]].textContent.trim())"""


def heading(page, text):
    (button,) = [b for b in page.find_elements("css selector", ".captions thead button") if text in b.text]
    page.execute_script("arguments[0].click()", button)
    return button.find_element("xpath", "..").get_attribute("aria-sort")


def test_the_table_of_captions_sorts(page):
    first = page.execute_script(SHOWN, 0)
    assert heading(page, "Facts stated") == "ascending"
    values = [float(value) for value in page.execute_script(SHOWN, 5)]
    assert values == sorted(values) != values[::-1]
    assert heading(page, "Facts stated") == "descending"
    assert [float(value) for value in page.execute_script(SHOWN, 5)] == sorted(values, reverse=True)
    assert heading(page, "After") == "ascending"
    texts = page.execute_script(SHOWN, 2)
    assert len(texts) == len(first) == 21
    assert heading(page, "Image") == "ascending"
    assert page.execute_script(SHOWN, 0) == sorted(first)


def test_the_table_of_captions_filters(page):
    def choose(name, value):
        page.execute_script(
            "const field = document.querySelector(`.controls [name=${arguments[0]}]`); field.value = arguments[1];"
            "field.dispatchEvent(new Event('input'))",
            name,
            value,
        )
        return len(page.execute_script(SHOWN, 0))

    assert page.find_element("css selector", ".controls").is_displayed()
    assert choose("split", "prior_breaking") == 7
    assert choose("split", "") == 21
    better, worse = choose("change", "better"), choose("change", "worse")
    assert 0 < better + worse <= 21
    choose("change", "")
    assert choose("words", "SCRIPT document") == 1  # the hostile caption is a text like any other
    assert page.find_element("css selector", ".controls output").text == "1 of 21"
    assert choose("words", "") == 21


def test_an_image_can_be_enlarged_by_mouse_and_keyboard(page):
    from selenium.webdriver.common.keys import Keys

    image = page.find_element("css selector", "main img.main")
    page.execute_script("arguments[0].click()", image)
    dialog = page.find_element("css selector", "dialog.zoom")
    large = dialog.find_element("tag name", "img")
    assert dialog.is_displayed()
    assert large.size["width"] > 2 * image.size["width"]
    assert large.get_attribute("src") == image.get_attribute("src")
    dialog.click()
    assert page.find_elements("css selector", "dialog") == []
    image.send_keys(Keys.ENTER)
    assert page.find_element("css selector", "dialog.zoom").is_displayed()
    page.switch_to.active_element.send_keys(Keys.ESCAPE)
    assert page.find_elements("css selector", "dialog") == []


def test_labels_of_a_chart_do_not_overlap_on_a_phone(page):
    page.execute_cdp_cmd(
        "Emulation.setDeviceMetricsOverride", {"width": 390, "height": 900, "deviceScaleFactor": 1, "mobile": True}
    )
    boxes = page.execute_script(
        """return [...document.querySelectorAll(".plot")].map(plot =>
        [...plot.querySelectorAll(".rulelabel")].map(label => label.getBoundingClientRect().toJSON()))"""
    )
    assert max(len(labels) for labels in boxes) >= 2
    for labels in boxes:
        for i, one in enumerate(labels):
            for two in labels[:i]:
                apart = (
                    one["left"] >= two["right"]
                    or two["left"] >= one["right"]
                    or one["bottom"] <= two["top"]
                    or two["bottom"] <= one["top"]
                )
                assert apart, (one, two)


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
