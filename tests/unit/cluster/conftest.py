"""One local Ray for all tests of the cluster, a folder of photos, and a plan that runs here."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from cluster_runs import CREDENTIALS, PHOTOS
from PIL import Image

from m2a.cli import main

RAYS_OWN = (
    "ignore::DeprecationWarning:ray.data.context",
    "ignore:unclosed file:ResourceWarning",
    "ignore:unclosed <socket:ResourceWarning",
    "ignore:subprocess .* is still running:ResourceWarning",
)
"""What Ray does to itself: it copies its options, old ones too, and leaves files, sockets and child
processes to be collected."""


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).parent in item.path.parents:
            for warning in RAYS_OWN:
                item.add_marker(pytest.mark.filterwarnings(warning))


@pytest.fixture(scope="package")
def cluster():
    """Ray on this machine, which `cluster_at` then finds connected."""
    from m2a.cluster.connection import LOCAL, cluster_at

    before = dict(os.environ)
    # Its workers inherit what it is started with.
    os.environ.update(CREDENTIALS)
    try:
        with cluster_at(LOCAL):
            yield
    finally:
        os.environ.clear()
        os.environ.update(before)


@pytest.fixture
def invoke(tiny_bundle, tmp_path, monkeypatch):
    """Runs `m2a run ARGS` in an empty directory with the tiny bundle."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("M2A_BUNDLE", str(tiny_bundle))
    return lambda *arguments: CliRunner().invoke(main, ["run", *map(str, arguments)])


@pytest.fixture
def photos(tmp_path):
    """Photos in two folders, JPEG and PNG."""
    folder = tmp_path / "photos"
    generator = np.random.default_rng(0)
    for number in range(PHOTOS):
        kind = "jpg" if number % 2 else "png"
        path = folder / ("walk" if number % 3 else "") / f"{number:02d}.{kind}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(generator.integers(0, 256, (24, 40, 3), np.uint8)).save(path)
    return folder


@pytest.fixture
def plan(tiny_bundle, photos, tmp_path):
    """Plans a job from the photos into `sharp`, with an actor on each of two cores."""
    from m2a.cluster.job import Job
    from m2a.cluster.places import Place
    from m2a.cluster.recipe import recipe_of
    from m2a.cluster.work import plan_work
    from m2a.cluster.worker import Opening, Order, packed_bundle
    from m2a.runtime.bundle import open_bundle
    from m2a.runtime.settings import Settings

    def planned(*, source=photos, output=tmp_path / "sharp", threshold=None, **settings):
        bundle = open_bundle(tiny_bundle)
        opening = Opening(
            backend="ort-cpu",
            precision="fp32",
            threshold=threshold,
            dilate=None,
            allow_fallback=False,
            max_memory=None,
            threads=1,
        )
        order = Order(
            source=Place.of(str(source), option="SOURCE"),
            destination=Place.of(str(output), option="-o"),
            settings=Settings(**settings),
            opening=opening,
            bundle=packed_bundle(bundle, precision="fp32", engines=False),
        )
        recipe = recipe_of(
            bundle,
            order.settings,
            precision="fp32",
            threshold=threshold,
            dilate=None,
            ensemble=1,
            suffix=None,
        )
        work, manifest = plan_work(
            order.source, order.destination, recipe, order.settings, recursive=True
        )
        return Job(
            work=work,
            manifest=manifest,
            recipe=recipe,
            order=order,
            address="local",
            actors=2,
            gpus_per_actor=0,
        )

    return planned
