"""What a video is, by its header and its first frame: checked before any work.

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
from m2a.runtime.decoding import MAX_PIXELS, counted_pixels, told_count
from m2a.runtime.video.colour import SampleCoding, coding_of
from m2a.runtime.video.pyav import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

__all__ = [
    "Footage",
    "check_frame",
    "clock_of",
    "is_avi",
    "is_mov",
    "opened",
    "pictures_of",
    "probe",
    "promised_packets",
]

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
    coding: SampleCoding
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


def probe(path: Path, *, max_pixels: int = MAX_PIXELS) -> Footage:
    """Looks into a video as far as its first frame.

    Args:
        path: the video.
        max_pixels: of a frame, as `counted_pixels` counts them.

    Raises:
        VideoError: the file is missing, damaged, no video, too large or not supported.
    """
    with opened(path) as container:
        stream = pictures_of(container, path)
        _check_stream(stream, path, max_pixels=max_pixels)
        with _told(path):
            first = next(container.decode(stream), None)
        if first is None:
            raise VideoError(f"{path}: found no frame, expected a video; it may be damaged")
        _check_size(first.width, first.height, path, max_pixels=max_pixels)
        check_frame(first, path)
        return _footage(container, stream, first, path)


@contextlib.contextmanager
def opened(path: Path) -> Iterator[InputContainer]:
    """Opens a video, read from nothing but this file.

    Raises:
        VideoError: it is missing or no video.
    """
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


def pictures_of(container: InputContainer, path: Path) -> VideoStream:
    """The first video stream that is not a cover."""
    cover = av.stream.Disposition.attached_pic
    moving = (s for s in container.streams.video if not s.disposition & cover)
    stream = next(moving, None)
    if stream is None:
        kinds = ", ".join(dict.fromkeys(s.type for s in container.streams)) or "nothing"
        raise VideoError(f"{path}: found no video stream but {kinds}, expected one")
    return stream


def _check_stream(stream: VideoStream, path: Path, *, max_pixels: int) -> None:
    """Refuses by the header what is too large or not supported."""
    context = stream.codec_context
    if context is None:
        raise VideoError(f"{path}: found a video codec without a decoder, expected another one")
    _check_size(context.width, context.height, path, max_pixels=max_pixels)
    if stream.metadata.get("alpha_mode", stream.metadata.get("ALPHA_MODE")) == "1":
        raise VideoError(
            f"{path}: found an alpha channel, which would be lost; expected a video without"
        )


def _check_size(width: int, height: int, path: Path, *, max_pixels: int) -> None:
    if counted_pixels(width, height) > max_pixels:
        raise VideoError(
            f"{path}: found frames of {width}x{height}{told_count(width, height)}, expected at "
            f"most {max_pixels} pixels; --max-pixels raises the limit"
        )


def check_frame(frame: VideoFrame, path: Path) -> None:
    """Refuses a frame that is damaged, interlaced or of high dynamic range."""
    if frame.is_corrupt:
        raise VideoError(
            f"{path}: at {clock_of(frame)}: found a damaged frame; the file is damaged"
        )
    if frame.interlaced_frame:
        raise VideoError(
            f"{path}: at {clock_of(frame)}: found an interlaced frame, expected progressive video; "
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
    frames = promised_packets(container, stream) or stream.frames or None
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


def promised_packets(container: InputContainer, stream: VideoStream) -> int | None:
    """The packets of the pictures, where the file lists them one by one, else None."""
    if not is_mov(container):
        return None
    # Not the number of samples: an edit list leaves some of them out. Nor the empty ones, by which
    # the picture before is shown longer: the demuxer passes over them.
    return sum(entry.size > 0 for entry in stream.index_entries) or None


def is_mov(container: InputContainer) -> bool:
    """Whether it is of the family of MP4."""
    return "mov" in container.format.name.split(",")


def is_avi(container: InputContainer) -> bool:
    """Whether it is AVI, which has no time stamps."""
    return "avi" in container.format.name.split(",")


def _promised_seconds(container: InputContainer, stream: VideoStream) -> float | None:
    """The duration that the header states, else None."""
    seconds = (container.duration or 0) / av.time_base
    if is_avi(container):
        # Of a file that was cut off FFmpeg takes the duration from its size.
        seconds = max(seconds, float(stream.frames * stream.time_base))
    return seconds or None


def _display_matrix(frame: VideoFrame) -> tuple[int, ...] | None:
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def _fraction(found: Rational | None) -> Fraction | None:
    """PyAV's rational number, of a type that depends on its version; None for 0 and 0/0."""
    return Fraction(int(found.numerator), int(found.denominator)) if found else None


def clock_of(frame: VideoFrame) -> str:
    """Where a frame is, for a message."""
    if frame.pts is None or frame.time_base is None:
        return "an unknown time"
    return f"{float(frame.pts * frame.time_base):.3f} s"
