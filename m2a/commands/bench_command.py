"""`m2a bench`: how fast it is here, against what would be possible."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import click

from m2a.benchmark.analysis import (
    Growth,
    Regression,
    growths,
    read_baseline,
    regressions,
    to_json,
)
from m2a.benchmark.measure import COMPUTED, Benchmark, Case, measure
from m2a.benchmark.scenes import blob_mask, noise_picture
from m2a.commands.opening import Opening, opening_options
from m2a.commands.options import (
    EXISTING_OR_NOT,
    json_option,
    overwrite_option,
    print_json,
)
from m2a.diagnosis.versions import installed_versions
from m2a.errors import UsageError
from m2a.extras import check_extras
from m2a.files import atomic_write, check_target
from m2a.machine.cores import usable_cores
from m2a.runtime.backends import BACKENDS, PIPELINES, extras_of
from m2a.runtime.bundle import MADE_BY, PRECISIONS
from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.encoding import suffix_of
from m2a.runtime.images import read_photo

SIZES = "2152x1436"
COVERAGES = "1,2,5,10,20,40,100"


@click.command("bench")
@click.argument("image", required=False, type=EXISTING_OR_NOT)
@click.option(
    "--sizes",
    default=SIZES,
    show_default=True,
    metavar="WxH,…",
    help="Sizes of the synthetic pictures, where no IMAGE is given.",
)
@click.option(
    "--coverages",
    default=COVERAGES,
    show_default=True,
    metavar="PERCENT,…",
    help="How much of a synthetic picture is restored.",
)
@click.option(
    "--precision",
    "precisions",
    multiple=True,
    type=click.Choice(PRECISIONS),
    metavar="|".join(MADE_BY),
    help="Which of the bundle's graphs; several are measured side by side. [default: fp32]",
)
@click.option("--repeats", type=click.IntRange(min=1), default=5, show_default=True)
@click.option("--warmup", type=click.IntRange(min=0), default=1, show_default=True)
@click.option("--plot", type=EXISTING_OR_NOT, help="Draw time against coverage, as a PNG.")
@click.option("--save", type=EXISTING_OR_NOT, help="Write the result, to compare with later.")
@click.option(
    "--baseline",
    type=EXISTING_OR_NOT,
    help="Compare with what --save wrote; exit with 1 where it became slower beyond noise.",
)
@overwrite_option
@opening_options(precision=False, ensemble=False)
@json_option
def command(
    image: Path | None,
    sizes: str,
    coverages: str,
    precisions: tuple[str, ...],
    repeats: int,
    warmup: int,
    plot: Path | None,
    save: Path | None,
    baseline: Path | None,
    overwrite: bool,
    opening: Opening,
    as_json: bool,
) -> None:
    """Time every stage, at one coverage after another, in turns.

    IMAGE is timed under its predicted mask; without one, pictures of noise under masks of an exact
    coverage. The best rate of matrix products on this machine is measured beside it, and, where the
    bundle has it (`m2a export --with-dense`), the same network run densely.
    Needs the extra `bench`.

    \b
    Example:
      m2a bench
      m2a bench --sizes 640x480 --coverages 5,50 --plot growth.png --save before.json
    """
    _check_distinct({"--plot": plot, "--save": save, "--baseline": baseline})
    for path in (plot, save):
        if path is not None:
            check_target(path, overwrite=overwrite)
    if plot is not None and plot.suffix.lower() != ".png":
        raise UsageError(f"--plot {plot}: found the suffix {plot.suffix!r}, expected .png")
    if opening.backend in PIPELINES:
        raise UsageError(
            f"--backend: found {opening.backend}, expected one of {', '.join(BACKENDS)}, which "
            "compute the dense network and matrix products too; `m2a run --json` tells the stages' "
            "times of any"
        )
    plotting = () if plot is None else ("matplotlib",)
    check_extras(
        *extras_of(opening.backend),
        "bench",
        only=("onnxruntime", "onnxruntime-gpu", "onnx", *plotting),
        purpose="A benchmark",
    )
    # All that can fail by itself comes before the measurement, which takes minutes.
    earlier = None if baseline is None else read_baseline(baseline)
    draw = None if plot is None else _drawing()
    bundle = opening.find()
    deblurrers = [
        replace(opening, precision=precision).open(bundle) for precision in precisions or ("fp32",)
    ]
    cases = _synthetic(sizes, coverages) if image is None else [_photo(image, deblurrers[0])]
    if earlier is not None:
        earlier.check(
            backend=deblurrers[0].backend,
            threads=opening.threads or usable_cores(),
            pictures={(case.name, one.precision) for case in cases for one in deblurrers},
        )
    benchmark = measure(
        bundle,
        deblurrers,
        cases,
        warmup=warmup,
        repeats=repeats,
        threads=opening.threads,
        progress=lambda name: click.echo(f"{name} …", err=True),
    )
    content = to_json(benchmark, installed_versions())
    if save is not None:
        atomic_write(save, (json.dumps(content, indent=1) + "\n").encode(), overwrite=overwrite)
    if plot is not None and draw is not None:
        atomic_write(plot, draw(benchmark), overwrite=overwrite)
    slower = [] if earlier is None else regressions(benchmark, earlier)
    if as_json:
        print_json({**content, "regressions": [vars(regression) for regression in slower]})
    else:
        _echo(benchmark, growths(benchmark), slower)
    click.get_current_context().exit(1 if slower else 0)


def _check_distinct(files: Mapping[str, Path | None]) -> None:
    given = {option: path.resolve() for option, path in files.items() if path is not None}
    for (one, path), (other, same) in combinations(given.items(), 2):
        if path == same:
            raise UsageError(f"found {path} for {one} and for {other}, expected two files")


def _drawing() -> Callable[[Benchmark], bytes]:
    from m2a.benchmark.plot import draw_growth

    return draw_growth


def _synthetic(sizes: str, coverages: str) -> list[Case]:
    cases = []
    for width, height in _sizes(sizes):
        pixels = noise_picture(height, width)
        for percent in _percents(coverages):
            mask = blob_mask(height, width, percent / 100)
            cases.append(Case.of(f"{width}x{height} {percent:g}%", pixels, mask))
    return cases


def _sizes(text: str) -> list[tuple[int, int]]:
    sizes = []
    for part in text.split(","):
        width, _, height = part.strip().lower().partition("x")
        if not (width.isdecimal() and height.isdecimal() and int(width) and int(height)):
            raise UsageError(f"--sizes: expected sizes such as 2152x1436,640x480, found {part!r}")
        sizes.append((int(width), int(height)))
    return sizes


def _percents(text: str) -> list[float]:
    try:
        percents = [float(part) for part in text.split(",")]
    except ValueError:
        raise UsageError(
            f"--coverages: expected percentages such as 1,10, found {text!r}"
        ) from None
    for percent in percents:
        if not 0 < percent <= 100:
            raise UsageError(f"--coverages: expected above 0 to 100 %, found {percent:g}")
    return percents


def _photo(path: Path, deblurrer: Deblurrer) -> Case:
    photo = read_photo(path)
    pixels = photo.pixels
    mask = deblurrer(pixels).mask
    if not mask.any():
        raise UsageError(
            f"{path}: found no blurred pixel, so that there is nothing to restore and to time; "
            "give a picture with blur, or none for synthetic ones"
        )
    suffix = suffix_of(photo.format)
    encoded = path.read_bytes()
    return Case(name=str(path), encoded=encoded, suffix=suffix, pixels=pixels, mask=mask)


def _echo(benchmark: Benchmark, found: list[Growth], slower: list[Regression]) -> None:
    click.echo(
        f"{benchmark.backend}, {benchmark.threads} threads; milliseconds, median and "
        "(95th percentile)"
    )
    stages = ["decode", *COMPUTED, "encode"]
    click.echo("".join([f"{'':24}", *(f"{stage:>15}" for stage in [*stages, "total"])]))
    for measured in benchmark.measured:
        timings = [measured.stages.get(stage) for stage in stages] + [measured.total]
        cells = [
            "-" if timing is None else f"{timing.median * 1e3:.1f} ({timing.p95 * 1e3:.1f})"
            for timing in timings
        ]
        name = f"{measured.case} {measured.precision}"
        click.echo("".join([f"{name:24}", *(f"{cell:>15}" for cell in cells)]))
    for (height, width), timing in benchmark.dense.items():
        figures = f"{timing.median * 1e3:.1f} ({timing.p95 * 1e3:.1f})"
        click.echo(f"{f'{width}x{height} dense':24}{'':{15 * len(stages)}}{figures:>15}")
    click.echo(f"\nmatrix products: {benchmark.limit:.1f} GFLOP/s at best")
    for measured in benchmark.measured:
        click.echo(
            f"{measured.case} {measured.precision}: restoration at {measured.rate:.1f} GFLOP/s, "
            f"{measured.share_of_limit:.0%} of that"
        )
        if measured.tables_share is not None:
            click.echo(f"  tables and patches take {measured.tables_share:.0%} of the restoration")
        if measured.products_and_gathers is not None:
            ratio = measured.stages["restore"].median / measured.products_and_gathers
            click.echo(f"  its products and gathers alone would take 1/{ratio:.2f} of its time")
    for growth in found:
        size = f"{growth.size[1]}x{growth.size[0]} {growth.precision}"
        if growth.r_squared is not None:
            click.echo(f"{size}: linear from 2 to 40 % coverage with R² = {growth.r_squared:.4f}")
        for coverage, ratio in growth.dense_ratio.items():
            click.echo(f"{size}: at {coverage:.1%} coverage dense takes {ratio:.2f} times as long")
        if growth.dense_ratio:
            click.echo(f"{size}: {_where_dense_pays(growth)}")
    if benchmark.peak_memory is not None:
        click.echo(f"peak memory of the process: {benchmark.peak_memory / 2**20:.0f} MiB")
    for regression in slower:
        click.echo(
            f"slower: {regression.case} {regression.precision}: at least "
            f"{regression.now * 1e3:.1f} ms, was at most {regression.before * 1e3:.1f} ms",
        )


def _where_dense_pays(growth: Growth) -> str:
    """Says from which coverage dense is no slower; the ratios count as they are printed."""
    if growth.crossover is not None:
        return f"dense is as fast at {growth.crossover:.0%}"
    even = [coverage for coverage, ratio in growth.dense_ratio.items() if round(ratio, 2) <= 1]
    if not even:
        return "dense is slower at all of these coverages"
    return f"dense is as fast at {min(even):.0%}, and slower below"
