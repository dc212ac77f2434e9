"""Reading a video: what it is, checked before any work, then its packets and frames in their order.

A file is only read as one of a few containers, and nothing that it names is followed: a playlist in
disguise cannot reach other files or the network.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction
from numbers import Rational
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from m2a.errors import VideoError
from m2a.runtime.decoding import MAX_PIXELS
from m2a.runtime.video.colour import Coding, Plane, coding_of
from m2a.runtime.video.pyav import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = ["Footage", "Source", "open_source", "planes_of", "probe"]

_DEMUXERS = "mov,matroska,avi"

_TRANSFER_HDR = {16: "PQ (SMPTE 2084)", 18: "HLG (ARIB STD-B67)"}
"""Transfer characteristics as in H.273 that need a display of high dynamic range."""

_UNIT = 1 << 16
_TURNS: dict[tuple[int, ...], int] = {
    (_UNIT, 0, 0, _UNIT): 0,
    (0, -_UNIT, _UNIT, 0): 1,
    (-_UNIT, 0, 0, -_UNIT): 2,
    (0, _UNIT, -_UNIT, 0): 3,
}
"""The display matrix's rotation → quarter turns counter-clockwise from a frame to what is shown."""

_SLACK = 1.0
"""Seconds by which packets may end before the duration that the header states: some are rounded
up, or count what an edit list cuts."""


@dataclass(frozen=True, kw_only=True)
class Footage:
    """What the file says of its pictures and the first of them shows.

    Attributes:
        path: the file.
        codec: FFmpeg's name of the codec, such as "h264".
        pix_fmt: FFmpeg's name of the pixel format.
        width: of a frame as it is stored.
        height: likewise.
        coding: how RGB is coded in the samples.
        time_base: the unit of time stamps, in seconds.
        rate: frames per second, a mean where it varies; None if unknown.
        sample_aspect_ratio: width / height of a pixel; None if unknown.
        colour_tags: range, matrix, primaries and transfer, as FFmpeg numbers them.
        display_matrix: the nine numbers that turn a frame to what is shown; None if there is none.
        turns: quarter turns counter-clockwise to what is shown; 0 too where the matrix mirrors
            or turns by another angle.
        frames: how many there should be: exact, estimated from the duration, or None if unknown.
        seconds: the duration that the header states; None if it does not.
    """

    path: Path
    codec: str
    pix_fmt: str
    width: int
    height: int
    coding: Coding
    time_base: Fraction
    rate: Fraction | None
    sample_aspect_ratio: Fraction | None
    colour_tags: tuple[int, int, int, int]
    display_matrix: tuple[int, ...] | None
    turns: int
    frames: int | None
    seconds: float | None

    @property
    def shown_size(self) -> tuple[int, int]:
        """(H, W) of a frame as it is shown."""
        stored = (self.height, self.width)
        return stored[::-1] if self.turns % 2 else stored


def probe(path: Path) -> Footage:
    """Looks into a video as far as its first frame.

    Raises:
        VideoError: the file is missing, damaged, no video, too large or not supported.
    """
    with _opened(path) as container:
        stream = _pictures(container, path)
        _check_stream(stream, path)
        with _told(path):
            first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: found no frame, expected a video; it may be damaged")
        _check_frame(first, path)
        return _footage(container, stream, first, path)


@contextlib.contextmanager
def open_source(footage: Footage) -> Iterator[Source]:
    """Opens a probed video for reading.

    Raises:
        VideoError: the file cannot be read any more.
    """
    with _opened(footage.path) as container:
        yield Source(container, footage)


