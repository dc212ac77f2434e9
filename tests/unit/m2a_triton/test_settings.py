from __future__ import annotations

import pytest

from m2a.errors import UsageError
from m2a.triton.settings import IN_PROCESS, SERVER, StitchSettings

SETTINGS = StitchSettings(
    graphs=SERVER, precision="fp16", threshold=0.1, dilate=3, max_pixels=10**9, max_memory=2**31
)


def in_json(parameters):
    return {name: {"string_value": value} for name, value in parameters.items()}


@pytest.mark.parametrize(
    "settings",
    [
        SETTINGS,
        StitchSettings(
            graphs=IN_PROCESS,
            precision="fp32",
            threshold=0.5,
            dilate=0,
            ensemble=4,
            max_pixels=1,
            threads=2,
        ),
    ],
)
def test_what_is_written_is_read(settings):
    parameters = in_json({**settings.to_parameters(), "of another": "kind"})
    assert StitchSettings.from_parameters(parameters) == settings


def test_a_repository_from_before_there_were_ensembles_takes_one_turn():
    parameters = SETTINGS.to_parameters()
    del parameters["ensemble"]
    assert StitchSettings.from_parameters(in_json(parameters)) == SETTINGS


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"threshold": None}, "'threshold' is missing"),
        ({"dilate": "2.5"}, "'dilate' is '2.5', expected int"),
        ({"threshold": "half"}, "'threshold' is 'half', expected float"),
        ({"graphs": "elsewhere"}, "'graphs' is 'elsewhere', expected 'server' or 'in-process'"),
    ],
)
def test_what_is_missing_or_malformed_is_named(changes, message):
    parameters = {**SETTINGS.to_parameters(), **changes}
    kept = {name: value for name, value in parameters.items() if value is not None}
    with pytest.raises(UsageError, match=message):
        StitchSettings.from_parameters(in_json(kept))
