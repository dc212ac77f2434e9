"""Which encoder writes the pictures of a video, and how well.

The codec follows the source where there is an encoder for it that takes the pixel format, and the
output's container holds it; otherwise it is H.264, or VP9 in WebM.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field

from m2a.errors import UsageError
from m2a.runtime.video.pyav import av

__all__ = ["Encoder", "choose_encoder"]


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """An encoder of FFmpeg and how it is set.

    Attributes:
        codec: what it writes, by FFmpeg's name.
        title: the codec's name for people.
        name: FFmpeg's name of the encoder.
        crf: the constant rate factor unless told otherwise, lower is better; None if lossless.
        worst: the largest constant rate factor.
        options: what else it is told.
        environment: variables by which alone it can be kept from writing to standard error.
    """

    codec: str
    title: str
    name: str
    crf: int | None = None
    worst: int = 0
    options: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)

    def settings(self, crf: int | None) -> dict[str, str]:
        """The encoder's options for a constant rate factor; None takes the default.

        Raises:
            UsageError: the factor is out of the encoder's range, or the codec is lossless.
        """
        if self.crf is None:
            if crf is not None:
                raise UsageError(f"--crf: found {crf}, expected none: {self.title} is lossless")
            return dict(self.options)
        chosen = self.crf if crf is None else crf
        if not 0 <= chosen <= self.worst:
            raise UsageError(
                f"--crf: found {chosen}, expected 0 (best) to {self.worst} (worst) for {self.title}"
            )
        return {**self.options, "crf": str(chosen)}


_ENCODERS = {
    encoder.codec: encoder
    for encoder in (
        Encoder(codec="h264", title="H.264", name="libx264", crf=16, worst=51),
        Encoder(
            codec="hevc",
            title="HEVC",
            name="libx265",
            crf=16,
            worst=51,
            # Else it writes to standard error.
            options={"x265-params": "log-level=none"},
        ),
        Encoder(
            codec="vp9",
            title="VP9",
            name="libvpx-vp9",
            crf=16,
            worst=63,
            options={"row-mt": "1"},
        ),
        Encoder(
            codec="av1",
            title="AV1",
            name="libsvtav1",
            crf=16,
            worst=63,
            environment={"SVT_LOG": "1"},
        ),
        Encoder(codec="ffv1", title="FFV1", name="ffv1"),
    )
}

_FALLBACKS = ("h264", "vp9")


def choose_encoder(codec: str, pix_fmt: str, *, container: Collection[str], origin: str) -> Encoder:
    """The encoder for a source.

    Args:
        codec: the source's codec, by FFmpeg's name.
        pix_fmt: its pixel format, which stays.
        container: the encoders whose codec the output's container holds.
        origin: the output's name for messages.

    Raises:
        UsageError: none fits the container.
    """
    for candidate in dict.fromkeys((codec, *_FALLBACKS)):
        encoder = _ENCODERS.get(candidate)
        if encoder and encoder.name in container and pix_fmt in _formats_of(encoder.name):
            return encoder
    raise UsageError(
        f"{origin}: found no encoder for {pix_fmt} whose codec that container holds; "
        "take another one, such as .mkv"
    )


def _formats_of(name: str) -> set[str]:
    """The pixel formats that an encoder takes; none where FFmpeg was built without it."""
    try:
        codec = av.codec.Codec(name, "w")
    except av.codec.codec.UnknownCodecError:
        return set()
    return {known.name for known in codec.video_formats or ()}
