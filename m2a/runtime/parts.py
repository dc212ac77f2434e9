"""Spatial parts: how far the graphs look, what they take, and a split that keeps within bounds.

A part is a box with a halo, wide enough that nothing inside the box depends on what lies beyond
the halo. So the result does not depend on how a picture is split (DESIGN section 7).

Halos are computed from the network's shape, from the output to the input: a layer that reads
r cells beyond its own widens the halo by r times its stride, and a step to a coarser level first
rounds it up to whole cells of that level. Boxes are multiples of 32, the stride of the coarsest
cells, so that no cell is cut.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.sites import CELL, LEVELS, MOTION_LEVEL, MULTIPLE, max_pool
from m2a.runtime.windows import Box

__all__ = [
    "MAX_DISPLACEMENT",
    "NetworkShape",
    "dense_parts",
    "mask_parts",
    "restore_parts",
    "smallest_memory",
]

MAX_DISPLACEMENT = 48
"""Pixels per axis that a trajectory reaches at most."""


@dataclass(frozen=True, kw_only=True)
class NetworkShape:
    """What of the network's configuration decides halos and memory.

    Attributes:
        width: channels of the restorer at level 0.
        blocks: blocks of the restorer at levels 0…3.
        mask_stem_width: channels of the mask predictor at stride 2.
        mask_blocks: blocks of the mask predictor at strides 4, 8, 16 and 32.
        mask_mirrored: whether it sees the picture and its mirror image, at the same time.
    """

    width: int
    blocks: tuple[int, int, int, int]
    mask_stem_width: int
    mask_blocks: tuple[int, int, int, int]
    mask_mirrored: bool = False

    @property
    def mask_halo(self) -> int:
        """Pixels around a box that its probabilities depend on, rounded up to 32."""
        strides = [CELL * 2**level for level in range(LEVELS)]
        halo = 0
        for stride in strides[:-1]:  # the decoder, from the output down
            halo = _up_to(halo, stride) + stride
        halo = _up_to(halo, strides[-1])
        for stride, blocks in zip(reversed(strides), reversed(self.mask_blocks), strict=True):
            # The blocks, then the convolution of stride 2 that led to this level.
            halo += blocks * stride + stride // 2
        return _up_to(halo + 2, MULTIPLE)  # the stem's 5×5 on the picture

    @property
    def restore_halo(self) -> int:
        """Pixels around a box that its residuals and trajectories depend on, rounded up to 32."""
        halo = 0
        for level, blocks in enumerate(self.blocks[:-1]):  # the decoder, from the output down
            halo = _up_to(halo, 2**level) + blocks * 2**level
            if level == MOTION_LEVEL:
                # floor(d) sites away, and one more for the other corner of the bilinear sample.
                halo += MAX_DISPLACEMENT + CELL
        halo = _up_to(halo, 2 ** (LEVELS - 1))
        halo += sum(blocks * 2**level for level, blocks in enumerate(self.blocks))
        return _up_to(halo, MULTIPLE)

    @property
    def mask_bytes(self) -> int:
        """Memory of the mask graph per pixel, measured in ONNX Runtime on a CPU and rounded up.

        With the mirror image it is at most twice as much.
        """
        return (32 + 4 * self.mask_stem_width) * (2 if self.mask_mirrored else 1)

    @property
    def area_bytes(self) -> int:
        """Memory of the restoration per pixel, active or not: samples, row maps, masks."""
        return 24

    @property
    def restore_bytes(self) -> int:
        """Memory of tables, patches and restoration graph per active pixel, likewise.

        Where active pixels lie together, as blur does: the coarser levels have few sites then.
        """
        return 420 + 52 * self.width

    @property
    def site_bytes(self) -> tuple[int, int, int, int]:
        """Memory per site of levels 0…3, likewise; what counts where pixels lie scattered.

        Alone, a pixel has a site at every level, with twice the channels of the level before: of
        every eighth row and column `small` takes 9 kB a pixel. Counted as half as much again, for
        the gaps that one part after another leaves in ONNX Runtime's memory.
        """
        width = self.width
        return 420 + 8 * width, 64 * width, 115 * width, 700 * width

    def restoration_bytes(self, sites: Sequence[int], area: int) -> int:
        """Memory of restoring a box of `area` pixels with so many sites at levels 0…3."""
        together = sites[0] * self.restore_bytes
        scattered = sum(n * of_one for n, of_one in zip(sites, self.site_bytes, strict=True))
        return max(together, scattered) + area * self.area_bytes

    @property
    def dense_bytes(self) -> int:
        """Memory of the dense restorer per pixel, likewise."""
        return 200 + 50 * self.width


def smallest_memory(shape: NetworkShape) -> int:
    """Bytes that the smallest part takes: a box of 32×32 pixels with its halo."""
    mask = (MULTIPLE + 2 * shape.mask_halo) ** 2 * shape.mask_bytes
    restore = (MULTIPLE + 2 * shape.restore_halo) ** 2 * (shape.restore_bytes + shape.area_bytes)
    return max(mask, restore)


def mask_parts(shape: NetworkShape, whole: Box, *, memory: int) -> Iterator[tuple[Box, Box]]:
    """Splits a padded picture for the mask graph.

    Args:
        shape: the network's.
        whole: the padded picture, sides multiples of 32.
        memory: bytes that one part may take, at least `smallest_memory(shape)`.

    Yields:
        (box, outer): the boxes are disjoint and cover `whole`; `outer` is the box with its halo.
    """
    halo = shape.mask_halo

    def fits(box: Box) -> bool:
        outer = box.grown(halo, within=whole)
        return outer.height * outer.width * shape.mask_bytes <= memory

    for box in _split(whole, fits):
        yield box, box.grown(halo, within=whole)


def restore_parts(
    shape: NetworkShape, mask: NDArray[np.bool_], *, memory: int
) -> Iterator[tuple[Box, Box]]:
    """Splits a padded mask for the restoration graph.

    Args:
        shape: the network's.
        mask: bool [H', W'], sides multiples of 32.
        memory: bytes that one part may take, at least `smallest_memory(shape)`.

    Yields:
        (box, outer) as `mask_parts`; the boxes are disjoint, each has an active pixel, and together
        they hold all of them.
    """
    return _active_parts(shape, mask, shape.restoration_bytes, memory=memory)


def dense_parts(
    shape: NetworkShape, mask: NDArray[np.bool_], *, memory: int
) -> Iterator[tuple[Box, Box]]:
    """Splits a padded mask for the dense restorer, as `restore_parts` does for the gathered one."""

    def taken(sites: Sequence[int], area: int) -> int:
        return area * (shape.dense_bytes + shape.area_bytes)

    return _active_parts(shape, mask, taken, memory=memory)


def _active_parts(
    shape: NetworkShape,
    mask: NDArray[np.bool_],
    taken: Callable[[Sequence[int], int], int],
    *,
    memory: int,
) -> Iterator[tuple[Box, Box]]:
    """As `restore_parts`; `taken` tells bytes from a box's sites per level and its pixels."""
    halo, whole = shape.restore_halo, Box.of((mask.shape[0], mask.shape[1]))
    counts = _tile_counts(mask)

    def fits(box: Box) -> bool:
        outer = box.grown(halo, within=whole)
        sites = [int(level[outer.scaled(MULTIPLE).slices].sum()) for level in counts]
        return taken(sites, outer.height * outer.width) <= memory

    for part in _split(whole, fits, shrink=lambda box: _active(counts[0], box)):
        yield part, part.grown(halo, within=whole)


