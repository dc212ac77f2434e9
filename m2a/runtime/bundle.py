"""Bundles: the exported directory, read and checked (DESIGN section 5).

A bundle is untrusted input: its manifest is validated (`m2a.runtime.manifest`), a file that does
not have the hash of the manifest is refused by name, and a graph that breaks the contract never
reaches ONNX Runtime or TensorRT. The hashes tell damage, not malice: whoever writes a bundle writes
its manifest too.
"""

from __future__ import annotations

import hashlib
import io
import os
import shlex
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from m2a.errors import BundleError, ContractError, UsageError
from m2a.files import read_regular
from m2a.graphs.contract import check_serialised
from m2a.runtime.manifest import (
    DENSE,
    GRAPHS,
    MADE_BY,
    MANIFEST,
    PRECISIONS,
    BundleDescription,
    StoredFile,
    read_manifest,
)

__all__ = [
    "DEFAULT_DIRECTORY",
    "ENVIRONMENT_VARIABLE",
    "GRAPHS",
    "MADE_BY",
    "MANIFEST",
    "MAX_FILE",
    "PACKAGED",
    "PRECISIONS",
    "REFERENCE",
    "Bundle",
    "Reference",
    "find_bundle",
    "open_bundle",
]

REFERENCE = "reference.npz"

MAX_FILE = 2**30
"""Bytes of any other file; ours have some millions."""

ENVIRONMENT_VARIABLE = "M2A_BUNDLE"
DEFAULT_DIRECTORY = "m2a-bundle"
PACKAGED = Path(__file__).resolve().parent.parent / "bundled"


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
class Bundle(BundleDescription):
    """An opened bundle: what its manifest says, and its files.

    Attributes:
        path: the directory.
        origin: how it was chosen, for people: `--bundle`, `$M2A_BUNDLE`, …
    """

    path: Path
    origin: str

    @property
    def packaged(self) -> bool:
        """Whether it is the one inside the package, which is never changed."""
        return self.path.resolve() == PACKAGED.resolve()

    def graph(self, name: str, *, precision: str) -> bytes:
        """Returns a serialised ONNX graph.

        Args:
            name: `mask` or `restore`.
            precision: `fp32`, `fp16` or `int8`.

        Raises:
            UsageError: there is no such precision, or the bundle has no graphs of it.
            BundleError: the file is missing, not the one that was exported, or breaks the
                contract of the graphs.
        """
        if precision not in self.graphs:
            if precision not in PRECISIONS:
                raise UsageError(
                    f"unknown precision {precision!r}; known are {', '.join(PRECISIONS)}"
                )
            raise UsageError(
                f"the bundle {self.path} has no {precision} graphs; it has "
                f"{', '.join(self.graphs)}; `{self._made_by(precision)}` makes them"
            )
        return self._read_graph(self.graphs[precision][name], name, precision=precision)

    def _made_by(self, precision: str) -> str:
        """The command that writes this bundle with such graphs."""
        command = MADE_BY[precision]
        if "CHECKPOINT" not in command:
            if self.packaged:  # it is not changed, but a copy may be
                copied = f"cp -r {shlex.quote(str(self.path))} {DEFAULT_DIRECTORY}"
                return f"{copied} && {command} --bundle {DEFAULT_DIRECTORY}"
            return f"{command} --bundle {shlex.quote(str(self.path))}"
        model = self.manifest.get("model", {})
        checkpoint = model.get("checkpoint")
        name = checkpoint.get("name") if isinstance(checkpoint, dict) else None
        if isinstance(name, str) and name:
            command = command.replace("CHECKPOINT", shlex.quote(name))
        return f"{command} --threshold {self.threshold:g} --dilate {self.dilate}"

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
        return self._read_graph(self.dense, DENSE, precision="fp32")

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
    return Bundle(path=path, origin=origin, **vars(read_manifest(path)))
