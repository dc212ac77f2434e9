"""The page at / in a real browser: drop a photo, wait, slide, download."""

from __future__ import annotations

import io
import json
import time
from base64 import b64encode

import numpy as np
import pytest
from PIL import Image
from service import Inverting, eventually, running

from m2a.serving.settings import Limits

RED, CYAN = (200, 40, 40), (55, 215, 215)
"""A photo's colour, and that of its left half after."""

BLEND = 40
"""Levels by which WebP and the browser's scaling may miss a colour."""

DROP = """
const [name, type, content] = arguments;
const bytes = Uint8Array.from(atob(content), (letter) => letter.charCodeAt(0));
const data = new DataTransfer();
if (name) data.items.add(new File([bytes], name, { type }));
const place = document.elementFromPoint(innerWidth / 2, innerHeight / 2);
for (const kind of ["dragenter", "dragover", "drop"]) {
  place.dispatchEvent(new DragEvent(kind, { dataTransfer: data, bubbles: true, cancelable: true }));
}
"""


@pytest.fixture(scope="module")
def served():
    """The model, and a client of the service that has it."""
    inverting = Inverting()
    limits = Limits(body_bytes=300_000)
    with running(inverting, limits=limits) as client:
        yield inverting, client


@pytest.fixture
def page(browser, served, tmp_path):
    """The page in the browser, whose logs begin with it and whose downloads go to `tmp_path`."""
    return opened(browser, served[1], tmp_path)


def opened(browser, client, folder):
    browser.get("about:blank")
    browser.get_log("browser")
    browser.get_log("performance")
    allowed = {"behavior": "allow", "downloadPath": str(folder)}
    browser.execute_cdp_cmd("Browser.setDownloadBehavior", allowed)
    browser.get(str(client.base_url))
    return browser


def photo(kind="PNG", size=(300, 200)) -> bytes:
    stream = io.BytesIO()
    Image.new("RGB", size, RED).save(stream, kind)
    return stream.getvalue()


def drop(page, name="street.png", media_type="image/png", content=None) -> None:
    data = photo() if content is None else content
    page.execute_script(DROP, name, media_type, b64encode(data).decode())


def find(page, selector):
    return page.find_element("css selector", selector)


def shows(page, state) -> bool:
    return find(page, f"#{state}").is_displayed()


def wait_for(page, state) -> None:
    eventually(lambda: shows(page, state))


def stage(page) -> np.ndarray:
    """[H, W, 3], the photo as it is shown."""
    with Image.open(io.BytesIO(find(page, ".stage").screenshot_as_png)) as picture:
        return np.asarray(picture.convert("RGB")).astype(int)


def like(pixels, colour) -> np.ndarray:
    return (np.abs(pixels - colour) <= BLEND).all(axis=-1)


