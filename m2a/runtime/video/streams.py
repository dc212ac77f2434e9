"""Which streams and tags of a video are handed on to which container."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from m2a.errors import UsageError
from m2a.runtime.video.pyav import av

if TYPE_CHECKING:
    from av.stream import Stream

    from m2a.runtime.video.source import Source

__all__ = ["ISO", "file_tags", "kept_streams", "stream_tags"]

ISO = ("mp4", "mov")
"""The muxers of the family of MP4."""

_OF_THE_FILE = ("major_brand", "minor_version", "compatible_brands", "encoder")
_OF_THE_STREAM = ("encoder", "vendor_id")
_STATISTICS = ("BPS", "DURATION", "NUMBER_OF_", "_STATISTICS_")
"""What Matroska's writers note about a stream, by the beginning of the tag."""

_KEPT_WHEN_STRIPPED = ("language",)


def kept_streams(
    source: Source,
    muxer: str,
    path: Path,
    *,
    strip: bool,
    note: Callable[[str], None],
) -> set[int]:
    """Chooses the streams to hand on.

    Args:
        source: the video.
        muxer: FFmpeg's name of the output's container.
        path: the output, for messages.
        strip: leave out what is neither video, sound nor subtitles.
        note: called with a line for each stream that the container cannot hold.

    Returns:
        Their numbers in the source.

    Raises:
        UsageError: the container cannot hold a video, sound or subtitles.
    """
    kept = set()
    for stream in source.container.streams:
        cover = _is_cover(stream)
        content = stream.type in ("audio", "subtitle", "video") and not cover
        if stream is source.stream or _is_written_anew(stream, muxer):
            continue
        if strip and not content:
            continue
        if _holds(muxer, stream):
            kept.add(stream.index)
            if stream.type == "video" and content:
                note(f"{path}: stream {stream.index}, another video, is handed on as it is")
            continue
        kind = f"{'cover' if cover else stream.type} ({_codec_of(stream)})"
        if content:
            raise UsageError(
                f"{path}: found {kind} in the source, which that container cannot hold; "
                "take the source's own or .mkv"
            )
        note(f"{path}: stream {stream.index}, {kind}, is left out: that container cannot hold it")
    return kept


def _holds(muxer: str, stream: Stream) -> bool:
    """Whether a container takes a copy of a stream: tried in memory, for only the muxer knows."""
    try:
        with av.open(io.BytesIO(), "w", format=muxer) as trial:
            trial.add_stream_from_template(stream, opaque=True)
            trial.start_encoding()
    except (av.error.FFmpegError, ValueError):
        return False
    return True


def _is_written_anew(stream: Stream, muxer: str) -> bool:
    """Whether a stream is another form of chapters or of the tag "timecode", which are kept."""
    if stream.type != "data":
        return False
    # Of the track that holds the titles of chapters the demuxer gives no packet.
    chapters = stream.discard == av.stream.Discard.all
    return chapters or (muxer in ISO and "timecode" in stream.metadata)


def _is_cover(stream: Stream) -> bool:
    return bool(stream.disposition & av.stream.Disposition.attached_pic)


def _codec_of(stream: Stream) -> str:
    context: Any = stream.codec_context
    return str(stream.name if context is None else context.codec.canonical_name)


def file_tags(source: Source, *, strip: bool) -> dict[str, str]:
    """The tags to hand on of the file: none, or those that do not describe it as a file."""
    if strip:
        return {}
    tags = source.container.metadata.items()
    return {name: value for name, value in tags if name.lower() not in _OF_THE_FILE}


def stream_tags(tags: Mapping[str, str], *, strip: bool) -> dict[str, str]:
    """Those of a stream's tags to hand on: its language, or all that are still true."""
    return {
        name: value
        for name, value in tags.items()
        if (not strip or name.lower() in _KEPT_WHEN_STRIPPED)
        and name.lower() not in _OF_THE_STREAM
        and not name.upper().startswith(_STATISTICS)
    }
