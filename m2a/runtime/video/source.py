"""Reading a video: its packets and frames in their order, to its end."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np

from m2a.errors import VideoError
from m2a.runtime.video.colour import Plane, SampleCoding
from m2a.runtime.video.footage import (
    Footage,
    check_frame,
    clock_of,
    is_avi,
    is_mov,
    opened,
    pictures_of,
    promised_packets,
)
from m2a.runtime.video.pyav import av

if TYPE_CHECKING:
    from av.container import InputContainer
    from av.packet import Packet
    from av.video.frame import VideoFrame

__all__ = ["Source", "check_whole", "open_source", "planes_of"]

_SLACK = 1.0
"""Seconds by which packets may end before the duration that the header states: some are rounded
up, or count what an edit list cuts."""


@contextlib.contextmanager
def open_source(footage: Footage) -> Iterator[Source]:
    """Opens a probed video for reading.

    Raises:
        VideoError: the file cannot be read any more.
    """
    with opened(footage.path) as container:
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
        self.stream = pictures_of(container, footage.path)
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
        self.stream.thread_type = "AUTO"
        for packet in self.packets():
            with self._told():
                frames = list(self._frames(packet)) if packet.stream is self.stream else []
            if frames or not _is_flush(packet):
                yield packet, frames

    def packets(self) -> Iterator[Packet]:
        """Yields the packets as they lie in the file, undecoded.

        An empty one at the end of a stream, without a time, lets its decoder hand out the rest.

        Raises:
            VideoError: data are damaged or end early.
        """
        count, end = 0, 0.0
        demuxed = self.container.demux()
        while True:
            with self._told():
                packet = next(demuxed, None)
            if packet is None:
                break
            if _is_flush(packet):
                yield packet
                continue
            end = max(end, _end_of(packet))
            if packet.stream is self.stream:
                self._note_end(packet)
                if packet.size == 0:  # the picture before stays; to a decoder it means the end
                    continue
                count += 1
            yield packet
        end = max(end, self._note_empty_end())
        self._check_end(count, end)

    def _frames(self, packet: Packet) -> Iterator[VideoFrame]:
        footage = self._footage
        for frame in self.stream.decode(packet):
            place = f"{footage.path}: at {clock_of(frame)}"
            check_frame(frame, footage.path)
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
                raise VideoError(
                    f"{place}: found {found}, expected one that increases{self._way_out()}"
                )
            self._last = frame.pts
            yield frame

    def _way_out(self) -> str:
        """What helps where the container has no place for the times of reordered frames."""
        if not is_avi(self.container):
            return ""
        return (
            "; AVI cannot tell those of B-frames. Copy it into Matroska first: "
            "ffmpeg -fflags +genpts -i IN.avi -c copy OUT.mkv"
        )

    def _note_end(self, packet: Packet) -> None:
        if packet.dts is not None and packet.pts is not None and not packet.is_discard:
            if self._reordering is None:
                self._reordering = packet.pts - packet.dts
            # In MP4 durations add up in the order of decoding: a packet's is not its frame's.
            begin = packet.dts + self._reordering if is_mov(self.container) else packet.pts
            self.end = max(self.end, begin + (packet.duration or 0))

    def _note_empty_end(self) -> float:
        """Lets the last picture stay as long as an empty last sample; returns its end, seconds.

        The demuxer of MP4 passes over empty samples, so that no packet tells their duration.
        """
        entries, stream = list(self.stream.index_entries), self.stream
        if is_mov(self.container) and entries and entries[-1].size == 0:
            self.end = max(self.end, (stream.start_time or 0) + (stream.duration or 0))
        return float(self.end * self._footage.time_base)

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
        promised = promised_packets(self.container, self.stream)
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


def check_whole(footage: Footage) -> None:
    """Reads a video to its end without decoding it: a small part of the time that deblurring takes.

    Raises:
        VideoError: it is cut off or damaged.
    """
    with open_source(footage) as source:
        for _ in source.packets():
            pass


def planes_of(frame: VideoFrame, coding: SampleCoding) -> list[Plane]:
    """The samples of a frame, as views that can be written to if the frame is writable."""
    planes = []
    for plane in frame.planes:
        rows = np.frombuffer(plane, coding.dtype).reshape(plane.height, -1)
        planes.append(rows[:, : plane.width])
    return planes


def _is_flush(packet: Packet) -> bool:
    return bool(packet.size == 0 and packet.dts is None)


def _end_of(packet: Packet) -> float:
    begin = packet.dts if packet.pts is None else packet.pts
    return 0.0 if begin is None else float((begin + (packet.duration or 0)) * packet.time_base)
