"""From photo files to what a page shows of them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from m2a.errors import M2AError
from m2a.reports.layers import Layers, draw_layers
from m2a.runtime.batch import given_mask
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_photo
from m2a.runtime.outcomes import reason_of
from m2a.runtime.stopwatch import Stopwatch

__all__ = ["Failed", "Shown", "report_photo", "report_photos"]


@dataclass(frozen=True, kw_only=True, eq=False)
class Shown:
    """A photo that was deblurred.

    Attributes:
        source: its file.
        size: (W, H) in pixels.
        bits: per sample.
        format: such as "JPEG".
        coverage: restored pixels / all pixels, 0 to 1.
        highest_probability: of visible motion blur, over all pixels; None where the mask was given.
        backend: who computed.
        seconds: wall time per stage, in the order in which they ran.
        layers: its pictures.
    """

    source: Path
    size: tuple[int, int]
    bits: int
    format: str | None
    coverage: float
    highest_probability: float | None
    backend: str
    seconds: Mapping[str, float]
    layers: Layers


@dataclass(frozen=True, kw_only=True)
class Failed:
    """A photo that could not be deblurred.

    Attributes:
        source: its file.
        reason: why, with the file's name.
    """

    source: Path
    reason: str


def report_photo(source: Path, deblurrer: Deblurrer, *, mask: str | None = None) -> Shown:
    """Deblurs a photo and draws its pictures for the page.

    Args:
        source: the photo's file.
        deblurrer: the opened bundle.
        mask: the pixels to restore: a picture of them, `settings.FULL` for all, None to predict
            them.

    Raises:
        ImageError: the photo, or the picture of the mask, cannot be read.
        UsageError: the mask does not fit the photo.
        BackendError: the backend failed.
    """
    watch = Stopwatch()
    with watch.stage("decode"):
        photo = read_photo(source)
    result = deblurrer(photo.pixels, mask=given_mask(mask, photo))
    height, width = photo.pixels.shape[:2]
    return Shown(
        source=source,
        size=(width, height),
        bits=photo.bits,
        format=photo.format,
        coverage=result.coverage,
        highest_probability=result.highest_probability,
        backend=result.backend,
        seconds={**watch.seconds, **result.seconds},
        layers=draw_layers(photo, result),
    )


def report_photos(
    sources: Sequence[Path], deblurrer: Deblurrer, *, mask: str | None = None
) -> Iterator[Shown | Failed]:
    """Photo after photo, as `report_photo`; one that fails does not stop those after it."""
    return (_reported(source, deblurrer, mask) for source in sources)


def _reported(source: Path, deblurrer: Deblurrer, mask: str | None) -> Shown | Failed:
    try:
        return report_photo(source, deblurrer, mask=mask)
    except (M2AError, OSError, MemoryError) as error:
        return Failed(source=source, reason=reason_of(source, error))
