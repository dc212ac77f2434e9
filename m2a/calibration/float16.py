"""The FP16 variant judged on photos, beside the bundle's own reference."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from m2a.calibration.activations import TOLD, check_activations, largest_activations
from m2a.calibration.gate import LIMITS, Judge
from m2a.calibration.photos import Photo, PhotoSets, judged_on
from m2a.calibration.recording import open_graphs
from m2a.calibration.variants import (
    Variant,
    check_outputs,
    computed_by_definition,
    crop_of,
    make_float16,
)
from m2a.errors import PrecisionError
from m2a.runtime.bundle import GRAPHS, Bundle, Reference
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.images import read_photo
from m2a.runtime.pixels import check_pixels
from m2a.runtime.windows import PaddedPicture


def make_float16_on(
    bundle: Bundle,
    photos: PhotoSets,
    *,
    max_memory: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Variant:
    """Makes the FP16 variant of a bundle and judges it on photos too.

    Args:
        bundle: holds FP32 graphs and the reference.
        photos: of which some show how large activations get, and others judge.
        max_memory: as `m2a.load`.
        progress: called with the name of each step as it begins.

    Returns:
        The variant, which passed; nothing is written.

    Raises:
        PrecisionError: as `make_float16`; an activation exceeds 30,000, or the gate is not met.
        UsageError: no blur is found in the photos of one set, or the memory does not suffice.
        ImageError: a photo cannot be read.
        BundleError: the bundle is damaged.
    """
    variant = make_float16(bundle, progress=progress)
    largest = largest_activations(
        bundle, photos.calibrating, max_memory=max_memory, progress=progress
    )
    check_activations(largest)
    graphs = {name: bundle.graph(name, precision="fp32") for name in GRAPHS}
    single = open_graphs(bundle, graphs, precision="fp32", max_memory=max_memory)
    progress("computing a crop of a photo in half arithmetic")
    crop = _crop_with_blur(single, photos.judging)
    if crop is not None:
        check_outputs(
            "fp16 in true half arithmetic, on a photo", computed_by_definition(variant.graphs, crop)
        )
    half = open_graphs(bundle, variant.graphs, precision="fp16", max_memory=max_memory)
    with Judge(single, photos.judging, progress=progress) as judge:
        progress("judging FP16 on photos")
        gate = judge.judge(half)
    if not gate.passed:
        raise PrecisionError(
            f"FP16 does not give the same picture as FP32: {gate}; {LIMITS}. Keep this model in "
            "FP32"
        )
    told = dict(list(largest.items())[:TOLD])
    return replace(
        variant,
        record={
            "gate": {**gate.to_json(), **judged_on(photos)},
            "largest_activations": {name: float(f"{value:.4g}") for name, value in told.items()},
        },
    )


def _crop_with_blur(single: Deblurrer, photos: Sequence[Photo]) -> Reference | None:
    """A crop of the first photo whose mask is not empty, as a reference without results."""
    for photo in photos:
        colour = check_pixels(read_photo(photo.path).pixels)
        probability = single.predict(PaddedPicture(colour))
        mask = single.active(probability)
        if mask.any():
            place = crop_of(mask)
            return Reference(
                image=np.rint(colour.rgb(place) * (255 / colour.scale)).astype(np.uint8),
                probability=probability[place],
                mask=mask[place],
                residual=np.zeros((0, 0, 3), np.float32),
                motion=np.zeros(0, np.float32),
            )
    return None
