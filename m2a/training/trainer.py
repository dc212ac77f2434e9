"""The trainer: mask predictor and restorer together, resumable, on the CPU or one GPU.

What a step computes stands in `m2a.training.gradients`.
"""

from __future__ import annotations

import copy
import json
import math
import time
import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from m2a.errors import TrainingError
from m2a.files import atomic_file
from m2a.models.checkpoint import infer_config, mask_settings, save_checkpoint
from m2a.models.network import M2AENet
from m2a.training.config import TrainingConfig
from m2a.training.gradients import MEASURED, Gradients
from m2a.training.optimizer import build_optimizer, freeze, names_within, trained_parameters
from m2a.training.pool import SamplePool
from m2a.training.samples import with_defaults

POOL_REFRESH_STEPS = 50
LOG_STEPS = 50
STATE = "state.pt"


@dataclass(frozen=True, kw_only=True)
class Progress:
    """Means over the steps since the last report.

    Attributes:
        step: steps done.
        share: of the training that is done, by the steps or, with `minutes`, by the clock; 1 at its
            end.
        samples: rendered samples at hand.
        mask_loss: of the mask predictor.
        mask_iou: of the prediction at 0.5 with the visible blur, pixels weighted as in the loss.
        reconstruction_loss: of the restorer: log10 of the mean squared error per crop, in which
            false alarms have their weight.
        psnr_gain: dB, inside the restored pixels of the training crops, false alarms included.
        seconds_per_step: wall time.
    """

    step: int
    share: float
    samples: int
    mask_loss: float
    mask_iou: float
    reconstruction_loss: float
    psnr_gain: float
    seconds_per_step: float


_FIXED = (
    "model",
    "shape",
    "parts",
    "frozen",
    "optimizer",
    "precondition_every",
    "samples",
    "synthesis",
    "held_out",
    "validation",
    "seed",
)
"""Fields of the recipe that a run keeps."""


def _lacks_memory(error: Exception) -> bool:
    """Whether torch found no memory, of which on a CPU only the words tell, or CUDA failed."""
    return isinstance(error, RuntimeError) and any(
        word in str(error) for word in ("allocate", "CUDA")
    )


