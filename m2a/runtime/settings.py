"""How picture files are read and written."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from m2a.errors import UsageError
from m2a.runtime.decoding import MAX_PIXELS
from m2a.runtime.encoding import takes_quality

__all__ = ["FULL", "Settings", "mask_files"]

FULL = "full"
"""The word for a mask of all pixels."""


@dataclass(frozen=True, kw_only=True)
class Settings:
    """How files are read and written; what the network does is the `Deblurrer`'s.

    Attributes:
        mask: the pixels to restore: a picture of them, `FULL` for all, None to predict them.
        quality: 1 to 100, of deblurred pictures in formats that have one; None as the source.
        max_pixels: the most pixels of a photo that are accepted, as `counted_pixels` counts them.
        overwrite: replace files that exist.
        skip_existing: keep files that exist and write only those that are missing; a picture of
            which none is missing is not read.
        strip_metadata: leave EXIF, XMP and IPTC out of the deblurred picture. Its colour profile
            and resolution stay, without which it would look otherwise.

    Raises:
        UsageError: files that exist are to be both replaced and kept; a number is out of range.
    """

    mask: str | None = None
    quality: int | None = None
    max_pixels: int = MAX_PIXELS
    overwrite: bool = False
    skip_existing: bool = False
    strip_metadata: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError(
                "found both --overwrite and --skip-existing, expected at most one: "
                "files that exist are either replaced or kept"
            )
        if self.quality is not None and not 1 <= self.quality <= 100:
            raise UsageError(f"--quality: found {self.quality}, expected 1 to 100")
        if self.max_pixels < 1:
            raise UsageError(f"--max-pixels: found {self.max_pixels}, expected at least 1")

    @property
    def mask_files(self) -> tuple[Path, ...]:
        """The picture of the mask, if there is one."""
        return mask_files(self.mask)

    def quality_for(self, suffix: str) -> int | None:
        """The quality for a format that has one; None otherwise."""
        return self.quality if takes_quality(suffix) else None


def mask_files(mask: str | None) -> tuple[Path, ...]:
    """The picture that a mask, as in `Settings`, is read from, if it is one."""
    return () if mask is None or mask == FULL else (Path(mask),)
