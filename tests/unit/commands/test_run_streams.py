"""`m2a run` on standard input and output."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from command_pictures import SIZE, draw, lines, objects, read
from PIL import Image


class TestStreams:
    def test_standard_input(self, invoke):
        photo = draw("a.png")
        assert invoke("run", photo, "-o", "file.png").exit_code == 0
        result = invoke("run", "-", "-o", "out.png", "--json", input=photo.read_bytes())
        assert result.exit_code == 0, result.output
        assert objects(result)[0]["input"] == "-"
        np.testing.assert_array_equal(read("out.png"), read("file.png"))

    @pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
    def test_standard_output_has_the_format_of_the_input(self, invoke, suffix):
        photo = draw(f"a{suffix}")
        assert invoke("run", photo, "-o", f"file{suffix}").exit_code == 0
        result = invoke("run", photo, "-o", "-")
        assert result.stdout_bytes == Path(f"file{suffix}").read_bytes()
        assert "standard output: " in lines(result)[0]

    def test_or_that_which_the_suffix_names(self, invoke):
        photo = draw("a.png")
        result = invoke(
            "run", "-", "-o", "-", "--suffix", ".jpg", "--mask-out", "m.png",
            input=photo.read_bytes(),
        )  # fmt: skip
        with Image.open(io.BytesIO(result.stdout_bytes)) as image:
            assert image.format == "JPEG"
        assert read("m.png").shape == SIZE

    def test_through_a_real_pipe(self, invoke, tmp_path):
        photo = draw("a.png")
        done = subprocess.run(
            [sys.executable, "-m", "m2a", "run", "-", "-o", "-"],
            input=photo.read_bytes(),
            capture_output=True,
            cwd=tmp_path,
        )
        assert done.returncode == 0, done.stderr
        assert read(io.BytesIO(done.stdout)).shape == (*SIZE, 3)

    @pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
    @pytest.mark.parametrize("end", ["stdin", "stdout"])
    def test_a_terminal_is_no_place_for_a_picture(self, invoke, tmp_path, end):
        photo = draw("a.png")
        master, terminal = os.openpty()
        with photo.open("rb") as source, Path("out").open("wb") as target:
            ends = {"stdin": source, "stdout": target, end: terminal}
            done = subprocess.run(
                [sys.executable, "-m", "m2a", "run", "-", "-o", "-"],
                stderr=subprocess.PIPE, cwd=tmp_path, **ends,
            )  # fmt: skip
        os.close(master)
        os.close(terminal)
        assert done.returncode == 2
        assert b"found a terminal" in done.stderr

    def test_a_bad_picture_writes_nothing(self, invoke):
        result = invoke("run", "-", "-o", "-", input=b"bad")
        assert result.exit_code == 1
        assert result.stdout_bytes == b""
        assert lines(result) == [
            "m2a: standard input: found an unknown kind of file, expected one of "
            "JPEG, PNG, TIFF, WebP, AVIF/HEIF"
        ]

    @pytest.mark.parametrize(
        ("arguments", "words"),
        [
            (("a.png", "-o", "-", "--json"), "--json and -o -"),
            (("a.png", "a.tif", "-o", "-"), "expected a folder"),
            (("a.png", "-", "-o", "out"), "expected it alone"),
            (("a.png", "-o", "-", "--suffix", ".gif"), ".gif"),
        ],
    )
    def test_misuse(self, invoke, arguments, words):
        draw("a.png")
        draw("a.tif")
        result = invoke("run", *arguments)
        assert result.exit_code == 2
        assert words in lines(result)[0]
        assert result.stdout == ""