class Source:
    """A video that is being read; made by `open_source`.

    Attributes:
        container: PyAV's, whose streams, tags and chapters are to be handed on.
        stream: the pictures that are deblurred.
        end: when the last frame that was read ends, in units of the footage's `time_base`.
    """

    def __init__(self, container: InputContainer, footage: Footage) -> None:
        self.container = container
        self.stream = _pictures(container, footage.path)
        self.end = 0
        self._reordering: int | None = None
        self._footage = footage
        self._last: int | None = None

    def read(self) -> Iterator[tuple[Packet, list[VideoFrame]]]:
        """Yields the packets of all streams as they lie in the file.

        Packets of other streams come with no frames and are to be handed on; one of the pictures'
        comes with the frames that can be decoded by then, in the order in which they are shown.

        Raises:
            VideoError: data are damaged or end early; a frame differs in size or format from
                the first one, is interlaced, or has no time stamp after that of the one before.
        """
        packets, end = 0, 0.0
        self.stream.thread_type = "AUTO"
        with self._told():
            for packet in self.container.demux():
                if packet.size == 0 and packet.dts is None:  # the end: decoders hand out the rest
                    if packet.stream is self.stream:
                        yield packet, list(self._frames(packet))
                    continue
                end = max(end, _end_of(packet))
                if packet.stream is not self.stream:
                    yield packet, []
                    continue
                packets += 1
                self._note_end(packet)
                yield packet, list(self._frames(packet))
        self._check_end(packets, end)

    def _frames(self, packet: Packet) -> Iterator[VideoFrame]:
        footage = self._footage
        for frame in self.stream.decode(packet):
            place = f"{footage.path}: at {_clock(frame)}"
            _check_frame(frame, footage.path)
            if (frame.width, frame.height) != (footage.width, footage.height):
                raise VideoError(
                    f"{place}: found a frame of {frame.width}x{frame.height}, expected "
                    f"{footage.width}x{footage.height} as the frames before"
                )
            if frame.format.name != footage.pix_fmt:
                raise VideoError(
                    f"{place}: found a frame in {frame.format.name}, expected {footage.pix_fmt} "
                    "as the frames before"
                )
            if frame.pts is None or (self._last is not None and frame.pts <= self._last):
                found = "no time stamp" if frame.pts is None else "a time stamp that goes back"
                raise VideoError(f"{place}: found {found}, expected one that increases")
            self._last = frame.pts
            yield frame

    def _note_end(self, packet: Packet) -> None:
        if packet.dts is not None and packet.pts is not None and not packet.is_discard:
            if self._reordering is None:
                self._reordering = packet.pts - packet.dts
            # In MP4 durations add up in the order of decoding: a packet's is not its frame's.
            begin = packet.dts + self._reordering if _is_mov(self.container) else packet.pts
            self.end = max(self.end, begin + (packet.duration or 0))

    @contextlib.contextmanager
    def _told(self) -> Iterator[None]:
        """Around reading on: what FFmpeg raises is told with the place."""
        try:
            yield
        except av.error.FFmpegError as error:
            path, last = self._footage.path, self._last
            seconds = 0.0 if last is None else float(last * self._footage.time_base)
            damaged = isinstance(error, av.error.InvalidDataError)
            found = "damaged data" if damaged else f"no more data ({error.strerror})"
            raise VideoError(
                f"{path}: found {found} after {seconds:.3f} s, expected frames"
            ) from error

    def _check_end(self, packets: int, end: float) -> None:
        """Tells a file that was cut off, which demuxers pass over, from one that ends."""
        path, seconds = self._footage.path, self._footage.seconds
        promised = _promised_packets(self.container, self.stream)
        if promised is not None and packets < promised:
            raise VideoError(
                f"{path}: found {packets} of the {promised} frames that its index lists; the file "
                "is cut off or damaged"
            )
        if seconds is not None and end < seconds - _SLACK:
            raise VideoError(
                f"{path}: found {end:.1f} of the {seconds:.1f} seconds that its header states; the "
                "file is cut off or damaged"
            )


def planes_of(frame: VideoFrame, coding: Coding) -> list[Plane]:
    """The samples of a frame, as views that can be written to if the frame is writable."""
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, coding.dtype).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width])
    return planes


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[InputContainer]:
    try:
        if not path.exists():
            raise VideoError(f"{path}: found no such file, expected a video")
        if not path.is_file():
            found = "a folder" if path.is_dir() else "something that is not a regular file"
            raise VideoError(f"{path}: found {found}, expected a video")
    except OSError as error:
        raise VideoError(f"{path}: cannot be read: {error.strerror}") from error
    with _told(path):
        container = av.open(
            # Without the protocol's name, one could be read out of the file's.
            f"file:{path}",
            options={"format_whitelist": _DEMUXERS, "protocol_whitelist": "file"},
            metadata_errors="surrogateescape",
        )
    with container:
        yield container


@contextlib.contextmanager
def _told(path: Path) -> Iterator[None]:
    """Around FFmpeg's work on a file: what it raises is told with the file's name."""
    try:
        yield
    except av.error.InvalidDataError as error:
        raise VideoError(
            f"{path}: found no video, or a damaged or cut-off one; expected MP4, MOV, Matroska, "
            "WebM or AVI"
        ) from error
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: cannot be read as a video: {error.strerror}") from error


