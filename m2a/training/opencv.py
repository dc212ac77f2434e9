"""OpenCV, or an error that names the extra to install."""

from __future__ import annotations

from m2a.extras import needing_extra

with needing_extra("train", only=["opencv-python-headless"], purpose="Synthesising blur"):
    import cv2

__all__ = ["cv2"]
