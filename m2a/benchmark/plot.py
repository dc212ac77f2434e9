"""The plot: time against coverage, and where the dense network would be as fast."""

from __future__ import annotations

import io

from m2a.benchmark.analysis import growths
from m2a.benchmark.measure import Benchmark
from m2a.extras import needing_extra

# Not in the function: so that it is known before anything is measured whether it can be drawn.
with needing_extra("bench", only=["matplotlib"], purpose="Drawing a benchmark"):
    from matplotlib.figure import Figure


def draw_growth(benchmark: Benchmark) -> bytes:
    """Draws the time from mask to scatter against the coverage, one line a size and precision.

    Returns:
        A PNG file's content.
    """
    figure = Figure(figsize=(7.2, 4.5), dpi=150, layout="constrained")
    axes = figure.add_subplot()
    for number, growth in enumerate(growths(benchmark)):
        group = sorted(
            (
                m
                for m in benchmark.measured
                if (m.size, m.precision) == (growth.size, growth.precision)
            ),
            key=lambda measured: measured.coverage,
        )
        colour = f"C{number}"
        height, width = growth.size
        coverages = [100 * measured.coverage for measured in group]
        axes.plot(
            coverages,
            [measured.total.median for measured in group],
            marker="o",
            color=colour,
            label=f"{width}×{height}, {growth.precision}",
        )
        axes.fill_between(
            coverages,
            [measured.total.p25 for measured in group],
            [measured.total.p75 for measured in group],
            color=colour,
            alpha=0.2,
            linewidth=0,
        )
        if (dense := benchmark.dense.get(growth.size)) is not None:
            axes.axhline(
                dense.median, color=colour, linestyle="--", label=f"{width}×{height}, dense"
            )
        if growth.crossover is not None and dense is not None:
            axes.plot(100 * growth.crossover, dense.median, marker="x", markersize=10, color=colour)
    axes.set_xlabel("restored pixels, %")
    axes.set_ylabel("seconds, from mask to scatter")
    axes.set_xlim(left=0)
    axes.set_ylim(bottom=0)
    axes.grid(alpha=0.3)
    handles, labels = axes.get_legend_handles_labels()
    unique = dict(zip(labels, handles, strict=True))
    axes.legend(unique.values(), unique.keys(), frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    file = io.BytesIO()
    figure.savefig(file, format="png")
    return file.getvalue()