def divided_at(page) -> float:
    """The share of the stage's width up to which the left half is as before."""
    row = stage(page)
    row = row[row.shape[0] // 4]  # above the knob
    restored = np.nonzero(like(row, CYAN))[0]
    return restored.min() / len(row) if restored.size else 0.5


def requested(page) -> set[str]:
    """The addresses that the page asked for since it was opened."""
    messages = (json.loads(entry["message"])["message"] for entry in page.get_log("performance"))
    return {
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    }


def complaints(page) -> list[str]:
    """What the browser has to say of the page, but for its recommendations."""
    return [entry["message"] for entry in page.get_log("browser") if entry["level"] != "DEBUG"]


def test_drop_wait_slide_download(page, served, tmp_path):
    from selenium.webdriver.common.keys import Keys

    inverting, client = served
    inverting.go_on.clear()
    drop(page)
    wait_for(page, "progress")
    eventually(lambda: find(page, "#phase").text == "Deblurring")
    assert find(page, "#sending").text == "street.png"
    inverting.go_on.set()
    wait_for(page, "result")
    assert find(page, "h1").text == "street.png"
    assert find(page, ".lede").text == "50.0 % of the pixels restored, all others as they were."
    slider = find(page, "[role=slider]")
    for key, expected in (("HOME", 0), ("PAGE_UP", 0.1), ("ARROW_RIGHT", 0.12), ("END", 0.5)):
        slider.send_keys(getattr(Keys, key))
        # Half the divider's width, of some 700 pixels, hides what begins below it.
        assert divided_at(page) == pytest.approx(expected, abs=0.01), key
    slider.send_keys(Keys.HOME)
    before = stage(page)
    find(page, "[data-layer=mask]").click()
    masked = stage(page)
    assert masked[:, -60:].mean() < 0.6 * before[:, -60:].mean()
    find(page, "[data-layer=motion]").click()
    assert (stage(page) != masked).any()
    find(page, "#download").click()
    path = tmp_path / "street-sharp.png"
    eventually(path.exists)
    with Image.open(path) as saved:
        assert saved.size == (300, 200)
        assert saved.getpixel((10, 10)) == CYAN
        assert saved.getpixel((290, 10)) == RED
    found = requested(page)
    assert f"{client.base_url}/v1/deblur?output=view" in found
    assert all(at.startswith((str(client.base_url), "data:", "blob:")) for at in found)
    assert complaints(page) == []


@pytest.mark.parametrize(("kind", "to"), [("mouse", 0.25), ("touch", 0.3)])
def test_the_divider_is_dragged_on_a_phone_too(page, kind, to):
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    metrics = {"width": 390, "height": 800, "deviceScaleFactor": 1, "mobile": kind == "touch"}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        drop(page)
        wait_for(page, "result")
        place = find(page, ".stage").rect
        assert (place["x"], place["width"]) == (0, 390)
        assert page.execute_script("return document.documentElement.scrollWidth") == 390
        x, y = round(to * 390), round(place["y"] + place["height"] / 3)
        actions = ActionBuilder(page, mouse=PointerInput(kind, kind), duration=50)
        pointer = actions.pointer_action
        pointer.move_to(find(page, ".divider")).pointer_down().move_to_location(x, y).pointer_up()
        actions.perform()
        assert divided_at(page) == pytest.approx(to, abs=0.02)
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


def test_a_photo_is_chosen_by_keyboard_or_pasted(page, tmp_path):
    path = tmp_path / "chosen.jpg"
    path.write_bytes(photo("JPEG"))
    find(page, "#file").send_keys(str(path))
    wait_for(page, "result")
    assert find(page, "#download").get_attribute("download") == "chosen-sharp.jpg"
    assert page.switch_to.active_element == find(page, "h1")
    find(page, "#another").click()
    assert shows(page, "start")
    assert page.switch_to.active_element == find(page, "#file")
    page.execute_script(
        DROP.split("const place")[0]
        + """
        const paste = new ClipboardEvent("paste", { clipboardData: data, bubbles: true });
        document.body.dispatchEvent(paste);
    """,
        "pasted.png",
        "image/png",
        b64encode(photo()).decode(),
    )
    wait_for(page, "result")
    assert find(page, "h1").text == "pasted.png"


def test_what_is_no_photo_is_told_and_another_can_be_tried(page):
    drop(page, "a<b>.png", content=b"nonsense")
    wait_for(page, "problem")
    assert find(page, "#reason").text.startswith("The photo: found an unknown kind of file")
    assert not shows(page, "again")
    drop(page, "street.unknown", media_type="")
    wait_for(page, "result")
    assert not shows(page, "problem")


def test_what_is_too_long_is_not_even_sent(page):
    drop(page, content=bytes(400_000))
    wait_for(page, "problem")
    assert "0.4 MiB" in find(page, "#reason").text
    assert not any("deblur" in address for address in requested(page))


def test_a_line_that_is_full_can_be_tried_again(browser, tmp_path):
    inverting = Inverting()
    with running(inverting, limits=Limits(queue=0)) as client:
        page = opened(browser, client, tmp_path)
        inverting.go_on.clear()
        drop(page, "first.png")
        assert inverting.begun.acquire(timeout=10)
        drop(page, "second.png")
        wait_for(page, "problem")
        assert "photos waiting" in find(page, "#reason").text
        inverting.go_on.set()
        eventually(lambda: client.get("/readyz").json()["busy"] == 0)
        find(page, "#again").click()
        wait_for(page, "result")
        assert find(page, "h1").text == "second.png"


def test_cancelling_gives_the_place_back(page, served):
    inverting, client = served
    inverting.go_on.clear()
    try:
        drop(page)
        eventually(lambda: client.get("/readyz").json()["busy"] == 1)
        find(page, "#cancel").click()
        assert shows(page, "start")
    finally:
        inverting.go_on.set()
    eventually(lambda: client.get("/readyz").json()["busy"] == 0)
    time.sleep(0.2)
    assert shows(page, "start")


def test_the_token_is_asked_for_and_kept_for_the_tab(browser, tmp_path):
    with running(Inverting(), token="secret") as client:
        page = opened(browser, client, tmp_path)
        drop(page)
        wait_for(page, "token")
        assert page.switch_to.active_element == find(page, "#secret")
        find(page, "#secret").send_keys("wrong\n")
        wait_for(page, "problem")
        find(page, "#secret").clear()
        find(page, "#secret").send_keys("secret\n")
        wait_for(page, "result")
        page.get(str(client.base_url))
        drop(page)
        wait_for(page, "result")


def test_a_name_is_never_markup(page):
    drop(page, "<img src=x onerror=alert(1)>.png")
    wait_for(page, "result")
    assert find(page, "h1").text == "<img src=x onerror=alert(1)>.png"
    assert page.find_elements("css selector", "img[onerror]") == []
    assert complaints(page) == []


def test_the_policy_lets_nothing_else_in(served):
    answer = served[1].get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert "frame-ancestors 'none'" in policy
    assert "http" not in policy
    for outside in ('src="http', 'href="http', "@import", "url("):
        assert outside not in answer.text
