"""Synthetic blur: what it promises to the trainer, on small seeded samples."""

from __future__ import annotations

import cv2
import numpy as np
import pytest
from skimage import data

from m2a.errors import TrainingError
from m2a.training.crops import fill_behind
from m2a.training.layers import Layer, expose_layers
from m2a.training.light import to_display, to_linear
from m2a.training.synthesis import (
    Sample,
    SynthesisConfig,
    contact_sheet,
    load_photographs,
    synthesise,
)
from m2a.training.trajectories import Motion, draw_motion, exposure_times

CLEAN = {"noise_sigma": (0.0, 0.0), "jpeg_quality": None, "defocus_probability": 0.0}
PLAIN = CLEAN | {"rotation": 0.0, "zoom": 0.0, "tone_probability": 0.0, "highlight_probability": 0}


@pytest.fixture(scope="module")
def photos():
    return [data.astronaut(), data.coffee(), data.chelsea()]


def only(kind: str, **settings: object) -> SynthesisConfig:
    shares = {f"{name}_probability": 0.0 for name in ("objects", "region", "shake", "still")}
    return SynthesisConfig(
        **({"size": 96, "blur_length": (8.0, 24.0)} | shares | {f"{kind}_probability": 1.0}),
        **settings,
    )


def arrays(sample: Sample) -> list[np.ndarray]:
    return [sample.blurred, sample.sharp, sample.mask, sample.visible, sample.trajectory]


@pytest.mark.parametrize("kind", ["objects", "region", "shake", "still"])
def test_same_state_gives_the_same_sample(photos, kind):
    first = synthesise(photos, np.random.default_rng(3), only(kind))
    second = synthesise(photos, np.random.default_rng(3), only(kind))
    assert first.kind == second.kind == kind
    for one, other in zip(arrays(first), arrays(second), strict=True):
        np.testing.assert_array_equal(one, other)


def test_smooth_objects_are_smooth_within_and_crisp_at_the_edge():
    """Noise pasted over black: still objects, all smooth or none."""
    noise = np.random.default_rng(1).integers(0, 256, (128, 128, 3)).astype(np.uint8)
    black = np.zeros_like(noise)
    inner, steepest = [], []
    for smooth in (0.0, 1.0):
        config = only(
            "still", **PLAIN, smooth_object_probability=smooth, object_size=(0.8, 0.8),
            scale=(1.0, 1.0),
        )  # fmt: skip
        samples = [synthesise([black, noise], np.random.default_rng(s), config) for s in range(60)]
        pictures = [s.sharp.astype(float) for s in samples if 0.1 < (s.sharp > 0).mean() < 0.7]
        steps = np.concatenate([np.abs(np.diff(p, axis=1)).max(axis=2).ravel() for p in pictures])
        steps = steps[steps > 0]
        inner.append(np.median(steps))
        steepest.append(np.percentile(steps, 99))
    assert len(pictures) > 5
    assert inner[1] < inner[0] / 5
    assert steepest[1] > 30


def test_shapes_and_types_of_a_frame_that_is_not_square(photos):
    config = SynthesisConfig(size=(64, 96))
    for seed in range(12):
        sample = synthesise(photos, np.random.default_rng(seed), config)
        assert [array.shape for array in arrays(sample)] == [
            (64, 96, 3),
            (64, 96, 3),
            (64, 96),
            (64, 96),
            (64, 96, 4),
        ]
        assert [array.dtype for array in arrays(sample)] == [
            np.uint8,
            np.uint8,
            np.bool_,
            np.bool_,
            np.float32,
        ]


@pytest.mark.parametrize("kind", ["objects", "region"])
def test_outside_the_mask_nothing_changes(photos, kind):
    config = only(kind, noise_sigma=(0.01, 0.02), jpeg_quality=None)
    covered = 0
    for seed in range(20):
        sample = synthesise(photos, np.random.default_rng(seed), config)
        outside = ~sample.mask
        np.testing.assert_array_equal(sample.blurred[outside], sample.sharp[outside])
        assert not sample.trajectory[outside].any()
        assert not (sample.visible & outside).any()
        assert not np.array_equal(sample.blurred, sample.sharp) or not sample.visible.any()
        covered += sample.mask.any() and not sample.mask.all()
    assert covered >= 18  # a moving thing may, rarely, be hidden by a still one


