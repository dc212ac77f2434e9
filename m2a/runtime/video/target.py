"""Writing a video: new frames for the pictures, and all other streams packet by packet.

Tags, chapters, dispositions, the display matrix, the pixels' aspect and the tags of colour are
carried over. What they say of the file itself, and is no longer true, is left out.
"""

from __future__ import annotations

import contextlib
import io
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from m2a.errors import UsageError, VideoError
from m2a.files import atomic_file, check_target
from m2a.machine.scheduling import ordinary_scheduling
from m2a.runtime.video.encoders import Encoder, choose_encoder
from m2a.runtime.video.pyav import av
from m2a.runtime.video.streams import ISO, file_tags, kept_streams, stream_tags

if TYPE_CHECKING:
    from av.container import OutputContainer
    from av.packet import Packet
    from av.stream import Stream
    from av.video.frame import VideoFrame
    from av.video.stream import VideoStream

    from m2a.runtime.video.footage import Footage
    from m2a.runtime.video.source import Source

__all__ = [
    "OUTPUT_SUFFIXES",
    "Target",
    "VideoSettings",
    "check_video_output",
    "check_video_suffix",
    "open_target",
]

_MUXERS = {".mp4": "mp4", ".m4v": "mp4", ".mov": "mov", ".mkv": "matroska", ".webm": "webm"}

OUTPUT_SUFFIXES = tuple(_MUXERS)
"""The suffixes of the containers that are written, in lower case; case does not matter. Not .avi,
which has no time stamps."""


@dataclass(frozen=True, kw_only=True)
class VideoSettings:
    """How a video is written.

    Attributes:
        overwrite: replace a file that exists.
        crf: the encoder's constant rate factor; None for 16, at which of a photo with a little
            noise each encoder keeps 42 dB or more.
        strip_metadata: leave out the tags of the file and its streams but for their languages, and
            streams that are neither video, sound nor subtitles: covers, and data that can tell
            places.
    """

    overwrite: bool = False
    crf: int | None = None
    strip_metadata: bool = False


def check_video_suffix(suffix: str, *, origin: str) -> None:
    """Refuses a suffix that names no container that is written.

    Args:
        suffix: with its dot.
        origin: what has it, for the message.

    Raises:
        UsageError: the suffix is not supported.
    """
    if suffix.lower() not in _MUXERS:
        raise UsageError(
            f"{origin}: found the suffix {suffix!r}, expected {', '.join(OUTPUT_SUFFIXES)} "
            "for a video"
        )


def check_video_output(path: Path, *, overwrite: bool) -> None:
    """Refuses an output by its name, before any work is done.

    Raises:
        UsageError: the suffix is not supported; the file exists and `overwrite` is false; `path`
            is a folder or its folder is missing.
        VideoError: the file system refuses the name.
    """
    check_video_suffix(path.suffix, origin=str(path))
    try:
        check_target(path, overwrite=overwrite)
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def open_target(
    path: Path,
    source: Source,
    footage: Footage,
    settings: VideoSettings,
    *,
    note: Callable[[str], None],
) -> Iterator[Target]:
    """Begins a video; it comes into being at the end of the block, or not at all.

    The block ends with `Target.finish`.

    Args:
        path: the file to write.
        source: whose other streams, tags and chapters are handed on.
        footage: of the pictures.
        settings: how it is written.
        note: called with a line for each thing that is not as in the source.

    Raises:
        UsageError: as `check_video_output`; the container does not hold the sound or subtitles, or
            no codec for the pixel format; the constant rate factor is not one of the encoder's.
        VideoError: the file cannot be written.
    """
    check_video_output(path, overwrite=settings.overwrite)
    muxer = _MUXERS[path.suffix.lower()]
    others = kept_streams(source, muxer, path, strip=settings.strip_metadata, note=note)
    tags = file_tags(source, strip=settings.strip_metadata)
    encoder = choose_encoder(
        footage.codec, footage.pix_fmt, container=_codecs_of(muxer), origin=str(path)
    )
    encoder.settings(settings.crf)  # refuses a factor before anything is written
    if encoder.codec != footage.codec:
        note(f"{path}: the pictures are {encoder.title}, not {footage.codec}")
    try:
        with atomic_file(path, overwrite=settings.overwrite) as stream:
            # By its name: an exception, such as Ctrl-C, that meets a callback of FFmpeg into
            # Python would be lost.
            container = av.open(
                f"file:{stream.name}",
                "w",
                format=muxer,
                container_options=_muxer_options(muxer, footage, tags),
                metadata_errors="surrogateescape",
            )
            with _closed(container):
                target = Target(container, source, footage, others, encoder, settings)
                container.metadata.update(tags)
                container.set_chapters(source.container.chapters())
                # An encoder is opened here: it reads its environment and starts its threads.
                with _environment(encoder.environment), ordinary_scheduling():
                    container.start_encoding()
                yield target
    except av.error.FFmpegError as error:
        raise VideoError(f"{path}: cannot be written: {error.strerror}") from error
    except OSError as error:
        raise _unwritable(path, error) from error


@contextlib.contextmanager
def _environment(variables: Mapping[str, str]) -> Iterator[None]:
    """Sets those that are not set, for the block alone."""
    added = {name: value for name, value in variables.items() if name not in os.environ}
    os.environ.update(added)
    try:
        yield
    finally:
        for name in added:
            os.environ.pop(name, None)


