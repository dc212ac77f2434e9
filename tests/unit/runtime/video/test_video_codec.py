"""What a video is encoded as."""

from __future__ import annotations

from fractions import Fraction

import pytest
from clips import (
    make_clip,
    stream_of,
    times_of,
)

from m2a.errors import UsageError
from m2a.runtime.video import target
from m2a.runtime.video.deblur import deblur_video
from m2a.runtime.video.target import VideoSettings


class TestCodec:
    def test_without_an_encoder_it_becomes_h264_and_is_said(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.avi", codec="mpeg4", time_base=Fraction(1, 10), sound=None)
        notes = []
        done = deblur_video(clip, tmp_path / "out.mp4", negative, note=notes.append)
        assert done.codec == stream_of(tmp_path / "out.mp4")["codec"] == "h264"
        assert notes == [f"{tmp_path / 'out.mp4'}: the pictures are H.264, not mpeg4"]
        assert times_of(tmp_path / "out.mp4") == times_of(clip)

    def test_in_webm_vp9(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4", sound=None, frames=5)
        assert deblur_video(clip, tmp_path / "out.webm", negative).codec == "vp9"

    def test_hevc_has_the_tag_that_all_players_take(self, tmp_path, negative):
        options = {"x265-params": "log-level=none"}
        clip = make_clip(tmp_path / "a.mp4", codec="libx265", options=options, frames=5)
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert stream_of(tmp_path / "out.mp4")["tag"] == "hvc1"

    def test_a_container_without_an_encoder_for_the_format_is_refused(self, tmp_path, negative):
        clip = make_clip(
            tmp_path / "a.mov", codec="mjpeg", pix_fmt="yuvj422p", sound=None, frames=3
        )
        with pytest.raises(UsageError, match="yuvj422p"):
            deblur_video(clip, tmp_path / "out.webm", negative)
        assert not (tmp_path / "out.webm").exists()

    def test_a_better_factor_is_larger(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4")
        sizes = []
        for crf in (40, 16, 1):
            deblur_video(clip, tmp_path / f"{crf}.mp4", negative, VideoSettings(crf=crf))
            sizes.append((tmp_path / f"{crf}.mp4").stat().st_size)
        assert sizes == sorted(set(sizes))

    @pytest.mark.parametrize("crf", [-1, 52])
    def test_a_factor_out_of_range_is_refused(self, tmp_path, negative, crf, unopened):
        clip = make_clip(tmp_path / "a.mp4")
        with pytest.raises(UsageError, match=f"--crf: found {crf}, expected 0 .* 51"):
            deblur_video(clip, tmp_path / "out.mp4", negative, VideoSettings(crf=crf))
        assert [path.name for path in tmp_path.iterdir()] == ["a.mp4"]

    def test_a_factor_for_what_is_lossless_is_refused(self, tmp_path, negative, unopened):
        clip = make_clip(tmp_path / "a.mkv", codec="ffv1", frames=3)
        with pytest.raises(UsageError, match="--crf: found 20, expected none: FFV1 is lossless"):
            deblur_video(clip, tmp_path / "out.mkv", negative, VideoSettings(crf=20))

    @pytest.fixture
    def unopened(self, monkeypatch):
        """What is refused has not begun a file."""

        def refuse(*_, **__):
            pytest.fail("the output was opened")

        monkeypatch.setattr(target, "atomic_file", refuse)