def training_device() -> torch.device:
    """The GPU where there is one, else the CPU."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


class Trainer:
    """The state of a run, one step at a time."""

    def __init__(self, config: TrainingConfig, pool: SamplePool) -> None:
        torch.manual_seed(config.seed)
        self._config, self._pool = config, pool
        self._device = training_device()
        self._network = M2AENet(config.network).to(self._device).train()
        self._average = copy.deepcopy(self._network).eval()
        self._gradients = Gradients(self._network, config)
        freeze(self._network, config)
        self._optimizer = build_optimizer(self._network, config)
        self._step = 0
        self._began = 0
        self._seconds = 0.0  # of training, as `minutes` counts them
        self._history: list[dict[str, Any]] = []
        self._mask_settings: dict[str, Any] = {}

    @property
    def step(self) -> int:
        """Steps done."""
        return self._step

    @property
    def average(self) -> M2AENet:
        """The moving average of the weights, in evaluation mode: the model."""
        return self._average

    def steps(self, run: Path) -> Iterator[Progress]:
        """Runs the remaining steps; yields the progress every 50, and saves checkpoints."""
        began = last = time.perf_counter()
        totals, since, checked = self._no_totals(), self._step, self._step
        share = self._share()
        while share < 1:
            if not self._pool.complete and self._step % POOL_REFRESH_STEPS == 0:
                self._pool.refresh()
            totals += self._train_step()
            self._step += 1
            now = time.perf_counter()
            self._seconds, last = self._seconds + now - last, now
            share = self._share()
            save = self._step % self._config.checkpoint_every == 0
            report = self._step % LOG_STEPS == 0 or share == 1
            # Reading them waits for the device: a GPU is asked as seldom as it is reported.
            if save or report or self._device.type == "cpu":
                self._refuse_what_is_not_finite(totals, since=checked)
                checked = self._step
            if save:
                self.save(run)
            if report:
                progress = self._progress(totals, since, share, time.perf_counter() - began)
                with (run / "log.jsonl").open("a", encoding="utf-8") as log:
                    log.write(json.dumps(vars(progress)) + "\n")
                yield progress
                totals, since, began = self._no_totals(), self._step, time.perf_counter()

    def _share(self) -> float:
        """How much of the training is done, at most 1."""
        by_steps = self._step / self._config.steps
        limit = 60 * self._config.minutes
        by_clock = self._seconds / limit if limit else 0.0
        return min(max(by_steps, by_clock), 1.0)

    def _no_totals(self) -> Tensor:
        count = len(MEASURED) + len(self._config.parts)
        return torch.zeros(count, dtype=torch.float64, device=self._device)

    def _refuse_what_is_not_finite(self, totals: Tensor, *, since: int) -> None:
        """Raises where a loss or gradient is NaN or infinite, of the steps from `since` on."""
        names = [*MEASURED, *(f"gradient of the {part}" for part in self._config.parts)]
        wrong = [
            n for n, total in zip(names, totals.tolist(), strict=True) if not math.isfinite(total)
        ]
        if wrong:
            last = self._step - 1
            steps = f"step {last}" if since == last else f"steps {since} to {last}"
            raise TrainingError(
                f"{steps}: not finite: {', '.join(wrong)}; the last checkpoint is "
                "intact: lower the learning rates"
            )

    def _progress(self, totals: Tensor, since: int, share: float, seconds: float) -> Progress:
        measured = totals[: len(MEASURED)].tolist()
        mask, overlap, union, reconstruction, before, after = measured
        count = self._step - since
        return Progress(
            step=self._step,
            share=share,
            samples=len(self._pool),
            mask_loss=mask / count,
            mask_iou=overlap / max(union, 1.0),
            reconstruction_loss=reconstruction / count,
            psnr_gain=10 * math.log10(max(before, 1e-12) / max(after, 1e-12)),
            seconds_per_step=seconds / count,
        )

    def _train_step(self) -> Tensor:
        """Returns what `MEASURED` names, then the norms of the parts' gradients."""
        # The step number seeds the batch, so that a resumed run draws what an unkilled one would.
        rng = np.random.default_rng((self._config.seed, 1, self._step))
        crops = self._pool.draw(rng, self._config.batch)
        self._set_learning_rate()
        self._optimizer.zero_grad(set_to_none=True)
        measured = self._gradients.backward(crops, rng, step=self._step)
        for part in self._config.parts:
            parameters = trained_parameters(self._network, part)
            norm = nn.utils.clip_grad_norm_(parameters, self._config.clip_norm)
            # Where nothing had a gradient, torch's zero lies on the CPU.
            measured.append(norm.to(self._device))
        self._optimizer.step()
        self._update_average()
        return torch.stack([value.double() for value in measured])

    def _set_learning_rate(self) -> None:
        config = self._config
        decay = 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * self._share()))
        factor = decay * min(1.0, (self._step + 1) / max(config.warmup, 1))
        for group in self._optimizer.param_groups:
            group["lr"] = group["peak"] * factor

    @torch.no_grad()
    def _update_average(self) -> None:
        # A young average follows quickly, so that it forgets the random start.
        decay = min(self._config.ema_decay, (1 + self._step) / (10 + self._step))
        averages, current = ([*m.parameters()] for m in (self._average, self._network))
        lerp = get_ema_multi_avg_fn(decay)  # type: ignore[no-untyped-call]
        lerp(averages, current, self._step)
        buffers = zip(self._average.buffers(), self._network.buffers(), strict=True)
        for statistic, latest in buffers:
            statistic.copy_(latest)

    def save(self, run: Path) -> Path:
        """Writes `state.pt`, to resume from, and `model.safetensors`; returns the latter's path."""
        state = {
            "configuration": self._config.network.to_json(),
            "history": json.dumps(self._recipes()),
            "mask_settings": json.dumps(self._mask_settings),
            "step": self._step,
            "seconds": self._seconds,
            "network": self._network.state_dict(),
            "average": self._average.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        with atomic_file(run / STATE, overwrite=True) as file:
            torch.save(state, file)
        header = {"training": self._recipes(), **self._mask_settings}
        save_checkpoint(self._average, run / "model.safetensors", metadata=header)
        return run / "model.safetensors"

    def _recipes(self) -> list[dict[str, Any]]:
        """The recipes so far, each with the step from which it held, and the step reached."""
        recipe = self._config.to_json()
        if self._history and self._history[-1].get("recipe") == recipe:
            begun = self._history
        else:
            begun = [*self._history, {"from_step": self._began, "recipe": recipe}]
        return [*begun[:-1], {**begun[-1], "to_step": self._step}]

    def resume(self, run: Path) -> bool:
        """Goes on from `state.pt` where there is one.

        Network, samples, parts, what is frozen and optimiser must be the same; all else (steps,
        rates, batch sizes, the losses' weights) may change on the way, and the checkpoint's
        history tells.

        Returns:
            Whether there was a state to go on from.

        Raises:
            TrainingError: the state belongs to another network or other samples, or is damaged.
        """
        path = run / STATE
        if not path.exists():
            return False
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # torch's own words about what it then refuses
                state = torch.load(path, map_location=self._device, weights_only=True)
            self._take(state, path)
        except (TrainingError, OSError, MemoryError, torch.OutOfMemoryError):
            raise
        except Exception as error:  # a damaged pickle raises anything
            if _lacks_memory(error):
                raise
            raise TrainingError(
                f"{path}: found a state that is damaged, or a file of another kind "
                f"({type(error).__name__}), expected what the run wrote; give another run folder, "
                "or move it away to begin anew"
            ) from error
        return True

    def _take(self, state: Mapping[str, Any], path: Path) -> None:
        """Takes a state over, or refuses it, naming its path."""
        self._history = json.loads(state["history"])
        self._mask_settings = json.loads(state.get("mask_settings", "{}"))
        stored, asked = self._history[-1]["recipe"], self._config.to_json()
        default = TrainingConfig().to_json()  # of fields that are younger than the state
        stored = {**stored, "synthesis": with_defaults(stored["synthesis"])}
        changed = sorted(n for n in _FIXED if stored.get(n, default[n]) != asked[n])
        # A preset may have changed since; older states tell by their shapes alone.
        trained = state.get("configuration") or infer_config(state["network"]).to_json()
        if not changed and trained != self._config.network.to_json():
            changed = [f"the network that model = {self._config.model!r} names"]
        if changed:
            raise TrainingError(
                f"{path} was trained with other values of {changed}; "
                "give another run folder, or the recipe that began it"
            )
        self._step = self._began = state["step"]
        self._seconds = state.get("seconds", 0.0)
        self._network.load_state_dict(state["network"])
        self._average.load_state_dict(state["average"])
        # The moments are the state's, the rates and the decay the recipe's.
        settings = ("lr", "peak", "weight_decay")
        recipes = [{name: g[name] for name in settings} for g in self._optimizer.param_groups]
        self._optimizer.load_state_dict(state["optimizer"])
        for group, recipe in zip(self._optimizer.param_groups, recipes, strict=True):
            group.update(recipe)

    def begin_from(
        self, network: M2AENet, *, name: str, header: Mapping[str, Any] | None = None
    ) -> None:
        """Takes the weights of a network, and remembers in the history where they come from.

        The modules that the recipe names in `begin_anew` keep their random weights. Threshold and
        dilation that the header says stay with a mask predictor that is not trained.

        Raises:
            TrainingError: it is of another configuration, or has no such module.
        """
        # From which pictures a mask is predicted is no matter of weights: the recipe's word holds.
        mirrored = self._network.config.mask_mirrored
        if replace(network.config, mask_mirrored=mirrored) != self._network.config:
            raise TrainingError(
                f"{name} holds the {network.config.name} network "
                f"{network.config.to_json()}, the recipe asks for {self._config.network.to_json()}"
            )
        weights = network.state_dict()
        for module in self._config.begin_anew:
            anew = names_within(module, weights, field="begin_anew")
            weights.update({n: self._network.state_dict()[n].clone() for n in anew})
        for part in (self._network, self._average):
            part.load_state_dict(weights)
        header = header or {}
        told = {"training": header["training"]} if "training" in header else {}
        self._history = [{"checkpoint": name, **told}]
        if "mask_predictor" not in self._config.parts:
            self._mask_settings = mask_settings(header)
