"""Cut-outs: read, refused with a reason, and drawn as objects."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from PIL import Image

from m2a.errors import TrainingError
from m2a.training.cutouts import MAX_SIDE, draw_cutout, load_cutouts
from m2a.training.light import DECODING
from m2a.training.synthesis import SynthesisConfig, synthesise


def disc(side: int, colour=(200, 40, 90)) -> np.ndarray:
    """uint8 [side, side, 4]: a disc with a soft edge; garbage where it is transparent."""
    y, x = np.mgrid[:side, :side] - (side - 1) / 2
    alpha = np.clip((side / 2 - 1 - np.hypot(x, y)) / 4, 0, 1)
    rgba = np.zeros((side, side, 4), np.uint8)
    rgba[..., :3] = np.where(alpha[..., None] > 0, colour, (255, 0, 255))
    rgba[..., 3] = np.rint(alpha * 255)
    return rgba


def drawn(cutout: np.ndarray, extent: float, count: int = 30) -> list[np.ndarray]:
    return [draw_cutout(np.random.default_rng(s), [cutout], extent) for s in range(count)]


def test_colours_are_linear_light_times_alpha_whatever_is_stored_where_it_is_transparent():
    cutout = disc(40)
    light = DECODING[[200, 40, 90]]
    gains = []
    for rgba in drawn(cutout, 25.0):
        inside = rgba[..., 3] > 0.1  # below, rounding shows
        assert rgba.dtype == np.float32
        gain = rgba[inside, :3] / rgba[inside, 3:] / light
        assert np.ptp(gain) < 0.02
        gains.append(gain.mean())
    assert 0.58 < min(gains) < 0.75
    assert 1.2 < max(gains) < 1.52


@pytest.mark.parametrize(("extent", "scale"), [(20.0, 0.5), (40.0, 1.0), (90.0, 1.0)])
def test_it_has_the_asked_for_size_but_is_never_enlarged(extent, scale):
    cutout = disc(40)
    area = cutout[..., 3].sum() / 255 * scale**2
    for rgba in drawn(cutout, extent):
        assert rgba[..., 3].sum() == pytest.approx(area, rel=0.01)


def test_its_outermost_pixels_are_zero():
    solid = np.full((30, 12, 4), 255, np.uint8)
    for rgba in drawn(solid, 30.0):
        assert rgba[..., 3].max() == pytest.approx(1.0, abs=1e-6)
        assert not rgba[[0, -1]].any()
        assert not rgba[:, [0, -1]].any()


def test_it_is_mirrored_and_turned():
    marked = np.full((41, 41, 4), (0, 0, 0, 255), np.uint8)
    marked[16:25, 30:39, 0] = marked[2:11, 16:25, 1] = 255  # red right, green above
    mirrored, ways = 0, []
    for rgba in drawn(marked, 41.0, count=120):
        middle = (np.array(rgba.shape[:2]) - 1) / 2
        red, green = (np.argwhere(rgba[..., c] > 0.2).mean(axis=0) - middle for c in (0, 1))
        mirrored += red[1] * -green[0] - red[0] * -green[1] < 0
        ways.append(np.degrees(np.arctan2(green[1], -green[0])))
    assert 40 < mirrored < 80
    ways = np.array(ways)
    assert (np.abs(ways) < 0.5).mean() > 0.3  # upright, as it is
    leaning = (np.abs(ways) > 1) & (np.abs(ways) < 40)
    assert leaning.mean() > 0.25
    assert {round(way / 90) % 4 for way in ways} == {0, 1, 2, 3}


class TestLoading:
    @pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
    def test_formats_and_the_box_of_what_is_seen(self, tmp_path, suffix):
        around = np.zeros((60, 90, 4), np.uint8)
        around[..., 3] = 2  # what a matting program leaves behind
        cutout = disc(40)
        around[10:50, 25:65][cutout[..., 3] > 0] = cutout[cutout[..., 3] > 0]
        Image.fromarray(around).save(tmp_path / f"disc{suffix}", lossless=True)
        (tmp_path / "photo.jpg").write_text("passed over")
        (loaded,) = load_cutouts(tmp_path)
        assert loaded.shape == (38, 38, 4)
        assert np.array_equal(loaded, around[11:49, 26:64])

    def test_sixteen_bits(self, tmp_path):
        cutout = disc(40)
        wide = cutout[..., [2, 1, 0, 3]].astype(np.uint16) * 257
        cv2.imwrite(str(tmp_path / "disc.png"), wide)
        assert np.array_equal(load_cutouts(tmp_path)[0], cutout[1:-1, 1:-1])

    def test_large_ones_are_scaled_down(self, tmp_path):
        large = np.zeros((120, 2100, 4), np.uint8)
        large[10:-10, 10:-10] = (200, 40, 90, 255)
        Image.fromarray(large).save(tmp_path / "bar.png")
        (loaded,) = load_cutouts(tmp_path)
        assert loaded.shape == (round(100 * MAX_SIDE / 2080), MAX_SIDE, 4)
        assert np.abs(loaded.astype(int) - (200, 40, 90, 255)).max() <= 1

    @pytest.mark.parametrize(
        ("mode", "fill", "message"),
        [
            ("RGB", (9, 9, 9), "has no alpha channel"),
            ("RGBA", (9, 9, 9, 0), "is transparent everywhere: its largest alpha is 0.0%"),
            ("RGBA", (9, 9, 9, 12), "is transparent everywhere: its largest alpha is 4.7%"),
            ("RGBA", (9, 9, 9, 255), "is opaque everywhere"),
        ],
    )
    def test_what_is_no_cutout_is_refused(self, tmp_path, mode, fill, message):
        Image.new(mode, (8, 8), fill).save(tmp_path / "thing.png")
        with pytest.raises(TrainingError, match=rf"thing\.png {message}"):
            load_cutouts(tmp_path)

    def test_a_folder_without_any_is_refused(self, tmp_path):
        with pytest.raises(TrainingError, match="holds no cut-outs"):
            load_cutouts(tmp_path)
        with pytest.raises(TrainingError, match="is not a directory"):
            load_cutouts(tmp_path / "absent")


@pytest.mark.parametrize("share", [0.0, 1.0])
def test_the_share_of_objects_that_are_cutouts(share):
    """Black and red photographs, one behind and one in the shapes; blue cut-outs."""
    photos = [np.full((64, 64, 3), colour, np.uint8) for colour in ((0, 0, 0), (255, 0, 0))]
    config = SynthesisConfig(
        size=48, cutout_probability=share, noise_sigma=(0, 0), jpeg_quality=None,
        tone_probability=0, highlight_probability=0,
        objects_probability=1, region_probability=0, shake_probability=0, still_probability=0,
    )  # fmt: skip
    shapes = cutouts = 0
    for seed in range(40):
        rng = np.random.default_rng(seed)
        sample = synthesise(photos, rng, config, cutouts=[disc(40, (0, 0, 255))])
        red, blue = (sample.sharp[..., channel] > 128 for channel in (0, 2))
        shapes += red.any() and (~red & ~blue).any()
        cutouts += blue.any()
        assert sample.trajectory[sample.mask].any(axis=1).mean() > 0.9
    assert (shapes > 30) == (share == 0)
    assert (cutouts > 30) == (share == 1)
    assert not shapes or not cutouts
