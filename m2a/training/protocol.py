"""Writing a folder of synthetic samples to evaluate on: `m2a synth`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.files import atomic_file
from m2a.runtime.images import Photo, write_mask, write_photo
from m2a.training.samples import Sample, SynthesisConfig, cell_motion
from m2a.training.synthesis import contact_sheet, load_photographs, synthesise

EVALUATION = SynthesisConfig(
    blur_length=(4.0, 60.0),
    scale=(0.25, 1.0),
    defocus_probability=0.25,
    jpeg_quality=None,
    objects_probability=0.6,
    region_probability=0.4,
    shake_probability=0.0,
    still_probability=0.0,
)
"""Local blur in every sample, no JPEG: what the model card's figures are measured on."""

_MIN_VISIBLE = 0.005
_SHEET = 24


def write_samples(
    photographs: Path,
    folder: Path,
    *,
    count: int,
    seed: int,
    only: tuple[str, ...] = (),
    size: int = 256,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """Renders samples with local blur into `blurred/`, `sharp/`, `mask/`, `visible/`, `motion/`.

    A draw whose blur shows on less than 0.5 % of the pixels is drawn again: there is nothing to
    restore, and nothing to measure. Pictures are PNG; `mask/` is the annotated mask, `visible/`
    its part where the blur shows. `motion/` holds a NumPy array per sample, f32 [H/4, W/4, 4]
    rounded up: (a_x, a_y, b_x, b_y) of each 4×4 cell, as `Result.motion`, NaN where nothing moves.

    Args:
        photographs: folder of sharp photographs.
        folder: where to write; made if missing.
        count: number of samples.
        seed: sample i is drawn from the seed sequence (seed, i).
        only: file names without suffix to take; empty takes all.
        size: side of a sample in pixels.
        overwrite: whether existing files may be replaced.
        progress: called with the number of samples written.

    Returns:
        The path of a contact sheet, blurred | sharp | mask, to look at.

    Raises:
        TrainingError: there are no photographs.
        UsageError: a file exists and may not be replaced.
    """
    photos = load_photographs(photographs, only=only)
    for name in ("blurred", "sharp", "mask", "visible", "motion"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    config = replace(EVALUATION, size=size)
    shown: list[Sample] = []
    for number in range(count):
        rng = np.random.default_rng((seed, number))
        sample = draw_visible(photos, rng, config)
        name = f"{number:05d}.png"
        write_photo(folder / "blurred" / name, Photo(pixels=sample.blurred), overwrite=overwrite)
        write_photo(folder / "sharp" / name, Photo(pixels=sample.sharp), overwrite=overwrite)
        write_mask(folder / "mask" / name, sample.mask, overwrite=overwrite)
        write_mask(folder / "visible" / name, sample.visible, overwrite=overwrite)
        with atomic_file(folder / "motion" / f"{number:05d}.npy", overwrite=overwrite) as file:
            np.save(file, cell_motion(sample))
        if len(shown) < _SHEET:
            shown.append(sample)
        progress(number + 1)
    sheet = folder / "contact-sheet.png"
    write_photo(sheet, Photo(pixels=contact_sheet(shown, columns=2)), overwrite=overwrite)
    return sheet


def draw_visible(
    photos: Sequence[NDArray[np.uint8]], rng: np.random.Generator, config: SynthesisConfig
) -> Sample:
    """Draws until a sample has local blur that shows on at least 0.5 % of its pixels.

    Arguments and errors as `synthesise`. The configuration must have samples with local blur.
    """
    sample = synthesise(photos, rng, config)
    while sample.kind not in ("objects", "region") or sample.visible.mean() < _MIN_VISIBLE:
        sample = synthesise(photos, rng, config)
    return sample
