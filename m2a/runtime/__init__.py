"""Running a bundle: NumPy and ONNX Runtime, no torch."""

from m2a.runtime.deblurrer import Deblurrer, Result, load

__all__ = ["Deblurrer", "Result", "load"]