def test_noise_is_shared_by_both_images(photos):
    config = only("still", noise_sigma=(0.02, 0.02), jpeg_quality=None, tone_probability=0.0)
    quiet = only("still", noise_sigma=(0.0, 0.0), jpeg_quality=None, tone_probability=0.0)
    noisy = synthesise(photos, np.random.default_rng(5), config)
    clean = synthesise(photos, np.random.default_rng(5), quiet)
    np.testing.assert_array_equal(noisy.blurred, noisy.sharp)
    spread = (noisy.sharp.astype(float) - clean.sharp).std() / 255.0
    assert 0.01 < spread < 0.03  # sigma is 0.02 at mid-grey; shot noise and clipping change it


def test_still_scenes_have_no_blur(photos):
    for seed in range(6):
        sample = synthesise(photos, np.random.default_rng(seed), only("still", jpeg_quality=None))
        assert not sample.mask.any()
        assert not sample.visible.any()
        np.testing.assert_array_equal(sample.blurred, sample.sharp)


def test_jpeg_touches_only_the_blurred_image_and_keeps_the_colours(photos):
    settings = CLEAN | {"jpeg_probability": 1.0}
    plain = synthesise(photos, np.random.default_rng(2), only("still", **settings))
    settings["jpeg_quality"] = (95, 95)
    packed = synthesise(photos, np.random.default_rng(2), only("still", **settings))
    np.testing.assert_array_equal(packed.sharp, plain.sharp)
    assert (packed.blurred != packed.sharp).any()
    mean = packed.blurred.astype(float).mean((0, 1)) - packed.sharp.astype(float).mean((0, 1))
    assert np.abs(mean).max() < 1.0  # swapped channels would differ by tens of levels


def resampled(sharp: np.ndarray, trajectory: np.ndarray, steps: int = 61) -> np.ndarray:
    """B(p) = mean over t of S(p + a t + b t^2), in linear light, as display values in [0, 255]."""
    height, width = sharp.shape[:2]
    y, x = np.mgrid[:height, :width].astype(np.float32)
    linear, total = to_linear(sharp), np.zeros(sharp.shape, np.float64)
    for t in exposure_times(steps).astype(np.float32):
        offset = trajectory[..., :2] * t + trajectory[..., 2:] * t * t
        total += cv2.remap(linear, x + offset[..., 0], y + offset[..., 1], cv2.INTER_LINEAR)
    return to_display((total / steps).astype(np.float32)) * 255.0


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("shares", [(1.0, 0.0), (0.0, 1.0)], ids=["linear", "quadratic"])
def test_reblurring_along_the_trajectory_gives_the_blurred_image(photos, shares, seed):
    even, curved = shares
    config = only("shake", **PLAIN, linear_probability=even, quadratic_probability=curved)
    sample = synthesise(photos, np.random.default_rng(seed), config)
    assert sample.mask.all()
    inner = (slice(26, -26), slice(26, -26))  # |d| stays under the arc length of 24 px
    error = np.abs(resampled(sample.sharp, sample.trajectory) - sample.blurred)[inner]
    # Both images are rounded to levels, and the number of time steps differs: under one level.
    assert error.mean() < 0.8
    if curved:
        reverse = sample.trajectory * np.array([1, 1, -1, -1], np.float32)
        wrong = np.abs(resampled(sample.sharp, reverse) - sample.blurred)[inner]
        assert wrong.mean() > 2.0 * error.mean()


