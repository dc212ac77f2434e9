"""`manifest.json`: what a bundle says of itself, every field validated.

The file is untrusted input: a field that is missing, of another type or out of range is refused by
name, and no path leaves the bundle.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from m2a.errors import BundleError, BundleNotFoundError
from m2a.files import read_regular, set_aside
from m2a.runtime.json_fields import JsonFields
from m2a.runtime.parts import NetworkShape
from m2a.runtime.sites import LEVELS

SCHEMA = 1
"""Version of the manifest's layout."""

MANIFEST = "manifest.json"
PRECISIONS = ("fp32", "fp16", "int8")
"""What a bundle may hold graphs of; `fp32` is in each."""

MADE_BY = {
    "fp32": "m2a export --ckpt CHECKPOINT",
    "fp16": "m2a export --ckpt CHECKPOINT --fp16",
    "int8": "m2a calibrate PHOTOS",
}
"""Precision → the command that writes such graphs into a bundle."""

CHECKPOINT_SUFFIXES = (".safetensors", ".pth", ".pt")
"""Names of what a bundle is made of end so."""

GRAPHS = ("mask", "restore")
DENSE = "dense"
"""The graph that a bundle may hold beside those, in FP32."""

STAGES = ("mask", "restore.residual", "restore.motion")
"""What the graphs compute, as `verify` names it."""

LIMIT_FP32 = 1e-4
"""Largest absolute error of probability and residual, and of motion in units of its bound."""

DEFAULT_THRESHOLD = 0.5
"""The probability from which a pixel is active, where an export is not told another."""

DEFAULT_DILATE = 4
"""The radius in pixels of the dilation, likewise."""

MAX_CHANNELS, MAX_BLOCKS = 4096, 256
"""What a manifest may claim of a network: beyond these it is damaged."""

MAX_DILATE = 1024
"""The largest dilation: what lies beyond covers the photo, and a crafted number costs hours."""

MAX_MANIFEST = 2**24
"""Bytes of a manifest; ours have some ten thousand."""


@dataclass(frozen=True, kw_only=True)
class StoredFile:
    """A file of the bundle.

    Attributes:
        path: relative to the bundle, with forward slashes.
        sha256: of its content, in hexadecimal.
    """

    path: str
    sha256: str


@dataclass(frozen=True, kw_only=True)
class BundleDescription:
    """What a manifest says of its bundle.

    Attributes:
        manifest: the whole manifest, for what is shown but not interpreted.
        network: the network's shape, from which halos and memory follow.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is dilated.
        graphs: precision → graph name → file.
        limits: precision → stage → the largest error that `verify` accepts; FP32's are fixed,
            those of a variant come from what it measured when it was made.
        reference_file: the file of the `Reference`.
        dense: the branch-fused dense restorer, for masks that leave out next to nothing; None
            where the export left it out.
    """

    manifest: Mapping[str, Any]
    network: NetworkShape
    threshold: float
    dilate: int
    graphs: Mapping[str, Mapping[str, StoredFile]]
    limits: Mapping[str, Mapping[str, float]]
    reference_file: StoredFile
    dense: StoredFile | None

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it holds graphs for."""
        return tuple(self.graphs)


def read_manifest(folder: Path) -> BundleDescription:
    """Reads and validates the manifest of a bundle.

    Raises:
        BundleError: there is none, or it is not one that this version reads.
    """
    file = folder / MANIFEST
    try:
        content = json.loads(read_regular(file, limit=MAX_MANIFEST).decode())
    except OSError as error:
        older = set_aside(folder) if not folder.exists() else []
        advice = (
            f"An interrupted export left the older one: mv {older[-1]} {folder} brings it back"
            if older
            else "`m2a export --ckpt model.pth` writes one"
        )
        absent = isinstance(error, (FileNotFoundError, NotADirectoryError))
        kind = BundleNotFoundError if absent else BundleError
        if folder.suffix in CHECKPOINT_SUFFIXES and folder.is_file():
            raise kind(
                f"{folder} is a checkpoint, not a bundle: `m2a export --ckpt {folder}` makes a "
                "bundle of it, to give instead"
            ) from error
        raise kind(
            f"{folder} is not a bundle: cannot read its {MANIFEST} ({error.strerror}). {advice}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    return _parse(JsonFields(content, refuse=lambda message: BundleError(f"{file}: {message}")))


def _parse(fields: JsonFields) -> BundleDescription:
    schema = fields.get("schema", int)
    if schema != SCHEMA:
        fields.refuse("schema", f"{SCHEMA}, which this version of m2a reads (export again with it)")
    threshold = fields.number("threshold")
    if not 0 < threshold < 1:
        fields.refuse("threshold", "between 0 and 1")
    dilate: int = fields.get("dilate", int)
    if not 0 <= dilate <= MAX_DILATE:
        fields.refuse("dilate", f"in 0 to {MAX_DILATE}")
    graphs = fields.section("graphs")
    graphs.get("fp32", dict)
    precisions = [precision for precision in PRECISIONS if precision in graphs.content]
    return BundleDescription(
        manifest=fields.content,
        network=_network(fields.section("model").section("config")),
        threshold=threshold,
        dilate=dilate,
        graphs={
            precision: {name: _file(graphs.section(precision), name) for name in GRAPHS}
            for precision in precisions
        },
        limits={precision: _limits(fields, precision) for precision in precisions},
        reference_file=_file(fields, "reference"),
        dense=_file(fields, DENSE) if DENSE in fields.content else None,
    )


def _network(config: JsonFields) -> NetworkShape:
    return NetworkShape(
        width=_channels(config, "width"),
        blocks=_blocks(config, "blocks"),
        mask_stem_width=_channels(config, "mask_stem_width"),
        mask_blocks=_blocks(config, "mask_blocks"),
        mask_mirrored=config.flag("mask_mirrored", default=False),  # older bundles do not say
    )


def _channels(config: JsonFields, key: str) -> int:
    value: int = config.get(key, int)
    if not 0 < value <= MAX_CHANNELS:
        config.refuse(key, f"in 1 to {MAX_CHANNELS}")
    return value


def _blocks(config: JsonFields, key: str) -> tuple[int, int, int, int]:
    """Numbers of blocks at the four levels."""
    value = config.get(key, list)
    whole = all(type(number) is int and 0 <= number <= MAX_BLOCKS for number in value)
    if len(value) != LEVELS or not whole:
        config.refuse(key, f"{LEVELS} integers of 0 to {MAX_BLOCKS}")
    return (value[0], value[1], value[2], value[3])


def _limits(fields: JsonFields, precision: str) -> dict[str, float]:
    if precision == "fp32":
        return dict.fromkeys(STAGES, LIMIT_FP32)
    limits = fields.section("limits").section(precision)
    for stage in STAGES:
        if not 0 < limits.number(stage) <= 1:
            limits.refuse(stage, "above 0 and at most 1")
    return {stage: limits.number(stage) for stage in STAGES}


def _file(fields: JsonFields, key: str) -> StoredFile:
    entry = fields.section(key)
    entry.path("path")
    return StoredFile(path=entry.get("path", str), sha256=entry.get("sha256", str))
