"""What may be asked of a photo: the query parameters of `POST /v1/deblur`."""

from __future__ import annotations

from enum import Enum
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

__all__ = ["MEDIA_TYPES", "DeblurOptions", "Format", "Output"]


class Format(str, Enum):
    """A format that is written."""

    JPEG = "jpeg"
    PNG = "png"
    TIFF = "tiff"
    WEBP = "webp"
    AVIF = "avif"

    @property
    def suffix(self) -> str:
        """Of a file in that format."""
        return {"jpeg": ".jpg", "tiff": ".tif"}.get(self.value, f".{self.value}")


MEDIA_TYPES = {kind.suffix: f"image/{kind.value}" for kind in Format}
"""Suffix of a file → what HTTP calls its format."""


class Output(str, Enum):
    """What of a photo is answered."""

    IMAGE = "image"
    MASK = "mask"
    MOTION = "motion"
    COMPARE = "compare"
    VIEW = "view"


class DeblurOptions(BaseModel):
    """How a photo is deblurred and what is answered; a parameter of another name is refused."""

    model_config = ConfigDict(extra="forbid")

    output: Annotated[
        Output,
        Field(
            description="`image`: the deblurred photo. `mask`: the restored pixels, white, as a "
            "PNG. `motion`: the predicted trajectories drawn over the photo, a PNG. `compare`: "
            "before beside after, a PNG. `view`: JSON with all that the page at / shows."
        ),
    ] = Output.IMAGE
    format: Annotated[
        Format | None,
        Field(
            description="Format of the deblurred photo; as the photo's unless given, or PNG where "
            "that is read only."
        ),
    ] = None
    quality: Annotated[
        int | None,
        Field(
            ge=1,
            le=100,
            description="Of a JPEG, WebP or AVIF. Unless given, of JPEG the photo's, or 95; of "
            "WebP and AVIF 90 where the photo is lossy and of the same format, else lossless.",
        ),
    ] = None
    strip_metadata: Annotated[
        bool, Field(description="Leave EXIF, XMP and IPTC out. The colour profile stays.")
    ] = False
    threshold: Annotated[
        float | None,
        Field(
            gt=0,
            le=1,
            description="A pixel is restored where its blur probability is at least this; the "
            "model's unless given.",
        ),
    ] = None
    dilate: Annotated[
        int | None,
        Field(
            ge=0,
            le=256,
            description="Pixels by which the mask is widened; the model's unless given.",
        ),
    ] = None
