"""The norm and 3×3 convolution of a block at packed sites, as Triton kernels for training on a GPU.

Gathering writes the nine neighbours of every site to memory and reads them again three times. On
an H200 the nine-fold list of `base` takes 4 ms to gather at level 0 where its product takes 0.3 ms.
Here each tile of sites reads its neighbours where they lie and multiplies at once, and so do both
gradients: the one of the features by the reversed table (see `neighbour_gather`), the one of the
weights over runs of sites whose partial sums are added at the end, always in the same order.

The operands are rounded to bfloat16 or, as `torch.set_float32_matmul_precision` says, to TF32; sums
are FP32. The reference is `GatheredBlock` without kernels.
"""

# Triton reads these functions by their source, and has no types of its own.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, untyped-decorator"
# ruff: noqa: ANN001, ANN002, ANN202, ANN205, N803

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl
from torch import Tensor

from m2a.models.restorer import NORM_EPSILON

_SITES = 128
_SITES_PER_STEP = 64
_STEPS = 64
_NORM_SITES = 64


class TritonConvolution:
    """The `NormedConvolution` of `GatheredBlock` by the kernels of this module.

    Args:
        dtype: of the operands, torch.bfloat16 or torch.float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __call__(self, x: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolves the normed features: f32 [N, C] → [N, D]."""
        out: Tensor = _NormedConvolution.apply(x, neighbours, weight, bias, self._dtype)
        return out


class _NormedConvolution(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x, table, weight, bias, dtype):  # noqa: ANN401 - torch's own
        channels = x.shape[1]
        normed, scale = _norm(x, dtype)
        kernel = weight.view(9, channels, -1).to(dtype)
        ctx.save_for_backward(normed, scale, table, kernel)
        return _convolve(normed, table, kernel, bias=bias)

    @staticmethod
    def backward(ctx: Any, *gradients):  # noqa: ANN401
        normed, scale, table, kernel = ctx.saved_tensors
        (gradient,) = gradients
        rounded = gradient.contiguous().to(kernel.dtype)
        of_normed = _convolve(rounded, table, kernel.transpose(1, 2).contiguous(), reverse=True)
        of_weight = _weight_gradient(normed, table, rounded)
        return (
            _norm_gradient(of_normed, normed, scale),
            None,
            of_weight.view(-1, of_weight.shape[2]),
            gradient.sum(dim=0),
            None,
        )


def _tile(channels: int, *, most: int) -> int:
    """The largest power of two that divides the channels, at most `most`."""
    return min(most, channels & -channels)


def _precision() -> str:
    return "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32"


