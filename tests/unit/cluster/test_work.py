"""What is done, skipped or refused, from names and the manifest; no Ray is started."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest
from cluster_runs import PHOTOS

from m2a.cluster.manifest import Manifest, Run
from m2a.cluster.places import Place
from m2a.errors import ClusterError, UsageError


def finish(job, names, *, write=True, failed=()):
    """What a run leaves that claimed all, finished some, and failed with others."""
    claims = [task.output for task in job.work.tasks]
    run = Run.begin(job.order.destination, job.manifest, job.recipe, claims=claims)
    rows = []
    for task in job.work.tasks:
        if task.output in names:
            if write:
                job.order.destination.write(task.output, b"deblurred")
            rows.append(job.row(task, status="done", run=run.name))
        elif task.output in failed:
            rows.append(job.row(task, status="failed", run=run.name))
    run.commit(rows)
    return run


def outputs(tasks):
    return sorted(task.output for task in tasks)


def test_the_tree_is_mirrored_without_what_is_hidden_or_written(plan, photos):
    (photos / ".hidden").mkdir()
    for name in (".hidden/a.png", ".b.png", "notes.txt", "old.heic"):
        (photos / name).write_bytes(b"")
    inside = plan(output=photos / "sharp")
    inside.order.destination.write("z.png", b"")
    work = plan(output=photos / "sharp").work
    assert len(work.tasks) == PHOTOS + 1
    assert {task.source: task.output for task in work.tasks}["old.heic"] == "old.png"
    assert all(task.source == task.output for task in work.tasks if task.source != "old.heic")


def test_what_the_same_recipe_made_is_skipped(plan):
    first = plan()
    done = outputs(first.work.tasks)[:5]
    run = finish(first, done)
    work = plan().work
    assert outputs(work.skipped) == done
    assert set(work.skipped.values()) == {f"done by run {run.name}"}
    assert len(work.tasks) == PHOTOS - 5


def test_a_row_without_its_output_counts_for_nothing(plan):
    first = plan()
    finish(first, outputs(first.work.tasks), write=False)
    assert len(plan().work.tasks) == PHOTOS


def test_another_recipe_is_refused_replaced_or_kept(plan):
    first = plan()
    done = outputs(first.work.tasks)[:5]
    finish(first, done)
    with pytest.raises(
        UsageError, match=r"found 5 .*, 5 of them made by another model or other op"
    ):
        plan(threshold=0.9)
    assert len(plan(threshold=0.9, overwrite=True).work.tasks) == PHOTOS
    assert outputs(plan(threshold=0.9, skip_existing=True).work.skipped) == done


def test_what_a_killed_run_left_unfinished_is_done_again_unasked(plan):
    first = plan()
    finish(first, [])
    first.order.destination.write(first.work.tasks[0].output, b"written, but its row was not")
    assert len(plan().work.tasks) == PHOTOS


def test_an_unfinished_replacement_takes_the_older_row_back(plan):
    """Else its half would pass for the older recipe's."""
    first = plan()
    name = first.work.tasks[0].output
    finish(first, [name])
    finish(plan(threshold=0.9, overwrite=True), [])
    assert name in outputs(plan().work.tasks)


def test_a_file_of_somebody_else_is_not_replaced_unasked(plan, tmp_path):
    name = plan().work.tasks[0].output
    target = tmp_path / "sharp" / name
    target.parent.mkdir(parents=True)
    target.write_bytes(b"mine")
    with pytest.raises(UsageError, match="found 1 of the files to write there already, 0 of them"):
        plan()
    assert len(plan(overwrite=True).work.tasks) == PHOTOS
    assert outputs(plan(skip_existing=True).work.skipped) == [name]


