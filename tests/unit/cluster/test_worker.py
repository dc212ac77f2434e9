"""What runs on the cluster's machines, called here; no Ray is started."""

from __future__ import annotations

import pyarrow as pa
import pytest

from m2a.cluster.places import Place
from m2a.cluster.recipe import recipe_of
from m2a.cluster.worker import packed_bundle, read_photos
from m2a.errors import UsageError
from m2a.runtime.bundle import open_bundle
from m2a.runtime.settings import Settings


def test_an_error_of_a_library_is_the_row_of_its_photo_alone(plan, monkeypatch):
    job = plan()
    bad, good = (task.source for task in job.work.tasks[:2])
    read = Place.read

    def reading(place, name, *, limit):
        if name == bad:
            raise pa.ArrowInvalid("no such thing")
        return read(place, name, limit=limit)

    monkeypatch.setattr(Place, "read", reading)
    rows = read_photos(pa.table({"source": [bad, good]}), job.order).to_pylist()
    where = job.order.source.shown(bad)
    assert rows[0]["error"] == f"{where}: unexpected ArrowInvalid: no such thing"
    assert rows[0]["data"] is None
    assert rows[1]["data"] == read(job.order.source, good, limit=2**20)
    assert rows[1]["error"] is None


def test_a_precision_that_the_bundle_lacks_is_told(tiny_bundle):
    bundle = open_bundle(tiny_bundle)
    with pytest.raises(UsageError, match="has no fp16 graphs; it has fp32"):
        packed_bundle(bundle, precision="fp16")
    with pytest.raises(UsageError, match="has no fp16 graphs; it has fp32"):
        recipe_of(
            bundle,
            Settings(),
            precision="fp16",
            threshold=None,
            dilate=None,
            ensemble=1,
            suffix=None,
        )
