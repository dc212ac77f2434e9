"""OpenCV, or an error that names the extra to install."""

from __future__ import annotations

from m2a.errors import MissingDependencyError

try:
    import cv2
except ImportError as error:
    raise MissingDependencyError(
        "opencv-python-headless", extra="train", purpose="Synthesising blur"
    ) from error

__all__ = ["cv2"]
