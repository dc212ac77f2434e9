"""In place, interrupted at any moment: what was deblurred is not deblurred again."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from m2a.errors import ImageError
from m2a.runtime import images
from m2a.runtime.batch import DONE, FAILED, SKIPPED, Settings, deblur_files
from m2a.runtime.deblurrer import Result
from m2a.runtime.images import Photo, read_photo, write_photo
from m2a.runtime.journal import JOURNAL, Journal
from m2a.runtime.plan import plan_jobs


def add_one(pixels, *, mask=None):
    """A second time would be seen."""
    shape = pixels.shape[:2]
    return Result(
        image=pixels + 1,
        mask=np.ones(shape, bool),
        probability=None,
        coverage=1.0,
        motion=np.zeros((8, 8, 4), np.float32),
        seconds={},
        backend="none",
    )


@pytest.fixture
def photos(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("photos").mkdir()
    for name, value in (("a.png", 10), ("b.png", 20), ("c.png", 30)):
        pixels = np.full((20, 30, 3), value, np.uint8)
        write_photo(Path("photos") / name, Photo(pixels=pixels), overwrite=False)
    return Path("photos")


def run(stop_after=None, **options):
    """Deblurs the folder in place; returns the statuses."""
    plan = plan_jobs(["photos"], "photos", **options)
    statuses = []
    outcomes = deblur_files(
        plan.jobs, Settings(overwrite=True), lambda: add_one, journal=Journal(Path("photos"))
    )
    for outcome in outcomes:
        statuses.append(outcome.status)
        if len(statuses) == stop_after:
            break
    return statuses


def values(folder):
    return [int(read_photo(path).pixels[0, 0, 0]) for path in sorted(folder.glob("*.png"))]


def test_an_interrupted_run_goes_on(photos):
    assert run(stop_after=2) == [DONE, DONE]
    assert values(photos) == [11, 21, 30]
    assert run() == [SKIPPED, SKIPPED, DONE]
    assert values(photos) == [11, 21, 31]


@pytest.mark.parametrize("moment", ["before", "after"])
def test_killed_beside_the_replacement(photos, monkeypatch, moment):
    """The two moments that differ: the note is written and the photo is not replaced, or is."""

    class Killed(BaseException):
        pass

    write = images.atomic_write

    def killed(path, data, *, overwrite):
        if moment == "after":
            write(path, data, overwrite=overwrite)
        raise Killed

    with monkeypatch.context() as patched:
        patched.setattr(images, "atomic_write", killed)
        with pytest.raises(Killed):
            run()
    assert values(photos) == [10 if moment == "before" else 11, 20, 30]
    assert run() == [DONE if moment == "before" else SKIPPED, DONE, DONE]
    assert values(photos) == [11, 21, 31]


def test_a_photo_that_was_put_there_since_is_deblurred(photos):
    run(stop_after=2)
    fresh = Photo(pixels=np.full((20, 30, 3), 50, np.uint8))
    write_photo(photos / "a.png", fresh, overwrite=True)
    assert run() == [DONE, SKIPPED, DONE]
    assert values(photos) == [51, 21, 31]


def test_a_photo_that_moved_since_is_known_again(photos):
    run(stop_after=1)
    (photos / "a.png").rename(photos / "d.png")
    assert run() == [DONE, DONE, SKIPPED]
    assert values(photos) == [21, 31, 11]


def test_pictures_beside_it_are_written_before_the_photo_is_replaced(photos, monkeypatch):
    """Afterwards they could no longer be made."""
    order = []
    write = images.atomic_write

    def note(path, data, *, overwrite):
        order.append(path.as_posix())
        write(path, data, overwrite=overwrite)

    monkeypatch.setattr(images, "atomic_write", note)
    run(stop_after=1, pictures={"mask": Path("masks"), "compare": Path("both")})
    assert order == ["masks/a.png", "both/a.png", "photos/a.png"]


def test_outputs_elsewhere_need_no_journal(photos):
    jobs = plan_jobs(["photos"], "out").jobs
    journal = Journal(photos)
    list(deblur_files(jobs, Settings(), lambda: add_one, journal=journal))
    assert not journal.path.exists()


def test_a_note_that_cannot_be_written_leaves_the_photo(photos, monkeypatch):
    def full(descriptor):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    assert run() == [FAILED] * 3
    assert values(photos) == [10, 20, 30]


def test_a_journal_that_is_none_is_refused_by_name(photos):
    (photos / JOURNAL).mkdir()
    with pytest.raises(ImageError, match=r"\.m2a-journal: cannot be read"):
        Journal(photos)


def test_a_damaged_journal_does_no_harm(photos):
    (photos / JOURNAL).write_bytes(b"\xff\x00 half a li")
    assert run() == [DONE] * 3
    assert values(photos) == [11, 21, 31]


def test_it_is_removed(photos):
    run()
    journal = Journal(photos)
    assert journal.path.exists()
    journal.remove()
    journal.remove()
    assert not journal.path.exists()
