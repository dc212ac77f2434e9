"""`m2a run --ray` refuses what means nothing on a cluster, before Ray is started."""

from __future__ import annotations

import builtins
import importlib.util

import pytest


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["photos", "--mask-out", "masks"], "--mask-out: found masks with --ray"),
        (["photos", "--crf", "18"], "--crf: found 18 with --ray"),
        (["photos", "other"], "found 2 inputs, expected one folder or URI"),
        (["-"], "found - for a stream"),
        (["clip.mp4"], "found the video clip.mp4"),
        (["photos", "--mask-in", "mask.png"], "found the picture mask.png with --ray"),
        (["photos", "--suffix", ".gif"], "--suffix: found the suffix '.gif'"),
        (["photos", "--threshold", "2"], "the threshold must lie in (0, 1], found 2.0"),
        (["s3://key:secret@bucket/raw"], "SOURCE: found credentials in an address of s3://"),
        (["s3://bucket/raw?colour=blue"], "s3://: found an address that is none"),
        (["nowhere://bucket/raw"], "nowhere://: found an address of an unknown kind"),
        (["photos", "--quality", "80", "--suffix", ".png"], "outputs that are all lossless"),
        (["photos", "--bundle", "absent"], "absent is not a bundle"),
    ],
)
def test_a_bad_combination_is_told(invoke, photos, arguments, message):
    told = invoke(*arguments, "-o", "sharp", "--ray")
    assert told.exit_code == 2
    assert message in told.stderr
    assert "secret" not in told.stderr
    assert not (photos.parent / "sharp").exists()


def test_an_address_where_nothing_answers_is_told_at_once(invoke, photos):
    told = invoke("photos", "-o", "sharp", "--ray=127.0.0.1:1")
    assert told.exit_code == 1
    assert "--ray: found no cluster to work with at '127.0.0.1:1'" in told.stderr
    assert not (photos.parent / "sharp").exists()


def test_an_ensemble_is_the_actors_and_the_recipes(invoke, photos, monkeypatch):
    jobs = []

    def nothing(job):
        jobs.append(job)
        yield from ()

    monkeypatch.setattr("m2a.cluster.job.deblur_place", nothing)
    assert invoke("photos", "-o", "sharp", "--ensemble", "4", "--ray").exit_code == 0
    (job,) = jobs
    assert (job.order.opening.ensemble, job.recipe.ensemble) == (4, 4)


@pytest.mark.parametrize("option", ["--actors", "--gpus-per-actor"])
def test_an_option_of_the_cluster_needs_it(invoke, photos, option):
    told = invoke("photos", "-o", "sharp", option, "2")
    assert told.exit_code == 2
    assert f"{option}: found 2 without --ray" in told.stderr


@pytest.mark.parametrize("package", ["ray", "pyarrow"])
def test_without_the_extra_it_is_named(invoke, photos, monkeypatch, package):
    def find_spec(name, *rest):
        return None if name == package else find(name, *rest)

    def importing(name, *rest, **options):
        # The package's modules may have been imported before.
        if package == "pyarrow" and name.startswith("m2a.cluster."):
            raise ModuleNotFoundError("No module named 'pyarrow'", name="pyarrow")
        return imported(name, *rest, **options)

    find, imported = importlib.util.find_spec, builtins.__import__
    monkeypatch.setattr(importlib.util, "find_spec", find_spec)
    monkeypatch.setattr(builtins, "__import__", importing)
    told = invoke("photos", "-o", "sharp", "--ray")
    assert told.exit_code == 1
    assert f"needs the package {package!r}" in told.stderr
    assert "pip install -e '.[ray]'" in told.stderr
