"""Masks in which every kind of table entry occurs."""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st

KINDS = ("single", "corners", "border", "rows", "columns", "full", "checkerboard", "random")


def draw_mask(kind: str, height: int, width: int, seed: int) -> np.ndarray:
    """bool [H, W] with at least one active pixel."""
    rng = np.random.default_rng(seed)
    y, x = np.mgrid[:height, :width]
    if kind == "single":
        mask = np.zeros((height, width), bool)
    elif kind == "corners":
        mask = ((y == 0) | (y == height - 1)) & ((x == 0) | (x == width - 1))
    elif kind == "border":
        mask = (y == 0) | (y == height - 1) | (x == 0) | (x == width - 1)
    elif kind == "rows":
        mask = np.broadcast_to((rng.random((height, 1)) < 0.3), (height, width)).copy()
    elif kind == "columns":
        mask = np.broadcast_to((rng.random((1, width)) < 0.3), (height, width)).copy()
    elif kind == "full":
        mask = np.ones((height, width), bool)
    elif kind == "checkerboard":
        mask = (y + x) % 2 == 0
    else:
        mask = rng.random((height, width)) < rng.random() ** 2
    if not mask.any():
        mask[rng.integers(height), rng.integers(width)] = True
    return mask


def masks(largest: int) -> st.SearchStrategy[np.ndarray]:
    """Masks of all kinds with sides from 1 to `largest`."""
    side = st.integers(1, largest)
    return st.builds(draw_mask, st.sampled_from(KINDS), side, side, st.integers(0, 2**16))
