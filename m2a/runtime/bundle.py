"""Bundles: the exported directory, read and checked (DESIGN section 5).

A bundle is untrusted input: every field of the manifest is validated, no path leaves the
directory, a file that does not have the hash of the manifest is refused by name, and a graph that
breaks the contract never reaches ONNX Runtime or TensorRT. The hashes tell damage, not malice:
whoever writes a bundle writes its manifest too.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BundleError, BundleNotFoundError, ContractError, UsageError
from m2a.files import read_regular, set_aside
from m2a.graphs.contract import check_serialised
from m2a.runtime.parts import NetworkShape
from m2a.runtime.sites import LEVELS

SCHEMA = 1
"""Version of the manifest's layout."""

MANIFEST = "manifest.json"
REFERENCE = "reference.npz"
PRECISIONS = ("fp32", "fp16", "int8")
"""What a bundle may hold graphs of; `fp32` is in each."""

MADE_BY = {
    "fp32": "m2a export --ckpt CHECKPOINT",
    "fp16": "m2a export --ckpt CHECKPOINT --fp16",
}
"""Precision → the command that writes a bundle with such graphs; those that are missing here no
command of this version makes."""

GRAPHS = ("mask", "restore")

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

MAX_FILE = 2**30
"""Bytes of any other file; ours have some millions."""

ENVIRONMENT_VARIABLE = "M2A_BUNDLE"
DEFAULT_DIRECTORY = "m2a-bundle"
PACKAGED = Path(__file__).resolve().parent.parent / "bundled"


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
class Reference:
    """The torch masked dense network's own results, which `verify` compares with.

    Attributes:
        image: uint8 [H, W, 3], RGB.
        probability: f32 [H, W], the mask predictor's.
        mask: bool [H, W], the pixels that were restored: not the thresholded probability but a
            pattern that meets every kind of table entry, whatever the predictor says.
        residual: f32 [H, W, 3], zero outside the mask.
        motion: f32 [H'/4, W'/4, 4], (a_x, a_y, b_x, b_y) in pixels, zero at inactive sites; H'
            and W' are H and W rounded up to multiples of 32.
    """

    image: NDArray[np.uint8]
    probability: NDArray[np.float32]
    mask: NDArray[np.bool_]
    residual: NDArray[np.float32]
    motion: NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class Bundle:
    """An opened bundle.

    Attributes:
        path: the directory.
        origin: how it was chosen, for people: `--bundle`, `$M2A_BUNDLE`, …
        manifest: the whole manifest, for what is shown but not interpreted.
        network: the network's shape, from which halos and memory follow.
        threshold: a pixel is active where its probability is at least this.
        dilate: radius in pixels by which the mask is dilated.
        graphs: precision → graph name → file.
        limits: precision → stage → the largest error that `verify` accepts; FP32's are fixed,
            those of a variant come from what it measured when it was made.
        reference_file: the file of the `Reference`.
        dense: the branch-fused dense restorer, which only benchmarks run; None where the export
            was not asked for it.
    """

    path: Path
    origin: str
    manifest: Mapping[str, Any]
    network: NetworkShape
    threshold: float
    dilate: int
    graphs: Mapping[str, Mapping[str, StoredFile]]
    limits: Mapping[str, Mapping[str, float]]
    reference_file: StoredFile
    dense: StoredFile | None

    @property
    def packaged(self) -> bool:
        """Whether it is the one inside the package, which is never changed."""
        return self.path.resolve() == PACKAGED.resolve()

    @property
    def precisions(self) -> tuple[str, ...]:
        """The precisions it holds graphs for."""
        return tuple(self.graphs)

    def graph(self, name: str, *, precision: str) -> bytes:
        """Returns a serialised ONNX graph.

        Args:
            name: `mask` or `restore`.
            precision: `fp32`, `fp16` or `int8`.

        Raises:
            UsageError: the bundle has no graphs of that precision.
            BundleError: the file is missing, not the one that was exported, or breaks the
                contract of the graphs.
        """
        if precision not in self.graphs:
            made_by = MADE_BY.get(precision)
            raise UsageError(
                f"the bundle {self.path} has no {precision} graphs; it has {', '.join(self.graphs)}"
                + (f"; `{made_by}` makes them" if made_by else "")
            )
        return self._read_graph(self.graphs[precision][name], name, precision=precision)

    def dense_graph(self) -> bytes:
        """Returns the serialised dense restorer.

        Raises:
            UsageError: the bundle has none.
            BundleError: as `graph`.
        """
        if self.dense is None:
            raise UsageError(
                f"the bundle {self.path} has no dense network; `m2a export --with-dense` adds it"
            )
        return self._read_graph(self.dense, "dense", precision="fp32")

    def reference(self) -> Reference:
        """Returns the reference results.

        Raises:
            BundleError: the file is missing, damaged or incomplete.
        """
        content = self._read(self.reference_file)
        try:
            with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
                size = sum(entry.file_size for entry in arrays.zip.infolist())
                if size > MAX_FILE:
                    raise ValueError(f"it unpacks to {size} bytes, expected at most {MAX_FILE}")
                reference = Reference(**{n: arrays[n] for n in Reference.__dataclass_fields__})
        except Exception as error:
            # NumPy and zipfile raise almost anything on crafted bytes, among others TokenError,
            # SyntaxError, RuntimeError, LZMAError and MemoryError.
            raise BundleError(f"{self.path / REFERENCE} is not a reference: {error}") from error
        _check_reference(reference, self.path / REFERENCE)
        return reference

    def _read_graph(self, file: StoredFile, name: str, *, precision: str) -> bytes:
        content = self._read(file)
        try:
            check_serialised(content, name, precision=precision)
        except ContractError as error:
            raise BundleError(
                f"{self.path / file.path}: {error}. It is not opened; export again"
            ) from error
        return content

    def _read(self, file: StoredFile) -> bytes:
        path = self.path / file.path
        try:
            # A link may lead anywhere, also one on the way.
            if not path.resolve().is_relative_to(self.path.resolve()):
                raise BundleError(f"{path} is a link that leaves the bundle; copy the file itself")
            content = read_regular(path, limit=MAX_FILE)
        except (OSError, RuntimeError) as error:  # RuntimeError: a loop of links, before 3.13
            why = getattr(error, "strerror", None) or error
            raise BundleError(f"cannot read {path} of the bundle: {why}") from error
        found = hashlib.sha256(content).hexdigest()
        if found != file.sha256:
            raise BundleError(
                f"{path} is not the file that was exported: its SHA-256 is {found[:16]}…, "
                f"the manifest says {file.sha256[:16]}…. Export again, or copy the bundle again"
            )
        return content


