"""The configuration: what it refuses, and that it survives JSON."""

from __future__ import annotations

import json

import pytest

from m2a.models import PRESETS, M2AENetConfig


def test_the_presets_are_those_of_the_design():
    small, base = PRESETS["small"], PRESETS["base"]
    assert (small.width, small.blocks, small.trajectory_points) == (16, (1, 1, 2, 2), 5)
    assert (base.width, base.blocks, base.trajectory_points) == (32, (2, 2, 4, 4), 5)


def test_widths_double_per_level():
    assert M2AENetConfig(width=6).widths == (6, 12, 24, 48)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_knows_its_name(name):
    assert PRESETS[name].name == name


def test_another_configuration_is_called_custom():
    assert M2AENetConfig(width=8).name == "custom"


@pytest.mark.parametrize("config", [*PRESETS.values(), M2AENetConfig(width=8, blocks=(0, 2, 3, 4))])
def test_a_configuration_survives_json(config):
    assert M2AENetConfig.from_json(json.loads(json.dumps(config.to_json()))) == config


def test_missing_fields_take_their_defaults():
    assert M2AENetConfig.from_json({}) == PRESETS["small"]


def test_an_unknown_field_is_named():
    with pytest.raises(ValueError, match="'depth'"):
        M2AENetConfig.from_json({"depth": 3})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("width", 0),
        ("width", 7),
        ("width", -2),
        ("blocks", (1, 1, 1)),
        ("blocks", (1, 1, -1, 1)),
        ("blocks", (1, 1, 1, 1, 1)),
        ("mask_widths", (1, 1, 0, 1)),
        ("mask_blocks", (0, 0, -1, 0)),
        ("trajectory_points", 1),
        ("mask_stem_width", 0),
        ("mask_mirrored", 1),
    ],
)
def test_a_value_out_of_range_is_refused_by_name(field, value):
    with pytest.raises(ValueError, match=field):
        M2AENetConfig(**{field: value})


def test_a_configuration_is_frozen():
    with pytest.raises(AttributeError):
        PRESETS["small"].width = 8
