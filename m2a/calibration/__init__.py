"""Variants of a bundle in other precisions, and the proof that they give the same picture."""

from m2a.extras import needing_extra

with needing_extra("tensorrt", only=["onnx"], purpose="Making a variant of a bundle"):
    from m2a.calibration.adding import add_variant, check_addable
    from m2a.calibration.variants import Variant, make_float16

__all__ = ["Variant", "add_variant", "check_addable", "make_float16"]
