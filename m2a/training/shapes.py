"""Silhouettes of moving things: soft-edged alpha mattes drawn from random numbers."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from m2a.training.opencv import cv2

_OVERSAMPLING = 4
_Outline = NDArray[np.float64]


def draw_alpha(rng: np.random.Generator, extent: float) -> NDArray[np.float32]:
    """A random silhouette: an organic closed curve, a polygon or a person-like union of limbs.

    Args:
        rng: source of randomness.
        extent: length of the longer side of the silhouette's bounding box, px.

    Returns:
        float32 [h, w] in [0, 1], with a border of exact zeros, as tight as the soft edge allows.
    """
    kind = rng.random()
    if kind < 0.45:
        parts = [_organic(rng)]
    elif kind < 0.65:
        parts = [_polygon(rng)]
    else:
        parts = _person(rng)
    softness = rng.uniform(0.35, 1.0) if rng.random() < 0.85 else rng.uniform(1.0, 2.5)
    return _rasterise(parts, extent, softness)


def _organic(rng: np.random.Generator) -> _Outline:
    angle = np.linspace(0.0, 2.0 * np.pi, 96, endpoint=False)
    order = np.arange(2, 7)
    strength = rng.normal(0.0, 0.45, order.size) / order
    phase = rng.uniform(0.0, 2.0 * np.pi, order.size)
    radius = 1.0 + np.cos(angle[:, None] * order + phase) @ strength
    radius = np.maximum(radius, 0.25)
    outline = np.stack([np.cos(angle), np.sin(angle) * rng.uniform(0.4, 1.0)], 1) * radius[:, None]
    return _turned(outline, rng.uniform(0.0, np.pi))


def _polygon(rng: np.random.Generator) -> _Outline:
    corners = int(rng.integers(3, 9))
    angle = (np.arange(corners) + rng.uniform(-0.35, 0.35, corners)) * 2.0 * np.pi / corners
    radius = rng.uniform(0.6, 1.0, corners)
    stretch = rng.uniform(0.4, 1.0)
    outline = np.stack([np.cos(angle) * radius, np.sin(angle) * radius * stretch], axis=1)
    return _turned(outline, rng.uniform(0.0, np.pi))


def _person(rng: np.random.Generator) -> list[_Outline]:
    """Head, trunk, two arms and two legs; y points down, the height is about 1."""
    build = rng.uniform(0.8, 1.4)
    chest, shoulders, hip = np.array([0.0, 0.25]), np.array([0.0, 0.23]), np.array([0.0, 0.52])
    sideways = np.array([build, 0.0])
    head = np.stack(_circle(), axis=1) * [0.065 * build, 0.085] + [rng.normal(0.0, 0.02), 0.09]
    parts = [head, _capsule(chest, hip, 0.095 * build)]
    for side in (-1.0, 1.0):
        shoulder = shoulders + side * 0.085 * sideways
        elbow = shoulder + _limb(rng, 0.17, 0.5)
        parts.append(_capsule(shoulder, elbow, 0.035 * build))
        parts.append(_capsule(elbow, elbow + _limb(rng, 0.16, 0.8), 0.03 * build))
        joint = hip + side * 0.05 * sideways
        knee = joint + _limb(rng, 0.23, 0.35)
        parts.append(_capsule(joint, knee, 0.055 * build))
        parts.append(_capsule(knee, knee + _limb(rng, 0.23, 0.35), 0.042 * build))
    lean = rng.normal(0.0, 0.15) + (np.pi / 2.0) * rng.integers(4) * (rng.random() < 0.3)
    return [_turned(part, lean) for part in parts]


def _limb(rng: np.random.Generator, length: float, spread: float) -> NDArray[np.float64]:
    angle = rng.normal(0.0, spread)
    return length * np.array([np.sin(angle), np.cos(angle)])


def _capsule(start: _Outline, end: _Outline, radius: float) -> _Outline:
    circle = np.stack(_circle(), axis=1) * radius
    hull: _Outline = cv2.convexHull(np.concatenate([start + circle, end + circle]).astype("f4"))
    return hull[:, 0].astype(np.float64)


def _circle() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    angle = np.linspace(0.0, 2.0 * np.pi, 32, endpoint=False)
    return np.cos(angle), np.sin(angle)


def _turned(outline: _Outline, angle: float) -> _Outline:
    cos, sin = np.cos(angle), np.sin(angle)
    turned: _Outline = outline @ np.array([[cos, sin], [-sin, cos]])
    return turned


def _rasterise(parts: list[_Outline], extent: float, softness: float) -> NDArray[np.float32]:
    points = np.concatenate(parts)
    low, high = points.min(axis=0), points.max(axis=0)
    scale = extent / float((high - low).max())
    reach = int(np.ceil(3.0 * softness))
    pad = reach + 2  # the blurred edge ends inside the canvas
    width, height = np.ceil((high - low) * scale).astype(int) + 2 * pad
    canvas = np.zeros((height * _OVERSAMPLING, width * _OVERSAMPLING), np.uint8)
    for part in parts:
        place = ((part - low) * scale + pad) * _OVERSAMPLING
        cv2.fillPoly(canvas, [np.round(place).astype(np.int32)], 255)
    canvas = cv2.resize(canvas, (int(width), int(height)), interpolation=cv2.INTER_AREA)
    alpha = canvas.astype(np.float32) / np.float32(255.0)
    side = 2 * reach + 1
    soft: NDArray[np.float32] = cv2.GaussianBlur(alpha, (side, side), softness)
    return np.clip(soft, 0.0, 1.0)
