"""Files in, files out, around a network that inverts the picture."""

from __future__ import annotations

import time
import weakref
from pathlib import Path

import numpy as np
import pytest

from m2a.errors import BackendError, BundleError, ImageError, UsageError
from m2a.runtime import batch
from m2a.runtime.batch import check_plan, deblur_files
from m2a.runtime.images import Photo, read_mask, read_photo, write_photo
from m2a.runtime.outcomes import DONE, FAILED, SKIPPED
from m2a.runtime.plan import Job, plan_jobs
from m2a.runtime.result import Result
from m2a.runtime.settings import FULL, Settings
from m2a.runtime.writing import write_files

WHITE = 255


def invert(pixels, *, mask=None):
    if pixels[0, 0, 0] == WHITE:
        raise BackendError("the picture is white")
    height, width, _ = pixels.shape
    return Result(
        image=WHITE - pixels,
        mask=np.ones((height, width), bool) if mask is None else mask,
        probability=None,
        coverage=1.0,
        motion=np.full((8, 8, 4), np.nan, np.float32),
        seconds={"restore": 0.5},
        backend="fake",
    )


invert.threshold, invert.precision, invert.precision_reason = 0.5, "fp32", "asked for"
invert.ensemble = 1


@pytest.fixture
def opened():
    """How often the network was opened."""
    return []


@pytest.fixture
def deblur(tmp_path, monkeypatch, opened):
    """Deblurs all that lies in photos/ into out/."""
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()

    def deblur(settings=None, **options):
        plan = plan_jobs(["photos"], "out", **options)

        def open_deblurrer():
            opened.append(True)
            return invert

        return list(deblur_files(plan.jobs, settings or Settings(), open_deblurrer))

    return deblur


def paint(path, value, *, alpha=None):
    pixels = np.full((20, 30, 3), value, np.uint8)
    write_photo(Path(path), Photo(pixels=pixels, alpha=alpha), overwrite=True)


def test_each_picture_has_its_outcome(deblur, opened):
    paint("photos/a.png", 1)
    paint("photos/b.png", WHITE)
    Path("photos/c.png").write_bytes(b"")
    paint("photos/d.png", 4)
    outcomes = deblur()
    assert [outcome.status for outcome in outcomes] == [DONE, FAILED, FAILED, DONE]
    assert outcomes[0].backend == "fake"
    assert list(outcomes[0].seconds) == ["decode", "restore", "encode"]
    assert outcomes[0].seconds["restore"] == 0.5
    assert outcomes[1].reason == f"{Path('photos/b.png')}: the picture is white"
    assert outcomes[2].reason.startswith(f"{Path('photos/c.png')}: found an empty file")
    assert (read_photo(Path("out/d.png")).pixels == WHITE - 4).all()
    assert len(opened) == 1


def paint_several(count):
    for index in range(count):
        paint(f"photos/{index}.png", index)
    return plan_jobs(["photos"], "out").jobs


def test_an_outcome_is_told_when_its_files_are_written(deblur):
    outcomes = deblur_files(paint_several(4), Settings(), lambda: invert)
    assert next(outcomes).output == Path("out/0.png")
    assert Path("out/0.png").exists()
    outcomes.close()
    assert [path.name for path in Path("out").iterdir()] == ["0.png"]


def test_who_does_not_go_on_gets_what_was_begun(deblur):
    answers = iter([True, True, False])
    jobs = paint_several(6)
    outcomes = deblur_files(jobs, Settings(), lambda: invert, going_on=lambda: next(answers))
    assert [outcome.output.name for outcome in outcomes] == ["0.png", "1.png"]
    assert [path.name for path in sorted(Path("out").iterdir())] == ["0.png", "1.png"]


