"""PyAV, or an error that names the extra to install."""

from __future__ import annotations

from m2a.extras import needing_extra

with needing_extra("video", purpose="Deblurring a video"):
    import av

__all__ = ["av"]
