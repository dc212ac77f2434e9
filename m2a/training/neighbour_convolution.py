"""The norm and 3×3 convolution of a block at packed sites, by Triton kernels: training on a GPU.

Gathering writes the nine neighbours of every site to memory and reads them again three times. On
an H200 the nine-fold list of 731,000 sites of 32 channels takes 4 ms to gather, where its product
takes 0.3. Here each tile of sites reads its neighbours where they lie and multiplies at once, and
so do both gradients: the one of the features by the reversed table (see `neighbour_gather`), the
one of the weights over runs of sites whose partial sums are added at the end, in the same order
each time.

The operands are rounded to bfloat16 or, as `torch.set_float32_matmul_precision` says, to TF32; sums
are FP32. The reference is `GatheredBlock` without kernels.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from m2a.models.restorer import NORM_EPSILON
from m2a.training import neighbour_kernels as kernels

_SITES = 128
_SITES_PER_STEP = 64
_STEPS = 64
_NORM_SITES = 64


class TritonConvolution:
    """The `NormedConvolution` of `GatheredBlock`, for numbers of channels that 16 divides.

    Args:
        dtype: of the operands, torch.bfloat16 or torch.float32.
    """

    def __init__(self, dtype: torch.dtype) -> None:
        self._dtype = dtype

    def __call__(self, x: Tensor, neighbours: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        """Convolves the normed features: f32 [N, C] → [N, D]."""
        out: Tensor = _Convolution.apply(  # type: ignore[no-untyped-call]
            x.contiguous(), neighbours.contiguous(), weight.contiguous(), bias, self._dtype
        )
        return out


class _Convolution(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,  # noqa: ANN401
        x: Tensor,
        table: Tensor,
        weight: Tensor,
        bias: Tensor,
        dtype: torch.dtype,
    ) -> Tensor:
        normed, scale = _norm(x, dtype)
        kernel = weight.view(9, x.shape[1], -1).to(dtype)
        ctx.save_for_backward(normed, scale, table, kernel)
        return _convolve(normed, table, kernel, bias=bias.contiguous())

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any,  # noqa: ANN401
        *gradients: Tensor,
    ) -> tuple[Tensor, None, Tensor, Tensor, None]:
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


def _convolve(
    x: Tensor, table: Tensor, kernel: Tensor, *, bias: Tensor | None = None, reverse: bool = False
) -> Tensor:
    """Σ_k x[neighbour k] @ kernel[k]: [N, C] and [9, C, D] → f32 [N, D]."""
    sites, channels = x.shape
    columns = kernel.shape[2]
    wide = kernel.dtype == torch.bfloat16
    tile = _tile(columns, most=128 if wide else 64)
    out = torch.empty((sites, columns), dtype=torch.float32, device=x.device)
    kernels.convolution_kernel[(triton.cdiv(sites, _SITES), columns // tile)](
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


def _weight_gradient(x: Tensor, table: Tensor, gradient: Tensor) -> Tensor:
    """x[neighbour k]ᵀ @ gradient for every k: [N, C] and [N, D] → f32 [9, C, D]."""
    sites, channels = x.shape
    columns = gradient.shape[1]
    wide = x.dtype == torch.bfloat16
    rows, tile = _tile(channels, most=64), _tile(columns, most=128 if wide else 64)
    runs = triton.cdiv(sites, _SITES_PER_STEP * _STEPS)
    partial = torch.empty((runs, 9, channels, columns), dtype=torch.float32, device=x.device)
    kernels.weight_gradient_kernel[(9, (channels // rows) * (columns // tile), runs)](
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


def _norm(x: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """The layer norm [N, C] of the features, and the inverse deviation of each site, f32 [N]."""
    sites, channels = x.shape
    normed = torch.empty((sites, channels), dtype=dtype, device=x.device)
    scale = torch.empty(sites, dtype=torch.float32, device=x.device)
    kernels.norm_kernel[(triton.cdiv(sites, _NORM_SITES),)](
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


def _norm_gradient(gradient: Tensor, normed: Tensor, scale: Tensor) -> Tensor:
    """The gradient f32 [N, C] of the features from that of their norm."""
    sites, channels = gradient.shape
    out = torch.empty_like(gradient)
    kernels.norm_gradient_kernel[(triton.cdiv(sites, _NORM_SITES),)](
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
