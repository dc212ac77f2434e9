"""Physically based synthetic local motion blur from sharp photographs.

A scene is built in linear light, photographed over an exposure t in [-1, 1] and, sharp, at its
middle t = 0. Four kinds of scenes: pasted *objects* in motion, a *region* of the photograph
itself set in motion, the whole frame under camera *shake*, and *still* ones without motion blur.
Things that stay still though pasted, and things out of focus, keep a network from taking one for
the other.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from m2a.training.crops import (
    defocus,
    draw_crop,
    draw_partial_weight,
    draw_texture,
    fill_behind,
    other_photo,
)
from m2a.training.cutouts import draw_cutout
from m2a.training.layers import Exposure, Layer, expose_layers, expose_shake
from m2a.training.light import to_display
from m2a.training.opencv import cv2
from m2a.training.photographs import contact_sheet, load_photographs
from m2a.training.samples import KINDS, Sample, SynthesisConfig
from m2a.training.shapes import draw_alpha
from m2a.training.trajectories import Motion, draw_motion

__all__ = ["Sample", "SynthesisConfig", "contact_sheet", "load_photographs", "synthesise"]

VISIBLE_CHANGE = 3.0 / 255.0
"""Blur counts as visible where it changes display values by more than this, on local average."""

_VISIBLE_WINDOW = 9
_Image = NDArray[np.float32]


def synthesise(
    photos: Sequence[NDArray[np.uint8]],
    rng: np.random.Generator,
    config: SynthesisConfig,
    *,
    cutouts: Sequence[NDArray[np.uint8]] = (),
) -> Sample:
    """One random sample. The same state of `rng` gives the same sample, bit for bit.

    Args:
        photos: uint8 [H, W, 3], sRGB, sharp; of any size (small ones are enlarged).
        rng: source of all randomness.
        config: what samples look like.
        cutouts: what `load_cutouts` returns: things that some of the objects are taken from.

    Returns:
        The sample; its arrays are the caller's.

    Raises:
        ValueError: no photographs, or one of another shape or type.
    """
    if not photos:
        raise ValueError("there are no photographs to synthesise from; expected at least one")
    for index, photo in enumerate(photos):
        if photo.ndim != 3 or photo.shape[2] != 3 or photo.dtype != np.uint8 or not photo.size:
            raise ValueError(
                f"photograph {index} is {photo.dtype} {photo.shape}; expected uint8 [H, W, 3]"
            )
    kind = str(rng.choice(KINDS, p=config.kind_shares))
    chosen = int(rng.integers(len(photos)))
    if kind == "shake":
        exposure = _shake(photos[chosen], rng, config)
    elif kind == "region":
        exposure = _region(photos[chosen], rng, config)
    else:
        exposure = _objects(photos, cutouts, chosen, rng, config, moving=kind == "objects")
    return _develop(exposure, kind, rng, config)


def _shake(photo: NDArray[np.uint8], rng: np.random.Generator, config: SynthesisConfig) -> Exposure:
    height, width = config.frame
    motion = _draw_motion(rng, config, ((width - 1) / 2.0, (height - 1) / 2.0), turn=0.25)
    margin = int(np.ceil(motion.reach(float(np.hypot(height, width)) / 2.0))) + 2
    scene = draw_crop(rng, photo, height + 2 * margin, width + 2 * margin, config.scale)
    if rng.random() < config.defocus_probability:
        scene = _defocus_scene(rng, scene)
    return expose_shake(scene, motion, margin)


def _region(
    photo: NDArray[np.uint8], rng: np.random.Generator, config: SynthesisConfig
) -> Exposure:
    """A part of the photograph moves over a plausible filling of the place that it leaves."""
    height, width = config.frame
    alpha = draw_alpha(rng, max(_draw_object_size(rng, config), 0.2 * min(config.frame)))
    motion = _draw_motion(rng, config, (0.0, 0.0))
    # The scene goes on outside the frame, so that what moves in from there is there.
    margin = int(np.ceil(motion.reach(float(np.hypot(*alpha.shape)) / 2.0))) + 2
    scene = draw_crop(rng, photo, height + 2 * margin, width + 2 * margin, config.scale)
    centre = _draw_region_centre(rng, scene, alpha, margin)
    motion = replace(motion, centre=centre)
    matte = np.zeros((scene.shape[0], scene.shape[1]), np.float32)
    x = round(centre[0] - alpha.shape[1] / 2.0) + margin
    y = round(centre[1] - alpha.shape[0] / 2.0) + margin
    y0, y1 = max(y, 0), min(y + alpha.shape[0], matte.shape[0])
    x0, x1 = max(x, 0), min(x + alpha.shape[1], matte.shape[1])
    matte[y0:y1, x0:x1] = alpha[y0 - y : y1 - y, x0 - x : x1 - x]
    # Only the opaque core is replaced: at t = 0 the soft edge then shows the photograph, no seam.
    hole = np.clip(matte * np.float32(4.0) - np.float32(3.0), 0.0, 1.0)
    behind = fill_behind(rng, scene, hole)
    if rng.random() < config.defocus_probability:
        behind = _defocus_scene(rng, behind)
    piece = (slice(y0, y1), slice(x0, x1))
    rgba = np.dstack([scene[piece] * matte[piece][:, :, None], matte[piece]])
    layer = Layer(rgba=rgba, origin=(x0 - margin, y0 - margin), motion=motion)
    inner = behind[margin : margin + height, margin : margin + width]
    return expose_layers(np.ascontiguousarray(inner), [layer])


def _draw_region_centre(
    rng: np.random.Generator, scene: _Image, alpha: _Image, margin: int
) -> tuple[float, float]:
    """Of a few places for the region, the most textured one: (x, y) in the inner frame, px."""
    height, width = (side - 2 * margin for side in scene.shape[:2])
    half_h, half_w = alpha.shape[0] // 2, alpha.shape[1] // 2
    best, most = (0.0, 0.0), -1.0
    for x, y in rng.uniform(0.1, 0.9, (1 if rng.random() < 0.2 else 4, 2)) * (width, height):
        row, column = int(y) + margin, int(x) + margin
        part = scene[
            max(row - half_h, 0) : row + half_h + 1 : 2,
            max(column - half_w, 0) : column + half_w + 1 : 2,
            1,
        ]
        part = np.sqrt(part)  # close to display values
        energy = float((np.diff(part, axis=0) ** 2).sum() + (np.diff(part, axis=1) ** 2).sum())
        if energy > most:
            best, most = (float(x), float(y)), energy
    return best


def _objects(
    photos: Sequence[NDArray[np.uint8]],
    cutouts: Sequence[NDArray[np.uint8]],
    chosen: int,
    rng: np.random.Generator,
    config: SynthesisConfig,
    *,
    moving: bool,
) -> Exposure:
    """Objects, moving or still, over a photograph."""
    height, width = config.frame
    background = draw_crop(rng, photos[chosen], height, width, config.scale)
    out_of_focus = rng.random() < config.defocus_probability
    if out_of_focus and rng.random() < 0.7:
        background = _defocus_scene(rng, background)
    count = int(rng.choice([1, 2, 3], p=[0.55, 0.3, 0.15]))
    stays = rng.random(count) < (config.still_object_probability if moving else 1.0)
    if moving and stays.all():
        stays[rng.integers(count)] = False
    if not moving and rng.random() < 0.6:
        stays = stays[:0]
    layers = []
    for still in stays:
        rgba = _draw_object(photos, cutouts, chosen, rng, config)
        if still and out_of_focus and rng.random() < 0.6:
            pad = 10
            rgba = cv2.copyMakeBorder(rgba, pad, pad, pad, pad, cv2.BORDER_CONSTANT, value=0)
            rgba = defocus(rgba, rng.uniform(1.0, 6.0), disc=False)
            rgba[[0, -1]] = 0.0
            rgba[:, [0, -1]] = 0.0
        centre = (rng.uniform(0.05, 0.95) * width, rng.uniform(0.05, 0.95) * height)
        origin = (round(centre[0] - rgba.shape[1] / 2), round(centre[1] - rgba.shape[0] / 2))
        motion = None if still else _draw_motion(rng, config, centre)
        layers.append(Layer(rgba=rgba, origin=origin, motion=motion))
    return expose_layers(background, layers)


def _draw_object(
    photos: Sequence[NDArray[np.uint8]],
    cutouts: Sequence[NDArray[np.uint8]],
    chosen: int,
    rng: np.random.Generator,
    config: SynthesisConfig,
) -> _Image:
    """A cut-out, or a shape cut from another photograph: the `rgba` of a layer."""
    extent = _draw_object_size(rng, config)
    # Nothing is drawn for what is not asked for: the same seed gives the same sample as ever.
    if cutouts and rng.random() < config.cutout_probability:
        return draw_cutout(rng, cutouts, extent)
    alpha = draw_alpha(rng, extent)
    photo = other_photo(rng, photos, chosen)
    texture = draw_texture(rng, photo, alpha.shape[0], alpha.shape[1], config.scale)
    smooth = config.smooth_object_probability
    if smooth and rng.random() < smooth:
        texture = defocus(texture, rng.uniform(3.0, 20.0), disc=False)
    return np.dstack([texture * alpha[:, :, None], alpha])


def _develop(
    exposure: Exposure, kind: str, rng: np.random.Generator, config: SynthesisConfig
) -> Sample:
    """From linear light to two images as a camera would write them."""
    gain = rng.uniform(1.2, 2.5) if rng.random() < config.highlight_probability else 1.0
    gamma, contrast = 1.0, 1.0
    if rng.random() < config.tone_probability:
        gamma = float(np.exp(rng.uniform(np.log(0.8), np.log(1.25))))
        contrast = float(rng.uniform(0.85, 1.15))
    blurred, sharp = (
        to_display(image * np.float32(gain), gamma=gamma, contrast=contrast)
        for image in (exposure.blurred, exposure.sharp)
    )
    change = np.abs(blurred - sharp).max(axis=2)
    window = (_VISIBLE_WINDOW, _VISIBLE_WINDOW)
    visible = exposure.mask & (cv2.blur(change, window) > VISIBLE_CHANGE)
    sigma = rng.uniform(*config.noise_sigma)
    if sigma > 0.0:
        # Read noise and shot noise, which grows with the light; the mean variance is sigma^2.
        noise = rng.standard_normal(sharp.shape, dtype=np.float32) * np.float32(sigma)
        noise *= np.sqrt(np.float32(0.5) + sharp)
        blurred, sharp = blurred + noise, sharp + noise
    written = _to_bytes(blurred)
    if config.jpeg_quality is not None and rng.random() < config.jpeg_probability:
        low, high = config.jpeg_quality
        written = _compressed(written, int(rng.integers(low, high + 1)))
    return Sample(
        blurred=written,
        sharp=_to_bytes(sharp),
        mask=exposure.mask,
        visible=visible,
        trajectory=exposure.trajectory,
        kind=kind,
    )


def _draw_motion(
    rng: np.random.Generator,
    config: SynthesisConfig,
    centre: tuple[float, float],
    *,
    turn: float = 1.0,
) -> Motion:
    even, curved = config.linear_probability, config.quadratic_probability
    chance = rng.random()
    kind = "linear" if chance < even else "quadratic" if chance < even + curved else "jerky"
    low, high = np.log(config.blur_length)
    return draw_motion(
        rng,
        kind=kind,
        length=float(np.exp(rng.uniform(low, high))),
        centre=centre,
        rotation=float(np.radians(config.rotation)) * turn,
        zoom=config.zoom * turn,
    )


def _draw_object_size(rng: np.random.Generator, config: SynthesisConfig) -> float:
    if config.log_object_size:
        low, high = np.log(config.object_size)
        return float(np.exp(rng.uniform(low, high))) * min(config.frame)
    return float(rng.uniform(*config.object_size)) * min(config.frame)


def _defocus_scene(rng: np.random.Generator, scene: _Image) -> _Image:
    blurred = defocus(scene, rng.uniform(0.8, 5.0), disc=bool(rng.random() < 0.5))
    if rng.random() < 0.5:
        return blurred
    weight = draw_partial_weight(rng, *scene.shape[:2])[:, :, None]
    return scene + (blurred - scene) * weight


def _to_bytes(display: _Image) -> NDArray[np.uint8]:
    levels: NDArray[np.uint8] = np.rint(np.clip(display, 0.0, 1.0) * 255.0).astype(np.uint8)
    return levels


def _compressed(image: NDArray[np.uint8], quality: int) -> NDArray[np.uint8]:
    bgr = cv2.cvtColor(image, cv2.COLOR_RGB2BGR)
    _, data = cv2.imencode(".jpg", bgr, [cv2.IMWRITE_JPEG_QUALITY, quality])
    decoded: NDArray[np.uint8] = cv2.cvtColor(
        cv2.imdecode(data, cv2.IMREAD_COLOR), cv2.COLOR_BGR2RGB
    )
    return decoded
