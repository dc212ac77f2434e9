"""The recipe's optimiser, and which weights it moves."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from pytorch_optimizer import SOAP
from torch import nn

from m2a.errors import TrainingError
from m2a.models.network import M2AENet
from m2a.training.config import TrainingConfig

MAX_PRECONDITION_DIM = 600
"""SOAP leaves longer axes of a weight as they are: their eigenbasis costs more than it gives."""


def names_within(module: str, names: Iterable[str], *, field: str) -> list[str]:
    """Returns those of the weights' names that lie in a module.

    Args:
        module: such as `restorer.motion.coefficients`.
        names: of the weights of a network.
        field: the recipe's field that names the module, for the message.

    Raises:
        TrainingError: there is none.
    """
    within = [name for name in names if name.startswith(f"{module}.")]
    if not within:
        raise TrainingError(f"{field}: the network has no module {module!r} with weights")
    return within


def freeze(network: M2AENet, config: TrainingConfig) -> None:
    """Takes the parameters of the modules in `config.frozen` out of the training.

    Raises:
        TrainingError: the network has no such module, or a part that is trained has no other.
    """
    parameters = dict(network.named_parameters())
    for module in config.frozen:
        for name in names_within(module, parameters, field="frozen"):
            parameters[name].requires_grad_(False)
    for part in config.parts:
        if not trained_parameters(network, part):
            raise TrainingError(
                f"frozen: {list(config.frozen)} leave nothing of the {part} to train; "
                "leave the part out of parts instead"
            )


def trained_parameters(network: M2AENet, part: str) -> list[nn.Parameter]:
    """The parameters of a part that are not frozen."""
    return [p for p in getattr(network, part).parameters() if p.requires_grad]


def build_optimizer(network: M2AENet, config: TrainingConfig) -> torch.optim.Optimizer:
    """Returns the recipe's optimiser over the parts that it trains; `peak` is a group's rate."""
    rates = {"mask_predictor": config.mask_learning_rate, "restorer": config.learning_rate}
    groups: list[dict[str, Any]] = []
    for part in config.parts:
        parameters = trained_parameters(network, part)
        rate = {"lr": rates[part], "peak": rates[part]}
        matrices = [p for p in parameters if p.ndim > 1]
        vectors = [p for p in parameters if p.ndim <= 1]
        groups.append({"params": matrices, "weight_decay": config.weight_decay, **rate})
        groups.append({"params": vectors, "weight_decay": 0.0, **rate})
    if config.optimizer == "soap":
        return SOAP(
            groups,
            max_precondition_dim=MAX_PRECONDITION_DIM,
            precondition_frequency=config.precondition_every,
        )
    return torch.optim.AdamW(groups, betas=(0.9, 0.99))
