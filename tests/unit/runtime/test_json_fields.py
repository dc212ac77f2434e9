"""Untrusted JSON: what is refused names the field, what was expected, and what was found."""

from __future__ import annotations

import pytest

from m2a.errors import EngineError
from m2a.runtime.json_fields import JsonFields

CONTENT = {
    "name": "small",
    "count": 3,
    "share": 0.5,
    "sure": True,
    "nothing": None,
    "endless": 10**400,
    "inner": {"one": 1, "two": "2"},
    "file": "../secret",
}


@pytest.fixture
def fields():
    return JsonFields(CONTENT, refuse=EngineError)


def test_what_fits_is_given(fields):
    assert fields.get("name", str) == "small"
    assert fields.get("nothing", str, type(None)) is None
    assert fields.section("inner").get("one", int) == 1
    assert fields.table("inner", int, str) == {"one": 1, "two": "2"}
    number = fields.number("count")
    assert (number, type(number)) == (3.0, float)


@pytest.mark.parametrize(
    ("ask", "message"),
    [
        (lambda f: f.get("name", int), "name must be an integer, found 'small'"),
        (lambda f: f.get("sure", int), "sure must be an integer, found True"),
        (lambda f: f.get("share", int), "share must be an integer, found 0.5"),
        (lambda f: f.get("absent", str), "absent must be a string, found nothing"),
        (lambda f: f.get("absent", type(None)), "absent must be null, found nothing"),
        (lambda f: f.number("endless"), "endless must be a number, found 1000"),
        (lambda f: f.section("count"), "count must be an object, found 3"),
        (lambda f: f.table("inner", int), "inner.two must be an integer, found '2'"),
        (lambda f: f.path("file"), "file '../secret' leaves the folder"),
        (lambda f: f.refuse("count", "a prime"), "count must be a prime, found 3"),
    ],
)
def test_what_does_not_fit_is_refused_by_name(fields, ask, message):
    with pytest.raises(EngineError) as caught:
        ask(fields)
    assert str(caught.value).startswith(message)


@pytest.mark.parametrize("content", [None, [], 3, "text"])
def test_what_is_no_object_is_refused(content):
    with pytest.raises(EngineError, match="is not a JSON object"):
        JsonFields(content, refuse=EngineError)
