"""What kind of file it is, by its first bytes: a picture that is read, or something with a name."""

from __future__ import annotations

__all__ = ["FORMATS", "describe_other", "recognise"]

FORMATS = ("JPEG", "PNG", "TIFF", "WebP", "AVIF/HEIF")
"""The formats that are read where the installed libvips has all of their codecs."""

_OTHERS: tuple[tuple[bytes, int, str, str], ...] = (
    (b"GIF8", 0, "a GIF picture", "animated pictures are not read; save the first frame as PNG"),
    (b"BM", 0, "a BMP picture", "save it as PNG"),
    (b"\xff\x0a", 0, "a JPEG XL picture", "save it as PNG or TIFF"),
    (b"JXL ", 4, "a JPEG XL picture", "save it as PNG or TIFF"),
    (b"jP  ", 4, "a JPEG 2000 picture", "save it as PNG or TIFF"),
    (b"8BPS", 0, "a Photoshop document", "export it as TIFF or PNG"),
    (b"gimp xcf", 0, "a GIMP document", "export it as TIFF or PNG"),
    (b"v/1\x01", 0, "an OpenEXR picture", "export it with 16-bit integers as TIFF or PNG"),
    (b"ftypcrx", 4, "a camera raw file", "develop it first"),
    (b"FUJIFILMCCD-RAW", 0, "a camera raw file", "develop it first"),
    (b"IIRO", 0, "a camera raw file", "develop it first"),
    (b"IIU\0", 0, "a camera raw file", "develop it first"),
    (b"%PDF", 0, "a PDF document", "save its pictures as PNG"),
    (b"<svg", 0, "an SVG drawing", "export it as PNG"),
    (b"ftyp", 4, "a video", "give it a video's suffix, such as .mp4"),
    (b"\x1a\x45\xdf\xa3", 0, "a video", "give it a video's suffix, such as .mkv"),
    (b"<!doctype html", 0, "a web page", "download the picture itself"),
    (b"<html", 0, "a web page", "download the picture itself"),
    (b"PK\x03\x04", 0, "a ZIP archive", "unpack it first"),
)
"""Signature, its place, the kind, and what to do. The first that fits counts: `ftyp` begins many
kinds of file."""


def recognise(data: bytes) -> str | None:
    """The one of `FORMATS` that a file is of; None if it is none of them."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith((b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")):
        return "TIFF"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WebP"
    if data[4:8] == b"ftyp" and data[8:12] in (b"avif", b"heic", b"heix", b"mif1"):
        return "AVIF/HEIF"
    return None


def describe_other(data: bytes) -> tuple[str, str]:
    """What a file is that is not read as a picture.

    Args:
        data: its content, of which the first bytes are looked at.

    Returns:
        The kind with its article, for people, and what to do; the latter empty where nothing is
        known of it.
    """
    if not data:
        return "an empty file", ""
    for signature, place, kind, advice in _OTHERS:
        found = data[place : place + len(signature)]
        if found == signature or (signature.startswith(b"<") and found.lower() == signature):
            return kind, advice
    return "an unknown kind of file", ""