def test_what_is_written_does_not_lie_in_memory_while_the_next_is_computed(deblur):
    earlier = []

    def remember(pixels, *, mask=None):
        deadline = time.monotonic() + 10
        while any(result() is not None for result in earlier) and time.monotonic() < deadline:
            time.sleep(0.01)
        alive.append(sum(result() is not None for result in earlier))
        result = invert(pixels, mask=mask)
        earlier.append(weakref.ref(result))
        return result

    alive = []
    remember.threshold, remember.precision, remember.precision_reason = 0.5, "fp32", "asked for"
    remember.ensemble = 1
    assert len(list(deblur_files(paint_several(4), Settings(), lambda: remember))) == 4
    assert alive == [0, 0, 0, 0]


def test_a_file_that_cannot_be_written_fails_alone(deblur, monkeypatch):
    write = batch.write_files

    def full(job, *arguments, **options):
        if job.output.name == "1.png":
            raise OSError(28, "No space left on device")
        write(job, *arguments, **options)

    monkeypatch.setattr(batch, "write_files", full)
    outcomes = list(deblur_files(paint_several(3), Settings(), lambda: invert))
    assert [outcome.status for outcome in outcomes] == [DONE, FAILED, DONE]
    assert "No space left" in outcomes[1].reason


def test_what_exists_is_kept_and_needs_no_network(deblur, opened):
    paint("photos/a.png", 1)
    Path("out").mkdir()
    Path("out/a.png").write_text("precious")
    (outcome,) = deblur(Settings(skip_existing=True))
    assert outcome.status == SKIPPED
    assert outcome.output == Path("out/a.png")
    assert Path("out/a.png").read_text() == "precious"
    assert not opened


def test_a_network_that_cannot_be_opened_ends_it(deblur):
    paint("photos/a.png", 1)

    def fail():
        raise BundleError("damaged")

    with pytest.raises(BundleError):
        next(deblur_files(plan_jobs(["photos"], "out").jobs, Settings(), fail))


def test_an_output_that_cannot_hold_the_photo_fails_before_the_network_runs(deblur):
    paint("photos/a.png", WHITE, alpha=np.zeros((20, 30), np.uint8))
    (outcome,) = deblur(suffix=".jpg")
    assert "alpha channel" in outcome.reason
    assert not Path("out").exists()


def test_a_mask_is_given_to_the_network(deblur):
    paint("photos/a.png", 1)
    paint("mask.png", 0)
    deblur(Settings(mask="mask.png"), pictures={"mask": Path("masks")})
    assert not read_mask(Path("masks/a.png"), shape=(20, 30)).any()


def test_replacing_and_keeping_exclude_each_other():
    with pytest.raises(UsageError, match=r"--overwrite and --skip-existing"):
        Settings(overwrite=True, skip_existing=True)


class TestCheckPlan:
    def test_what_exists(self, deblur):
        paint("photos/a.png", 1)
        Path("out").mkdir()
        Path("out/a.png").touch()
        plan = plan_jobs(["photos"], "out")
        with pytest.raises(UsageError, match=r"a.png already there.*--skip-existing"):
            check_plan(plan, Settings())
        check_plan(plan, Settings(overwrite=True))
        check_plan(plan, Settings(skip_existing=True))

    def test_a_mask(self, deblur):
        paint("photos/a.png", 1)
        one = plan_jobs(["photos"], "out")
        check_plan(one, Settings(mask="mask.png"))
        paint("photos/b.png", 1)
        two = plan_jobs(["photos"], "out")
        check_plan(two, Settings(mask=FULL))
        with pytest.raises(UsageError, match=r"mask\.png for 2 photos"):
            check_plan(two, Settings(mask="mask.png"))


@pytest.mark.parametrize("existed", [True, False])
def test_a_failure_removes_what_was_new_and_nothing_else(tmp_path, existed):
    photo = Photo(pixels=np.zeros((20, 30, 3), np.uint8))
    if existed:
        write_photo(tmp_path / "out.png", photo, overwrite=False)
    job = Job(
        source=tmp_path / "in.png",
        output=tmp_path / "out.png",
        pictures={"mask": tmp_path / "mask.png", "motion": tmp_path / ("x" * 300 + ".png")},
    )
    with pytest.raises(ImageError):
        write_files(job, Settings(overwrite=True), photo, invert(photo.pixels))
    assert [path.name for path in tmp_path.iterdir()] == ["out.png"] * existed
