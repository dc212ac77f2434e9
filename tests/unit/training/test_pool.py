"""The pool: shards that are rendered once, refused where they are foreign, and drawn from."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import subprocess
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image
from pools import pool_config
from skimage import data

from m2a.errors import TrainingError
from m2a.training.pool import SamplePool, render_shard, rendering
from m2a.training.records import SHARD_SAMPLES, DeviceShards, sample_type, turn_samples
from m2a.training.samples import SynthesisConfig

STUCK_WORKER = """
import sys, time
from pathlib import Path
import numpy as np
from m2a.training import pool
from m2a.training.samples import SynthesisConfig

def write_for_ever(file, shard):
    file.write(b"half")
    print("writing", flush=True)
    time.sleep(600)

np.save = write_for_ever
folder = Path(sys.argv[1])
pool._render_shards(
    pool.PoolConfig(
        photographs=folder, held_out=(), folder=folder / "shards", samples=64,
        synthesis=SynthesisConfig(size=32), seed=0,
    ), 0, 1,
)
"""


class TestSamplePool:
    def test_the_same_seed_draws_the_same_samples(self, pool):
        first, second = (pool.draw(np.random.default_rng(5), 4) for _ in range(2))
        assert torch.equal(first.blurred, second.blurred)
        assert first.blurred.shape == (4, 32, 32, 3)
        assert first.label.shape == (4, 32, 32)

    def test_a_device_that_holds_all_samples_draws_the_same(self, pool):
        """As on a GPU, for which the CPU stands in."""
        held = SamplePool(pool._config, [])
        held._shards = DeviceShards(1, 32, torch.device("cpu"))
        held.refresh()
        crops = [p.draw(np.random.default_rng(5), 16) for p in (pool, held)]
        for name in ("blurred", "sharp", "label", "motion"):
            first, second = (getattr(c, name) for c in crops)
            assert first.dtype == second.dtype
            assert torch.equal(first.nan_to_num(-1), second.nan_to_num(-1))

    def test_a_device_without_room_is_told_in_gigabytes(self, pool, monkeypatch):
        def empty(*_, **__):
            raise torch.OutOfMemoryError("out of memory")

        monkeypatch.setattr(torch, "empty", empty)
        with pytest.raises(TrainingError, match=r"64 samples need .* GiB .* fewer `samples`"):
            DeviceShards(1, 32, torch.device("cpu"))

    def test_flips_keep_image_truth_and_label_together(self, pool):
        crops = pool.draw(np.random.default_rng(5), 32)
        moved = (crops.blurred != crops.sharp).any(dim=3)
        assert not moved[crops.label == 0].any()
        assert moved[crops.label > 0].float().mean() > 0.9

    def test_a_trajectory_turns_with_its_sample(self, pool):
        """It still leads from the red pixel to the green one, however the sample is turned."""
        record = np.zeros((), sample_type(32))
        record["sharp"][18, 10, 0] = record["sharp"][10, 22, 1] = 255
        record["motion"][18 // 4, 10 // 4] = (12, -8, 6, -4)
        seen = set()
        for turn in itertools.product([False, True], repeat=3):
            names = ("flip_y", "flip_x", "transpose")
            fields = {n: torch.from_numpy(record[n])[None] for n in ("sharp", "motion")}
            turned = turn_samples(fields, **dict(zip(names, turn, strict=True)))
            sharp, motion = (turned[name][0].numpy() for name in ("sharp", "motion"))
            (red,), (green,) = (np.argwhere(sharp[..., channel]) for channel in (0, 1))
            way = (green - red)[::-1].astype(np.float32)
            assert np.array_equal(motion[tuple(red // 4)], [*way, *way / 2])
            seen.add(tuple(way))
        assert len(seen) == 8

    def test_a_shard_of_other_settings_is_refused(self, pool, tmp_path):
        other = SamplePool(pool_config(tmp_path / "pool", synthesis=SynthesisConfig(size=64)), [])
        with pytest.raises(TrainingError, match="rendered with other settings"):
            other.refresh()

    @pytest.mark.parametrize(
        ("changes", "name"),
        [
            ({"seed": 1}, "seed"),
            ({"held_out": ("coffee",)}, "held_out"),
            ({"synthesis": SynthesisConfig(size=32, blur_length=(3.0, 9.0))}, "synthesis"),
            ({"cutouts": "things"}, "cutouts"),
        ],
    )
    def test_shards_of_another_recipe_are_refused_before_anything_is_rendered(
        self, tmp_path, changes, name
    ):
        Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
        if "cutouts" in changes:
            things = tmp_path / changes["cutouts"]
            things.mkdir()
            Image.new("RGBA", (9, 9), (9, 9, 9, 99)).save(things / "thing.png")
            changes = {"cutouts": things}
        shards = tmp_path / "shards"
        config = replace(pool_config(tmp_path), folder=shards)
        with rendering(config, workers=0) as pool:
            assert len(pool) == 0
        with rendering(replace(config, samples=2 * SHARD_SAMPLES), workers=0):
            pass  # a pool may grow
        with (
            pytest.raises(TrainingError, match=name),
            rendering(replace(config, **changes), workers=1),
        ):
            pass
        assert [path.name for path in shards.iterdir()] == ["pool.json"]

    def test_a_pool_that_is_older_than_a_setting_has_its_default(self, tmp_path):
        Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
        config = replace(pool_config(tmp_path), folder=tmp_path / "shards")
        with rendering(config, workers=0):
            pass
        identity = tmp_path / "shards" / "pool.json"
        stored = json.loads(identity.read_text())
        del stored["synthesis"]["log_object_size"], stored["cutouts"], stored["photographs"]
        identity.write_text(json.dumps(stored))
        with rendering(config, workers=0):
            pass
        other = replace(config, synthesis=replace(config.synthesis, log_object_size=True))
        with pytest.raises(TrainingError, match="synthesis"), rendering(other, workers=0):
            pass

    def test_shards_of_other_cutouts_are_refused(self, tmp_path):
        Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
        (tmp_path / "things").mkdir()
        thing = Image.new("RGBA", (9, 9), (9, 9, 9, 99))
        thing.save(tmp_path / "things" / "thing.png")
        config = replace(pool_config(tmp_path / "shards"), photographs=tmp_path)
        config = replace(config, cutouts=tmp_path / "things")
        for _ in range(2):
            with rendering(config, workers=0):
                pass
        thing.rotate(45).save(tmp_path / "things" / "thing.png")
        with pytest.raises(TrainingError, match="cutouts"), rendering(config, workers=0):
            pass

    def test_shards_of_other_photographs_are_refused(self, tmp_path):
        photo = Image.fromarray(data.astronaut())
        photo.save(tmp_path / "astronaut.png")
        config = replace(pool_config(tmp_path / "shards"), photographs=tmp_path)
        config = replace(config, held_out=("coffee",))
        with rendering(config, workers=0):
            pass
        photo.save(tmp_path / "coffee.png")
        with rendering(config, workers=0):
            pass  # it is held out
        photo.save(tmp_path / "another.png")
        with pytest.raises(TrainingError, match="photographs"), rendering(config, workers=0):
            pass

    def test_a_shard_has_objects_that_are_cutouts(self):
        photos = [np.zeros((48, 48, 3), np.uint8)] * 2
        blue = np.full((20, 20, 4), (0, 0, 255, 255), np.uint8)
        blue[0, 0, 3] = 0
        config = SynthesisConfig(size=32, cutout_probability=1.0)
        rngs = (np.random.default_rng(0) for _ in range(2))
        without, within = (
            render_shard(photos, rng, config, cutouts=cutouts)
            for rng, cutouts in zip(rngs, ([], [blue]), strict=True)
        )
        assert not (without["sharp"][..., 2] > 128).any()
        assert (within["sharp"][..., 2] > 128).any(axis=(1, 2)).sum() > 20

    def test_a_worker_that_is_stopped_while_it_writes_leaves_no_temporary_file(self, tmp_path):
        Image.fromarray(data.astronaut()).save(tmp_path / "astronaut.png")
        shards = tmp_path / "shards"
        shards.mkdir()
        worker = subprocess.Popen(
            [sys.executable, "-c", STUCK_WORKER, str(tmp_path)], stdout=subprocess.PIPE
        )
        assert worker.stdout.readline() == b"writing\n"
        assert [path.suffix for path in shards.iterdir()] == [".tmp"]
        worker.terminate()
        worker.stdout.close()
        assert worker.wait(60) == 128 + signal.SIGTERM
        assert not list(shards.iterdir())

    def test_only_a_pool_that_is_complete_needs_no_photographs(self, pool):
        with rendering(pool._config, workers=0) as complete:
            assert complete.refresh() == SHARD_SAMPLES
        larger = replace(pool._config, samples=2 * SHARD_SAMPLES)
        with pytest.raises(TrainingError), rendering(larger, workers=0):
            pass

    def test_a_process_that_died_is_an_error(self, tmp_path):
        dead = SamplePool(pool_config(tmp_path), [SimpleNamespace(exitcode=143)])
        with pytest.raises(TrainingError, match=r"died \(exit code 143\)"):
            dead.refresh()

    def test_processes_that_ended_before_the_pool_is_complete_are_an_error(self, pool):
        config = replace(pool._config, samples=3 * SHARD_SAMPLES)
        left = SamplePool(config, [SimpleNamespace(exitcode=0)])
        with pytest.raises(TrainingError, match="2 of 3 shards are missing"):
            left.refresh()
        beside = SamplePool(config, [SimpleNamespace(exitcode=code) for code in (0, None)])
        assert beside.refresh() == SHARD_SAMPLES

    def test_the_last_shard_may_be_written_just_before_its_process_ends(self, pool):
        first, last = (pool._config.shard(number) for number in range(2))

        class Ending:
            """Writes when it is looked at, as if just after the folder was read, and ends."""

            @property
            def exitcode(self):
                if last.exists():
                    return 0
                shutil.copy(first, last)
                return None

        growing = SamplePool(replace(pool._config, samples=2 * SHARD_SAMPLES), [Ending()])
        assert growing.refresh() == 2 * SHARD_SAMPLES

    def test_samples_are_rounded_up_to_whole_shards(self, tmp_path):
        assert pool_config(tmp_path, samples=SHARD_SAMPLES + 1).shards == 2
