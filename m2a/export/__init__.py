"""From a checkpoint to a bundle: reparameterize, trace, check, compare, write."""

from m2a.extras import needing_extra

with needing_extra("export", purpose="Exporting a checkpoint"):
    from m2a.export.exporter import ExportReport, export_bundle

__all__ = ["ExportReport", "export_bundle"]
