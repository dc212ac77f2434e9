"""Where the cache lies on each system."""

from __future__ import annotations

from pathlib import Path

import pytest

from m2a.cache import cache_folder

HOME = Path.home()


@pytest.mark.parametrize(
    ("platform", "environment", "expected"),
    [
        ("linux", {}, HOME / ".cache" / "m2a"),
        ("darwin", {}, HOME / "Library" / "Caches" / "m2a"),
        ("win32", {}, HOME / "AppData" / "Local" / "m2a" / "cache"),
        ("win32", {"LOCALAPPDATA": "/local"}, Path("/local/m2a/cache")),
        ("linux", {"XDG_CACHE_HOME": "/elsewhere"}, Path("/elsewhere/m2a")),
        ("linux", {"XDG_CACHE_HOME": "relative"}, HOME / ".cache" / "m2a"),
        ("linux", {"XDG_CACHE_HOME": ""}, HOME / ".cache" / "m2a"),
    ],
)
def test_each_system_has_its_place(platform, environment, expected):
    assert cache_folder(platform=platform, environment=environment) == expected
