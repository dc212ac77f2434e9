"""From files to what a page shows of them."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from m2a.errors import ImageError
from m2a.reports import Failed, Shown, report_photo, report_photos
from m2a.runtime.bundle import PACKAGED, open_bundle
from m2a.runtime.loading import open_bundle_on

EXAMPLE = Path(__file__).resolve().parents[3] / "examples" / "shuttle.png"


@pytest.fixture(scope="module")
def deblurrer():
    return open_bundle_on(open_bundle(PACKAGED))


@pytest.fixture
def photo(tmp_path):
    """The upper right of the example photo, where something moves."""
    path = tmp_path / "photo.png"
    with Image.open(EXAMPLE) as image:
        image.crop((300, 0, 500, 300)).save(path)
    return path


def test_a_photo_is_shown_as_it_was_deblurred(deblurrer, photo):
    shown = report_photo(photo, deblurrer)
    assert shown.source == photo
    assert shown.size == shown.layers.size == (200, 300)
    assert (shown.bits, shown.format) == (8, "PNG")
    assert shown.backend == "ort-cpu"
    assert list(shown.seconds)[:2] == ["decode", "pad"]
    assert shown.seconds["restore"] > 0
    assert len(shown.layers.strokes.curves) > 0
    result = deblurrer(photo)
    assert shown.coverage == result.coverage
    before = np.asarray(Image.open(io.BytesIO(shown.layers.before)))
    after = np.asarray(Image.open(io.BytesIO(shown.layers.after)))
    np.testing.assert_array_equal(after[:, :, 3] == 255, result.mask)
    expected = result.image[result.mask].astype(int)
    # What WebP loses is well below what was restored.
    loss = np.abs(after[result.mask][:, :3] - expected).mean()
    assert loss < 0.5 * np.abs(before[result.mask] - expected).mean()


def test_a_mask_may_be_given(deblurrer, photo):
    assert report_photo(photo, deblurrer, mask="full").coverage == 1


def test_one_that_fails_does_not_stop_the_others(deblurrer, photo):
    missing = Path("nowhere.png")
    first, second, third = report_photos([photo, missing, photo], deblurrer)
    assert isinstance(first, Shown)
    assert isinstance(third, Shown)
    assert second == Failed(
        source=missing, reason="nowhere.png: found no such file, expected a picture"
    )


def test_one_alone_that_fails_is_an_error(deblurrer):
    with pytest.raises(ImageError, match=r"nowhere\.png"):
        report_photo(Path("nowhere.png"), deblurrer)
