"""A bundle that may be damaged."""

from __future__ import annotations

import json
import shutil

import pytest


@pytest.fixture
def copied(tiny_bundle, tmp_path):
    """A copy of the tiny bundle."""
    return shutil.copytree(tiny_bundle, tmp_path / "copied")


@pytest.fixture
def edit(copied):
    """Changes the manifest of the copy, and returns the copy."""

    def change(edited):
        path = copied / "manifest.json"
        content = json.loads(path.read_text())
        edited(content)
        path.write_text(json.dumps(content))
        return copied

    return change
