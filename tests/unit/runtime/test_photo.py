"""A photograph in memory."""

import numpy as np
import pytest

from m2a.runtime.photo import Photo


@pytest.mark.parametrize(
    ("pixels", "alpha"),
    [
        (np.zeros((4, 5, 3), np.float32), None),
        (np.zeros((4, 5), np.uint8), None),
        (np.zeros((4, 5, 4), np.uint8), None),
        (np.zeros((0, 5, 3), np.uint8), None),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((4, 5), np.uint16)),
        (np.zeros((4, 5, 3), np.uint8), np.zeros((5, 4), np.uint8)),
    ],
)
def test_photo_refuses_other_arrays(pixels, alpha):
    with pytest.raises(ValueError, match=r"found .*expected"):
        Photo(pixels=pixels, alpha=alpha)
