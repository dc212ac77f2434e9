"""What is written for an evaluation."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image
from skimage import data

from m2a.errors import UsageError
from m2a.training.protocol import write_samples
from m2a.training.samples import Sample, cell_motion


def sample_of(mask, trajectory):
    picture = np.zeros((*mask.shape, 3), np.uint8)
    return Sample(
        blurred=picture,
        sharp=picture,
        mask=mask,
        visible=mask,
        trajectory=trajectory,
        kind="objects",
    )


@pytest.mark.parametrize("shape", [(32, 40), (33, 38)])
def test_cells_hold_the_mean_motion_of_their_moving_pixels(shape):
    rng = np.random.default_rng(0)
    mask = rng.random(shape) < 0.1
    trajectory = rng.normal(size=(*shape, 4)).astype(np.float32)
    cells = cell_motion(sample_of(mask, trajectory))
    assert cells.shape == (-(-shape[0] // 4), -(-shape[1] // 4), 4)
    for row, column in np.ndindex(cells.shape[:2]):
        window = np.s_[4 * row : 4 * row + 4, 4 * column : 4 * column + 4]
        if mask[window].any():
            expected = trajectory[window][mask[window]].mean(axis=0)
            assert cells[row, column] == pytest.approx(expected, abs=1e-6)
        else:
            assert np.isnan(cells[row, column]).all()


def test_a_folder_holds_pictures_masks_and_motion_of_the_same_names(tmp_path):
    photos, folder = tmp_path / "photos", tmp_path / "known"
    photos.mkdir()
    Image.fromarray(data.astronaut()).save(photos / "astronaut.png")
    sheet = write_samples(photos, folder, count=2, seed=0, size=64)
    assert sheet.exists()
    for name in ("blurred", "sharp", "mask", "visible", "motion"):
        assert sorted(path.stem for path in (folder / name).iterdir()) == ["00000", "00001"]
    for name in ("00000", "00001"):
        mask, visible = (
            np.asarray(Image.open(folder / part / f"{name}.png")) > 0
            for part in ("mask", "visible")
        )
        moving = ~np.isnan(np.load(folder / "motion" / f"{name}.npy")[..., 0])
        assert not (visible & ~mask).any()
        assert visible.mean() >= 0.005
        assert np.array_equal(moving, mask.reshape(16, 4, 16, 4).any(axis=(1, 3)))
    with pytest.raises(UsageError, match="existing file"):
        write_samples(photos, folder, count=2, seed=0, size=64)
