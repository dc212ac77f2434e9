"""The configuration from which M2AENet is built (DESIGN section 3)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

LEVELS = 4
"""Levels of the restorer: level l has the resolution H/2^l × W/2^l."""

MULTIPLE = 2**5
"""Images are padded at the right and bottom to a multiple of this: the mask predictor's stride."""

MOTION_LEVEL = 2
"""The level whose sites carry a trajectory."""

MAX_LINEAR = 32.0
"""Bound of the linear coefficient a of a trajectory, in full-resolution pixels per axis."""

MAX_QUADRATIC = 16.0
"""Bound of the quadratic coefficient b of a trajectory, in full-resolution pixels per axis."""


@dataclass(frozen=True, kw_only=True)
class M2AENetConfig:
    """Everything that determines what M2AENet's weights compute: their shapes, and `mask_mirrored`.

    Attributes:
        width: channels of the restorer at level 0; they double per level. Even, at least 2.
        blocks: residual blocks of the encoder at levels 0…3; a level may have none. The decoder
            mirrors levels 2…0.
        trajectory_points: T, the number of points at which features are sampled along a
            trajectory, spread evenly over t ∈ [-1, 1]. At least 2.
        mask_stem_width: channels of the mask predictor at stride 2.
        mask_widths: channels of the mask predictor at strides 4, 8, 16 and 32.
        mask_blocks: residual blocks of the mask predictor's encoder at those strides.
        mask_mirrored: whether the mask is predicted from the picture and its mirror image, by the
            mean of both logits, for twice the arithmetic. While it is trained the predictor sees
            one picture at a time, end to end too; the false alarms of a recipe are those of both.

    Raises:
        ValueError: a field is out of its range.
    """

    width: int = 16
    blocks: tuple[int, int, int, int] = (1, 1, 2, 2)
    trajectory_points: int = 5
    mask_stem_width: int = 16
    mask_widths: tuple[int, int, int, int] = (16, 32, 64, 128)
    mask_blocks: tuple[int, int, int, int] = (0, 1, 1, 2)
    mask_mirrored: bool = False

    def __post_init__(self) -> None:
        if self.width < 2 or self.width % 2:
            raise ValueError(f"width must be even and at least 2, found {self.width}")
        _check_four("blocks", self.blocks, least=0)
        _check_four("mask_widths", self.mask_widths, least=1)
        _check_four("mask_blocks", self.mask_blocks, least=0)
        if self.trajectory_points < 2:
            raise ValueError(
                f"trajectory_points must be at least 2, found {self.trajectory_points}"
            )
        if self.mask_stem_width < 1:
            raise ValueError(f"mask_stem_width must be at least 1, found {self.mask_stem_width}")
        if type(self.mask_mirrored) is not bool:
            raise ValueError(f"mask_mirrored must be true or false, found {self.mask_mirrored!r}")

    @property
    def widths(self) -> tuple[int, ...]:
        """Channels of the restorer at levels 0…3."""
        return tuple(self.width * 2**level for level in range(LEVELS))

    @property
    def name(self) -> str:
        """`small` or `base` where the configuration is one of these, else `custom`."""
        return next((name for name, preset in PRESETS.items() if preset == self), "custom")

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}

    @classmethod
    def from_json(cls, fields: Mapping[str, Any]) -> M2AENetConfig:
        """Builds a configuration from `to_json`'s output.

        Raises:
            ValueError: a field is unknown or out of its range.
        """
        unknown = sorted(set(fields) - set(cls.__dataclass_fields__))
        if unknown:
            raise ValueError(
                f"unknown configuration fields {unknown}; "
                f"expected some of {sorted(cls.__dataclass_fields__)}"
            )
        values: dict[str, Any] = {
            k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()
        }
        return cls(**values)


def _check_four(name: str, values: tuple[int, ...], *, least: int) -> None:
    if len(values) != LEVELS or any(value < least for value in values):
        raise ValueError(f"{name} must be {LEVELS} integers of at least {least}, found {values}")


PRESETS = {
    "small": M2AENetConfig(),
    "base": M2AENetConfig(
        width=32,
        blocks=(2, 2, 4, 4),
        mask_stem_width=32,
        mask_widths=(48, 64, 128, 192),
        mask_blocks=(1, 2, 2, 3),
        mask_mirrored=True,
    ),
}
"""The two sizes of DESIGN section 3. The mask predictor of `base` has grown with its restorer: a
better mask helps it more, and beside it costs less."""
