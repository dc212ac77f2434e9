"""One training from end to end: its samples, its records, and torch's settings meanwhile."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch.utils.tensorboard import SummaryWriter

from m2a.errors import TrainingError
from m2a.files import atomic_write
from m2a.models.checkpoint import open_checkpoint
from m2a.runtime.images import Photo, write_photo
from m2a.training.config import TrainingConfig
from m2a.training.memory import keeping_freed_memory
from m2a.training.photographs import load_photographs
from m2a.training.pool import PoolConfig, rendering
from m2a.training.records import SHARD_SAMPLES
from m2a.training.restorer_convolution import restorer_convolution
from m2a.training.trainer import LOG_STEPS, STATE, Progress, Trainer, training_device
from m2a.training.validation import Validated, Validation


def train(
    config: TrainingConfig,
    *,
    photographs: Path,
    run: Path,
    cutouts: Path | None = None,
    init: Path | None = None,
    render_workers: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
    validated: Callable[[int, Validated], None] = lambda *_: None,
) -> Path:
    """Trains from a folder of sharp photographs, or goes on where the run stopped.

    Args:
        config: the recipe.
        photographs: folder of sharp photographs.
        run: folder of the run: `samples/`, `state.pt`, `model.safetensors`, `log.jsonl`,
            `tensorboard/`, and with validation `validation.jsonl` and `preview.png`.
        cutouts: folder of cut-outs that some of the pasted objects are taken from, in training
            and not in validation.
        init: a checkpoint to begin from instead of random weights; its optimiser's moments begin
            anew. Not read where the run goes on.
        render_workers: processes that render samples beside the training.
        report: called every 50 steps.
        validated: called with the step and the figures after each validation.

    Returns:
        The path of the trained checkpoint: the moving average of the weights.

    Raises:
        TrainingError: there are no photographs or no cut-outs, the run belongs to another recipe,
            its state is damaged, samples are missing and no process renders them, a loss is not
            finite, or the recipe asks for a precision that does not run here, or for false alarms
            of a mask predictor that is not trained.
        CheckpointError: `init` cannot be read.
    """
    pool_config = PoolConfig(
        photographs=photographs,
        held_out=(*config.held_out, *config.validation),
        folder=run / "samples",
        samples=config.samples,
        synthesis=config.synthesis,
        seed=config.seed,
        cutouts=cutouts,
    )
    # First: what is no checkpoint, or cannot run here, fails before anything is rendered.
    restorer_convolution(config, training_device())
    fresh = not (run / STATE).exists()
    if config.false_alarms and fresh and init is None:
        raise TrainingError(
            "false_alarms need a trained mask predictor: begin from a checkpoint, with --init"
        )
    begin = (init.name, open_checkpoint(init)) if init is not None and fresh else None
    validation = _validation(config, photographs)
    with (
        rendering(pool_config, workers=render_workers, device=training_device()) as pool,
        _torch_settings(config),
        keeping_freed_memory(),
    ):
        # Before the first samples are there: what cannot be resumed need not wait for them.
        trainer = Trainer(config, pool)
        if not trainer.resume(run) and begin is not None:
            name, checkpoint = begin
            trainer.begin_from(checkpoint.network, name=name, header=checkpoint.header)
        while pool.refresh() < SHARD_SAMPLES:
            time.sleep(0.5)
        for name in ("log.jsonl", "validation.jsonl"):
            _drop_records(run / name, beyond=trainer.step)
        with SummaryWriter(str(run / "tensorboard"), purge_step=trainer.step + 1) as board:
            for progress in trainer.steps(run):
                for name, value in vars(progress).items():
                    board.add_scalar(f"training/{name}", value, progress.step)
                report(progress)
                # By the step alone, so that a resumed run validates where an unkilled one does.
                due = progress.step % config.checkpoint_every < LOG_STEPS
                if validation is not None and (due or progress.share == 1):
                    validated(progress.step, _validate(validation, trainer, run, board))
    return trainer.save(run)


def _validation(config: TrainingConfig, photographs: Path) -> Validation | None:
    if not config.validation:
        return None
    photos = load_photographs(photographs, only=config.validation)
    return Validation(photos, config.synthesis, count=config.validation_crops, seed=config.seed + 1)


def _drop_records(path: Path, *, beyond: int) -> None:
    """Drops the lines of steps that are done anew, and what was cut off when the run was killed."""
    if path.exists():
        lines = path.read_bytes().splitlines()
        kept = b"".join(line + b"\n" for line in lines if _step_of(line) <= beyond)
        atomic_write(path, kept, overwrite=True)


def _step_of(line: bytes) -> float:
    """The step of a record; infinite where it is damaged."""
    try:
        step = json.loads(line)["step"]
    except (ValueError, TypeError, KeyError):
        return math.inf
    return step if isinstance(step, int) else math.inf


def _validate(
    validation: Validation, trainer: Trainer, run: Path, board: SummaryWriter
) -> Validated:
    """Measures the average network, and records figures and preview."""
    figures, sheet = validation.measure(trainer.average)
    with (run / "validation.jsonl").open("a", encoding="utf-8") as log:
        log.write(json.dumps({"step": trainer.step, **vars(figures)}) + "\n")
    for name, value in vars(figures).items():
        board.add_scalar(f"validation/{name}", value, trainer.step)
    board.add_image("validation", sheet, trainer.step, dataformats="HWC")
    write_photo(run / "preview.png", Photo(pixels=sheet), overwrite=True)
    return figures


@contextmanager
def _torch_settings(config: TrainingConfig) -> Iterator[None]:
    """Sets torch's process-wide precision and threads for a training, and back again."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision(config.matmul_precision)
    # Parts that train side by side share the cores.
    side_by_side = 1 if config.straight_through else len(config.parts)
    torch.set_num_threads(max(1, threads // side_by_side))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
