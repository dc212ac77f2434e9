"""Text stays text."""

from __future__ import annotations

from html.parser import HTMLParser

import pytest
from hypothesis import given
from hypothesis import strategies as st

from m2a.reports.markup import Markup, fill, joined, read_template


class Reader(HTMLParser):
    """Notes tags, attributes and text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.attributes, self.text = [], [], ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs

    def handle_data(self, data):
        self.text += data


@given(st.text(alphabet=st.characters(categories=["L", "N", "P", "S"])))
def test_any_text_comes_back_as_it_was_and_as_nothing_else(text):
    reader = Reader(fill('<p title="$text">$text</p>', text=text))
    assert reader.tags == ["p"]
    assert reader.attributes == [("title", text)]
    assert reader.text == text


@pytest.mark.parametrize("sign", ["\udcff", "\x00", "\u202e", "\n"])
def test_what_cannot_be_printed_is_written_as_python_escapes_it(sign):
    filled = fill("<p>$text</p>", text=f"a{sign}b")
    assert filled.encode("utf-8").isascii()
    assert "\\" in filled


def test_markup_is_taken_as_it_is():
    assert fill("<p>$part</p>", part=Markup("<b>&amp;</b>")) == "<p><b>&amp;</b></p>"
    assert joined([Markup("<a>"), Markup("<b>")]) == "<a>\n<b>"


def test_what_is_filled_in_is_not_filled_itself():
    assert fill("$a $b", a="$b", b="1") == "$b 1"


def test_a_placeholder_without_a_value_is_an_error():
    with pytest.raises(KeyError, match="name"):
        fill("<p>$name</p>")


@pytest.mark.parametrize("name", ["page.html", "viewer.css", "viewer.js"])
def test_templates_are_found_and_their_lines_end_alike_everywhere(name):
    text = read_template(name)
    assert "\r" not in text
    assert text.endswith("\n")
