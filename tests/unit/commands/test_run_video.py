"""`m2a run` on a video: what it leaves, says and exits with."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from clips import make_clip, packets_of, pictures_of, planes_of, times_of
from PIL import Image


def lines(result) -> list[str]:
    """What standard error says, without the line that names the bundle."""
    return [line for line in result.stderr.splitlines() if not line.startswith("bundle:")]


@pytest.fixture
def clip(tmp_path):
    return make_clip(tmp_path / "clip.mp4", frames=5)


def test_a_clip_comes_back_and_one_line_says_so(invoke, clip):
    result = invoke("run", "clip.mp4", "-o", "out.mp4", "--mask-in", "full")
    assert result.exit_code == 0, result.output
    assert times_of(Path("out.mp4")) == times_of(clip)
    assert packets_of(Path("out.mp4"))[1] == packets_of(clip)[1]
    assert result.stdout == ""
    (line,) = lines(result)
    assert line.startswith("out.mp4: 100.0% of the pixels restored, in 5 of 5 frames, in ")
    assert line.endswith(" s on ort-cpu")


def test_json_is_one_object(invoke, clip):
    result = invoke("run", "clip.mp4", "-o", "out.mp4", "--json")
    assert result.exit_code == 0, result.output
    assert lines(result) == []
    found = json.loads(result.stdout)
    assert 0 <= found.pop("coverage") <= 1
    assert 0 <= found.pop("restored_frames") <= 5
    seconds = found.pop("seconds")
    assert {"decode", "mask", "encode"} <= set(seconds)
    assert found.pop("duration") == pytest.approx(0.5)
    assert 0 < found.pop("threshold") < 1
    assert "fp32" in found.pop("precision_reason")
    assert found == {
        "status": "done",
        "precision": "fp32",
        "ensemble": 1,
        "input": "clip.mp4",
        "output": "out.mp4",
        "frames": 5,
        "codec": "h264",
        "backend": "ort-cpu",
        "highest_probability": None,
        "copied": False,
    }


def test_without_blur_it_says_that_frames_are_only_encoded_again(invoke, clip):
    result = invoke("run", "clip.mp4", "-o", "out.mp4", "--threshold", "1")
    assert lines(result) == [
        "out.mp4: no motion blur found in 5 frames, which are only encoded again: no probability "
        "reaches the threshold of 1; a lower --threshold or --mask-in restores some all the same"
    ]


def test_another_codec_is_said(invoke, clip):
    make_clip(Path("clip.mkv"), codec="mpeg4", pix_fmt="yuv420p", frames=3)
    result = invoke("run", "clip.mkv", "-o", "out.mkv", "--threshold", "1")
    assert lines(result)[0] == "out.mkv: the pictures are H.264, not mpeg4"


def test_overwrite_skip_existing_and_in_place(invoke, clip):
    Path("out.mp4").write_text("precious")
    refused = invoke("run", "clip.mp4", "-o", "out.mp4")
    assert (refused.exit_code, len(lines(refused))) == (2, 1)
    skipped = invoke("run", "clip.mp4", "-o", "out.mp4", "--skip-existing", "--bundle", "nowhere")
    assert skipped.exit_code == 0
    assert lines(skipped) == ["out.mp4: exists already, skipped"]
    as_json = invoke("run", "clip.mp4", "-o", "out.mp4", "--skip-existing", "--json")
    assert json.loads(as_json.stdout) == {
        "input": "clip.mp4",
        "output": "out.mp4",
        "status": "skipped",
    }
    assert Path("out.mp4").read_text() == "precious"
    assert invoke("run", "clip.mp4", "-o", "out.mp4", "--overwrite").exit_code == 0
    assert len(times_of(Path("out.mp4"))) == 5
    before = clip.read_bytes()
    assert invoke("run", "clip.mp4", "-o", "clip.mp4", "--overwrite").exit_code == 0
    assert clip.read_bytes() != before
    assert len(times_of(clip)) == 5


@pytest.mark.parametrize(
    ("output", "suffix", "expected"),
    [("new/", None, "new/clip.mp4"), ("there", ".mkv", "there/clip.mkv")],
)
def test_into_a_folder(invoke, clip, output, suffix, expected):
    Path("there").mkdir()
    more = () if suffix is None else ("--suffix", suffix)
    assert invoke("run", "clip.mp4", "-o", output, *more).exit_code == 0
    assert len(times_of(Path(expected))) == 5


def test_what_is_only_read_becomes_matroska_in_a_folder(invoke, tmp_path):
    make_clip(tmp_path / "clip.avi", codec="mpeg4", sound=None, frames=3)
    result = invoke("run", "clip.avi", "-o", "new/")
    assert result.exit_code == 0, result.output
    assert len(times_of(Path("new/clip.mkv"))) == 3


def test_a_mask_is_a_picture_for_all_frames(invoke, tmp_path):
    make_clip(tmp_path / "clip.mkv", codec="ffv1", pix_fmt="yuv444p", frames=3)
    mask = np.zeros((48, 64), np.uint8)
    mask[10:20, 30:50] = 255
    Image.fromarray(mask).save("mask.png")
    result = invoke("run", "clip.mkv", "-o", "out.mkv", "--mask-in", "mask.png", "--json")
    assert json.loads(result.stdout)["coverage"] == pytest.approx((mask > 0).mean())
    moved = np.zeros((48, 64), bool)
    for one, other in zip(planes_of(Path("clip.mkv")), planes_of(Path("out.mkv")), strict=True):
        moved |= np.any(np.stack(one) != np.stack(other), axis=0)
    assert moved.any()
    assert not moved[mask == 0].any()
    Image.fromarray(mask.T.copy()).save("turned.png")
    wrong = invoke("run", "clip.mkv", "-o", "no.mkv", "--mask-in", "turned.png")
    assert wrong.exit_code == 2
    assert "expected 64x48" in lines(wrong)[0]


def test_crf_from_the_command_line_and_from_a_file(invoke, clip):
    Path("m2a.toml").write_text("crf = 40\nthreshold = 1.0")
    arguments = ("run", "clip.mp4", "--config", "m2a.toml")
    assert invoke(*arguments, "-o", "out.mp4").exit_code == 0
    assert invoke(*arguments, "-o", "lossless.mp4", "--crf", "0").exit_code == 0
    for name, same in (("out.mp4", False), ("lossless.mp4", True)):
        pairs = zip(planes_of(clip), planes_of(Path(name)), strict=True)
        equal = [
            np.array_equal(a, b) for one, other in pairs for a, b in zip(one, other, strict=True)
        ]
        assert all(equal) is same


def test_metadata_is_stripped_on_demand(invoke, tmp_path):
    make_clip(tmp_path / "clip.mp4", tags={"title": "Secret"}, frames=3)
    assert invoke("run", "clip.mp4", "-o", "kept.mp4").exit_code == 0
    assert invoke("run", "clip.mp4", "-o", "out.mp4", "--strip-metadata").exit_code == 0
    assert b"Secret" in Path("kept.mp4").read_bytes()
    assert b"Secret" not in Path("out.mp4").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("clip.mp4", "-o", "-"), "-o -: found the video clip.mp4"),
        (("clip.mp4", "-o", "out.png"), "expected .mp4, .m4v, .mov, .mkv, .webm for a video"),
        (("clip.mp4", "-o", "out.avi"), "found the suffix '.avi'"),
        (("clip.mp4", "-o", "none/out.mp4"), "create the folder first"),
        (("clip.mp4", "-o", "out.mp4", "--suffix", ".mkv"), "--suffix .mkv and -o out.mp4"),
        (("clip.mp4", "-o", "out.mp4", "--mask-out", "m.png"), "--mask-out: found the video"),
        (("clip.mp4", "-o", "out.mp4", "--compare-out", "c.png"), "--compare-out: found the video"),
        (("clip.mp4", "-o", "out.mp4", "--motion-out", "m.png"), "--motion-out: found the video"),
        (("clip.mp4", "-o", "out.mp4", "--quality", "90"), "--quality: found 90 for the video"),
        (("clip.mp4", "-o", "new/", "--suffix", "mkv"), "--suffix: found the suffix 'mkv'"),
        (("clip.mp4", "-o", "new/", "--suffix", ".avi"), "--suffix: found the suffix '.avi'"),
        (("clip.mp4", "-o", "out.mp4", "--recursive"), "--recursive: found the video clip.mp4"),
        (("clip.mp4", "-o", "out.mp4", "--crf", "60"), "--crf: found 60"),
        (("clip.mp4", "photo.png", "-o", "out"), "clip.mp4: found a video, expected pictures"),
        (("*.mp4", "-o", "out"), "clip.mp4: found a video, expected pictures"),
        (("photo.png", "-o", "out.mp4"), ".mp4"),
        (("-", "-o", "out.mp4"), ".mp4"),
    ],
)
def test_misuse_is_one_line_and_leaves_nothing(invoke, clip, photo, arguments, words):
    before = sorted(Path().rglob("*"))
    result = invoke("run", *arguments)
    assert result.exit_code == 2
    (line,) = lines(result)
    assert words in line
    assert sorted(Path().rglob("*")) == before


def test_larger_frames_than_asked_for_are_refused(invoke, clip):
    result = invoke("run", "clip.mp4", "-o", "out.mp4", "--max-pixels", str(48 * 64 - 1))
    assert result.exit_code == 1
    (line,) = lines(result)
    assert line.startswith("m2a: clip.mp4: found frames of 64x48, expected at most 3071 pixels")
    assert not Path("out.mp4").exists()


@pytest.mark.parametrize("content", [b"", b"no video", None])
def test_a_bad_video_is_one_line(invoke, clip, content):
    bad = Path("bad.mp4")
    bad.write_bytes(clip.read_bytes()[:-2000] if content is None else content)
    result = invoke("run", "bad.mp4", "-o", "out.mp4")
    assert result.exit_code == 1
    (line,) = lines(result)
    assert line.startswith("m2a: bad.mp4: found ")
    assert not Path("out.mp4").exists()


def test_a_folder_keeps_to_pictures(invoke, clip, photo):
    assert invoke("run", ".", "-o", "out").exit_code == 0
    assert [path.name for path in Path("out").iterdir()] == ["photo.png"]


def test_without_pyav_the_extra_is_named(clip, tmp_path):
    """In a process of its own, in which it cannot be imported."""
    program = (
        "import sys; sys.modules['av'] = None; from m2a.cli import main; "
        "main(['run', 'clip.mp4', '-o', 'out.mp4'])"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 1
    assert done.stderr.splitlines() == [
        "m2a: Deblurring a video needs the package 'av', which is not installed. "
        "Install in the folder of m2a: pip install -e '.[video]'"
    ]


class TestTerminal:
    def run(self, tmp_path, *more, stdout=subprocess.DEVNULL):
        """Standard error as a terminal of 120 columns shows it."""
        master, terminal = os.openpty()
        with subprocess.Popen(
            [sys.executable, "-m", "m2a", "run", "clip.mp4", "-o", "out.mp4", *more],
            cwd=tmp_path, stdin=subprocess.DEVNULL, stdout=stdout or terminal, stderr=terminal,
            env={**os.environ, "COLUMNS": "120", "TERM": "xterm"},
        ) as process:  # fmt: skip
            os.close(terminal)
            said = b""
            try:
                while piece := os.read(master, 65536):
                    said += piece
            except OSError:  # how Linux says that the other end is closed
                pass
        os.close(master)
        assert process.returncode == 0, said
        return said.decode()

    @pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
    def test_frames_and_the_time_left_are_shown(self, clip, tmp_path):
        said = self.run(tmp_path)
        assert "Deblurring" in said
        assert "5/5" in said
        assert "left" in said

    @pytest.mark.skipif(sys.platform == "win32", reason="it has no pseudo-terminals")
    def test_the_bar_and_an_object_do_not_share_a_terminal(self, clip, tmp_path):
        said = self.run(tmp_path, "--json", stdout=None)
        assert "Deblurring" not in said
        assert '"frames": 5' in said


def size_of(path):
    """0 of a file that was there only to see whether one can be written."""
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return 0


@pytest.mark.skipif(sys.platform == "win32", reason="a console's Ctrl-C reaches pytest too")
def test_ctrl_c_leaves_nothing(tmp_path):
    """SIGINT in the middle, to a process of its own."""
    make_clip(tmp_path / "clip.mp4", frames=300, size=(96, 96))
    # A process that pytest starts in the background would ignore the signal.
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler); "
        "from m2a.cli import main; main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script, "run", "clip.mp4", "-o", "out.mp4", "--mask-in", "full"],
        cwd=tmp_path, stderr=subprocess.PIPE, text=True,
    ) as process:  # fmt: skip
        while not any(size_of(path) for path in tmp_path.glob(".m2a-*")):
            assert process.poll() is None, process.stderr.read()
            time.sleep(0.002)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=60)
    assert process.returncode == 130
    assert said.splitlines()[-1] == "m2a: interrupted"
    assert "Traceback" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["clip.mp4"]


def test_a_picture_looks_as_it_did(invoke, tmp_path):
    """Colours survive the way through the encoder, against swscale's own way to RGB."""
    make_clip(tmp_path / "clip.mp4", size=(96, 96), frames=3)
    assert invoke("run", "clip.mp4", "-o", "out.mp4", "--threshold", "1").exit_code == 0
    for one, other in zip(pictures_of(Path("clip.mp4")), pictures_of(Path("out.mp4")), strict=True):
        error = one.astype(float) - other
        assert abs(error.mean()) < 0.5
        assert np.abs(error).mean() < 2  # the encoder's, at its default
