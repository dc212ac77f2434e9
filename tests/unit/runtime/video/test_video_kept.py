"""What else was in a video is kept: times, orientation, tags, sound and all other streams."""

from __future__ import annotations

import io
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import (
    make_clip,
    matrix_of,
    packets_of,
    pictures_of,
    stream_of,
    times_of,
)
from PIL import Image

from m2a.errors import UsageError
from m2a.runtime.video.deblur import deblur_video
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
