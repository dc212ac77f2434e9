"""Which implementation of the restorer's 3×3 convolutions a training takes."""

from __future__ import annotations

import importlib.util

import torch

from m2a.errors import TrainingError
from m2a.models.gathered import NormedConvolution
from m2a.training.config import TrainingConfig

_SHORTEST_TILE = 16
_CAPABILITY = (8, 0)


def restorer_convolution(config: TrainingConfig, device: torch.device) -> NormedConvolution | None:
    """Returns Triton kernels where they run, None for torch's own operations.

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
    if device.type != "cuda" or torch.version.hip is not None:
        return "an NVIDIA GPU"
    # TF32 and bfloat16 begin there, and older ones have less shared memory than a tile takes.
    if torch.cuda.get_device_capability(device) < _CAPABILITY:
        return "a GPU of compute capability 8.0 or higher"
    if importlib.util.find_spec("triton") is None:
        return "the Triton compiler, which torch for CUDA brings on Linux"
    if config.network.width % _SHORTEST_TILE:
        return f"a width that {_SHORTEST_TILE} divides, found {config.network.width}"
    return None
