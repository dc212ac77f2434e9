"""Running a bundle: NumPy and ONNX Runtime, no torch."""

from m2a.runtime.deblurrer import Deblurrer
from m2a.runtime.loading import load
from m2a.runtime.result import Result

__all__ = ["Deblurrer", "Result", "load"]
