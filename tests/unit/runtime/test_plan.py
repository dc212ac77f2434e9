"""Which files are read and written: decided from names alone, no picture is opened."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from unreadable import lock_folders

from m2a.errors import UsageError
from m2a.runtime.plan import Job, is_one_video, output_name, plan_jobs, takes_one_file


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def touch(*names: str) -> None:
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()


def planned(*inputs: str, output: str = "out", **options) -> dict[str, str]:
    """Source → output, in order."""
    plan = plan_jobs(inputs, output, **options)
    return {job.source.as_posix(): job.output.as_posix() for job in plan.jobs}


class TestOneFileOrAFolder:
    def test_one_file(self, here):
        touch("a.jpg")
        assert takes_one_file(["a.jpg"], "out.png")
        assert takes_one_file(["missing.jpg"], "out.png")
        assert takes_one_file(["-"], "-")

    def test_a_folder(self, here):
        touch("photos/a.jpg", "a.jpg")
        assert not takes_one_file(["photos"], "out.png")
        assert not takes_one_file(["a.jpg", "b.jpg"], "out.png")
        assert not takes_one_file(["*.jpg"], "out.png")

    def test_an_output_that_is_a_folder_makes_one_file_many(self, here):
        touch("a.jpg", "photos/b.jpg")
        assert not takes_one_file(["a.jpg"], "photos")
        assert not takes_one_file(["a.jpg"], "new" + os.sep)

    def test_what_exists_is_no_pattern(self, here):
        touch("a[1].jpg")
        assert takes_one_file(["a[1].jpg"], "out.png")


@pytest.mark.parametrize(
    ("source", "suffix", "output"),
    [
        ("a.jpg", None, "a.jpg"),
        ("a.JPG", None, "a.JPG"),
        ("a.heic", None, "a.png"),
        ("a.avif", ".webp", "a.webp"),
        ("a.JPG", ".png", "a.png"),
        ("a.PNG", ".png", "a.PNG"),
        ("trip/a.tif", ".jpg", "trip/a.jpg"),
        ("my.holiday", None, "my.holiday.png"),
        (".hidden", None, ".hidden.png"),
        ("a", ".tif", "a.tif"),
    ],
)
def test_the_output_keeps_the_suffix_that_can_be_written(source, suffix, output):
    assert output_name(Path(source), suffix) == Path(output)


def test_a_folder_gives_its_pictures_by_name(here):
    touch("photos/b.jpg", "photos/A.PNG", "photos/notes.txt", "photos/.hidden.jpg")
    touch("photos/deeper/c.jpg")
    assert planned("photos") == {"photos/A.PNG": "out/A.PNG", "photos/b.jpg": "out/b.jpg"}


def test_recursive_mirrors_the_tree(here):
    touch("photos/a.jpg", "photos/x/a.jpg", "photos/x/y/b.heic", "photos/.thumbs/a.jpg")
    assert planned("photos", recursive=True) == {
        "photos/a.jpg": "out/a.jpg",
        "photos/x/a.jpg": "out/x/a.jpg",
        "photos/x/y/b.heic": "out/x/y/b.png",
    }


def test_links_to_folders_are_not_followed(here):
    touch("photos/a.jpg")
    Path("photos/round").symlink_to(here / "photos")
    assert planned("photos", recursive=True) == {"photos/a.jpg": "out/a.jpg"}


def test_a_pattern(here):
    touch("photos/b.jpg", "photos/a.jpg", "photos/c.png", "photos/x.jpg/d.jpg")
    assert planned("photos/*.jpg") == {
        "photos/a.jpg": "out/a.jpg",
        "photos/b.jpg": "out/b.jpg",
    }


def test_a_pattern_that_begins_at_the_root(here):
    touch("photos/a.jpg")
    source = (here / "photos" / "a.jpg").as_posix()
    assert planned(f"{here}/**/*.jpg") == {source: "out/a.jpg"}


def test_a_name_that_exists_is_taken_literally(here):
    touch("a[1].jpg", "a1.jpg", "b.jpg")
    assert planned("a[1].jpg", "b.jpg") == {"a[1].jpg": "out/a[1].jpg", "b.jpg": "out/b.jpg"}


@pytest.mark.parametrize(
    "name", ["with space.jpg", "-o.jpg", "写真.jpg", "two\nlines.jpg", "*.jpg"]
)
def test_odd_names(here, name):
    touch(f"photos/{name}")
    assert planned("photos") == {f"photos/{name}": f"out/{name}"}


def test_the_folders_written_into_are_not_read(here):
    touch("photos/a.jpg", "photos/out/a.jpg", "photos/masks/a.png", "photos/x/b.jpg")
    plan = planned(
        "photos", output="photos/out", recursive=True, pictures={"mask": Path("photos/masks")}
    )
    assert list(plan) == ["photos/a.jpg", "photos/x/b.jpg"]


def test_a_pattern_does_not_reach_into_the_output(here):
    touch("photos/a.jpg", "photos/out/a.jpg", "photos/outside/b.jpg")
    plan = planned("photos/**/*.jpg", output="photos/out")
    assert list(plan) == ["photos/a.jpg", "photos/outside/b.jpg"]


def test_in_place(here):
    touch("photos/a.jpg", "photos/x/b.jpg")
    expected = {"photos/a.jpg": "photos/a.jpg", "photos/x/b.jpg": "photos/x/b.jpg"}
    assert planned("photos", output="photos", recursive=True) == expected
    assert planned("photos/*.jpg", output="photos") == {"photos/a.jpg": "photos/a.jpg"}


def test_pictures_beside_the_output(here):
    touch("photos/x/a.jpg", "photos/b.heic")
    pictures = {"mask": Path("masks"), "motion": Path("motion")}
    jobs = plan_jobs(["photos"], "out", pictures=pictures, recursive=True).jobs
    assert jobs[1].files == {
        "-o": Path("out/x/a.jpg"),
        "--mask-out": Path("masks/x/a.png"),
        "--motion-out": Path("motion/x/a.png"),
    }


def test_a_file_named_twice_is_one_input(here):
    touch("a.jpg", "b.jpg")
    assert planned("a.jpg", "*.jpg", "./b.jpg") == {"a.jpg": "out/a.jpg", "b.jpg": "out/b.jpg"}


def test_a_missing_file_is_planned_for_it_fails_later(here):
    touch("a.jpg")
    assert list(planned("a.jpg", "missing.jpg")) == ["a.jpg", "missing.jpg"]


def test_a_folder_that_cannot_be_read_is_told_and_not_passed_over(here, monkeypatch):
    touch("photos/a.jpg", "photos/locked/b.jpg")
    lock_folders(monkeypatch, "locked")
    plan = plan_jobs(["photos"], "out", recursive=True)
    assert [job.source for job in plan.jobs] == [Path("photos/a.jpg")]
    assert plan.unreadable == {Path("photos/locked"): "cannot be read: Permission denied"}


def test_nothing_is_created(here):
    touch("photos/a.jpg")
    plan_jobs(["photos"], "out", pictures={"mask": Path("masks")})
    assert sorted(path.name for path in here.iterdir()) == ["photos"]


class TestRefused:
    """Before any work, in words that say what to do."""

    def test_two_inputs_that_would_write_one_output(self, here):
        touch("x/a.jpg", "y/a.jpg")
        with pytest.raises(UsageError, match=r"out.a\.jpg would be written twice.*x.a.*y.a"):
            planned("x", "y")

    def test_two_inputs_that_a_suffix_makes_one(self, here):
        touch("photos/a.jpg", "photos/a.tif")
        with pytest.raises(UsageError, match="written twice"):
            planned("photos", suffix=".png")

    def test_two_names_of_one_output(self, here):
        touch("a.jpg", "x/b.jpg", "out/a.jpg")
        Path("out/b.jpg").symlink_to("a.jpg")
        with pytest.raises(UsageError, match="written twice"):
            planned("a.jpg", "x/b.jpg")

    def test_an_output_and_a_mask_that_are_one_file(self, here):
        touch("photos/a.png")
        with pytest.raises(UsageError, match="-o and --mask-out would write one file"):
            planned("photos", pictures={"mask": Path("out")})

    def test_a_mask_over_an_input(self, here):
        touch("photos/a.jpg", "photos/a.png")
        with pytest.raises(UsageError, match=r"--mask-out.*over the input photos.a\.png"):
            planned("photos/a.jpg", "photos/a.png", pictures={"mask": Path("photos")})

    def test_an_output_over_another_input(self, here):
        touch("x/y/a.jpg", "y/x/y/a.jpg", "a.jpg")
        with pytest.raises(UsageError, match="over the input"):
            planned("x", "y/x/y/a.jpg", output="y/x", recursive=True)

    @pytest.mark.parametrize("output", ["-", "out.png", "file"])
    def test_an_output_that_is_not_a_folder(self, here, output):
        touch("photos/a.jpg", "file")
        with pytest.raises(UsageError, match="expected a folder"):
            planned("photos", output=output)

    def test_but_a_folder_may_be_called_like_a_picture(self, here):
        touch("photos/a.jpg")
        assert planned("photos", output="out.png" + os.sep) == {"photos/a.jpg": "out.png/a.jpg"}

    @pytest.mark.parametrize("inputs", [["a.jpg", "-"], ["", "a.jpg"]])
    def test_inputs_that_cannot_be_several(self, here, inputs):
        with pytest.raises(UsageError):
            planned(*inputs)

    def test_a_folder_without_pictures(self, here):
        touch("photos/notes.txt", "photos/deeper/a.jpg")
        with pytest.raises(UsageError, match=r"no picture.*--recursive"):
            planned("photos")

    def test_a_pattern_that_matches_nothing(self, here):
        with pytest.raises(UsageError, match=r"\*\.jpg"):
            planned("*.jpg")

    def test_a_suffix_that_is_not_written(self, here):
        touch("a.jpg", "b.jpg")
        with pytest.raises(UsageError, match=r"\.gif"):
            planned("a.jpg", "b.jpg", suffix=".gif")


def test_what_exists_is_left_out(here):
    touch("out/a.png", "masks/a.png")
    job = Job(
        source=Path("a.png"),
        output=Path("out/a.png"),
        pictures={"mask": Path("masks/a.png"), "motion": Path("motion/a.png")},
    )
    assert job.without_existing().files == {"--motion-out": Path("motion/a.png")}


def test_a_plan_is_complete_when_all_its_files_exist(here):
    touch("a.png", "b.png", "out/a.png", "out/b.png", "masks/a.png")
    plan = plan_jobs(["a.png", "b.png"], "out", pictures={"mask": Path("masks")})
    assert plan.existing == [Path("out/a.png"), Path("masks/a.png"), Path("out/b.png")]
    assert not plan.complete
    touch("masks/b.png")
    assert plan.complete


def test_a_name_too_long_for_the_system_does_not_exist(here):
    job = Job(source=Path("a.png"), output=Path("x" * 300 + ".png"))
    assert job.without_existing() == job


class TestVideos:
    def test_one_is_told_by_its_name(self, here):
        touch("a.mp4", "b[1].MKV", "folder.mov/a.jpg")
        assert is_one_video(["a.mp4"])
        assert is_one_video(["missing.webm"])
        assert is_one_video(["b[1].MKV"])
        assert not is_one_video(["a.mp4", "b[1].MKV"])
        assert not is_one_video(["folder.mov"])
        assert not is_one_video(["*.mp4"])
        assert not is_one_video(["a.jpg"])
        assert not is_one_video(["-"])

    def test_a_folder_leaves_them(self, here):
        touch("mixed/a.jpg", "mixed/b.mp4")
        assert planned("mixed") == {"mixed/a.jpg": "out/a.jpg"}

    @pytest.mark.parametrize("inputs", [("a.jpg", "b.mp4"), ("*",), ("b.mp4", "b.mp4")])
    def test_among_several_they_are_refused(self, here, inputs):
        touch("a.jpg", "b.mp4")
        with pytest.raises(UsageError, match=r"b\.mp4: found a video, expected pictures"):
            plan_jobs(inputs, "out")
