"""What the models are warmed up with: the bundle's reference picture and its mask.

Zeros would not do for the restoration graph, whose tables must refer to each other.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from m2a.runtime.backends import Array
from m2a.runtime.bundle import Reference
from m2a.runtime.graph_inputs import unit_patches, unit_planes, without_border
from m2a.runtime.pixels import check_pixels
from m2a.runtime.sites import build_sites, pad_mask
from m2a.runtime.windows import PaddedPicture

__all__ = ["FOLDER", "Sample", "graph_sample", "picture_sample", "warmup_files"]

FOLDER = "warmup"
"""Triton's name of the folder in a model that holds the files of its samples."""

Sample = Mapping[str, Array]
"""Input → its content."""


def picture_sample(reference: Reference) -> Sample:
    """The inputs of the model `m2a`."""
    return {"image": reference.image}


def graph_sample(graph: str, reference: Reference) -> Sample:
    """The inputs of a graph, `mask` or `restore`, as the runtime feeds them."""
    picture = PaddedPicture(check_pixels(reference.image))
    surroundings = picture.surroundings(picture.box)
    if graph == "mask":
        return {"image": unit_planes(without_border(surroundings), picture.scale)}
    sites = build_sites(pad_mask(reference.mask))
    patches = unit_patches(surroundings, sites.pixels, picture.scale)
    return {"patches": patches, **sites.tables}


def warmup_files(model: str, sample: Sample) -> dict[str, bytes]:
    """The files of a sample: path in the repository → the raw tensor, C-contiguous."""
    return {
        f"{model}/{FOLDER}/{name}": np.ascontiguousarray(array).tobytes()
        for name, array in sample.items()
    }
