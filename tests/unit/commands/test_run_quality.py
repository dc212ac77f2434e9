"""`m2a run` on what a photographer has: the quality of the files, their size, and originals."""

from __future__ import annotations

import io
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2a.runtime.coding import Coding, coding_of_jpeg
from m2a.runtime.journal import JOURNAL


def draw(path, *, size=(40, 50), seed=0, **options):
    pixels = np.random.default_rng(seed).integers(0, 256, (*size, 3), np.uint8)
    Path(path).parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(path, **options)
    return Path(path)


def quality(path):
    return coding_of_jpeg(Path(path).read_bytes())


def test_the_quality_is_the_sources_unless_told(invoke):
    photo = draw("a.jpg", quality=82)
    assert invoke("run", photo, "-o", "same.jpg").exit_code == 0
    assert quality("same.jpg") == Coding(quality=82, subsampled=True)
    assert invoke("run", photo, "-o", "told.jpg", "--quality", 91).exit_code == 0
    assert quality("told.jpg") == Coding(quality=91, subsampled=True)
    told = invoke("run", photo, "-o", "-", "--quality", 91)
    assert told.stdout_bytes == Path("told.jpg").read_bytes()


def test_of_many_it_is_told_to_those_that_have_one(invoke):
    draw("photos/a.jpg", quality=60)
    draw("photos/b.png")
    result = invoke("run", "photos", "-o", "out", "--quality", 91)
    assert result.exit_code == 0, result.output
    assert quality("out/a.jpg").quality == 91
    assert Path("out/b.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("a.png", "-o", "out.png", "--quality", 90), "PNG is lossless"),
        (("a.png", "-o", "out.jpg", "--quality", 0), "expected 1 to 100"),
        (("photos", "-o", "out", "--quality", 90), "outputs that are all lossless"),
        (("a.png", "-o", "out.png", "--max-pixels", 0), "expected at least 1"),
    ],
)
def test_misuse(invoke, arguments, words):
    draw("a.png")
    draw("photos/a.png")
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    assert words in result.stderr
    assert not Path("out.png").exists()
    assert not Path("out").exists()


def test_a_limit_of_pixels(invoke):
    photo = draw("photos/a.png")
    for arguments in ((photo, "-o", "out.png"), ("photos", "-o", "out")):
        result = invoke("run", *arguments, "--max-pixels", 1999)
        assert result.exit_code == 1
        assert "found 50x40 pixels, expected at most 1999" in result.stderr
        assert invoke("run", *arguments, "--max-pixels", 2000).exit_code == 0
    piped = invoke("run", "-", "-o", "-", "--max-pixels", 1999, input=photo.read_bytes())
    assert piped.exit_code == 1
    assert "standard input: found 50x40" in piped.stderr
    flood = invoke("run", "-", "-o", "-", "--max-pixels", 1, input=bytes(2**26 + 9))
    assert "found more than 67108872 bytes" in flood.stderr


def test_avif_is_written(invoke):
    photo = draw("a.png")
    assert invoke("run", photo, "-o", "out.avif", "--mask-out", "mask.png").exit_code == 0
    with Image.open("out.avif") as found, Image.open("mask.png") as mask:
        outside = np.asarray(mask) == 0
        assert np.array_equal(np.asarray(found)[outside], np.asarray(Image.open(photo))[outside])
    # and stays AVIF on a stream
    again = invoke("run", "-", "-o", "-", input=Path("out.avif").read_bytes())
    assert Image.open(io.BytesIO(again.stdout_bytes)).format == "AVIF"


IN_PLACE = ("photos", "-o", "photos", "--overwrite", "--mask-in", "full")


class TestInPlace:
    def values(self):
        return {path.name: path.read_bytes() for path in Path("photos").glob("*.png")}

    def test_a_run_that_ends_leaves_no_journal(self, invoke):
        draw("photos/a.png")
        assert invoke("run", *IN_PLACE).exit_code == 0
        assert not Path("photos", JOURNAL).exists()

    def test_one_that_failed_for_a_photo_does_only_that_again(self, invoke):
        draw("photos/a.png")
        Path("photos/b.png").write_text("bad")
        first = invoke("run", *IN_PLACE)
        assert first.exit_code == 1
        assert "tells the same command which photos are done" in first.stderr
        done = self.values()["a.png"]
        draw("photos/b.png")
        second = invoke("run", *IN_PLACE)
        assert second.exit_code == 0
        assert "1 of the skipped had been replaced already" in second.stderr
        assert self.values()["a.png"] == done
        assert not Path("photos", JOURNAL).exists()
        assert invoke("run", *IN_PLACE).exit_code == 0
        assert self.values()["a.png"] != done  # asked for once more, it is done once more

    @pytest.mark.skipif(sys.platform == "win32", reason="needs SIGKILL")
    @pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT], ids=["kill", "Ctrl-C"])
    def test_stopped_in_the_middle(self, invoke, tmp_path, number):
        count = 12
        for index in range(count):
            draw(f"photos/{index:02}.png", seed=index, size=(200, 200))
        before = self.values()
        script = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
            "from m2a.cli import main; main()"
        )
        with subprocess.Popen(
            [sys.executable, "-c", script, "run", *IN_PLACE],
            cwd=tmp_path,
            env=os.environ,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            while sum(before[name] != now for name, now in self.values().items()) < 2:
                assert process.poll() is None, process.stderr.read()
                time.sleep(0.005)
            process.send_signal(number)
            _, said = process.communicate(timeout=60)
        if number == signal.SIGINT:
            assert "the same command does the rest, and no photo twice" in said
        middle = self.values()
        changed = {name for name in before if middle[name] != before[name]}
        assert 2 <= len(changed) < count
        again = invoke("run", *IN_PLACE)
        assert again.exit_code == 0, again.output
        assert f"{count - len(changed)} done, {len(changed)} skipped" in again.stderr
        after = self.values()
        assert all(after[name] == middle[name] for name in changed)
        assert all(after[name] != before[name] for name in before)
        assert not Path("photos", JOURNAL).exists()
