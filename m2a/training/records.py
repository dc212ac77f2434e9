"""Rendered samples as records on disk, as stacks of tensors, and what keeps them meanwhile."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from m2a.errors import TrainingError
from m2a.runtime.sites import CELL

SHARD_SAMPLES = 64

MASKED = 1
"""Label bit: the annotated mask."""

VISIBLE = 2
"""Label bit: the blur changes what is seen here."""

SHAKEN = 4
"""Label bit, of a whole sample: the camera moved."""


def sample_type(side: int) -> np.dtype[np.void]:
    """The fields of one sample of a shard, as in `Crops`, `motion` in half precision."""
    cells = side // CELL
    return np.dtype(
        [
            ("blurred", np.uint8, (side, side, 3)),
            ("sharp", np.uint8, (side, side, 3)),
            ("label", np.uint8, (side, side)),
            ("motion", np.float16, (cells, cells, 4)),
        ]
    )


@dataclass(frozen=True, kw_only=True)
class Crops:
    """A stack of samples, on one device.

    Attributes:
        blurred: uint8 [B, S, S, 3], sRGB.
        sharp: uint8 [B, S, S, 3], the scene at mid-exposure.
        label: uint8 [B, S, S], bits `MASKED`, `VISIBLE` and `SHAKEN`.
        motion: f32 [B, S/4, S/4, 4], the true trajectory of each 4×4 cell (a_x, a_y, b_x, b_y) in
            pixels; NaN where nothing moves.
    """

    blurred: Tensor
    sharp: Tensor
    label: Tensor
    motion: Tensor


class MappedShards:
    """Shards on disk, of which samples are copied."""

    def __init__(self) -> None:
        self._shards: dict[int, NDArray[np.void]] = {}

    @property
    def numbers(self) -> Collection[int]:
        """Of the shards at hand."""
        return self._shards.keys()

    def add(self, number: int, shard: NDArray[np.void]) -> None:
        """Takes in the records [64] of one shard."""
        self._shards[number] = shard

    def take(self, shards: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, Tensor]:
        """Copies of the samples at `places` of `shards`: the fields of `sample_type`, [B, …]."""
        pairs = zip(shards.tolist(), places.tolist(), strict=True)
        records = [self._shards[shard][place] for shard, place in pairs]
        names = records[0].dtype.names or ()
        return {n: torch.from_numpy(np.stack([record[n] for record in records])) for n in names}


class DeviceShards:
    """All samples in the memory of a device, for which it is set aside at once."""

    def __init__(self, shards: int, side: int, device: torch.device) -> None:
        """Sets memory aside for a number of shards of samples of `side` × `side` pixels.

        Raises:
            TrainingError: the device has less.
        """
        self.numbers: set[int] = set()
        record = sample_type(side)
        count = shards * SHARD_SAMPLES
        self._fields: dict[str, Tensor] = {}
        try:
            for name in record.names or ():
                of_one, shape = record[name].base, record[name].shape
                like = torch.from_numpy(np.empty(0, of_one))
                self._fields[name] = torch.empty((count, *shape), dtype=like.dtype, device=device)
        except torch.OutOfMemoryError as error:
            size = count * record.itemsize / 2**30
            raise TrainingError(
                f"{count} samples need {size:.1f} GiB of the memory of {device}, which has less: "
                "take fewer `samples`, or hide the GPU (CUDA_VISIBLE_DEVICES=) to train on the CPU"
            ) from error

    def add(self, number: int, shard: NDArray[np.void]) -> None:
        """Takes in the records [64] of one shard."""
        first = number * SHARD_SAMPLES
        for name, field in self._fields.items():
            samples = torch.from_numpy(np.ascontiguousarray(shard[name]))
            field[first : first + SHARD_SAMPLES].copy_(samples)
        self.numbers.add(number)

    def take(self, shards: NDArray[np.int64], places: NDArray[np.int64]) -> dict[str, Tensor]:
        """Copies of the samples at `places` of `shards`: the fields of `sample_type`, [B, …]."""
        rows = torch.from_numpy(shards * SHARD_SAMPLES + places)
        return {name: f.index_select(0, rows.to(f.device)) for name, f in self._fields.items()}


def turn_samples(
    fields: dict[str, Tensor], *, flip_y: bool, flip_x: bool, transpose: bool
) -> dict[str, Tensor]:
    """The fields of samples [B, …] seen in a mirror or transposed; the trajectories turn along."""
    axes = [axis for axis, flip in ((1, flip_y), (2, flip_x)) if flip]
    turned = {name: field.flip(axes) for name, field in fields.items()}
    signs = [-1.0 if flip_x else 1.0, -1.0 if flip_y else 1.0]
    turned["motion"] = turned["motion"].float() * turned["motion"].new_tensor(signs * 2).float()
    if transpose:
        turned = {name: field.transpose(1, 2) for name, field in turned.items()}
        turned["motion"] = turned["motion"][..., [1, 0, 3, 2]]
    return turned
