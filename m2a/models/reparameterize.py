"""Structural reparameterization: from the trained branches to the weights of the gathered form.

Two exact steps (DESIGN section 3):

(a) The branches of a RepConv and the scale g of the norm before it become one 3×3 kernel K:
    K[o, c] = (W3[o, c] + δ(W1[o, c] + I[o, c])) · g[c], where δ puts a value at the kernel's
    centre and I[o, c] = 1 for o = c and o = c + C. The branches are fused first, because all of
    them, the identity too, read the scaled input. The norm has no shift, so this holds even where
    neighbours are absent: zero times anything is zero.
(b) The kernel [C_out, C_in, k, k] becomes a matrix [k·k·C_in, C_out] over gathered neighbours,
    in the row order (ky, kx, c).

The residual's learned scale folds into the 1×1 convolution before it, and the pixel shuffle
into the order of the columns of the convolution before it.

Everything is differentiable: the exporter loads the result, the trainer calls the gathered form
with it (`torch.func.functional_call`) and so trains the branches.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from m2a.models.gathered import GatheredRestorer
from m2a.models.network import M2AENet
from m2a.models.restorer import Block, RepConv, Restorer


def reparameterize(restorer: Restorer) -> dict[str, Tensor]:
    """Returns the state of `GatheredRestorer` that computes what `restorer` computes.

    Args:
        restorer: the masked dense form.

    Returns:
        Names of `GatheredRestorer`'s parameters → f32 tensors, connected to the restorer's
        parameters by autograd.
    """
    state: dict[str, Tensor] = {}

    def put(name: str, weight: Tensor, bias: Tensor | None) -> None:
        if bias is None:
            raise ValueError(f"{name}: every product of the gathered form has a bias")
        state[f"{name}.weight"] = weight
        state[f"{name}.bias"] = bias

    def put_conv(name: str, conv: nn.Conv2d) -> None:
        put(name, kernel_matrix(conv.weight), conv.bias)

    put_conv("stem", restorer.stem)
    put_conv("head", restorer.head)
    put_conv("motion.coefficients", restorer.motion.coefficients)
    put_conv("motion.mix", restorer.motion.mix)
    for level, module in enumerate(restorer.down):
        put_conv(f"down.{level}", _conv(module))
    for level, module in enumerate(restorer.up):
        conv = _conv(module)
        put(f"up.{level}", *shuffled_matrix(conv.weight, _bias(conv)))
    for side in ("encoder", "decoder"):
        for level, blocks in enumerate(getattr(restorer, side)):
            for position, block in enumerate(blocks):
                name = f"{side}.{level}.{position}"
                kernel, bias = fuse_block_kernel(block)
                put(f"{name}.conv", kernel_matrix(kernel), bias)
                project = block.project
                put(
                    f"{name}.project",
                    kernel_matrix(project.weight * block.scale[:, None, None, None]),
                    _bias(project) * block.scale,
                )
    return state


def gathered_restorer(network: M2AENet) -> GatheredRestorer:
    """The restorer of a network in its gathered form, on the network's device."""
    gathered = GatheredRestorer(network.config).to(next(network.parameters()).device)
    gathered.load_state_dict(reparameterize(network.restorer))
    return gathered


def fuse_branches(conv: RepConv) -> tuple[Tensor, Tensor]:
    """Step (a), first half: the branches of a RepConv as one kernel [2C, C, 3, 3] and bias [2C]."""
    channels = conv.conv1.in_channels
    identity = torch.eye(channels, device=conv.conv1.weight.device).repeat(2, 1)
    centre = conv.conv1.weight[:, :, 0, 0] + identity
    kernel = conv.conv3.weight + nn.functional.pad(centre[:, :, None, None], (1, 1, 1, 1))
    return kernel, _bias(conv.conv3)


def fuse_block_kernel(block: Block) -> tuple[Tensor, Tensor]:
    """Step (a): the kernel [2C, C, 3, 3] and bias [2C] of a block, norm scale included."""
    kernel, bias = fuse_branches(block.conv)
    return kernel * block.norm.weight[:, None, None], bias


def kernel_matrix(kernel: Tensor) -> Tensor:
    """Step (b): [C_out, C_in, kh, kw] → [kh·kw·C_in, C_out], rows in the order (ky, kx, c)."""
    return kernel.permute(2, 3, 1, 0).reshape(-1, kernel.shape[0])


def shuffled_matrix(kernel: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Orders the columns of a 1×1 convolution before a pixel shuffle by (quadrant, channel).

    The pixel shuffle takes output channel 4·c + q for quadrant q = 2·dy + dx; in the gathered
    form one reshape must make the four quadrants four rows.

    Args:
        kernel: [4C, C_in, 1, 1].
        bias: [4C].

    Returns:
        The matrix [C_in, 4C] and the bias [4C].
    """
    channels = kernel.shape[0] // 4
    matrix = kernel.reshape(channels, 4, -1).permute(2, 1, 0).reshape(-1, 4 * channels)
    return matrix, bias.reshape(channels, 4).T.reshape(-1)


def _conv(module: nn.Module) -> nn.Conv2d:
    if not isinstance(module, nn.Conv2d):
        raise TypeError(f"expected a Conv2d, found {type(module).__name__}")
    return module


def _bias(conv: nn.Conv2d) -> Tensor:
    if conv.bias is None:
        raise ValueError("the convolution has no bias")
    return conv.bias