@pytest.mark.parametrize("done_before", [False, True])
def test_a_file_where_a_run_failed_is_somebody_elses(plan, done_before):
    first = plan()
    name = first.work.tasks[0].output
    if done_before:
        finish(first, [name])
    finish(plan(threshold=0.9, overwrite=True), [], failed=[name], write=False)
    first.order.destination.write(name, b"mine")
    with pytest.raises(UsageError, match="found 1 of the files to write there already, 0 of them"):
        plan()
    assert outputs(plan(skip_existing=True).work.skipped) == [name]


def test_two_photos_for_one_output_are_refused(plan, photos):
    (photos / "old.heic").write_bytes(b"")
    (photos / "old.png").write_bytes(b"")
    with pytest.raises(UsageError, match=r"written twice, for old\.heic and for old\.png"):
        plan()


@pytest.mark.parametrize("output", ["photos", "."])
def test_a_folder_is_not_written_over_itself(plan, tmp_path, output):
    with pytest.raises(UsageError, match="expected a folder apart"):
        plan(output=tmp_path / output)


def test_an_empty_or_missing_folder_is_refused(plan, tmp_path):
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="found no picture"):
        plan(source=tmp_path / "empty")
    with pytest.raises(UsageError, match="found nothing there"):
        plan(source=tmp_path / "missing")


def test_a_damaged_manifest_names_what_to_delete(plan):
    first = plan()
    run = finish(first, [])
    first.order.destination.write(f".m2a/{run.name}/claims.parquet", b"PAR1")
    with pytest.raises(ClusterError, match=f"delete the folder .*{run.name} to forget"):
        plan()


@pytest.mark.skipif(sys.platform != "linux", reason="other systems take no such name")
def test_a_name_that_is_not_utf8_is_a_row(plan, photos):
    Path(os.fsdecode(bytes(photos) + b"/\xff.png")).write_bytes(b"")
    work = plan().work
    assert len(work.tasks) == PHOTOS
    assert list(work.unreadable.values()) == ["found a name that is not UTF-8; rename it"]


def test_every_option_that_changes_the_output_changes_the_recipe(plan):
    recipe = plan().recipe
    changed = {
        "model": "0" * 64,
        "precision": "fp16",
        "threshold": 0.25,
        "dilate": 7,
        "ensemble": 4,
        "mask": "full",
        "suffix": ".png",
        "quality": 80,
        "strip_metadata": True,
    }
    assert changed.keys() == recipe.__dataclass_fields__.keys()
    hashes = {replace(recipe, **{name: value}).sha256 for name, value in changed.items()}
    assert len(hashes | {recipe.sha256}) == len(changed) + 1


def test_recipes_from_before_there_were_ensembles_are_the_same(plan):
    recipe = plan().recipe
    older = {name: value for name, value in vars(recipe).items() if name != "ensemble"}
    assert recipe.ensemble == 1
    assert recipe.sha256 == sha256(json.dumps(older, sort_keys=True).encode()).hexdigest()


def test_outputs_below_the_photos_of_an_object_store_are_no_inputs(plan):
    place = Place.of("memory://shelf", option="SOURCE")
    for name in ("a.png", "walk/b.jpg", ".hidden/c.png", "sharp/a.png", "sharp/walk/d.png"):
        place.write(name, b"")
    work = plan(source="memory://shelf", output="memory://shelf/sharp", skip_existing=True).work
    assert [task.source for task in [*work.tasks, *work.skipped]] == ["walk/b.jpg", "a.png"]


def test_a_file_system_of_fsspec(plan, photos):
    """Its own memory stands for those that cannot put a file at once."""
    address = "memory://album/sharp"
    first = plan(output=address)
    assert len(first.work.tasks) == PHOTOS
    name = first.work.tasks[0].output
    finish(first, [name])
    finish(plan(output=address, threshold=0.9, overwrite=True), [name])
    place = Place.of(address, option="-o")
    assert place.read(name, limit=9) == b"deblurred"
    assert place.existing([name, "other"]) == {name}
    assert Manifest.read(place).outputs[name].done
    assert not [file for file in place.files("") if file.endswith(".tmp")]
