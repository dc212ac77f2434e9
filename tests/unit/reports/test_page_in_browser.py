"""The page in a real browser: the slider, the layers, the zoom, the list, and silence."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from report_pages import BLUE, RED, provenance, shown

from m2a.reports import Failed, render_page
from m2a.reports.layers import EDGE
from m2a.runtime.drawing import STROKE

LOSS = 8
"""Levels by which WebP at quality 90 may miss a plain colour."""

BLEND = 90
"""Levels by which a line of one pixel may miss its colour where the browser enlarges it."""

KNOB = 40
"""Pixels beside the divider that its knob covers, with the ring and the shadow around it."""


@pytest.fixture
def show(browser, tmp_path):
    """Opens a page of photos in the browser, whose logs begin with it."""

    def show(*photos, fragment: str = ""):
        page = tmp_path / "page.html"
        page.write_text(render_page(photos, provenance()), encoding="utf-8")
        browser.get("about:blank")
        browser.get_log("browser")
        browser.get_log("performance")
        browser.get(page.as_uri() + fragment)
        return browser

    return show


def find(browser, selector: str):
    """The one element that is displayed of those that a selector finds."""
    (element,) = [e for e in browser.find_elements("css selector", selector) if e.is_displayed()]
    return element


def stage(browser) -> np.ndarray:
    """[H, W, 3], the photo as it is shown, divider and all."""
    png = find(browser, ".stage").screenshot_as_png
    return np.asarray(Image.open(io.BytesIO(png)).convert("RGB")).astype(int)


def like(pixels: np.ndarray, colour, tolerance: int = LOSS) -> np.ndarray:
    return (np.abs(pixels - colour) <= tolerance).all(axis=-1)


def divided_at(picture: np.ndarray) -> float:
    """Where red becomes blue: the divider's share of the picture, read from its pixels."""
    row = picture[picture.shape[0] // 4]  # above the knob, inside the mask
    width = len(row)
    inside = slice(width // 8 + 4, width - width // 8 - 4)
    red, blue = np.nonzero(like(row[inside], RED))[0], np.nonzero(like(row[inside], BLUE))[0]
    if not red.size or not blue.size:
        return 1.0 if red.size else 0.0
    assert red.max() < blue.min()
    return (inside.start + (red.max() + blue.min() + 1) / 2) / width


def value(browser) -> int:
    return int(find(browser, "[role=slider]").get_attribute("aria-valuenow"))


def drag(browser, element, *, to: float, kind: str = "mouse") -> None:
    """Presses on an element's middle, moves to a share of the stage's width, lets go."""
    from selenium.webdriver.common.action_chains import ActionBuilder
    from selenium.webdriver.common.actions.pointer_input import PointerInput

    place = find(browser, ".stage").rect
    x, y = round(place["x"] + to * place["width"]), round(place["y"] + place["height"] / 3)
    actions = ActionBuilder(browser, mouse=PointerInput(kind, kind), duration=50)
    actions.pointer_action.move_to(element).pointer_down().move_to_location(x, y).pointer_up()
    actions.perform()


def press(browser, *keys: str) -> None:
    from selenium.webdriver.common.keys import Keys

    for key in keys:
        find(browser, "[role=slider]").send_keys(getattr(Keys, key))


def test_the_page_opens_without_a_word_and_without_a_request(show):
    browser = show(shown("a.png"), shown("b.png"))
    find(browser, "[data-layer=mask]").click()
    find(browser, "[data-layer=motion]").click()
    find(browser, "[data-zoom=whole]").click()
    find(browser, "a[href='#photo-2']").click()
    assert browser.get_log("browser") == []
    messages = [json.loads(entry["message"])["message"] for entry in browser.get_log("performance")]
    asked = [
        message["params"]["request"]["url"]
        for message in messages
        if message["method"] == "Network.requestWillBeSent"
    ]
    assert browser.current_url.removesuffix("#photo-2") in asked
    assert [u for u in asked if not u.startswith(("data:", "file:"))] == []
    assert len([u for u in asked if u.startswith("file:")]) == 1  # the page itself


def test_the_policy_stops_whoever_would_ask(show):
    browser = show(shown())
    stopped = browser.execute_async_script(
        """
        const done = arguments[arguments.length - 1];
        addEventListener("securitypolicyviolation", (event) => done(event.violatedDirective));
        new Image().src = "http://127.0.0.1:9/picture.png";
        """
    )
    assert stopped == "img-src"


class TestSlider:
    def test_left_is_before_and_right_is_after(self, show):
        picture = stage(show(shown()))
        height, width = picture.shape[:2]
        upper = picture[height // 6 : height // 3]
        assert like(upper[:, width // 6 : width // 2 - KNOB], RED).all()
        assert like(upper[:, width // 2 + KNOB : -width // 6], BLUE).all()

    @pytest.mark.parametrize(("kind", "to"), [("mouse", 0.25), ("touch", 0.7)])
    def test_it_is_dragged(self, show, to, kind):
        browser = show(shown())
        drag(browser, find(browser, ".divider"), to=to, kind=kind)
        # To the pixel, of some 900: half of one is the divider's place, half the reading's.
        assert divided_at(stage(browser)) == pytest.approx(to, abs=0.003)
        assert value(browser) == round(100 * to)

    def test_a_press_anywhere_on_the_photo_takes_it_there(self, show):
        browser = show(shown())
        drag(browser, find(browser, ".tag.left"), to=0.4)
        assert divided_at(stage(browser)) == pytest.approx(0.4, abs=0.003)

    def test_keys_move_it(self, show):
        browser = show(shown())
        for key, expected in (
            ("ARROW_RIGHT", 52),
            ("ARROW_LEFT", 50),
            ("ARROW_UP", 52),
            ("ARROW_DOWN", 50),
            ("PAGE_UP", 60),
            ("PAGE_DOWN", 50),
            ("HOME", 0),
            ("ARROW_LEFT", 0),
            ("END", 100),
            ("ARROW_RIGHT", 100),
        ):
            press(browser, key)
            assert value(browser) == expected, key
            assert divided_at(stage(browser)) == pytest.approx(expected / 100, abs=0.003), key

    def test_other_pixels_are_the_same_before_and_after(self, show):
        browser = show(shown())
        press(browser, "HOME")
        after = stage(browser)
        press(browser, "END")
        before = stage(browser)
        height, width = after.shape[:2]
        margin = np.ones((height, width), bool)
        # Less what the browser blends along the mask's edge, where it enlarges the photo.
        margin[height // 8 - 8 : 8 - height // 8, width // 8 - 8 : 8 - width // 8] = False
        margin[:, :KNOB] = margin[:, -KNOB:] = False
        np.testing.assert_array_equal(after[margin], before[margin])

    def test_it_says_what_it_is_and_shows_its_focus(self, show):
        browser = show(shown())
        slider = find(browser, "[role=slider]")
        assert slider.aria_role == "slider"
        assert slider.accessible_name == "Divider between before and after"
        assert slider.get_attribute("aria-valuetext") == "50 % before, 50 % after"
        unfocused = stage(browser)
        press(browser, "ARROW_LEFT", "ARROW_RIGHT")
        assert browser.switch_to.active_element == slider
        focused = stage(browser)
        height, width = focused.shape[:2]
        middle = np.s_[height // 2 - 40 : height // 2 + 40, width // 2 - 40 : width // 2 + 40]
        assert (focused[middle] != unfocused[middle]).any(axis=-1).sum() > 200


class TestLayers:
    @pytest.mark.parametrize(("layer", "colour"), [("mask", EDGE), ("motion", STROKE)])
    def test_a_switch_shows_and_hides_one(self, show, layer, colour):
        browser = show(shown())
        switch = find(browser, f"[data-layer={layer}]")
        before = stage(browser)
        assert not like(before, colour, BLEND).any()
        switch.click()
        assert switch.get_attribute("aria-pressed") == "true"
        assert like(stage(browser), colour, BLEND).sum() > 100
        switch.click()
        assert switch.get_attribute("aria-pressed") == "false"
        np.testing.assert_array_equal(stage(browser), before)

    def test_the_mask_shades_only_what_was_not_restored(self, show):
        browser = show(shown())
        before = stage(browser)
        find(browser, "[data-layer=mask]").click()
        after = stage(browser)
        height, width = after.shape[:2]
        inside = np.s_[height // 8 + 8 : -8 - height // 8, width // 8 + 8 : -8 - width // 8]
        np.testing.assert_array_equal(after[inside], before[inside])
        assert after[: height // 16].mean() < 0.6 * before[: height // 16].mean()

    def test_of_an_unchanged_photo_there_are_none(self, show):
        browser = show(shown(restored=False))
        assert not find(browser, "[data-layer=mask]").is_enabled()
        assert not find(browser, "[data-layer=motion]").is_enabled()


class TestZoom:
    @pytest.fixture
    def zoomed(self, show):
        browser = show(shown(size=(700, 1100)))
        find(browser, "[data-zoom=whole]").click()
        return browser

    def offsets(self, browser) -> list[float]:
        return browser.execute_script(
            "const s = document.querySelector('.scroll'); return [s.scrollLeft, s.scrollTop]"
        )

    def test_a_pixel_of_the_photo_is_one_on_the_screen(self, zoomed):
        photo = find(zoomed, "img.before").rect
        assert (photo["width"], photo["height"]) == (1100, 700)
        left, top = self.offsets(zoomed)
        assert left > 0
        assert top > 0

    def test_fit_shows_it_whole_again(self, zoomed):
        find(zoomed, "[data-zoom=fit]").click()
        photo, place = find(zoomed, "img.before").rect, find(zoomed, ".stage").rect
        assert photo["width"] == pytest.approx(place["width"])
        assert photo["height"] == pytest.approx(place["height"])

    def test_the_divider_stays_on_the_screen_while_the_photo_moves_under_it(self, zoomed):
        picture = stage(zoomed)
        assert divided_at(picture) == pytest.approx(0.5, abs=0.003)
        before = self.offsets(zoomed)
        drag(zoomed, find(zoomed, ".tag.left"), to=0.15)
        after = self.offsets(zoomed)
        assert after != before
        assert divided_at(stage(zoomed)) == pytest.approx(0.5, abs=0.003)

    def test_the_divider_is_dragged_there_too(self, zoomed):
        before = self.offsets(zoomed)
        drag(zoomed, find(zoomed, ".knob"), to=0.3)
        assert divided_at(stage(zoomed)) == pytest.approx(0.3, abs=0.003)
        assert self.offsets(zoomed) == before


class TestSeveral:
    @pytest.fixture
    def photos(self):
        failed = Failed(source=Path("b.png"), reason="b.png: found nothing")
        return [shown("a.png"), failed, shown("c.png")]

    def test_the_first_is_shown_and_the_list_shows_another(self, show, photos):
        browser = show(*photos)
        assert find(browser, "h1").text == "a.png"
        find(browser, "a[href='#photo-3']").click()
        assert find(browser, "h1").text == "c.png"
        assert find(browser, "nav a[aria-current]").get_attribute("hash") == "#photo-3"
        press(browser, "HOME")
        assert divided_at(stage(browser)) == 0
        browser.back()
        assert find(browser, "h1").text == "a.png"
        assert divided_at(stage(browser)) == pytest.approx(0.5, abs=0.003)

    def test_an_address_leads_to_one(self, show, photos):
        assert find(show(*photos, fragment="#photo-3"), "h1").text == "c.png"

    def test_one_that_failed_says_why(self, show, photos):
        text = find(show(*photos), "nav .failed").text
        assert "b.png" in text
        assert "Failed: found nothing" in text


@pytest.mark.parametrize(
    "name", ["<img src=x onerror=alert(1)>.png", '"><script>alert(1)</script>.png']
)
def test_hostile_names_are_inert(show, name):
    from selenium.common.exceptions import NoAlertPresentException

    browser = show(shown(name), Failed(source=Path(name), reason=f"{name}: {name}"))
    with pytest.raises(NoAlertPresentException):
        browser.switch_to.alert.dismiss()
    # The last part of a path is shown.
    assert find(browser, "h1").text == Path(name).name
    assert browser.find_elements("css selector", "img[onerror], img[src=x]") == []
    assert len(browser.find_elements("css selector", "script")) == 1
    assert browser.get_log("browser") == []


@pytest.mark.parametrize("width", [320, 390])
def test_nothing_is_wider_than_a_phone(show, width):
    browser = show(shown("a" * 100 + ".png"), shown("b.png"))
    metrics = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": True}
    browser.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        assert browser.execute_script("return document.documentElement.scrollWidth") == width
        place = find(browser, ".stage").rect
        assert (place["x"], place["width"]) == (0, width)
        assert divided_at(stage(browser)) == pytest.approx(0.5, abs=0.01)
    finally:
        browser.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_text_can_be_read_in_light_and_dark(show, theme):
    browser = show(shown())
    features = [{"name": "prefers-color-scheme", "value": theme}]
    browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        ground = luminance(find(browser, "body").value_of_css_property("background-color"))
        assert (ground > 0.5) == (theme == "light")
        for selector in ("h1", ".lede", ".when", "dt", "dd", "tbody th"):
            element = browser.find_element("css selector", selector)
            text = luminance(element.value_of_css_property("color"))
            low, high = sorted((text, ground))
            assert (high + 0.05) / (low + 0.05) >= 4.5, selector  # WCAG 2, level AA
    finally:
        browser.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def luminance(colour: str) -> float:
    """The relative luminance, as WCAG 2 has it, of an opaque "rgb(r, g, b)" or "rgba(…, 1)"."""
    numbers = colour[colour.index("(") + 1 : -1].split(",")
    encoded = np.array(numbers[:3], float) / 255
    linear = np.where(encoded <= 0.04045, encoded / 12.92, ((encoded + 0.055) / 1.055) ** 2.4)
    return float(linear @ (0.2126, 0.7152, 0.0722))
