"""Folders that cannot be read, not even by root, for whom no mode is an obstacle."""

from __future__ import annotations

import os
from pathlib import Path


def lock_folders(monkeypatch, name):
    """Has every folder of that name refuse to be listed."""
    scan = os.scandir

    def refuse(path):
        if Path(path).name == name:
            raise PermissionError(13, "Permission denied", path)
        return scan(path)

    monkeypatch.setattr(os, "scandir", refuse)
