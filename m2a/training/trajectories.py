"""How a thing moves during the exposure, and the sampling trajectory that follows from it.

Time runs over the exposure from -1 to 1 and the scene is photographed sharp at t = 0. A material
point x (its place at t = 0) lies at time t at

    A_t(x) = c + m(t) + s(t) R(theta(t)) (x - c),      m(0) = 0, theta(0) = 0, s(0) = 1.

The camera sees at pixel p the material point A_t^-1(p), so the network's *sampling offset* is
d_p(t) = A_t^-1(p) - p: an object displaced by m(t) has d = -m(t).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

_FINE_TIMES: NDArray[np.float64] = np.linspace(-1.0, 1.0, 97)


def exposure_times(steps: int) -> NDArray[np.float64]:
    """The middles of equal parts of the exposure [-1, 1]; an odd number has t = 0 among them.

    Middles, since a mean over times that include both ends gives the ends too much weight.

    Args:
        steps: number of parts.

    Returns:
        float64 [steps], ascending.
    """
    return (2.0 * np.arange(steps, dtype=np.float64) + 1.0) / steps - 1.0


@dataclass(frozen=True, kw_only=True)
class Motion:
    """A similarity motion over the exposure, t in [-1, 1].

    Attributes:
        centre: (x, y) of the centre of rotation and scaling, px.
        velocity: m(t)'s linear coefficient (x, y), px.
        acceleration: m(t)'s quadratic coefficient (x, y), px.
        wobble: float64 [K, 2], amplitudes (x, y) of the low-frequency wobble, px.
        wobble_phase: float64 [K, 2]: angular frequency and phase of each wobble, rad.
        rotation: theta(t) = rotation * t, rad.
        zoom: s(t) = exp(zoom * t).
    """

    centre: tuple[float, float]
    velocity: tuple[float, float]
    acceleration: tuple[float, float] = (0.0, 0.0)
    wobble: NDArray[np.float64] | None = None
    wobble_phase: NDArray[np.float64] | None = None
    rotation: float = 0.0
    zoom: float = 0.0

    def displacement(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """Displacement m(t) of the centre.

        Args:
            times: float64 [n], in [-1, 1].

        Returns:
            float64 [n, 2], (x, y), px.
        """
        velocity, acceleration = np.array(self.velocity), np.array(self.acceleration)
        path: NDArray[np.float64] = times[:, None] * velocity + times[:, None] ** 2 * acceleration
        if self.wobble is not None and self.wobble_phase is not None:
            frequency, phase = self.wobble_phase[:, 0], self.wobble_phase[:, 1]
            waves = np.sin(times[:, None] * frequency + phase) - np.sin(phase)
            path = path + waves @ self.wobble
        return path

    def backward(self, times: NDArray[np.float64]) -> NDArray[np.float64]:
        """The maps A_t^-1 from a pixel to the material point seen there.

        Args:
            times: float64 [n], in [-1, 1].

        Returns:
            float64 [n, 2, 3], affine matrices acting on (x, y, 1), px.
        """
        angle, inverse_scale = self.rotation * times, np.exp(-self.zoom * times)
        cos, sin = inverse_scale * np.cos(angle), inverse_scale * np.sin(angle)
        linear = np.stack([np.stack([cos, sin], -1), np.stack([-sin, cos], -1)], 1)
        centre = np.asarray(self.centre)
        shift = centre - np.einsum("nij,nj->ni", linear, centre + self.displacement(times))
        return np.concatenate([linear, shift[:, :, None]], axis=2)

    def trajectory(
        self, times: NDArray[np.float64], height: int, width: int
    ) -> NDArray[np.float32]:
        """The sampling trajectory d_p(t) = a t + b t^2 of every pixel, fitted by least squares.

        d_p(t) is affine in p, so the fit is made once for the affine coefficients.

        Args:
            times: float64 [n], the time steps of the exposure, in [-1, 1].
            height: rows of the frame.
            width: columns of the frame.

        Returns:
            float32 [height, width, 4]: (a_x, a_y, b_x, b_y), px.
        """
        offset = self.backward(times) - np.eye(2, 3)
        basis = np.stack([times, times**2], axis=1)
        fit = (np.linalg.pinv(basis) @ offset.reshape(len(times), 6)).reshape(4, 3)
        x = np.arange(width, dtype=np.float32)[None, :, None]
        y = np.arange(height, dtype=np.float32)[:, None, None]
        a, b, c = fit.T.astype(np.float32)
        field: NDArray[np.float32] = x * a + (y * b + c)
        return field

    def reach(self, radius: float) -> float:
        """Largest displacement of any point within `radius` px of the centre, px."""
        path = np.linalg.norm(self.displacement(_FINE_TIMES), axis=1).max()
        return float(path + radius * (abs(self.rotation) + np.expm1(abs(self.zoom))))

    def steps(self, radius: float) -> int:
        """Odd number of time steps, 9 to 97, that moves no point by more than about 1 px a step."""
        speed = np.linalg.norm(np.diff(self.displacement(_FINE_TIMES), axis=0), axis=1).max()
        length = speed * (len(_FINE_TIMES) - 1)
        length += 2.0 * radius * (abs(self.rotation) + abs(self.zoom))
        return int(np.clip(2 * np.ceil(length / 2.0) + 1, 9, 97))


def draw_motion(
    rng: np.random.Generator,
    *,
    kind: str,
    length: float,
    centre: tuple[float, float],
    rotation: float = 0.0,
    zoom: float = 0.0,
) -> Motion:
    """A random motion whose centre runs through an arc of the given length.

    Args:
        rng: source of randomness.
        kind: "linear", "quadratic" (curved or accelerated) or "jerky" (with a smooth wobble).
        length: arc length of the centre's path over the exposure, px.
        centre: (x, y) of the centre of rotation and scaling, px.
        rotation: standard deviation of the rotation at t = 1, rad; half of the motions turn.
        zoom: standard deviation of the relative scaling at t = 1; half of the motions scale.

    Returns:
        The motion.

    Raises:
        ValueError: an unknown kind.
    """
    if kind not in ("linear", "quadratic", "jerky"):
        raise ValueError(f"kind of motion is {kind!r}; expected linear, quadratic or jerky")
    direction = _unit_vector(rng)
    acceleration = np.zeros(2)
    wobble = wobble_phase = None
    if kind == "quadratic" or (kind == "jerky" and rng.random() < 0.5):
        # Up to half the velocity: the speed a + 2 b t then never changes its sign.
        acceleration = _unit_vector(rng) * rng.uniform(0.15, 0.5)
    if kind == "jerky":
        frequency = np.pi * np.array([1.0, 2.0]) * rng.uniform(0.8, 1.2, 2)
        amplitude = np.array([1.0, 0.5]) * rng.uniform(0.1, 0.4)
        wobble = rng.standard_normal((2, 2)) * amplitude[:, None]
        wobble_phase = np.stack([frequency, rng.uniform(0.0, 2.0 * np.pi, 2)], axis=1)
    unit = Motion(
        centre=centre,
        velocity=(float(direction[0]), float(direction[1])),
        acceleration=(float(acceleration[0]), float(acceleration[1])),
        wobble=wobble,
        wobble_phase=wobble_phase,
    )
    arc = np.linalg.norm(np.diff(unit.displacement(_FINE_TIMES), axis=0), axis=1).sum()
    gain = length / arc
    return Motion(
        centre=centre,
        velocity=(float(direction[0] * gain), float(direction[1] * gain)),
        acceleration=(float(acceleration[0] * gain), float(acceleration[1] * gain)),
        wobble=None if wobble is None else wobble * gain,
        wobble_phase=wobble_phase,
        rotation=float(rng.normal() * rotation) if rng.random() < 0.5 else 0.0,
        zoom=float(rng.normal() * zoom) if rng.random() < 0.5 else 0.0,
    )


def _unit_vector(rng: np.random.Generator) -> NDArray[np.float64]:
    angle = rng.uniform(0.0, 2.0 * np.pi)
    return np.array([np.cos(angle), np.sin(angle)])
