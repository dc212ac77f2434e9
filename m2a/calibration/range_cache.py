"""Ranges that were measured before, used again only for the very same question.

A file holds all that the ranges depend on: graphs, tensors, photos in their order, method,
threshold, dilation and versions. One that says anything else is stale, and one whose content has
another SHA-256 than it says is damaged: both are refused, and measured anew.
"""

from __future__ import annotations

import hashlib
import importlib.metadata
import json
import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from m2a._version import __version__
from m2a.calibration.photos import Photo, digest_of
from m2a.calibration.ranges import Ranges, measure_ranges, tensors_of
from m2a.files import atomic_write, read_regular
from m2a.runtime.backends import import_onnxruntime
from m2a.runtime.bundle import GRAPHS, Bundle

MAX_FILE = 2**20
"""Bytes; ours have some thousands."""

_DIGEST = "sha256"


def cached_ranges(
    bundle: Bundle,
    photos: Sequence[Photo],
    *,
    method: str,
    folder: Path | None,
    max_memory: int | None = None,
    progress: Callable[[str], None] = lambda _: None,
) -> Ranges:
    """Ranges as `measure_ranges` gives them, from the cache where it has them.

    Args:
        bundle: holds FP32 graphs.
        photos: that calibrate.
        method: as `measure_ranges`.
        folder: of the cache, which need not exist; None measures.
        max_memory: as `m2a.load`.
        progress: called with each step's name, and with why a cache was refused.

    Raises:
        UsageError, ImageError, BackendError: as `measure_ranges`.
    """
    question = _question(bundle, photos, method)
    file = None if folder is None else folder / f"{_name(question)}.json"
    if file is not None and file.exists():
        stored, fault = _read(file, question)
        if stored is not None:
            progress(f"ranges of {len(photos)} photos from {file}")
            return stored
        progress(f"the ranges in {file} are not used: {fault}")
    ranges = measure_ranges(bundle, photos, method=method, max_memory=max_memory, progress=progress)
    if file is not None:
        measured = {"ranges": ranges.largest, "restored": ranges.restored}
        content = {**question, **measured}
        signed = json.dumps({**content, _DIGEST: _digest(content)}, indent=2) + "\n"
        try:
            file.parent.mkdir(parents=True, exist_ok=True)
            atomic_write(file, signed.encode(), overwrite=True)
        except OSError as error:
            progress(f"the ranges are not kept: {file}: {error.strerror}")
    return ranges


def _question(bundle: Bundle, photos: Sequence[Photo], method: str) -> dict[str, Any]:
    """All that ranges depend on."""
    runtime = import_onnxruntime(extra="cpu")
    return {
        "graphs": {name: bundle.graphs["fp32"][name].sha256 for name in GRAPHS},
        "tensors_sha256": _digest(tensors_of(bundle)),
        "method": method,
        "threshold": bundle.threshold,
        "dilate": bundle.dilate,
        "photos": len(photos),
        "photos_sha256": digest_of(photos),
        "versions": {
            "m2a": __version__,
            "onnx": importlib.metadata.version("onnx"),
            "onnxruntime": str(runtime.__version__),
        },
    }


def _digest(content: Any) -> str:  # noqa: ANN401 - any JSON value
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()


def _name(question: dict[str, Any]) -> str:
    """One file for each model and method: newer ranges take the place of older."""
    return _digest([question["graphs"], question["method"]])[:16]


def _read(file: Path, question: dict[str, Any]) -> tuple[Ranges | None, str]:
    """The ranges, or None and why they are refused."""
    try:
        content = json.loads(read_regular(file, limit=MAX_FILE))
        if "versions" in content and _DIGEST not in content:
            return None, "they are stale, of an earlier m2a, which did not note their SHA-256"
        if content.pop(_DIGEST) != _digest(content):
            return None, "the file is damaged (its content has another SHA-256 than it says)"
        stored = {key: content.get(key) for key in question}
        other = [key for key in question if stored[key] != question[key]]
        if other:
            return None, f"they are stale, of other {', '.join(other)}"
        largest = {
            name: {tensor: float(value) for tensor, value in content["ranges"][name].items()}
            for name in GRAPHS
        }
        restored = tuple(int(count) for count in content["restored"])
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        return None, f"the file is damaged ({type(error).__name__})"
    finite = all(
        math.isfinite(value) and value >= 0 for each in largest.values() for value in each.values()
    )
    if not finite or len(restored) != question["photos"]:
        return None, "the file is damaged (a range is not finite, or a photo's count is missing)"
    return Ranges(largest=largest, restored=restored), ""
