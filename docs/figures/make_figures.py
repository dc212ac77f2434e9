"""Draws the figures of `docs/how-it-works.md` from the example photo and the packaged model.

python docs/figures/make_figures.py    (needs the extras `cpu`, `export` and `docs`)
"""

from __future__ import annotations

from pathlib import Path

import matplotlib as mpl
import numpy as np
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from numpy.typing import NDArray

import m2a
from m2a.models.config import PRESETS
from m2a.models.cost import count_cost
from m2a.runtime.drawing import motion_picture
from m2a.runtime.images import read_photo
from m2a.runtime.sites import LEVELS, build_sites, pad_mask

FOLDER = Path(__file__).resolve().parent
EXAMPLES = FOLDER.parent.parent / "examples"

AROUND_THE_SHUTTLE = (slice(0, 320), slice(200, 512))
"""Rows and columns of the example photo that the stages are shown on."""

AT_THE_WING = (slice(240, 304), slice(440, 504))
"""64×64 pixels of it, at a border of the mask, on which single sites can be seen."""

TEXT = {"font.family": "DejaVu Sans", "font.size": 10, "axes.titlesize": 10}
SVG = {"svg.hashsalt": "m2a"}
"""Without it the names inside the file differ from run to run."""


def draw_stages(photo: NDArray[np.uint8], result: m2a.Result) -> None:
    """`stages.jpg`: what the pipeline makes of the photo, stage after stage."""
    source = read_photo(EXAMPLES / "shuttle.png")
    dimmed = np.where(result.mask[:, :, None], photo, (photo * 0.3).astype(np.uint8))
    truth = read_photo(EXAMPLES / "shuttle-sharp.png").pixels
    panels = {
        "the photo": photo,
        "probability of visible motion blur": result.probability,
        f"the mask: {result.coverage:.0%} of the whole photo": dimmed,
        "predicted trajectories": motion_picture(source, result.motion).pixels,
        "restored": result.image,
        "the sharp truth (the blur is synthetic)": truth,
    }
    figure, axes = plt.subplots(2, 3, figsize=(9.4, 6.9), layout="constrained")
    for axis, (title, picture) in zip(axes.flat, panels.items(), strict=True):
        axis.imshow(picture[AROUND_THE_SHUTTLE], cmap="inferno", vmin=0, vmax=1)
        _bare(axis, title)
    figure.savefig(FOLDER / "stages.jpg", dpi=110, pil_kwargs={"quality": 86})
    plt.close(figure)


def draw_levels(photo: NDArray[np.uint8], mask: NDArray[np.bool_]) -> None:
    """`levels.png`: the active sites on the four levels, in a corner of the photo."""
    rows, columns = AT_THE_WING
    counts = build_sites(pad_mask(mask)).counts
    figure, axes = plt.subplots(1, LEVELS, figsize=(9.4, 2.75), layout="constrained")
    level_mask = pad_mask(mask)
    side = rows.stop - rows.start
    for level, axis in enumerate(axes):
        if level:
            level_mask = level_mask[0::2] | level_mask[1::2]
            level_mask = level_mask[:, 0::2] | level_mask[:, 1::2]
        step = 2**level
        part = level_mask[rows.start // step : rows.stop // step][
            :, columns.start // step : columns.stop // step
        ]
        grey = photo[rows, columns].mean(axis=2)
        axis.imshow(grey, cmap="gray", vmin=0, vmax=255, extent=(0, side, side, 0), alpha=0.55)
        sites = np.zeros((*part.shape, 4), np.float32)
        sites[part] = (0.98, 0.45, 0.05, 0.75)
        axis.imshow(sites, extent=(0, side, side, 0), interpolation="nearest")
        lines = np.arange(0, side + 1, step)
        width = 0.25 if level == 0 else 0.5
        axis.hlines(lines, 0, side, color="0.25", alpha=0.5, linewidth=width)
        axis.vlines(lines, 0, side, color="0.25", alpha=0.5, linewidth=width)
        _bare(axis, f"level {level}: {counts[level]:,} sites")
    figure.savefig(FOLDER / "levels.png", dpi=110)
    plt.close(figure)


def draw_cost(coverage: float) -> None:
    """`cost.svg`: arithmetic against coverage, from `m2a.models.cost`."""
    figure, axis = plt.subplots(figsize=(8.4, 3.7), layout="constrained")
    share = np.geomspace(1e-3, 1, 200)
    for (name, config), colour in zip(PRESETS.items(), ("tab:blue", "tab:red"), strict=True):
        cost = count_cost(config)
        axis.plot(
            100 * share, (cost.mask + share * cost.restore) / 1000, color=colour, label=f"{name}"
        )
        dense = (cost.mask + cost.restore) / 1000
        axis.axhline(dense, color=colour, linestyle=":", label=f"{name} on every pixel")
        floor = cost.mask / 1000
        axis.axhline(floor, color=colour, linestyle="--", label=f"{name}, mask network alone")
    axis.axvline(100 * coverage, color="gray", linewidth=0.8)
    axis.annotate(
        "the example photo",
        (100 * coverage, 1.5),
        xytext=(-4, 0),
        textcoords="offset points",
        ha="right",
        color="dimgray",
    )
    axis.set(
        xscale="log",
        yscale="log",
        xlim=(0.1, 100),
        ylim=(1, 1500),
        xlabel="coverage: share of active pixels, %",
        ylabel="kFLOP per pixel of the photo",
    )
    for ruler, ticks in ((axis.xaxis, (0.1, 1, 10, 100)), (axis.yaxis, (1, 10, 100, 1000))):
        ruler.set_ticks(ticks, [f"{tick:g}" for tick in ticks])
    axis.grid(alpha=0.3)
    figure.legend(loc="outside right upper", fontsize=8.5)
    figure.savefig(FOLDER / "cost.svg", metadata={"Date": None})
    plt.close(figure)


def main() -> None:
    """Writes the three figures beside this file."""
    mpl.use("agg")
    photo = read_photo(EXAMPLES / "shuttle.png").pixels
    result = m2a.load()(photo)
    with mpl.rc_context(TEXT | SVG):
        draw_stages(photo, result)
        draw_levels(photo, result.mask)
        draw_cost(result.coverage)


def _bare(axis: Axes, title: str) -> None:
    axis.set_title(title)
    axis.set_axis_off()


if __name__ == "__main__":
    main()
