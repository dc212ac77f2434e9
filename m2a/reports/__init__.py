"""A page that shows what was done to photos: before and after, mask, motion, and the facts."""

from m2a.reports.page import Provenance, counted, render_page
from m2a.reports.report import Failed, Shown, report_photo, report_photos

__all__ = [
    "Failed",
    "Provenance",
    "Shown",
    "counted",
    "render_page",
    "report_photo",
    "report_photos",
]
