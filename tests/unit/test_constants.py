"""Constants that stand in several layers, which may not import each other, are equal."""

from __future__ import annotations

from m2a.graphs import contract
from m2a.models import config, restorer
from m2a.runtime import parts, sites, verify
from m2a.training import batches


def test_levels():
    assert sites.LEVELS == config.LEVELS == contract.LEVELS


def test_the_level_of_the_motion():
    assert sites.MOTION_LEVEL == config.MOTION_LEVEL


def test_padding():
    assert sites.MULTIPLE == config.MULTIPLE
    assert sites.BORDER == restorer.STEM_RADIUS


def test_the_bound_of_the_motion():
    bound = config.MAX_LINEAR + config.MAX_QUADRATIC
    assert verify.MOTION_BOUND == parts.MAX_DISPLACEMENT == bound
    assert bound < batches.GAP
