"""Networks whose every parameter is random: a zero head or a unit scale would prove nothing."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import nn

from m2a.models import PRESETS, M2AENet, M2AENetConfig
from m2a.models.config import LEVELS
from m2a.models.gathered import GatheredRestorer, Tables
from m2a.models.reparameterize import reparameterize
from m2a.runtime.graph_inputs import extract_patches
from m2a.runtime.sites import Sites, build_sites, pad_image, pad_mask

TINY = M2AENetConfig(
    width=4,
    blocks=(1, 1, 1, 1),
    trajectory_points=3,
    mask_stem_width=4,
    mask_widths=(4, 8, 8, 8),
)
"""Small enough for hundreds of runs, with every kind of layer in it."""

PRESETS_AND_TINY = {"tiny": TINY, **PRESETS}


def random_network(config: M2AENetConfig, seed: int) -> M2AENet:
    """Returns a network in evaluation mode, every parameter and statistic randomised.

    The residual of a noise image has a standard deviation of 0.1 to 1, and the trajectories reach
    far beyond a site, to their bound.
    """
    network = M2AENet(config).eval()
    # One each: a change of one part leaves the other's weights.
    generators = {
        part: torch.Generator().manual_seed(100 * number + seed)
        for number, part in enumerate(("mask_predictor", "restorer"))
    }

    def normal(tensor: torch.Tensor, deviation: float) -> None:
        tensor.copy_(torch.randn(tensor.shape, generator=generator) * deviation)

    def uniform(tensor: torch.Tensor, low: float, high: float) -> None:
        tensor.copy_(low + (high - low) * torch.rand(tensor.shape, generator=generator))

    with torch.no_grad():
        for name, parameter in network.named_parameters():
            generator = generators[name.split(".")[0]]
            fan_in = math.prod(parameter.shape[1:])
            if name.endswith("norm.weight"):
                uniform(parameter, 0.5, 1.5)
            elif name.endswith(".scale"):
                uniform(parameter, 0.1, 0.4)
            elif name.endswith("bias"):
                normal(parameter, 1.0 if "motion.coefficients" in name else 0.2)
            elif "motion.coefficients" in name or "restorer.head" in name:
                normal(parameter, 0.3 / math.sqrt(fan_in))
            else:
                normal(parameter, 0.7 / math.sqrt(fan_in))
        generator = generators["mask_predictor"]
        for module in network.modules():
            if isinstance(module, nn.BatchNorm2d):
                normal(module.running_mean, 0.3)
                uniform(module.running_var, 0.5, 2.0)
    return network


class Rows(NamedTuple):
    """What the gathered form returns: residual [N_0, 3] and motion [N_2, 4]."""

    residual: torch.Tensor
    motion: torch.Tensor


def noise_image(height: int, width: int, seed: int = 0) -> np.ndarray:
    """f32 [H, W, 3] in [0, 1): the hardest picture for an index that is off by one."""
    return np.random.default_rng(seed).random((height, width, 3), dtype=np.float32)


def to_tensor(image: np.ndarray) -> torch.Tensor:
    """[H, W, C] → [1, C, H, W]."""
    return torch.from_numpy(np.ascontiguousarray(image.transpose(2, 0, 1)))[None]


@torch.no_grad()
def dense_rows(network: M2AENet, image: np.ndarray, mask: np.ndarray) -> Rows:
    """The masked dense form's values at the active sites, row-major."""
    residual, motion = network.restore(to_tensor(image), torch.from_numpy(mask)[None, None].float())
    coarse = pad_mask(mask)
    coarse = coarse.reshape(coarse.shape[0] // 4, 4, -1, 4).any(axis=(1, 3))
    return Rows(
        residual[0].permute(1, 2, 0)[torch.from_numpy(mask)],
        motion[0].permute(1, 2, 0)[torch.from_numpy(coarse)],
    )


@torch.no_grad()
def gathered_rows(network: M2AENet, image: np.ndarray, mask: np.ndarray) -> Rows:
    """The gathered form's values."""
    gathered = GatheredRestorer(network.config)
    gathered.load_state_dict(reparameterize(network.restorer))
    return Rows(*gathered(tables(image, mask)))


def tables(image: np.ndarray, mask: np.ndarray):
    """The inputs of the gathered form."""
    sites = build_sites(pad_mask(mask))
    return tables_of(sites, extract_patches(pad_image(image), sites.pixels))


def tables_of(sites: Sites, patches: np.ndarray) -> Tables:
    """NumPy's tables as the tensors that the gathered restorer takes, sharing their memory."""
    named = {name: torch.from_numpy(table) for name, table in sites.tables.items()}
    return Tables(
        patches=torch.from_numpy(patches),
        neighbours=tuple(named[f"neighbours_{level}"] for level in range(LEVELS)),
        children=tuple(named[f"children_{level}"] for level in range(LEVELS - 1)),
        parents=tuple(named[f"parents_{level}"] for level in range(LEVELS - 1)),
        site_map=named["site_map"],
        site_xy=named["site_xy"],
        grid_size=named["grid_size"],
    )
