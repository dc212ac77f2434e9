"""What is written for an evaluation."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from skimage import data

from m2a.errors import TrainingError, UsageError
from m2a.training.protocol import EVALUATION, Source, draw_sample, write_samples
from m2a.training.samples import Sample, cell_motion


def sample_of(mask, trajectory):
    picture = np.zeros((*mask.shape, 3), np.uint8)
    return Sample(
        blurred=picture,
        sharp=picture,
        mask=mask,
        visible=mask,
        trajectory=trajectory,
        kind="objects",
    )


@pytest.mark.parametrize("shape", [(32, 40), (33, 38)])
def test_cells_hold_the_mean_motion_of_their_moving_pixels(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.1
    trajectory = rng.normal(size=(*shape, 4)).astype(np.float32)
    cells = cell_motion(sample_of(mask, trajectory))
    assert cells.shape == (-(-shape[0] // 4), -(-shape[1] // 4), 4)
    for row, column in np.ndindex(cells.shape[:2]):
        window = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        if mask[window].any():
            expected = trajectory[window][mask[window]].mean(axis=0)
            assert cells[row, column] == pytest.approx(expected, abs=1e-6)
        else:
            assert np.isnan(cells[row, column]).all()


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    Image.fromarray(data.astronaut()).save(folder / "astronaut.png")
    return folder


def source_of(photos, **changes):
    return Source(photographs=photos, config=replace(EVALUATION, size=64), **changes)


def contents(folder):
    """Relative path → content of all files but the temporary ones of a killed process."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and path.suffix != ".tmp"
    }


def test_a_folder_holds_pictures_masks_and_motion_of_the_same_names(tmp_path, photos):
    folder = tmp_path / "known"
    sheet = write_samples(source_of(photos), folder, count=2)
    with Image.open(sheet) as picture:
        assert picture.size == (2 * 3 * 64, 64)
    for name in ("blurred", "sharp", "mask", "visible", "motion"):
        assert sorted(path.stem for path in (folder / name).iterdir()) == ["00000", "00001"]
    for name in ("00000", "00001"):
        mask, visible = (
            np.asarray(Image.open(folder / part / f"{name}.png")) > 0
            for part in ("mask", "visible")
        )
        moving = ~np.isnan(np.load(folder / "motion" / f"{name}.npy")[..., 0])
        assert not (visible & ~mask).any()
        assert visible.mean() >= 0.005
        assert np.array_equal(moving, mask.reshape(16, 4, 16, 4).any(axis=(1, 3)))


KILLED = """
import sys, time
from pathlib import Path
import numpy as np
from dataclasses import replace
from m2a.training import protocol

save = np.save

def stop_at_the_third(file, motion, written=[]):
    written.append(motion)
    if len(written) < 3:
        return save(file, motion)
    file.write(b"half")
    print("writing", flush=True)
    time.sleep(600)

np.save = stop_at_the_third
config = replace(protocol.EVALUATION, size=64)
source = protocol.Source(photographs=Path(sys.argv[1]), config=config)
protocol.write_samples(source, Path(sys.argv[2]), count=5)
"""


def test_a_killed_run_goes_on_in_processes_and_ends_as_an_unkilled_one(tmp_path, photos):
    killed, whole = tmp_path / "killed", tmp_path / "whole"
    with subprocess.Popen(
        [sys.executable, "-c", KILLED, str(photos), str(killed)], stdout=subprocess.PIPE
    ) as process:
        assert process.stdout.readline() == b"writing\n"
        process.kill()
    finished = killed / "blurred" / "00001.png"
    written = finished.stat().st_mtime_ns
    there = []
    write_samples(source_of(photos), killed, count=5, workers=2, progress=there.append)
    write_samples(source_of(photos), whole, count=5)
    assert there == [2, 3, 4, 5]
    assert finished.stat().st_mtime_ns == written
    assert contents(killed) == contents(whole)


def test_samples_of_the_same_source_stay_and_may_become_more(tmp_path, photos):
    folder, source = tmp_path / "known", source_of(photos)
    write_samples(source, folder, count=1)
    first = contents(folder)
    write_samples(source, folder, count=2)
    grown = contents(folder)
    assert grown["sharp/00000.png"] == first["sharp/00000.png"]
    assert "sharp/00001.png" in grown
    with pytest.raises(UsageError, match="found sample 1, expected none from 1 on"):
        write_samples(source, folder, count=1, overwrite=True)
    assert contents(folder) == grown


def test_samples_of_another_source_are_refused_and_replaced_where_asked(tmp_path, photos):
    folder, source = tmp_path / "known", source_of(photos)
    write_samples(source, folder, count=1)
    before = contents(folder)
    things = tmp_path / "things"
    things.mkdir()
    Image.new("RGBA", (9, 9), (9, 9, 9, 99)).save(things / "thing.png")
    others = {
        "seed": replace(source, seed=1),
        "synthesis": replace(source, config=EVALUATION),
        "cutouts": replace(source, cutouts=things),
    }
    for name, other in others.items():
        with pytest.raises(UsageError, match=f"found samples of other {name}; .*--overwrite"):
            write_samples(other, folder, count=1)
    Image.fromarray(data.astronaut()[::-1]).save(photos / "another.png")
    with pytest.raises(UsageError, match="found samples of other photographs"):
        write_samples(source, folder, count=1)
    write_samples(replace(source, only=("astronaut",)), folder, count=1)
    assert contents(folder) == before
    write_samples(others["seed"], folder, count=1, overwrite=True)
    assert contents(folder)["blurred/00000.png"] != before["blurred/00000.png"]


@pytest.mark.parametrize(
    ("content", "message"),
    [(None, r"no synth\.json beside them"), ("[]", "does not tell"), ("{}", "does not tell")],
)
def test_samples_of_unknown_origin_are_refused(tmp_path, photos, content, message):
    (tmp_path / "known" / "sharp").mkdir(parents=True)
    (tmp_path / "known" / "sharp" / "00000.png").touch()
    if content is not None:
        (tmp_path / "known" / "synth.json").write_text(content)
    with pytest.raises(UsageError, match=message):
        write_samples(source_of(photos), tmp_path / "known", count=1)


def test_a_cutout_that_cannot_be_used_is_told_before_anything_is_written(tmp_path, photos):
    with pytest.raises(TrainingError, match=r"astronaut\.png has no alpha channel"):
        write_samples(source_of(photos, cutouts=photos), tmp_path / "known", count=1)
    assert not (tmp_path / "known").exists()


def test_other_kinds_are_kept_as_they_are_drawn():
    photos = [data.astronaut()]
    kinds = {"objects": 0.25, "region": 0.25, "shake": 0.25, "still": 0.25}
    config = replace(EVALUATION, size=32, **{f"{k}_probability": v for k, v in kinds.items()})
    samples = [draw_sample(photos, np.random.default_rng(s), config) for s in range(40)]
    assert {sample.kind for sample in samples} == set(kinds)
    assert all(s.visible.mean() >= 0.005 for s in samples if s.kind in ("objects", "region"))


def test_blur_that_is_never_visible_is_an_error():
    config = replace(EVALUATION, size=32, blur_length=(0.01, 0.02), rotation=0.0, zoom=0.0)
    with pytest.raises(TrainingError, match=r"100 samples .* blur_length is \(0\.01, 0\.02\)"):
        draw_sample([data.astronaut()], np.random.default_rng(0), config)
