"""`m2a run` on many pictures and on odd names; what it leaves, says and exits with."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest
from command_pictures import SIZE, draw, lines, objects, read, tree
from PIL import Image
from unreadable import lock_folders

from m2a.commands import run_one
from m2a.runtime import deblurrer, loading


class TestManyWithBadOnesAmongThem:
    @pytest.fixture
    def photos(self, invoke):
        """200 files of which every twentieth is bad, each in a way of its own."""
        for index in range(200):
            path = draw(f"photos/{index:03}.png", seed=index)
            if index % 20 == 7:
                content = path.read_bytes()
                damaged = [b"", b"text", content[:20], content[: len(content) // 2]]
                path.write_bytes(damaged[index // 20 % 4])
        return [f"{index:03}.png" for index in range(7, 200, 20)]

    def test_the_good_are_done_and_the_bad_told(self, invoke, photos):
        result = invoke("run", "photos", "-o", "out")
        assert result.exit_code == 1
        assert isinstance(result.exception, SystemExit)
        assert len(tree("out")) == 190
        assert not set(tree("out")) & set(photos)
        *reasons, summary = lines(result)
        assert len(reasons) == 10
        for name, reason in zip(photos, reasons, strict=True):
            assert reason.startswith(f"m2a: photos{os.sep}{name}: found ")
        assert summary.startswith("190 done, 0 skipped, 10 failed in ")
        assert "Traceback" not in result.output
        assert result.stdout == ""

    def test_once_more_with_skip_existing_only_the_bad_are_tried(self, invoke, photos):
        invoke("run", "photos", "-o", "out")
        before = {path: path.stat().st_mtime_ns for path in Path("out").iterdir()}
        for name in photos[:3]:
            draw(f"photos/{name}")
        result = invoke("run", "photos", "-o", "out", "--skip-existing", "--json")
        assert result.exit_code == 1
        statuses = [entry["status"] for entry in objects(result)]
        assert [statuses.count(s) for s in ("done", "skipped", "failed")] == [3, 190, 7]
        assert all(path.stat().st_mtime_ns == time for path, time in before.items())
        assert len(tree("out")) == 193


def test_json_has_the_same_fields_for_one_picture_and_for_many(invoke):
    draw("a.png")
    (one,) = objects(invoke("run", "a.png", "-o", "out.png", "--json"))
    (among_many,) = objects(invoke("run", "a.png", "-o", "out" + os.sep, "--json"))
    assert list(one) == list(among_many)
    assert one["status"] == "done"


def test_json_is_one_object_a_picture(invoke):
    draw("photos/a.png")
    Path("photos/b.png").write_text("bad")
    draw("photos/c.png")
    Path("out").mkdir()
    shutil.copy("photos/c.png", "out")
    result = invoke("run", "photos", "-o", "out", "--skip-existing", "--json")
    done, failed, skipped = objects(result)
    assert done["status"] == "done"
    assert done["input"] == str(Path("photos/a.png"))
    assert done["output"] == str(Path("out/a.png"))
    assert done["backend"] == "ort-cpu"
    assert 0 <= done["coverage"] <= 1
    assert done["seconds"]["mask"] > 0
    assert failed["status"] == "failed"
    assert "b.png: found an unknown kind of file" in failed["error"]
    assert skipped == {
        "status": "skipped",
        "input": str(Path("photos/c.png")),
        "output": str(Path("out/c.png")),
    }
    assert lines(result)[-1].startswith("1 done, 1 skipped, 1 failed")


def test_all_skipped_is_success_and_opens_no_bundle(invoke):
    draw("photos/a.png")
    assert invoke("run", "photos", "-o", "out").exit_code == 0
    result = invoke("run", "photos", "-o", "out", "--skip-existing", "--bundle", "nowhere")
    assert result.exit_code == 0, result.output
    assert lines(result)[0].startswith("0 done, 1 skipped, 0 failed")


def test_the_bundle_is_opened_once(invoke, monkeypatch):
    opened = []
    runners = loading.open_runners
    monkeypatch.setattr(
        loading, "open_runners", lambda *a, **k: opened.append(a) or runners(*a, **k)
    )
    for name in "abc":
        draw(f"photos/{name}.png")
    assert invoke("run", "photos", "-o", "out").exit_code == 0
    # The two graphs once; the dense restorer apart, when a mask first calls for it.
    assert sorted(len(graphs) for (graphs,) in opened) in ([2], [1, 2])


def test_a_bundle_that_cannot_be_opened_is_one_error_and_not_one_a_picture(invoke):
    draw("photos/a.png")
    draw("photos/b.png")
    result = invoke("run", "photos", "-o", "out", "--bundle", "nowhere")
    assert result.exit_code == 2
    assert len(lines(result)) == 1
    assert "m2a export" in lines(result)[0]


def test_a_tree_is_mirrored(invoke):
    for name in ("a.png", "x/a.png", "x/y/b.tif"):
        draw(f"photos/{name}")
    result = invoke("run", "photos", "-o", "out", "--recursive", "--mask-out", "masks")
    assert result.exit_code == 0, result.output
    assert tree("out") == ["a.png", "x/a.png", "x/y/b.tif"]
    assert tree("masks") == ["a.png", "x/a.png", "x/y/b.png"]


def test_several_files_and_a_pattern_give_what_each_alone_gives(invoke):
    draw("a.png", seed=1)
    draw("b.png", seed=2)
    draw("more/c.png", seed=3)
    assert invoke("run", "a.png", "b.png", "more/*.png", "-o", "out").exit_code == 0
    for source in ("a.png", "b.png", "more/c.png"):
        alone = f"alone-{Path(source).name}"
        assert invoke("run", source, "-o", alone).exit_code == 0
        np.testing.assert_array_equal(read(f"out/{Path(source).name}"), read(alone))


def test_one_file_into_a_folder(invoke):
    draw("a.png")
    Path("out").mkdir()
    assert invoke("run", "a.png", "-o", "out").exit_code == 0
    assert tree("out") == ["a.png"]


def test_a_missing_file_among_several_fails_alone(invoke):
    draw("a.png")
    result = invoke("run", "missing.png", "a.png", "-o", "out")
    assert result.exit_code == 1
    assert tree("out") == ["a.png"]
    assert "missing.png: found no such file" in lines(result)[0]


def test_a_folder_that_cannot_be_read_fails_alone(invoke, monkeypatch):
    draw("photos/a.png")
    Path("photos/locked").mkdir()
    lock_folders(monkeypatch, "locked")
    result = invoke("run", "photos", "-o", "out", "--recursive", "--json")
    assert result.exit_code == 1
    failed, done = objects(result)
    assert failed["output"] is None
    assert "Permission denied" in failed["error"]
    assert done["status"] == "done"


def test_an_output_that_cannot_be_written_fails_alone(invoke):
    draw("photos/x/a.png")
    draw("photos/y/a.png")
    Path("out").mkdir()
    Path("out/x").write_text("in the way")
    result = invoke("run", "photos", "-o", "out", "--recursive")
    assert result.exit_code == 1
    assert tree("out") == ["x", "y/a.png"]
    assert str(Path("photos/x/a.png")) in lines(result)[0]


def test_want_of_memory_fails_one_picture(invoke, monkeypatch):
    draw("photos/a.png")
    draw("photos/b.png", size=(64, 64))
    predict = deblurrer.Deblurrer.predict

    def hungry(self, picture, watch=None):
        if picture.size == (64, 64):
            raise MemoryError
        return predict(self, picture, watch)

    monkeypatch.setattr(deblurrer.Deblurrer, "predict", hungry)
    result = invoke("run", "photos", "-o", "out")
    assert result.exit_code == 1
    assert tree("out") == ["a.png"]
    assert "b.png: out of memory" in lines(result)[0]


def test_existing_outputs_are_refused_before_any_work(invoke):
    draw("photos/a.png")
    draw("photos/b.png")
    Path("out").mkdir()
    Path("out/b.png").write_text("precious")
    result = invoke("run", "photos", "-o", "out")
    assert result.exit_code == 2
    assert "--skip-existing" in lines(result)[0]
    assert tree("out") == ["b.png"]
    assert invoke("run", "photos", "-o", "out", "--overwrite").exit_code == 0
    assert read("out/b.png").shape == (*SIZE, 3)


def test_skip_existing_writes_the_pictures_that_are_missing(invoke):
    draw("photos/a.png")
    assert invoke("run", "photos", "-o", "out").exit_code == 0
    before = Path("out/a.png").stat().st_mtime_ns
    result = invoke("run", "photos", "-o", "out", "--mask-out", "masks", "--skip-existing")
    assert result.exit_code == 0
    assert tree("masks") == ["a.png"]
    assert Path("out/a.png").stat().st_mtime_ns == before


def test_skip_existing_on_one_file(invoke):
    draw("a.png")
    Path("out.png").write_text("precious")
    result = invoke("run", "a.png", "-o", "out.png", "--skip-existing")
    assert result.exit_code == 0
    assert lines(result) == ["out.png: exists already, skipped"]
    assert Path("out.png").read_text() == "precious"
    as_json = invoke("run", "a.png", "-o", "out.png", "--skip-existing", "--json")
    assert objects(as_json) == [{"input": "a.png", "output": "out.png", "status": "skipped"}]


def test_in_place(invoke):
    photo = draw("photos/a.png")
    before = read(photo)
    arguments = ("run", "photos", "-o", "photos", "--mask-in", "full")
    assert invoke(*arguments).exit_code == 2
    assert invoke(*arguments, "--overwrite").exit_code == 0
    assert (read(photo) != before).any()
    one = draw("b.png")
    assert invoke("run", one, "-o", one, "--mask-in", "full").exit_code == 2
    assert invoke("run", one, "-o", one, "--mask-in", "full", "--overwrite").exit_code == 0
    assert (read(one) != before).any()


def test_one_photo_changed_while_it_is_deblurred_is_left(invoke, monkeypatch):
    photo = draw("a.png")
    mask = run_one.given_mask

    def edited_meanwhile(*arguments):
        photo.write_bytes(b"edited")
        return mask(*arguments)

    monkeypatch.setattr(run_one, "given_mask", edited_meanwhile)
    result = invoke("run", photo, "-o", photo, "--overwrite")
    assert result.exit_code == 1
    assert lines(result)[-1].startswith("m2a: a.png: was changed while it was deblurred")
    assert photo.read_bytes() == b"edited"


def test_the_output_inside_the_input_is_not_read_the_second_time(invoke):
    draw("photos/a.png")
    for _ in range(2):
        arguments = ("--recursive", "--overwrite", "--mask-out", "photos/masks")
        assert invoke("run", "photos", "-o", "photos/out", *arguments).exit_code == 0
    assert tree("photos") == ["a.png", "masks/a.png", "out/a.png"]


def test_outputs_in_another_format(invoke):
    draw("photos/a.jpg")
    draw("photos/b.tif")
    assert invoke("run", "photos", "-o", "out", "--suffix", ".webp").exit_code == 0
    assert tree("out") == ["a.webp", "b.webp"]
    with Image.open("out/a.webp") as image:
        assert image.format == "WEBP"


def test_a_photo_that_the_format_cannot_hold_fails_alone(invoke):
    draw("photos/a.png")
    Image.new("RGBA", SIZE).save("photos/b.png")
    result = invoke("run", "photos", "-o", "out", "--suffix", ".jpg")
    assert result.exit_code == 1
    assert tree("out") == ["a.jpg"]
    assert "alpha" in lines(result)[0]


@pytest.mark.parametrize(
    "name",
    [
        "with space.png",
        "größe 写真 📷.png",
        "-o.png",
        "--help.png",
        "a[1]*?.png",
        "a\nb.png",
        ":smile: [red].png",
        "-",
        pytest.param(
            os.fsdecode(b"latin-\xe9.png"),
            marks=pytest.mark.skipif(sys.platform != "linux", reason="names are Unicode there"),
        ),
    ],
)
def test_odd_names(invoke, name):
    draw("photo.png").rename(name)
    given = f".{os.sep}{name}" if name == "-" else name
    result = invoke("run", "-o", "out-" + name + ".png", "--", given)
    assert result.exit_code == 0, result.output
    assert len(lines(result)) == 1
    assert read("out-" + name + ".png").shape == (*SIZE, 3)
    # Among several, once as a good picture and once as a bad one.
    draw("b.png")
    assert invoke("run", "-o", "out", "--", given, "b.png").exit_code == 0
    assert tree("out") == sorted(["b.png", name + ".png" if name == "-" else name])
    Path(name).write_text("bad")
    failed = invoke("run", "-o", "again", "--", given, "b.png")
    assert failed.exit_code == 1
    assert len(lines(failed)) == 2


@pytest.mark.parametrize(
    "arguments",
    [
        ("a.png", "-o", "out.png", "--overwrite", "--skip-existing"),
        ("a.png", "-o", "out.png", "--suffix", ".tif"),
        ("a.png", "b.png", "-o", "out.png"),
        ("a.png", "x/a.png", "-o", "out"),
    ],
)
def test_misuse_is_told_before_any_work(invoke, arguments):
    for name in ("a.png", "b.png", "x/a.png"):
        draw(name)
    before = tree(".")
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert len(lines(result)) == 1
    assert tree(".") == before
