"""Which implementation of the restorer's 3×3 convolutions a training takes."""

from __future__ import annotations

import importlib.util

import torch

from m2a.errors import TrainingError
from m2a.models.gathered import NormedConvolution
from m2a.training.config import TrainingConfig

CHANNELS = 16
"""The Triton kernels take widths that are multiples of this, the shortest side of a tile."""


def restorer_convolution(config: TrainingConfig, device: torch.device) -> NormedConvolution | None:
    """Returns Triton's kernels where they run, None for torch's own operations.

    Raises:
        TrainingError: the recipe asks for bfloat16, and the kernels do not run here.
    """
    missing = _missing(config, device)
    if missing is None:
        from m2a.training.neighbour_convolution import TritonConvolution

        half = config.restorer_precision == "bfloat16"
        return TritonConvolution(torch.bfloat16 if half else torch.float32)
    if config.restorer_precision == "bfloat16":
        raise TrainingError(f"restorer_precision bfloat16 needs {missing}; leave it out")
    return None


def _missing(config: TrainingConfig, device: torch.device) -> str | None:
    """What the kernels lack."""
    if device.type != "cuda":
        return "a GPU"
    if importlib.util.find_spec("triton") is None:
        return "Triton, which torch for CUDA brings on Linux"
    if config.network.width % CHANNELS:
        return f"a width that is a multiple of {CHANNELS}, found {config.network.width}"
    return None
