"""What a synthetic sample is, and what samples are asked for."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.sites import CELL

KINDS = ("objects", "region", "shake", "still")


@dataclass(frozen=True, kw_only=True)
class SynthesisConfig:
    """What samples look like. Ranges are (low, high); probabilities lie in [0, 1].

    Attributes:
        size: side of the crop, or (height, width), px; at least 32.
        blur_length: arc length of a trajectory, px, log-uniform.
        scale: scale of the photographs, log-uniform; raised where a photograph is too small.
        object_size: longer side of an object, as a fraction of the crop's shorter side;
            a moving region of the photograph has at least 0.2. Uniform.
        log_object_size: log-uniform instead, so that a wide range still has many small objects.
        noise_sigma: standard deviation of the noise, of display values in [0, 1].
        jpeg_quality: quality of the blurred image's JPEG compression, or None for no JPEG.
        jpeg_probability: how often the blurred image is compressed.
        objects_probability: share of scenes with pasted objects in motion.
        region_probability: share of scenes in which a part of the photograph moves.
        shake_probability: share of scenes with camera shake.
        still_probability: share of scenes without motion; the four shares add up to 1.
        linear_probability: share of trajectories that are straight and even.
        quadratic_probability: share of curved or accelerated trajectories; the rest is jerky.
        rotation: standard deviation of an object's turn between t = 0 and t = 1, degrees; a
            quarter of it for the camera. Half of the things do not turn.
        zoom: standard deviation of its relative scaling, likewise.
        still_object_probability: how often a pasted object stays still.
        defocus_probability: how often something in the scene is out of focus.
        smooth_object_probability: how often a pasted object, moving or still, has a smooth surface
            within crisp edges: a face, a wall, painted metal. Smooth is not blurred.
        cutout_probability: how often a pasted object is one of the cut-outs, where there are any,
            and not a drawn shape filled from another photograph.
        highlight_probability: how often the exposure lets highlights clip.
        tone_probability: how often both images get a gamma in [0.8, 1.25] and a contrast.
    """

    size: int | tuple[int, int] = 256
    blur_length: tuple[float, float] = (4.0, 60.0)
    scale: tuple[float, float] = (0.25, 1.0)
    object_size: tuple[float, float] = (0.08, 0.6)
    log_object_size: bool = False
    noise_sigma: tuple[float, float] = (0.0, 2.0 / 255.0)
    jpeg_quality: tuple[int, int] | None = (80, 98)
    jpeg_probability: float = 0.5
    objects_probability: float = 0.5
    region_probability: float = 0.25
    shake_probability: float = 0.08
    still_probability: float = 0.17
    linear_probability: float = 0.4
    quadratic_probability: float = 0.35
    rotation: float = 1.5
    zoom: float = 0.01
    still_object_probability: float = 0.2
    defocus_probability: float = 0.25
    smooth_object_probability: float = 0.0
    cutout_probability: float = 0.5
    highlight_probability: float = 0.1
    tone_probability: float = 0.3

    def __post_init__(self) -> None:
        if min(self.frame) < 32:
            raise ValueError(f"size is {self.size}; expected sides of at least 32 px")
        for name, floor, ceiling in (
            ("blur_length", 1e-3, 90.0),
            ("scale", 1e-3, 8.0),
            ("object_size", 0.02, 2.0),
            ("noise_sigma", 0.0, 1.0),
        ):
            self._check_range(name, getattr(self, name), floor, ceiling)
        if self.jpeg_quality is not None:
            self._check_range("jpeg_quality", self.jpeg_quality, 1, 100)
        for field in fields(self):
            value = getattr(self, field.name)
            if field.name.endswith("_probability") and not 0.0 <= value <= 1.0:
                raise ValueError(f"{field.name} is {value}; expected 0 to 1")
        if abs(sum(self.kind_shares) - 1.0) > 1e-6:
            raise ValueError(
                f"the probabilities of {', '.join(KINDS)} are {self.kind_shares}, which add up "
                f"to {sum(self.kind_shares):g}; expected 1"
            )
        if self.linear_probability + self.quadratic_probability > 1.0 + 1e-6:
            raise ValueError(
                f"linear_probability {self.linear_probability} and quadratic_probability "
                f"{self.quadratic_probability} add up to more than 1"
            )
        if not (0.0 <= self.rotation <= 45.0 and 0.0 <= self.zoom <= 0.5):
            raise ValueError(
                f"rotation is {self.rotation}, zoom {self.zoom}; "
                "expected 0 to 45 degrees and 0 to 0.5"
            )

    @property
    def frame(self) -> tuple[int, int]:
        """(height, width) of a sample, px."""
        return (self.size, self.size) if isinstance(self.size, int) else self.size

    @property
    def kind_shares(self) -> tuple[float, float, float, float]:
        """Shares of the scenes, in the order of `KINDS`."""
        return (
            self.objects_probability,
            self.region_probability,
            self.shake_probability,
            self.still_probability,
        )

    @staticmethod
    def _check_range(name: str, value: tuple[float, float], floor: float, ceiling: float) -> None:
        if len(value) != 2 or not floor <= value[0] <= value[1] <= ceiling:
            raise ValueError(
                f"{name} is {value}; expected (low, high) with {floor} <= low <= high <= {ceiling}"
            )


@dataclass(frozen=True, kw_only=True)
class Pictures:
    """What of a sample can be looked at.

    Attributes:
        blurred: uint8 [H, W, 3], sRGB.
        sharp: uint8 [H, W, 3], sRGB: the scene at mid-exposure, with the same noise, without JPEG.
        mask: bool [H, W], where something moves; all True under camera shake.
        visible: bool [H, W], the part of the mask where the blur changes the picture visibly.
    """

    blurred: NDArray[np.uint8]
    sharp: NDArray[np.uint8]
    mask: NDArray[np.bool_]
    visible: NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class Sample(Pictures):
    """A synthetic photograph and all that is known about it.

    Attributes:
        trajectory: float32 [H, W, 4], (a_x, a_y, b_x, b_y), px: the sampling offsets
            d(t) = a t + b t^2, t in [-1, 1], with blurred(p) = mean over t of sharp(p + d_p(t))
            in linear light; zero outside the mask.
        kind: "objects", "region", "shake" or "still".
    """

    trajectory: NDArray[np.float32]
    kind: str


def with_defaults(fields: Mapping[str, Any]) -> dict[str, Any]:
    """JSON values of a `SynthesisConfig` of any age; what is younger has its default."""
    filled: dict[str, Any] = json.loads(json.dumps({**asdict(SynthesisConfig()), **fields}))
    return filled


def cell_motion(sample: Sample) -> NDArray[np.float32]:
    """Averages the true trajectories over the moving pixels of every 4×4 cell.

    Returns:
        f32 [H/4, W/4, 4], rounded up; NaN where no pixel of a cell moves.
    """
    border = [(0, -side % CELL) for side in sample.mask.shape]
    moving = np.pad(sample.mask, border).astype(np.float32)[..., None]
    motion = np.pad(sample.trajectory, [*border, (0, 0)]) * moving
    rows, columns = moving.shape[0] // CELL, moving.shape[1] // CELL
    total, count = (
        field.reshape(rows, CELL, columns, CELL, -1).sum(axis=(1, 3)) for field in (motion, moving)
    )
    cells: NDArray[np.float32] = np.divide(
        total, count, out=np.full_like(total, np.nan), where=count > 0
    )
    return cells
