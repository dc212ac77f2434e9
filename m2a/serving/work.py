"""From the bytes of a photo to the bytes of an answer; runs in a worker's thread."""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import BaseModel, Field

from m2a.reports.layers import draw_layers
from m2a.reports.viewer import motion_path, stroke_widths
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.decoding import decode_photo
from m2a.runtime.drawing import compare_picture, motion_picture
from m2a.runtime.encoding import check_encodable, encode_photo, suffix_of
from m2a.runtime.output import encoded_output
from m2a.runtime.photo import Photo
from m2a.runtime.result import Result
from m2a.runtime.settings import Settings
from m2a.runtime.stopwatch import Stopwatch
from m2a.serving.options import MEDIA_TYPES, DeblurOptions, Output

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["Answer", "GivenUpError", "View", "deblur_bytes"]

ORIGIN = "the photo"
"""What errors call it: a name from the client is never used."""


class GivenUpError(Exception):
    """Nobody waits for the answer any more."""


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What is answered to a photo.

    Attributes:
        content: of the answer.
        media_type: of the content.
        name: that a browser may save it by.
        coverage: restored pixels / all pixels, 0 to 1.
        pixels: H·W of the photo.
        seconds: wall time per stage, in the order in which they ran.
    """

    content: bytes
    media_type: str
    name: str
    coverage: float
    pixels: int
    seconds: Mapping[str, float]


class View(BaseModel):
    """A photo as the page shows it: pictures that lie one over the other, and the download."""

    width: int = Field(description="Of the photo, in pixels.")
    height: int = Field(description="Of the photo, in pixels.")
    shown_width: int = Field(description="Of the layers: at most 2000 pixels a side.")
    shown_height: int = Field(description="Of the layers.")
    coverage: float = Field(description="Restored pixels / all pixels, 0 to 1.")
    before: str = Field(description="The photo: a WebP in base64.")
    after: str = Field(description="The restored pixels, transparent elsewhere: a WebP in base64.")
    mask: str = Field(description="A shade over what was not restored: a WebP in base64.")
    motion: str = Field(description="The predicted trajectories: the data of an SVG path.")
    motion_widths: list[float] = Field(
        min_length=2,
        max_length=2,
        description="Of the path's outline and stroke, in pixels of the photo.",
    )
    centre: list[float] = Field(
        min_length=2,
        max_length=2,
        description="x and y of the restored pixels' mean, each a share of the photo's side.",
    )
    photo: str = Field(description="The deblurred photo, as `output=image` answers, in base64.")
    photo_type: str = Field(description="Its media type.")
    photo_name: str = Field(description="A name to save it by.")


def deblur_bytes(
    data: bytes,
    options: DeblurOptions,
    deblurrer: Deblurrer,
    *,
    max_pixels: int,
    given_up: Callable[[], bool],
) -> Answer:
    """Deblurs a photo and encodes what was asked for.

    Args:
        data: the whole content of a picture file.
        options: what was asked for.
        deblurrer: the opened bundle, which threads may share.
        max_pixels: the most pixels accepted, as `counted_pixels` counts them.
        given_up: asked between the stages whether nobody waits any more.

    Raises:
        PixelLimitError: the photo has more pixels than `max_pixels`.
        ImageError: the photo cannot be read, or the answer cannot be encoded.
        UsageError: the format asked for cannot hold the photo.
        BackendError: the backend failed.
        GivenUpError: nobody waits any more.
    """
    watch = Stopwatch()
    with watch.stage("decode"):
        photo = decode_photo(data, origin=ORIGIN, max_pixels=max_pixels)
    suffix = options.format.suffix if options.format else suffix_of(photo.format)
    check_encodable(suffix=suffix, photo=photo, origin=ORIGIN)
    _go_on(given_up)
    chosen = deblurrer.with_mask_settings(threshold=options.threshold, dilate=options.dilate)
    result = chosen(photo.pixels)
    _go_on(given_up)
    with watch.stage("encode"):
        content, media_type, name = _encode(photo, result, options, suffix)
    decoded = {"decode": watch.seconds.pop("decode")}
    return Answer(
        content=content,
        media_type=media_type,
        name=name,
        coverage=result.coverage,
        pixels=result.mask.size,
        seconds={**decoded, **result.seconds, **watch.seconds},
    )


def _go_on(given_up: Callable[[], bool]) -> None:
    if given_up():
        raise GivenUpError


def _encode(
    photo: Photo, result: Result, options: DeblurOptions, suffix: str
) -> tuple[bytes, str, str]:
    """Content, media type and name of what was asked for."""
    if options.output in (Output.IMAGE, Output.VIEW):
        content = encoded_output(
            Settings(quality=options.quality, strip_metadata=options.strip_metadata),
            photo,
            pixels=result.image,
            mask=result.mask,
            suffix=suffix,
            origin=ORIGIN,
        )
        name, media_type = f"deblurred{suffix}", MEDIA_TYPES[suffix]
        if options.output is Output.IMAGE:
            return content, media_type, name
        view = _view(photo, result, content, media_type, name)
        return view.model_dump_json().encode(), "application/json", "view.json"
    if options.output is Output.MASK:
        picture = Photo(pixels=_white_where(result.mask))
    elif options.output is Output.MOTION:
        picture = motion_picture(photo, result.motion)
    else:
        picture = compare_picture(photo, result.image)
    content = encode_photo(picture, suffix=".png", origin=ORIGIN)
    return content, MEDIA_TYPES[".png"], f"{options.output.value}.png"


def _view(photo: Photo, result: Result, content: bytes, media_type: str, name: str) -> View:
    layers = draw_layers(photo, result)
    height, width = result.mask.shape
    return View(
        width=width,
        height=height,
        shown_width=layers.size[0],
        shown_height=layers.size[1],
        coverage=result.coverage,
        before=_base64(layers.before),
        after=_base64(layers.after),
        mask=_base64(layers.mask),
        motion=motion_path(layers.strokes),
        motion_widths=list(stroke_widths(layers.strokes)),
        centre=list(layers.centre),
        photo=_base64(content),
        photo_type=media_type,
        photo_name=name,
    )


def _base64(content: bytes) -> str:
    return b64encode(content).decode("ascii")


def _white_where(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    return np.where(mask, np.uint8(255), np.uint8(0))[:, :, np.newaxis]
