"""A small pool of samples whose content is known."""

from __future__ import annotations

import numpy as np

from m2a.training.pool import PoolConfig, SamplePool
from m2a.training.records import MASKED, SHARD_SAMPLES, VISIBLE, sample_type
from m2a.training.samples import SynthesisConfig

SYNTHESIS = SynthesisConfig(size=32, blur_length=(3.0, 8.0))


def pool_config(folder, **changes):
    settings = {
        "photographs": folder,
        "held_out": (),
        "folder": folder,
        "samples": SHARD_SAMPLES,
        "synthesis": SYNTHESIS,
        "seed": 0,
    }
    return PoolConfig(**(settings | changes))


def darkened_pool(folder):
    """One shard of noise, of which a square is darker, labelled so, and moves by (3, -2) pixels."""
    rng = np.random.default_rng(0)
    shard = np.zeros(SHARD_SAMPLES, sample_type(32))
    shard["sharp"] = rng.integers(0, 256, (SHARD_SAMPLES, 32, 32, 3))
    shard["blurred"] = shard["sharp"]
    shard["blurred"][:, 8:24, 8:24] //= 2
    shard["label"][:, 8:24, 8:24] = MASKED | VISIBLE
    shard["motion"] = np.nan
    shard["motion"][:, 2:6, 2:6] = (3.0, -2.0, 0.5, 0.0)
    folder.mkdir()
    np.save(folder / "shard-00000.npy", shard)
    pool = SamplePool(pool_config(folder), [])
    assert pool.refresh() == SHARD_SAMPLES
    assert pool.complete
    return pool
