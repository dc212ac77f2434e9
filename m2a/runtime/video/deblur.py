"""Deblurring a video: every frame by itself, all else in the file as it is.

What is promised: each frame comes back, with its time stamp and its duration, in its size, pixel
format and colours, and is shown the same way up. Sound, subtitles and other streams are copied
packet by packet. Matroska and WebM store times in milliseconds, so times from another container are
rounded to them.

What is not: equal pixels outside the mask. The frames handed to the encoder do have the source's
very samples wherever no pixel of the mask takes part in one, chroma being shared by up to four
pixels, but the encoder changes them all a little, unless it is lossless (FFV1, or H.264 in 8 bits
at a constant rate factor of 0). Frames know nothing of each other: what is restored can flicker.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import TYPE_CHECKING, TypeVar

import numpy as np
from numpy.typing import NDArray

from m2a.runtime.arguments import check_mask
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.stopwatch import Stopwatch
from m2a.runtime.video.footage import Footage, probe
from m2a.runtime.video.source import check_whole, open_source, planes_of
from m2a.runtime.video.target import VideoSettings, open_target

if TYPE_CHECKING:
    from av.video.frame import VideoFrame

__all__ = ["DeblurredVideo", "deblur_video"]

Item = TypeVar("Item")


@dataclass(frozen=True, kw_only=True)
class DeblurredVideo:
    """What became of a video.

    Attributes:
        frames: how many were written.
        duration: seconds from the first time stamp to the end of the last frame.
        coverage: restored pixels / all pixels, the mean over the frames, 0 to 1.
        restored_frames: frames of which any pixel was restored.
        codec: of the pictures as they were written, by FFmpeg's name.
        backend: who computed the graphs.
        seconds: wall time per stage, summed over the frames.
    """

    frames: int
    duration: float
    coverage: float
    restored_frames: int
    codec: str
    backend: str
    seconds: Mapping[str, float]


def deblur_video(
    source: Path | Footage,
    output: Path,
    deblurrer: Deblurrer,
    settings: VideoSettings | None = None,
    *,
    mask: NDArray[np.bool_] | None = None,
    progress: Callable[[int], None] = lambda done: None,
    note: Callable[[str], None] = lambda line: None,
) -> DeblurredVideo:
    """Deblurs a video file; memory does not grow with its length.

    The network sees each frame as it is shown, turned by the quarter turns of its display matrix,
    as it sees a photo; the frame is stored unturned, with the matrix, as it was. A frame of which
    nothing is restored goes to the encoder as it was decoded.

    Args:
        source: the video, or what `probe` found in it.
        output: the file to write, whose suffix names the container; it may be the source.
        deblurrer: what restores a frame.
        settings: how it is written; None for the defaults.
        mask: bool [H, W] of a frame as it is shown, the pixels to restore in every frame;
            predicted for each frame if not given.
        progress: called after each frame with the number done.
        note: called with a line for each thing that is not as in the source: another codec, a
            stream that the container cannot hold.

    Returns:
        What was done. The output is then whole.

    Raises:
        VideoError: the source cannot be read to its end or is not supported, or the output cannot
            be written. Nothing is left behind, and an existing output is as it was.
        UsageError: the output is refused by its name, the container does not hold what the source
            has, or the mask does not fit.
        BackendError: the backend failed.
        MissingDependencyError: PyAV is not installed.
    """
    footage = source if isinstance(source, Footage) else probe(source)
    settings = settings or VideoSettings()
    if mask is not None:
        check_mask(mask, footage.shown_size)
    check_whole(footage)
    clock = _Clock()
    coverages: list[float] = []
    with (
        open_source(footage) as reader,
        open_target(output, reader, footage, settings, note=note) as writer,
    ):
        for packet, frames in clock.timed("decode", reader.read()):
            if packet.stream is not reader.stream:
                writer.copy(packet)
            for frame in frames:
                coverages.append(_deblur(frame, footage, deblurrer, mask, clock))
                with clock.stage("encode"):
                    writer.write(frame)
                progress(len(coverages))
        with clock.stage("encode"):
            writer.finish(reader.end)
    return DeblurredVideo(
        frames=len(coverages),
        duration=writer.duration,
        coverage=fmean(coverages),
        restored_frames=sum(coverage > 0 for coverage in coverages),
        codec=writer.encoder.codec,
        backend=deblurrer.backend,
        seconds=clock.seconds,
    )


def _deblur(
    frame: VideoFrame,
    footage: Footage,
    deblurrer: Deblurrer,
    mask: NDArray[np.bool_] | None,
    clock: _Clock,
) -> float:
    """Deblurs a frame in place and returns its coverage."""
    with clock.stage("to RGB"):
        planes = planes_of(frame, footage.coding)
        before = np.rot90(footage.coding.to_rgb(planes), footage.turns)
    result = deblurrer(before, mask=mask)
    clock.add(result.seconds)
    if result.coverage:
        with clock.stage("from RGB"):
            difference = np.rot90(result.image - before, -footage.turns)
            changed = footage.coding.with_difference(planes, difference)
            # The decoder may still need the frame to predict others from.
            frame.make_writable()
            for plane, samples in zip(planes_of(frame, footage.coding), changed, strict=True):
                plane[:] = samples
    return result.coverage


class _Clock(Stopwatch):
    """Adds what a `Deblurrer` timed, and how long items take to come."""

    def add(self, seconds: Mapping[str, float]) -> None:
        for name, value in seconds.items():
            self.seconds[name] = self.seconds.get(name, 0.0) + value

    def timed(self, name: str, items: Iterator[Item]) -> Iterator[Item]:
        """Yields the items; times how long each takes to come."""
        while True:
            with self.stage(name):
                item = next(items, None)
            if item is None:
                return
            yield item
