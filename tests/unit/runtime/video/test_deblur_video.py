"""A video comes back, restored where the network says so, whole or not at all."""

from __future__ import annotations

import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
from clips import (
    duration_of,
    make_clip,
    packets_of,
    planes_of,
    stream_of,
    times_of,
)
from threads import policies

from m2a.errors import UsageError, VideoError
from m2a.runtime import load
from m2a.runtime.video.colour import coding_of
from m2a.runtime.video.deblur import deblur_video
from m2a.runtime.video.footage import probe
from m2a.runtime.video.target import VideoSettings


def check_it_came_back(clip, out):
    """By passes of their own over both files."""
    assert len(times_of(out)) == 100
    assert times_of(out) == times_of(clip)
    assert packets_of(out)[1] == packets_of(clip)[1]
    assert stream_of(out, "audio") == stream_of(clip, "audio")
    assert stream_of(out) == stream_of(clip)
    # Matroska states no duration of the last packet of sound: a reader takes a whole one.
    packet = 1e6 * 1024 / 8000 if out.suffix == ".mkv" else 0
    assert duration_of(out) == pytest.approx(duration_of(clip), abs=packet)


class TestTenSeconds:
    """Done when 3 of the issue: the same duration, frame count and sound."""

    @pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.m4v", "a.mkv", "a.webm"])
    def test_it_comes_back(self, tmp_path, negative, name):
        webm = name.endswith("webm")
        clip = make_clip(
            tmp_path / name.replace("m4v", "mp4"),
            frames=100,
            codec="libvpx-vp9" if webm else "libx264",
            sound="libopus" if webm else "aac",
            options={"deadline": "realtime"} if webm else {},
        )
        out = tmp_path / f"out-{name}"
        done = deblur_video(clip, out, negative)
        check_it_came_back(clip, out)
        assert (done.frames, done.duration) == (100, pytest.approx(10))
        assert {path.name for path in tmp_path.iterdir()} == {clip.name, out.name}

    def test_through_the_packaged_network(self, tmp_path, monkeypatch):
        monkeypatch.delenv("M2A_BUNDLE", raising=False)
        clip = make_clip(tmp_path / "a.mp4", frames=100)
        mask = np.zeros((48, 64), bool)
        mask[8:24, 16:40] = True
        done = deblur_video(clip, tmp_path / "out.mp4", load(), mask=mask)
        check_it_came_back(clip, tmp_path / "out.mp4")
        assert done.coverage == pytest.approx(mask.mean())
        assert done.restored_frames == 100

    def test_what_is_restored_is_what_the_network_makes_of_the_frame(self, tmp_path, monkeypatch):
        """Lossless, every pixel: RGB from the file's samples, and the result's samples."""
        monkeypatch.delenv("M2A_BUNDLE", raising=False)
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt="yuv444p", frames=3)
        deblurrer = load()
        mask = np.ones((48, 64), bool)
        deblur_video(clip, tmp_path / "out.mkv", deblurrer, mask=mask)
        this = coding_of(pix_fmt="yuv444p", matrix=2, colour_range=1, size=(48, 64), origin="clip")
        for before, after in zip(planes_of(clip), planes_of(tmp_path / "out.mkv"), strict=True):
            expected = deblurrer(this.to_rgb(before), mask=mask).image
            # Half a level of each sample, which the matrix makes 1.4 levels of red or blue.
            inside = (expected > 0.02) & (expected < 0.98)
            assert np.abs(this.to_rgb(after) - expected)[inside].max() < 1.5 / 219
            assert not np.array_equal(before[0], after[0])


