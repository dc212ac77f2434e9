"""A photo of which nothing is restored is answered as `m2a run` writes it."""

from __future__ import annotations

import json
from base64 import b64decode

import pytest

import m2a
from m2a.serving.options import DeblurOptions, Format, Output
from m2a.serving.work import deblur_bytes


@pytest.fixture(scope="module")
def answer(tiny_bundle, jpeg):
    deblurrer = m2a.load(tiny_bundle)

    def ask(**options):
        chosen = DeblurOptions(threshold=1, **options)
        answer = deblur_bytes(jpeg, chosen, deblurrer, max_pixels=10**6, given_up=lambda: False)
        assert answer.coverage == 0
        return answer.content

    return ask


def test_a_lossy_file_is_copied(answer, jpeg):
    assert answer() == jpeg
    assert answer(format=Format.JPEG) == jpeg
    assert b64decode(json.loads(answer(output=Output.VIEW))["photo"]) == jpeg


@pytest.mark.parametrize(
    "options", [{"quality": 50}, {"strip_metadata": True}, {"format": Format.PNG}]
)
def test_it_is_not_copied_where_something_else_was_asked_for(answer, jpeg, options):
    assert answer(**options) != jpeg
