"""The training recipe: one frozen dataclass, read from one TOML file."""

from __future__ import annotations

import sys
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from m2a.errors import MissingDependencyError, TrainingError
from m2a.models.config import PRESETS, M2AENetConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tomli", extra="train", purpose="Reading a recipe") from error

MATMUL_PRECISIONS = ("highest", "high", "medium")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A recipe: data, optimisation and their seeds.

    Attributes:
        model: `small` or `base`.
        samples: synthetic samples to render; they are rendered once and reused, augmented.
        crop: side of a sample in pixels, a multiple of 32.
        blur_length: shortest and longest blur of the samples in pixels, drawn log-uniformly.
        held_out: file names (without suffix) of photographs that training must not see.
        steps: optimisation steps.
        batch: crops per step for the mask predictor.
        active_pixels: active pixels per step for the restorer, about.
        learning_rate: peak rate of the restorer; cosine decay to 1 % of it.
        mask_learning_rate: peak rate of the mask predictor, same schedule.
        warmup: steps of linear warm-up.
        weight_decay: AdamW's decoupled decay, on weights of two or more dimensions.
        clip_norm: gradients are clipped to this norm, per part of the network.
        ema_decay: decay per step of the exponential moving average that becomes the model.
        matmul_precision: `highest` for float32 products, `high` or `medium` where they may be
            rounded to TF32 or bfloat16 before they are multiplied and summed in float32 (torch's
            own names). On a CPU with bfloat16 instructions `medium` halves a step.
        checkpoint_every: steps between checkpoints.
        seed: seeds samples, weights and batches.

    Raises:
        ValueError: a field is out of its range.
    """

    model: str = "small"
    samples: int = 8192
    crop: int = 256
    blur_length: tuple[float, float] = (4.0, 60.0)
    held_out: tuple[str, ...] = field(default=())
    steps: int = 20_000
    batch: int = 16
    active_pixels: int = 45_000
    learning_rate: float = 1e-3
    mask_learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    matmul_precision: str = "highest"
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        if not isinstance(self.held_out, tuple):
            raise ValueError(f"held_out must be a list of names, found {self.held_out!r}")
        for name in ("samples", "crop", "steps", "batch", "active_pixels", "seed"):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} must be an integer, found {getattr(self, name)!r}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, found {self.seed}")
        if self.model not in PRESETS:
            raise ValueError(f"model must be one of {sorted(PRESETS)}, found {self.model!r}")
        if self.crop < 32 or self.crop % 32:
            raise ValueError(f"crop must be a positive multiple of 32, found {self.crop}")
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise ValueError(
                f"matmul_precision must be one of {MATMUL_PRECISIONS}, "
                f"found {self.matmul_precision!r}"
            )
        for name in ("samples", "steps", "batch", "active_pixels", "checkpoint_every"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("learning_rate", "mask_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")
        for name in ("warmup", "weight_decay"):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        if len(self.blur_length) != 2 or not 0 < self.blur_length[0] <= self.blur_length[1]:
            raise ValueError(
                f"blur_length must be (shortest, longest), both positive, found {self.blur_length}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), found {self.ema_decay}")

    @property
    def network(self) -> M2AENetConfig:
        """The configuration of the network to train."""
        return PRESETS[self.model]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values."""
        return {key: list(v) if isinstance(v, tuple) else v for key, v in asdict(self).items()}


def read_recipe(path: Path) -> TrainingConfig:
    """Reads a recipe.

    Args:
        path: a TOML file whose keys are fields of `TrainingConfig`.

    Returns:
        The recipe.

    Raises:
        TrainingError: the file cannot be read, is not TOML, or has unknown or invalid fields.
    """
    try:
        fields = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise TrainingError(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"the recipe {path} is not TOML: {error}") from error
    known = TrainingConfig.__dataclass_fields__
    unknown = sorted(set(fields) - set(known))
    if unknown:
        raise TrainingError(
            f"the recipe {path} has unknown fields {unknown}; expected some of {sorted(known)}"
        )
    values: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in fields.items()}
    try:
        return TrainingConfig(**values)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the recipe {path}: {error}") from error
