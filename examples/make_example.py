"""Makes the example photo: NASA's portrait of Eileen Collins, in which the shuttle model moves.

The photograph is in the public domain ("Great Images in NASA"); scikit-image ships it as
`skimage.data.astronaut()`. The shuttle behind her is cut out along a hand-drawn outline, the wall
behind it is filled in, and the exposure is rendered by m2a's own generator. Writes the blurred
photo, the sharp scene at mid-exposure and the true mask beside this file.

    python examples/make_example.py
"""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from skimage import data

from m2a.runtime.images import Photo, write_mask, write_photo
from m2a.training.layers import Layer, expose_layers
from m2a.training.light import to_display, to_linear
from m2a.training.trajectories import Motion

FOLDER = Path(__file__).resolve().parent

# (x, y) in the 512×512 photograph.
OUTLINE = [
    (417, 0), (409, 0), (399, 15), (396, 30), (396, 45), (393, 58), (388, 42), (382, 53),
    (380, 76), (379, 112), (377, 182), (354, 212), (354, 224), (382, 228), (369, 267), (388, 271),
    (397, 252), (411, 252), (412, 268), (425, 268), (426, 238), (436, 236), (437, 258), (441, 270),
    (455, 270), (459, 262), (455, 235), (456, 226), (456, 141), (455, 65), (446, 40), (439, 56),
    (437, 35), (432, 15), (425, 0),
]  # fmt: skip

MOTION = Motion(centre=(415.0, 140.0), velocity=(9.0, -4.0), acceleration=(1.0, 1.5))
"""About 20 px from the first moment of the exposure to the last."""

NOISE_SIGMA = 1.0 / 255
"""Of display values; the same noise in the blurred and the sharp picture."""


def matte(shape: tuple[int, int]) -> NDArray[np.float32]:
    """The shuttle's soft-edged alpha, f32 [H, W]."""
    alpha = np.zeros(shape, np.float32)
    cv2.fillPoly(alpha, [np.array(OUTLINE, np.int32)], 1.0, lineType=cv2.LINE_AA)
    return cv2.GaussianBlur(alpha, (0, 0), 0.8)


def main() -> None:
    """Renders and writes the three pictures."""
    photo = np.ascontiguousarray(data.astronaut())
    alpha = matte(photo.shape[:2])
    hole = cv2.dilate((alpha > 0.02).astype(np.uint8), np.ones((9, 9), np.uint8))
    wall = to_linear(cv2.inpaint(photo, hole, 9, cv2.INPAINT_TELEA))
    shuttle = np.dstack([to_linear(photo) * alpha[:, :, None], alpha])
    # A frame of zeros, so that nothing is cut where the shuttle meets the upper border.
    shuttle = np.pad(shuttle, ((1, 1), (1, 1), (0, 0)))
    layer = Layer(rgba=shuttle, origin=(-1, -1), motion=MOTION)
    exposure = expose_layers(wall, [layer])
    noise = np.random.default_rng(0).normal(0, NOISE_SIGMA, photo.shape)
    for name, linear in (("shuttle", exposure.blurred), ("shuttle-sharp", exposure.sharp)):
        display = np.clip(to_display(linear) + noise, 0, 1)
        levels = np.rint(display * 255).astype(np.uint8)
        write_photo(FOLDER / f"{name}.png", Photo(pixels=levels), overwrite=True)
    write_mask(FOLDER / "shuttle-mask.png", exposure.mask, overwrite=True)


if __name__ == "__main__":
    main()
