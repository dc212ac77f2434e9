"""Photos through a real, local Ray: whole runs, killed actors, interrupts, an object store."""

from __future__ import annotations

import _thread
import json
import os
import signal
import sys
import threading
import time
from contextlib import closing

import pytest
from cluster_runs import (
    CREDENTIALS,
    PHOTOS,
    DyingWorker,
    SlowWorker,
    actors_of,
    pickle_by_value,
    pictures,
    report_of,
    with_version,
)
from PIL import Image

from m2a.cluster.connection import fitting_actors
from m2a.cluster.job import deblur_place
from m2a.cluster.pipeline import _block_size
from m2a.errors import ClusterError

pytestmark = [
    pytest.mark.usefixtures("cluster"),
    pytest.mark.skipif(sys.platform != "linux", reason="finds the actors in /proc"),
]


def when_half_is_done(folder, act):
    """Calls `act` from another thread as soon as half of the photos are written."""

    def watch():
        # By name alone, and not what is still being written.
        while len(list(folder.rglob("[0-9][0-9].*"))) < PHOTOS // 2:
            time.sleep(0.02)
        act()

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    return thread


def test_a_folder_becomes_what_m2a_run_makes_of_it(invoke, photos, tmp_path):
    (photos / "walk/bad.jpg").write_bytes(b"no picture")
    told = invoke("photos", "-o", "sharp", "--recursive", "--ray", "--actors", "2", "--json")
    assert told.exit_code == 1
    assert f"{PHOTOS} done, 0 skipped, 1 failed" in told.stderr
    plain = invoke("photos", "-o", "plain", "--recursive", "--threads", "1")
    assert plain.exit_code == 1
    found, expected = pictures(tmp_path / "sharp"), pictures(tmp_path / "plain")
    assert {name: data for name, (data, _) in found.items()} == {
        name: data for name, (data, _) in expected.items()
    }
    rows = {row["name"]: row for row in report_of(tmp_path / "sharp")}
    assert len(rows) == PHOTOS + 1
    bad = rows.pop("walk/bad.jpg")
    assert bad["status"] == "failed"
    assert str(photos / "walk/bad.jpg") in bad["reason"]
    assert {(row["status"], row["width"], row["height"]) for row in rows.values()} == {
        ("done", 40, 24)
    }
    assert {row["backend"] for row in rows.values()} == {"ort-cpu"}
    printed = [json.loads(line) for line in told.stdout.splitlines()]
    assert [row.get("error") for row in printed if row["status"] == "failed"] == [bad["reason"]]
    assert not any("reason" in row for row in printed)
    assert sorted(row["output"] for row in printed) == sorted(
        str(tmp_path / "sharp" / name) for name in [*rows, "walk/bad.jpg"]
    )


def test_a_killed_actor_loses_nothing_and_doubles_nothing(invoke, plan, tmp_path):
    pickle_by_value()
    killed = []

    def kill_one():
        killed.append(actors_of(os.getpid())[0])
        os.kill(killed[0], signal.SIGKILL)

    thread = when_half_is_done(tmp_path / "sharp", kill_one)
    rows = list(deblur_place(plan(), worker=SlowWorker))
    thread.join()
    assert killed
    assert len(rows) == len({row["path"] for row in rows}) == PHOTOS
    assert {row["status"] for row in rows} == {"done"}
    before = pictures(tmp_path / "sharp")
    assert sorted(before) == sorted(row["name"] for row in report_of(tmp_path / "sharp"))
    assert not list((tmp_path / "sharp").rglob("*.tmp"))

    again = invoke("photos", "-o", "sharp", "--recursive", "--ray")
    assert again.exit_code == 0
    assert f"0 done, {PHOTOS} skipped, 0 failed" in again.stderr
    assert pictures(tmp_path / "sharp") == before
    assert [row["status"] for row in report_of(tmp_path / "sharp")] == ["skipped"] * PHOTOS


