"""A pool of synthetic samples on disk: rendered once, in parallel, resumable, reused in training.

Rendering a sample costs as much as training on it, so samples are rendered into shards by
separate processes while training already runs on the first ones. A shard depends on the seed,
its number, the photographs and the settings only; a run that was killed renders what is missing.
"""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from m2a.errors import TrainingError
from m2a.files import atomic_file, atomic_write
from m2a.training.cutouts import digest_cutouts, load_cutouts
from m2a.training.photographs import digest, find_photographs
from m2a.training.processes import become_worker
from m2a.training.records import (
    MASKED,
    SHAKEN,
    SHARD_SAMPLES,
    VISIBLE,
    Crops,
    DeviceShards,
    MappedShards,
    sample_type,
    turn_samples,
)
from m2a.training.samples import cell_motion, with_defaults
from m2a.training.synthesis import SynthesisConfig, load_photographs, synthesise

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

CPU = torch.device("cpu")

IDENTITY = "pool.json"
"""The file beside the shards that tells what they were rendered from."""


@dataclass(frozen=True, kw_only=True)
class PoolConfig:
    """What a pool is rendered from.

    Attributes:
        photographs: the folder of sharp photographs.
        cutouts: folder of cut-outs that some of the objects are taken from; None where none are.
        held_out: file names without suffix that are left out.
        folder: where the shards lie.
        samples: how many samples to render, rounded up to whole shards.
        synthesis: what the samples look like; square.
        seed: shard i is drawn from the seed sequence (seed, i).
    """

    photographs: Path
    held_out: tuple[str, ...]
    folder: Path
    samples: int
    synthesis: SynthesisConfig
    seed: int
    cutouts: Path | None = None

    @property
    def shards(self) -> int:
        """The number of shards."""
        return -(-self.samples // SHARD_SAMPLES)

    def shard(self, number: int) -> Path:
        """The file of a shard."""
        return self.folder / f"shard-{number:05d}.npy"


@contextmanager
def rendering(
    config: PoolConfig, *, workers: int, device: torch.device = CPU
) -> Iterator[SamplePool]:
    """Renders the missing shards in `workers` background processes; yields the growing pool.

    The pool hands out crops on `device`.

    Raises:
        TrainingError: shards are missing and the folder of photographs has no picture left to
            train on, or that of cut-outs none that can be used; or the folder of the shards holds
            those of another recipe or of other photographs.
    """
    photographs = None
    if not all(config.shard(number).exists() for number in range(config.shards)):
        # Fail here, with a message, and not in a worker.
        load_training_photographs(config)
        load_cutouts(config.cutouts)
        photographs = digest(find_photographs(config.photographs, exclude=config.held_out))
    config.folder.mkdir(parents=True, exist_ok=True)
    _check_identity(config, photographs)
    context = multiprocessing.get_context("spawn")
    processes: list[BaseProcess] = [
        context.Process(target=_render_shards, args=(config, worker, workers), daemon=True)
        for worker in range(workers)
    ]
    for process in processes:
        process.start()
    try:
        yield SamplePool(config, processes, device)
    finally:
        for process in processes:
            process.terminate()
            process.join()


def _check_identity(config: PoolConfig, photographs: str | None) -> None:
    """Refuses a folder whose shards come from another recipe; marks a new one as this one's.

    Args:
        config: the pool.
        photographs: the `digest` of what is rendered from; None where nothing is any more.
    """
    path = config.folder / IDENTITY
    asked: dict[str, Any] = json.loads(
        json.dumps(
            {
                "seed": config.seed,
                "held_out": sorted(config.held_out),
                "cutouts": digest_cutouts(config.cutouts),
                "synthesis": asdict(config.synthesis),
            }
        )
    )
    if photographs is not None:
        asked["photographs"] = photographs
    if not path.exists():
        atomic_write(path, json.dumps(asked, indent=2).encode(), overwrite=True)
        return
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        # Of what is younger than the pool, it has the default.
        found.setdefault("cutouts", None)
        found.setdefault("photographs", photographs)
        found["synthesis"] = with_defaults(found["synthesis"])
        changed = sorted(name for name in asked if found[name] != asked[name])
    except (ValueError, TypeError, KeyError) as error:
        raise TrainingError(f"{path} does not tell what the samples are: {error!r}") from error
    if changed:
        raise TrainingError(
            f"the samples in {config.folder} were rendered with other {', '.join(changed)}; "
            "give another run folder, or what they were rendered with"
        )


def load_training_photographs(config: PoolConfig) -> list[NDArray[np.uint8]]:
    """Decodes the photographs of a pool, without the held-out ones."""
    return load_photographs(config.photographs, exclude=config.held_out)


def _render_shards(config: PoolConfig, worker: int, workers: int) -> None:
    become_worker()
    missing = [n for n in range(worker, config.shards, workers) if not config.shard(n).exists()]
    if not missing:
        return
    photographs, cutouts = load_training_photographs(config), load_cutouts(config.cutouts)
    for number in missing:
        rng = np.random.default_rng((config.seed, number))
        shard = render_shard(photographs, rng, config.synthesis, cutouts=cutouts)
        with atomic_file(config.shard(number), overwrite=True) as file:
            np.save(file, shard)


def render_shard(
    photographs: list[NDArray[np.uint8]],
    rng: np.random.Generator,
    config: SynthesisConfig,
    *,
    cutouts: list[NDArray[np.uint8]],
) -> NDArray[np.void]:
    """Renders one shard: [64] records of `sample_type`."""
    shard = np.empty(SHARD_SAMPLES, sample_type(config.frame[0]))
    for record in shard:
        sample = synthesise(photographs, rng, config, cutouts=cutouts)
        record["blurred"], record["sharp"] = sample.blurred, sample.sharp
        shaken = SHAKEN if sample.kind == "shake" else 0
        record["label"] = sample.mask * MASKED + sample.visible * VISIBLE + shaken
        record["motion"] = cell_motion(sample)
    return shard


class SamplePool:
    """The samples rendered so far.

    On the CPU they are mapped into memory, so that several runs may share them; a GPU holds them
    all, half a megabyte each at 256 pixels, for drawing them anew from the host would hold it back.
    """

    def __init__(
        self, config: PoolConfig, processes: list[BaseProcess], device: torch.device = CPU
    ) -> None:
        self._config = config
        self._processes = processes
        self._shards = (
            MappedShards()
            if device.type == "cpu"
            else DeviceShards(config.shards, config.synthesis.frame[0], device)
        )

    def __len__(self) -> int:
        return len(self._shards.numbers) * SHARD_SAMPLES

    @property
    def complete(self) -> bool:
        """Whether every shard is loaded."""
        return len(self._shards.numbers) == self._config.shards

    def refresh(self) -> int:
        """Loads shards that were finished since the last call; returns the number of samples.

        Raises:
            TrainingError: a rendering process died, or all have ended and shards are missing.
        """
        # Asked first, for a process may write its last shard and end while the others are read.
        ended = all(process.exitcode is not None for process in self._processes)
        loaded = set(self._shards.numbers)
        for number in range(self._config.shards):
            path = self._config.shard(number)
            if number in loaded or not path.exists():
                continue
            shard = np.load(path, mmap_mode="r")
            expected = sample_type(self._config.synthesis.frame[0])
            if shard.shape != (SHARD_SAMPLES,) or shard.dtype != expected:
                raise TrainingError(
                    f"{path} holds {shard.shape} of {shard.dtype}, expected ({SHARD_SAMPLES},) of "
                    f"{expected}: it was rendered with other settings; use another run folder"
                )
            self._shards.add(number, shard)
        codes = [process.exitcode for process in self._processes]
        died = [code for code in codes if code not in (None, 0)]
        if died:
            raise TrainingError(
                f"a process that renders samples died (exit code {died[0]}), killed or of an error "
                "that stands above; the same command goes on"
            )
        if ended and not self.complete:
            missing = self._config.shards - len(self._shards.numbers)
            raise TrainingError(
                f"{missing} of {self._config.shards} shards are missing in {self._config.folder}, "
                "and no process renders them any more; the same command renders what is missing"
            )
        return len(self)

    def draw(self, rng: np.random.Generator, count: int) -> Crops:
        """Draws samples with replacement, each with a random flip and transposition."""
        numbers = np.array(sorted(self._shards.numbers))
        shard, place = np.divmod(rng.integers(len(self), size=count), SHARD_SAMPLES)
        fields = self._shards.take(numbers[shard], place)
        turns = rng.integers(2, size=(count, 3)).astype(bool)
        turned = {name: torch.empty_like(field) for name, field in fields.items()}
        turned["motion"] = turned["motion"].float()
        for turn in np.unique(turns, axis=0):
            alike = torch.from_numpy(np.flatnonzero((turns == turn).all(axis=1)))
            chosen = alike.to(fields["label"].device)
            flip_y, flip_x, transpose = (bool(part) for part in turn)
            some = {name: field[chosen] for name, field in fields.items()}
            some = turn_samples(some, flip_y=flip_y, flip_x=flip_x, transpose=transpose)
            for name, field in some.items():
                turned[name][chosen] = field
        return Crops(**turned)
