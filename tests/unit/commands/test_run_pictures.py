"""`m2a run`: the pictures that it writes beside the result, metadata, and masks that are given."""

from __future__ import annotations

import functools
from pathlib import Path

import numpy as np
import pytest
from command_pictures import SIZE, draw, lines, objects, read, tree
from PIL import Image

from m2a import files


class TestEnsemble:
    def test_is_another_picture(self, invoke):
        photo = draw("a.png")
        for name, turns in (("once.png", "1"), ("more.png", "8")):
            done = invoke("run", photo, "-o", name, "--mask-in", "full", "--ensemble", turns)
            assert done.exit_code == 0, done.output
        assert not np.array_equal(read("once.png"), read("more.png"))
        assert invoke("run", photo, "-o", "plain.png", "--mask-in", "full").exit_code == 0
        np.testing.assert_array_equal(read("plain.png"), read("once.png"))

    def test_is_told_of_each(self, invoke):
        for name in ("a", "b"):
            draw(f"photos/{name}.png")
        for options, turns in (([], 1), (["--ensemble", "2"], 2)):
            done = invoke("run", "photos", "-o", f"out{turns}", "--json", *options)
            assert [told["ensemble"] for told in objects(done)] == [turns, turns]

    def test_of_another_number_is_refused_before_any_work(self, invoke):
        refused = invoke("run", "not-there.png", "-o", "out.png", "--ensemble", "3")
        assert refused.exit_code == 2
        assert "must be 1, 2, 4 or 8, found 3" in lines(refused)[0]


class TestPictures:
    def test_beside_one_file(self, invoke):
        photo = draw("a.png")
        result = invoke(
            "run", photo, "-o", "out.png", "--mask-in", "full",
            "--compare-out", "compare.png", "--motion-out", "motion.png",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        compare = read("compare.png")
        np.testing.assert_array_equal(compare[:, : SIZE[1]], read(photo))
        np.testing.assert_array_equal(compare[:, -SIZE[1] :], read("out.png"))
        motion = read("motion.png")
        assert motion.shape == (*SIZE, 3)
        assert (motion != read(photo)).any()

    def test_beside_many(self, invoke):
        draw("photos/a.jpg")
        draw("photos/b.png")
        result = invoke(
            "run", "photos", "-o", "out", "--mask-out", "masks",
            "--compare-out", "compare", "--motion-out", "motion",
        )  # fmt: skip
        assert result.exit_code == 0, result.output
        for folder in ("masks", "compare", "motion"):
            assert tree(folder) == ["a.png", "b.png"]

    @pytest.mark.parametrize("option", ["--mask-out", "--compare-out", "--motion-out"])
    @pytest.mark.parametrize("name", ["picture.jpg", "out.png", "a.png"])
    def test_names_that_cannot_be_meant(self, invoke, option, name):
        photo = draw("a.png")
        before = photo.read_bytes()
        result = invoke("run", photo, "-o", "out.png", option, name, "--overwrite")
        assert result.exit_code == 2
        assert len(lines(result)) == 1
        assert photo.read_bytes() == before
        assert not Path("out.png").exists()

    def test_one_that_fails_takes_the_others_with_it(self, invoke, monkeypatch):
        draw("photos/a.png")
        place = files._place_new

        def refuse(temporary, target):
            if target.parent.name == "motion":
                raise OSError(28, "No space left on device")
            place(temporary, target)

        monkeypatch.setattr(files, "_place_new", refuse)
        result = invoke(
            "run", "photos", "-o", "out", "--mask-out", "masks", "--motion-out", "motion"
        )
        assert result.exit_code == 1
        assert "No space left" in lines(result)[0]
        assert tree(".") == ["photos/a.png"]


class TestMetadata:
    @pytest.fixture
    def photo(self, invoke):
        exif = Image.Exif()
        exif[0x010F] = "Camera of mine"
        return draw("photos/a.jpg", exif=exif, dpi=(300, 300), icc_profile=_srgb())

    @pytest.mark.parametrize("target", ["out.jpg", "out.png"])
    @pytest.mark.parametrize("strip", [True, False])
    def test_is_kept_unless_stripped(self, invoke, photo, target, strip):
        options = ("--strip-metadata",) if strip else ()
        assert invoke("run", photo, "-o", target, *options).exit_code == 0
        assert (b"Camera of mine" in Path(target).read_bytes()) != strip
        with Image.open(target) as image:
            assert image.info["icc_profile"] == _srgb()
            assert image.info["dpi"] == pytest.approx((300, 300), abs=0.1)

    def test_is_stripped_from_many_and_from_streams(self, invoke, photo):
        assert invoke("run", "photos", "-o", "out", "--strip-metadata").exit_code == 0
        assert b"Camera of mine" not in Path("out/a.jpg").read_bytes()
        piped = invoke("run", photo, "-o", "-", "--strip-metadata").stdout_bytes
        assert piped == Path("out/a.jpg").read_bytes()


@functools.cache  # the profile holds the second in which it was made
def _srgb() -> bytes:
    from PIL import ImageCms

    return ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


class TestMasks:
    @pytest.mark.parametrize(
        "arguments",
        [
            ("-o", "mask.png"),
            ("-o", "out.png", "--mask-out", "mask.png"),
            ("-o", "out.png", "--compare-out", "./mask.png"),
            ("-o", "."),
        ],
    )
    def test_the_mask_that_is_read_is_not_written_over(self, invoke, arguments):
        draw("photos/mask.png")
        Image.new("L", SIZE[::-1]).save("mask.png")
        before = Path("mask.png").read_bytes()
        result = invoke(
            "run", "photos/mask.png", *arguments, "--mask-in", "mask.png", "--overwrite"
        )
        assert result.exit_code == 2
        assert "which is to be read" in lines(result)[0]
        assert Path("mask.png").read_bytes() == before
        assert tree(".") == ["mask.png", "photos/mask.png"]

    def test_a_full_mask_for_many(self, invoke):
        draw("photos/a.png")
        draw("photos/b.png")
        result = invoke("run", "photos", "-o", "out", "--mask-in", "full", "--json")
        assert [entry["coverage"] for entry in objects(result)] == [1, 1]

    def test_one_mask_for_many_is_refused(self, invoke):
        draw("photos/a.png")
        draw("photos/b.png")
        Image.new("L", SIZE[::-1]).save("mask.png")
        result = invoke("run", "photos", "-o", "out", "--mask-in", "mask.png")
        assert result.exit_code == 2
        assert "--mask-in" in lines(result)[0]
        assert not Path("out").exists()