def test_an_object_displaced_by_m_has_the_sampling_offset_minus_m():
    motion = Motion(centre=(30.0, 40.0), velocity=(6.0, -2.0), acceleration=(1.0, 4.0))
    field = motion.trajectory(exposure_times(41), 5, 7)
    expected = np.broadcast_to(np.float32([-6.0, 2.0, -1.0, -4.0]), (5, 7, 4))
    np.testing.assert_allclose(field, expected, atol=1e-5)  # float32 of a least-squares fit


def test_an_accelerated_object_shifts_its_centre_of_light_by_minus_the_mean_offset():
    y, x = np.mgrid[:21, :21] - 10.0
    alpha = np.clip(8.0 - np.hypot(x, y), 0.0, 1.0).astype(np.float32)
    motion = Motion(centre=(48.0, 48.0), velocity=(10.0, 0.0), acceleration=(3.0, 9.0))
    layer = Layer(rgba=np.dstack([alpha] * 4), origin=(38, 38), motion=motion)
    exposure = expose_layers(np.zeros((96, 96, 3), np.float32), [layer])

    def centre_of_light(image: np.ndarray) -> np.ndarray:
        weight = image[..., 0].astype(float)
        rows, columns = np.mgrid[:96, :96]
        return np.array([(columns * weight).sum(), (rows * weight).sum()]) / weight.sum()

    shift = centre_of_light(exposure.blurred) - centre_of_light(exposure.sharp)
    b = exposure.trajectory[48, 48, 2:]
    np.testing.assert_allclose(b, [-3.0, -9.0], atol=1e-4)
    # The mean of t^2 is 1/3, and over the middles of n >= 9 steps smaller by 1 part in n^2.
    np.testing.assert_allclose(shift, -b / 3.0, atol=0.05)
    assert exposure.blurred.sum() == pytest.approx(exposure.sharp.sum(), rel=0.01)


def test_rotation_and_scaling_enter_the_trajectory():
    motion = Motion(centre=(50.0, 50.0), velocity=(0.0, 0.0), rotation=0.02, zoom=0.01)
    times = exposure_times(31)
    a = motion.trajectory(times, 101, 101)[..., :2]
    # To first order a = -(zoom r + rotation x r): at r = (40, 0) that is (-0.4, -0.8).
    np.testing.assert_allclose(a[50, 90], [-0.4, -0.8], atol=0.01)
    np.testing.assert_allclose(a[50, 50], [0.0, 0.0], atol=1e-4)


def test_a_still_layer_on_top_hides_the_motion_below_it():
    box = np.zeros((40, 40, 4), np.float32)
    box[1:-1, 1:-1] = [0.5, 0.5, 0.5, 1.0]
    cover = box.copy()
    cover[1:-1, 1:-1, :3] = 0.1
    motion = Motion(centre=(40.0, 40.0), velocity=(9.0, 0.0))
    layers = [
        Layer(rgba=box, origin=(20, 20), motion=motion),
        Layer(rgba=cover, origin=(40, 20), motion=None),
    ]
    exposure = expose_layers(np.ones((80, 80, 3), np.float32), layers)
    assert not exposure.mask[22:58, 42:78].any()
    assert exposure.mask[40, 14]
    np.testing.assert_array_equal(exposure.blurred[40, 60], exposure.sharp[40, 60])
    np.testing.assert_allclose(exposure.trajectory[40, 14], [-9.0, 0.0, 0.0, 0.0], atol=1e-4)


def test_motion_is_at_rest_place_at_mid_exposure_and_has_the_asked_length():
    rng = np.random.default_rng(0)
    for kind in ("linear", "quadratic", "jerky"):
        for _ in range(10):
            motion = draw_motion(rng, kind=kind, length=30.0, centre=(0.0, 0.0))
            np.testing.assert_allclose(motion.displacement(np.zeros(1)), 0.0, atol=1e-12)
            path = motion.displacement(exposure_times(1001))
            length = np.linalg.norm(np.diff(path, axis=0), axis=1).sum()
            assert length == pytest.approx(30.0, rel=0.01)  # without half a step at either end
            steps = motion.steps(10.0)
            assert steps % 2 == 1
            assert 9 <= steps <= 97


