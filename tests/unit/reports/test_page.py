"""What the page says, and that it asks nobody for anything; read without a browser."""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import replace
from datetime import datetime, timedelta, timezone
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from report_pages import provenance, shown

from m2a._version import __version__
from m2a.reports import Failed, counted, render_page
from m2a.reports.viewer import motion_svg
from m2a.runtime.drawing import Strokes

HOSTILE = (
    "<img src=x onerror=alert(1)>.png",
    '"><script>alert(1)</script>.png',
    "</title><script>alert(1)</script>",
    "' onmouseover='alert(1)",
    "$name ${name} &lt; &amp;.png",
)


class Page(HTMLParser):
    """The tags with their attributes, the text, and what stands between some tags."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text, self.raw, self._open = [], "", {}, None
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))
        self._open = tag

    def handle_data(self, data):
        if self._open in ("style", "script"):
            self.raw.setdefault(self._open, []).append(data)
        else:
            self.text += data

    def handle_endtag(self, tag):
        self._open = None

    def all(self, tag: str) -> list[dict]:
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def facts(self) -> str:
        return " ".join(self.text.split())


def test_a_page_tells_all_that_is_known():
    page = Page(render_page([shown("trip/photo.png")], provenance()))
    for fact in (
        "trip/photo.png",
        "240 × 160 pixels",
        "PNG, 8 bits",
        "56.2 % of the pixels restored",
        "ort-cpu",
        "20.0 ms",
        "0.30 s",
        "0.32 s",
        "2026-01-02 03:04 UTC",
        "0.25",
        "7 pixels",
        "fp32",
        "small",
        "packaged with m2a",
        __version__,
        "3.11",
    ):
        assert fact in page.facts, fact


def test_the_hashes_are_those_of_the_graphs_that_computed():
    made = provenance()
    html = render_page([shown()], made)
    for graph in made.bundle.graphs["fp32"].values():
        assert graph.sha256 in html


def test_of_a_bundles_path_only_the_folders_name_is_told():
    made = provenance()
    made = replace(made, bundle=replace(made.bundle, path=Path("/home/me/mine"), origin="given"))
    html = render_page([shown()], made)
    assert "mine, given" in html
    assert "/home" not in html


def test_a_given_mask_has_no_threshold():
    given = Page(render_page([shown()], provenance(mask="my-mask.png")))
    assert "given: my-mask.png" in given.facts
    assert "Threshold" not in given.text
    assert "given: all pixels" in Page(render_page([shown()], provenance(mask="full"))).facts


def test_the_date_is_in_utc_wherever_it_was_made():
    there = datetime(2026, 1, 1, 23, 30, tzinfo=timezone(timedelta(hours=-5)))
    page = Page(render_page([shown()], provenance(made=there)))
    assert "2026-01-02 04:30 UTC" in page.facts
    assert page.all("time") == [{"datetime": "2026-01-02T04:30Z"}]


def test_a_date_without_a_time_zone_is_refused():
    with pytest.raises(ValueError, match="without a time zone"):
        provenance(made=datetime(2026, 1, 1))


def test_a_photo_that_was_scaled_down_says_so():
    note = "Scaled down for this page, from 2400 × 1600 to 240 × 160 pixels"
    photo = replace(shown(), size=(2400, 1600))
    assert note in Page(render_page([photo], provenance())).facts
    assert "Scaled down" not in render_page([shown()], provenance())


def test_where_nothing_was_restored_there_are_no_layers_to_show():
    page = Page(render_page([shown(restored=False)], provenance()))
    assert "No motion blur found: the photo is unchanged." in page.facts
    buttons = [button for button in page.all("button") if "data-layer" in button]
    assert len(buttons) == 2
    assert all("disabled" in button for button in buttons)


def test_a_little_coverage_is_not_none():
    page = Page(render_page([replace(shown(), coverage=1e-5)], provenance()))
    assert "< 0.1 % of the pixels restored" in page.facts


def test_one_photo_needs_no_list_and_several_do():
    one = render_page([shown()], provenance())
    assert not Page(one).all("nav")
    failed = Failed(source=Path("b/bad.png"), reason="b/bad.png: found nothing")
    page = Page(render_page([shown("a.png"), failed, shown("c.png")], provenance()))
    assert len(page.all("nav")) == 1
    assert [link["href"] for link in page.all("a")] == ["#photo-1", "#photo-3"]
    assert "bad.pngFailed: found nothing" in page.facts
    assert "3 photos, 1 failed" in page.facts


def test_photos_are_counted():
    failed = Failed(source=Path("bad.png"), reason="bad")
    assert counted([shown()]) == "1 photo"
    assert counted([shown(), shown()]) == "2 photos"
    assert counted([failed, failed]) == "2 photos, 2 failed"


class TestNothingIsAsked:
    @pytest.fixture
    def html(self):
        return render_page([shown("a.png"), shown("b.png")], provenance())

    def test_all_addresses_are_inside_the_page(self, html):
        addresses = [
            attributes[name]
            for _, attributes in Page(html).tags
            for name in ("src", "href", "srcset", "action", "data", "poster")
            if name in attributes
        ]
        assert len(addresses) == 1 + 2 + 2 + 6  # icon, links, thumbnails, three layers each
        assert all(address.startswith(("data:image/", "#")) for address in addresses)

    def test_neither_style_nor_script_fetches(self, html):
        raw = Page(html).raw
        for part in (*raw["style"], *raw["script"]):
            assert not re.search(r"url\(|@import|https?:|fetch|XMLHttpRequest|import\(", part)

    def test_the_policy_names_the_one_style_and_the_one_script(self, html):
        page = Page(html)
        policy = next(m["content"] for m in page.all("meta") if "http-equiv" in m)
        for tag in ("style", "script"):
            (text,) = page.raw[tag]
            digest = base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
            assert f"{tag}-src 'sha256-{digest}'" in policy
        assert "default-src 'none'" in policy
        assert "unsafe" not in policy

    def test_no_element_has_a_style_or_a_script_of_its_own(self, html):
        for tag, attributes in Page(html).tags:
            assert "style" not in attributes, tag
            assert not [name for name in attributes if name.startswith("on")], tag


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_names_add_nothing_but_text(name):
    hostile = [shown(name), Failed(source=Path(name), reason=name), shown(name)]
    harmless = [shown("a"), Failed(source=Path("a"), reason="a"), shown("a")]
    made = provenance(mask=name, versions={name: name})
    manifest = {**made.bundle.manifest, "model": {"name": name}}
    made = replace(made, bundle=replace(made.bundle, manifest=manifest, origin=name))
    found = Page(render_page(hostile, made))
    expected = Page(render_page(harmless, provenance(mask="a", versions={"a": "a"})))
    shape = [(tag, sorted(attributes)) for tag, attributes in found.tags]
    assert shape == [(tag, sorted(attributes)) for tag, attributes in expected.tags]
    assert found.text.count(name) >= 8


def test_a_manifest_without_a_model_is_unnamed():
    made = provenance()
    made = replace(made, bundle=replace(made.bundle, manifest={"model": ["x"]}))
    assert "unnamed" in Page(render_page([shown()], made)).facts


def test_a_trajectory_is_the_curve_that_its_formula_says():
    curve = np.array([[100, 50, 20, -6, 4, 10]], np.float32)  # middle, a, b
    svg = motion_svg((200, 100), Strokes(curves=curve, radius=1, outline=0.5))
    (path,) = set(re.findall(r' d="([^"]*)"', svg))
    start, control, end = np.array(re.findall(r"-?[\d.]+", path), float).reshape(3, 2)
    for t in np.linspace(-1, 1, 9):
        s = (t + 1) / 2
        bezier = (1 - s) ** 2 * start + 2 * s * (1 - s) * control + s**2 * end
        formula = np.array((100, 50)) + np.array((20, -6)) * t + np.array((4, 10)) * t * t
        # SVG counts from a pixel's corner; coordinates have one digit after the point.
        np.testing.assert_allclose(bezier, formula + 0.5, atol=0.06)
