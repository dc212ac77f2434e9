"""Variants of a bundle in other precisions, and the proof that they give the same picture."""

from m2a.errors import MissingDependencyError

try:
    from m2a.calibration.variants import Variant, add_variant, make_float16
except ModuleNotFoundError as error:
    if error.name is None or error.name.startswith("m2a"):
        raise
    raise MissingDependencyError(
        error.name, extra="tensorrt", purpose="Making a variant of a bundle"
    ) from error

__all__ = ["Variant", "add_variant", "make_float16"]
