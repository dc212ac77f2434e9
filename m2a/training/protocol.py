"""Rendering a folder of synthetic samples to evaluate on: `m2a synth`."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import TrainingError
from m2a.training.cutouts import digest_cutouts, load_cutouts
from m2a.training.photographs import digest, find_photographs
from m2a.training.processes import spread
from m2a.training.sample_folder import SampleFolder
from m2a.training.samples import Sample, SynthesisConfig
from m2a.training.synthesis import load_photographs, synthesise

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

_LOCAL = ("objects", "region")
_MIN_VISIBLE = 0.005
_DRAWS = 100
_SHEET = 24


@dataclass(frozen=True, kw_only=True)
class Source:
    """All that samples depend on; sample i is drawn from the seed sequence (seed, i).

    Attributes:
        photographs: folder of sharp photographs.
        only: file names without suffix to take; empty takes all.
        cutouts: folder of cut-outs that some of the objects are taken from.
        config: what the samples look like.
        seed: not negative.
    """

    photographs: Path
    only: tuple[str, ...] = ()
    cutouts: Path | None = None
    config: SynthesisConfig = EVALUATION
    seed: int = 0

    def identity(self) -> dict[str, Any]:
        """The same as JSON values, the pictures by their contents.

        Raises:
            TrainingError: there are no photographs or no cut-outs.
        """
        photographs = digest(find_photographs(self.photographs, only=self.only))
        identity: dict[str, Any] = json.loads(
            json.dumps(
                {
                    "photographs": photographs,
                    "cutouts": digest_cutouts(self.cutouts),
                    "seed": self.seed,
                    "synthesis": asdict(self.config),
                }
            )
        )
        return identity

    def render(self, numbers: Sequence[int], folder: SampleFolder) -> Generator[int, None, None]:
        """Renders and writes samples; yields the number of each once it is written."""
        photos = load_photographs(self.photographs, only=self.only)
        cutouts = load_cutouts(self.cutouts)
        for number in numbers:
            rng = np.random.default_rng((self.seed, number))
            folder.write(number, draw_sample(photos, rng, self.config, cutouts=cutouts))
            yield number


def write_samples(
    source: Source,
    path: Path,
    *,
    count: int,
    workers: int = 1,
    overwrite: bool = False,
    progress: Callable[[int], None] = lambda _: None,
) -> Path:
    """Renders samples into `blurred/`, `sharp/`, `mask/`, `visible/` and `motion/`.

    Local blur that shows on less than 0.5 % of the pixels is drawn again: there is nothing to
    restore, and nothing to measure. Pictures are PNG; `mask/` is the annotated mask, `visible/`
    its part where the blur shows. `motion/` holds a NumPy array per sample, f32 [H/4, W/4, 4]
    rounded up: (a_x, a_y, b_x, b_y) of each 4×4 cell, as `Result.motion`, NaN where nothing moves.

    Samples of the same source that are there already are kept, so that a run that was killed goes
    on; the result is that of one that was not.

    Args:
        source: what to render.
        path: where to write; made if missing.
        count: number of samples.
        workers: processes that render; the samples do not depend on it.
        overwrite: whether samples that are there are rendered anew.
        progress: called with the number of samples that are there, first of all with those that
            were there before.

    Returns:
        The path of a contact sheet, blurred | sharp | mask, to look at.

    Raises:
        TrainingError: there are no photographs or cut-outs, no blur of the asked-for kind is
            visible, or a process died.
        UsageError: the folder holds samples of another source, and `overwrite` is false; or more
            than `count`.
    """
    load_cutouts(source.cutouts)  # one that cannot be used fails before anything is written
    folder = SampleFolder(path)
    missing = folder.begin(source.identity(), count=count, overwrite=overwrite)
    render = partial(source.render, folder=folder)
    there = count - len(missing)
    progress(there)
    if missing:
        parallel = workers > 1 and len(missing) > 1
        rendered = spread(render, missing, workers=workers) if parallel else render(missing)
        with closing(rendered):  # ends the processes, whatever happens
            for done, _ in enumerate(rendered, start=there + 1):
                progress(done)
    return folder.write_sheet(min(count, _SHEET))


def draw_sample(
    photos: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    config: SynthesisConfig,
    *,
    cutouts: Sequence[NDArray[np.uint8]] = (),
) -> Sample:
    """Draws a sample of any kind; where its blur is local, as `draw_visible`.

    Arguments and errors as there.
    """
    sample = synthesise(photos, rng, config, cutouts=cutouts)
    if sample.kind not in _LOCAL or sample.visible.mean() >= _MIN_VISIBLE:
        return sample
    local = config.objects_probability + config.region_probability
    again = replace(
        config,
        objects_probability=config.objects_probability / local,
        region_probability=config.region_probability / local,
        shake_probability=0.0,
        still_probability=0.0,
    )
    return draw_visible(photos, rng, again, cutouts=cutouts)


def draw_visible(
    photos: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    config: SynthesisConfig,
    *,
    cutouts: Sequence[NDArray[np.uint8]] = (),
) -> Sample:
    """Draws until a sample has local blur that shows on at least 0.5 % of its pixels.

    Arguments as `synthesise`. The configuration must have samples with local blur.

    Raises:
        TrainingError: none of 100 samples with local blur has it.
    """
    draws = 0
    while draws < _DRAWS:
        sample = synthesise(photos, rng, config, cutouts=cutouts)
        if sample.kind in _LOCAL:
            if sample.visible.mean() >= _MIN_VISIBLE:
                return sample
            draws += 1
    raise TrainingError(
        f"{_DRAWS} samples were drawn, and blur shows on {_MIN_VISIBLE:.1%} of the pixels of none "
        f"of them: blur_length is {config.blur_length}; expected longer blur, or photographs with "
        "more in them"
    )