def _convolve(x, table, kernel, *, bias=None, reverse=False):
    sites, channels = x.shape
    columns = kernel.shape[2]
    wide = kernel.dtype == torch.bfloat16
    tile = _tile(columns, most=128 if wide else 64)
    out = torch.empty((sites, columns), dtype=torch.float32, device=x.device)
    _convolution_kernel[(triton.cdiv(sites, _SITES), columns // tile)](
        x,
        table,
        kernel,
        out if bias is None else bias,
        out,
        sites,
        C=channels,
        D=columns,
        M=_SITES,
        N=tile,
        K=_tile(channels, most=64 if wide else 32),
        REVERSE=reverse,
        BIAS=bias is not None,
        PRECISION=_precision(),
        num_warps=8 if tile == 128 else 4,
        num_stages=3,
    )
    return out


def _weight_gradient(x, table, gradient):
    sites, channels = x.shape
    columns = gradient.shape[1]
    wide = x.dtype == torch.bfloat16
    rows, tile = _tile(channels, most=64), _tile(columns, most=128 if wide else 64)
    runs = triton.cdiv(sites, _SITES_PER_STEP * _STEPS)
    partial = torch.empty((runs, 9, channels, columns), dtype=torch.float32, device=x.device)
    _weight_gradient_kernel[(9, (channels // rows) * (columns // tile), runs)](
        x,
        table,
        gradient,
        partial,
        sites,
        STEPS=_STEPS,
        C=channels,
        D=columns,
        M=_SITES_PER_STEP,
        K=rows,
        N=tile,
        PRECISION=_precision(),
        num_warps=8 if tile == 128 else 4,
        num_stages=3,
    )
    return partial.sum(dim=0)


def _norm(x, dtype):
    sites, channels = x.shape
    normed = torch.empty((sites, channels), dtype=dtype, device=x.device)
    scale = torch.empty(sites, dtype=torch.float32, device=x.device)
    _norm_kernel[(triton.cdiv(sites, _NORM_SITES),)](
        x,
        normed,
        scale,
        sites,
        EPSILON=NORM_EPSILON,
        C=channels,
        P=triton.next_power_of_2(channels),
        M=_NORM_SITES,
    )
    return normed, scale


def _norm_gradient(gradient, normed, scale):
    sites, channels = gradient.shape
    out = torch.empty_like(gradient)
    _norm_gradient_kernel[(triton.cdiv(sites, _NORM_SITES),)](
        gradient,
        normed,
        scale,
        out,
        sites,
        C=channels,
        P=triton.next_power_of_2(channels),
        M=_NORM_SITES,
    )
    return out


@triton.jit
def _convolution_kernel(
    x,
    table,
    kernel,
    bias,
    out,
    sites,
    C: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    N: tl.constexpr,
    K: tl.constexpr,
    REVERSE: tl.constexpr,
    BIAS: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[M, N] of out = Σ_k x[neighbour k] @ kernel[k]: C → D channels, K of them at a time."""
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    columns = tl.program_id(1) * N + tl.arange(0, N)
    inside = rows < sites
    total = tl.zeros((M, N), dtype=tl.float32)
    for k in range(9):
        place = 8 - k if REVERSE else k
        near = tl.load(table + rows * 9 + place, mask=inside, other=sites)
        there = (near < sites)[:, None]
        first = near.to(tl.int64) * C
        for start in range(0, C, K):
            channel = start + tl.arange(0, K)
            values = tl.load(x + first[:, None] + channel[None, :], mask=there, other=0.0)
            weights = tl.load(kernel + (k * C + channel)[:, None] * D + columns[None, :])
            total = tl.dot(values, weights, total, input_precision=PRECISION)
    if BIAS:
        total += tl.load(bias + columns)[None, :]
    tl.store(out + rows[:, None] * D + columns[None, :], total, mask=inside[:, None])


@triton.jit
def _weight_gradient_kernel(
    x,
    table,
    gradient,
    partial,
    sites,
    STEPS: tl.constexpr,
    C: tl.constexpr,
    D: tl.constexpr,
    M: tl.constexpr,
    K: tl.constexpr,
    N: tl.constexpr,
    PRECISION: tl.constexpr,
):
    """[K, N] of Σ_sites x[neighbour k]ᵀ @ gradient, over one run of STEPS·M sites."""
    k, tile, run = tl.program_id(0), tl.program_id(1), tl.program_id(2)
    channel = (tile // (D // N)) * K + tl.arange(0, K)
    columns = (tile % (D // N)) * N + tl.arange(0, N)
    total = tl.zeros((K, N), dtype=tl.float32)
    for step in range(STEPS):
        rows = ((run * STEPS + step) * M + tl.arange(0, M)).to(tl.int64)
        inside = rows < sites
        near = tl.load(table + rows * 9 + k, mask=inside, other=sites)
        there = (near < sites)[None, :]
        values = tl.load(
            x + near.to(tl.int64)[None, :] * C + channel[:, None], mask=there, other=0.0
        )
        change = tl.load(
            gradient + rows[:, None] * D + columns[None, :], mask=inside[:, None], other=0.0
        )
        total = tl.dot(values, change, total, input_precision=PRECISION)
    first = (run * 9 + k).to(tl.int64) * C * D
    tl.store(partial + first + channel[:, None] * D + columns[None, :], total)


@triton.jit
def _norm_kernel(
    x,
    normed,
    scale,
    sites,
    EPSILON: tl.constexpr,
    C: tl.constexpr,
    P: tl.constexpr,
    M: tl.constexpr,
):
    """Layer norm over C channels, without weights; P is C or the next power of two."""
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    channel = tl.arange(0, P)
    inside = rows < sites
    here = inside[:, None] & (channel < C)[None, :]
    places = rows[:, None] * C + channel[None, :]
    values = tl.load(x + places, mask=here, other=0.0)
    centred = tl.where(here, values - (tl.sum(values, axis=1) / C)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + EPSILON)
    tl.store(normed + places, (centred * inverse[:, None]).to(normed.dtype.element_ty), mask=here)
    tl.store(scale + rows, inverse, mask=inside)


@triton.jit
def _norm_gradient_kernel(
    gradient,
    normed,
    scale,
    out,
    sites,
    C: tl.constexpr,
    P: tl.constexpr,
    M: tl.constexpr,
):
    """(g - mean(g) - n·mean(g·n)) · scale, the gradient through `_norm_kernel`."""
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    channel = tl.arange(0, P)
    inside = rows < sites
    here = inside[:, None] & (channel < C)[None, :]
    places = rows[:, None] * C + channel[None, :]
    change = tl.load(gradient + places, mask=here, other=0.0)
    values = tl.load(normed + places, mask=here, other=0.0).to(tl.float32)
    mean = (tl.sum(change, axis=1) / C)[:, None]
    along = (tl.sum(change * values, axis=1) / C)[:, None]
    factor = tl.load(scale + rows, mask=inside, other=0.0)[:, None]
    tl.store(out + places, (change - mean - values * along) * factor, mask=here)