def _tile_counts(mask: NDArray[np.bool_]) -> list[NDArray[np.int64]]:
    """Sites of each tile of 32×32 pixels at levels 0…3, each [H'/32, W'/32]."""
    levels = [mask]
    while len(levels) < LEVELS:
        levels.append(max_pool(levels[-1]))
    counts = []
    for number, level in enumerate(levels):
        side = MULTIPLE >> number
        tiles = level.reshape(level.shape[0] // side, side, -1, side)
        counts.append(tiles.sum(axis=(1, 3), dtype=np.int64))
    return counts


def _split(
    box: Box, fits: Callable[[Box], bool], shrink: Callable[[Box], Box | None] = lambda box: box
) -> Iterator[Box]:
    """Halves a box across its longer side until its parts fit; `shrink` drops what is empty."""
    shrunk = shrink(box)
    if shrunk is None:
        return
    height, width = shrunk.height // MULTIPLE, shrunk.width // MULTIPLE
    if max(height, width) <= 1 or fits(shrunk):
        yield shrunk
        return
    if height >= width:
        cut = shrunk.top + height // 2 * MULTIPLE
        ends: list[tuple[int, int, int, int]] = [
            (shrunk.top, shrunk.left, cut, shrunk.right),
            (cut, shrunk.left, shrunk.bottom, shrunk.right),
        ]
    else:
        cut = shrunk.left + width // 2 * MULTIPLE
        ends = [
            (shrunk.top, shrunk.left, shrunk.bottom, cut),
            (shrunk.top, cut, shrunk.bottom, shrunk.right),
        ]
    for top, left, bottom, right in ends:
        half = Box(top=top, left=left, bottom=bottom, right=right)
        yield from _split(half, fits, shrink)


def _active(counts: NDArray[np.int64], box: Box) -> Box | None:
    """The smallest box of whole tiles that holds the active pixels of `box`; None without any."""
    tiles = box.scaled(MULTIPLE)
    active = counts[tiles.slices] > 0
    rows, columns = np.flatnonzero(active.any(axis=1)), np.flatnonzero(active.any(axis=0))
    if not len(rows):
        return None
    return Box(
        top=(tiles.top + int(rows[0])) * MULTIPLE,
        left=(tiles.left + int(columns[0])) * MULTIPLE,
        bottom=(tiles.top + int(rows[-1]) + 1) * MULTIPLE,
        right=(tiles.left + int(columns[-1]) + 1) * MULTIPLE,
    )


def _up_to(size: int, multiple: int) -> int:
    return -(-size // multiple) * multiple
