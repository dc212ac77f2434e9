"""Plants packages on the path of this process."""

from __future__ import annotations

import pytest


@pytest.fixture
def plant(tmp_path, monkeypatch):
    """Adds the metadata of a distribution, as pip would leave it, to a folder on `sys.path`."""
    monkeypatch.syspath_prepend(tmp_path)

    def add(name, version):
        folder = tmp_path / f"{name.replace('-', '_')}-{version}.dist-info"
        folder.mkdir()
        text = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
        (folder / "METADATA").write_text(text)

    return add