def _pictures(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not a cover."""
    cover = av.stream.Disposition.attached_pic
    moving = (s for s in container.streams.video if not s.disposition & cover)
    stream = next(moving, None)
    if stream is None:
        kinds = ", ".join(dict.fromkeys(s.type for s in container.streams)) or "nothing"
        raise VideoError(f"{path}: found no video stream but {kinds}, expected one")
    return stream


def _check_stream(stream: VideoStream, path: Path) -> None:
    """Refuses by the header what is too large or not supported."""
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{path}: found a video codec without a decoder, expected another one")
    if context.width * context.height > MAX_PIXELS:
        raise VideoError(
            f"{path}: found frames of {context.width}x{context.height}, expected at most "
            f"{MAX_PIXELS} pixels"
        )
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        raise VideoError(
            f"{path}: found an alpha channel, which would be lost; expected a video without"
        )


def _check_frame(frame: VideoFrame, path: Path) -> None:
    if frame.is_corrupt:
        raise VideoError(f"{path}: at {_clock(frame)}: found a damaged frame; the file is damaged")
    if frame.interlaced_frame:
        raise VideoError(
            f"{path}: at {_clock(frame)}: found an interlaced frame, expected progressive video; "
            "deinterlace it first"
        )
    if frame.color_trc in _TRANSFER_HDR:
        raise VideoError(
            f"{path}: found HDR, {_TRANSFER_HDR[frame.color_trc]}, expected video of standard "
            "dynamic range; the network has not learnt HDR"
        )


def _footage(
    container: InputContainer, stream: VideoStream, first: VideoFrame, path: Path
) -> Footage:
    time_base = _fraction(stream.time_base)
    if time_base is None:
        raise VideoError(f"{path}: found a video without a unit of time, expected one")
    seconds = _promised_seconds(container, stream)
    rate = _fraction(stream.average_rate) or _fraction(stream.guessed_rate)
    frames = _promised_packets(container, stream) or stream.frames or None
    if frames is None and seconds and rate:
        frames = round(seconds * rate)
    matrix = _display_matrix(first)
    return Footage(
        path=path,
        codec=stream.codec_context.codec.canonical_name,
        pix_fmt=first.format.name,
        width=first.width,
        height=first.height,
        coding=coding_of(
            pix_fmt=first.format.name,
            matrix=first.colorspace,
            colour_range=first.color_range,
            size=(first.height, first.width),
            origin=str(path),
        ),
        time_base=time_base,
        rate=rate,
        sample_aspect_ratio=_fraction(stream.sample_aspect_ratio),
        colour_tags=(
            first.color_range,
            first.colorspace,
            first.color_primaries,
            first.color_trc,
        ),
        display_matrix=matrix,
        turns=0 if matrix is None else _TURNS.get((*matrix[0:2], *matrix[3:5]), 0),
        frames=frames,
        seconds=seconds,
    )


def _promised_packets(container: InputContainer, stream: VideoStream) -> int | None:
    """The packets of the pictures, where the file lists them one by one, else None."""
    if not _is_mov(container):
        return None
    # Not the number of samples: an edit list leaves some of them out.
    return len(stream.index_entries) or None


def _is_mov(container: InputContainer) -> bool:
    return "mov" in container.format.name.split(",")


def _promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The duration that the header states, else None."""
    seconds = (container.duration or 0) / av.time_base
    if "avi" in container.format.name.split(","):
        # Of a file that was cut off FFmpeg takes the duration from its size.
        seconds = max(seconds, float(stream.frames * stream.time_base))
    return seconds or None


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def _fraction(found: Rational | None) -> Fraction | None:
    """PyAV's rational number, of a type that depends on its version; None for 0 and 0/0."""
    return Fraction(int(found.numerator), int(found.denominator)) if found else None


def _end_of(packet: Packet) -> float:
    begin = packet.dts if packet.pts is None else packet.pts
    return 0.0 if begin is None else float((begin + (packet.duration or 0)) * packet.time_base)


def _clock(frame: VideoFrame) -> str:
    """Where a frame is, for a message."""
    if frame.pts is None or frame.time_base is None:
        return "an unknown time"
    return f"{float(frame.pts * frame.time_base):.3f} s"