def test_the_filling_leaves_no_trace_of_the_object():
    rng = np.random.default_rng(1)
    scene = rng.uniform(0.1, 0.2, (96, 96, 3)).astype(np.float32)
    hole = np.zeros((96, 96), np.float32)
    hole[30:60, 30:60] = 1.0
    scene[hole > 0] = 0.9
    filled = fill_behind(rng, scene, hole)
    assert filled[34:56, 34:56].mean() < 0.3
    np.testing.assert_array_equal(filled[hole == 0], scene[hole == 0])


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"size": 16}, "size is 16"),
        ({"blur_length": (10.0, 4.0)}, "blur_length"),
        ({"scale": (0.0, 1.0)}, "scale"),
        ({"noise_sigma": (-0.1, 0.0)}, "noise_sigma"),
        ({"jpeg_quality": (0, 90)}, "jpeg_quality"),
        ({"jpeg_probability": 1.5}, "jpeg_probability"),
        ({"still_probability": 0.5}, "add up to"),
        ({"linear_probability": 0.9}, "more than 1"),
        ({"rotation": -1.0}, "rotation"),
    ],
)
def test_a_configuration_without_meaning_is_refused(settings, message):
    with pytest.raises(ValueError, match=message):
        SynthesisConfig(**settings)


@pytest.mark.parametrize(
    ("given", "message"),
    [([], "no photographs"), ([np.zeros((8, 8), np.uint8)], "photograph 0 is uint8")],
)
def test_photographs_without_meaning_are_refused(given, message):
    with pytest.raises(ValueError, match=message):
        synthesise(given, np.random.default_rng(0), SynthesisConfig())


def test_photographs_smaller_than_the_crop_are_enlarged(photos):
    small = [photo[:50, :70] for photo in photos]
    for kind in ("objects", "region", "shake"):
        sample = synthesise(small, np.random.default_rng(0), only(kind))
        assert sample.sharp.shape == (96, 96, 3)


def test_photographs_are_loaded_in_the_order_of_their_names_as_rgb(tmp_path):
    for name, colour in (("b.png", (0, 0, 255)), ("a.PNG", (255, 0, 0))):
        cv2.imwrite(str(tmp_path / name), np.full((4, 5, 3), colour, np.uint8))
    (tmp_path / "notes.txt").write_text("not a photograph")
    first, second = load_photographs(tmp_path)
    assert first.shape == (4, 5, 3)
    assert first[0, 0].tolist() == [0, 0, 255]
    assert second[0, 0].tolist() == [255, 0, 0]
    (only_second,) = load_photographs(tmp_path, exclude=("a",))
    np.testing.assert_array_equal(only_second, second)
    with pytest.raises(TrainingError, match="2 photographs, all of them left out"):
        load_photographs(tmp_path, exclude=("a", "b"))


def test_a_folder_without_photographs_is_refused(tmp_path):
    with pytest.raises(TrainingError, match="holds no photographs"):
        load_photographs(tmp_path)
    with pytest.raises(TrainingError, match="is not a directory"):
        load_photographs(tmp_path / "absent")
    (tmp_path / "empty.jpg").write_bytes(b"")
    with pytest.raises(TrainingError, match=r"empty\.jpg cannot be decoded"):
        load_photographs(tmp_path)


def test_contact_sheet_has_a_row_for_each_sample(photos):
    samples = [synthesise(photos, np.random.default_rng(i), only("region")) for i in range(3)]
    assert contact_sheet(samples).shape == (3 * 96, 3 * 96, 3)
    sheet = contact_sheet(samples, columns=2)
    assert sheet.shape == (2 * 96, 6 * 96, 3)
    assert sheet.dtype == np.uint8
    np.testing.assert_array_equal(sheet[:96, :96], samples[0].blurred)
    with pytest.raises(ValueError, match="contact sheet of 0 samples"):
        contact_sheet([])
