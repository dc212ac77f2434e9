"""The page: one HTML file that asks nobody for anything.

Its policy (CSP) allows pictures inside the page and the one style and the one script whose hashes
it names; every text goes through `fill`, which escapes it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone

from m2a._version import __version__
from m2a.errors import number_of
from m2a.reports.markup import Markup, fill, joined, read_template
from m2a.reports.report import Failed, Shown
from m2a.reports.viewer import csp_hash, data_uri, motion_svg, render_viewer
from m2a.runtime.bundle import GRAPHS, Bundle
from m2a.runtime.settings import FULL

__all__ = ["Provenance", "counted", "render_page"]

DIGITS = 16
"""Of a hash that are shown; the whole is its tooltip."""


@dataclass(frozen=True, kw_only=True)
class Provenance:
    """How the pictures of a page were made.

    Attributes:
        bundle: whose graphs were computed.
        precision: of these graphs.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask was then dilated.
        ensemble: turns of a picture over which the mean was taken.
        mask: where the mask came from, as in `settings.Settings`.
        versions: name → version of what computed.
        made: when, with its time zone.

    Raises:
        ValueError: `made` has no time zone.
    """

    bundle: Bundle
    precision: str
    threshold: float
    dilate: int
    ensemble: int
    mask: str | None
    versions: Mapping[str, str]
    made: datetime

    def __post_init__(self) -> None:
        if self.made.tzinfo is None:
            raise ValueError(f"made: found {self.made} without a time zone, expected one")


def render_page(photos: Sequence[Shown | Failed], provenance: Provenance) -> str:
    """Renders the page.

    Args:
        photos: in the order in which they are shown; where there are several, or one that failed,
            a list stands beside them.
        provenance: how all of them were made.

    Returns:
        HTML, to be written as UTF-8.
    """
    style = Markup("".join(map(read_template, ("base.css", "viewer.css", "page.css"))))
    script = Markup("".join(map(read_template, ("viewer.js", "page.js"))))
    made = provenance.made.astimezone(timezone.utc)
    numbered = list(enumerate(photos, start=1))
    several = len(photos) > 1 or any(isinstance(photo, Failed) for photo in photos)
    return fill(
        read_template("page.html"),
        title=photos[0].source.name if len(photos) == 1 else counted(photos),
        version=__version__,
        style=style,
        script=script,
        style_hash=csp_hash(style),
        script_hash=csp_hash(script),
        kind="several" if several else "one",
        summary=counted(photos),
        date=f"{made:%Y-%m-%d %H:%M} UTC",
        datetime=f"{made:%Y-%m-%dT%H:%MZ}",
        list=_list(numbered) if several else Markup(),
        photos=joined(_photo(n, photo) for n, photo in numbered if isinstance(photo, Shown)),
        settings=_facts(_settings(provenance)),
        model=_facts(_model(provenance)),
        versions=_facts({"m2a": __version__, **provenance.versions}),
    )


def counted(photos: Sequence[Shown | Failed]) -> str:
    """How many photos there are, and how many of them failed."""
    failed = sum(isinstance(photo, Failed) for photo in photos)
    return number_of(len(photos), "photo") + (f", {failed} failed" if failed else "")


def _list(numbered: Iterable[tuple[int, Shown | Failed]]) -> Markup:
    entries = (
        fill(
            read_template("entry.html"),
            number=number,
            path=photo.source,
            name=photo.source.name,
            thumbnail=data_uri(photo.layers.thumbnail),
            figures=f"{_coverage(photo)} · {_seconds(sum(photo.seconds.values()))}",
        )
        if isinstance(photo, Shown)
        else fill(
            read_template("failed_entry.html"),
            path=photo.source,
            name=photo.source.name,
            reason=photo.reason.removeprefix(f"{photo.source}: "),
        )
        for number, photo in numbered
    )
    return fill(read_template("list.html"), entries=joined(entries))


def _photo(number: int, photo: Shown) -> Markup:
    total = sum(photo.seconds.values())
    return fill(
        read_template("photo.html"),
        number=number,
        name=photo.source.name,
        lede=_lede(photo),
        viewer=_viewer(photo),
        facts=_facts(_photo_facts(photo)),
        total=_seconds(total),
        stages=joined(
            fill(
                read_template("stage.html"),
                name=name,
                seconds=_seconds(seconds),
                share=f"{100 * seconds / total if total else 0:.2f}",
            )
            for name, seconds in photo.seconds.items()
        ),
    )


def _viewer(photo: Shown) -> Markup:
    layers = photo.layers
    width, height = layers.size
    return render_viewer(
        name=photo.source.name,
        width=width,
        height=height,
        centre_x=f"{layers.centre[0]:.4f}",
        centre_y=f"{layers.centre[1]:.4f}",
        before=data_uri(layers.before),
        after=data_uri(layers.after),
        mask=data_uri(layers.mask),
        motion=motion_svg(photo.size, layers.strokes),
        disabled=Markup() if photo.coverage else Markup(" disabled"),
        scaled=_scaled_note(photo),
    )


def _coverage(photo: Shown) -> str:
    if not photo.coverage:
        return "no motion blur found"
    return f"{_share(photo)} restored"


def _share(photo: Shown) -> str:
    # 0.04 % is not nothing.
    return "< 0.1 %" if 0 < photo.coverage < 0.001 else f"{photo.coverage:.1%}".replace("%", " %")


def _lede(photo: Shown) -> str:
    if not photo.coverage:
        return "No motion blur found: the photo is unchanged."
    return f"{_share(photo)} of the pixels restored, all others as they were."


def _scaled_note(photo: Shown) -> str:
    if photo.size == photo.layers.size:
        return ""
    return (
        f"Scaled down for this page, from {_size(photo.size)} to {_size(photo.layers.size)} pixels."
    )


def _photo_facts(photo: Shown) -> dict[str, object]:
    return {
        "File": photo.source,
        "Size": f"{_size(photo.size)} pixels",
        "Format": f"{photo.format or 'unknown'}, {photo.bits} bits",
        "Coverage": _share(photo),
        "Backend": photo.backend,
    }


def _settings(provenance: Provenance) -> dict[str, object]:
    computed: dict[str, object] = {"Precision": provenance.precision}
    if provenance.ensemble > 1:
        computed["Ensemble"] = f"mean of {provenance.ensemble} turns"
    if provenance.mask is not None:
        mask = "all pixels" if provenance.mask == FULL else provenance.mask
        return {"Mask": f"given: {mask}", **computed}
    return {
        "Mask": "predicted",
        "Threshold": f"{provenance.threshold:g}",
        "Dilation": f"{provenance.dilate} pixels",
        **computed,
    }


def _model(provenance: Provenance) -> dict[str, object]:
    bundle = provenance.bundle
    model = bundle.manifest.get("model")
    name = model.get("name", "unnamed") if isinstance(model, dict) else "unnamed"
    # The files' hashes, which were checked when they were read: what really computed.
    hashes: dict[str, object] = {
        f"{graph}.onnx": _hash(bundle.graphs[provenance.precision][graph].sha256)
        for graph in GRAPHS
    }
    # Not its whole path, which tells about the machine of whoever sends the page on.
    folder = "" if bundle.packaged else f"{bundle.path.resolve().name}, "
    return {"Name": f"{name!s:.80}", "Bundle": f"{folder}{bundle.origin}", **hashes}


def _hash(sha256: str) -> Markup:
    return fill('<code title="SHA-256 $whole">$short…</code>', whole=sha256, short=sha256[:DIGITS])


def _facts(facts: Mapping[str, object]) -> Markup:
    return joined(
        fill("<div><dt>$term</dt><dd>$value</dd></div>", term=term, value=value)
        for term, value in facts.items()
    )


def _size(size: tuple[int, int]) -> str:
    return f"{size[0]} × {size[1]}"


def _seconds(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 0.1 else f"{1000 * seconds:.1f} ms"
