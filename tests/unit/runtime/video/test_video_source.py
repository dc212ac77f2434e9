"""What is read of a video, and what is refused in one line."""

from __future__ import annotations

import subprocess
import sys
from fractions import Fraction

import av
import numpy as np
import pytest
from clips import make_clip

from m2a.errors import VideoError
from m2a.runtime.video.footage import probe
from m2a.runtime.video.source import open_source

QUARTER = (0, -(1 << 16), 0, 1 << 16, 0, 0, 0, 0, 1 << 30)


def read(path):
    with open_source(probe(path)) as source:
        return [frame.pts for _, frames in source.read() for frame in frames]


def test_footage_is_what_was_made(tmp_path):
    path = make_clip(
        tmp_path / "a.mp4",
        frames=12,
        matrix=QUARTER,
        aspect=Fraction(4, 3),
        colour={"color_range": 1, "colorspace": 5, "color_primaries": 6, "color_trc": 1},
    )
    footage = probe(path)
    assert (footage.codec, footage.pix_fmt) == ("h264", "yuv420p")
    assert (footage.height, footage.width) == (48, 64)
    assert footage.shown_size == (64, 48)
    assert footage.time_base == Fraction(1, 12800)
    assert (footage.rate, footage.sample_aspect_ratio) == (10, Fraction(4, 3))
    assert footage.colour_tags == (1, 5, 6, 1)
    assert (footage.display_matrix, footage.turns) == (QUARTER, 1)
    assert (footage.frames, footage.seconds) == (12, 1.2)


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.avi"])
def test_every_frame_is_read_in_the_order_of_time(tmp_path, name):
    codec = "mpeg4" if name.endswith("avi") else "libx264"
    time_base = Fraction(1, 10) if name.endswith("avi") else Fraction(1, 1000)
    sound = None if name.endswith("avi") else "aac"
    times = read(make_clip(tmp_path / name, codec=codec, time_base=time_base, sound=sound))
    assert len(times) == 20
    assert times == sorted(set(times))


@pytest.mark.parametrize("mirror", [(-1, 1), (1, -1)])
def test_a_mirrored_video_is_not_turned(tmp_path, mirror):
    x, y = ((1 << 16) * sign for sign in mirror)
    footage = probe(make_clip(tmp_path / "a.mp4", matrix=(x, 0, 0, 0, y, 0, 0, 0, 1 << 30)))
    assert footage.turns == 0
    assert footage.display_matrix[0] == x


class TestCutOff:
    """Demuxers pass over the missing end in silence."""

    @pytest.mark.parametrize(
        ("name", "options", "words"),
        [
            ("a.mp4", {}, "cut-off"),  # the index lies at the end
            ("a.mp4", {"movflags": "faststart"}, "of the 100 frames that its index lists|damaged"),
            ("a.mkv", {}, "seconds that its header states"),
            ("a.avi", {}, "of the 10.0 seconds that its header states|damaged"),
        ],
        ids=["mp4", "faststart", "mkv", "avi"],
    )
    def test_a_file_that_ends_early_is_told(self, tmp_path, name, options, words):
        avi = name.endswith("avi")
        path = make_clip(
            tmp_path / name,
            frames=100,
            codec="mpeg4" if avi else "libx264",
            time_base=Fraction(1, 10) if avi else Fraction(1, 12800),
            sound=None if avi else "aac",
            container_options=options,
        )
        assert len(read(path)) == 100
        content = path.read_bytes()
        for part in (0.3, 0.8):
            path.write_bytes(content[: int(len(content) * part)])
            with pytest.raises(VideoError, match=words):
                read(path)

    def test_damage_in_the_middle_is_told_with_its_place(self, tmp_path):
        path = make_clip(tmp_path / "a.mp4", frames=100, sound=None)
        content = bytearray(path.read_bytes())
        middle = len(content) // 2
        content[middle : middle + 2000] = bytes(2000)
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"a\.mp4: .*damaged.* \d\.\d+ s"):
            read(path)


class TestEmptySamples:
    """By which some cameras and editors let a picture stay."""

    @pytest.mark.parametrize("empty", [{5}, {4, 5}])
    def test_at_the_end_they_show_the_picture_before(self, tmp_path, empty):
        seconds = 12800
        path = make_clip(
            tmp_path / "a.mp4",
            times=[2 * seconds * index for index in range(6)],
            options={"bf": "0", "g": "1"},
            sound=None,
        )
        content = bytearray(path.read_bytes())
        sizes = content.index(b"stsz") + 16  # after the name, the version and two numbers
        for index in empty:
            content[sizes + 4 * index : sizes + 4 * index + 4] = bytes(4)
        path.write_bytes(content)
        footage = probe(path)
        assert footage.frames == 6 - len(empty)
        with open_source(footage) as source:
            times = [frame.pts for _, frames in source.read() for frame in frames]
            assert times == [2 * seconds * index for index in range(6) if index not in empty]
            assert source.end == 10 * seconds + 1280  # the last one is shown for 0.1 s

    def test_a_decoder_does_not_take_an_empty_packet_for_the_end(self, tmp_path):
        with open_source(probe(make_clip(tmp_path / "a.mkv", frames=8))) as source:
            source.container = WithEmptyPackets(source.container)
            times = [frame.pts for _, frames in source.read() for frame in frames]
        assert len(times) == 8