def _check_reference(reference: Reference, path: Path) -> None:
    size = reference.mask.shape
    cells = tuple(-(-side // 32) * 8 for side in size)
    expected = {
        "image": (np.uint8, (*size, 3)),
        "probability": (np.float32, size),
        "mask": (np.bool_, size),
        "residual": (np.float32, (*size, 3)),
        "motion": (np.float32, (*cells, 4)),
    }
    for name, (dtype, shape) in expected.items():
        found = getattr(reference, name)
        if len(size) != 2 or found.dtype != dtype or found.shape != shape:
            raise BundleError(
                f"{path}: {name} is {found.dtype}{list(found.shape)}, "
                f"expected {np.dtype(dtype)}{list(shape)}"
            )


def find_bundle(given: Path | None, *, working_directory: bool) -> Bundle:
    """Opens the bundle to use.

    Args:
        given: the caller's own choice, which wins.
        working_directory: whether `./m2a-bundle` is considered: the command line does, the
            library never looks into the working directory.

    Returns:
        The first of: `given`, `$M2A_BUNDLE`, `./m2a-bundle` if it is there, the packaged one.

    Raises:
        BundleError: the chosen directory is not a valid bundle.
    """
    if given is not None:
        return open_bundle(given, origin="given")
    if os.environ.get(ENVIRONMENT_VARIABLE):
        return open_bundle(
            Path(os.environ[ENVIRONMENT_VARIABLE]), origin=f"${ENVIRONMENT_VARIABLE}"
        )
    local = Path(DEFAULT_DIRECTORY)
    if working_directory and local.is_dir():
        return open_bundle(local, origin=f"./{DEFAULT_DIRECTORY}")
    return open_bundle(PACKAGED, origin="packaged with m2a")


def open_bundle(path: Path, *, origin: str = "given") -> Bundle:
    """Reads and validates a manifest. Files are read, and checked, when they are needed.

    Raises:
        BundleError: there is no manifest, or it is not one that this version reads.
    """
    file = path / MANIFEST
    try:
        content = json.loads(read_regular(file, limit=MAX_MANIFEST).decode())
    except OSError as error:
        older = set_aside(path) if not path.exists() else []
        advice = (
            f"An interrupted export left the older one: mv {older[-1]} {path} brings it back"
            if older
            else "`m2a export --ckpt model.pth` writes one"
        )
        kind = BundleError if path.exists() else BundleNotFoundError
        raise kind(
            f"{path} is not a bundle: cannot read its {MANIFEST} ({error.strerror}). {advice}"
        ) from error
    except (ValueError, RecursionError) as error:
        raise BundleError(f"{file} is not JSON: {error}") from error
    return _parse(path, origin, _Fields(file, content))


def _parse(path: Path, origin: str, manifest: _Fields) -> Bundle:
    schema = manifest.get("schema", int)
    if schema != SCHEMA:
        raise BundleError(
            f"{path / MANIFEST} has schema {schema}, this version of m2a reads {SCHEMA}: "
            "export again with this version"
        )
    graphs = manifest.section("graphs")
    precisions = [precision for precision in PRECISIONS if precision in graphs.content]
    if "fp32" not in precisions:
        raise BundleError(f"{path / MANIFEST} names no fp32 graphs")
    threshold = manifest.get("threshold", float, int)
    dilate = manifest.get("dilate", int)
    if not 0 < threshold < 1 or not 0 <= dilate <= MAX_DILATE:
        raise BundleError(
            f"{path / MANIFEST}: threshold {threshold!r:.60} must lie between 0 and 1, "
            f"dilate {dilate!r:.60} between 0 and {MAX_DILATE}"
        )
    return Bundle(
        path=path,
        origin=origin,
        manifest=manifest.content,
        network=_network(manifest.section("model").section("config")),
        threshold=float(threshold),
        dilate=dilate,
        graphs={
            precision: {name: graphs.section(precision).section(name).file() for name in GRAPHS}
            for precision in precisions
        },
        limits={p: _limits(manifest, p) for p in precisions},
        reference_file=manifest.section("reference").file(),
        dense=manifest.section("dense").file() if "dense" in manifest.content else None,
    )


def _network(config: _Fields) -> NetworkShape:
    return NetworkShape(
        width=config.count("width"),
        blocks=config.per_level("blocks"),
        mask_stem_width=config.count("mask_stem_width"),
        mask_blocks=config.per_level("mask_blocks"),
    )


def _limits(manifest: _Fields, precision: str) -> dict[str, float]:
    if precision == "fp32":
        return dict.fromkeys(STAGES, LIMIT_FP32)
    limits = manifest.section("limits").section(precision)
    return {stage: limits.share(stage) for stage in STAGES}


class _Fields:
    """A JSON object of the manifest, whose fields are checked as they are read."""

    def __init__(self, source: Path, content: object, *, name: str = "") -> None:
        if not isinstance(content, dict):
            raise BundleError(f"{source}: {name or 'the manifest'} is not a JSON object")
        self.content: dict[str, Any] = content
        self._source, self._name = source, name

    def get(self, key: str, *types: type) -> Any:  # noqa: ANN401 - one of `types`
        value = self.content.get(key)
        if not isinstance(value, types) or isinstance(value, bool):
            expected = " or ".join(kind.__name__ for kind in types)
            found = "nothing" if key not in self.content else repr(value)[:60]
            raise BundleError(
                f"{self._source}: {self._name}{key} must be {expected}, found {found}"
            )
        return value

    def share(self, key: str) -> float:
        """A number above 0 and at most 1."""
        value = self.get(key, float, int)
        if not 0 < value <= 1:
            raise BundleError(
                f"{self._source}: {self._name}{key} must lie in (0, 1], found {value!r:.60}"
            )
        return float(value)

    def count(self, key: str) -> int:
        """A positive number of channels that fits any real network."""
        value: int = self.get(key, int)
        if not 0 < value <= MAX_CHANNELS:
            raise BundleError(
                f"{self._source}: {self._name}{key} must lie in 1 to {MAX_CHANNELS}, "
                f"found {value!r:.60}"
            )
        return value

    def per_level(self, key: str) -> tuple[int, int, int, int]:
        """Numbers of blocks at the four levels."""
        value = self.get(key, list)
        whole = all(type(number) is int and 0 <= number <= MAX_BLOCKS for number in value)
        if len(value) != LEVELS or not whole:
            raise BundleError(
                f"{self._source}: {self._name}{key} must be {LEVELS} integers of 0 to "
                f"{MAX_BLOCKS}, found {value!r:.60}"
            )
        return (value[0], value[1], value[2], value[3])

    def section(self, key: str) -> _Fields:
        return _Fields(self._source, self.get(key, dict), name=f"{self._name}{key}.")

    def file(self) -> StoredFile:
        stored = StoredFile(path=self.get("path", str), sha256=self.get("sha256", str))
        path = PurePosixPath(stored.path)
        foreign = any(sign in stored.path for sign in "\\:") or not stored.path.isprintable()
        if path.is_absolute() or ".." in path.parts or foreign:
            raise BundleError(f"{self._source}: {self._name}path {stored.path!r} leaves the bundle")
        return stored
