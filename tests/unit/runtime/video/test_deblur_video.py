"""A video comes back with all that was in it, but for what was restored."""

from __future__ import annotations

import io
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from clips import (
    duration_of,
    make_clip,
    matrix_of,
    packets_of,
    pictures_of,
    planes_of,
    stream_of,
    times_of,
)
from PIL import Image

from m2a.errors import UsageError, VideoError
from m2a.runtime import load
from m2a.runtime.video import target
from m2a.runtime.video.colour import coding_of
from m2a.runtime.video.deblur import deblur_video
from m2a.runtime.video.footage import probe
from m2a.runtime.video.target import VideoSettings

UNIT = 1 << 16
TURNS = {
    0: (UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30),
    1: (0, -UNIT, 0, UNIT, 0, 0, 0, 0, 1 << 30),
    2: (-UNIT, 0, 0, 0, -UNIT, 0, 0, 0, 1 << 30),
    3: (0, UNIT, 0, -UNIT, 0, 0, 0, 0, 1 << 30),
}
TAGS = {"title": "The street", "comment": "c", "com.apple.quicktime.make": "A maker"}
MIRRORED = (-UNIT, 0, 0, 0, UNIT, 0, 0, 0, 1 << 30)


def begins_of(path):
    return [begin for begin, _ in times_of(path)]


def streams(path):
    with av.open(path) as container:
        return [
            (s.type, s.name, int(s.disposition), s.metadata.get("title")) for s in container.streams
        ]


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


class TestTimes:
    @pytest.mark.parametrize(
        ("name", "times", "time_base"),
        [
            ("a.mp4", [0, 1280, 1300, 4000, 9000, 9001, 20000], Fraction(1, 12800)),
            ("a.mov", [5000, 5001, 5003, 9000, 9100, 30000], Fraction(1, 90000)),
            ("a.mp4", [0, 1001, 2002, 4004, 5005, 6006], Fraction(1, 30000)),
            ("a.mkv", [0, 100, 103, 500, 501, 900], Fraction(1, 1000)),
        ],
    )
    @pytest.mark.parametrize("reordered", [True, False])
    def test_of_a_variable_frame_rate_are_exact(
        self, tmp_path, negative, name, times, time_base, reordered
    ):
        unit = {} if name == "a.mkv" else {"movie_timescale": str(time_base.denominator)}
        clip = make_clip(
            tmp_path / name,
            times=times,
            time_base=time_base,
            container_options=unit,
            options={"bf": "2" if reordered else "0"},
        )
        out = tmp_path / f"out-{name}"
        done = deblur_video(clip, out, negative)
        assert begins_of(clip) == [time * time_base for time in times]
        assert begins_of(out) == begins_of(clip)
        assert stream_of(out)["time_base"] == stream_of(clip)["time_base"]
        assert packets_of(out)[1] == packets_of(clip)[1]
        # Matroska states no durations; MP4's, of frames in another order, are between others.
        if name != "a.mkv" and not reordered:
            assert stream_of(out)["duration"] == stream_of(clip)["duration"]
            begin, duration = times_of(clip)[-1]
            assert done.duration == pytest.approx(float(begin + duration - begins_of(clip)[0]))

    def test_into_matroska_are_rounded_to_milliseconds_and_stay_beside_the_sound(
        self, tmp_path, negative
    ):
        times = [0, 1281, 1999, 4000, 9000, 20000]
        clip = make_clip(tmp_path / "a.mp4", times=times)
        out = tmp_path / "out.mkv"
        deblur_video(clip, out, negative)
        # All times move alike: the sound begins before 0, which Matroska cannot say.
        moved = packets_of(out)[1][0][0] - packets_of(clip)[1][0][0]
        for (before, _), (after, _) in zip(times_of(clip), times_of(out), strict=True):
            assert abs(after - before - moved) <= Fraction(1, 1000)
        assert [p[1] for p in packets_of(out)[1]] == [p[1] for p in packets_of(clip)[1]]

    def test_of_what_an_edit_list_cuts_nothing_comes_back(self, tmp_path, negative):
        """Frames before the cut are decoded, not shown: so in the source, so in the output."""
        clip = make_clip(tmp_path / "a.mp4", sound=None, options={"g": "30", "bf": "0"})
        content = bytearray(clip.read_bytes())
        place = content.index(b"elst") + 12  # version, flags, count, then duration and media time
        content[place + 4 : place + 8] = (5 * 1280).to_bytes(4, "big")
        clip.write_bytes(content)
        shown = times_of(clip)
        assert 0 < len(shown) < 20
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert times_of(tmp_path / "out.mp4") == shown


