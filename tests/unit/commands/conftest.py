"""The command line, run in-process."""

from __future__ import annotations

import numpy as np
import pytest
from click.testing import CliRunner
from PIL import Image

from m2a.cli import main


@pytest.fixture
def invoke(tiny_bundle, tmp_path, monkeypatch):
    """Runs `m2a ARGS` in an empty directory with the tiny bundle as $M2A_BUNDLE."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2A_BUNDLE", str(tiny_bundle))
    return lambda *arguments, **options: CliRunner().invoke(
        main, [str(a) for a in arguments], **options
    )


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)).save(path)
    return path
