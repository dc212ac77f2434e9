"""What runs on the cluster's machines, called here; no Ray is started."""

from __future__ import annotations

import shutil

import pyarrow as pa
import pytest
from engine_cases import MACHINE, add_engines

from m2a.cache import kept_at
from m2a.cluster.places import Place
from m2a.cluster.recipe import recipe_of
from m2a.cluster.worker import packed_bundle, read_photos
from m2a.engines.selection import choose_engines
from m2a.errors import UsageError
from m2a.runtime.bundle import GRAPHS, PACKAGED, open_bundle
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
        packed_bundle(bundle, precision="fp16", engines=False)
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


@pytest.fixture(params=["packaged", "given"])
def with_engines(request, tiny_bundle, tmp_path, monkeypatch):
    """A bundle with engines, some of them half written, where its engines lie."""
    packaged = request.param == "packaged"
    copied = shutil.copytree(PACKAGED if packaged else tiny_bundle, tmp_path / "copied")
    for name in ("ours", ".ours.0123abcd.new"):
        add_engines(open_bundle(copied), name)
    if not packaged:
        return open_bundle(copied)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    kept_at("engines").parent.mkdir()
    (copied / "engines").rename(kept_at("engines"))
    return open_bundle(PACKAGED)


def test_engines_travel_with_their_bundle(with_engines, tmp_path):
    packed = packed_bundle(with_engines, precision="fp32", engines=True)
    assert {name for name in packed if name.startswith("engines/")} == {
        f"engines/ours/{name}" for name in ("engine.json", "mask.engine", "restore.engine")
    }
    without = packed_bundle(with_engines, precision="fp32", engines=False)
    assert not [name for name in without if name.startswith("engines/")]
    for name, content in packed.items():  # as an actor does
        path = tmp_path / "unpacked" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    chosen = choose_engines(open_bundle(tmp_path / "unpacked"), precision="fp32", machine=MACHINE)
    assert chosen.contents == {name: with_engines.graph(name, precision="fp32") for name in GRAPHS}


def test_a_user_without_a_home_has_no_engines_of_the_packaged_bundle(monkeypatch):
    def nowhere():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr("m2a.engines.selection.cache_folder", nowhere)
    packed = packed_bundle(open_bundle(PACKAGED), precision="fp32", engines=True)
    assert not [name for name in packed if name.startswith("engines/")]
