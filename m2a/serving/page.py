"""The page at /: one HTML file that asks nobody but this service for anything."""

from __future__ import annotations

import functools

from m2a._version import __version__
from m2a.reports.markup import Markup, fill, read_template
from m2a.reports.viewer import csp_hash, render_viewer
from m2a.serving.settings import Settings

__all__ = ["page_headers", "render_service_page"]

PACKAGE = "m2a.serving"


@functools.cache
def render_service_page(settings: Settings) -> str:
    """Renders the page.

    Args:
        settings: whose limits it tells.

    Returns:
        HTML, to be sent as UTF-8.
    """
    limits = settings.limits
    style, script = _style(), _script()
    return fill(
        read_template("service.html", package=PACKAGE),
        version=__version__,
        style=style,
        script=script,
        max_bytes=limits.body_bytes,
        max_size=f"{limits.body_bytes / 2**20:g} MiB",
        max_pixels=f"{limits.pixels / 1e6:.0f}",
        viewer=render_viewer(
            name="The photo",
            width=1,
            height=1,
            centre_x=0.5,
            centre_y=0.5,
            before="",
            after="",
            mask="",
            motion=fill(
                read_template("motion.svg"), width=1, height=1, under=0, over=0, path=Markup()
            ),
            disabled=Markup(),
            scaled="",
        ),
    )


def page_headers() -> dict[str, str]:
    """Headers of the page: its style, its script, and no others."""
    policy = (
        "default-src 'none'; img-src data:; connect-src 'self'; "
        f"style-src '{csp_hash(_style())}'; script-src '{csp_hash(_script())}'; "
        "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return {"Content-Security-Policy": policy}


def _style() -> Markup:
    own = read_template("service.css", package=PACKAGE)
    return Markup(read_template("base.css") + read_template("viewer.css") + own)


def _script() -> Markup:
    own = read_template("service.js", package=PACKAGE)
    return Markup(read_template("viewer.js") + own)
