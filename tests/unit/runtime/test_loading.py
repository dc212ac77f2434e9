"""Opening a bundle: which one, and with which settings."""

from __future__ import annotations

import pytest

from m2a.errors import UsageError
from m2a.machine.memory import Memory
from m2a.runtime import load
from m2a.runtime.bundle import open_bundle
from m2a.runtime.loading import allowed_memory
from m2a.runtime.parts import smallest_memory


def test_what_was_opened_is_shown(tiny_bundle):
    shown = repr(load(tiny_bundle, threshold=0.25, dilate=3))
    assert shown == f"<Deblurrer of {tiny_bundle} on ort-cpu, fp32, threshold 0.25, dilation 3>"


def test_settings_default_to_the_bundles(tiny_bundle):
    deblurrer = load(tiny_bundle)
    assert (deblurrer.threshold, deblurrer.dilate) == (0.5, 4)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"threshold": 0.0}, "threshold"),
        ({"threshold": 1.1}, "threshold"),
        ({"threshold": float("nan")}, "threshold"),
        ({"dilate": -1}, "dilation"),
        ({"precision": "int8"}, "int8"),
        ({"backend": "gpu"}, "gpu"),
    ],
)
def test_settings_out_of_range_are_a_misuse(tiny_bundle, settings, words):
    with pytest.raises(UsageError, match=words):
        load(tiny_bundle, **settings)


def test_load_takes_the_environments_bundle_and_never_the_working_directorys(
    tiny_bundle, tmp_path, monkeypatch
):
    (tmp_path / "m2a-bundle").mkdir()
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2A_BUNDLE", str(tiny_bundle))
    assert load().bundle.path == tiny_bundle


def test_calls_at_a_time_share_the_free_memory_unless_told_otherwise(tiny_bundle, monkeypatch):
    bundle = open_bundle(tiny_bundle)
    free = Memory(total=2**36, available=2**35, limit=None)
    monkeypatch.setattr("m2a.runtime.loading.read_memory", lambda: free)
    assert allowed_memory(bundle, None) == 2**33
    assert allowed_memory(bundle, None, calls=4) == 2**31
    assert allowed_memory(bundle, None, calls=10**9) == smallest_memory(bundle.network)
    assert allowed_memory(bundle, 7, calls=4) == 7