class TestTurned:
    @pytest.mark.parametrize("turns", TURNS)
    @pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
    def test_it_is_shown_the_same_way_up(self, tmp_path, negative, name, turns):
        clip = make_clip(tmp_path / name, matrix=TURNS[turns], frames=3)
        deblur_video(clip, tmp_path / f"out-{name}", negative)
        assert matrix_of(tmp_path / f"out-{name}") == matrix_of(clip)
        assert stream_of(tmp_path / f"out-{name}")["size"] == (48, 64)

    def test_a_mirrored_one_too(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4", matrix=MIRRORED, frames=3)
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert matrix_of(tmp_path / "out.mp4") == matrix_of(clip) == MIRRORED

    @pytest.mark.parametrize("turns", TURNS)
    def test_the_network_sees_it_as_it_is_shown(self, tmp_path, negative, turns):
        """And what it restores comes back to the same place."""
        clip = make_clip(
            tmp_path / "a.mkv", codec="ffv1", pix_fmt="yuv444p", matrix=TURNS[turns], frames=1
        )
        deblur_video(clip, tmp_path / "out.mkv", negative)
        (before,), (after,) = pictures_of(clip), pictures_of(tmp_path / "out.mkv")
        shown = np.rot90(before, turns)
        assert negative.shown[0].shape == shown.shape
        # swscale's RGB of 8 bits, and its matrix where none is stated, which is BT.601 as ours.
        assert np.abs(negative.shown[0] * 255 - shown).max() < 1.1
        moved = (np.abs(np.rot90(after, turns).astype(int) - shown) > 8).any(axis=2)
        height, width = shown.shape[:2]
        assert moved[: height // 2, : width // 2].mean() > 0.9
        moved[: height // 2, : width // 2] = False
        assert not moved.any()

    def test_a_given_mask_is_of_what_is_shown(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4", matrix=TURNS[1], frames=2)
        deblur_video(clip, tmp_path / "out.mp4", negative, mask=np.ones((64, 48), bool))
        with pytest.raises(UsageError, match=r"expected bool\[64, 48\]"):
            deblur_video(clip, tmp_path / "no.mp4", negative, mask=np.ones((48, 64), bool))


class TestAllElse:
    @pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv"])
    def test_tags_chapters_colours_and_aspect_are_kept(self, tmp_path, negative, name):
        options = {"movflags": "use_metadata_tags"} if name != "a.mkv" else {}
        clip = make_clip(
            tmp_path / name,
            tags=TAGS,
            chapters=True,
            aspect=Fraction(4, 3),
            container_options=options,
            colour={"color_range": 1, "colorspace": 6, "color_primaries": 6, "color_trc": 1},
        )
        out = tmp_path / f"out-{name}"
        notes = []
        deblur_video(clip, out, negative, note=notes.append)
        assert notes == []
        assert stream_of(out) == stream_of(clip)
        assert stream_of(out)["colour"] == (1, 6, 6, 1)
        assert stream_of(out, "audio")["language"] == "fra"
        with av.open(clip) as one, av.open(out) as other:
            assert other.metadata == one.metadata
            assert {k.lower(): v for k, v in other.metadata.items()}.items() >= TAGS.items()
            found = [
                [
                    (c["start"] * c["time_base"], c["end"] * c["time_base"], c["metadata"])
                    for c in container.chapters()
                ]
                for container in (one, other)
            ]
            assert found[0] == found[1]
            assert found[0][1] == (0.5, 1, {"title": "part 1"})

    def test_tags_are_stripped_but_for_languages(self, tmp_path, negative):
        clip = make_clip(
            tmp_path / "a.mp4", tags=TAGS, container_options={"movflags": "use_metadata_tags"}
        )
        deblur_video(clip, tmp_path / "out.mp4", negative, VideoSettings(strip_metadata=True))
        content = (tmp_path / "out.mp4").read_bytes()
        assert all(word.encode() in clip.read_bytes() for word in ("The street", "A maker"))
        assert not any(word.encode() in content for word in ("The street", "A maker"))
        assert stream_of(tmp_path / "out.mp4", "audio")["language"] == "fra"

    def test_full_range_stays_full(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mp4", pix_fmt="yuvj420p", colour={"color_range": 2})
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert stream_of(tmp_path / "out.mp4") == stream_of(clip)
        assert stream_of(clip)["colour"][0] == 2

    def test_the_timecode_is_kept_once(self, tmp_path, negative):
        clip = make_clip(tmp_path / "a.mov", tags={"timecode": "01:00:00:00"})
        notes = []
        deblur_video(clip, tmp_path / "out.mov", negative, note=notes.append)
        assert notes == []
        with av.open(clip) as one, av.open(tmp_path / "out.mov") as other:
            assert [s.metadata.get("timecode") for s in other.streams] == [
                s.metadata.get("timecode") for s in one.streams
            ]
            assert one.streams[2].metadata["timecode"]

    @pytest.fixture
    def rich_clip(self, tmp_path):
        """Two sounds, subtitles and a font, of which the second sound has a title."""
        plain = make_clip(tmp_path / "plain.mkv")
        path = tmp_path / "rich.mkv"
        with av.open(plain) as source, av.open(path, "w") as out:
            video, sound = source.streams
            copies = {0: [out.add_stream_from_template(video, opaque=True)]}
            copies[1] = [out.add_stream_from_template(sound, opaque=True) for _ in range(2)]
            copies[1][1].metadata["title"] = "Comments"
            copies[1][1].disposition = av.stream.Disposition.comment
            subtitles = out.add_mux_stream("subrip")
            subtitles.time_base = Fraction(1, 1000)
            out.add_attachment("letters.ttf", "font/ttf", b"font" * 100)
            out.start_encoding()
            for text, begin in (("Hello", 100), ("there", 900)):
                packet = av.Packet(text.encode())
                packet.stream, packet.time_base = subtitles, Fraction(1, 1000)
                packet.pts = packet.dts = begin
                packet.duration = 500
                out.mux(packet)
            for packet in source.demux():
                data = bytes(packet)
                for copy in copies[packet.stream_index] if data else []:
                    again = av.Packet(data)
                    again.time_base, again.pts, again.dts = packet.time_base, packet.pts, packet.dts
                    again.duration, again.is_keyframe = packet.duration, packet.is_keyframe
                    again.stream = copy
                    out.mux(again)
        return path

    def test_other_streams_are_handed_on_untouched(self, tmp_path, negative, rich_clip):
        out = tmp_path / "out.mkv"
        notes = []
        deblur_video(rich_clip, out, negative, note=notes.append)
        assert notes == []
        assert streams(out) == streams(rich_clip)
        assert [kind for kind, *_ in streams(out)] == [
            "video",
            "audio",
            "audio",
            "subtitle",
            "attachment",
        ]
        before, after = packets_of(rich_clip), packets_of(out)
        assert [text for _, text in after[3]] == [b"Hello", b"there"]
        for index in (1, 2, 3):
            assert after[index] == before[index]
        with av.open(out) as container:
            assert container.streams[4].data == b"font" * 100

    def test_what_cannot_be_heard_or_read_any_more_is_an_error(self, tmp_path, negative, rich_clip):
        before = sorted(tmp_path.iterdir())
        with pytest.raises(UsageError, match=r"out\.mp4: found subtitle \(subrip\)"):
            deblur_video(rich_clip, tmp_path / "out.mp4", negative)
        clip = make_clip(tmp_path / "a.mp4")
        with pytest.raises(UsageError, match=r"out\.webm: found audio \(aac\)"):
            deblur_video(clip, tmp_path / "out.webm", negative)
        assert sorted(tmp_path.iterdir()) == [tmp_path / "a.mp4", *before]

    def test_a_cover_is_kept(self, tmp_path, negative):
        plain = make_clip(tmp_path / "plain.mp4")
        cover = io.BytesIO()
        Image.new("RGB", (32, 32), (200, 10, 10)).save(cover, "PNG")
        clip = tmp_path / "a.mp4"
        with av.open(plain) as source, av.open(clip, "w") as out:
            picture = out.add_mux_stream("png", width=32, height=32)
            picture.disposition = av.stream.Disposition.attached_pic
            picture.time_base = Fraction(1, 90000)
            copies = [out.add_stream_from_template(s, opaque=True) for s in source.streams]
            out.start_encoding()
            packet = av.Packet(cover.getvalue())
            packet.stream, packet.pts, packet.dts = picture, 0, 0
            packet.time_base = Fraction(1, 90000)
            out.mux(packet)
            for packet in source.demux():
                if packet.size:
                    packet.stream = copies[packet.stream_index]
                    out.mux(packet)
        deblur_video(clip, tmp_path / "out.mp4", negative)
        assert streams(tmp_path / "out.mp4") == streams(clip)
        index = next(
            n for n, (*_, disposition, _) in enumerate(streams(clip)) if disposition & 1024
        )
        for path in (clip, tmp_path / "out.mp4"):
            assert [data for _, data in packets_of(path)[index]] == [cover.getvalue()]


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
