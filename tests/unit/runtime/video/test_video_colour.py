"""Y'CbCr ↔ RGB: against the formula of H.273, against swscale, and what must not move."""

from __future__ import annotations

import av
import numpy as np
import pytest

from m2a.errors import VideoError
from m2a.runtime.video.colour import FORMATS, coding_of

SIZE = (20, 26)
WEIGHTS = {
    1: (0.2126, 0.0722),
    4: (0.30, 0.11),
    6: (0.299, 0.114),
    7: (0.212, 0.087),
    9: (0.2627, 0.0593),
}


def coding(pix_fmt="yuv444p", matrix=1, colour_range=1, size=SIZE):
    return coding_of(
        pix_fmt=pix_fmt, matrix=matrix, colour_range=colour_range, size=size, origin="clip"
    )


def noise(pix_fmt, size=SIZE, *, seed=0):
    """Samples over the whole range of the type, beyond what is legal too."""
    bits, rows, columns = FORMATS[pix_fmt]
    shapes = [size] + 2 * [(-(-size[0] // rows), -(-size[1] // columns))]
    rng = np.random.default_rng(seed)
    dtype = np.uint8 if bits == 8 else np.dtype("<u2")
    return [rng.integers(0, 1 << bits, shape).astype(dtype) for shape in shapes]


def by_the_formula(planes, matrix, *, bits, full):
    """H.273 backwards in float64, chroma not subsampled."""
    luma, blue, red = (plane.astype(np.float64) for plane in planes)
    step = 2 ** (bits - 8)
    if full:
        luma, blue, red = (
            luma / (2**bits - 1),
            *((c - 2 ** (bits - 1)) / (2**bits - 1) for c in (blue, red)),
        )
    else:
        luma = (luma / step - 16) / 219
        blue, red = ((c / step - 128) / 224 for c in (blue, red))
    kr, kb = WEIGHTS[matrix]
    forward = np.array(
        [
            [kr, 1 - kr - kb, kb],
            [-kr / 2 / (1 - kb), -(1 - kr - kb) / 2 / (1 - kb), 0.5],
            [0.5, -(1 - kr - kb) / 2 / (1 - kr), -kb / 2 / (1 - kr)],
        ]
    )
    rgb = np.stack([luma, blue, red], axis=-1) @ np.linalg.inv(forward).T
    return np.clip(rgb, 0, 1)


@pytest.mark.parametrize("matrix", WEIGHTS)
@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_rgb_is_that_of_the_formula(pix_fmt, full, matrix):
    planes = noise(pix_fmt)
    rgb = coding(pix_fmt, matrix, 2 if full else 1).to_rgb(planes)
    assert rgb.dtype == np.float32
    expected = by_the_formula(planes, matrix, bits=FORMATS[pix_fmt][0], full=full)
    assert np.abs(rgb - expected).max() < 2e-6  # float32 against float64


@pytest.mark.parametrize("pix_fmt", ["yuv422p", "yuvj422p", "yuv422p10le", "yuv444p"])
def test_rgb_is_that_of_swscale(pix_fmt):
    """Chroma constant along x, for swscale sites it in the middle of two columns."""
    planes = noise(pix_fmt)
    for plane in planes[1:]:
        plane[:] = plane[:, :1]
    frame = av.VideoFrame(SIZE[1], SIZE[0], pix_fmt)
    for target, samples in zip(frame.planes, planes, strict=True):
        rows = np.frombuffer(target, samples.dtype).reshape(target.height, -1)
        # The padding of the rows too: swscale reads a little beyond their end.
        rows[:] = samples[:, -1:]
        rows[:, : samples.shape[1]] = samples
    full = pix_fmt.startswith("yuvj")
    other = frame.reformat(
        format="gbrpf32le",
        src_colorspace=1,
        dst_colorspace=1,
        src_color_range=2 if full else 1,
        dst_color_range=2,
        threads=1,  # its threads get the first pixels of their slices wrong now and then
    ).to_ndarray()
    # It scales 8 bits by 256 in 65535ths: a white of 254/255.
    assert np.abs(coding(pix_fmt).to_rgb(planes) - other).max() < 1.1 / 255


def test_chroma_is_interpolated_between_its_sites():
    """4:2:0: sited on the even columns, between the rows."""
    luma = np.full((4, 4), 128, np.uint8)
    grey, red = np.full((2, 2), 128, np.uint8), np.array([[0, 100], [200, 220]], np.uint8)
    found = coding("yuvj420p").to_rgb([luma, grey, red])[:, :, 0]
    rows = [[0, 50, 100, 100], [50, 90, 130, 130], [150, 170, 190, 190], [200, 210, 220, 220]]
    expected = np.clip((128 + 2 * (1 - 0.2126) * (np.array(rows) - 128)) / 255, 0, 1)
    np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("pix_fmt", FORMATS)
@pytest.mark.parametrize("size", [SIZE, (21, 27), (1, 1), (2, 3)])
def test_no_difference_leaves_every_sample(pix_fmt, size):
    planes = noise(pix_fmt, size)
    after = coding(pix_fmt, size=size).with_difference(planes, np.zeros((*size, 3), np.float32))
    for one, other in zip(planes, after, strict=True):
        np.testing.assert_array_equal(one, other)
        assert one.dtype == other.dtype
        assert one is not other


@pytest.mark.parametrize("pix_fmt", FORMATS)
def test_only_samples_that_hold_a_changed_pixel_move(pix_fmt):
    planes = [np.full_like(p, 90 if p.dtype == np.uint8 else 360) for p in noise(pix_fmt, (21, 27))]
    difference = np.zeros((21, 27, 3), np.float32)
    difference[7, 11] = difference[20, 26] = (0.5, 0.2, -0.1)
    after = coding(pix_fmt, size=(21, 27)).with_difference(planes, difference)
    _, rows, columns = FORMATS[pix_fmt]
    for plane, before, down, across in zip(
        after, planes, (1, rows, rows), (1, columns, columns), strict=True
    ):
        moved = {(y // down, x // across) for y, x in ((7, 11), (20, 26))}
        assert set(zip(*map(np.ndarray.tolist, np.nonzero(plane != before)), strict=True)) == moved


@pytest.mark.parametrize("full", [False, True])
@pytest.mark.parametrize("pix_fmt", ["yuv444p", "yuv444p10le"])
def test_there_and_back(pix_fmt, full):
    """Adding what leads from one legal picture to another gives the other."""
    this = coding(pix_fmt, 9, 2 if full else 1)
    before, after = (noise(pix_fmt, seed=seed) for seed in (1, 2))
    for planes in (before, after):  # away from the ends, or RGB would be clipped
        middle = 1 << (this.bits - 1)
        for plane in planes:
            plane[:] = middle + (plane.astype(int) - middle) // 5
    found = this.with_difference(before, this.to_rgb(after) - this.to_rgb(before))
    for one, other in zip(found, after, strict=True):
        np.testing.assert_array_equal(one, other)


def test_samples_are_clipped_to_their_type():
    samples = (((2, 2), 250), ((1, 1), 3), ((1, 1), 250))
    planes = [np.full(shape, value, np.uint8) for shape, value in samples]
    difference = np.full((2, 2, 3), (1, 0, -1), np.float32)
    luma, blue, red = coding("yuvj420p", 1).with_difference(planes, difference)
    assert luma.tolist() == [[255, 255], [255, 255]]
    assert (blue.item(), red.item()) == (0, 255)


@pytest.mark.parametrize(
    ("size", "like"), [((576, 720), 6), ((720, 960), 1), ((540, 1280), 1), ((719, 1279), 6)]
)
def test_an_unspecified_matrix_goes_by_the_size(size, like):
    assert coding(matrix=2, size=size) == coding(matrix=like, size=size)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"pix_fmt": "gbrp"}, "gbrp"),
        ({"pix_fmt": "yuv420p12le"}, "yuv420p12le"),
        ({"pix_fmt": "yuva420p"}, "without alpha"),
        ({"matrix": 0}, "coefficients 0"),
        ({"matrix": 10}, "coefficients 10"),
    ],
)
def test_what_is_not_supported_is_named(change, words):
    with pytest.raises(VideoError, match=words):
        coding(**change)
