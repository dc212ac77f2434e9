"""Moving layers over a still background, composited and averaged over the exposure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.training.opencv import cv2
from m2a.training.trajectories import Motion, exposure_times

_Image = NDArray[np.float32]
_Box = tuple[int, int, int, int]

SWEPT_ALPHA = 0.05
"""A pixel belongs to the annotated mask where a moving thing ever covers more than this."""


@dataclass(frozen=True, kw_only=True)
class Layer:
    """A matte in front of what lies below it.

    Attributes:
        rgba: float32 [h, w, 4], linear light premultiplied by alpha, and alpha in [0, 1]; its
            outermost rows and columns are zero unless they lie outside the frame at all times.
        origin: (x, y) of its first pixel in the frame at t = 0, px; may be negative.
        motion: in frame coordinates; None if the layer stays still.
    """

    rgba: _Image
    origin: tuple[int, int]
    motion: Motion | None

    @property
    def radius(self) -> float:
        """Half the diagonal, px."""
        return float(np.hypot(*self.rgba.shape[:2])) / 2.0


@dataclass(frozen=True, kw_only=True)
class Exposure:
    """What the camera records.

    Attributes:
        blurred: float32 [H, W, 3], linear light averaged over the exposure.
        sharp: float32 [H, W, 3], linear light at t = 0; equals `blurred` outside the mask.
        mask: bool [H, W], where a moving layer covers more than `SWEPT_ALPHA` at some time.
        trajectory: float32 [H, W, 4], sampling offsets (a_x, a_y, b_x, b_y), px; zero outside.
    """

    blurred: _Image
    sharp: _Image
    mask: NDArray[np.bool_]
    trajectory: NDArray[np.float32]


def expose_layers(background: _Image, layers: Sequence[Layer]) -> Exposure:
    """Photograph layers that move over a still background.

    At every time step the whole stack is composited, bottom to top, within the box that the
    moving layers sweep.

    Args:
        background: float32 [H, W, 3], linear light.
        layers: bottom to top.

    Returns:
        The exposure.
    """
    height, width = background.shape[:2]
    sharp = background.copy()
    for layer in layers:
        _paste(sharp, layer)
    movers = [(layer, layer.motion) for layer in layers if layer.motion is not None]
    times = exposure_times(max([motion.steps(layer.radius) for layer, motion in movers], default=9))
    boxes = [_sweep(layer, motion, times, height, width) for layer, motion in movers]
    seen = [box for box in boxes if box[2] > box[0] and box[3] > box[1]]
    exposure = Exposure(
        blurred=sharp.copy(),
        sharp=sharp,
        mask=np.zeros((height, width), np.bool_),
        trajectory=np.zeros((height, width, 4), np.float32),
    )
    if not seen:
        return exposure
    corners = np.array(seen)
    x0, y0 = (int(v) for v in corners[:, :2].min(axis=0))
    x1, y1 = (int(v) for v in corners[:, 2:].max(axis=0))
    region = slice(y0, y1), slice(x0, x1)
    mean, swept, ownership = _average(background[region], layers, (x0, y0), boxes, times)
    mask = swept > SWEPT_ALPHA
    # Below the threshold the difference is far under a grey level: make it exactly nothing.
    np.copyto(exposure.blurred[region], mean, where=mask[:, :, None])
    exposure.mask[region] = mask
    owner = np.where(mask, ownership.argmax(axis=0), -1)
    for index, (_, motion) in enumerate(movers):
        owned = owner == index
        if owned.any():
            field = motion.trajectory(times, height, width)[region]
            np.copyto(exposure.trajectory[region], field, where=owned[:, :, None])
    return exposure


def expose_shake(scene: _Image, motion: Motion, margin: int) -> Exposure:
    """Photograph a scene with a moving camera.

    Args:
        scene: float32 [H + 2 margin, W + 2 margin, 3], linear light.
        motion: of the scene, in the coordinates of the inner frame.
        margin: px, at least `motion.reach` of the frame's half diagonal.

    Returns:
        The exposure of the inner H x W frame; its mask is full.
    """
    height, width = (side - 2 * margin for side in scene.shape[:2])
    times = exposure_times(motion.steps(float(np.hypot(height, width)) / 2.0))
    total = np.zeros((height, width, 3), np.float32)
    buffer = np.empty_like(total)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for matrix in motion.backward(times):
        matrix[:, 2] += margin
        cv2.warpAffine(
            scene, matrix, (width, height), buffer, flags=flags, borderMode=cv2.BORDER_REFLECT_101
        )
        total += buffer
    return Exposure(
        blurred=total * np.float32(1.0 / len(times)),
        sharp=scene[margin : margin + height, margin : margin + width].copy(),
        mask=np.ones((height, width), np.bool_),
        trajectory=motion.trajectory(times, height, width),
    )


def _average(
    background: _Image,
    layers: Sequence[Layer],
    corner: tuple[int, int],
    boxes: list[_Box],
    times: NDArray[np.float64],
) -> tuple[_Image, _Image, _Image]:
    """Mean of the composites, largest moving alpha, and each mover's share, within one box."""
    height, width = background.shape[:2]
    frame = np.empty((height, width, 4), np.float32)  # the fourth channel: moving alpha
    total, swept = np.zeros_like(frame), np.zeros((height, width), np.float32)
    still = np.dstack([background, np.zeros((height, width), np.float32)])
    stack: list[tuple[Layer, _Box, NDArray[np.float64] | None, int]] = []
    ownership = np.zeros((len(boxes), height, width), np.float32)
    for layer in layers:
        if layer.motion is None:
            if not stack:  # nothing moves below: part of the background for good
                _paste(still, layer, corner)
            else:
                stack.append((layer, (0, 0, 0, 0), None, -1))
            continue
        index = sum(1 for entry in stack if entry[2] is not None)
        box = boxes[index]
        local = (box[0] - corner[0], box[1] - corner[1], box[2] - corner[0], box[3] - corner[1])
        backward = layer.motion.backward(times)
        # From the box's own pixels to the layer's own pixels.
        backward[:, :, 2] += backward[:, :, :2] @ np.array(box[:2]) - np.array(layer.origin)
        stack.append((layer, local, backward, index))
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    for step in range(len(times)):
        np.copyto(frame, still)
        for layer, (x0, y0, x1, y1), matrices, index in stack:
            if matrices is None:
                _paste(frame, layer, corner)
            elif x1 > x0 and y1 > y0:
                size = (x1 - x0, y1 - y0)
                warped = cv2.warpAffine(layer.rgba, matrices[step], size, flags=flags)
                alpha = warped[:, :, 3]
                _over(frame[y0:y1, x0:x1], warped, alpha)
                ownership[index, y0:y1, x0:x1] += alpha
        total += frame
        np.maximum(swept, frame[:, :, 3], out=swept)
    scale = np.float32(1.0 / len(times))
    ownership *= scale
    hidden = np.ones((height, width), np.float32)
    for index in reversed(range(len(boxes))):  # the upper layers hide the lower ones
        share = ownership[index].copy()
        ownership[index] *= hidden
        hidden *= np.float32(1.0) - share
    return total[:, :, :3] * scale, swept, ownership


