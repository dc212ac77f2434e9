"""The viewer: a photo before and after under a slider, its mask and its motion to switch on.

The page of `m2a report` holds one for each photo; that of `m2a serve` fills one in the browser.
"""

from __future__ import annotations

import base64
import hashlib

import numpy as np
from numpy.typing import NDArray

from m2a.reports.markup import Markup, fill, read_template
from m2a.runtime.drawing import Strokes

__all__ = ["csp_hash", "data_uri", "motion_path", "motion_svg", "render_viewer", "stroke_widths"]


def render_viewer(**values: object) -> Markup:
    """Fills the viewer's template.

    Its style is `base.css` and `viewer.css`; `viewer.js` has `openViewer`, which makes it work.

    Args:
        values: `name`; `width` and `height` in pixels, `centre_x` and `centre_y` as
            shares; `before`, `after` and `mask`, each a picture's address; `motion`, an SVG;
            `disabled`, the attribute of the layers' switches, or empty; `scaled`, a note.
    """
    return fill(read_template("viewer.html"), **values)


def motion_svg(size: tuple[int, int], strokes: Strokes) -> Markup:
    """The trajectories as an SVG.

    Args:
        size: (W, H) of the photo that the strokes are in pixels of.
        strokes: the trajectories.
    """
    under, over = stroke_widths(strokes)
    return fill(
        read_template("motion.svg"),
        width=size[0],
        height=size[1],
        under=f"{under:g}",
        over=f"{over:g}",
        path=motion_path(strokes),
    )


def stroke_widths(strokes: Strokes) -> tuple[float, float]:
    """Widths in pixels of the outline's and the stroke's lines."""
    return 2 * (strokes.radius + strokes.outline), 2 * strokes.radius


def motion_path(strokes: Strokes) -> Markup:
    """The trajectories as an SVG path's data; d(t) = a·t + b·t² is a quadratic Bézier curve."""
    # A pixel's centre has integer coordinates in the photo and ends in ½ in SVG.
    centre, a, b = strokes.curves[:, 0:2] + 0.5, strokes.curves[:, 2:4], strokes.curves[:, 4:6]
    return _path(np.concatenate([centre - a + b, centre - b, centre + a + b], axis=1))


def data_uri(webp: bytes) -> Markup:
    """A WebP file as an address."""
    return Markup(f"data:image/webp;base64,{base64.b64encode(webp).decode('ascii')}")


def csp_hash(text: str) -> str:
    """What a content security policy calls a style or script inside the page."""
    digest = hashlib.sha256(text.encode("utf-8")).digest()
    return f"sha256-{base64.b64encode(digest).decode('ascii')}"


def _path(points: NDArray[np.float32]) -> Markup:
    return Markup(
        "".join(
            f"M{x0:.1f} {y0:.1f}Q{x1:.1f} {y1:.1f} {x2:.1f} {y2:.1f}"
            for x0, y0, x1, y1, x2, y2 in points.tolist()
        )
    )
