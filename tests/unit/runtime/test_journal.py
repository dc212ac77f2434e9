"""In place, interrupted at any moment: what was deblurred is not deblurred again."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from m2a.errors import ImageError
from m2a.runtime import images
from m2a.runtime import journal as journal_module
from m2a.runtime.batch import deblur_files
from m2a.runtime.images import Photo, read_photo, write_photo
from m2a.runtime.journal import JOURNAL, Journal
from m2a.runtime.outcomes import DONE, FAILED, SKIPPED
from m2a.runtime.plan import plan_jobs
from m2a.runtime.result import Result
from m2a.runtime.settings import Settings


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


add_one.threshold, add_one.precision, add_one.precision_reason = 0.5, "fp32", "asked for"
add_one.ensemble = 1


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
    with Journal(Path("photos")) as journal:
        outcomes = deblur_files(
            plan.jobs, Settings(overwrite=True), lambda: add_one, journal=journal
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
    with Journal(photos) as journal:
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


def test_a_line_that_was_cut_off_does_not_spoil_the_next(photos):
    """As where the disk is full in the middle of a note."""
    run(stop_after=1)
    with (photos / JOURNAL).open("ab") as stream:
        stream.write(b"0123456789abcdef")
    assert run(stop_after=2) == [SKIPPED, DONE]
    assert run() == [SKIPPED, SKIPPED, DONE]
    assert values(photos) == [11, 21, 31]


def test_a_photo_like_one_that_this_run_has_written_is_deblurred(photos):
    write_photo(photos / "b.png", read_photo(photos / "a.png"), overwrite=True)
    like = Photo(pixels=np.full((20, 30, 3), 11, np.uint8))
    write_photo(photos / "c.png", like, overwrite=True)
    assert run() == [DONE] * 3
    assert values(photos) == [11, 11, 12]


@pytest.mark.skipif(os.name != "posix", reason="named pipes as POSIX has them")
def test_a_pipe_among_the_photos_fails_and_does_not_hang(photos):
    run(stop_after=1)
    (photos / "b.png").unlink()
    os.mkfifo(photos / "b.png")
    os.mkfifo(photos / "d.png")
    assert run() == [SKIPPED, FAILED, DONE, FAILED]


@pytest.mark.parametrize("change", ["edited", "removed"])
def test_a_photo_changed_while_it_is_deblurred_is_left(photos, change):
    """Also one that is gone: whoever took it away shall not find it there again."""

    def changed_meanwhile(pixels, *, mask=None):
        if pixels[0, 0, 0] == 20 and change == "edited":
            edited = Photo(pixels=np.full((20, 30, 3), 99, np.uint8))
            write_photo(photos / "b.png", edited, overwrite=True)
        elif pixels[0, 0, 0] == 20:
            (photos / "b.png").unlink()
        return add_one(pixels, mask=mask)

    changed_meanwhile.threshold, changed_meanwhile.precision, changed_meanwhile.precision_reason = (
        0.5,
        "fp32",
        "asked for",
    )
    changed_meanwhile.ensemble = 1
    plan = plan_jobs(["photos"], "photos", pictures={"mask": Path("masks")})
    with Journal(photos) as journal:
        options = Settings(overwrite=True)
        found = list(deblur_files(plan.jobs, options, lambda: changed_meanwhile, journal=journal))
    assert [outcome.status for outcome in found] == [DONE, FAILED, DONE]
    assert "b.png: was changed while it was deblurred" in found[1].reason
    assert values(photos) == ([11, 99, 31] if change == "edited" else [11, 31])
    assert [path.name for path in sorted(Path("masks").iterdir())] == ["a.png", "c.png"]


class TestTwoRunsAtOnce:
    def test_the_second_is_refused(self, photos):
        with Journal(photos), pytest.raises(ImageError, match=r"another run .* one at a time"):
            Journal(photos)

    def test_also_in_another_process(self, photos):
        code = (
            "from m2a.runtime.journal import Journal; from pathlib import Path; Journal(Path('.'))"
        )
        with Journal(photos):
            command = [sys.executable, "-c", code]
            done = subprocess.run(command, cwd=photos, capture_output=True, text=True)
        assert "found another run" in done.stderr
        assert subprocess.run(command, cwd=photos, check=False).returncode == 0

    def test_one_after_the_other_is_not(self, photos):
        with Journal(photos) as journal:
            journal.note(b"content")
        with Journal(photos) as journal:
            journal.remove()
        with Journal(photos) as journal:
            assert journal.empty
        assert not journal.path.exists()

    @pytest.mark.skipif(os.name != "posix", reason="an open file cannot be removed elsewhere")
    def test_a_journal_removed_while_it_is_opened_is_made_anew(self, photos, monkeypatch):
        """Else a run would hold the lock of a file that no other run finds."""
        lock = journal_module._lock
        first = iter([True])

        def removed_meanwhile(descriptor):
            if next(first, False):
                (photos / JOURNAL).unlink()
            lock(descriptor)

        monkeypatch.setattr(journal_module, "_lock", removed_meanwhile)
        with Journal(photos), pytest.raises(ImageError, match="another run"):
            Journal(photos)


def test_it_is_removed(photos):
    run()
    with Journal(photos) as journal:
        assert journal.path.exists()
        journal.remove()
        journal.remove()
        assert not journal.path.exists()
