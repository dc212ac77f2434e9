"""One training from end to end: the run's folder, its samples, and torch's settings meanwhile."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch

from m2a.models.checkpoint import load_checkpoint
from m2a.training.config import TrainingConfig
from m2a.training.pool import SHARD_SAMPLES, PoolConfig, rendering
from m2a.training.trainer import Progress, Trainer


def train(
    config: TrainingConfig,
    *,
    photographs: Path,
    run: Path,
    init: Path | None = None,
    render_workers: int = 1,
    report: Callable[[Progress], None] = lambda _: None,
) -> Path:
    """Trains from a folder of sharp photographs, or goes on where the run stopped.

    Args:
        config: the recipe.
        photographs: folder of sharp photographs.
        run: folder of the run: `samples/`, `state.pt`, `log.jsonl`, `model.safetensors`.
        init: a checkpoint to begin from instead of random weights; its optimiser's moments begin
            anew. Without effect where the run goes on.
        render_workers: processes that render samples beside the training.
        report: called every 50 steps.

    Returns:
        The path of the trained checkpoint: the moving average of the weights.

    Raises:
        TrainingError: there are no photographs, the run belongs to another recipe, or a loss is
            not finite.
        CheckpointError: `init` cannot be read.
    """
    pool_config = PoolConfig(
        photographs=photographs,
        held_out=config.held_out,
        folder=run / "samples",
        samples=config.samples,
        synthesis=config.synthesis,
        seed=config.seed,
    )
    # Read first: a checkpoint that does not fit fails before anything is rendered.
    begin = None if init is None else (init.name, load_checkpoint(init))
    with rendering(pool_config, workers=render_workers) as pool, _torch_settings(config):
        while pool.refresh() < SHARD_SAMPLES:
            time.sleep(0.5)
        trainer = Trainer(config, pool)
        if not trainer.resume(run) and begin is not None:
            name, network = begin
            trainer.begin_from(network, name=name)
        for progress in trainer.steps(run):
            report(progress)
    return trainer.save(run)


@contextmanager
def _torch_settings(config: TrainingConfig) -> Iterator[None]:
    """Sets torch's process-wide precision and threads for a training, and back again."""
    precision, threads = torch.get_float32_matmul_precision(), torch.get_num_threads()
    torch.set_float32_matmul_precision(config.matmul_precision)
    # The parts train side by side and share the cores.
    torch.set_num_threads(max(1, threads // len(config.parts)))
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(precision)
        torch.set_num_threads(threads)
