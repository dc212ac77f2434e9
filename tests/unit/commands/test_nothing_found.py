"""No pixel reaches the threshold: what is said, and which files are copied."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from command_pictures import draw, lines
from PIL import Image

from m2a.commands.run_report import nothing_found


class TestNothingFound:
    """No pixel reaches the threshold."""

    def test_it_is_said_with_both_numbers_and_what_to_do(self, invoke):
        draw("a.png")
        result = invoke("run", "a.png", "-o", "out.png", "--threshold", 1, "--json")
        found = json.loads(result.stdout)
        assert found["coverage"] == 0
        assert found["threshold"] == 1
        assert 0 < found["highest_probability"] < 1
        (line,) = lines(invoke("run", "a.png", "-o", "again.png", "--threshold", 1))
        assert line.startswith("again.png: no motion blur found, no pixel was restored")
        assert "below the threshold of 1" in line
        # The threshold that it proposes does restore something.
        proposed = line.split("; --threshold ")[1].split()[0]
        restored = invoke("run", "a.png", "-o", "c.png", "--threshold", proposed, "--json")
        assert json.loads(restored.stdout)["coverage"] > 0

    def test_an_empty_mask_is_another_matter(self, invoke):
        draw("a.png")
        Image.new("L", (40, 32)).save("mask.png")
        (line,) = lines(invoke("run", "a.png", "-o", "out.png", "--mask-in", "mask.png"))
        assert "the mask that was given is empty" in line

    def test_report_says_it_too(self, invoke):
        draw("a.png")
        page, line = lines(invoke("report", "a.png", "-o", "out.html", "--threshold", 1))
        assert " kB" in page
        assert "below the threshold of 1" in line

    def test_a_probability_of_almost_nothing_is_not_told_as_none(self):
        assert "is less than 0.001, below" in nothing_found(0.15, 1e-5)
        assert "; --mask-in restores" in nothing_found(0.15, 1e-5)
        assert "is 0.999, below the threshold of 1; --threshold 0.99 or" in nothing_found(
            1, 0.99999
        )

    @pytest.mark.parametrize("suffix", [".jpg", ".webp"])
    def test_a_lossy_file_is_copied(self, invoke, suffix):
        source = draw(f"photos/a{suffix}", quality=60)
        arguments = ("--threshold", 1)
        (line,) = lines(invoke("run", source, "-o", f"out{suffix}", *arguments))
        assert line.startswith(f"out{suffix}: unchanged, copied; no motion blur found")
        assert Path(f"out{suffix}").read_bytes() == source.read_bytes()
        assert invoke("run", source, "-o", "-", *arguments).stdout_bytes == source.read_bytes()
        many = invoke("run", "photos", "-o", "out", *arguments, "--json")
        assert json.loads(many.stdout)["copied"] is True
        assert Path(f"out/a{suffix}").read_bytes() == source.read_bytes()

    @pytest.mark.parametrize(
        ("target", "options"),
        [
            ("out.jpg", ("--quality", 50)),
            ("out.jpg", ("--strip-metadata",)),
            ("out.png", ()),
        ],
    )
    def test_it_is_not_copied_where_something_else_was_asked_for(self, invoke, target, options):
        source = draw("a.jpg")
        result = invoke("run", source, "-o", target, "--threshold", 1, "--json", *options)
        assert json.loads(result.stdout)["copied"] is False
        assert Path(target).read_bytes() != source.read_bytes()

    def test_nor_where_it_lies_on_its_side(self, invoke):
        exif = Image.Exif()
        exif[0x0112] = 6
        source = draw("a.jpg", exif=exif)
        result = invoke("run", source, "-o", "out.jpg", "--threshold", 1, "--json")
        assert json.loads(result.stdout)["copied"] is False
        with Image.open("out.jpg") as image:
            assert image.size == (32, 40)

    def test_nor_where_pixels_are_restored(self, invoke):
        source = draw("a.jpg")
        result = invoke("run", source, "-o", "out.jpg", "--mask-in", "full", "--json")
        assert json.loads(result.stdout)["copied"] is False
        assert Path("out.jpg").read_bytes() != source.read_bytes()
