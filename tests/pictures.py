"""Picture files that share no code with libvips: made and read by Pillow, tifffile, OpenCV, and a
PNG writer of fifteen lines (`png`)."""

import io
import struct
import zlib

import cv2
import numpy as np
import tifffile
from PIL import Image

H, W = 19, 31
KINDS = {"grey": 1, "grey+alpha": 2, "rgb": 3, "rgb+alpha": 4}
ORIENTATION = 0x0112


def noise(channels, bits, *, seed=0, height=H, width=W):
    """[H, W, C] of every value; the alpha has a part of zeros, where encoders like to cheat."""
    dtype = np.uint8 if bits == 8 else np.uint16
    samples = np.random.default_rng(seed).integers(
        0, 2**bits, (height, width, channels), dtype=dtype
    )
    if channels in (2, 4):
        samples[: height // 2, :, -1] = 0
    return samples


def png(samples, *, bits=None, header=None, exif=None, icc_profile=None):
    """PNG bytes of [H, W, C] samples, any depth; `header` overrides (width, height)."""
    height, width, channels = samples.shape
    bits = bits or 8 * samples.dtype.itemsize
    colour = {1: 0, 2: 4, 3: 2, 4: 6}[channels]
    if bits == 1:
        rows = np.packbits(samples[:, :, 0], axis=1)
    else:
        rows = samples.astype(samples.dtype.newbyteorder(">")).reshape(height, -1)
    raw = b"".join(b"\0" + row.tobytes() for row in rows)

    def chunk(name, body):
        return (
            struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        )

    size = header or (width, height)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
        + (chunk(b"iCCP", b"icc\0\0" + zlib.compress(icc_profile)) if icc_profile else b"")
        + (chunk(b"eXIf", exif.tobytes().removeprefix(b"Exif\0\0")) if exif else b"")
        + chunk(b"IDAT", zlib.compress(raw))
        + chunk(b"IEND", b"")
    )


def pillow(samples, fmt, **options):
    """The bytes of a file that Pillow writes from 8-bit samples [H, W, C]."""
    stream = io.BytesIO()
    squeezed = samples[:, :, 0] if samples.shape[2] == 1 else samples
    Image.fromarray(squeezed).save(stream, fmt, **options)
    return stream.getvalue()


def tiff(samples, **options):
    channels = samples.shape[2]
    options.setdefault("photometric", "rgb" if channels >= 3 else "minisblack")
    if channels in (2, 4):
        options.setdefault("extrasamples", ["unassalpha"])
    stream = io.BytesIO()
    tifffile.imwrite(stream, samples[:, :, 0] if channels == 1 else samples, **options)
    return stream.getvalue()


def independent(path):
    """[H, W, C] as another library reads it."""
    if path.suffix in (".tif", ".tiff"):
        found = tifffile.imread(path)
    elif path.suffix == ".png" and (path.read_bytes()[24] == 16):
        found = cv2.imdecode(np.fromfile(path, np.uint8), cv2.IMREAD_UNCHANGED)
        if found.ndim == 3:
            found = found[:, :, [2, 1, 0, 3][: found.shape[2]]]
        if path.read_bytes()[25] == 4:  # OpenCV expands grey + alpha to colour + alpha
            assert np.array_equal(found[:, :, 0], found[:, :, 1])
            found = found[:, :, [0, 3]]
    else:
        with Image.open(path) as image:
            found = np.asarray(image)
    return found.reshape(*found.shape[:2], -1)


def joined(photo):
    if photo.alpha is None:
        return photo.pixels
    return np.concatenate([photo.pixels, photo.alpha[:, :, np.newaxis]], axis=2)


def put(folder, name, data):
    path = folder / name
    path.write_bytes(data)
    return path
