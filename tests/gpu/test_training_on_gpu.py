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

from m2a.models.config import M2AENetConfig
from m2a.models.gathered import GatheredRestorer, with_zero_row
from m2a.models.neighbour_gather import gather_neighbours
from m2a.models.network import M2AENet
from m2a.models.reparameterize import reparameterize
from m2a.models.restorer import NORM_EPSILON
from m2a.training.tables import build_tables

INTERPRETED = os.environ.get("TRITON_INTERPRET") == "1"

TOLERANCE = {torch.float32: 1e-5, torch.bfloat16: 1e-2}
"""Relative, of the norm. torch computes float32 products in full here, and so do the kernels."""


@pytest.fixture
def device():
    if not torch.cuda.is_available() and not INTERPRETED:
        pytest.skip("needs an NVIDIA GPU that torch can use, or TRITON_INTERPRET=1")
    pytest.importorskip("triton", reason="needs Triton, which torch for CUDA brings")
    return torch.device("cpu" if INTERPRETED else "cuda")


@pytest.fixture(params=[torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
def convolution(request, device):
    """The kernels, and the tolerance that their operands' precision allows."""
    if request.param == torch.bfloat16 and INTERPRETED:
        pytest.skip("the interpreter has no bfloat16 products")
    from m2a.training.neighbour_convolution import TritonConvolution

    return TritonConvolution(request.param), TOLERANCE[request.param]


def neighbours_of(kind, device, size=(64, 32)):
    mask = torch.from_numpy(draw_mask(kind, *size, seed=0)).to(device)
    return build_tables(mask, torch.zeros(int(mask.sum()), 75, device=device))


def plain(x, table, weight, bias):
    normed = F.layer_norm(x, (x.shape[1],), None, None, NORM_EPSILON)
    return gather_neighbours(with_zero_row(normed), table) @ weight + bias


def relative(found, expected):
    return float((found - expected).norm() / expected.norm())


@pytest.mark.parametrize("channels", [16, 48])
@pytest.mark.parametrize("kind", ["random", "single", "full"])
def test_convolution_and_gradients_are_those_of_the_gathered_form(
    device, convolution, channels, kind
):
    kernels, tolerance = convolution
    table = neighbours_of(kind, device).neighbours[0]
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
    kernels, tolerance = convolution
    torch.manual_seed(0)
    config = M2AENetConfig(width=16, blocks=(1, 1, 1, 1))
    weights = {n: w.to(device) for n, w in reparameterize(M2AENet(config).restorer).items()}
    tables = neighbours_of("random", device)
    tables = tables._replace(patches=torch.rand(len(tables.patches), 75, device=device))
    residuals = []
    for convolve in (None, kernels):
        restorer = GatheredRestorer(config, convolve=convolve).to(device)
        restorer.load_state_dict(weights)
        residuals.append(restorer(tables).residual.detach())
    assert relative(residuals[1], residuals[0]) < tolerance
