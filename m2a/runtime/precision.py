"""Which of a bundle's precisions is computed where nobody asked for one.

A variant is *verified* where the manifest holds the record of the judgement that it passed. Of the
verified ones the best for the backend is taken:

| backend | order |
|---|---|
| `ort-cpu` | FP32 alone: FP16 is computed in FP32 there, and INT8 changes the picture for a gain that depends on the processor |
| `ort-cuda`, `ort-tensorrt` | FP16, FP32: how ONNX Runtime's GPU providers compute INT8 graphs was never measured |
| `tensorrt` | INT8, FP16, FP32, the first whose engines will run here |
"""  # noqa: E501 - a table

from __future__ import annotations

from dataclasses import dataclass

from m2a.runtime.manifest import BundleDescription

__all__ = ["AUTO", "ORDERS", "ChosenPrecision", "candidates", "choose_precision", "is_verified"]

AUTO = "auto"
"""Asks for the best verified precision."""

ORDERS = {
    "ort-cpu": ("fp32",),
    "ort-cuda": ("fp16", "fp32"),
    "ort-tensorrt": ("fp16", "fp32"),
    "tensorrt": ("int8", "fp16", "fp32"),
}
"""Backend → precisions that may be taken unasked, the best first."""

_ON_CPU = "fp32 unless asked: on a CPU FP16 gains nothing, and INT8 not surely"


@dataclass(frozen=True, kw_only=True)
class ChosenPrecision:
    """What was taken.

    Attributes:
        precision: of the bundle's graphs.
        reason: why, for people.
    """

    precision: str
    reason: str


def is_verified(bundle: BundleDescription, precision: str) -> bool:
    """Whether the manifest has the record of a judgement that the variant passed.

    FP32 is the network itself, which the export compares with torch. FP16 is judged at least on the
    bundle's reference, INT8 by the gate on photos.
    """
    if precision == "fp32":
        return True
    variants = bundle.manifest.get("variants")
    record = variants.get(precision) if isinstance(variants, dict) else None
    if precision not in bundle.graphs or not isinstance(record, dict):
        return False
    return "errors" in record and (precision != "int8" or isinstance(record.get("gate"), dict))


def candidates(bundle: BundleDescription, backend: str) -> tuple[str, ...]:
    """The verified precisions that a backend may take unasked, the best first."""
    return tuple(name for name in ORDERS[backend] if is_verified(bundle, name))


def choose_precision(bundle: BundleDescription, backend: str) -> ChosenPrecision:
    """Chooses for a backend that computes the bundle's graphs.

    Args:
        bundle: with its verified variants.
        backend: a key of `ORDERS`.
    """
    best = candidates(bundle, backend)[0]
    if backend == "ort-cpu":
        return ChosenPrecision(precision=best, reason=_ON_CPU)
    if best == ORDERS[backend][0]:
        reason = f"{best}, the best verified variant for {backend}"
    else:
        reason = f"{best}: the bundle holds no verified {ORDERS[backend][0]} graphs"
    return ChosenPrecision(precision=best, reason=reason)
