"""Small videos with sound, made with PyAV, and what they hold as a pass of its own reads it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import av
import numpy as np

from m2a.machine.scheduling import ordinary_scheduling

FPS = 10
SOUND_RATE = 8000


def colours(index: int, height: int, width: int) -> np.ndarray:
    """uint8 [H, W, 3], smooth and different for every index."""
    y, x = np.mgrid[:height, :width].astype(np.float64)
    phase = index / 7
    waves = [np.sin(x / 9 + phase), np.cos(y / 7 - phase), np.sin((x + y) / 13 + 2 * phase)]
    return np.rint(128 + 90 * np.stack(waves, axis=-1)).astype(np.uint8)


@ordinary_scheduling()
def make_clip(
    path: Path,
    *,
    frames: int = 20,
    size: tuple[int, int] = (48, 64),
    codec: str = "libx264",
    pix_fmt: str = "yuv420p",
    times: Sequence[int] | None = None,
    time_base: Fraction = Fraction(1, 12800),
    sound: str | None = "aac",
    matrix: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    container_options: dict[str, str] | None = None,
    tags: dict[str, str] | None = None,
    chapters: bool = False,
    colour: dict[str, int] | None = None,
    aspect: Fraction | None = None,
) -> Path:
    """Writes a clip; `times` are the time stamps in units of `time_base`, else 10 a second."""
    height, width = size
    step = int(1 / (FPS * time_base))
    stamps = list(times) if times is not None else [index * step for index in range(frames)]
    with av.open(path, "w", container_options=container_options or {}) as out:
        out.metadata.update(tags or {})
        if chapters:
            out.set_chapters(
                [
                    {"id": n, "start": n * 500, "end": n * 500 + 500,
                     "time_base": Fraction(1, 1000), "metadata": {"title": f"part {n}"}}
                    for n in range(2)
                ]
            )  # fmt: skip
        quick = {"preset": "ultrafast", "bf": "2"} if codec == "libx264" else {}
        video = out.add_stream(codec, rate=FPS, options={**quick, **(options or {})})
        context = video.codec_context
        context.thread_count = 1  # such small frames take longer with more
        context.width, context.height, context.pix_fmt = width, height, pix_fmt
        video.time_base = context.time_base = time_base
        for name, value in (colour or {}).items():
            setattr(context, name, value)
        if aspect is not None:
            context.sample_aspect_ratio = aspect
        video.set_display_matrix(matrix)
        audio = None
        if sound is not None:
            audio = out.add_stream(sound, rate=SOUND_RATE if sound != "libopus" else 48000)
            audio.codec_context.layout = "mono"
            audio.metadata["language"] = "fra"
        for index, stamp in enumerate(stamps):
            frame = av.VideoFrame.from_ndarray(colours(index, height, width), format="rgb24")
            frame = frame.reformat(format=pix_fmt, threads=1)
            frame.pts, frame.time_base = stamp, time_base
            out.mux(video.encode(frame))
        out.mux(video.encode(None))
        if audio is not None:
            rate = audio.codec_context.sample_rate
            end = float((stamps[-1] + step) * time_base)
            tone = np.sin(np.arange(round(end * rate)) / 8) * 8000
            for begin in range(0, len(tone), 1000):
                piece = tone[None, begin : begin + 1000].astype(np.int16)
                sample = av.AudioFrame.from_ndarray(piece, format="s16", layout="mono")
                sample.sample_rate, sample.pts = rate, begin
                sample.time_base = Fraction(1, rate)
                out.mux(audio.encode(sample))
            out.mux(audio.encode(None))
    return path


def stream_of(path: Path, kind: str = "video") -> dict[str, object]:
    """What the header says of the first stream of a kind."""
    with av.open(path) as container:
        stream = getattr(container.streams, kind)[0]
        context = stream.codec_context
        found = {
            "codec": context.name,
            "time_base": stream.time_base,
            "duration": stream.duration,
            "disposition": int(stream.disposition),
            "language": stream.language,
        }
        if kind == "video":
            found |= {
                "size": (context.height, context.width),
                "pix_fmt": context.pix_fmt,
                "aspect": stream.sample_aspect_ratio,
                "tag": context.codec_tag,
                "colour": (
                    context.color_range,
                    context.colorspace,
                    context.color_primaries,
                    context.color_trc,
                ),
            }
    return found


def packets_of(path: Path) -> dict[int, list[tuple[Fraction | None, bytes]]]:
    """Stream → the presentation times in seconds and the bytes of its packets."""
    found = defaultdict(list)
    with av.open(path) as container:
        for packet in container.demux():
            if packet.size:
                time = None if packet.pts is None else packet.pts * packet.time_base
                found[packet.stream_index].append((time, bytes(packet)))
    return dict(found)


def times_of(path: Path) -> list[tuple[Fraction, Fraction]]:
    """Begin and duration of every frame, in seconds."""
    with av.open(path) as container:
        return [
            (frame.pts * frame.time_base, frame.duration * frame.time_base)
            for frame in container.decode(video=0)
        ]


def planes_of(path: Path) -> list[list[np.ndarray]]:
    """Every frame's planes, copied."""
    with av.open(path) as container:
        return [_planes(frame) for frame in container.decode(video=0)]


def pictures_of(path: Path) -> list[np.ndarray]:
    """Every frame as uint8 RGB, as it is stored."""
    with av.open(path) as container:
        return [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]


def matrix_of(path: Path) -> tuple[int, ...] | None:
    """The display matrix of the first frame."""
    with av.open(path) as container:
        data = next(container.decode(video=0)).side_data.get("DISPLAYMATRIX")
        return None if data is None else tuple(np.frombuffer(bytes(data), np.int32).tolist())


def duration_of(path: Path) -> int:
    """The container's duration in microseconds."""
    with av.open(path) as container:
        return container.duration


def _planes(frame: av.VideoFrame) -> list[np.ndarray]:
    planes = []
    for plane in frame.planes:
        samples = np.frombuffer(plane, np.uint8).reshape(plane.height, -1)
        if frame.format.name.endswith("10le"):
            samples = samples.view("<u2")
        planes.append(samples[:, : plane.width].copy())
    return planes
