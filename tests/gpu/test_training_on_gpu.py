"""What training does otherwise on a GPU, against torch's own operations.

On a machine with a GPU, torch for CUDA and Triton:

    pip install -e '.[train,dev]'
    python -m pytest -n 0 tests/gpu/test_training_on_gpu.py -v

Where there is no GPU, but Triton, its interpreter computes the kernels in float32, slowly:

    TRITON_INTERPRET=1 python -m pytest -n 0 tests/gpu/test_training_on_gpu.py -v
"""

from __future__ import annotations

import os

import pytest
import torch
import torch.nn.functional as F
from masks import draw_mask
from random_network import random_network
from torch.func import functional_call

from m2a.models.config import M2AENetConfig
from m2a.models.gathered import GatheredRestorer, with_zero_row
from m2a.models.neighbour_gather import gather_neighbours
from m2a.models.reparameterize import reparameterize
from m2a.models.restorer import NORM_EPSILON
from m2a.training.tables import build_tables

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

PRECISIONS = {
    "float32": (torch.float32, "highest", 1e-5),
    "TF32": (torch.float32, "high", 2e-3),
    "bfloat16": (torch.bfloat16, "highest", 1e-2),
}
"""Operands, torch's setting for products, and the tolerance, relative, of the norm."""


@pytest.fixture
def device():
    if not torch.cuda.is_available() and not INTERPRETED:
        pytest.skip("needs an NVIDIA GPU that torch can use, or TRITON_INTERPRET=1")
    pytest.importorskip("triton", reason="needs Triton, which torch for CUDA brings")
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(params=PRECISIONS)
def convolution(request, device):
    """The kernels, and their tolerance."""
    dtype, products, tolerance = PRECISIONS[request.param]
    if request.param != "float32" and INTERPRETED:
        pytest.skip("the interpreter multiplies in float32")
    from m2a.training.neighbour_convolution import TritonConvolution

    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision(products)
    yield TritonConvolution(dtype), tolerance
    torch.set_float32_matmul_precision(before)


def tables_of(kind, device, size):
    mask = torch.from_numpy(draw_mask(kind, *size, seed=0)).to(device)
    return build_tables(mask, torch.zeros(int(mask.sum()), 75, device=device))


def plain(x, table, weight, bias):
    normed = F.layer_norm(x, (x.shape[1],), None, None, NORM_EPSILON)
    return gather_neighbours(with_zero_row(normed), table) @ weight + bias


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


# The weights' gradient is summed in runs of 4,096 sites: the last case has two.
@pytest.mark.parametrize(
    ("kind", "size", "channels"),
    [
        ("random", (64, 32), 48),
        ("single", (64, 32), 16),
        ("full", (32, 32), 128),
        ("full", (96, 64), 16),
    ],
)
def test_convolution_and_gradients_are_those_of_the_gathered_form(
    device, convolution, kind, size, channels
):
    kernels, tolerance = convolution
    table = tables_of(kind, device, size).neighbours[0]
    torch.manual_seed(0)
    x = 0.3 + 2 * torch.randn(len(table), channels, device=device)
    weight = torch.randn(9 * channels, 2 * channels, device=device) / channels
    bias = torch.randn(2 * channels, device=device)
    change = torch.randn(len(table), 2 * channels, device=device)
    results = []
    for convolve in (kernels, plain):
        inputs = [value.clone().requires_grad_() for value in (x, weight, bias)]
        out = convolve(inputs[0], table, *inputs[1:])
        out.backward(change)
        results.append([out.detach(), *(value.grad for value in inputs)])
    for found, expected in zip(*results, strict=True):
        assert relative(found, expected) < tolerance


def test_a_restorer_with_kernels_is_the_restorer(device, convolution):
    """Its results and, through the reparameterization, the gradients of its weights."""
    kernels, tolerance = convolution
    config = M2AENetConfig(width=16, blocks=(1, 1, 1, 1))
    tables = tables_of("random", device, (64, 32))
    torch.manual_seed(0)
    tables = tables._replace(patches=torch.rand(len(tables.patches), 75, device=device))
    results = []
    for convolve in (None, kernels):
        network = random_network(config, seed=0).to(device)
        restorer = GatheredRestorer(config, convolve=convolve).to(device)
        outputs = functional_call(restorer, reparameterize(network.restorer), (tables,))
        sum(output.square().mean() for output in outputs).backward()
        weights = [p.grad for block in network.restorer.encoder for p in block.parameters()]
        results.append([*(output.detach() for output in outputs), *weights])
    for found, expected in zip(*results, strict=True):
        # Rounding grows from block to block, and the trajectories round it to sites.
        assert relative(found, expected) < (20 * tolerance)
