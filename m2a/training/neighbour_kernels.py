"""The Triton kernels of `m2a.training.neighbour_convolution`, which says what they are for.

Every array is contiguous. A tile is M sites of N columns; C and D are the channels of what a kernel
reads and writes.
"""

# The compiler reads these functions by their source: Python's types would say nothing to it.
# mypy: disable-error-code="no-untyped-def, untyped-decorator"
# ruff: noqa: ANN001, ANN201, ANN202, N803

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def convolution_kernel(
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
def weight_gradient_kernel(
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
def _whole_rows(sites, C: tl.constexpr, P: tl.constexpr, M: tl.constexpr):
    """The next M rows of C channels: rows and which exist, [M]; places and which do, [M, P]."""
    rows = (tl.program_id(0) * M + tl.arange(0, M)).to(tl.int64)
    channel = tl.arange(0, P)
    inside = rows < sites
    here = inside[:, None] & (channel < C)[None, :]
    return rows, inside, rows[:, None] * C + channel[None, :], here


@triton.jit
def norm_kernel(
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
    rows, inside, places, here = _whole_rows(sites, C, P, M)
    values = tl.load(x + places, mask=here, other=0.0)
    centred = tl.where(here, values - (tl.sum(values, axis=1) / C)[:, None], 0.0)
    inverse = 1 / tl.sqrt(tl.sum(centred * centred, axis=1) / C + EPSILON)
    tl.store(normed + places, (centred * inverse[:, None]).to(normed.dtype.element_ty), mask=here)
    tl.store(scale + rows, inverse, mask=inside)


@triton.jit
def norm_gradient_kernel(
    gradient,
    normed,
    scale,
    out,
    sites,
    C: tl.constexpr,
    P: tl.constexpr,
    M: tl.constexpr,
):
    """(g - mean(g) - n·mean(g·n)) · scale, the gradient through `norm_kernel`."""
    rows, inside, places, here = _whole_rows(sites, C, P, M)
    change = tl.load(gradient + places, mask=here, other=0.0)
    values = tl.load(normed + places, mask=here, other=0.0).to(tl.float32)
    mean = (tl.sum(change, axis=1) / C)[:, None]
    along = (tl.sum(change * values, axis=1) / C)[:, None]
    factor = tl.load(scale + rows, mask=inside, other=0.0)[:, None]
    tl.store(out + places, (change - mean - values * along) * factor, mask=here)
