"""The training recipe: one frozen dataclass, read from one TOML file."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from m2a.errors import MissingDependencyError, RecipeNotFoundError, TrainingError
from m2a.models.config import PRESETS, M2AENetConfig
from m2a.training.samples import SynthesisConfig

if sys.version_info >= (3, 11):
    import tomllib
else:
    try:
        import tomli as tomllib
    except ModuleNotFoundError as error:
        raise MissingDependencyError("tomli", extra="train", purpose="Reading a recipe") from error

MATMUL_PRECISIONS = ("highest", "high", "medium")
PRECISIONS = ("float32", "bfloat16")
OPTIMIZERS = ("adamw", "soap")
RECONSTRUCTIONS = ("log_mse", "charbonnier")
PARTS = ("mask_predictor", "restorer")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """A recipe: data, optimisation and their seeds.

    Attributes:
        model: `small` or `base`.
        shape: the network where it is neither of them; None takes the one that `model` names.
        samples: synthetic samples to render; they are rendered once and reused, augmented.
        synthesis: what the samples look like; square, their side a multiple of 32.
        held_out: file names (without suffix) of photographs that training must not see.
        validation: file names of photographs that are not trained on either; every
            `checkpoint_every` steps the model is measured on crops of them.
        validation_crops: how many.
        parts: what is trained, of `mask_predictor` and `restorer`. Their losses share nothing in
            this stage, so that each may be trained alone, at its own pace; the other keeps the
            weights that the run began from.
        begin_anew: names of modules, such as `restorer.motion.coefficients`, that begin from random
            weights where the run begins from a checkpoint.
        frozen: names of modules whose parameters stay as the run began. They belong neither to the
            optimiser nor to the gradient that is clipped.
        optimizer: `adamw`, or `soap` (arXiv 2409.11321): Adam in the eigenbasis of Shampoo's
            preconditioner.
        precondition_every: steps between updates of `soap`'s eigenbasis, each a QR decomposition
            for every axis that is not too long for one.
        steps: optimisation steps.
        minutes: end after so many even where steps are left, the rates falling so that they are at
            their end by then; 0 leaves it to the steps. What the run took before it was stopped
            counts. No two such runs are alike.
        batch: crops per step for the mask predictor.
        active_pixels: active pixels per step for the restorer, about.
        learning_rate: peak rate of the restorer; cosine decay to 1 % of it.
        mask_learning_rate: peak rate of the mask predictor, same schedule.
        warmup: steps of linear warm-up.
        weight_decay: decoupled decay, on weights of two or more dimensions.
        clip_norm: gradients are clipped to this norm, per part of the network.
        ema_decay: decay per step of the exponential moving average that becomes the model.
        matmul_precision: `highest` for float32 products, `high` or `medium` where they may be
            computed from TF32 or bfloat16 factors where that is faster (torch's own names). What
            becomes of it is the backend's choice: on a CPU with AVX-512 bfloat16 but no AMX,
            `medium` takes oneDNN's float32 kernels and still halves a step.
        mask_precision: `float32`, or `bfloat16` for the mask predictor's convolutions under
            automatic mixed precision. With the channels last, as they are in either precision,
            1.6 times as fast on a CPU with bfloat16 instructions (0.17 instead of 0.28 s a step of
            32 crops on one core). Weights, norms' statistics and the loss stay float32.
        restorer_precision: `float32`, or `bfloat16` for the operands of the restorer's 3×3
            convolutions, whose sums and weights stay float32. That runs on a GPU alone, by kernels
            for widths that 16 divides. In float32, `matmul_precision` rules them too.
        mask_jitter: strength of the random colours and contrast in which the mask predictor sees
            its crops (`jittered_batch`); 0 leaves them as they are.
        shaken_weight: weight of a sample with camera shake in the mask loss. Shaken all over, it
            holds as many positive pixels as several samples with local blur together.
        reconstruction: `log_mse`, the logarithm of each crop's mean squared error, or
            `charbonnier`, its mean absolute error, as in the paper.
        frequency_weight: weight of the error's spectrum beside it; 0 leaves it out.
        reblur_weight: weight of the reblur loss beside the reconstruction's; 0 leaves it out.
        trajectory_weight: weight of the trajectory loss, which knows the true motion of synthetic
            samples; 0 leaves it out.
        straight_through: train end to end: the restorer runs where either the true or the predicted
            mask is, and its losses reach the mask predictor through straight-through gates. Needs
            both parts; meant for a last stage, when the predicted mask is worth something.
        false_alarms: share of the crops with visible blur in which the restorer also sees what the
            mask predictor takes for blurred, at a random threshold, so that it learns not to trust
            the mask. Needs a trained mask predictor, which is not trained at the same time. Where
            both masks together take more than a quarter of `active_pixels`, half a crop is seen.
        false_alarm_weight: weight in the reconstruction loss, in a recipe with false alarms, of
            every pixel where nothing moves; one where something does has 1.
        checkpoint_every: steps between checkpoints.
        seed: seeds samples, weights and batches.

    Raises:
        ValueError: a field is out of its range.
    """

    model: str = "small"
    shape: M2AENetConfig | None = None
    samples: int = 8192
    synthesis: SynthesisConfig = field(default_factory=SynthesisConfig)
    held_out: tuple[str, ...] = field(default=())
    validation: tuple[str, ...] = field(default=())
    validation_crops: int = 24
    parts: tuple[str, ...] = PARTS
    begin_anew: tuple[str, ...] = ()
    frozen: tuple[str, ...] = ()
    optimizer: str = "adamw"
    precondition_every: int = 10
    steps: int = 20_000
    minutes: float = 0.0
    batch: int = 16
    active_pixels: int = 45_000
    learning_rate: float = 1e-3
    mask_learning_rate: float = 2e-3
    warmup: int = 200
    weight_decay: float = 1e-4
    clip_norm: float = 1.0
    ema_decay: float = 0.999
    matmul_precision: str = "highest"
    mask_precision: str = "float32"
    restorer_precision: str = "float32"
    mask_jitter: float = 0.0
    shaken_weight: float = 1.0
    reconstruction: str = "log_mse"
    frequency_weight: float = 0.0
    reblur_weight: float = 0.0
    trajectory_weight: float = 0.0
    straight_through: bool = False
    false_alarms: float = 0.0
    false_alarm_weight: float = 1.0
    checkpoint_every: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("held_out", "validation", "begin_anew", "frozen"):
            if not isinstance(getattr(self, name), tuple):
                raise ValueError(f"{name} must be a list of names, found {getattr(self, name)!r}")
        if shared := sorted(set(self.held_out) & set(self.validation)):
            raise ValueError(f"{shared} are both in held_out and in validation")
        for name in ("mask_precision", "restorer_precision"):
            if getattr(self, name) not in PRECISIONS:
                raise ValueError(
                    f"{name} must be one of {PRECISIONS}, found {getattr(self, name)!r}"
                )
        for name in (
            "samples",
            "precondition_every",
            "steps",
            "batch",
            "active_pixels",
            "seed",
            "validation_crops",
            "checkpoint_every",
            "warmup",
        ):
            if type(getattr(self, name)) is not int:
                raise ValueError(f"{name} must be an integer, found {getattr(self, name)!r}")
        distinct = len(set(self.parts)) == len(self.parts)
        if not self.parts or not distinct or not set(self.parts) <= set(PARTS):
            raise ValueError(f"parts must be some of {list(PARTS)}, found {self.parts!r}")
        if type(self.straight_through) is not bool:
            raise ValueError(
                f"straight_through must be true or false, found {self.straight_through!r}"
            )
        local = self.synthesis.objects_probability + self.synthesis.region_probability
        if self.validation and not local > 0:
            raise ValueError(
                "validation needs samples with local blur: objects_probability or "
                "region_probability above 0"
            )
        if self.straight_through and set(self.parts) != set(PARTS):
            raise ValueError(f"straight_through trains both parts, found parts {self.parts!r}")
        if not 0 <= self.false_alarms <= 1:
            raise ValueError(f"false_alarms must lie in [0, 1], found {self.false_alarms}")
        if self.false_alarms and "mask_predictor" in self.parts:
            raise ValueError(
                "false_alarms are those of a mask predictor that is not trained: "
                f'parts must be ["restorer"], found {list(self.parts)}'
            )
        if self.reconstruction not in RECONSTRUCTIONS:
            raise ValueError(
                f"reconstruction must be one of {RECONSTRUCTIONS}, found {self.reconstruction!r}"
            )
        if self.optimizer not in OPTIMIZERS:
            raise ValueError(f"optimizer must be one of {OPTIMIZERS}, found {self.optimizer!r}")
        if self.seed < 0:
            raise ValueError(f"seed must not be negative, found {self.seed}")
        if self.model not in PRESETS:
            raise ValueError(f"model must be one of {sorted(PRESETS)}, found {self.model!r}")
        height, width = self.synthesis.frame
        if height != width or height % 32:
            raise ValueError(
                f"synthesis.size must be one multiple of 32, found {self.synthesis.size}"
            )
        if self.matmul_precision not in MATMUL_PRECISIONS:
            raise ValueError(
                f"matmul_precision must be one of {MATMUL_PRECISIONS}, "
                f"found {self.matmul_precision!r}"
            )
        for name in (
            "samples",
            "precondition_every",
            "steps",
            "batch",
            "active_pixels",
            "checkpoint_every",
            "validation_crops",
        ):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, found {getattr(self, name)}")
        for name in ("learning_rate", "mask_learning_rate", "clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} must be positive, found {getattr(self, name)}")
        for name in (
            "minutes",
            "warmup",
            "weight_decay",
            "mask_jitter",
            "shaken_weight",
            "frequency_weight",
            "reblur_weight",
            "trajectory_weight",
            "false_alarm_weight",
        ):
            if not getattr(self, name) >= 0:
                raise ValueError(f"{name} must not be negative, found {getattr(self, name)}")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must lie in [0, 1), found {self.ema_decay}")

    @property
    def network(self) -> M2AENetConfig:
        """The configuration of the network to train."""
        return self.shape or PRESETS[self.model]

    @property
    def crop(self) -> int:
        """Side of a sample in pixels."""
        return self.synthesis.frame[0]

    def to_json(self) -> dict[str, Any]:
        """Returns the fields as JSON values; `synthesis` is an object of its own."""
        fields: dict[str, Any] = json.loads(json.dumps(asdict(self)))
        return fields


def read_recipe(path: Path) -> TrainingConfig:
    """Reads a recipe.

    Args:
        path: a TOML file whose keys are fields of `TrainingConfig`; its table `synthesis` holds
            fields of `SynthesisConfig`, its table `shape` those fields of `M2AENetConfig` in which
            the network differs from `model`.

    Returns:
        The recipe.

    Raises:
        TrainingError: the file cannot be read, is not TOML, or has unknown or invalid fields.
    """
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        kind = RecipeNotFoundError if isinstance(error, FileNotFoundError) else TrainingError
        raise kind(f"cannot read the recipe {path}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise TrainingError(f"the recipe {path} is not TOML: {error}") from error
    synthesis, shape = table.pop("synthesis", {}), table.pop("shape", None)
    for name, value in (("synthesis", synthesis), ("shape", shape)):
        if not isinstance(value, dict | None):
            raise TrainingError(f"the recipe {path}: {name} must be a table, found {value!r}")
    try:
        config = TrainingConfig(
            synthesis=SynthesisConfig(**_fields_of(SynthesisConfig, synthesis)),
            **_fields_of(TrainingConfig, table),
        )
        return config if shape is None else reshaped(config, shape)
    except (TypeError, ValueError) as error:
        raise TrainingError(f"the recipe {path}: {error}") from error


def reshaped(config: TrainingConfig, shape: Mapping[str, Any]) -> TrainingConfig:
    """Returns a recipe for a network that differs from the recipe's in some fields.

    Raises:
        ValueError: the shape has unknown or invalid fields.
    """
    fields_of_shape = _fields_of(M2AENetConfig, shape)
    return replace(config, shape=replace(config.network, **fields_of_shape))


def _fields_of(cls: type, table: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the table with tuples for lists, if every key is a field of the dataclass."""
    known = sorted(field.name for field in fields(cls))
    unknown = sorted(set(table) - set(known))
    if unknown:
        raise ValueError(f"unknown fields {unknown}; expected some of {known}")
    return {key: tuple(v) if isinstance(v, list) else v for key, v in table.items()}