@pytest.mark.usefixtures("interruptible")
def test_after_an_interrupt_the_same_job_does_the_rest(plan, tmp_path):
    pickle_by_value()
    thread = when_half_is_done(tmp_path / "sharp", _thread.interrupt_main)
    seen = []
    with pytest.raises(KeyboardInterrupt), closing(deblur_place(plan(), worker=SlowWorker)) as rows:
        seen.extend(rows)
    thread.join()
    for path in tmp_path.joinpath("sharp").rglob("*.*g"):
        Image.open(path).load()
    left = plan()
    done = len(left.work.skipped)
    # A row is written down before it is handed over: the interrupt may come in between.
    assert len(seen) <= done <= len(seen) + 1 < PHOTOS
    rest = list(deblur_place(left))
    assert {row["status"] for row in rest[done:]} == {"done"}
    assert len(rest) == len(pictures(tmp_path / "sharp")) == PHOTOS


def test_a_machine_with_another_m2a_is_told(plan):
    with pytest.raises(ClusterError, match="install the same version"):
        list(deblur_place(with_version(plan(), "0.0.0")))


@pytest.mark.parametrize("wanted", [{"threads": 10**6, "gpus": 0}, {"threads": 1, "gpus": 1000}])
def test_an_actor_that_fits_no_machine_is_told(wanted):
    with pytest.raises(ClusterError, match="lower --threads or --gpus-per-actor"):
        fitting_actors(None, **wanted)


@pytest.mark.parametrize(
    ("photos", "actors", "size"), [(1, 2, 1), (20, 2, 3), (500, 2, 16), (10**6, 100, 50)]
)
def test_blocks_are_small_but_not_too_many(photos, actors, size):
    assert _block_size(photos, actors) == size
    assert _block_size(10**9, actors) == 256


@pytest.fixture
def store(monkeypatch):
    """A local S3 server with the bucket `album`; the query of its addresses."""
    import boto3
    from moto.server import ThreadedMotoServer

    for name, value in CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    client = boto3.client("s3", endpoint_url=f"http://{host}:{port}", region_name="us-east-1")
    client.create_bucket(Bucket="album")
    yield client, f"?endpoint_override={host}:{port}&scheme=http&region=us-east-1"
    client.close()
    server.stop()


def test_an_object_store_at_both_ends(store, invoke, photos, tmp_path):
    client, query = store
    names = sorted(path.relative_to(photos).as_posix() for path in photos.rglob("*.*"))
    for name in names:
        client.upload_file(str(photos / name), "album", f"raw/{name}")
    client.put_object(Bucket="album", Key="raw/.hidden/a.png", Body=b"")
    command = (f"s3://album/raw{query}", "-o", f"s3://album/sharp{query}", "--recursive")
    told = invoke(*command, "--ray", "--actors", "2")
    assert told.exit_code == 0, told.stderr
    assert "s3://album/sharp/.m2a/report.parquet" in told.stderr

    def objects():
        found = client.list_objects_v2(Bucket="album", Prefix="sharp/")["Contents"]
        return {
            entry["Key"].removeprefix("sharp/"): (entry["ETag"], entry["LastModified"])
            for entry in found
            if "/.m2a/" not in entry["Key"]
        }

    before = objects()
    assert sorted(before) == names
    invoke("photos", "-o", "plain", "--recursive", "--threads", "1")
    for name in names:
        body = client.get_object(Bucket="album", Key=f"sharp/{name}")["Body"].read()
        assert body == (tmp_path / "plain" / name).read_bytes()

    again = invoke(*command, "--ray")
    assert f"0 done, {PHOTOS} skipped" in again.stderr
    assert objects() == before


def test_a_photo_that_kills_every_actor_is_a_row(plan, photos, tmp_path):
    pickle_by_value()
    for path in sorted(photos.rglob("*.*"))[3:]:
        path.unlink()
    Image.new("RGB", (40, 24)).save(photos / "fatal.png")
    rows = {row["name"]: row for row in deblur_place(plan(), worker=DyingWorker)}
    assert rows.pop("fatal.png")["status"] == "failed"
    assert [row["status"] for row in rows.values()] == ["done"] * 3
    assert len(report_of(tmp_path / "sharp")) == 4