class WithEmptyPackets:
    """A container of which every packet is followed by an empty one of the same time."""

    def __init__(self, container):
        self._container = container

    def __getattr__(self, name):
        return getattr(self._container, name)

    def demux(self):
        for packet in self._container.demux():
            yield packet
            if packet.size:
                empty = av.Packet()
                empty.stream, empty.time_base = packet.stream, packet.time_base
                empty.pts, empty.dts = packet.pts, 0 if packet.dts is None else packet.dts
                yield empty


class TestRefused:
    def test_hdr(self, tmp_path):
        path = make_clip(tmp_path / "a.mp4", pix_fmt="yuv420p10le", colour={"color_trc": 18})
        with pytest.raises(VideoError, match="HDR, HLG"):
            probe(path)

    def test_interlaced(self, tmp_path):
        path = make_clip(
            tmp_path / "a.mp4", options={"flags": "+ildct+ilme", "x264-params": "tff=1"}
        )
        with pytest.raises(VideoError, match="interlaced"):
            probe(path)

    def test_rgb(self, tmp_path):
        path = make_clip(tmp_path / "a.mkv", codec="ffv1", pix_fmt="bgr0")
        with pytest.raises(VideoError, match="bgr0"):
            probe(path)

    def test_alpha(self, tmp_path):
        path = make_clip(tmp_path / "a.webm", codec="libvpx-vp9", pix_fmt="yuva420p", sound=None)
        with pytest.raises(VideoError, match="alpha"):
            probe(path)

    def test_sound_alone(self, tmp_path):
        path = tmp_path / "a.mp4"
        with av.open(path, "w") as out:
            sound = out.add_stream("aac", rate=8000, layout="mono")
            piece = av.AudioFrame.from_ndarray(
                np.zeros((1, 4000), np.int16), format="s16", layout="mono"
            )
            piece.sample_rate = 8000
            out.mux(sound.encode(piece))
            out.mux(sound.encode(None))
        with pytest.raises(VideoError, match="no video stream but audio"):
            probe(path)

    @pytest.mark.parametrize("content", [b"", b"text", bytes(5000)])
    def test_no_video_at_all(self, tmp_path, content):
        path = tmp_path / "a.mp4"
        path.write_bytes(content)
        with pytest.raises(VideoError, match=r"a\.mp4: found no video"):
            probe(path)

    def test_no_file_and_a_folder(self, tmp_path):
        with pytest.raises(VideoError, match="found no such file"):
            probe(tmp_path / "none.mp4")
        with pytest.raises(VideoError, match="found a folder"):
            probe(tmp_path)

    def test_frames_beyond_the_limit(self, tmp_path):
        path = make_clip(tmp_path / "a.mp4")
        with pytest.raises(VideoError, match="64x48, expected at most 3071 pixels"):
            probe(path, max_pixels=48 * 64 - 1)
        assert probe(path, max_pixels=48 * 64).shown_size == (48, 64)

    def test_a_frame_of_another_size(self, tmp_path):
        """Each frame of Motion JPEG has a size of its own."""
        whole, other = (
            make_clip(
                tmp_path / name, codec="mjpeg", pix_fmt="yuvj420p", size=size, sound=None, frames=3
            )
            for name, size in (("a.mkv", (48, 64)), ("b.mkv", (32, 64)))
        )
        path = tmp_path / "mixed.mkv"
        with av.open(whole) as one, av.open(other) as two, av.open(path, "w") as out:
            stream = out.add_stream_from_template(one.streams.video[0], opaque=True)
            for container, later in ((one, 0), (two, 300)):
                for packet in container.demux():
                    if packet.size:
                        packet.pts += later
                        packet.dts += later
                        packet.stream = stream
                        out.mux(packet)
        with pytest.raises(VideoError, match=r"0\.300 s: found a frame of 64x32, expected 64x48"):
            read(path)

    @pytest.mark.parametrize(
        "content", ["#EXTM3U\n#EXTINF:1,\n{}\n#EXT-X-ENDLIST\n", "ffconcat version 1.0\nfile {}\n"]
    )
    def test_a_playlist_in_disguise_reaches_no_other_file(self, tmp_path, content):
        clip = make_clip(tmp_path / "a.mp4")
        path = tmp_path / "list.mp4"
        path.write_text(content.format(clip.name))
        with pytest.raises(VideoError, match=r"list\.mp4: "):
            probe(path)


@pytest.mark.parametrize("name", ["http:a.mp4", "a b.mp4", "%03d.mp4", "größe 写真.mp4", "-.mp4"])
def test_odd_names_are_names_of_files(tmp_path, name):
    assert probe(make_clip(tmp_path / "plain.mp4").rename(tmp_path / name)).frames == 20


def test_a_missing_pyav_is_named_with_its_extra():
    program = (
        "import sys; sys.modules['av'] = None\n"
        "from m2a.errors import MissingDependencyError\n"
        "try:\n    import m2a.runtime.video.deblur\n"
        "except MissingDependencyError as error:\n    print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert "pip install -e '.[video]'" in done.stdout, done.stderr


def test_tags_that_are_no_unicode_are_read(tmp_path):
    path = make_clip(tmp_path / "a.mkv", tags={"title": "Xabcdefgh"})
    path.write_bytes(path.read_bytes().replace(b"Xabcdefgh", b"X\xff\xfeabcde"[:8] + b"z"))
    with open_source(probe(path)) as source:
        assert source.container.metadata["title"].startswith("X\udcff")


def test_the_content_decides_and_not_the_name(tmp_path):
    made = make_clip(tmp_path / "a.mkv")
    assert len(read(made.rename(tmp_path / "a.mp4"))) == 20
