"""Messages that hold a file's name."""

from __future__ import annotations

import pytest

from m2a.errors import ImageError, on_one_line


@pytest.mark.parametrize(
    ("message", "printed"),
    [
        ("straße 写真.jpg: damaged", "straße 写真.jpg: damaged"),
        ("a\nb.jpg", r"a\nb.jpg"),
        ("\x1b[31mred.jpg", r"\x1b[31mred.jpg"),
        ("not-utf8-\udcff.jpg", r"not-utf8-\udcff.jpg"),
        (ImageError("a\tb"), r"a\tb"),
    ],
)
def test_a_message_is_one_printable_line(message, printed):
    assert on_one_line(message) == printed
