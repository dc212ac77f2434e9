"""What the network costs: arithmetic per pixel, counted from the configuration.

One multiplication and one addition are two FLOP. Only convolutions and matrix products count, as
the field does; norms, gates and additions are below 3 %.
"""

from __future__ import annotations

from dataclasses import dataclass

from m2a.models.config import LEVELS, MOTION_LEVEL, M2AENetConfig

_PATCH_VALUES = 75


@dataclass(frozen=True, kw_only=True)
class Cost:
    """FLOP per pixel.

    Attributes:
        mask: per pixel of the image.
        restore: per *active* pixel, where the mask is solid: N_l = N_0 / 4^l.
    """

    mask: float
    restore: float


def count_cost(config: M2AENetConfig) -> Cost:
    """Counts the arithmetic of a configuration."""
    looks = 2 if config.mask_mirrored else 1
    return Cost(mask=2 * looks * _mask_products(config), restore=2 * _restore_products(config))


def _mask_products(config: M2AENetConfig) -> float:
    widths = config.mask_widths
    total = 25 * 3 * config.mask_stem_width / 4 + 9 * config.mask_stem_width * widths[0] / 16
    for level, (width, blocks) in enumerate(zip(widths, config.mask_blocks, strict=True)):
        pixels = 16 * 4**level
        decoder = 1 if level < LEVELS - 1 else 0
        total += (blocks + decoder) * 9 * width * width / pixels
        if level:
            finer = widths[level - 1]
            total += 9 * finer * width / pixels + width * 4 * finer / pixels
    return total + widths[0] * 16 / 16


def _restore_products(config: M2AENetConfig) -> float:
    widths, blocks = config.widths, config.blocks
    total = float(_PATCH_VALUES * widths[0] + widths[0] * 3)
    for level, width in enumerate(widths):
        sites = 0.25**level
        count = blocks[level] * (2 if level < LEVELS - 1 else 1)
        total += sites * count * (9 * width * 2 * width + width * width)
        if level:
            finer = widths[level - 1]
            total += sites * (4 * finer * width + width * 4 * finer)
    width = widths[MOTION_LEVEL]
    sites = 0.25**MOTION_LEVEL
    return total + sites * (4 * width + config.trajectory_points * width * width)
