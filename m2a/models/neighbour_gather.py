"""Gathering 3×3 neighbours, with a backward pass that gathers too.

Autograd's adjoint of a gather is a scatter-add, which writes each row nine times and is the
costliest operation of a training step on a CPU. But the neighbour relation is symmetric: if the
site j is neighbour k of the site i, then i is neighbour 8 - k of j. So the gradient of row j is
the sum over k of the gradients at (neighbour 8 - k of j, column k): a gather by the reversed
table, and a sum. The result is the same up to the order of nine additions.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

_NEIGHBOURS = 9


class _GatherNeighbours(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, table: Tensor) -> Tensor:  # noqa: ANN401 - torch's own
        ctx.save_for_backward(table)
        ctx.channels = rows.shape[1]
        return rows.index_select(0, table.reshape(-1))

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, None]:  # noqa: ANN401
        (table,) = ctx.saved_tensors
        (gradient,) = gradients
        sites = table.shape[0]
        columns = torch.arange(_NEIGHBOURS, device=table.device)
        reverse = table.flip(1).to(torch.int64)
        present = reverse < sites
        source = torch.where(present, reverse * _NEIGHBOURS + columns, 0)
        # A gather and a weighted sum in one, without the [9·N, C] intermediate.
        summed = F.embedding_bag(
            source, gradient, mode="sum", per_sample_weights=present.to(gradient.dtype)
        )
        # Row N, the zeros that absent neighbours read, is a constant: its gradient is not used.
        return torch.cat([summed, summed.new_zeros(1, ctx.channels)]), None


def gather_neighbours(rows: Tensor, table: Tensor) -> Tensor:
    """Gathers the 3×3 neighbours of every site.

    Args:
        rows: f32 [N + 1, C]; row N holds the zeros that absent neighbours read.
        table: int32 [N, 9], a *symmetric* neighbour table: the one of a site list at one level.

    Returns:
        f32 [N, 9·C].
    """
    width = table.shape[1] * rows.shape[1]
    if torch.is_grad_enabled() and rows.requires_grad:
        gathered: Tensor = _GatherNeighbours.apply(rows, table)  # type: ignore[no-untyped-call]
    else:
        gathered = rows.index_select(0, table.reshape(-1))
    return gathered.reshape(-1, width)
