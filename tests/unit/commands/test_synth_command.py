"""The options of `m2a synth` and what they ask for."""

from __future__ import annotations

import pytest

from m2a.commands.synth_command import _adjusted
from m2a.errors import UsageError
from m2a.training.protocol import EVALUATION
from m2a.training.samples import SynthesisConfig

UNSET = dict.fromkeys(("size", "blur_length", "shake", "still", "noise", "jpeg"))


def adjusted(config=EVALUATION, **options):
    return _adjusted(config, **(UNSET | options))


def test_without_options_it_is_the_protocol():
    assert adjusted() == EVALUATION


def test_noise_is_given_in_levels():
    assert adjusted(noise=(1.0, 5.1)).noise_sigma == pytest.approx((1 / 255, 0.02))


@pytest.mark.parametrize(
    ("config", "options", "shares"),
    [
        (EVALUATION, {"shake": 0.25}, (0.45, 0.3, 0.25, 0.0)),
        (EVALUATION, {"still": 1.0}, (0.0, 0.0, 0.0, 1.0)),
        (SynthesisConfig(), {"shake": 0.0}, (0.83 * 2 / 3, 0.83 / 3, 0.0, 0.17)),
        (SynthesisConfig(), {"shake": 0.3, "still": 0.1}, (0.4, 0.2, 0.3, 0.1)),
    ],
)
def test_what_is_neither_shaken_nor_still_keeps_its_proportion(config, options, shares):
    assert adjusted(config, **options).kind_shares == pytest.approx(shares)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"blur_length": (10.0, 4.0)}, "blur_length is"),
        ({"jpeg": (0, 101)}, "jpeg_quality is"),
        ({"shake": 0.7, "still": 0.6}, "found shares of 0.7 shaken and 0.6 still"),
    ],
)
def test_options_without_meaning_are_misuse(options, message):
    with pytest.raises(UsageError, match=message):
        adjusted(**options)