def _over(below: _Image, rgba: _Image, alpha: _Image) -> None:
    keep = np.float32(1.0) - alpha
    below *= cv2.merge([keep] * below.shape[2])
    below += rgba[:, :, : below.shape[2]]


def _paste(frame: _Image, layer: Layer, corner: tuple[int, int] = (0, 0)) -> None:
    """Composite a layer at t = 0 into a frame [H, W, 3], or [H, W, 4] with the moving alpha."""
    x, y = layer.origin[0] - corner[0], layer.origin[1] - corner[1]
    x0, y0 = max(x, 0), max(y, 0)
    x1 = min(x + layer.rgba.shape[1], frame.shape[1])
    y1 = min(y + layer.rgba.shape[0], frame.shape[0])
    if x1 <= x0 or y1 <= y0:
        return
    rgba = layer.rgba[y0 - y : y1 - y, x0 - x : x1 - x]
    alpha = rgba[:, :, 3]
    if frame.shape[2] == 4 and layer.motion is None:
        rgba = rgba * np.array([1, 1, 1, 0], np.float32)
    _over(frame[y0:y1, x0:x1], rgba, alpha)


def _sweep(
    layer: Layer, motion: Motion, times: NDArray[np.float64], height: int, width: int
) -> _Box:
    """The box (x0, y0, x1, y1) of the frame's pixels that the layer ever touches."""
    h, w = layer.rgba.shape[:2]
    x, y = layer.origin
    corners = np.array([[x, y], [x + w, y], [x, y + h], [x + w, y + h]], np.float64).T
    backward = motion.backward(times)
    places = np.linalg.solve(backward[:, :, :2], corners - backward[:, :, 2:])
    low = np.floor(places.min(axis=(0, 2))).astype(int) - 1
    high = np.ceil(places.max(axis=(0, 2))).astype(int) + 2
    x0, x1 = np.clip([low[0], high[0]], 0, width)
    y0, y1 = np.clip([low[1], high[1]], 0, height)
    return int(x0), int(y0), int(x1), int(y1)
