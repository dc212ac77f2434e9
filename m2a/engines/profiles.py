"""Optimization profiles: the sizes for which an engine is optimised, in a few buckets.

One profile for all sizes would be tuned for none, and its memory that of the largest. A picture
takes the first bucket that holds it. Active pixels come in blobs, since the mask is dilated: by 3
pixels or more, level l has at most N_0 / 2^l sites. A given mask of scattered single pixels has
more and takes a larger bucket.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from m2a.errors import EngineError
from m2a.graphs.contract import CONTRACTS, LEVELS

Size = tuple[int, int, int]
"""Smallest, typical and largest."""

MASK_SIDES: Mapping[str, Size] = {
    "photo-1k": (32, 704, 1024),
    "photo-2k": (32, 1472, 2048),
    "photo-4k": (32, 3072, 4096),
}
"""Sides of the padded picture, in pixels."""

ACTIVE_PIXELS: Mapping[str, Size] = {
    "sites-16k": (1, 1 << 12, 1 << 14),
    "sites-128k": (1, 1 << 15, 1 << 17),
    "sites-1m": (1, 1 << 18, 1 << 20),
}
"""Active pixels, N_0."""

MAX_CELLS = (4096 // 4) ** 2
"""Level-2 pixels of the largest picture."""


@dataclass(frozen=True, kw_only=True)
class Profile:
    """The sizes of one bucket of one graph.

    Attributes:
        name: of the bucket.
        graph: `mask` or `restore`.
        sizes: name of a dynamic dimension → its sizes.
    """

    name: str
    graph: str
    sizes: Mapping[str, Size]

    def shapes(self, port: str) -> list[tuple[int, ...]]:
        """The smallest, typical and largest shape of an input."""
        (sides,) = [p.shape for p in CONTRACTS[self.graph].inputs if p.name == port]
        return [
            tuple(self.sizes[side][which] if isinstance(side, str) else side for side in sides)
            for which in range(3)
        ]

    def holds(self, sizes: Mapping[str, int]) -> bool:
        """Whether inputs of these sizes fit."""
        return all(
            smallest <= sizes[name] <= largest
            for name, (smallest, _, largest) in self.sizes.items()
        )


def default_profiles(graph: str) -> tuple[Profile, ...]:
    """The buckets of a graph, smallest first."""
    if graph == "mask":
        return tuple(
            Profile(name=name, graph=graph, sizes={"H": sides, "W": sides})
            for name, sides in MASK_SIDES.items()
        )
    return tuple(
        Profile(name=name, graph=graph, sizes=_levels(pixels))
        for name, pixels in ACTIVE_PIXELS.items()
    )


def _levels(pixels: Size) -> dict[str, Size]:
    _, typical, largest = pixels
    sizes: dict[str, Size] = {
        f"N{level}": (1, max(1, typical * 2 // 5**level), largest >> level)
        for level in range(1, LEVELS)
    }
    # The picture's size is free of the number of active pixels in it.
    return {"N0": pixels, **sizes, "P2": (64, 256 * 256, MAX_CELLS)}


def choose_profile(profiles: Sequence[Profile], sizes: Mapping[str, int]) -> int:
    """The number of the first profile that holds inputs of these sizes.

    Args:
        profiles: of one graph, in the engine's order.
        sizes: name of a dynamic dimension → its size.

    Raises:
        EngineError: none holds them.
    """
    for number, profile in enumerate(profiles):
        if profile.holds(sizes):
            return number
    limits = profiles[-1].sizes
    beyond = ", ".join(
        f"{name} = {sizes[name]} (at most {limits[name][2]})"
        for name in limits
        if sizes[name] > limits[name][2]
    )
    raise EngineError(
        f"the engine's largest profile {profiles[-1].name!r} does not hold {beyond or sizes}; "
        "take a smaller picture or mask, or another backend"
    )