def _codecs_of(muxer: str) -> set[str]:
    """The encoders whose codec a container holds; asked of one in memory, which stays empty."""
    with av.open(io.BytesIO(), "w", format=muxer) as container:
        return set(container.supported_codecs)


@contextlib.contextmanager
def _closed(container: OutputContainer) -> Iterator[None]:
    """Closes a container, which ends the file; where the block fails, that is what is told."""
    try:
        yield
    except BaseException:
        with contextlib.suppress(av.error.FFmpegError):
            container.close()
        raise
    container.close()


class Target:
    """A video that is being written; made by `open_target`.

    Attributes:
        encoder: who encodes the pictures.
    """

    def __init__(
        self,
        container: OutputContainer,
        source: Source,
        footage: Footage,
        others: set[int],
        encoder: Encoder,
        settings: VideoSettings,
    ) -> None:
        self.encoder = encoder
        self._container = container
        self._time_base = footage.time_base
        self._shown = 0
        self._first_pts: int | None = None
        self._first_dts = 0
        self._last: Packet | None = None
        self._durations: dict[int, int] = {}
        self._waiting: VideoFrame | None = None
        self._streams: dict[int, Stream] = {}
        for stream in source.container.streams:
            if stream is source.stream:
                self._pictures = _add_pictures(container, footage, encoder, settings)
                self._dress(stream, self._pictures, settings)
            elif stream.index in others:
                copy = container.add_stream_from_template(stream, opaque=True)
                self._dress(stream, copy, settings)
                self._streams[stream.index] = copy

    @property
    def duration(self) -> float:
        """Seconds from the first frame's time stamp to the end of the last one, when finished."""
        return float(self._shown * self._time_base)

    def write(self, frame: VideoFrame) -> None:
        """Takes the next frame, to be shown at its time stamp until that of the one after it."""
        # What the source's encoder chose for this frame is no order for this one.
        frame.pict_type = 0
        if self._waiting is not None:
            self._encode_waiting(until=frame.pts)
        self._waiting = frame

    def copy(self, packet: Packet) -> None:
        """Hands on a packet of another stream, as it is, if the stream is kept."""
        stream = self._streams.get(packet.stream.index)
        if stream is not None:
            packet.stream = stream
            self._container.mux(packet)

    def finish(self, end: int) -> None:
        """Writes the last frame, to be shown until `end`, and what the encoder still holds back."""
        self._encode_waiting(until=end)
        self._encode(None)
        last = self._last
        if last is not None and self._container.format.name in ISO:
            # MP4 adds up the packets in the order in which they are stored, from first to last.
            last.duration = self._shown - (last.dts - self._first_dts)
        if last is not None:
            self._container.mux(last)

    def _encode_waiting(self, *, until: int) -> None:
        frame, self._waiting = self._waiting, None
        if frame is None:
            return
        # Rather than the frame's own duration: where frames are stored in another order than
        # that in which they are shown, it is a neighbour's.
        duration = until - frame.pts if until > frame.pts else frame.duration
        self._durations[frame.pts] = duration
        if self._first_pts is None:
            self._first_pts = frame.pts
        self._shown = frame.pts + duration - self._first_pts
        self._encode(frame)

    def _encode(self, frame: VideoFrame | None) -> None:
        for packet in self._pictures.encode(frame):
            # Few encoders hand the duration on.
            packet.duration = self._durations.pop(packet.pts, packet.duration or 0)
            if self._last is None:
                self._first_dts = packet.dts
            else:
                self._container.mux(self._last)
            self._last = packet

    @staticmethod
    def _dress(source: Stream, target: Stream, settings: VideoSettings) -> None:
        target.disposition = source.disposition
        target.metadata.update(stream_tags(source.metadata, strip=settings.strip_metadata))


def _add_pictures(
    container: OutputContainer, footage: Footage, encoder: Encoder, settings: VideoSettings
) -> VideoStream:
    stream = container.add_stream(
        encoder.name, rate=footage.rate, options=encoder.settings(settings.crf)
    )
    context = stream.codec_context
    context.width, context.height, context.pix_fmt = footage.width, footage.height, footage.pix_fmt
    stream.time_base = context.time_base = footage.time_base
    if footage.sample_aspect_ratio is not None:
        context.sample_aspect_ratio = footage.sample_aspect_ratio
    (
        context.color_range,
        context.colorspace,
        context.color_primaries,
        context.color_trc,
    ) = footage.colour_tags
    stream.set_display_matrix(footage.display_matrix)
    if encoder.codec == "hevc" and container.format.name in ISO:
        context.codec_tag = "hvc1"  # the one of two forms that Apple's players take
    return stream


def _muxer_options(muxer: str, footage: Footage, tags: Mapping[str, str]) -> dict[str, str]:
    if muxer not in ISO:
        return {}
    # Times of frames, and of the edit list that says when the first is shown, in the source's unit.
    unit = str(footage.time_base.denominator)
    options = {"video_track_timescale": unit, "movie_timescale": unit}
    if any("." in name for name in tags):
        # Keys such as com.apple.quicktime.make have no place in the other form.
        options["movflags"] = "use_metadata_tags"
    return options


def _unwritable(path: Path, error: OSError) -> VideoError:
    return VideoError(f"{path}: cannot be written: {error.strerror}")
