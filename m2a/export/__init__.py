"""From a checkpoint to a bundle: reparameterize, trace, check, compare, write."""

from m2a.errors import MissingDependencyError

try:
    from m2a.export.exporter import ExportReport, export_bundle
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("m2a"):
        raise
    raise MissingDependencyError(
        error.name, extra="export", purpose="Exporting a checkpoint"
    ) from error

__all__ = ["ExportReport", "export_bundle"]
