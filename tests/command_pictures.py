"""Pictures for the commands' tests, and what a command left and said."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from PIL import Image

SIZE = (32, 40)


def draw(path: str | Path, *, seed: int = 0, size: tuple[int, int] = SIZE, **options) -> Path:
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return Path(path)


def read(path: str | Path) -> np.ndarray:
    with Image.open(path) as image:
        return np.asarray(image)


def tree(folder: str | Path) -> list[str]:
    found = Path(folder).rglob("*")
    return sorted(path.relative_to(folder).as_posix() for path in found if path.is_file())


def lines(result) -> list[str]:
    """What standard error says, without the line that names the bundle."""
    return [line for line in result.stderr.splitlines() if not line.startswith("bundle:")]


def objects(result) -> list[dict]:
    return [json.loads(line) for line in result.stdout.splitlines()]