class TestSamples:
    @pytest.mark.parametrize(
        "pix_fmt", ["yuv420p", "yuv422p", "yuv444p", "yuv420p10le", "yuv422p10le", "yuv444p10le"]
    )
    @pytest.mark.parametrize("size", [(48, 64), (47, 63)])
    def test_outside_the_mask_are_the_sources_where_the_codec_is_lossless(
        self, tmp_path, negative, pix_fmt, size
    ):
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt=pix_fmt, size=size, frames=5)
        out = tmp_path / "out.mkv"
        done = deblur_video(clip, out, negative)
        assert done.codec == "ffv1"
        assert stream_of(out)["pix_fmt"] == pix_fmt
        before, after = planes_of(clip), planes_of(out)
        for one, other in zip(before, after, strict=True):
            for plane, changed in zip(one, other, strict=True):
                height, width = (
                    -(-side // 2 * plane.shape[axis] // full)
                    for axis, (side, full) in enumerate(zip(size, size, strict=True))
                )
                outside = np.ones(plane.shape, bool)
                outside[: height + 1, : width + 1] = False
                np.testing.assert_array_equal(plane[outside], changed[outside])
            assert (
                one[0][: size[0] // 2, : size[1] // 2] != other[0][: size[0] // 2, : size[1] // 2]
            ).any()

    def test_what_the_decoder_still_needs_is_not_painted_over(self, tmp_path, negative):
        """Of H.264 a frame is predicted from those before: they must stay as they were decoded."""
        clip = make_clip(tmp_path / "a.mp4", frames=30, options={"g": "30", "refs": "3"})
        deblur_video(clip, tmp_path / "out.mp4", negative, VideoSettings(crf=0))
        for one, other in zip(planes_of(clip), planes_of(tmp_path / "out.mp4"), strict=True):
            np.testing.assert_array_equal(one[0][24:], other[0][24:])
            np.testing.assert_array_equal(one[0][:, 32:], other[0][:, 32:])
            np.testing.assert_array_equal(one[1][12:], other[1][12:])

    def test_a_frame_of_which_nothing_is_restored_is_the_sources(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=5)
        nothing = np.zeros((48, 64), bool)
        done = deblur_video(clip, tmp_path / "out.mkv", negative, mask=nothing)
        assert (done.coverage, done.restored_frames) == (0, 0)
        assert str(planes_of(clip)) == str(planes_of(tmp_path / "out.mkv"))
        assert packets_of(clip)[0] == packets_of(tmp_path / "out.mkv")[0]

    def test_ten_bits_are_not_made_eight(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4", pix_fmt="yuv420p10le")
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert stream_of(tmp_path / "out.mp4") == stream_of(clip)
        assert (negative.shown[0] * 255 % 1 > 0.01).any()
        low_bits = np.unique(planes_of(tmp_path / "out.mp4")[3][0] % 4)
        assert len(low_bits) == 4

    @pytest.mark.parametrize(
        ("codec", "options", "title"),
        [
            ("libx264", {}, "h264"),
            ("libx265", {"x265-params": "log-level=none"}, "hevc"),
            ("libvpx-vp9", {"deadline": "realtime"}, "vp9"),
            ("libsvtav1", {"preset": "12"}, "av1"),
        ],
    )
    def test_by_default_encoding_again_changes_little(
        self, tmp_path, negative, capfd, monkeypatch, codec, options, title
    ):
        monkeypatch.setenv("SVT_LOG", "1")
        clip = make_clip(
            tmp_path / "a.mp4", size=(64, 64), codec=codec, options=options, frames=10, sound=None
        )
        monkeypatch.delenv("SVT_LOG")
        capfd.readouterr()
        nothing = np.zeros((64, 64), bool)
        done = deblur_video(clip, tmp_path / "out.mp4", negative, mask=nothing)
        assert done.codec == title
        assert capfd.readouterr() == ("", "")
        assert "SVT_LOG" not in os.environ
        assert times_of(tmp_path / "out.mp4") == times_of(clip)
        pairs = zip(planes_of(clip), planes_of(tmp_path / "out.mp4"), strict=True)
        error = np.mean([np.mean((a[0] - b[0].astype(float)) ** 2) for a, b in pairs])
        # A photo reaches 42 dB; this clip, which is smooth, much more.
        assert 10 * np.log10(255**2 / error) > 42


@pytest.mark.skipif(not hasattr(os, "sched_getscheduler"), reason="no such scheduling here")
def test_an_encoder_does_not_put_itself_before_all_else(tmp_path, monkeypatch, negative):
    """SVT-AV1's would, for root: every thread in real time, and what is started later too."""
    seen = []

    def watched(self, image, **given):
        seen.append({*policies().values()})
        return restored(self, image, **given)

    restored = type(negative).__call__
    monkeypatch.setattr(type(negative), "__call__", watched)
    monkeypatch.setenv("SVT_LOG", "1")
    clip = make_clip(
        tmp_path / "a.mp4", size=(64, 64), codec="libsvtav1", options={"preset": "12"}, frames=3
    )
    before = {os.sched_getscheduler(0)}
    done = deblur_video(clip, tmp_path / "out.mp4", negative)
    assert done.codec == "av1"
    assert seen == [before] * 3
    assert {os.sched_getscheduler(0)} == before


class TestWholeOrNotAtAll:
    def test_in_place(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4")
        times, sound = times_of(clip), packets_of(clip)[1]
        with pytest.raises(UsageError, match="existing file"):
            deblur_video(clip, clip, negative)
        deblur_video(clip, clip, negative, VideoSettings(overwrite=True))
        assert (times_of(clip), packets_of(clip)[1]) == (times, sound)
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]

    @pytest.mark.parametrize("error", [KeyboardInterrupt, MemoryError, VideoError("no")])
    def test_an_error_in_the_middle_leaves_all_as_it_was(self, tmp_path, negative, error):
        clip = make_clip(tmp_path / "a.mp4", frames=100)
        (tmp_path / "out.mp4").write_text("precious")

        def stop(done):
            if done == 90:
                raise error

        with pytest.raises(error if isinstance(error, type) else type(error)):
            deblur_video(
                clip, tmp_path / "out.mp4", negative, VideoSettings(overwrite=True), progress=stop
            )
        assert (tmp_path / "out.mp4").read_text() == "precious"
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.mp4", "out.mp4"]

    @pytest.mark.parametrize(
        ("name", "options"), [("a.mkv", {}), ("a.mp4", {"movflags": "faststart"})]
    )
    def test_a_source_that_ends_early_is_refused_before_any_frame(
        self, tmp_path, negative, name, options
    ):
        clip = make_clip(tmp_path / name, frames=100, container_options=options)
        clip.write_bytes(clip.read_bytes()[: clip.stat().st_size // 2])
        done = []
        with pytest.raises(VideoError, match=r"cut off|damaged"):
            deblur_video(clip, tmp_path / f"out{clip.suffix}", negative, progress=done.append)
        assert [path.name for path in tmp_path.iterdir()] == [name]
        assert not done

    def test_reordered_frames_in_avi_are_told_with_a_way_out(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.avi", time_base=Fraction(1, 10), sound=None)
        with pytest.raises(VideoError, match=r"B-frames.*ffmpeg -fflags \+genpts -i IN\.avi"):
            deblur_video(clip, tmp_path / "out.mp4", negative)

    @pytest.mark.skipif(sys.platform == "win32", reason="it has no limit on a file's size")
    def test_a_full_disk_is_told_and_leaves_nothing(self, tmp_path):
        """In a process of its own, whose files may hold 20,000 bytes."""
        make_clip(tmp_path / "a.mp4", frames=100)
        program = (
            "import resource, signal, sys\n"
            "from m2a.cli import main\n"
            "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
            "resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
            "main(['run', 'a.mp4', '-o', 'out.mp4', '--crf', '0'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert done.stderr.splitlines()[-1] == "m2a: out.mp4: cannot be written: File too large"
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]

    @pytest.mark.parametrize("name", ["größe 写真.mp4", "-o.mp4", "%03d.mkv", "a:b.mkv"])
    def test_odd_names(self, tmp_path, negative, name, monkeypatch):
        monkeypatch.chdir(tmp_path)
        clip = make_clip(tmp_path / "a.mp4", frames=3)
        deblur_video(clip, Path(name), negative)
        assert len(times_of(tmp_path / name)) == 3


@pytest.mark.skipif(sys.platform != "linux", reason="what it reports differs")
def test_memory_does_not_grow_with_the_length(tmp_path):
    """In a process of its own: what 400 frames need more than 100; raw they would be 35 MB more."""
    program = (
        "import resource, sys\n"
        f"sys.path[:0] = [{str(Path(__file__).parent)!r}]\n"
        "from pathlib import Path\n"
        "import numpy as np\n"
        "from conftest import Negative\n"
        "from m2a.runtime.video.deblur import deblur_video\n"
        "peak, deblurrer = {}, Negative(np.zeros((240, 320), bool))\n"
        "def note(done):\n"
        "    deblurrer.shown.clear()\n"
        "    peak[done] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "deblur_video(Path('a.mp4'), Path('out.mp4'), deblurrer, progress=note)\n"
        "sys.stdout.write(str(peak[400] - peak[100]))"
    )
    make_clip(tmp_path / "a.mp4", frames=400, size=(240, 320), sound=None)
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert int(done.stdout) < 15_000  # KiB


def test_stages_are_timed_and_progress_is_told(tmp_path, negative):
    clip = make_clip(tmp_path / "a.mp4", frames=5)
    told = []
    done = deblur_video(probe(clip), tmp_path / "out.mp4", negative, progress=told.append)
    assert told == [1, 2, 3, 4, 5]
    assert set(done.seconds) == {"decode", "to RGB", "restore", "from RGB", "encode"}
    assert done.seconds["restore"] == 5 * 0.25
    assert done.coverage == pytest.approx(0.25)
    assert (done.restored_frames, done.backend) == (5, "none")
