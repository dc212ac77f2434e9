"""What a call is given, checked before anything is computed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import UsageError
from m2a.runtime.bundle import Bundle
from m2a.runtime.images import read_photo
from m2a.runtime.parts import smallest_memory
from m2a.runtime.photo import Photo
from m2a.runtime.pixels import Colour, Pixels, check_pixels
from m2a.runtime.stopwatch import Stopwatch


def read_colour(image: Pixels | str | Path, watch: Stopwatch) -> tuple[Colour, Photo | None]:
    """The picture of a call: an array, or a photograph, whose reading is the stage `decode`.

    Returns:
        The picture, and the photograph if it is one.

    Raises:
        ImageError: the file cannot be read, or the array is not a picture.
    """
    if isinstance(image, (str, Path)):
        with watch.stage("decode"):
            photo = read_photo(Path(image))
            image = photo.pixels
            if photo.alpha is not None:
                image = np.concatenate([image, photo.alpha[:, :, None]], axis=2)
        return check_pixels(image), photo
    return check_pixels(np.asarray(image)), None


def check_memory(bundle: Bundle, max_memory: int) -> None:
    """Refuses a limit, in bytes, below what the smallest part of a picture takes.

    Raises:
        UsageError: the network needs more.
    """
    if max_memory < (least := smallest_memory(bundle.network)):
        raise UsageError(
            f"this network needs at least {least / 2**20:.0f} MiB at a time, "
            f"found a limit of {max_memory / 2**20:.0f} MiB"
        )


def check_active(threshold: float | None, dilate: int | None) -> None:
    """Refuses what cannot decide which pixels are active; None is the bundle's own value.

    Raises:
        UsageError: the threshold is not in (0, 1], or the radius is negative.
    """
    if threshold is not None and not 0 < threshold <= 1:
        raise UsageError(f"the threshold must lie in (0, 1], found {threshold}")
    if dilate is not None and dilate < 0:
        raise UsageError(f"the dilation must not be negative, found {dilate}")


def check_mask(mask: NDArray[Any], size: tuple[int, int]) -> None:
    """Checks a caller's mask against the picture's (H, W).

    Raises:
        UsageError: it is not a bool [H, W].
    """
    if not isinstance(mask, np.ndarray) or mask.dtype != np.bool_ or mask.shape != size:
        found = f"{getattr(mask, 'dtype', type(mask).__name__)}{list(np.shape(mask))}"
        raise UsageError(f"the mask is {found}, expected bool{list(size)}, the picture's size")
