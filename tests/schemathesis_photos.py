"""For schemathesis: no schema tells photos from other bytes, so these are what it sends as them."""

import schemathesis
from hypothesis import strategies as st
from pictures import noise, pillow, png, tiff

PHOTOS = {
    "image/jpeg": [pillow(noise(3, 8), "JPEG"), pillow(noise(1, 8), "JPEG", quality=30)],
    "image/png": [png(noise(3, 8)), png(noise(3, 16)), png(noise(1, 8))],
    "image/tiff": [tiff(noise(1, 16)), tiff(noise(3, 8))],
    "image/webp": [pillow(noise(3, 8), "WebP"), pillow(noise(3, 8), "WebP", lossless=True)],
    "image/avif": [pillow(noise(3, 8), "AVIF")],
}
"""Without alpha, which JPEG cannot hold."""

ALL = [photo for photos in PHOTOS.values() for photo in photos]

for media_type in (*PHOTOS, "image/heic", "image/heif", "application/octet-stream"):
    schemathesis.openapi.media_type(media_type, st.sampled_from(PHOTOS.get(media_type, ALL)))
