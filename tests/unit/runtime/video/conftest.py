"""A stand-in for the network, for tests of which it is not the point."""

from __future__ import annotations

import numpy as np
import pytest

from m2a.runtime.result import Result


class Negative:
    """Restores the pixels of a mask by turning them into their negative; keeps what it was shown.

    Without a mask of its own or a given one, the pixels are those of the upper left quarter.
    """

    backend = "none"

    def __init__(self, mask=None):
        self.mask = mask
        self.shown: list[np.ndarray] = []

    def __call__(self, image, *, mask=None):
        self.shown.append(image)
        height, width = image.shape[:2]
        if mask is None:
            mask = self.mask
        if mask is None:
            mask = np.zeros((height, width), bool)
            mask[: height // 2, : width // 2] = True
        return Result(
            image=np.where(mask[:, :, None], 1 - image, image),
            mask=mask,
            probability=None,
            coverage=float(mask.mean()),
            motion=np.zeros((1, 1, 4), np.float32),
            seconds={"restore": 0.25},
            backend=self.backend,
        )


@pytest.fixture
def negative():
    return Negative()
